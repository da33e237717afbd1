/** What was said and what was noticed: search by meaning, the moment around a message, insights. */

import { age, amount, rate, time, words } from "./format.js";
import { Children, Panel, chip, make, mark, offer, say, show } from "./dom.js";
import { AdminPanel } from "./operate.js";
import { address } from "./session.js";

const HITS = 100; // the hub's most
const AROUND = 6; // messages before and after the one that a moment is about
const INSIGHT_ROWS = 100;
const READ_ROWS = 100; // of a channel, for what is noticed there
const LOOKED_AT = ["team", "tasks", "alerts", "trades"]; // without being asked, by rules
const MOST_LOOKED_AT = 8; // channels
const ERRORS_EVERY_MS = 30_000;
const DIGEST_ROWS = 8;
const VALUE_SHOWN = 80; // characters of a piece of evidence
const VALUES_ONLY = new Set(["prices", "book", "ticker", "instruments", "sources", "status", "positions", "trading", "bars", "system", "insights"]);

const SEVERITY_TONES = { CRITICAL: "bad", WARNING: "warn", INFO: "info" };
const VERDICTS = { accepted: "Accept", ignored: "Ignore", wrong: "Wrong" };
const MAKERS = { rules: "by rules", stat: "by statistics", llm: "by a model" };

const namespaceOf = (channel) => channel.split(":", 1)[0];
const hasHistory = (channel) => !VALUES_ONLY.has(namespaceOf(channel));
const isText = (part) => typeof part === "string";

/** What a message says, in a line. */
function gist({ data }) {
  const first = Array.isArray(data) ? data[0] : data;
  if (!first || typeof first !== "object") return String(first ?? "");
  const { specialist_id, symbol, side, title, statement, state, ord_status, activity, message, text, detail, size, price } = first;
  const stage = words(state ?? ord_status ?? activity);
  const traded = size && price && `${amount(size)} at ${amount(price)}`;
  const told = [specialist_id, symbol, side, traded, title ?? statement, stage, message ?? text ?? detail].filter((part) => part && isText(part));
  return (told.length ? told : Object.values(first).filter(isText)).join(" · ");
}

/** A sentence of the hub's with a capital, and its milliseconds as people read them. */
const readable = (text) => text[0].toUpperCase() + text.slice(1).replace(/\d+(?= ms\b)/g, (digits) => Number(digits).toLocaleString());

/** A button that shows the history around a message, in place, with the message marked. */
function jump(context, text, channel, offset, epoch = "") {
  const said = make("p", "muted");
  said.setAttribute("role", "status");
  const list = make("ol");
  const moment = make("div", "moment", said, list);
  moment.hidden = true;
  const button = make("button", "", text);
  button.type = "button";
  button.setAttribute("aria-expanded", "false");
  button.addEventListener("click", async () => {
    const opening = moment.hidden;
    show(moment, opening);
    button.setAttribute("aria-expanded", String(opening));
    if (!opening) return;
    say(said, `Reading ${channel} …`);
    list.replaceChildren();
    try {
      const since = { epoch, offset: Math.max(0, offset - AROUND - 1) };
      const { messages } = await context.krin().history(channel, { since, limit: 2 * AROUND + 1 });
      const near = messages.filter((message) => Math.abs(message.offset - offset) <= AROUND);
      const found = near.some((message) => message.offset === offset);
      say(said, found ? `${channel}, around number ${offset}` : `${channel}: message ${offset} is kept no longer.`);
      list.replaceChildren(...near.map((message) => momentLine(message, message.offset === offset)));
    } catch (failure) {
      say(said, `${channel} cannot be read: ${failure.message}`);
    }
  });
  return { button, moment };
}

function momentLine(message, meant) {
  const when = make("span", "muted", `${time(message.timestamp)} #${message.offset}`);
  const node = make("li", "", when, make("strong", "", words(message.type)), make("span", "", gist(message)));
  if (meant) node.setAttribute("aria-current", "true");
  return node;
}

