/** How the hub is doing, as its operators see it. `take` only remembers; `render` draws. */

import { age, bytes, milliseconds, rate, time, words } from "./format.js";
import { Children, Panel, Spark, bar, chip, make, mark, say, show, tableRow } from "./dom.js";

const SILENT_AFTER_MS = 5000; // a node says something every second
const GONE_AFTER_MS = 60_000;
const SECONDS_SHOWN = 300;
const CLIENTS_EVERY_MS = 5000;
const ALERT_ROWS = 100;

/** What adds up over the nodes, or of which the worst counts, each second. @typedef {Record<string, number>} Point */

const TILES = [
  { name: "Clients", of: "clients", say: rate, title: "Open connections to all nodes" },
  { name: "In", of: "in", say: (value) => `${rate(value)}/s`, title: "Commands, each second; those of the hub's own parts among them" },
  { name: "Out", of: "out", say: (value) => `${rate(value)}/s`, title: "Publications to subscribers, each second" },
  { name: "Latency p99", of: "p99", say: milliseconds, title: "From published to written, over the last minute, of the slowest node" },
  { name: "Conflated", of: "conflated", say: (value) => `${rate(value)}/s`, title: "Values merged for readers that do not keep up" },
  { name: "Waiting", of: "waiting", say: bytes, title: "Bytes that wait for clients" },
];

const NODE_CELLS = [
  ["", ""],
  ["", "State"],
  ["num", "Clients"],
  ["num", "In/s"],
  ["num", "Out/s"],
  ["num", "p50"],
  ["num", "p99"],
  ["num", "p99.9"],
  ["num", "Stalled"],
  ["num", "Cut off"],
  ["", "Postgres"],
  ["", "Redis"],
];

/** Figures of a status in the units of the tiles; rates against the status before. @returns {Point} */
function pointOf(figures, before, seconds) {
  const perSecond = (name) => (before && seconds > 0 ? Math.max(0, figures[name] - before[name]) / seconds : 0);
  return {
    clients: figures.connections,
    in: perSecond("commands"),
    out: perSecond("delivered"),
    conflated: perSecond("conflated"),
    waiting: figures.outbox_bytes,
    p99: figures.latency_ms?.p99 ?? 0,
  };
}

export class HubView extends Panel {
  constructor() {
    super("hub");
    /** @type {Map<string, {state: string, detail?: string, figures: any, point: Point, at_us: number}>} */
    this.nodes = new Map();
    /** @type {Map<number, Point>} */
    this.seconds = new Map(); // of all nodes together, oldest first
    this.tiles = TILES.map((tile) => {
      const value = make("dd");
      const more = make("dd", "muted more");
      const spark = new Spark();
      const node = make("div", "", make("dt", "muted", tile.name), value, more, spark.node);
      node.title = tile.title;
      return { ...tile, node, value, more, spark };
    });
    this.section.querySelector(".tiles").append(...this.tiles.map(({ node }) => node));
    this.rows = new Children(this.section.querySelector("tbody"), () => {
      const row = tableRow(NODE_CELLS.map(([name]) => name));
      row.cells.forEach((cell, index) => (cell.dataset.label = NODE_CELLS[index][1])); // shown where rows are cards
      const chips = [1, 10, 11].map((index) => {
        const word = make("span", "chip");
        row.cells[index].append(word);
        return word;
      });
      return { ...row, chips };
    });
  }

  /** STATUS of a node. @param {import("./krin.js").Message} message */
  take({ type, data }) {
    if (type !== "STATUS" || !data.ext) return;
    const { component, state, detail, ts_event: at_us, ext: figures } = data;
    const before = this.nodes.get(component);
    if (before && before.at_us >= at_us) return;
    const point = pointOf(figures, before?.figures, (at_us - before?.at_us) / 1e6);
    this.nodes.set(component, { state, detail, figures, point, at_us });
    const second = Math.floor(at_us / 1e6);
    const sum = this.seconds.get(second);
    this.seconds.set(second, sum ? together(sum, point) : point);
    for (const old of this.seconds.keys()) if (old <= second - SECONDS_SHOWN) this.seconds.delete(old);
    this.dirty = true;
  }

