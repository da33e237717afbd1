// Krin's protocol, made by `python -m protocol.typescript` from the structs of protocol/. Do not edit.

/** a decimal number as a string */
export type DecimalString = string;

/** a decimal number as a string, not negative */
export type Quantity = string;

/** microseconds since 1970, UTC */
export type Micros = number;

/** milliseconds since 1970, UTC */
export type Millis = number;

export type Activity =
  | "IDLE"
  | "WORKING"
  | "BLOCKED"
  | "WAITING_HUMAN"
  | "RATE_LIMITED"
  | "PAUSED"
  | "DRAINING";

export type ApprovalReason = "TOOL_CALL" | "INPUT_REQUIRED" | "CONFIRMATION";

export type ApprovalState = "REQUESTED" | "APPROVED" | "DECLINED" | "EXPIRED";

export type BudgetKind = "PROJECT" | "AGENT";

export type ClientKind = "dashboard" | "trader" | "agent";

export type Contingency = "NONE" | "OCO";

export type Decision = "APPROVED" | "DECLINED";

export type ExecType =
  | "SUBMIT"
  | "DENIED"
  | "APPROVAL_REQUESTED"
  | "APPROVAL_GRANTED"
  | "APPROVAL_DECLINED"
  | "PENDING_NEW"
  | "NEW"
  | "TRADE"
  | "TRADE_CORRECT"
  | "TRADE_CANCEL"
  | "TRADE_PREVENTION"
  | "PENDING_CANCEL"
  | "CANCELED"
  | "CANCEL_REJECTED"
  | "PENDING_REPLACE"
  | "REPLACED"
  | "REPLACE_REJECTED"
  | "REJECTED"
  | "EXPIRED"
  | "SUSPENDED"
  | "RESTATED"
  | "TRIGGERED"
  | "ORDER_STATUS";

export type GateKind = "AUTOMATED" | "AGENT_REVIEW" | "HUMAN_REVIEW";

export type GateResult = "PENDING" | "PASS" | "FAIL" | "WAIVED" | "ERROR";

export type Health = "HEALTHY" | "DEGRADED" | "STUCK" | "FAILED";

export type InsightKind = "ANOMALY" | "RISK" | "SUMMARY" | "SUGGESTION" | "ERROR_CAUSE" | "SIGNAL";

export type JsonKind = "string" | "integer" | "number" | "boolean" | "object" | "array" | "null";

export type KnowledgeKind = "best_practice" | "performance" | "security" | "ai";

export type MinQuality = "LIVE" | "DEGRADED" | "DISPUTED";

export type OfferState = "OFFERED" | "ACCEPTED" | "DECLINED" | "EXPIRED" | "WITHDRAWN";

export type OrdStatus =
  | "INITIALIZED"
  | "PENDING_APPROVAL"
  | "DENIED"
  | "PENDING_NEW"
  | "NEW"
  | "PARTIALLY_FILLED"
  | "FILLED"
  | "PENDING_CANCEL"
  | "PENDING_REPLACE"
  | "SUSPENDED"
  | "CANCELED"
  | "REJECTED"
  | "EXPIRED";

export type OrderType = "MARKET" | "LIMIT" | "STOP" | "STOP_LIMIT" | "TRAILING_STOP";

export type ProjectState = "OPEN" | "COMPLETED" | "CANCELED";

export type Promised = "durable" | "recoverable" | "latest";

export type QuestionReason = "INPUT" | "CONFIRMATION" | "TOOL_CALL" | "AUTH";

export type QuoteState = "LIVE" | "DEGRADED" | "DISPUTED" | "STALE" | "HALTED";

export type RecoveryReason =
  | "not_requested"
  | "epoch_changed"
  | "offset_too_old"
  | "history_disabled"
  | "limit_exceeded"
  | "broker_unavailable";

export type SearchMode = "semantic" | "text" | "hybrid";

export type Severity = "INFO" | "WARNING" | "CRITICAL";

export type Side = "BUY" | "SELL";

export type SpecialistPresence = "ONLINE" | "STALE" | "OFFLINE";

export type StpMode = "NONE" | "EXPIRE_TAKER" | "EXPIRE_MAKER" | "EXPIRE_BOTH" | "DECREMENT";

export type StrategyMode = "RUNNING" | "STOPPING" | "STOPPED" | "FAILED";

export type TaskState =
  | "SUBMITTED"
  | "WORKING"
  | "INPUT_REQUIRED"
  | "AUTH_REQUIRED"
  | "COMPLETED"
  | "CANCELED"
  | "FAILED"
  | "REJECTED";

export type TaskSubstate =
  | "QUEUED"
  | "ASSIGNED"
  | "RUNNING"
  | "BLOCKED"
  | "IN_REVIEW"
  | "PAUSED"
  | "INPUT"
  | "CONFIRMATION"
  | "TOOL_CALL";

export type TimeInForce = "GTC" | "IOC" | "FOK" | "GTD" | "DAY";

export type TradingMode = "ACTIVE" | "REDUCING" | "HALTED";

export type TradingScope = "GLOBAL" | "ACCOUNT" | "STRATEGY" | "SYMBOL";

export type Verdict =
  | "delivered"
  | "waiting"
  | "conflated"
  | "filtered"
  | "expired"
  | "dropped"
  | "not_permitted"
  | "not_subscribed"
  | "not_arrived"
  | "unknown";

export type ViolationCode =
  | "UNKNOWN_TYPE"
  | "UNKNOWN_METHOD"
  | "UNKNOWN_CHANNEL"
  | "UNKNOWN_FIELD"
  | "MISSING_PARAM"
  | "WRONG_TYPE"
  | "MAY_BE_ABSENT"
  | "UNKNOWN_VALUE"
  | "NOT_IN_CHANNEL";

/** The `name` of an error of the hub. */
export type ErrorName =
  | "internal"
  | "unauthorized"
  | "unknown_channel"
  | "permission_denied"
  | "unknown_type"
  | "already_subscribed"
  | "limit_exceeded"
  | "bad_request"
  | "not_available"
  | "token_expired"
  | "token_invalid"
  | "rate_limited"
  | "unrecoverable_position"
  | "schema_invalid"
  | "version_conflict"
  | "illegal_transition"
  | "payload_too_large"
  | "idempotency_conflict"
  | "timeout"
  | "overloaded"
  | "mfa_required"
  | "not_found"
  | "proof_invalid";

/** What an account holds of a symbol; `qty` is negative when short. Profit and loss are in the quote asset. */
export interface AccountPosition {
  account: string;
  symbol: string;
  qty: DecimalString;
  avg_px_open?: DecimalString;
  realized_pnl?: DecimalString;
  unrealized_pnl?: DecimalString;
  commission?: DecimalString;
  mark?: DecimalString;
  paper?: boolean;
  ts_event?: Micros;
  ext?: Record<string, any>;
}

/** `lease_ms`: for how long its tasks are its own without a sign of life. */
export interface AgentEntry {
  specialist: Specialist;
  status: SpecialistStatus;
  lease_ms: number;
}

/**
 * A sign of life, which renews the leases of the claims. `limited_until`: its provider lets it go on then.
 * `errors` of `calls` failed lately.
 */
export interface AgentHeartbeat {
  specialist_id: string;
  claims?: Claim[];
  draining?: boolean;
  limited_until?: Micros;
  failure?: string;
  calls?: number;
  errors?: number;
}

export interface AgentList {
  team?: string;
}

/** Of `agents.status`, `agents.leave`. */
export interface AgentName {
  specialist_id: string;
}

/** `version` grows with every change of the registry. */
export interface AgentPage {
  specialists: AgentEntry[];
  version: number;
}

/** Of `agents.pause` and `agents.resume`. */
export interface AgentPause {
  specialist_id: string;
  reason?: string;
}

/** Its owner is the caller, whatever it says. Again: it is changed. */
export interface AgentRegister {
  specialist: Specialist;
}

/** An agent's state on its own channel. */
export interface AgentStatus {
  specialist_id: string;
  presence?: SpecialistPresence;
  activity?: Activity;
  health?: Health;
  because?: string;
  task_id?: string;
  message?: string;
  ts_event?: Micros;
  ext?: Record<string, any>;
}

