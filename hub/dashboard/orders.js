/** What became of orders: the blotter with its commands, fills, positions. `take` only remembers; `render` draws. */

import { amount, average, plain, profit, sum, time, words } from "./format.js";
import { Children, Panel, Widths, chip, figure, make, mark, offer, say, show, tableRow } from "./dom.js";
import { isOpen, newId } from "./desk.js";
import { why } from "./reasons.js";

const BLOTTER_ROWS = 200;
const FILL_ROWS = 100;
const ASKED_ACCOUNTS = 20; // for their open orders, however old
const ASKED_ORDERS = 500; // the hub's most at a time

const ORDER_TONES = {
  FILLED: "good",
  PARTIALLY_FILLED: "info",
  NEW: "info",
  REJECTED: "bad",
  DENIED: "bad",
  PENDING_APPROVAL: "warn",
  SUSPENDED: "warn",
};
/** May be canceled; of these some may be changed. */
const LIVE = new Set(["PENDING_APPROVAL", "PENDING_NEW", "NEW", "PARTIALLY_FILLED", "SUSPENDED"]);
const CHANGEABLE = new Set(["NEW", "PARTIALLY_FILLED"]);
const OPEN = new Set([...LIVE, "INITIALIZED", "PENDING_CANCEL", "PENDING_REPLACE"]);

const ORDER_CELLS = [
  ["c-time", ""],
  ["c-order-symbol", ""],
  ["c-side", ""],
  ["c-status", ""],
  ["num c-qty", "Qty"],
  ["num c-qty c-filled", "Filled"],
  ["num c-px c-limit", "Limit"],
  ["num c-avg", "Avg"],
  ["c-paper", ""],
  ["c-do", ""],
];
const ADJUSTABLE = { 4: "qty", 6: "price" }; // column -> what a replacement may say

export class OrdersView extends Panel {
  #desk;
  #asked = new Set(); // accounts, over this connection
  #asking = Promise.resolve(); // one account after the other
  #changing = null; // id of the order whose row is being typed into

