/** What is known of teams: heard on channels, and asked for while the view is up. The panels of the view draw it. */

const ASK_EVERY_MS = 5000;
const ASK_AGAIN_MS = 800; // after something was heard
const PAGE = 500;
const MOST_TASKS = 2000; // of a project
const KEPT_EVENTS = 40; // of a task
const DECIDED_SHOWN_MS = 60_000;
const DECIDED_ASKED = 5; // at once

export const FINISHED = new Set(["COMPLETED", "CANCELED", "FAILED", "REJECTED"]);
export const WAITS_FOR_A_PERSON = new Set(["INPUT_REQUIRED", "AUTH_REQUIRED"]);

export class Work {
  /** @param {{krin: () => import("./krin.js").Krin | null, schedule: () => void, stepUp: () => Promise<void>}} context */
  constructor(context) {
    this.context = context;
    this.version = 0; // grows with all that a panel may have to draw
    /** @type {Map<string, Map<string, any>>} */ this.tasks = new Map(); // by project
    /** @type {Map<string, any>} */ this.projects = new Map();
    /** @type {Map<string, any>} */ this.specialists = new Map();
    /** @type {Map<string, any>} */ this.steps = new Map(); // what to do next, by project
    this.approvals = [];
    this.handoffs = [];
    this.budgets = [];
    this.decided = new Map(); // approvals that somebody has answered a moment ago
    this.refusals = new Map(); // method -> why it is not answered
    this.chosen = ""; // the project that the person has picked
    this.#forget();
  }

  /** The project that is shown: the picked one, or the one where something happened last among those with work left. */
  get project() {
    if (this.tasks.has(this.chosen) || this.projects.has(this.chosen)) return this.chosen;
    let best = "";
    let rank = [-1, 0];
    for (const [name, tasks] of this.tasks) {
      const open = [...tasks.values()].some(({ state }) => !FINISHED.has(state)) ? 1 : 0;
      const at = Math.max(...[...tasks.values()].map((task) => task.at));
      if (open > rank[0] || (open === rank[0] && at > rank[1])) [best, rank] = [name, [open, at]];
    }
    return best || (this.projects.keys().next().value ?? "");
  }

  get names() {
    return [...new Set([...this.projects.keys(), ...this.tasks.keys()])].sort();
  }

  tasksOf(project) {
    return [...(this.tasks.get(project)?.values() ?? [])];
  }

  titleOf(id, project = this.project) {
    const task = this.tasks.get(project)?.get(id) ?? [...this.tasks.values()].map((all) => all.get(id)).find(Boolean);
    return task?.title ?? String(id ?? "");
  }

  /** The user's own specialists. */
  get mine() {
    const user = this.context.krin()?.info?.user;
    return [...this.specialists.values()].filter(({ entry }) => entry && entry.owner === user);
  }

  /** @param {import("./krin.js").Message} message */
  take({ type, channel, data, coordination, timestamp }) {
    const project = channel.slice(channel.indexOf(":") + 1);
    if (type === "TASK_CREATED" || type === "TASK_STATUS_UPDATE") this.#hearTask(data.project_id ?? project, data, timestamp);
    else if (type === "SPECIALIST_UPDATE") for (const update of data) this.#hearSpecialist(update, timestamp);
    if (coordination) this.steps.set(project, coordination);
    this.#stale = true;
    this.version += 1;
  }

