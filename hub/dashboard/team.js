/** Specialists, next steps and tasks; alerts and sources. `take` only remembers; `render` draws. */

import { age, time, words } from "./format.js";
import { Children, Panel, bar, chip, make, mark, say, show, tableRow } from "./dom.js";

const TASK_ROWS = 100;
const ALERT_ROWS = 100;
const STEPS_SHOWN = 4; // per kind

const PRESENCE_TONES = { ONLINE: "good", STALE: "warn", OFFLINE: "bad" };
const ACTIVITY_TONES = { WORKING: "info", BLOCKED: "bad", WAITING_HUMAN: "warn", RATE_LIMITED: "warn" };
const HEALTH_TONES = { HEALTHY: "good", DEGRADED: "warn", STUCK: "bad", FAILED: "bad" };
const TROUBLE = new Set(["STALE", "OFFLINE", "BLOCKED", "WAITING_HUMAN", "DEGRADED", "STUCK", "FAILED"]);

const percentOf = (fraction) => `${Math.floor(fraction * 100)}%`;

export class TeamView extends Panel {
  /** @param {TasksView} tasks  Knows the titles behind task ids. */
  constructor(tasks) {
    super("team");
    this.tasks = tasks;
    /** @type {Map<string, any>} */
    this.specialists = new Map();
    /** @type {Map<string, any>} */
    this.plans = new Map(); // next steps by channel
    this.rows = new Children(this.section.querySelector(".specialists"), () => newSpecialistRow());
    this.steps = new Children(this.section.querySelector(".steps"), (label) => {
      const text = make("dd");
      return { node: make("div", "", make("dt", "", label), text), text };
    });
  }

  /** @param {import("./krin.js").Message} message */
  take({ type, channel, data, coordination, timestamp }) {
    if (type === "SPECIALIST_UPDATE") for (const update of data) this.#remember(update, timestamp);
    else if (type === "AGENT_STATUS") this.#remember(data, timestamp);
    if (coordination) this.plans.set(channel, coordination);
    this.dirty = true;
  }

  #remember(update, timestamp) {
    const known = this.specialists.get(update.specialist_id);
    if (known && known.at > timestamp) return;
    // What a report says of the task at hand replaces the earlier word; identity and axes stay until they change.
    const { task_id, task_state, progress, message, because, blockers, ...lasting } = update;
    const at_hand = { task_id, task_state, progress, message, because, blockers };
    this.specialists.set(update.specialist_id, { ...known, ...lasting, ...at_hand, at: timestamp });
  }

  /** @param {{now_ms: number, ticking: boolean}} at */
  render({ now_ms, ticking }) {
    if (!this.dirty && !ticking) return;
    this.dirty = false;
    const names = [...this.specialists.keys()].sort();
    let troubled = 0;
    this.rows.arrange(names).forEach((row, index) => {
      const specialist = this.specialists.get(names[index]);
      if ([specialist.presence, specialist.activity, specialist.health].some((axis) => TROUBLE.has(axis))) troubled += 1;
      this.#draw(row, specialist, now_ms);
    });
    this.summary(names.length, `${names.length}${troubled ? ` · ${troubled} ${troubled === 1 ? "needs" : "need"} attention` : ""}`);
    this.#drawSteps();
  }

  #draw(row, specialist, now_ms) {
    say(row.name, specialist.specialist_id);
    say(row.age, age(now_ms - specialist.at));
    chip(row.presence, words(specialist.presence) || "Unknown", PRESENCE_TONES[specialist.presence] ?? "muted");
    chip(row.activity, words(specialist.activity) || "Unknown", ACTIVITY_TONES[specialist.activity] ?? "muted");
    chip(row.health, words(specialist.health) || "Unknown", HEALTH_TONES[specialist.health] ?? "muted");
    const { task_id, progress, because, blockers, message } = specialist;
    const title = task_id ? this.tasks.titleOf(task_id) : "";
    say(row.task, title || "No task");
    mark(row.task, "title", task_id ?? null);
    show(row.progress, progress !== undefined);
    if (progress !== undefined && row.progress.value !== progress) row.progress.value = progress;
    say(row.percent, progress === undefined ? "" : percentOf(progress));
    const waits = blockers?.length ? `waits for ${blockers.map(({ kind, ref }) => this.#reference(kind, ref)).join(", ")}` : "";
    const said = message !== title ? message : "";
    say(row.message, [because, waits, said].filter(Boolean).join(" · "));
  }

  #reference(kind, ref) {
    return kind === "task" ? `“${this.tasks.titleOf(ref)}”` : `${kind} ${ref}`;
  }

  /** Next steps as the hub computed them; each list may hold ids or objects that name a task. */
  #drawSteps() {
    const lines = [];
    const name = (item) => this.tasks.titleOf(typeof item === "object" ? (item.task ?? item.task_id ?? item.interrupt ?? "") : item);
    const add = (label, items, text = name) => items?.length && lines.push([label, items.map(text)]);
    for (const plan of this.plans.values()) {
      const late = ({ slack_s, slack_h }) => (slack_s !== undefined ? `${slack_s} s` : slack_h !== undefined ? `${slack_h} h` : "");
      add("Ready", plan.ready);
      add("Waits for a person", plan.waiting_human);
      add("At risk", plan.at_risk, (item) => `${name(item)} ${late(item) && `(slack ${late(item)})`}`);
      add("Stuck", plan.stuck_agents, String);
      add("Suggested", plan.suggestions, ({ action, target, why }) => `${words(action)} ${this.tasks.titleOf(target)}${why ? `: ${why}` : ""}`);
      if (plan.critical_path?.length) lines.push(["Critical path", [plan.critical_path.map(name).join(" → ")]]);
      add("Blocked", plan.blocked, (item) => {
        const refs = item.blockers?.map(({ kind, ref }) => (kind === "task" ? name(ref) : `${kind} ${ref}`)) ?? [];
        return refs.length ? `${name(item)} ← ${refs.join(", ")}` : name(item);
      });
    }
    const rows = this.steps.arrange([...new Set(lines.map(([label]) => label))]);
    rows.forEach(({ text }, index) => {
      const items = lines.filter(([label]) => label === this.steps.order[index]).flatMap(([, texts]) => texts);
      const more = items.length - STEPS_SHOWN;
      say(text, [...items.slice(0, STEPS_SHOWN), ...(more > 0 ? [`and ${more} more`] : [])].join("\n"));
      mark(text, "title", more > 0 ? items.join("\n") : null);
    });
    show(this.section.querySelector(".steps-empty"), lines.length === 0);
  }
}