  /** @param {{schedule: () => void}} context @param {import("./desk.js").Desk} desk */
  constructor(context, desk) {
    super("orders");
    this.redraw = () => {
      this.dirty = true;
      context.schedule();
    };
    this.#desk = desk;
    /** @type {Map<string, any>} */
    this.orders = new Map(); // by account and client order id, newest last
    this.rows = new Children(this.section.querySelector("tbody"), (id) => this.#row(id));
    this.widths = new Widths(this.section.querySelector("table"));
    this.outcome = document.getElementById("orders-outcome");
    this.openOnly = /** @type {HTMLInputElement} */ (document.getElementById("orders-open"));
    this.openOnly.addEventListener("change", this.redraw);
    this.account = /** @type {HTMLSelectElement} */ (document.getElementById("orders-account"));
  }

  opened() {
    this.#asked.clear();
  }

  heard(channels) {
    const accounts = this.#desk.accounts(channels);
    offer(this.account, accounts);
    show(this.account, this.account.options.length > 2);
    for (const account of accounts.slice(0, ASKED_ACCOUNTS)) {
      if (this.#asked.has(account)) continue;
      this.#asked.add(account);
      this.#asking = this.#asking.then(() => this.#seed(account)).catch(() => this.#asked.delete(account)); // and again
    }
  }

  /** An order may have been open for longer than the messages go back. What those say of it is newer. */
  async #seed(account) {
    const { orders } = await this.#desk.ask("orders.list", { account, open: true, limit: ASKED_ORDERS });
    const open = new Set(orders.map(({ client_order_id }) => `${account}/${client_order_id}`));
    for (const [id, order] of this.orders) if (order.listed && order.account === account && !open.has(id)) this.orders.delete(id);
    for (const data of orders) {
      if (!this.orders.has(`${account}/${data.client_order_id}`)) this.take({ data: { ...data, listed: true }, timestamp: 0, offset: -1 });
    }
    this.redraw();
  }

  /** EXECUTION_REPORT and ORDER_EVENT alike: a field that a report leaves out keeps its value. */
  take({ data, timestamp, offset }) {
    const id = `${data.account}/${data.client_order_id}`;
    // A replacement carries on as the order it replaced.
    const earlier = this.orders.get(id) ?? this.orders.get(`${data.account}/${data.orig_client_order_id}`);
    if (earlier && earlier.offset >= offset) return; // history read again after a loss
    if (data.orig_client_order_id) this.orders.delete(`${data.account}/${data.orig_client_order_id}`);
    const at = data.ts_event ? data.ts_event / 1000 : timestamp;
    this.orders.set(id, { ...earlier, listed: false, ...data, at, opened_at: earlier?.opened_at ?? at, offset });
    if (this.orders.size > 2 * BLOTTER_ROWS) this.#forget();
    this.dirty = true;
  }

  render() {
    if (!this.dirty) return;
    this.dirty = false;
    const seen = [...this.orders].filter(([, order]) => this.#desk.shows(order.account));
    const open = seen.filter(([, order]) => OPEN.has(order.ord_status)).length;
    const wanted = seen.filter(([, order]) => !this.openOnly.checked || OPEN.has(order.ord_status));
    wanted.sort(([, a], [, b]) => b.opened_at - a.opened_at);
    const shown = wanted.filter(([, order], index) => index < BLOTTER_ROWS || OPEN.has(order.ord_status));
    const rows = this.rows.arrange(shown.map(([id]) => id));
    rows.forEach((row, index) => this.#draw(row, ...shown[index]));
    this.summary(shown.length, `${shown.length} · ${open} open`);
  }

  #row(id) {
    const row = tableRow(ORDER_CELLS.map(([name]) => name));
    row.cells.forEach((cell, index) => (cell.dataset.label = ORDER_CELLS[index][1])); // shown where rows are cards
    const status = make("span", "chip");
    row.cells[3].append(status);
    const paper = make("span", "tag", "PAPER");
    paper.hidden = true;
    row.cells[8].append(paper);
    const [change, cancel] = ["Change", "Cancel"].map((name) => make("button", "small", name));
    change.addEventListener("click", () => (this.#changing === id ? this.#replace(id) : this.#edit(id)));
    cancel.addEventListener("click", () => (this.#changing === id ? this.#leave() : this.#cancel(id)));
    row.cells[9].append(change, cancel);
    return { ...row, status, paper, change, cancel, inputs: null };
  }

  #draw(row, id, order) {
    const { node, cells, status, paper, change, cancel } = row;
    mark(node, "title", [order.account, order.client_order_id, order.order_type, order.tif, order.text].filter(Boolean).join(" · "));
    say(cells[0], time(order.at));
    figure(cells[1], this.widths, "symbol", order.symbol ?? "");
    say(cells[2], order.side ?? "");
    mark(cells[2], "data-tone", order.side === "BUY" ? "up" : "down");
    chip(status, words(order.ord_status), ORDER_TONES[order.ord_status] ?? "muted");
    mark(status, "title", why(order.reject_reason) || null);
    if (!row.inputs) {
      figure(cells[4], this.widths, "qty", amount(order.order_qty));
      figure(cells[6], this.widths, "price", amount(order.price ?? order.stop_price) || words(order.order_type));
    }
    figure(cells[5], this.widths, "qty", amount(order.cum_qty));
    const filled = Number(order.cum_qty) > 0 && order.avg_px;
    figure(cells[7], this.widths, "avg", filled ? average(order.avg_px, order.price) : "");
    mark(cells[7], "title", filled ? order.avg_px : null);
    paper.hidden = !order.paper;
    const mine = this.#desk.may(order.account);
    show(change, mine && CHANGEABLE.has(order.ord_status) && Boolean(order.price));
    show(cancel, mine && LIVE.has(order.ord_status));
    for (const button of [change, cancel]) {
      mark(button, "aria-label", `${button.textContent} ${order.side} ${order.order_qty} ${order.symbol}`);
    }
    if (row.inputs && !CHANGEABLE.has(order.ord_status)) this.#leave(); // it traded or ended meanwhile
  }

  /** Type into the row itself. */
  #edit(id) {
    this.#leave();
    const [row, order] = [this.rows.byKey.get(id), this.orders.get(id)];
    if (!row || !order) return;
    this.#changing = id;
    row.inputs = Object.entries(ADJUSTABLE).map(([column, name]) => {
      const input = /** @type {HTMLInputElement} */ (make("input"));
      Object.assign(input, { name, value: name === "qty" ? order.order_qty : order.price, inputMode: "decimal" });
      input.setAttribute("aria-label", name === "qty" ? "New quantity in all" : "New limit price");
      input.addEventListener("keydown", ({ key }) => {
        if (key === "Enter") this.#replace(id);
        if (key === "Escape") this.#leave();
      });
      row.cells[column].replaceChildren(input);
      row.cells[column].$text = null;
      return input;
    });
    say(row.change, "Save");
    say(row.cancel, "Leave");
    row.inputs[1].select();
  }

  #leave() {
    const row = this.rows.byKey.get(this.#changing);
    this.#changing = null;
    if (!row?.inputs) return;
    row.inputs = null;
    say(row.change, "Change");
    say(row.cancel, "Cancel");
    this.redraw();
  }

  #replace(id) {
    const [row, order] = [this.rows.byKey.get(id), this.orders.get(id)];
    const said = Object.fromEntries(row.inputs.map(({ name, value }) => [name, value.trim()]));
    const before = { qty: order.order_qty, price: order.price };
    const changed = Object.entries(said).filter(([name, value]) => value && value !== before[name]);
    this.#leave();
    if (changed.length === 0) return;
    const params = { ...this.#named(order, "orig_client_order_id"), client_order_id: newId(), ...Object.fromEntries(changed) };
    this.#command("orders.replace", params, order);
  }

  #cancel(id) {
    const order = this.orders.get(id);
    this.#command("orders.cancel", this.#named(order, "client_order_id"), order);
  }

  #named = (order, field) => ({ account: order.account, [field]: order.client_order_id });

  async #command(method, params, order) {
    const what = `${order.side} ${amount(order.order_qty)} ${order.symbol}`;
    try {
      const report = await this.#desk.command(method, params);
      const refused = report.exec_type === "REPLACE_REJECTED";
      const reason = [why(report.reject_reason), report.text].filter(Boolean).join(" · ");
      say(this.outcome, refused ? `${what} stays as it is: ${reason}` : "");
    } catch (failure) {
      const fate = isOpen(failure) ? "perhaps not done, the row will show it" : "not done";
      say(this.outcome, `${what}: ${fate} (${failure.message})`);
    }
  }

  #forget() {
    const ended = [...this.orders].filter(([, order]) => !OPEN.has(order.ord_status));
    const oldest = ended.sort(([, a], [, b]) => a.opened_at - b.opened_at);
    for (const [id] of oldest.slice(0, BLOTTER_ROWS)) this.orders.delete(id);
  }
}

export class FillsView extends Panel {
  /** @param {import("./desk.js").Desk} desk */
  constructor(desk) {
    super("fills");
    this.desk = desk;
    /** @type {any[]} */
    this.fills = []; // newest first
    const classes = ["c-time", "c-order-symbol", "c-side", "num c-qty", "num c-px", "c-liquidity"];
    this.rows = new Children(this.section.querySelector("tbody"), () => tableRow(classes));
    this.widths = new Widths(this.section.querySelector("table"));
  }