  /** By name, without those that have said nothing for long. @param {number} now_ms */
  present(now_ms) {
    for (const [name, { at_us }] of this.nodes) if (now_ms - at_us / 1000 > GONE_AFTER_MS) this.nodes.delete(name);
    return [...this.nodes].sort(([a], [b]) => (a < b ? -1 : 1));
  }

  render({ now_ms, live, ticking }) {
    if (!this.dirty && !ticking) return;
    this.dirty = false;
    const nodes = this.present(now_ms);
    const points = [...this.seconds.values()];
    const now = nodes.map(([, { point }]) => point).reduce(together, null);
    const notes = this.#notes(nodes.map(([, { figures }]) => figures));
    for (const { of, say: write, value, more, spark } of this.tiles) {
      say(value, now ? write(now[of]) : "–");
      const values = points.map((point) => point[of]);
      say(more, notes[of] ?? (values.length ? `${write(Math.max(...values))} at most` : ""));
      spark.draw(values);
    }
    let well = 0;
    this.rows.arrange(nodes.map(([name]) => name)).forEach(({ cells, chips }, index) => {
      const [name, { state, detail, figures, point, at_us }] = nodes[index];
      const silent_ms = now_ms - at_us / 1000;
      const silent = !live || silent_ms > SILENT_AFTER_MS;
      if (!silent && state === "OK") well += 1;
      say(cells[0], name);
      chip(chips[0], silent ? `Silent ${age(silent_ms)}` : words(state), !silent && state === "OK" ? "good" : "bad");
      mark(chips[0], "title", detail ?? null);
      const { p50, p99, p999 } = figures.latency_ms;
      const texts = [figures.connections, point.in, point.out].map(rate);
      texts.push(...[p50, p99, p999].map((ms) => (ms === undefined ? "–" : milliseconds(ms))));
      texts.push(rate(figures.stalled), rate(figures.cut_off));
      texts.forEach((text, place) => say(cells[place + 2], text));
      [figures.postgres, figures.redis].forEach((up, place) => {
        chip(chips[place + 1], up === null ? "None" : up ? "Up" : "Down", up === null ? "muted" : up ? "good" : "bad");
      });
    });
    this.summary(nodes.length, well === nodes.length ? `${well} well` : `${nodes.length - well} of ${nodes.length} not well`);
  }

  #notes(all) {
    const kinds = {};
    for (const { kinds: of } of all) for (const [kind, count] of Object.entries(of)) kinds[kind] = (kinds[kind] ?? 0) + count;
    const most = (name) => Math.max(0, ...all.map(({ latency_ms }) => latency_ms[name] ?? 0));
    const total = (name) => all.reduce((sum, figures) => sum + figures[name], 0);
    return {
      clients: Object.entries(kinds).sort().map(([kind, count]) => `${rate(count)} ${kind}`).join(", "),
      p99: `p50 ${milliseconds(most("p50"))} · p99.9 ${milliseconds(most("p999"))}`,
      conflated: `${rate(total("conflated"))} in all`,
      waiting: `${rate(total("stalled"))} stalled, ${rate(total("cut_off"))} cut off`,
    };
  }
}

/** @param {Point | null} a @param {Point} b */
function together(a, b) {
  if (!a) return b;
  return Object.fromEntries(Object.keys(b).map((name) => [name, name === "p99" ? Math.max(a.p99, b.p99) : a[name] + b[name]]));
}