  /** @param {boolean} [listed]  it was asked for: what was heard of the same moment says more */
  #hearTask(project, { blockers, message, ...lasting }, at, listed = false) {
    let tasks = this.tasks.get(project);
    if (!tasks) this.tasks.set(project, (tasks = new Map()));
    const known = tasks.get(lasting.task_id);
    if (known && (known.at > at || (listed && known.at === at))) return;
    const events = known?.events ?? [];
    const { state, substate, specialist_id } = lasting;
    const said = `${state} ${substate} ${specialist_id} ${message}`;
    if (events.at(-1)?.said !== said) events.push({ said, at, state, substate, specialist_id, message });
    if (events.length > KEPT_EVENTS) events.shift();
    tasks.set(lasting.task_id, { ...known, specialist_id: undefined, substate: undefined, ...lasting, blockers, message, at, events });
    if (tasks.size <= MOST_TASKS) return;
    const oldest = [...tasks.values()].filter((task) => FINISHED.has(task.state)).sort((a, b) => a.at - b.at);
    for (const { task_id } of oldest.slice(0, MOST_TASKS / 10)) tasks.delete(task_id);
  }

  #hearSpecialist(update, at) {
    const known = this.specialists.get(update.specialist_id);
    if (known?.said && known.at > at) return;
    // What a report says of the task at hand replaces the earlier word; identity and axes stay until they change.
    const { task_id, task_state, progress, message, because, blockers, ...lasting } = update;
    const said = { ...known?.said, ...lasting, task_id, task_state, progress, message, because, blockers };
    this.specialists.set(update.specialist_id, { ...known, said, at });
  }

  /** Somebody has answered it, or nobody in time. @param {any} approval  as `approvals.get` tells it */
  decide(approval) {
    if (approval.state === "REQUESTED") return;
    this.decided.set(approval.approval_id, { ...approval, by: approval.answers?.at(-1)?.user, at: approval.ended_at / 1000 });
    this.approvals = this.approvals.filter((each) => each.approval_id !== approval.approval_id);
    this.version += 1;
  }

  // --- asking ---

  #stale = true;
  #asking = false;
  #asked_at = 0;
  #listed = new Set(); // projects whose tasks were asked for

  #forget() {
    this.#listed = new Set();
    this.#stale = true;
    this.#asked_at = 0;
  }

  opened() {
    this.#forget();
  }

  shown() {
    this.#stale = true;
  }

  heard() {}

  /** Nothing to draw; while the view is up, what no channel tells is asked for. */
  render({ now_ms, live }) {
    for (const [id, { at }] of this.decided) if (now_ms - at > DECIDED_SHOWN_MS) this.decided.delete(id), (this.version += 1);
    const waited = performance.now() - this.#asked_at;
    if (!live || this.#asking || waited < (this.#stale ? ASK_AGAIN_MS : ASK_EVERY_MS)) return;
    this.#stale = false;
    this.#asking = true;
    this.#ask().finally(() => {
      this.#asking = false;
      this.#asked_at = performance.now();
      this.version += 1;
      this.context.schedule();
    });
  }

  async #ask() {
    const krin = this.context.krin();
    const ask = async (method, params, then) => {
      try {
        await then(await krin.call(method, params));
        this.refusals.delete(method);
      } catch (failure) {
        this.refusals.set(method, failure.name === "permission_denied" ? "This account may not see this." : `Not available now: ${failure.message}`);
      }
    };
    await ask("projects.list", {}, ({ projects }) => {
      this.projects = new Map(projects.map((each) => [each.project.project_id, each]));
    });
    const { project } = this;
    const registered = this.projects.has(project);
    if (registered && !this.#listed.has(project)) await ask("tasks.list", { project_id: project }, () => this.#list(krin, project));
    await Promise.all([
      ask("agents.list", {}, ({ specialists }) => this.#enter(specialists)),
      ask("approvals.list", { state: "REQUESTED" }, ({ approvals }) => this.#listApprovals(krin, approvals)),
      ask("handoffs.list", {}, ({ handoffs }) => (this.handoffs = handoffs)),
      registered && ask("budgets.list", { project_id: project }, ({ budgets }) => (this.budgets = budgets)),
      registered && ask("team.next_steps", { project_id: project }, ({ next_steps }) => this.steps.set(project, next_steps)),
    ]);
  }

  async #list(krin, project) {
    let after;
    for (let count = 0; count < MOST_TASKS; count += PAGE) {
      const { tasks, next } = await krin.call("tasks.list", { project_id: project, limit: PAGE, ...(after && { after }) });
      for (const task of tasks) this.#hearTask(project, task, Math.floor(task.ts_event / 1000), true);
      after = next;
      if (!after) break;
    }
    this.#listed.add(project);
  }

  /** What is open no more was answered by somebody. */
  async #listApprovals(krin, approvals) {
    const open = new Set(approvals.map(({ approval_id }) => approval_id));
    const ended = this.approvals.filter(({ approval_id }) => !open.has(approval_id)).slice(0, DECIDED_ASKED);
    this.approvals = approvals;
    for (const { approval_id } of ended) this.decide((await krin.call("approvals.get", { approval_id })).approval);
  }

  #enter(entries) {
    const names = new Set(entries.map(({ specialist }) => specialist.specialist_id));
    for (const [name, known] of this.specialists) if (known.entry && !names.has(name)) this.specialists.delete(name); // it has left
    for (const { specialist, status } of entries) {
      const name = specialist.specialist_id;
      this.specialists.set(name, { ...this.specialists.get(name), entry: specialist, status });
    }
  }

  /** Do something now; where the hub wants a second factor, ask for it and try again. Raises what the hub says. */
  async act(method, params) {
    try {
      return await this.#act(method, params);
    } catch (failure) {
      if (failure.name !== "mfa_required") throw failure;
    }
    await this.context.stepUp();
    return this.#act(method, params);
  }

  async #act(method, params) {
    try {
      return await this.context.krin().call(method, params);
    } finally {
      this.#stale = true;
      this.#asked_at = 0;
    }
  }
}