/** Something a person should look at. */
export interface Alert {
  alert_id: string;
  severity: Severity;
  title: string;
  state?: "FIRING" | "RESOLVED";
  source?: string;
  detail?: string;
  ts_event?: Micros;
  ext?: Record<string, any>;
}

/** A decision somebody has to take. Without a decision in time it counts as declined. */
export interface Approval {
  approval_id: string;
  state: ApprovalState;
  subject: string;
  requested_by?: string;
  resolved_by?: string;
  task_id?: string;
  expires_at?: Micros;
  ts_event?: Micros;
  ext?: Record<string, any>;
}

/** Parameters of `risk.approve` and `risk.decline`: an order that waits for approval. */
export interface ApprovalAnswer {
  account: string;
  client_order_id: string;
  reason?: string | null;
}

/** Who has said what so far. */
export interface ApprovalAnswered {
  user: string;
  decision: Decision;
  answered_at: Micros;
}

/** A request as it stands. It holds no payload: that is for whoever asked. */
export interface ApprovalDetail {
  approval_id: string;
  state: ApprovalState;
  subject: string;
  reason?: ApprovalReason;
  approver_roles: string[];
  quorum?: number;
  people_only?: boolean;
  response_schema?: Record<string, any>;
  project_id?: string;
  task_id?: string;
  requested_by: string;
  requested_at: Micros;
  expires_at: Micros;
  answers?: ApprovalAnswered[];
  ended_at?: Micros;
}

/** Parameters of `approvals.get`. */
export interface ApprovalGet {
  approval_id: string;
}

/** Parameters of `approvals.list`. */
export interface ApprovalList {
  state?: ApprovalState;
}

/**
 * Parameters of `approvals.request`. `quorum` different people of `approver_roles` have to agree to one payload.
 *
 * Without `approval_id` the hub gives one. `response_schema` is what an approving payload must fit; None: there is
 * none to give. `gate_id`: once approved, this gate of the task is waived. `people_only`: what signed in as a program
 * has no say.
 */
export interface ApprovalRequest {
  approval_id?: string;
  subject: string;
  reason?: ApprovalReason;
  approver_roles: string[];
  quorum?: number;
  people_only?: boolean;
  response_schema?: Record<string, any>;
  project_id?: string;
  task_id?: string;
  gate_id?: string;
  expires_at: Micros;
}

/** Parameters of `approvals.resolve`. */
export interface ApprovalResolve {
  approval_id: string;
  decision: Decision;
  payload?: any;
}

/** Result of `approvals.request`, `resolve` and `get`. `payload`: what was agreed on, of `get` by whoever asked. */
export interface ApprovalResult {
  approval: ApprovalDetail;
  payload?: any;
}

/** Result of `approvals.list`, the newest first. */
export interface ApprovalsFound {
  approvals: ApprovalDetail[];
}

/** `runner_up` and `override_cost`: who would have been next, and how much the objective grows with them. */
export interface Assignment {
  task_id: string;
  specialist_id: string;
  start_h: number;
  finish_h: number;
  cost_usd: string;
  score: number;
  reasons?: string[];
  runner_up?: string;
  override_cost?: number;
}

export interface AtRisk {
  task_id: string;
  slack_h: number;
  reason: string;
}

/**
 * A signed tree head: the first `size` rows have this Merkle `root`, and the last of them this `hash`.
 *
 * `signature` is Ed25519 over `signed_bytes`, by the node's audit key; `key_id` is the SHA-256 of its 32 bytes.
 */
export interface AuditHead {
  node: string;
  size: number;
  root: string;
  hash: string;
  time: Millis;
  key_id: string;
  signature: string;
}

/** What an account holds of an asset. `locked` is reserved by open orders. */
export interface Balance {
  account: string;
  asset: string;
  free: DecimalString;
  locked?: DecimalString;
  paper?: boolean;
  ts_event?: Micros;
  ext?: Record<string, any>;
}

/** Open, high, low, close over the half-open interval [start, end), keyed by `start`. */
export interface Bar {
  symbol: string;
  interval: "1s" | "1m" | "5m" | "15m" | "1h" | "4h" | "1d";
  start: Micros;
  end: Micros;
  open: DecimalString;
  high: DecimalString;
  low: DecimalString;
  close: DecimalString;
  volume: Quantity;
  quote_volume?: Quantity;
  vwap?: DecimalString;
  taker_buy_volume?: Quantity;
  trade_count?: number;
  closed?: boolean;
  revision?: number;
  source?: string;
  ext?: Record<string, any>;
}

/** What the plan is compared with: the most important task first, to whoever takes it at the lowest price then. */
export interface Baseline {
  objective: number;
  makespan_h: number;
  utilisation: Record<string, number>;
  unassigned: number;
}

/** What a task waits for: another task, an agent, a person, a resource. */
export interface Blocker {
  kind: string;
  ref: string;
  since?: Micros;
}

/** Price levels, best first. In an `update` a size of "0" deletes the level. */
export interface Book {
  symbol: string;
  kind?: "snapshot" | "update";
  depth: number;
  bids: ([Quantity, Quantity])[];
  asks: ([Quantity, Quantity])[];
  source?: string;
  first_seq?: number;
  last_seq?: number;
  checksum?: number;
  ts_event?: Micros;
  ts_recv?: Micros;
  ts_pub?: Micros;
  ext?: Record<string, any>;
}

/** Result of `budgets.reserve` and `budgets.settle`: the budgets that it touches and that have a limit. */
export interface BudgetAnswer {
  budgets: BudgetUse[];
}

/** Parameters of `budgets.list`. */
export interface BudgetList {
  project_id: string;
}

/** Parameters of `budgets.reserve`: what a call will use at most. The same id again is the same reservation. */
export interface BudgetReserve {
  project_id: string;
  specialist_id: string;
  reservation_id: string;
  tokens?: number;
  usd?: string;
}

/** Parameters of `budgets.settle`: what it did use. */
export interface BudgetSettle {
  project_id: string;
  specialist_id: string;
  reservation_id: string;
  tokens?: number;
  usd?: string;
}

/** What is `reserved` is part of what is used: calls that are not over, which count as spent until they are. */
export interface BudgetStanding {
  kind: BudgetKind;
  name: string;
  day?: number;
  tokens: number;
  usd: string;
  limit_tokens?: number;
  limit_usd?: string;
  percent: number;
  ts_event?: Micros;
  reserved_tokens?: number;
  reserved_usd?: string;
}

/**
 * How a budget stands; the data of BUDGET_ALERT. An agent's is of one day, counted from 1970. `percent` is of the
 * limit that is nearest to its end.
 */
export interface BudgetUse {
  kind: BudgetKind;
  name: string;
  day?: number;
  tokens: number;
  usd: string;
  limit_tokens?: number;
  limit_usd?: string;
  percent: number;
  ts_event?: Micros;
}

/** Result of `budgets.list`: those of the project and of its specialists today, where they have a limit. */
export interface BudgetsFound {
  budgets: BudgetStanding[];
}

/** What is sent with a call, and read of its result. `params` are all that are sent; `always`: each time. */
export interface CallExpectation {
  method: string;
  params?: Record<string, FieldExpectation>;
  result?: Record<string, FieldExpectation>;
}

/** Parameters of `orders.cancel_all_after`, the dead man's switch. It fires once; 0 disarms it. */
export interface CancelAllAfter {
  account: string;
  timeout_ms: number;
}

/** Parameters of `orders.cancel_on_disconnect`: of the orders placed over this connection from now on. */
export interface CancelOnDisconnect {
  account: string;
  enabled?: boolean;
}

/** Result of `orders.cancel_all`: how many orders are being canceled. */
export interface Canceled {
  account: string;
  count: number;
}

/** The types of messages that are expected in a channel, or published there. */
export interface ChannelExpectation {
  channel: string;
  types?: string[];
}

/** A task that a specialist has, with the number that its claim was given. */
export interface Claim {
  project_id: string;
  task_id: string;
  fence: number;
}

/** Parameters of `hub.clients`. */
export interface ClientList {
  limit?: number;
}

/**
 * The clients of the node that answers, the slowest first, of `connections` in all. `outbox_bytes` may wait for
 * each before it is cut off.
 */
