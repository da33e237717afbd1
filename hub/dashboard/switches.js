/** The kill switch: what is halted, by whom and why, and how trading is stopped and goes on. */

import { time, words } from "./format.js";
import { Children, Panel, chip, make, mark, say, show } from "./dom.js";

const TONES = { HALTED: "bad", REDUCING: "warn" };
const MODES = { HALTED: "No orders", REDUCING: "Only orders that reduce" };

/** "ACCOUNT ada" as people say it. Pure. @param {{scope: string, name?: string}} state */
export const scopeOf = ({ scope, name }) => (scope === "GLOBAL" ? "everything" : `${scope.toLowerCase()} ${name}`);

const $ = (id) => document.getElementById(id);

export class SwitchesView extends Panel {
  #desk;
  #schedule;

  /** @param {{schedule: () => void}} context @param {import("./desk.js").Desk} desk */
  constructor(context, desk) {
    super("switches");
    this.#desk = desk;
    this.#schedule = () => context.schedule();
    this.states = new Map(); // TRADING_STATE by scope and name
    this.rows = new Children(this.section.querySelector("ul"), (key) => this.#row(key));
    this.form = $("halt-form");
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#halt();
    });
    this.form.addEventListener("input", () => this.#arm(false));
    $("halt-keep").addEventListener("click", () => this.#arm(false));
    this.armed = false;
  }

  /** What holds now; what was said while we were away may have been taken back. */
  async opened() {
    const { states } = await this.#desk.ask("risk.state", {}).catch(() => ({}));
    if (!states) return;
    this.states.clear();
    for (const state of states) this.take({ data: state });
    this.dirty = true;
    this.#schedule();
  }

  take({ data }) {
    const key = `${data.scope}:${data.name ?? "*"}`;
    if (data.mode === "ACTIVE") this.states.delete(key);
    else this.states.set(key, data);
    this.dirty = true;
  }

  render({ live }) {
    const { user, officer } = this.#desk;
    const own = Boolean(user) && this.#desk.may(user);
    show(this.form, own || officer);
    show($("halt-refused"), !own && !officer);
    for (const option of this.form.elements.namedItem("scope").options) {
      const allowed = officer || (own && option.value === "ACCOUNT");
      if (option.disabled === allowed) option.disabled = !allowed;
      if (option.selected && option.disabled) this.form.elements.namedItem("scope").value = "ACCOUNT";
    }
    const scope = this.form.elements.namedItem("scope").value;
    const name = this.form.elements.namedItem("name");
    show(name.parentElement, scope !== "GLOBAL" && officer);
    mark(name, "placeholder", scope === "ACCOUNT" ? user : null);
    $("halt-submit").disabled = !live;
    if (!this.dirty) return;
    this.dirty = false;
    const keys = [...this.states.keys()].sort();
    this.rows.arrange(keys).forEach((row, index) => {
      const { mode, reason, actor, ts_event, ...state } = this.states.get(keys[index]);
      chip(row.mode, words(mode), TONES[mode] ?? "muted");
      say(row.what, `${MODES[mode] ?? words(mode)} for ${scopeOf(state)}`);
      say(row.why, [reason, actor && `by ${actor}`, ts_event && `since ${time(ts_event / 1000)}`].filter(Boolean).join(" · "));
      show(row.resume, officer || actor === user);
    });
    this.summary(keys.length, keys.length === 1 ? "1 halt" : `${keys.length} halts`);
  }

  #row(key) {
    const [mode, what, reason, resume] = [make("span", "chip"), make("strong"), make("span", "message"), make("button", "small", "Resume")];
    resume.addEventListener("click", () => this.#resume(key));
    return { node: make("li", "", make("div", "line", mode, what, resume), reason), mode, what, why: reason, resume };
  }

  /** The first press asks, the second does. */
  #arm(armed) {
    this.armed = armed;
    const { scope, name } = this.#place();
    say($("halt-submit"), armed ? `Stop ${scopeOf({ scope, name })} now` : "Stop trading");
    show($("halt-keep"), armed);
  }

  #place() {
    const scope = this.form.elements.namedItem("scope").value;
    if (scope === "GLOBAL") return { scope, name: "*" };
    const name = this.form.elements.namedItem("name").value.trim();
    return { scope, name: name || (scope === "ACCOUNT" ? this.#desk.user : "") };
  }

  async #halt() {
    const { elements } = this.form;
    const reason = elements.namedItem("reason").value.trim();
    const place = this.#place();
    if (!place.name) return say($("halt-outcome"), `Name the ${place.scope.toLowerCase()}.`);
    if (!this.armed) return this.#arm(true);
    this.#arm(false);
    const params = { ...place, mode: elements.namedItem("mode").value, reason, cancel: elements.namedItem("cancel").checked };
    const done = await this.#command("risk.halt", params);
    if (!done) return undefined;
    elements.namedItem("reason").value = "";
    return say($("halt-outcome"), done.canceled ? `Open orders that are being canceled: ${done.canceled}.` : "No order was open.");
  }

  async #resume(key) {
    const [scope, name] = [key.slice(0, key.indexOf(":")), key.slice(key.indexOf(":") + 1)];
    if (await this.#command("risk.resume", { scope, name })) say($("halt-outcome"), `Trading of ${scopeOf({ scope, name })} goes on.`);
  }

  /** The answer, which is shown at once: the channel tells it too. Null: it failed, and why is said. */
  async #command(method, params) {
    say($("halt-outcome"), "");
    try {
      const answer = await this.#desk.command(method, params);
      this.take({ data: answer.state });
      this.#schedule();
      return answer;
    } catch (failure) {
      say($("halt-outcome"), `Not done: ${failure.message}`);
      return null;
    }
  }
}
