/**
 * The order ticket. What the risk checks say is shown before anything is sent, and asked again while the market moves.
 * Rule: one ticket filled in is one order. It keeps its name until the hub has answered, however often it is sent.
 */

import { amount, product, words } from "./format.js";
import { Panel, chip, make, mark, say, show } from "./dom.js";
import { isOpen, newId } from "./desk.js";
import { measured, why } from "./reasons.js";

const ASK_AFTER_MS = 250; // without another key
const ASK_AGAIN_MS = 2000;
const PREVIEW_WITHIN_MS = 5000;
const DECIMAL = /^\d+(\.\d+)?$/;

/** @type {Record<string, string[]>} */
export const PRICES_OF = {
  MARKET: [],
  LIMIT: ["price"],
  STOP: ["stop_price"],
  STOP_LIMIT: ["price", "stop_price"],
  TRAILING_STOP: ["trail"],
};
const NUMBERS = { qty: "a quantity", price: "a limit price", stop_price: "a stop price", trail: "the trailing distance" };

/**
 * The order that a form says, or what is missing of it. Pure.
 * @param {Record<string, string>} fields @param {number} now_ms  by the hub's clock
 * @returns {{order: Record<string, any>, missing: null} | {order: null, missing: string}}
 */
export function orderOf(fields, now_ms) {
  const { account, side, order_type, tif } = fields;
  const order = { account, symbol: fields.symbol.trim(), side, order_type, tif };
  if (!order.symbol) return { order: null, missing: "Choose a symbol." };
  for (const name of ["qty", ...PRICES_OF[order_type]]) {
    const text = fields[name].trim();
    if (!text) return { order: null, missing: `Enter ${NUMBERS[name]}.` };
    if (!DECIMAL.test(text)) return { order: null, missing: `“${text}” is no number: write it like 1234.5.` };
    order[name] = text;
  }
  if (tif === "GTD") {
    const minutes = Number(fields.minutes);
    if (!(minutes > 0)) return { order: null, missing: "Enter for how many minutes." };
    order.expire_at = Math.round((now_ms + minutes * 60_000) * 1000);
  }
  if (fields.post_only) order.post_only = true;
  if (fields.reduce_only) order.reduce_only = true;
  return { order, missing: null };
}

/** The worst price that is expected of an order, and what it is worth then; empty where nobody knows. Pure. */
export function estimate(order, market) {
  const met = order.side === "BUY" ? market?.ask : market?.bid;
  const price = order.price ?? order.stop_price ?? met ?? market?.mid ?? null;
  return price === null ? {} : { price, notional: product(price, order.qty) };
}

/** What may be said of a decision in one line, and its tone. Pure. @returns {[string, string]} */
export function verdict({ result, faults = [] }) {
  if (result === "APPROVED") return ["Passes every check", "good"];
  const reasons = faults.length === 1 ? "1 reason" : `${faults.length} reasons`;
  return result === "NEEDS_APPROVAL" ? [`Must be approved: ${reasons}`, "warn"] : [`Would be refused: ${reasons}`, "bad"];
}

const $ = (id) => document.getElementById(id);

export class Ticket extends Panel {
  #desk;
  #prices;
  #form = $("ticket-form");
  #turn = 0; // of the questions; an answer to an earlier one is not shown
  #asked_at = 0;
  #timer;
  /** @type {{order: any, decision?: any, failure?: Error} | null} */ #preview = null;
  /** @type {Record<string, any> | null} */ #sent = null; // the order under way, or of unknown fate
  #unsure = false;
  #live = false;
  #now_ms = Date.now();
  #instruments = new Map();

