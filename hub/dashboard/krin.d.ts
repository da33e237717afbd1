/**
 * Krin's browser SDK, typed: what krin.js offers, over the types of protocol.d.ts.
 *
 * `message.type === "PRICE_TICK"` makes `message.data` a PriceTick. Types of your own are named once:
 *
 *   const krin = new Krin<{ GREETING: { text: string } }>("wss://hub.example/ws", { token });
 *   krin.subscribe("custom:room", (message) => {
 *     if (message.type === "GREETING") console.log(message.data.text);
 *   });
 */

import type {
  ClientKind,
  Connected,
  DataTypes,
  ErrorBody,
  ErrorName,
  ExplainResult,
  HistoryResult,
  Member,
  Methods,
  Notice,
  Position,
  PresenceResult,
  Promised,
  Publication,
  Published,
  SearchMode,
  SearchResult,
  SubscribeOptions as SubscribeFields,
  SubscribeResult,
} from "./protocol.js";

export type * from "./protocol.js";

/** The name of a message type of the protocol. */
export type MessageType = keyof DataTypes;

/** A message of one of the named types; `type` tells which, and with it what `data` is. */
export type Message<Type extends string = MessageType, Types = DataTypes> = {
  [Each in Type & keyof Types]: Publication<Each, Types[Each]>;
}[Type & keyof Types];

type AnyMessage<Own> = Message<keyof (DataTypes & Own) & string, DataTypes & Own>;
type DataOf<Type, Own> = Type extends keyof (DataTypes & Own) ? (DataTypes & Own)[Type] : Record<string, any>;
type ParamsOf<Method> = Method extends keyof Methods ? Methods[Method]["params"] : Record<string, any>;
type ResultOf<Method> = Method extends keyof Methods ? Methods[Method]["result"] : any;
type Joined<Own> = Omit<SubscribeResult, "messages"> & { messages: AnyMessage<Own>[] };
type Page<Own> = Omit<HistoryResult, "messages"> & { messages: AnyMessage<Own>[] };

export type State = "connecting" | "open" | "reconnecting" | "closed";

/** What came of a channel, and the subscription that heard it. */
export type Handler<Own = {}> = (message: AnyMessage<Own>, subscription: Subscription<Own>) => void;

export interface SubscribeOptions<Own = {}> extends SubscribeFields {
  /** Messages are gone for good: reload what you derived from them. */
  onLost?: (reason: string) => void;
  /** Before the messages of each (re)subscription. */
  onSubscribed?: (result: Joined<Own>) => void;
  /** The subscription ended: not allowed, or ended by the hub. */
  onError?: (error: KrinError) => void;
  /** Who is present; `diff` is null at the beginning. */
  onPresence?: (members: Member[], diff: { joins: Member[]; leaves: Member[] } | null) => void;
}

export interface KrinOptions {
  /**
   * A function is asked again for every connection and when a token is about to expire; an error with `final: true`
   * thrown by it ends the client instead of being tried again.
   */
  token?: string | ((why: { expired: boolean }) => string | Promise<string>);
  name?: string;
  kind?: ClientKind;
  /** How often to measure the round trip; 0: never. */
  latency_interval_ms?: number;
  /** 500 and 20000 by default. */
  backoff?: { min_ms?: number; max_ms?: number };
  /** Silence allowed on top of the hub's ping interval; 10000 by default. */
  pong_timeout_ms?: number;
  /** Where there is no global WebSocket, as in Node before 22. */
  WebSocket?: new (url: string, protocols: string[]) => object;
}

export interface StateEvent {
  state: State;
  /** The close code that led here. */
  code?: number;
  reason?: string;
  attempt?: number;
  retry_in_ms?: number;
  /** Closed for good: nothing is tried again. */
  final?: boolean;
}

/** What `Krin.on` tells of. */
export interface Events {
  state: StateEvent;
  notice: Notice;
  latency: { rtt_ms: number; type: string };
  /** What a handler of yours threw. */
  error: unknown;
}

export interface TimeLimit {
  /** Give up after this long. */
  timeout_ms?: number;
}

/** A command failed. `name` and `code` are the hub's, or `connection_lost`, `timeout`, `closed` with code 0. */
export class KrinError extends Error {
  constructor(body: Partial<ErrorBody> & Pick<ErrorBody, "name" | "message">);
  code: number;
  name: ErrorName | (string & {});
  temporary: boolean;
  retry_after_ms: number | undefined;
  /** Where in the command. */
  path: string | undefined;
}

/** Whether a close code leaves the door open: 4000-4099, a normal closure and our own protocol faults do not. */
export function shouldReconnect(code: number): boolean;

