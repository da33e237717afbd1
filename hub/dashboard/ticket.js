/**
 * The order ticket. What the risk checks say is shown before anything is sent, and asked again while the market moves.
 * Rule: one ticket filled in is one order, or two of which one cancels the other. They keep their names until the hub
 * has answered, however often they are sent.
 */

import { amount, product, words } from "./format.js";
import { Panel, chip, make, mark, offer, say, show } from "./dom.js";
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
  OCO: ["price", "stop_price"],
};
const REFUSED = new Set(["DENIED", "REJECTED"]);
const NUMBERS = { qty: "a quantity", price: "a limit price", stop_price: "a stop price", trail: "the trailing distance" };

/**
 * The orders that a form says, or what is missing of them. Pure.
 * @param {Record<string, string>} fields @param {number} now_ms  by the hub's clock
 * @returns {{orders: Record<string, any>[], missing: null} | {orders: null, missing: string}}
 */
export function ordersOf(fields, now_ms) {
  const { account, side, order_type, tif } = fields;
  const order = { account, symbol: fields.symbol.trim(), side, order_type, tif };
  if (!order.symbol) return { orders: null, missing: "Choose a symbol." };
  for (const name of ["qty", ...PRICES_OF[order_type]]) {
    const text = fields[name].trim();
    if (!text) return { orders: null, missing: `Enter ${NUMBERS[name]}.` };
    if (!DECIMAL.test(text)) return { orders: null, missing: `“${text}” is no number: write it like 1234.5.` };
    order[name] = text;
  }
  if (tif === "GTD") {
    const minutes = Number(fields.minutes);
    if (!(minutes > 0)) return { orders: null, missing: "Enter for how many minutes." };
    order.expire_at = Math.round((now_ms + minutes * 60_000) * 1000);
  }
  if (fields.post_only) order.post_only = true;
  if (fields.reduce_only) order.reduce_only = true;
  return { orders: order_type === "OCO" ? oneCancelsTheOther(order) : [order], missing: null };
}

/** A limit and a stop of the same quantity. Pure. */
function oneCancelsTheOther({ price, stop_price, post_only, ...both }) {
  const limit = { ...both, order_type: "LIMIT", price, ...(post_only && { post_only }) };
  return [limit, { ...both, order_type: "STOP", stop_price }].map((order) => ({ ...order, contingency: "OCO" }));
}

/** Under names that nobody else has given. */
function named(orders) {
  const list = orders.length > 1 ? { list_id: newId() } : {};
  return orders.map((order) => ({ ...order, ...list, client_order_id: newId() }));
}

const RESULTS = ["APPROVED", "NEEDS_APPROVAL", "REFUSED"]; // the worst last

/** What is said of several orders that are placed together or not at all. Pure. */
function together(decisions) {
  const worst = Math.max(...decisions.map(({ result }) => RESULTS.indexOf(result)));
  const faults = new Map(decisions.flatMap(({ faults = [] }) => faults).map((fault) => [JSON.stringify(fault), fault]));
  return { ...decisions[0], result: RESULTS[worst], faults: [...faults.values()] };
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
  /** @type {{orders: any[], decision?: any, failure?: Error} | null} */ #preview = null;
  /** @type {Record<string, any>[] | null} */ #sent = null; // the orders under way, or of unknown fate
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

  /** Whose orders are written here, where there is a choice. */
  heard(channels) {
    const account = this.#form.elements.namedItem("account");
    offer(account, this.#desk.accounts(channels).filter((each) => this.#desk.may(each)));
    show(account.parentElement, account.options.length > 1);
  }

  /** Trade for the account that is looked at. @param {string} account */
  choose(account) {
    if (this.#desk.may(account)) this.fill({ account });
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
    return { ...fields, account: fields.account || this.#desk.user };
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
    const { orders } = ordersOf(this.#fields(), this.#now_ms);
    if (!orders || !this.#live || this.#sent || !this.#desk.may(orders[0].account)) return;
    if (this.#preview?.failure?.name === "mfa_required") return; // until somebody confirms
    const turn = this.#turn;
    this.#asked_at = performance.now();
    this.#learn(orders[0].symbol);
    let preview;
    try {
      const asked = named(orders).map((order) => this.#desk.ask("orders.validate", order, PREVIEW_WITHIN_MS));
      preview = { orders, decision: together(await Promise.all(asked)) };
    } catch (failure) {
      preview = { orders, failure };
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
      await this.#desk.command("orders.validate", named(this.#preview.orders)[0]);
      this.#changed();
    } catch (failure) {
      say($("ticket-outcome"), failure.message);
    }
  }

  async #send() {
    if (this.#sent && !this.#unsure) return; // pressed twice
    if (!this.#sent && this.#obstacle() !== null) return;
    this.#sent ??= named(this.#preview.orders);
    this.#unsure = false;
    this.#turn += 1;
    say($("ticket-outcome"), "");
    this.#draw();
    try {
      const reports = await this.#submit(this.#sent);
      this.#form.elements.namedItem("qty").value = ""; // a third click finds nothing to send
      const outcomes = reports.map((report) => [words(report.ord_status), why(report.reject_reason), report.text].filter(Boolean).join(": "));
      const { side, order_qty, symbol } = reports[0];
      this.#settle(`${side} ${amount(order_qty)} ${symbol}. ${outcomes.length > 1 ? `Limit: ${outcomes[0]}. Stop: ${outcomes[1]}` : outcomes[0]}.`);
    } catch (failure) {
      this.#unsure = isOpen(failure);
      if (this.#unsure) this.#draw();
      else this.#settle(`Not placed: ${failure.message}.`);
    }
  }

  /** One after the other. Of two that belong together none is left alone. */
  async #submit(orders) {
    const reports = [];
    try {
      for (const order of orders) {
        reports.push(await this.#desk.command("orders.submit", order));
        if (REFUSED.has(reports.at(-1).ord_status)) break;
      }
    } catch (failure) {
      if (!isOpen(failure)) await this.#takeBack(reports);
      throw failure;
    }
    const refused = reports.at(-1);
    return REFUSED.has(refused.ord_status) ? [...(await this.#takeBack(reports.slice(0, -1))), refused] : reports;
  }

  /** @returns {Promise<any[]>} how they stand then */
  #takeBack(reports) {
    const canceled = reports.map(({ account, client_order_id }) => this.#desk.command("orders.cancel", { account, client_order_id }));
    return Promise.all(canceled.map((each, index) => each.catch((failure) => {
      if (failure.name === "illegal_transition") return reports[index]; // it has ended by itself
      throw failure;
    })));
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
    const { missing } = ordersOf(fields, this.#now_ms);
    if (missing) return missing;
    if (!this.#preview) return "Checking…";
    const { failure, decision } = this.#preview;
    if (failure) return failure.name === "mfa_required" ? "Trading needs your second factor." : `Not checked: ${failure.message}.`;
    return decision.result === "REFUSED" ? verdict(decision)[0] : null;
  }

  #draw() {
    const obstacle = this.#obstacle();
    const { decision, orders, failure } = this.#preview ?? {};
    const order = orders?.at(-1); // of two the stop has the worse price
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