export interface ClientsFound {
  node: string;
  connections: number;
  outbox_bytes: number;
  clients: ConnectedClient[];
}

/** 0 to 100, and what it is made of. */
export interface Complexity {
  score: number;
  size: number;
  dependency_depth: number;
  critical_path_h: number;
  fan_in: number;
  skill_breadth: number;
  uncertainty: number;
  risk_flags?: string[];
  drivers?: Record<string, number>;
  method?: "rules" | "llm+rules";
}

/** Result of `connect`. A subscription that failed holds {error} instead of a SubscribeResult. */
export interface Connected {
  client: string;
  session: string;
  user: string;
  node: string;
  version: string;
  expires_at?: number;
  ping_interval_ms: number;
  limits: Limits;
  server_time: number;
  subscriptions: Record<string, any>;
}

/**
 * `stalled`: its socket takes no more at the moment. `waiting_bytes` wait for it, and `conflated` values have been
 * merged for it since it came; `rtt_ms` None: not measured yet.
 */
export interface ConnectedClient {
  client: string;
  user: string;
  kind: ClientKind | null;
  name: string | null;
  age_s: number;
  subscriptions: number;
  stalled: boolean;
  waiting_bytes: number;
  conflated: number;
  rtt_ms: number | null;
}

/** Parameters of `contracts.announce`. `contract` names what changes, such as a type, a method or a table. */
export interface ContractAnnounce {
  project_id: string;
  contract: string;
  version: string;
  change: string;
  effective_at: Micros;
}

/** The data of SCHEMA_CHANGE_ANNOUNCED, and of CONTRACT_CHANGED once it is in force. */
export interface ContractChange {
  contract: string;
  version: string;
  change: string;
  effective_at: Micros;
  announced_by?: string;
  ts_event?: Micros;
}

/** Parameters of `contracts.validate`: everything that a front end relies on. */
export interface ContractExpectation {
  consumer: string;
  version?: string;
  messages?: MessageExpectation[];
  calls?: CallExpectation[];
  channels?: ChannelExpectation[];
}

/**
 * Result of `contracts.validate`. `valid`: no violation. `checked` counts the fields, types, methods and channels
 * that were compared; `unchecked` are the places about which the hub promises nothing, such as free-form objects.
 */
export interface ContractReport {
  consumer: string;
  valid: boolean;
  violations?: Violation[];
  unchecked?: string[];
  checked?: number;
}

/** `type`: the kind of knowledge, or the type of the message that an insight came with. */
export interface DigestEntry {
  kind: "knowledge" | "insight";
  type: string;
  channel: string;
  title: string;
  at: Micros;
}

export interface ErrorBody {
  code: number;
  name: string;
  message: string;
  temporary: boolean;
  retry_after_ms?: number;
  path?: string;
}

/**
 * Errors of one type from one place. `frames`: the innermost first, as module:function. The insight about it, if a
 * model was asked, has the fingerprint as its id.
 */
export interface ErrorGroup {
  fingerprint: string;
  type: string;
  frames: string[];
  occurrences: number;
  first_at: Micros;
  last_at: Micros;
}

/** Parameters of `insights.errors`. */
export interface ErrorList {
  limit?: number;
}

/** Result of `insights.errors`, the latest first. */
export interface ErrorsFound {
  errors: ErrorGroup[];
}

/** Where a verdict comes from: `ref` is a run, a report, a commit; `value` what was measured there. */
export interface Evidence {
  kind: string;
  ref: string;
  metric?: string;
  value?: number;
}

/** A source left out of a consolidated price, and why. */
export interface Exclusion {
  source: string;
  reason: string;
}

/** One event in an order's life. `exec_type` is what happened, `ord_status` is the state after it. */
export interface ExecutionReport {
  account: string;
  client_order_id: string;
  symbol: string;
  side: Side;
  exec_type: ExecType;
  ord_status: OrdStatus;
  order_type?: OrderType;
  order_id?: string;
  orig_client_order_id?: string;
  venue?: string;
  venue_order_id?: string;
  exec_id?: string;
  prev_status?: OrdStatus;
  tif?: TimeInForce;
  price?: DecimalString;
  stop_price?: DecimalString;
  order_qty?: Quantity;
  cum_qty?: Quantity;
  leaves_qty?: Quantity;
  avg_px?: DecimalString;
  last_qty?: Quantity;
  last_px?: DecimalString;
  trade_id?: string;
  liquidity?: "MAKER" | "TAKER";
  commission?: DecimalString;
  commission_asset?: string;
  working?: boolean;
  reject_reason?: string;
  text?: string;
  strategy_id?: string;
  position_qty?: DecimalString;
  paper?: boolean;
  ts_event?: Micros;
  ts_recv?: Micros;
  ts_pub?: Micros;
  causation_id?: string;
  ext?: Record<string, any>;
}

export interface ExplainResult {
  channel: string;
  offset: number;
  connections: Explained[];
}

/** One connection's verdict and, for people, why. `by`: the offset of the value that took its place. */
export interface Explained {
  client: string;
  verdict: Verdict;
  reason: string;
  by?: number;
  rtt_ms?: number;
}

/**
 * What is done with a field. `type`: each JSON type that may be read there, or that is sent.
 *
 * `always`: it cannot be read without it. `values`: all that are understood, or all that are sent.
 */
export interface FieldExpectation {
  type?: JsonKind | JsonKind[];
  always?: boolean;
  values?: string[];
}

/** Which messages of a channel a subscriber wants. Both lists must let a message pass; None lets all pass. */
export interface Filter {
  keys?: string[];
  types?: string[];
}

/** What a result must pass. `metric op threshold` decides an automated one; ERROR counts as not passed. */
export interface Gate {
  gate_id: string;
  name?: string;
  kind?: GateKind;
  required?: boolean;
  metric?: string;
  op?: "<" | "<=" | "==" | ">=" | ">";
  threshold?: number;
}

/** Parameters of `tasks.gate`. Without `result` an automated gate is measured by the evidence. */
export interface GateJudge {
  project_id: string;
  task_id: string;
  gate_id: string;
  result?: "PASS" | "FAIL" | "WAIVED";
  evidence?: Evidence[];
  because?: string;
}

/** What was found at one gate of a task's result. `review` counts the results that were handed in. */
export interface GateVerdict {
  task_id: string;
  project_id?: string;
  gate_id: string;
  review: number;
  result: GateResult;
  by?: string;
  because?: string;
  evidence?: Evidence[];
  ts_event?: Micros;
}

/** Parameters of `risk.halt`, the kill switch. `cancel`: also cancel the open orders of the scope. */
export interface Halt {
  scope: TradingScope;
  name?: string;
  mode?: TradingMode;
  reason: string;
  cancel?: boolean;
}

/** A task offered by one specialist to another, and what became of the offer. */
export interface HandOff {
  handoff_id?: string;
  task_id: string;
  from_specialist: string;
  to_specialist: string;
  state: OfferState;
  message?: string;
  expires_at?: Micros;
  ts_event?: Micros;
  ext?: Record<string, any>;
}

/** Parameters of `handoffs.accept`, `decline` and `withdraw`. */
export interface HandOffAnswer {
  handoff_id: string;
  specialist_id: string;
  reason?: string;
}

/** An offer as it stands. `by`: who ended it; absent: nobody has, or time did. */
export interface HandOffDetail {
  handoff_id: string;
  project_id: string;
  task_id: string;
  from_specialist: string;
  to_specialist?: string;
  to_skill?: string;
  state: OfferState;
  reason?: string;
  summary?: string;
  artifacts?: Record<string, any>[];
  offered_at: Micros;
  expires_at: Micros;
  by?: string;
  because?: string;
  ended_at?: Micros;
}

/** Parameters of `handoffs.list`: those that may still be answered, of a project, or from or to a specialist. */
export interface HandOffList {
  project_id?: string;
  specialist_id?: string;
}

/**
 * Parameters of `handoffs.offer`. To one specialist, or to whoever has `to_skill` and accepts first. Without
 * `handoff_id` the hub gives one.
 */
export interface HandOffOffer {
  handoff_id?: string;
  project_id: string;
  task_id: string;
  specialist_id: string;
  fence: number;
  to_specialist?: string;
  to_skill?: string;
  reason?: string;
  summary?: string;
  artifacts?: Record<string, any>[];
  expires_at: Micros;
}