/** Text with the words that were asked for marked. */
function marked(text, query) {
  const wanted = query.match(/[\p{L}\p{N}]{4,}/gu) ?? []; // shorter ones are in every sentence
  const node = make("p", "message");
  if (!wanted.length) node.append(text);
  else {
    const pattern = new RegExp(`(${wanted.join("|")})`, "giu");
    node.append(...text.split(pattern).map((part, index) => (index % 2 ? make("mark", "", part) : part)));
  }
  return node;
}

export class SearchView extends Panel {
  constructor(context) {
    super("search");
    this.context = context;
    this.form = this.section.querySelector("form");
    this.list = this.section.querySelector(".hits");
    this.said = this.section.querySelector(".said");
    this.asked = 0;
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.search();
    });
    for (const name of ["where", "since"]) this.form.elements.namedItem(name).addEventListener("change", () => this.search());
  }

  focus() {
    this.form.elements.namedItem("query").focus();
  }

  /** A namespace is looked for among the best hits, a channel is searched by itself. */
  heard(channels) {
    offer(this.form.elements.namedItem("where"), [...new Set(channels.filter(hasHistory).flatMap((name) => [namespaceOf(name), name]))]);
  }

  async search() {
    const [query, where, since] = ["query", "where", "since"].map((name) => this.form.elements.namedItem(name).value.trim());
    if (!query) return;
    const asked = (this.asked += 1);
    say(this.said, "Searching …");
    try {
      const channel = where.includes(":") ? where : undefined;
      const result = await this.context.krin().search(query, { channel, limit: HITS });
      if (asked === this.asked) this.#show(result, { query, where, since });
    } catch (failure) {
      if (asked === this.asked) say(this.said, `The search failed: ${failure.message}`);
    }
  }

  #show({ hits, mode, embedding_kind, degraded }, { query, where, since }) {
    const now_ms = Date.now() + this.context.krin().clock_offset_ms;
    const oldest = since ? now_ms - Number(since) * 1000 : 0;
    const wanted = hits.filter(({ channel, timestamp }) => timestamp >= oldest && ["", channel, namespaceOf(channel)].includes(where));
    this.list.replaceChildren(...wanted.map((hit) => this.#hit(hit, query, now_ms)));
    show(this.none, false);
    const of = wanted.length === hits.length ? "" : ` of the ${hits.length} best`;
    const how = embedding_kind === "lexical" ? `${mode}, lexical: the same words, no synonyms` : mode;
    say(this.said, `${wanted.length || "Nothing"}${of} found (${[how, degraded].filter(Boolean).join("; ")})`);
  }

  #hit({ channel, offset, epoch, timestamp, type, snippet, score, publisher }, query, now_ms) {
    const when = make("span", "muted when", `${time(timestamp)} · ${age(now_ms - timestamp)} ago`);
    const where = make("span", "muted where", [channel, publisher && `from ${publisher}`].filter(Boolean).join(" · "));
    const node = make("li", "", make("div", "line", make("strong", "", words(type)), where, when), marked(snippet, query));
    node.title = `score ${score.toFixed(4)}`;
    if (offset !== undefined) {
      const { button, moment } = jump(this.context, "Jump to moment", channel, offset, epoch);
      node.append(make("div", "line", button), moment);
    }
    return node;
  }
}