export class ObjectivesView extends Panel {
  /** @param {HubView} hub */
  constructor(hub) {
    super("objectives");
    this.hub = hub;
    this.rows = new Children(this.section.querySelector("ul"), () => {
      const title = make("strong");
      const state = make("span", "chip");
      const left = bar("error budget left");
      const detail = make("span", "muted");
      const node = make("li", "", make("div", "line", title, state), make("div", "line", left, detail));
      return { node, title, state, left, detail };
    });
  }

  take() {
    this.dirty = true;
  }

  /** Of all nodes the one that does worst. */
  render({ now_ms }) {
    if (!this.dirty) return;
    this.dirty = false;
    const worst = new Map();
    for (const [, { figures }] of this.hub.present(now_ms)) {
      for (const each of figures.objectives) {
        const known = worst.get(each.name);
        if (!known || each.firing.length > known.firing.length || each.budget_left < known.budget_left) worst.set(each.name, each);
      }
    }
    let missed = 0;
    const objectives = [...worst.values()];
    this.rows.arrange([...worst.keys()]).forEach(({ title, state, left, detail }, index) => {
      const { title: text, budget_left, burn, firing } = objectives[index];
      const overdrawn = budget_left < 0; // by what happened before: nothing need fire now
      if (firing.length || overdrawn) missed += 1;
      say(title, text);
      if (firing.length) chip(state, `Missed: ${words(firing[0])}`, firing[0] === "CRITICAL" ? "bad" : "warn");
      else chip(state, overdrawn ? "Overdrawn" : "Held", overdrawn ? "warn" : "good");
      left.value = Math.max(0, budget_left);
      const budget = overdrawn ? "budget overdrawn" : `${Math.floor(budget_left * 1000) / 10}% of the budget left`;
      say(detail, `${budget}, burns at ${burn.toFixed(burn < 10 ? 2 : 0)}×`);
    });
    this.summary(objectives.length, missed ? `${missed} missed` : "all held");
  }
}

/** What administrators may do, with a second factor; others are told so, and the hub is not asked. */
export class AdminPanel extends Panel {
  /** @param {string} id @param {any} context @param {string} told  Instead, to others. */
  constructor(id, context, told) {
    super(id);
    this.context = context;
    this.told = told;
    this.asked_at = -Infinity;
    this.refused = make("p", "refused muted");
    this.refused.setAttribute("role", "status");
    this.prove = make("button", "prove", "Prove the second factor");
    this.prove.type = "button";
    this.prove.addEventListener("click", () => context.stepUp().catch(({ message }) => say(this.refused, message)));
    this.refuse("");
    this.section.querySelector(".scroll").append(this.refused, this.prove);
  }

  opened() {
    this.asked_at = -Infinity;
    this.refuse(this.allowed ? "" : this.told);
    this.dirty = true;
  }

  /** While it is looked at: `ask` once in a while, until it is refused. */
  async keepAsking({ live }, every_ms) {
    if (!live || !this.allowed || performance.now() - this.asked_at < every_ms) return;
    this.asked_at = performance.now();
    if (!(await this.ask())) this.asked_at = Infinity; // until somebody proves more, or connects again
    this.dirty = true;
    this.context.schedule();
  }

  get allowed() {
    return this.context.session.roles.includes("admin");
  }

  /** Call a method and show what the hub says against it. @returns {Promise<any>}  undefined: refused. */
  async call(method, params = {}, options = {}) {
    try {
      const result = await this.context.krin().call(method, params, options);
      this.refuse("");
      return result;
    } catch (failure) {
      this.refuse(failure.message, failure.name === "mfa_required");
      return undefined;
    }
  }

  refuse(why, provable = false) {
    say(this.refused, why);
    show(this.refused, why !== "");
    show(this.prove, provable);
  }
}

const CLIENT_CELLS = ["", "", "num", "num c-bound", "num", "num c-rtt", "num c-subs", "num c-age"];