/** Where a reader stands in one channel, and what each message means to it. Pure: no socket, no clock. */
export class Track {
  /** filtered: offsets may jump by design. */
  constructor(options?: { filtered?: boolean; recover?: Position | null });
  filtered: boolean;
  promise: Promised | null;
  epoch: string | null;
  offset: number;
  keys: Map<string, number>;
  get position(): Position | null;
  /** What to send as `recover`. A latest channel is joined anew: some key may lag behind the channel's offset. */
  get resume(): Position | null;
  /** Take a subscribe result. */
  begin(result: SubscribeResult): { fresh: Publication[]; lost: string | null };
  /** Take a live message. A gap does not move the position. */
  next(message: Publication): "fresh" | "repeat" | "gap" | "reset";
  /** Accept a gap that cannot be mended. */
  skipTo(message: Publication): void;
}

/** One channel as this client hears it. Made by `krin.subscribe`. */
export class Subscription<Own = {}> {
  private constructor();
  readonly channel: string;
  readonly options: SubscribeOptions<Own>;
  handler: Handler<Own>;
  readonly state: "pending" | "subscribed" | "ended";
  /** Why the subscription ended, if it was not by `unsubscribe`. */
  readonly error: KrinError | null;
  onLost: SubscribeOptions<Own>["onLost"] | null;
  onSubscribed: SubscribeOptions<Own>["onSubscribed"] | null;
  onError: SubscribeOptions<Own>["onError"] | null;
  onPresence: SubscribeOptions<Own>["onPresence"] | null;
  /** Where this subscription stands, to store and to pass as `recover` later. */
  get position(): Position | null;
  /** The channel's promise, once subscribed. */
  get promise(): Promised | null;
  /** Who is present, if `presence` was asked for. */
  get members(): Member[];
  unsubscribe(): void;
}

/** A client of one hub. `Own`: message types beyond those of the protocol, with their data. */
export class Krin<Own = {}> {
  /** `url`: `ws://` or `wss://`, usually ending in `/ws`. */
  constructor(url: string | URL, options?: KrinOptions);
  /** Result of the last `connect`. */
  info: Omit<Connected, "subscriptions"> | null;
  /** Last measured round trip in milliseconds. */
  rtt_ms: number | null;
  /** Add to Date.now() for the hub's clock, to within half a round trip. */
  clock_offset_ms: number;
  /** Publications received, repeats included. */
  received: number;
  get state(): State;
  /** Names of the channels subscribed to. */
  get channels(): string[];

  /** Returns what stops the listening. */
  on<Event extends keyof Events>(event: Event, listener: (detail: Events[Event]) => void): () => void;

  /** Open the connection and keep it open. Resolves with the first welcome; rejects if it is closed for good. */
  connect(): Promise<Omit<Connected, "subscriptions">>;

  /** Say goodbye for good. Whatever still waits is rejected. */
  close(): void;

  /** Hear a channel. Survives reconnects; ends with `unsubscribe`, or when the hub says no (`onError`). */
  subscribe(channel: string, handler: Handler<Own>): Subscription<Own>;
  subscribe(channel: string, options: SubscribeOptions<Own>, handler?: Handler<Own>): Subscription<Own>;

  /** `subscription`: only if it is still this one. */
  unsubscribe(channel: string, subscription?: Subscription<Own>): void;

  /**
   * Publish once, however often it must be sent: the same idempotency key goes with every attempt, after reconnects
   * and temporary errors alike. What is published while another message waits for its retry may overtake it.
   */
  publish<Type extends string>(
    channel: string,
    message: { type: Type; data: DataOf<Type, Own>; trace?: string; coordination?: Record<string, any> },
    options?: TimeLimit & { key?: string; idempotency_key?: string; ttl_ms?: number; timing?: boolean },
  ): Promise<Published>;

  history(
    channel: string,
    options?: TimeLimit & { since?: Position; limit?: number; reverse?: boolean },
  ): Promise<Page<Own>>;

  search(
    query: string,
    options?: TimeLimit & { channel?: string; mode?: SearchMode; limit?: number },
  ): Promise<SearchResult>;

  presence(channel: string, options?: TimeLimit): Promise<PresenceResult>;

  /** What became of a message for this user's connections on the node. `client`: for that connection only. */
  explain(channel: string, offset: number, options?: TimeLimit & { client?: string }): Promise<ExplainResult>;

  /**
   * An operation of one of the domains, such as `orders.submit`.
   * retry: send again after a reconnect or a temporary error. Only for what may happen twice without harm.
   */
  call<Method extends string>(
    method: Method,
    ...rest: {} extends ParamsOf<Method>
      ? [params?: ParamsOf<Method>, options?: TimeLimit & { retry?: boolean }]
      : [params: ParamsOf<Method>, options?: TimeLimit & { retry?: boolean }]
  ): Promise<ResultOf<Method>>;

  /** Measure a round trip now, in milliseconds. */
  ping(): Promise<number>;

  /** Go on with a new token of the token function, for its rights or its time. */
  refresh(): Promise<void>;
}