export class InsightsView extends Panel {
  constructor(context) {
    super("insights");
    this.context = context;
    /** @type {Map<string, any>} */
    this.insights = new Map();
    this.form = this.section.querySelector("form");
    this.said = this.section.querySelector(".said");
    /** @type {string[]} */
    this.channels = [];
    this.looked = false;
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.look(this.form.elements.namedItem("channel").value);
    });
    this.rows = new Children(this.section.querySelector(".insights"), (id) => this.#row(this.insights.get(id)));
  }

  /** Channels that have a history to be looked at. */
  heard(channels) {
    this.channels = channels.filter(hasHistory);
    offer(this.form.elements.namedItem("channel"), this.channels);
  }

  /** INSIGHT and INSIGHT_RETRACTED. @param {import("./krin.js").Message} message */
  take({ type, data }) {
    const known = this.insights.get(data.insight_id);
    if (type === "INSIGHT" && !known) this.insights.set(data.insight_id, { ...data, kept: true }); // and can be judged
    if (type === "INSIGHT_RETRACTED" && known) known.retracted = data.reason;
    this.#forget();
    this.dirty = true;
  }

  /** Ask what is to be noticed in a channel now. Where the hub has a model, that begins its work. */
  async look(channel) {
    if (!channel) return;
    say(this.said, `Reading ${channel} …`);
    try {
      const { status, items } = await this.#read(channel);
      const then = status === "pending" ? "A model was asked and answers here." : items.length ? "" : "Nothing noticed.";
      say(this.said, `${channel}: ${items.length} by rules and statistics in its newest ${READ_ROWS} messages. ${then}`);
    } catch (failure) {
      say(this.said, `${channel} cannot be read: ${failure.message}`);
    }
  }

  /** Each time the view comes up, what has happened since is looked at as well. */
  shown() {
    this.looked = false;
  }

  /** Only where no model is asked by it: that costs something. */
  async #lookAround() {
    this.looked = true;
    try {
      const { insights } = await (await fetch(address("health"))).json();
      if (insights !== "rules") return;
      const channels = this.channels.filter((name) => LOOKED_AT.includes(namespaceOf(name))).slice(0, MOST_LOOKED_AT);
      for (const channel of channels) await this.#read(channel);
      if (!this.said.textContent) say(this.said, `This hub has no model. Rules and statistics have looked at ${channels.join(", ")}.`);
    } catch (failure) {
      say(this.said, `Rules could not look around: ${failure.message}`);
    }
  }

  async #read(channel) {
    const query = new URLSearchParams({ limit: String(READ_ROWS), reverse: "true" });
    const { ai_insights } = await this.context.session.envelope(`v1/history/${encodeURIComponent(channel)}?${query}`);
    const { status, items = [] } = ai_insights ?? { status: "not available" };
    for (const item of items) {
      if (!this.insights.has(item.insight_id)) this.insights.set(item.insight_id, { ...item, kept: item.source.startsWith("llm:") });
    }
    this.#forget();
    this.dirty = true;
    this.context.schedule();
    return { status, items };
  }

  render() {
    if (!this.looked && this.channels.length) this.#lookAround();
    if (!this.dirty) return;
    this.dirty = false;
    const shown = [...this.insights.values()].sort((a, b) => b.generated_at - a.generated_at);
    this.rows.arrange(shown.map(({ insight_id }) => insight_id)).forEach((row, index) => {
      const { retracted, severity = "INFO" } = shown[index];
      chip(row.severity, retracted === undefined ? words(severity) : "Retracted", retracted === undefined ? SEVERITY_TONES[severity] : "muted");
      say(row.reason, retracted ? `Taken back: ${retracted}` : "");
      mark(row.node, "data-finished", retracted === undefined ? null : "");
    });
    this.summary(shown.length, String(shown.length));
  }

  #row(insight) {
    const { kind, subject, statement, confidence, source, degraded, generated_at, action, evidence, kept } = insight;
    const severity = make("span", "chip");
    const when = make("span", "muted when", time(generated_at / 1000));
    const [maker, name] = source.split(":", 2);
    const made = `${MAKERS[maker] ?? "by"} (${name ?? source})${degraded ? ", because no model answered" : ""}`;
    const about = make("p", "muted", `${subject} · ${Math.round(confidence * 100)}% sure · ${made}`);
    const reason = make("p", "message");
    const node = make("li", "", make("div", "line", severity, make("strong", "", words(kind)), when), make("p", "", readable(statement)), about, reason);
    if (action) about.before(make("p", "message", `Suggested: ${action}`));
    node.append(...this.#evidence(subject, evidence));
    if (kept) node.append(this.#feedback(insight));
    return { node, severity, reason };
  }

  /** Of what was published `ref` is an offset; of what was read just now a path, and the value may be one. */
  #evidence(subject, evidence) {
    const line = make("div", "line evidence", make("span", "muted", "Evidence"));
    const moments = [];
    for (const { ref, value } of evidence) {
      const offset = /^\d+$/.test(ref) ? Number(ref) : /offset$/.test(ref) ? Number(value) : NaN;
      if (Number.isInteger(offset)) {
        const { button, moment } = jump(this.context, /^\d+$/.test(ref) ? `#${ref} “${String(value).slice(0, VALUE_SHOWN)}”` : `#${value}`, subject, offset);
        button.title = "Jump to moment";
        line.append(button);
        moments.push(moment);
      } else line.append(make("span", "", readable(`${ref.replace(/^\$\S*, ?/, "")}: ${value}`.replace(/ in ms: (\d+)$/, ": $1 ms"))));
    }
    return [line, ...moments];
  }

  #feedback({ insight_id }) {
    const said = make("span", "muted");
    said.setAttribute("role", "status");
    const buttons = Object.entries(VERDICTS).map(([verdict, word]) => {
      const button = make("button", "", word);
      button.type = "button";
      button.setAttribute("aria-pressed", "false");
      button.addEventListener("click", async () => {
        try {
          await this.context.krin().call("insights.feedback", { insight_id, verdict });
          for (const each of buttons) each.setAttribute("aria-pressed", String(each === button));
          say(said, `Noted: ${verdict}`);
        } catch (failure) {
          say(said, `Not noted: ${failure.message}`);
        }
      });
      return button;
    });
    return make("div", "line", ...buttons, said);
  }

  #forget() {
    if (this.insights.size <= INSIGHT_ROWS) return;
    const oldest = [...this.insights.values()].sort((a, b) => a.generated_at - b.generated_at);
    for (const { insight_id } of oldest.slice(0, this.insights.size - INSIGHT_ROWS)) this.insights.delete(insight_id);
  }
}