  take({ channel, data, timestamp, offset }) {
    const id = `${channel}/${offset}`;
    if (this.fills.some((fill) => fill.id === id)) return; // history read again after a loss
    this.fills.unshift({ ...data, id, at: data.ts_event ? data.ts_event / 1000 : timestamp });
    this.fills.sort((a, b) => b.at - a.at);
    if (this.fills.length > FILL_ROWS) this.fills.length = FILL_ROWS;
    this.dirty = true;
  }

  render() {
    if (!this.dirty) return;
    this.dirty = false;
    const shown = this.fills.filter(({ account }) => this.desk.shows(account));
    this.rows.arrange(shown.map((_, index) => String(index))).forEach(({ node, cells }, index) => {
      const fill = shown[index];
      const cost = fill.commission && Number(fill.commission) ? `commission ${fill.commission} ${fill.commission_asset}` : "";
      mark(node, "title", [fill.account, fill.client_order_id, words(fill.exec_type), cost].filter(Boolean).join(" · "));
      say(cells[0], time(fill.at));
      figure(cells[1], this.widths, "symbol", fill.symbol);
      say(cells[2], fill.side);
      mark(cells[2], "data-tone", fill.side === "BUY" ? "up" : "down");
      figure(cells[3], this.widths, "qty", amount(fill.last_qty));
      figure(cells[4], this.widths, "price", amount(fill.last_px));
      say(cells[5], words(fill.liquidity));
    });
    this.summary(shown.length, String(shown.length));
  }
}

export class PositionsView extends Panel {
  /** @param {import("./desk.js").Desk} desk */
  constructor(desk) {
    super("positions");
    this.desk = desk;
    this.held = new Map(); // POSITION by account and symbol
    this.balances = new Map(); // BALANCE by account and asset
    const classes = ["c-order-symbol", "c-account", "num c-qty", "num c-px", "num c-px c-mark", "num c-pnl", "num c-pnl c-realized"];
    this.rows = new Children(this.section.querySelector("tbody"), () => tableRow(classes));
    this.widths = new Widths(this.section.querySelector("table"));
    this.funds = new Children(this.section.querySelector(".balances"), (key) => {
      const [name, value] = [make("dt", "", key), make("dd")];
      return { node: make("div", "", name, value), name, value };
    });
  }