function newSpecialistRow() {
  const name = make("strong");
  const age = make("span", "muted when");
  const [presence, activity, health] = ["presence", "activity", "health"].map((axis) => {
    const label = make("span", "chip");
    label.title = axis;
    return label;
  });
  const task = make("span", "task");
  const progress = bar("progress");
  const percent = make("span", "num percent");
  const message = make("p", "message");
  const head = make("div", "line", name, make("span", "axes", presence, activity, health));
  const work = make("div", "line", task, progress, percent, age);
  return { node: make("li", "", head, work, message), name, age, presence, activity, health, task, progress, percent, message };
}

const TASK_TONES = { WORKING: "info", INPUT_REQUIRED: "warn", AUTH_REQUIRED: "warn", COMPLETED: "good", FAILED: "bad", REJECTED: "bad" };
const FINISHED = new Set(["COMPLETED", "CANCELED", "FAILED", "REJECTED"]);

/** What needs a person first, then what runs, what waits, what is finished. */
function rank({ state, substate }) {
  if (state === "INPUT_REQUIRED" || state === "AUTH_REQUIRED") return 0;
  if (substate === "BLOCKED") return 1;
  if (state === "WORKING") return 2;
  return FINISHED.has(state) ? 4 : 3;
}

export class TasksView extends Panel {
  constructor() {
    super("tasks");
    /** @type {Map<string, any>} */
    this.tasks = new Map();
    this.rows = new Children(this.section.querySelector("tbody"), () => {
      const row = tableRow(["c-task", "c-task-state", "c-progress"]);
      const title = make("div", "cut");
      const who = make("div", "cut muted");
      row.cells[0].append(title, who);
      const state = make("span", "chip");
      row.cells[1].append(state);
      const progress = bar("progress");
      const percent = make("span", "num percent");
      row.cells[2].append(progress, percent);
      return { ...row, title, who, state, progress, percent };
    });
  }

  titleOf(id) {
    return this.tasks.get(id)?.title ?? String(id ?? "");
  }

  /** @param {import("./krin.js").Message} message */
  take({ type, data, timestamp }) {
    if (type !== "TASK_CREATED" && type !== "TASK_STATUS_UPDATE") return;
    const known = this.tasks.get(data.task_id);
    if (known && known.at > timestamp) return;
    const { blockers, message, ...lasting } = data;
    this.tasks.set(data.task_id, { ...known, ...lasting, blockers, message, at: timestamp });
    if (this.tasks.size > 10 * TASK_ROWS) {
      const oldest = [...this.tasks.values()].sort((a, b) => a.at - b.at).slice(0, 5 * TASK_ROWS);
      for (const { task_id } of oldest) this.tasks.delete(task_id);
    }
    this.dirty = true;
  }