/** Result of `handoffs.offer`, `decline`, `withdraw` and `accept`; the latter brings the task and its claim. */
export interface HandOffResult {
  handoff: HandOffDetail;
  task?: TaskUpdate;
  spec?: TaskSpec;
  fence?: number;
  lease_until?: Micros;
}

/** Result of `handoffs.list`, the oldest first. */
export interface HandOffsFound {
  handoffs: HandOffDetail[];
}

/** `lost`: claims that it has no more. */
export interface HeartbeatAnswer {
  status: SpecialistStatus;
  lost?: LostClaim[];
}

/** `epoch` and `offset` are the channel's newest position; `more` says that the limit cut the answer short. */
export interface HistoryResult {
  channel: string;
  epoch: string;
  offset: number;
  messages: Publication[];
  more: boolean;
}

/**
 * A statement with its evidence: every number it names is in what it was made from.
 *
 * `source`: `rules:NAME`, `stat:NAME` or `llm:MODEL`; `cost_usd`, `latency_ms` and `prompt_version` are of a model.
 * `degraded`: a model should have said it, and rules or statistics did.
 */
export interface Insight {
  insight_id: string;
  kind: InsightKind;
  subject: string;
  statement: string;
  evidence: Observation[];
  confidence: number;
  severity?: Severity;
  action?: string;
  source: string;
  generated_at: Micros;
  expires_at?: Micros;
  cost_usd?: string;
  latency_ms?: number;
  prompt_version?: string;
  degraded?: boolean;
}

/** Parameters of `insights.feedback`. `outcome`: how true it has come, 0 to 1. */
export interface InsightFeedback {
  insight_id: string;
  verdict: Verdict;
  outcome?: number;
}

/** Parameters of `insights.list`. `before`: the `generated_at` of the last one of the page before. */
export interface InsightList {
  subject?: string;
  kind?: InsightKind;
  before?: Micros;
  limit?: number;
}

/** Parameters of `insights.retract`. */
export interface InsightRetract {
  insight_id: string;
  reason: string;
}

/** An insight that was promised or published does not hold. */
export interface InsightRetracted {
  insight_id: string;
  subject: string;
  reason: string;
}

/** How the insights of one source were taken. `outcome`: the mean of those that were told, None without any. */
export interface InsightScore {
  source: string;
  made: number;
  retracted: number;
  accepted: number;
  ignored: number;
  wrong: number;
  outcome: number | null;
}

/** Result of `insights.scores`. */
export interface InsightScored {
  scores: InsightScore[];
}

/** Parameters of `insights.scores`. */
export interface InsightScores {
  subject: string;
}

/** Result of `insights.list`, the newest first. */
export interface InsightsFound {
  insights: Insight[];
}

/** How a symbol trades: the steps and bounds of prices and quantities. */
export interface Instrument {
  symbol: string;
  base: string;
  quote: string;
  tick_size: Quantity;
  lot_size: Quantity;
  min_qty?: Quantity;
  max_qty?: Quantity;
  min_notional?: Quantity;
  max_notional?: Quantity;
  status?: "TRADING" | "HALT" | "BREAK" | "CANCEL_ONLY" | "POST_ONLY" | "LIMIT_ONLY" | "AUCTION" | "CLOSED";
  reason?: string;
  ts_event?: Micros;
  ext?: Record<string, any>;
}

/** A question to a person. Not answered by `expires_at`, the task fails or waits on, escalated. */
export interface Interrupt {
  interrupt_id: string;
  reason: QuestionReason;
  expires_at?: number;
  on_expiry?: "FAIL" | "ESCALATE";
}

/**
 * Parameters of `knowledge.add`. Without `project_id` it is for everybody. `finding`: what a security audit found
 * that this explains or mends.
 */
export interface KnowledgeAdd {
  kind: KnowledgeKind;
  title: string;
  body: string;
  tags?: string[];
  project_id?: string;
  finding?: string;
}

/** Result of `knowledge.add` and `knowledge.get`. */
export interface KnowledgeAnswer {
  entry: KnowledgeEntry;
}

/** What a team and everybody learned in an ISO week. The counts are of all there is, `entries` are the newest. */
export interface KnowledgeDigest {
  week: string;
  since: Micros;
  until: Micros;
  knowledge: number;
  insights: number;
  entries: DigestEntry[];
}

export interface KnowledgeEntry {
  entry_id: string;
  kind: KnowledgeKind;
  title: string;
  body: string;
  tags?: string[];
  project_id?: string;
  finding?: string;
  author: string;
  added_at: Micros;
}

/** Result of `knowledge.search`, the best first. */
export interface KnowledgeFound {
  entries: KnowledgeEntry[];
}

/** Parameters of `knowledge.get`. */
export interface KnowledgeGet {
  entry_id: string;
}

/** Parameters of `knowledge.search`. Without `query` the newest come first. `project_id`: of that project only. */
export interface KnowledgeSearch {
  query?: string;
  kind?: KnowledgeKind;
  project_id?: string;
  limit?: number;
}

/** What one scope says. `name` is the account, strategy or symbol; GLOBAL has `*`. */
export interface LimitLayer {
  scope: TradingScope;
  name?: string;
  limits: RiskLimits;
}

/** What a client must stay within; each number is enforced. 0, or absent: not limited in that. */
export interface Limits {
  max_message_bytes: number;
  max_subscriptions: number;
  max_commands_in_flight: number;
  max_publishes_per_s: number;
  outbox_bytes: number;
  max_bytes_per_s?: number;
  max_subscribes_per_s?: number;
  max_reads_per_s?: number;
}

/** Result of `risk.limits` and `risk.set_limits`: what each scope says, wide to narrow, and what comes of it. */
export interface LimitsInForce {
  version: number;
  layers: LimitLayer[];
  limits: RiskLimits;
}

/** Parameters of `risk.limits`. */
export interface LimitsOf {
  account: string;
  strategy_id?: string | null;
  symbol?: string | null;
}

export interface LostClaim {
  project_id: string;
  task_id: string;
}

/** The market data that a decision was made on. */
export interface MarketReference {
  symbol: string;
  bid?: DecimalString;
  ask?: DecimalString;
  mid?: DecimalString;
  state?: QuoteState;
  age_us?: number;
  seq?: number;
}

/** One connection present in a channel. */
export interface Member {
  client: string;
  user: string;
  kind?: string;
  name?: string;
}

/** What is read of messages of a type: paths begin at the publication (`data.state`, `timestamp`). */
export interface MessageExpectation {
  type: string;
  fields?: Record<string, FieldExpectation>;
}

/** Whose task becomes whose. None: nobody's. */
export interface Move {
  task_id: string;
  from_specialist?: string;
  to_specialist?: string;
  why: string;
}

/** What a team should do now: the `coordination` of every SPECIALIST_UPDATE. Lists hold at most 50 entries. */
export interface NextSteps {
  ready?: string[];
  blocked?: Record<string, string[]>;
  waiting_human?: string[];
  at_risk?: AtRisk[];
  critical_path?: string[];
  critical_path_h?: number;
  critical_path_delta_h?: number;
  stuck?: string[];
  suggestions?: Suggestion[];
  computed_in_us?: number;
}

/** Something the client should know and need not answer. */
export interface Notice {
  type: "notice";
  code: "conflating" | "outbox_high" | "token_expiring" | "latency_slo" | "degraded" | "restored";
  channel?: string;
  detail: string;
}

/** `ref`: where `value` is. In an answer's `ai_insights` a JSONPath into `data`, else the offset in the subject. */
export interface Observation {
  ref: string;
  value: number | number | string;
}

/** Result of `risk.approve` and `risk.decline`. `approved_by` are those who have, `required` how many must. */
export interface OrderApproval {
  account: string;
  client_order_id: string;
  approved_by: string[];
  required: number;
  declined?: boolean;
}

/** Parameters of `orders.cancel` and `orders.status`. */
export interface OrderCancel {
  account: string;
  client_order_id: string;
}

/** Parameters of `orders.cancel_all`: every open order of the account that fits. */
export interface OrderCancelAll {
  account: string;
  symbol?: string;
  side?: Side;
  strategy_id?: string;
}