/** What a team learned in a week. */
export class DigestView extends Panel {
  constructor() {
    super("digest");
    /** @type {Map<string, any>} */
    this.digests = new Map(); // the newest by channel
    this.rows = new Children(this.section.querySelector("ul"), () => {
      const title = make("strong");
      const detail = make("p", "message");
      return { node: make("li", "", title, detail), title, detail };
    });
  }

  take({ type, channel, data }) {
    if (type !== "KNOWLEDGE_DIGEST" || this.digests.get(channel)?.week > data.week) return;
    this.digests.set(channel, data);
    this.dirty = true;
  }

  render() {
    if (!this.dirty) return;
    this.dirty = false;
    const channels = [...this.digests.keys()].sort();
    this.rows.arrange(channels).forEach(({ title, detail }, index) => {
      const { week, knowledge, insights, entries } = this.digests.get(channels[index]);
      say(title, `${channels[index]}, ${week}: ${rate(knowledge)} learned, ${rate(insights)} insights`);
      say(detail, entries.slice(0, DIGEST_ROWS).map((entry) => `${words(entry.type)}: ${entry.title}`).join("\n"));
    });
    this.summary(channels.length, "");
  }
}

/** Errors of the hub that nobody meant to raise, by where they come from. */
export class ErrorsView extends AdminPanel {
  constructor(context) {
    super("errors", context, "What the hub itself got wrong is shown to administrators.");
    this.groups = null;
    this.rows = new Children(this.section.querySelector("ul"), () => {
      const type = make("strong");
      const when = make("span", "muted when");
      const place = make("p", "message");
      return { node: make("li", "", make("div", "line", type, when), place), type, when, place };
    });
  }

  async ask() {
    const found = await this.call("insights.errors", { limit: 20 });
    if (found) this.groups = found.errors;
    return found;
  }

  render(moment) {
    this.keepAsking(moment, ERRORS_EVERY_MS);
    if (!this.dirty) return;
    this.dirty = false;
    const groups = this.groups ?? [];
    this.rows.arrange(groups.map(({ fingerprint }) => fingerprint)).forEach(({ type, when, place, node }, index) => {
      const group = groups[index];
      say(type, `${group.type} × ${rate(group.occurrences)}`);
      say(when, time(group.last_at / 1000));
      say(place, group.frames[0] ?? "");
      mark(node, "title", group.frames.join("\n"));
    });
    this.summary(groups.length || Number(this.groups === null), groups.length ? String(groups.length) : "");
  }
}