  render() {
    if (!this.dirty) return;
    this.dirty = false;
    const shown = [...this.tasks.values()].sort((a, b) => rank(a) - rank(b) || b.at - a.at).slice(0, TASK_ROWS);
    this.rows.arrange(shown.map(({ task_id }) => task_id)).forEach((row, index) => {
      const task = shown[index];
      const blockers = task.blockers?.map(({ kind, ref }) => `${kind} ${ref}`).join(", ");
      say(row.title, task.title ?? task.task_id);
      mark(row.cells[0], "title", [task.task_id, task.message, blockers && `waits for ${blockers}`].filter(Boolean).join(" · "));
      const substate = task.state === "WORKING" && task.substate !== "RUNNING" ? task.substate : null;
      chip(row.state, words(substate ?? task.state), substate === "BLOCKED" ? "bad" : (TASK_TONES[task.state] ?? "muted"));
      say(row.who, task.specialist_id ?? "nobody yet");
      const progress = task.state === "COMPLETED" ? 1 : (task.progress ?? 0);
      if (row.progress.value !== progress) row.progress.value = progress;
      say(row.percent, percentOf(progress));
      mark(row.node, "data-finished", FINISHED.has(task.state) ? "" : null);
    });
    const open = [...this.tasks.values()].filter(({ state }) => !FINISHED.has(state)).length;
    this.summary(shown.length, `${open} open · ${this.tasks.size - open} finished`);
  }
}

const SEVERITIES = ["CRITICAL", "WARNING", "INFO"];
const SEVERITY_TONES = { CRITICAL: "bad", WARNING: "warn", INFO: "info" };

export class AlertsView extends Panel {
  constructor() {
    super("alerts");
    /** @type {Map<string, any>} */
    this.alerts = new Map();
    this.rows = new Children(this.section.querySelector(".alerts"), () => {
      const severity = make("span", "chip");
      const title = make("strong");
      const when = make("span", "muted when");
      const detail = make("p", "message");
      return { node: make("li", "", make("div", "line", severity, title, when), detail), severity, title, when, detail };
    });
  }

  /** @param {import("./krin.js").Message} message */
  take({ type, data, timestamp }) {
    if (type !== "ALERT") return;
    const known = this.alerts.get(data.alert_id);
    if (known && known.at > timestamp) return;
    this.alerts.set(data.alert_id, { ...known, ...data, state: data.state ?? "FIRING", at: timestamp });
    if (this.alerts.size > 2 * ALERT_ROWS) {
      for (const { alert_id } of this.#sorted().slice(ALERT_ROWS)) this.alerts.delete(alert_id);
    }
    this.dirty = true;
  }

  render() {
    if (!this.dirty) return;
    this.dirty = false;
    const shown = this.#sorted().slice(0, ALERT_ROWS);
    this.rows.arrange(shown.map(({ alert_id }) => alert_id)).forEach((row, index) => {
      const alert = shown[index];
      const resolved = alert.state === "RESOLVED";
      chip(row.severity, resolved ? "Resolved" : words(alert.severity), resolved ? "muted" : SEVERITY_TONES[alert.severity]);
      say(row.title, alert.title);
      say(row.when, time(alert.at));
      say(row.detail, alert.detail ?? "");
      mark(row.node, "data-finished", resolved ? "" : null);
    });
    const firing = shown.filter(({ state }) => state === "FIRING").length;
    this.summary(shown.length, `${firing} firing`);
  }

  #sorted() {
    const order = (alert) => (alert.state === "FIRING" ? SEVERITIES.indexOf(alert.severity) : SEVERITIES.length);
    return [...this.alerts.values()].sort((a, b) => order(a) - order(b) || b.at - a.at);
  }
}

const counted = (count, noun) => count && `${count} ${noun}${count === 1 ? "" : "s"}`;

const SOURCE_TONES = { CONNECTED: "good", OK: "good", RECONNECTING: "warn", SUSPECT: "warn", DEGRADED: "warn", DOWN: "bad" };

export class SourcesView extends Panel {
  constructor() {
    super("sources");
    /** @type {Map<string, any>} */
    this.sources = new Map();
    this.rows = new Children(this.section.querySelector(".sources"), () => {
      const name = make("strong");
      const state = make("span", "chip");
      const detail = make("span", "muted detail");
      return { node: make("li", "line", name, detail, state), name, state, detail };
    });
  }

  /** STATUS of a component and SOURCE_STATUS of a market-data source. */
  take({ channel, data, timestamp }) {
    const name = data.source ?? data.component;
    this.sources.set(`${channel} ${name}`, { ...data, name, at: timestamp });
    this.dirty = true;
  }

  render() {
    if (!this.dirty) return;
    this.dirty = false;
    const keys = [...this.sources.keys()].sort();
    let wrong = 0;
    this.rows.arrange(keys).forEach((row, index) => {
      const source = this.sources.get(keys[index]);
      const tone = SOURCE_TONES[source.state] ?? "muted";
      if (tone !== "good") wrong += 1;
      say(row.name, source.name);
      chip(row.state, words(source.state), tone);
      const counts = [counted(source.gap_count, "gap"), counted(source.reconnects, "reconnect")];
      say(row.detail, [source.reason ?? source.detail, ...counts].filter(Boolean).join(" · "));
    });
    this.summary(keys.length, wrong ? `${wrong} of ${keys.length} not well` : `${keys.length} well`);
  }
}