/** An order's state in short, for whoever watches orders without acting on them. */
export interface OrderEvent {
  account: string;
  client_order_id: string;
  symbol?: string;
  side?: Side;
  ord_status?: OrdStatus;
  exec_type?: ExecType;
  order_id?: string;
  order_type?: OrderType;
  tif?: TimeInForce;
  price?: DecimalString;
  order_qty?: Quantity;
  cum_qty?: Quantity;
  leaves_qty?: Quantity;
  avg_px?: DecimalString;
  text?: string;
  paper?: boolean;
  ts_event?: Micros;
  ext?: Record<string, any>;
}

/**
 * Parameters of `orders.list`: an account's orders, the newest first. `open`: only those that may still trade.
 *
 * `before` is the `next` of the page before.
 */
export interface OrderList {
  account: string;
  open?: boolean;
  symbol?: string;
  limit?: number;
  before?: number;
}

/** Result of `orders.list`. `next` is there if there may be more. */
export interface OrderPage {
  orders: ExecutionReport[];
  next?: number;
}

/** Parameters of `orders.replace`. The order keeps its `order_id`; what is not named stays. `qty` is the whole. */
export interface OrderReplace {
  account: string;
  orig_client_order_id: string;
  client_order_id: string;
  qty?: Quantity;
  price?: DecimalString;
  stop_price?: DecimalString;
  trail?: Quantity;
}

/**
 * Parameters of `orders.submit` and `orders.validate`. `(account, client_order_id)` names an order for ever.
 *
 * `price` belongs to LIMIT and STOP_LIMIT, `stop_price` to STOP and STOP_LIMIT, `trail` (a distance in price) to
 * TRAILING_STOP, `expire_at` to GTD. Orders of one account with the same `list_id` and contingency OCO cancel one
 * another: the first that trades or ends leaves no other working.
 */
export interface OrderSubmit {
  account: string;
  client_order_id: string;
  symbol: string;
  side: Side;
  order_type: OrderType;
  qty: Quantity;
  price?: DecimalString;
  stop_price?: DecimalString;
  trail?: Quantity;
  tif?: TimeInForce;
  expire_at?: Micros;
  post_only?: boolean;
  reduce_only?: boolean;
  stp_mode?: StpMode;
  strategy_id?: string;
  tag?: string;
  list_id?: string;
  contingency?: Contingency;
}

/** What if? `without` are specialists that are gone; what is left out stays as it is. */
export interface PlanChange {
  without?: string[];
  deadline?: Micros;
  budget_usd?: string;
  pinned?: Record<string, string>;
}

/** `plan` is what would be committed. Differences are new minus old: above zero is later, dearer, worse. */
export interface PlanDifference {
  plan: TeamPlan;
  moves?: Move[];
  makespan_h?: number;
  cost_usd?: DecimalString;
  objective?: number;
  unassigned?: number;
}

/** A plan was proposed, or it holds from now on. `assigned` and `unassigned` are numbers of tasks. */
export interface PlanNotice {
  plan_id: string;
  project_id: string;
  assigned: number;
  unassigned?: number;
  makespan_h: number;
  deadline_feasible?: boolean;
  budget_used_usd?: string;
  supersedes?: string;
  by?: string;
  ts_event?: Micros;
}

/**
 * (epoch, offset): the epoch names one history of a channel, the offset counts its messages from 1.
 *
 * Offset 0 is the position before the first message.
 */
export interface Position {
  epoch: string;
  offset: number;
}

export interface PresenceResult {
  channel: string;
  members: Member[];
}

/** The newest price of a symbol. `price` is for sources that quote one number instead of bid and ask. */
export interface PriceTick {
  symbol: string;
  source?: string;
  bid?: DecimalString;
  bid_size?: Quantity;
  ask?: DecimalString;
  ask_size?: Quantity;
  mid?: DecimalString;
  price?: DecimalString;
  size?: Quantity;
  seq?: number;
  state?: QuoteState;
  quality?: Quality;
  ts_event?: Micros;
  ts_recv?: Micros;
  ts_pub?: Micros;
  ext?: Record<string, any>;
}

/** `project` without its tasks, which are counted by state. `ended_by`: a user. */
export interface ProjectAnswer {
  project: ProjectConfig;
  tasks: Record<string, number>;
  state: ProjectState;
  ended_at?: Micros;
  ended_by?: string;
  reason?: string;
}

/** Its specialists are those of `team`; none: of the team that is called as the project is. */
export interface ProjectConfig {
  project_id: string;
  team?: string;
  title?: string;
  start?: Micros;
  deadline?: Micros;
  budget_usd?: string;
  budget_tokens?: number;
  tasks?: TaskSpec[];
  gates?: Gate[];
  weights?: Weights;
  ext?: Record<string, any>;
}

export interface ProjectCreate {
  project: ProjectConfig;
}

export interface ProjectCreated {
  project_id: string;
  tasks: number;
}

/** Of `projects.close`, which wants all tasks to have ended, and `projects.cancel`, which cancels the others. */
export interface ProjectEnd {
  project_id: string;
  reason?: string;
}

/** A project is over: nothing happens to it any more. `tasks` are numbers by state. */
export interface ProjectEnded {
  project_id: string;
  state: "COMPLETED" | "CANCELED";
  tasks?: Record<string, number>;
  by?: string;
  reason?: string;
  ts_event?: Micros;
}

/**
 * Those that are OPEN, all of them. Those that have ended in pages, the last to end first: `before` is the
 * project_id that the page before ended with.
 */
export interface ProjectList {
  state?: ProjectState;
  limit?: number;
  before?: string;
}

export interface ProjectName {
  project_id: string;
}

/** `next`: there are more, before this one. */
export interface ProjectPage {
  projects: ProjectAnswer[];
  next?: string;
}

/**
 * A message of a channel as a client reads it. `type` is the domain type, so this struct is not tagged.
 *
 * `epoch` is present when it changed; `skipped` counts the values of this key that were merged into this one.
 */
export interface Publication<Type extends string = string, Data = any> {
  type: Type;
  channel: string;
  offset: number;
  timestamp: Millis;
  data: Data;
  epoch?: string;
  key?: string;
  publisher?: string;
  skipped?: number;
  trace?: string;
  coordination?: Record<string, any>;
}

/** Result of `publish`. `duplicate`: this idempotency key was published before; the position is the original's. */
export interface Published {
  channel: string;
  epoch: string;
  offset: number;
  timestamp: number;
  duplicate?: boolean;
  timing?: Timing;
}

/** How far a consolidated price can be trusted. */
export interface Quality {
  sources_ok: number;
  sources_total: number;
  bid_source?: string;
  ask_source?: string;
  spread_bps?: DecimalString;
  dispersion_bps?: DecimalString;
  age_us?: number;
  crossed?: boolean;
  excluded?: Exclusion[];
}

export interface QuestionAsked {
  task: TaskUpdate;
  approval_id: string;
}

/** Parameters of `risk.resume`. */
export interface Resume {
  scope: TradingScope;
  name?: string;
  reason?: string | null;
}

/** What the risk checks said of one command. The first fault decides; `orders.validate` lists them all. */
export interface RiskDecision {
  account: string;
  client_order_id: string;
  symbol: string;
  result: "APPROVED" | "REFUSED" | "NEEDS_APPROVAL";
  faults?: RiskFault[];
  market?: MarketReference;
  strategy_id?: string;
  config_version?: number;
  latency_us?: number;
  ts_event?: Micros;
  ext?: Record<string, any>;
}

/** One check that an order does not pass. `limit` and `observed` are as the check names them. */
export interface RiskFault {
  check: string;
  reason: string;
  limit?: string;
  observed?: string;
  text?: string;
}