  /** @param {import("./desk.js").Desk} desk @param {import("./trading.js").PricesView} prices */
  constructor(desk, prices) {
    super("ticket");
    this.#desk = desk;
    this.#prices = prices;
    this.#form.addEventListener("input", () => this.#changed());
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    $("ticket-again").addEventListener("click", () => this.#send());
    $("ticket-leave").addEventListener("click", () => this.#settle("Left as it is. If it was placed, the orders show it."));
    $("ticket-confirm").addEventListener("click", () => this.#confirm());
    this.#changed();
  }

  /** Whoever proved a second factor may trade now. */
  opened() {
    if (this.#preview?.failure) this.#changed();
  }

  /** What is being looked at is what is likely traded. */
  shown() {
    if (!this.#form.elements.namedItem("symbol").value && this.#prices.chosen) this.fill({ symbol: this.#prices.chosen });
  }

  /** Fill in what somebody has chosen elsewhere. @param {Record<string, string>} fields */
  fill(fields) {
    if (this.#sent) return;
    for (const [name, value] of Object.entries(fields)) this.#form.elements.namedItem(name).value = value;
    this.#changed();
  }

  render({ now_ms, live, ticking }) {
    this.#now_ms = now_ms;
    this.#live = live;
    const { symbols } = this.#prices;
    const list = $("ticket-symbols");
    if (list.childElementCount !== symbols.length) {
      list.replaceChildren(...symbols.map((symbol) => make("option", "", symbol)));
    }
    if (ticking && live && performance.now() - this.#asked_at > ASK_AGAIN_MS) this.#ask();
    this.#draw();
  }

  #fields() {
    const chosen = [...this.#form.elements].filter(({ type, checked }) => checked || !["radio", "checkbox"].includes(type));
    const fields = Object.fromEntries(chosen.map(({ name, value }) => [name, value])); // FormData leaves out what is disabled
    const typed = fields.symbol.trim().toLowerCase();
    fields.symbol = this.#prices.symbols.find((symbol) => symbol.toLowerCase() === typed) ?? fields.symbol;
    return { account: this.#desk.user, ...fields };
  }

  #changed() {
    this.#preview = null;
    this.#turn += 1;
    say($("ticket-outcome"), "");
    const { order_type, tif } = this.#fields();
    for (const name of ["price", "stop_price", "trail"]) {
      show(this.#form.elements.namedItem(name).parentElement, PRICES_OF[order_type].includes(name));
    }
    show(this.#form.elements.namedItem("minutes").parentElement, tif === "GTD");
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ask(), ASK_AFTER_MS);
    this.#draw();
  }

  /** What would the risk checks say? Nothing comes of it. */
  async #ask() {
    const { order } = orderOf(this.#fields(), this.#now_ms);
    if (!order || !this.#live || this.#sent || !this.#desk.may(order.account)) return;
    if (this.#preview?.failure?.name === "mfa_required") return; // until somebody confirms
    const turn = this.#turn;
    this.#asked_at = performance.now();
    this.#learn(order.symbol);
    let preview;
    try {
      const params = { ...order, client_order_id: newId() };
      preview = { order, decision: await this.#desk.ask("orders.validate", params, PREVIEW_WITHIN_MS) };
    } catch (failure) {
      preview = { order, failure };
    }
    if (turn !== this.#turn || this.#sent) return;
    this.#preview = preview;
    this.#draw();
  }

  /** How a symbol trades, once. */
  async #learn(symbol) {
    if (this.#instruments.has(symbol)) return;
    this.#instruments.set(symbol, null);
    const instrument = await this.#desk.instrument(symbol).catch(() => null);
    if (instrument) this.#instruments.set(symbol, instrument);
    else this.#instruments.delete(symbol);
    this.#draw();
  }

  async #confirm() {
    try {
      await this.#desk.command("orders.validate", { ...this.#preview.order, client_order_id: newId() });
      this.#changed();
    } catch (failure) {
      say($("ticket-outcome"), failure.message);
    }
  }

  async #send() {
    if (this.#sent && !this.#unsure) return; // pressed twice
    if (!this.#sent && this.#obstacle() !== null) return;
    this.#sent ??= { ...this.#preview.order, client_order_id: newId() };
    this.#unsure = false;
    this.#turn += 1;
    say($("ticket-outcome"), "");
    this.#draw();
    try {
      const report = await this.#desk.command("orders.submit", this.#sent);
      this.#form.elements.namedItem("qty").value = ""; // a third click finds nothing to send
      const outcome = [words(report.ord_status), why(report.reject_reason), report.text].filter(Boolean).join(": ");
      this.#settle(`${report.side} ${amount(report.order_qty)} ${report.symbol}. ${outcome}.`);
    } catch (failure) {
      this.#unsure = isOpen(failure);
      if (this.#unsure) this.#draw();
      else this.#settle(`Not placed: ${failure.message}.`);
    }
  }

  #settle(outcome) {
    this.#sent = null;
    this.#unsure = false;
    this.#changed();
    say($("ticket-outcome"), outcome);
  }

  /** Why nothing can be sent now, in words; null: it can. */
  #obstacle() {
    const fields = this.#fields();
    if (!this.#live) return "Not live: nothing can be sent.";
    if (!this.#desk.may(fields.account)) return "This account may look and not trade: that needs the role trader.";
    if (this.#unsure) return "";
    if (this.#sent) return "Sending…";
    const { missing } = orderOf(fields, this.#now_ms);
    if (missing) return missing;
    if (!this.#preview) return "Checking…";
    const { failure, decision } = this.#preview;
    if (failure) return failure.name === "mfa_required" ? "Trading needs your second factor." : `Not checked: ${failure.message}.`;
    return decision.result === "REFUSED" ? verdict(decision)[0] : null;
  }

  #draw() {
    const obstacle = this.#obstacle();
    const { decision, order, failure } = this.#preview ?? {};
    const { side, qty, symbol } = order ?? this.#fields();
    const button = $("ticket-submit");
    button.disabled = obstacle !== null;
    this.#form.firstElementChild.disabled = this.#sent !== null;
    const verb = side === "BUY" ? "Buy" : "Sell";
    say(button, decision?.result === "NEEDS_APPROVAL" ? `${verb}, once approved` : `${verb} ${amount(qty)} ${symbol}`.trim());
    mark(button, "data-side", side);
    const [text, tone] = decision ? verdict(decision) : [obstacle, failure ? "bad" : "muted"];
    chip($("ticket-verdict"), obstacle && obstacle !== text ? obstacle : text, obstacle && obstacle !== text ? "muted" : tone);
    show($("ticket-confirm"), failure?.name === "mfa_required");
    show($("ticket-unsure"), this.#unsure);
    this.#drawEstimate(order, decision);
    const faults = decision?.faults ?? [];
    if (this.faults !== faults) {
      this.faults = faults;
      const lines = faults.map((fault) => make("li", "", make("strong", "", why(fault.reason)), make("span", "muted", measured(fault))));
      $("ticket-faults").replaceChildren(...lines);
    }
  }

  #drawEstimate(order, decision) {
    const { price, notional } = decision ? estimate(order, decision.market) : {};
    const quote = this.#instruments.get(order?.symbol)?.quote ?? "";
    say($("ticket-price"), price ? `${amount(price)} ${quote}` : "–");
    say($("ticket-notional"), notional ? `${amount(notional)} ${quote}` : "–");
    const market = decision?.market;
    const quoted = market?.bid && market?.ask ? `${amount(market.bid)} / ${amount(market.ask)}` : "–";
    say($("ticket-market"), market?.state ? `${quoted} ${words(market.state)}` : quoted);
    const known = this.#instruments.get(this.#fields().symbol);
    say($("ticket-steps"), known ? `Quantity in steps of ${known.lot_size}, price of ${known.tick_size}` : "");
  }
}