  take({ type, data }) {
    const [map, name] = type === "BALANCE" ? [this.balances, data.asset] : [this.held, data.symbol];
    map.set(`${data.account}/${name}`, data);
    this.dirty = true;
  }

  render() {
    if (!this.dirty) return;
    this.dirty = false;
    const seen = (map) => [...map].filter(([, { account }]) => this.desk.shows(account)).map(([key]) => key).sort();
    const keys = seen(this.held);
    this.rows.arrange(keys).forEach(({ cells }, index) => {
      const position = this.held.get(keys[index]);
      figure(cells[0], this.widths, "symbol", position.symbol);
      say(cells[1], position.account);
      figure(cells[2], this.widths, "qty", amount(plain(position.qty)));
      figure(cells[3], this.widths, "price", position.avg_px_open ? average(position.avg_px_open, position.mark) : "–");
      figure(cells[4], this.widths, "price", amount(position.mark) || "–");
      drawProfit(cells[5], position.unrealized_pnl ?? "0");
      drawProfit(cells[6], position.realized_pnl ?? "0");
    });
    const balances = seen(this.balances);
    this.funds.arrange(balances).forEach(({ name, value }, index) => {
      const { account, asset, free, locked } = this.balances.get(balances[index]);
      say(name, `${account} ${asset}`);
      say(value, `${amount(plain(free))}${Number(locked ?? 0) ? ` and ${amount(plain(locked))} in orders` : ""}`);
    });
    const open = keys.map((key) => this.held.get(key).unrealized_pnl ?? "0");
    this.summary(keys.length, `${keys.length} · open profit ${profit(sum(open))}`);
  }
}

function drawProfit(cell, decimal) {
  say(cell, profit(decimal));
  const value = Number(decimal);
  mark(cell, "data-tone", value > 0 ? "up" : value < 0 ? "down" : null);
  mark(cell, "title", decimal);
}