/**
 * What one scope says of the limits. A field that is absent leaves the word to the wider scope; null: no limit.
 *
 * allow_symbols, deny_symbols: what may be traded. max_qty, min_notional, max_notional: of one order, the notional in
 * the quote asset. collar_bps: how far a price may reach across the reference (a buy above it, a sell below);
 * passive_collar_bps: how far away on its own side. max_ref_age_ms, min_quality: what the reference must be.
 * submit_rate, modify_rate: commands of an account in rate_window_ms. duplicate_count: so many orders of one account
 * with the same symbol, side, quantity and price within duplicate_window_ms are an error, and the last is refused.
 * max_open_orders_symbol, max_open_orders: of an account. max_position: of a symbol, long or short, if every open
 * order fills. max_gross, max_net: of an account, in the order's quote asset, if every open order fills. allow_short:
 * whether more may be sold than is held. max_daily_loss: in the quote asset, since midnight UTC; then the account may
 * only reduce. allow_self_trade: whether an order with `stp_mode` NONE may meet the account's own. max_executions: so
 * many trades of a strategy within execution_window_ms halt it until a named person resumes it. approver_role: who may
 * let an order above max_qty, max_notional, the collar, max_position, max_gross or max_net pass; null: nobody.
 * approvals_required: how many of them, the submitter not among them. approval_ttl_ms: how long they have.
 */
export interface RiskLimits {
  allow_symbols?: string[] | null;
  deny_symbols?: string[];
  max_qty?: Quantity | null;
  min_notional?: Quantity | null;
  max_notional?: Quantity | null;
  collar_bps?: number | null;
  passive_collar_bps?: number | null;
  max_ref_age_ms?: number | null;
  min_quality?: QuoteState;
  submit_rate?: number | null;
  modify_rate?: number | null;
  rate_window_ms?: number;
  duplicate_count?: number | null;
  duplicate_window_ms?: number;
  max_open_orders_symbol?: number | null;
  max_open_orders?: number | null;
  max_position?: Quantity | null;
  max_gross?: Quantity | null;
  max_net?: Quantity | null;
  allow_short?: boolean;
  max_daily_loss?: Quantity | null;
  allow_self_trade?: boolean;
  max_executions?: number | null;
  execution_window_ms?: number;
  approver_role?: string | null;
  approvals_required?: number;
  approval_ttl_ms?: number;
}

/** Result of `risk.state`: every scope that is not ACTIVE, and the version of the limits. */
export interface RiskState {
  version: number;
  states: TradingState[];
}

/**
 * `offset` and `epoch` are a message's place in its channel: `history` and `recover` go on from there.
 *
 * `score` compares the hits of one answer and nothing else.
 */
export interface SearchHit {
  kind: "message" | "knowledge" | "insight" | "session";
  channel: string;
  timestamp: number;
  type: string;
  snippet: string;
  score: number;
  offset?: number;
  epoch?: string;
  publisher?: string;
}

/**
 * The best hits first. `embedding_kind` says what the vectors can do: a lexical one knows no synonyms.
 *
 * `degraded` says why `mode` is not the one that was asked for.
 */
export interface SearchResult {
  hits: SearchHit[];
  mode: SearchMode;
  embedding_model?: string;
  embedding_kind?: "semantic" | "lexical";
  degraded?: string;
}

/** What security events the node that reports has seen since the report before, by name. */
export interface SecurityReport {
  node: string;
  since: Micros;
  allowed?: Record<string, number>;
  denied?: Record<string, number>;
  threats?: Record<string, number>;
  ts_event?: Micros;
}

/**
 * Parameters of `risk.set_limits`: from now on the scope says this and nothing else.
 *
 * `expected_version`: only if nothing has changed since that version was read.
 */
export interface SetLimits {
  scope: TradingScope;
  name?: string;
  limits: RiskLimits;
  expected_version?: number | null;
}

/** What a specialist can do. `speed` 2: twice as fast as planned; `quality` is measured, 0 to 1. */
export interface Skill {
  id: string;
  level?: number;
  speed?: number;
  quality?: number;
}

export interface Solver {
  name: string;
  status: "OPTIMAL" | "FEASIBLE" | "HEURISTIC";
  objective: number;
  gap?: number;
  ms?: number;
}

/** The health of one market-data source. */
export interface SourceStatus {
  source: string;
  state: "CONNECTED" | "RECONNECTING" | "SUSPECT" | "DOWN";
  role?: "PRIMARY" | "SECONDARY";
  last_ts_event?: Micros;
  gap_count?: number;
  reconnects?: number;
  reason?: string;
  ext?: Record<string, any>;
}

/**
 * A specialist's entry in the registry. `card` is its A2A agent card, verbatim, where it has one. An empty `owner`:
 * whoever it was has been forgotten.
 */
export interface Specialist {
  specialist_id: string;
  specialist_type?: string;
  team: string;
  owner?: string;
  version?: string;
  name?: string;
  description?: string;
  skills?: Skill[];
  max_concurrent?: number;
  hours?: number;
  usd_per_hour?: string;
  usd_per_mtok_in?: string;
  usd_per_mtok_out?: string;
  usd_per_day?: string;
  tokens_per_day?: number;
  availability?: Window[];
  heartbeat_s?: number;
  card?: Record<string, any>;
  ext?: Record<string, any>;
}

/** Derived, never asserted: each axis with its reason. */
export interface SpecialistStatus {
  specialist_id: string;
  presence: SpecialistPresence;
  presence_because: string;
  activity: Activity;
  activity_because: string;
  health: Health;
  health_because: string;
  tasks?: string[];
  last_heartbeat?: Micros;
}

/** What one specialist reports about itself and the task at hand. */
export interface SpecialistUpdate {
  specialist_id: string;
  specialist_type?: string;
  project_id?: string;
  action_type?: string;
  presence?: SpecialistPresence;
  activity?: Activity;
  health?: Health;
  because?: string;
  task_id?: string;
  task_state?: TaskState;
  progress?: number;
  message?: string;
  blockers?: Blocker[];
  usage?: Usage;
  cost_usd?: DecimalString;
  eta?: Micros;
  artifacts?: Record<string, any>[];
  ts_event?: Micros;
  ext?: Record<string, any>;
}

/** Result of `risk.halt` and `risk.resume`. `canceled` counts the orders that were asked to be canceled. */
export interface StateChanged {
  state: TradingState;
  canceled?: number;
}

/** A component's state on `status:{scope}`. */
export interface Status {
  component: string;
  state: "OK" | "DEGRADED" | "DOWN";
  detail?: string;
  ts_event?: Micros;
  ext?: Record<string, any>;
}

/** Parameters of `strategies.list`. */
export interface StrategyList {
  account: string;
}

/**
 * Parameters of `strategies.start`. `strategy` is the kind, `strategy_id` this one's name; an account has one
 * running strategy of a name.
 */
export interface StrategyStart {
  account: string;
  strategy_id: string;
  strategy: string;
  symbols: string[];
  parameters?: Record<string, any>;
}

/**
 * A run of a strategy, as the three methods answer it. `submitted`, `executions` and `positions` (what its orders
 * have bought less what they have sold) are told while it runs and once more when it is stopped.
 */
export interface StrategyState {
  account: string;
  strategy_id: string;
  strategy: string;
  symbols: string[];
  parameters?: Record<string, any>;
  state: StrategyMode;
  reason?: string;
  started_by?: string;
  stopped_by?: string;
  started_at?: Micros;
  ended_at?: Micros;
  submitted?: number;
  executions?: number;
  positions?: Record<string, DecimalString>;
}

/** Parameters of `strategies.stop`. */
export interface StrategyStop {
  account: string;
  strategy_id: string;
}

/** How to subscribe: the fields of `subscribe` without id and channel, as `connect` carries them. */
export interface SubscribeOptions {
  recover?: Position;
  rewind?: number | string;
  max_rate?: number;
  max_age_ms?: number;
  min_quality?: MinQuality;
  filter?: Filter;
  presence?: boolean;
}

/**
 * Where the subscription starts, what it promises, and what was missed.
 *
 * `recovered` true: `messages` continue the given position gaplessly and in order. False: `reason` says why,
 * and `messages` hold the current snapshot (latest values), what `rewind` asked for, or nothing.
 */
export interface SubscribeResult {
  channel: string;
  epoch: string;
  offset: number;
  promise: Promised;
  recovered: boolean;
  messages: Publication[];
  reason?: RecoveryReason;
  members?: Member[];
}

export interface Suggestion {
  action: "REASSIGN" | "UNBLOCK" | "ESCALATE" | "SPLIT" | "START" | "NUDGE";
  target: string;
  why: string;
  expected_gain_h?: number;
}