export class ClientsView extends AdminPanel {
  constructor(context) {
    super("clients", context, "Who is connected is shown to administrators. How many there are stands above.");
    this.found = null;
    this.rows = new Children(this.section.querySelector("tbody"), () => {
      const row = tableRow(CLIENT_CELLS);
      const state = make("span", "chip");
      row.cells[1].append(state);
      return { ...row, state };
    });
  }

  async ask() {
    const found = await this.call("hub.clients", { limit: 50 });
    if (found) this.found = found;
    return found;
  }

  render(moment) {
    this.keepAsking(moment, CLIENTS_EVERY_MS);
    if (!this.dirty) return;
    this.dirty = false;
    const { clients = [], connections = 0, node = "", outbox_bytes = 0 } = this.found ?? {};
    this.rows.arrange(clients.map(({ client }) => client)).forEach(({ node: row, cells, state }, index) => {
      const each = clients[index];
      mark(row, "title", `${each.client}: ${[each.kind, each.name].filter(Boolean).join(", ")}`);
      say(cells[0], each.name ? `${each.user} · ${each.name}` : each.user);
      const behind = each.waiting_bytes > 0;
      chip(state, each.stalled ? "Stalled" : behind ? "Behind" : "Keeps up", each.stalled ? "bad" : behind ? "warn" : "good");
      say(cells[2], bytes(each.waiting_bytes));
      mark(cells[2], "title", `of ${bytes(outbox_bytes)}, then it is cut off`);
      say(cells[3], `${Math.round((100 * each.waiting_bytes) / outbox_bytes)}%`);
      say(cells[4], rate(each.conflated));
      say(cells[5], each.rtt_ms === null ? "–" : milliseconds(each.rtt_ms));
      say(cells[6], rate(each.subscriptions));
      say(cells[7], age(each.age_s * 1000));
    });
    show(this.section.querySelector("table"), clients.length > 0);
    this.summary(clients.length || Number(!this.refused.hidden), clients.length ? `slowest ${clients.length} of ${rate(connections)} on ${node}` : "");
  }
}

export class AuditView extends AdminPanel {
  constructor(context) {
    super("audit", context, "Verifying is for administrators. The signed heads are for everybody.");
    this.head = null;
    this.verdict = this.section.querySelector(".verdict");
    this.detail = this.section.querySelector(".detail");
    this.signed = this.section.querySelector(".head");
    this.button = this.section.querySelector(".verify");
    this.button.addEventListener("click", () => this.ask());
  }

  opened() {
    super.opened();
    show(this.button, this.allowed);
  }

  /** AUDIT_HEAD: anybody may keep it, as a witness. @param {import("./krin.js").Message} message */
  take({ type, data }) {
    if (type !== "AUDIT_HEAD" || this.head?.size > data.size) return;
    this.head = data;
    this.dirty = true;
  }

  async ask() {
    this.button.disabled = true;
    chip(this.verdict, "Reading the whole log", "muted");
    say(this.detail, "");
    const began = performance.now();
    const verdict = await this.call("audit.verify", {}, { timeout_ms: 120_000 });
    this.button.disabled = false;
    if (!verdict) {
      chip(this.verdict, "Not verified", "warn");
      return;
    }
    const { ok, rows, signed, fault } = verdict;
    const took = milliseconds(performance.now() - began);
    chip(this.verdict, ok ? "Verified" : `Broken at row ${rate(fault.sequence)}: ${fault.problem}`, ok ? "good" : "bad");
    say(this.detail, `Rows 1 to ${rate(rows)} are as they were written, the first ${rate(signed)} as they were signed. Read at ${time(Date.now())} in ${took}.`);
  }

  render() {
    if (!this.dirty) return;
    this.dirty = false;
    const { size, root, node, time: at } = this.head ?? {};
    this.summary(Number(this.head !== null), this.head ? `${rate(size)} rows` : "");
    say(this.signed, this.head ? `Newest signed head: ${rate(size)} rows at ${time(at)}, by ${node}, root ${root.slice(0, 16)}…` : "");
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