/** Result of `orders.cancel_all_after`: when the switch will fire; absent: it is disarmed. */
export interface SwitchState {
  account: string;
  fires_at?: Micros;
}

export interface TaskAnswer {
  task: TaskUpdate;
}

export interface TaskAssign {
  project_id: string;
  task_id: string;
  specialist_id: string;
}

/** A blocker of kind `task` is gone when that task of the project is completed. */
export interface TaskBlock {
  project_id: string;
  task_id: string;
  specialist_id: string;
  fence: number;
  request_id?: string;
  blockers: Blocker[];
}

/** Without `task_id` the best that the specialist can do; without `project_id` in any project of its team. */
export interface TaskClaim {
  specialist_id: string;
  project_id?: string;
  task_id?: string;
}

/** No `task`: there is nothing to do. `lease_until` in microseconds; a heartbeat moves it on. */
export interface TaskClaimed {
  task?: TaskUpdate;
  spec?: TaskSpec;
  fence?: number;
  lease_until?: Micros;
  answer?: any;
}

export interface TaskCreate {
  project_id: string;
  tasks: TaskSpec[];
}

export interface TaskDecline {
  project_id: string;
  task_id: string;
  specialist_id: string;
  fence?: number;
  reason?: string;
}

/** `interrupt` is the question that is open; `answer` what the last one was answered with. */
export interface TaskDetail {
  task: TaskUpdate;
  spec: TaskSpec;
  artifacts?: Record<string, any>[];
  results?: Record<string, GateResult>;
  interrupt?: Interrupt;
  answer?: any;
  reason?: string;
}

export interface TaskFail {
  project_id: string;
  task_id: string;
  specialist_id: string;
  fence: number;
  request_id?: string;
  reason: string;
}

/** Of `tasks.pause`, `tasks.resume`, `tasks.cancel`. */
export interface TaskIntervene {
  project_id: string;
  task_id: string;
  reason?: string;
}

/** `after`: the task_id that the page before ended with. */
export interface TaskList {
  project_id: string;
  state?: TaskState;
  specialist_id?: string;
  limit?: number;
  after?: string;
}

export interface TaskName {
  project_id: string;
  task_id: string;
}

/** `next`: there are more, after this one. */
export interface TaskPage {
  tasks: TaskUpdate[];
  next?: string;
}

export interface TaskProgress {
  project_id: string;
  task_id: string;
  specialist_id: string;
  fence: number;
  request_id?: string;
  progress: number;
  message?: string;
  usage?: Usage;
  cost_usd?: Quantity;
}

/**
 * A question to people, answered by `approvals.resolve`. Not answered by `expires_at`, the task fails or waits on,
 * as `on_expiry` says. `response_schema` is what an answer must fit.
 */
export interface TaskRequestInput {
  project_id: string;
  task_id: string;
  specialist_id: string;
  fence: number;
  request_id?: string;
  reason: QuestionReason;
  message: string;
  approver_roles: string[];
  response_schema?: Record<string, any>;
  quorum?: number;
  expires_at: Micros;
  on_expiry?: "FAIL" | "ESCALATE";
}

/** A task as it is planned. `effort_h` is for a specialist of speed 1. */
export interface TaskSpec {
  task_id: string;
  title?: string;
  description?: string;
  effort_h?: number;
  required_skills?: string[];
  min_quality?: number;
  priority?: number;
  deadline?: Micros;
  depends_on?: string[];
  gates?: Gate[];
  reviewer?: string;
  review_of?: string;
  est_tokens?: number;
  pinned?: string;
  reference_task_ids?: string[];
  ext?: Record<string, any>;
}

export interface TaskSubmit {
  project_id: string;
  task_id: string;
  specialist_id: string;
  fence: number;
  request_id?: string;
  artifacts: Record<string, any>[];
  evidence?: Evidence[];
  usage?: Usage;
  cost_usd?: Quantity;
}

export interface TaskUnblock {
  project_id: string;
  task_id: string;
  ref: string;
}

/** A task as it stands: created, assigned, moved on, or finished. */
export interface TaskUpdate {
  task_id: string;
  project_id?: string;
  title?: string;
  state?: TaskState;
  substate?: TaskSubstate;
  specialist_id?: string;
  progress?: number;
  attempt?: number;
  priority?: number;
  depends_on?: string[];
  blockers?: Blocker[];
  message?: string;
  deadline?: Micros;
  ts_event?: Micros;
  ext?: Record<string, any>;
}

/** Parameters of `team.commit`: the plan that was proposed last. */
export interface TeamCommit {
  project_id: string;
  plan_id: string;
}

export interface TeamCommitted {
  plan: TeamPlan;
}

/** Who does what, when, and why. Hours count from the project's start. */
export interface TeamPlan {
  plan_id: string;
  project_id: string;
  assignments: Assignment[];
  unassigned?: Unassigned[];
  critical_path?: string[];
  slack_h?: Record<string, number>;
  makespan_h?: number;
  deadline?: Micros;
  deadline_feasible?: boolean;
  utilisation?: Record<string, number>;
  bottlenecks?: string[];
  gates?: Record<string, string[]>;
  budget_used_usd?: string;
  budget_limit_usd?: string;
  complexity?: Complexity;
  registry_version?: number;
  solver: Solver;
  supersedes?: string;
  created?: Micros;
}

/** Parameters of `team.plan` and `team.next_steps`. */
export interface TeamPlanAsk {
  project_id: string;
}

export interface TeamPlanned {
  plan: TeamPlan;
  greedy: Baseline;
}

export interface TeamSteps {
  next_steps: NextSteps;
}

/** Parameters of `team.sync`: what specialists of one project report. */
export interface TeamSync {
  updates: SpecialistUpdate[];
}

/** Parameters of `team.what_if`: compared with the plan that was committed, or else the one proposed last. */
export interface TeamWhatIf {
  project_id: string;
  change: PlanChange;
}

/** A symbol's last 24 hours. */
export interface Ticker {
  symbol: string;
  last: DecimalString;
  last_size?: Quantity;
  open_24h?: DecimalString;
  high_24h?: DecimalString;
  low_24h?: DecimalString;
  volume_24h?: Quantity;
  quote_volume_24h?: Quantity;
  vwap_24h?: DecimalString;
  change?: DecimalString;
  change_pct?: DecimalString;
  bid?: DecimalString;
  ask?: DecimalString;
  trade_count?: number;
  source?: string;
  ts_event?: Micros;
  ext?: Record<string, any>;
}

/** When the hub read a publish, had checked it, and had placed it, by the hub's clock. */
export interface Timing {
  received: Micros;
  checked: Micros;
  placed: Micros;
}

/** One execution on a market. `aggressor_side` is who crossed the spread. */
export interface Trade {
  symbol: string;
  price: DecimalString;
  size: Quantity;
  source?: string;
  trade_id?: string;
  aggressor_side?: "BUYER" | "SELLER" | "NONE";
  conditions?: string[];
  seq?: number;
  ts_event?: Micros;
  ts_recv?: Micros;
  ts_pub?: Micros;
  ext?: Record<string, any>;
}

/** A trade that was reported wrongly: TRADE_CORRECTION gives what it should have said, TRADE_BUST withdraws it. */
export interface TradeCorrection {
  symbol: string;
  original_trade_id: string;
  original_price: DecimalString;
  original_size: Quantity;
  corrected_trade_id?: string;
  corrected_price?: DecimalString;
  corrected_size?: Quantity;
  source?: string;
  ts_event?: Micros;
  ts_recv?: Micros;
  ext?: Record<string, any>;
}

/** The kill switch of one scope: REDUCING lets orders through that make a position smaller, HALTED none. */
export interface TradingState {
  scope: TradingScope;
  name?: string;
  mode: TradingMode;
  reason?: string;
  actor?: string;
  ts_event?: Micros;
  ext?: Record<string, any>;
}

export interface Unassigned {
  task_id: string;
  reason: string;
}

/** Tokens a model used, in AG-UI's names. */
export interface Usage {
  provider?: string;
  model?: string;
  input_tokens?: number;
  output_tokens?: number;
  total_tokens?: number;
  reasoning_tokens?: number;
  cached_input_tokens?: number;
}

/** `at` is the place in the expectation; `did_you_mean` a name of the hub's that is close. */
export interface Violation {
  code: ViolationCode;
  at: string;
  message: string;
  did_you_mean?: string;
}

/** An order that waits for approval, by the names it is approved or declined under. */
export interface WaitingOrder {
  account: string;
  client_order_id: string;
  approval: ApprovalDetail;
}

/** Result of `risk.waiting`: those that the caller may approve, or has placed. */
export interface WaitingOrders {
  orders: WaitingOrder[];
}

/** What the plan minimises: hours, dollars, missing quality, switches between contexts, lateness. */
export interface Weights {
  time?: number;
  cost?: number;
  quality?: number;
  switch?: number;
  late?: number;
}

/** When a specialist is available: [start, end). */
export interface Window {
  start: Micros;
  end: Micros;
}

/** The `data` of each message type. */
export interface DataTypes {
  PRICE_TICK: PriceTick;
  TRADE: Trade;
  BOOK: Book;
  BAR: Bar;
  TICKER: Ticker;
  TRADE_CORRECTION: TradeCorrection;
  TRADE_BUST: TradeCorrection;
  INSTRUMENT: Instrument;
  SOURCE_STATUS: SourceStatus;
  ORDER_EVENT: OrderEvent;
  EXECUTION_REPORT: ExecutionReport;
  RISK_DECISION: RiskDecision;
  TRADING_STATE: TradingState;
  POSITION: AccountPosition;
  BALANCE: Balance;
  SPECIALIST_UPDATE: SpecialistUpdate[];
  AGENT_STATUS: AgentStatus;
  TASK_CREATED: TaskUpdate;
  TASK_STATUS_UPDATE: TaskUpdate;
  HANDOFF: HandOff;
  APPROVAL_REQUESTED: Approval;
  APPROVAL_RESOLVED: Approval;
  PLAN_PROPOSED: PlanNotice;
  PLAN_COMMITTED: PlanNotice;
  PROJECT_ENDED: ProjectEnded;
  SECURITY_REPORT: SecurityReport;
  KNOWLEDGE_DIGEST: KnowledgeDigest;
  GATE_RESULT: GateVerdict;
  BUDGET_ALERT: BudgetUse;
  SCHEMA_CHANGE_ANNOUNCED: ContractChange;
  CONTRACT_CHANGED: ContractChange;
  INSIGHT: Insight;
  INSIGHT_RETRACTED: InsightRetracted;
  ALERT: Alert;
  STATUS: Status;
  AUDIT_HEAD: AuditHead;
}

/** What each method of `call` takes and answers. */
export interface Methods {
  "channels.list": { params: {}; result: string[] };
  "hub.time": { params: {}; result: Record<string, number> };
  "hub.clients": { params: ClientList; result: ClientsFound };
  "orders.submit": { params: OrderSubmit; result: ExecutionReport };
  "orders.validate": { params: OrderSubmit; result: RiskDecision };
  "orders.replace": { params: OrderReplace; result: ExecutionReport };
  "orders.cancel": { params: OrderCancel; result: ExecutionReport };
  "orders.cancel_all": { params: OrderCancelAll; result: Canceled };
  "orders.cancel_all_after": { params: CancelAllAfter; result: SwitchState };
  "orders.cancel_on_disconnect": { params: CancelOnDisconnect; result: CancelOnDisconnect };
  "orders.status": { params: OrderCancel; result: ExecutionReport };
  "orders.list": { params: OrderList; result: OrderPage };
  "strategies.list": { params: StrategyList; result: StrategyState[] };
  "strategies.start": { params: StrategyStart; result: StrategyState };
  "strategies.stop": { params: StrategyStop; result: StrategyState };
  "risk.limits": { params: LimitsOf; result: LimitsInForce };
  "risk.set_limits": { params: SetLimits; result: LimitsInForce };
  "risk.state": { params: {}; result: RiskState };
  "risk.halt": { params: Halt; result: StateChanged };
  "risk.resume": { params: Resume; result: StateChanged };
  "risk.waiting": { params: {}; result: WaitingOrders };
  "risk.approve": { params: ApprovalAnswer; result: OrderApproval };
  "risk.decline": { params: ApprovalAnswer; result: OrderApproval };
  "agents.register": { params: AgentRegister; result: AgentEntry };
  "agents.heartbeat": { params: AgentHeartbeat; result: HeartbeatAnswer };
  "agents.list": { params: AgentList; result: AgentPage };
  "agents.status": { params: AgentName; result: AgentEntry };
  "agents.leave": { params: AgentName; result: Record<string, any> };
  "agents.pause": { params: AgentPause; result: AgentEntry };
  "agents.resume": { params: AgentPause; result: AgentEntry };
  "projects.create": { params: ProjectCreate; result: ProjectCreated };
  "projects.get": { params: ProjectName; result: ProjectAnswer };
  "projects.list": { params: ProjectList; result: ProjectPage };
  "projects.close": { params: ProjectEnd; result: ProjectAnswer };
  "projects.cancel": { params: ProjectEnd; result: ProjectAnswer };
  "tasks.create": { params: TaskCreate; result: TaskPage };
  "tasks.list": { params: TaskList; result: TaskPage };
  "tasks.get": { params: TaskName; result: TaskDetail };
  "tasks.assign": { params: TaskAssign; result: TaskAnswer };
  "tasks.claim": { params: TaskClaim; result: TaskClaimed };
  "tasks.progress": { params: TaskProgress; result: TaskAnswer };
  "tasks.block": { params: TaskBlock; result: TaskAnswer };
  "tasks.unblock": { params: TaskUnblock; result: TaskAnswer };
  "tasks.submit": { params: TaskSubmit; result: TaskAnswer };
  "tasks.pause": { params: TaskIntervene; result: TaskAnswer };
  "tasks.resume": { params: TaskIntervene; result: TaskAnswer };
  "tasks.cancel": { params: TaskIntervene; result: TaskAnswer };
  "tasks.fail": { params: TaskFail; result: TaskAnswer };
  "tasks.decline": { params: TaskDecline; result: TaskAnswer };
  "tasks.gate": { params: GateJudge; result: TaskAnswer };
  "tasks.request_input": { params: TaskRequestInput; result: QuestionAsked };
  "approvals.request": { params: ApprovalRequest; result: ApprovalResult };
  "approvals.resolve": { params: ApprovalResolve; result: ApprovalResult };
  "approvals.list": { params: ApprovalList; result: ApprovalsFound };
  "approvals.get": { params: ApprovalGet; result: ApprovalResult };
  "handoffs.offer": { params: HandOffOffer; result: HandOffResult };
  "handoffs.accept": { params: HandOffAnswer; result: HandOffResult };
  "handoffs.decline": { params: HandOffAnswer; result: HandOffResult };
  "handoffs.withdraw": { params: HandOffAnswer; result: HandOffResult };
  "handoffs.list": { params: HandOffList; result: HandOffsFound };
  "budgets.reserve": { params: BudgetReserve; result: BudgetAnswer };
  "budgets.settle": { params: BudgetSettle; result: BudgetAnswer };
  "budgets.list": { params: BudgetList; result: BudgetsFound };
  "team.plan": { params: TeamPlanAsk; result: TeamPlanned };
  "team.what_if": { params: TeamWhatIf; result: PlanDifference };
  "team.commit": { params: TeamCommit; result: TeamCommitted };
  "team.current": { params: TeamPlanAsk; result: TeamCommitted };
  "team.sync": { params: TeamSync; result: TeamSteps };
  "team.next_steps": { params: TeamPlanAsk; result: TeamSteps };
  "knowledge.add": { params: KnowledgeAdd; result: KnowledgeAnswer };
  "knowledge.get": { params: KnowledgeGet; result: KnowledgeAnswer };
  "knowledge.search": { params: KnowledgeSearch; result: KnowledgeFound };
  "insights.list": { params: InsightList; result: InsightsFound };
  "insights.feedback": { params: InsightFeedback; result: InsightScored };
  "insights.scores": { params: InsightScores; result: InsightScored };
  "insights.retract": { params: InsightRetract; result: InsightRetracted };
  "insights.errors": { params: ErrorList; result: ErrorsFound };
  "contracts.announce": { params: ContractAnnounce; result: ContractChange };
  "contracts.validate": { params: ContractExpectation; result: ContractReport };
}
