/** Prices and the trades tape. `take` is called per message and only remembers; `render` draws. */

import { age, amount, percent, time, words } from "./format.js";
import { Children, Panel, Widths, chip, figure, make, mark, say, tableRow } from "./dom.js";

const STALE_AFTER_MS = 10_000;
const TREND_POINTS = 300; // one per second
const TREND_WIDTH = 62;
const TREND_HEIGHT = 18;
const TAPE_ROWS = 60;

export const QUOTE_TONES = { LIVE: "good", DEGRADED: "warn", DISPUTED: "warn" }; // the others are bad
const PRICE_CELLS = [
  "c-symbol",
  "num c-bid",
  "num c-ask",
  "num c-mid",
  "num c-change",
  "c-trend",
  "c-state",
  "num c-quality",
  "num c-age",
];

/** What is known of one symbol. @param {string} symbol */
const newQuote = (symbol) => ({
  symbol,
  tick: null,
  timestamp: 0,
  direction: 0,
  /** @type {number[]} */ trend: [],
  sampled_at: 0,
  changed: false, // since it was last drawn
  visible: true,
});

export class PricesView extends Panel {
  /** @type {string[]} */ #sorted = [];

  /** @param {(symbol: string) => void} onChoose  clicked, or Enter */
  constructor(onChoose) {
    super("prices");
    this.onChoose = onChoose;
    this.chosen = null;
    /** @type {Map<string, ReturnType<typeof newQuote>>} */
    this.quotes = new Map();
    this.rows = new Children(this.section.querySelector("tbody"), (symbol) => this.#row(symbol));
    this.widths = new Widths(this.section);
    this.inks = null;
    // Rows nobody sees are not written to; with 500 symbols that is most of the work.
    this.observer = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        const quote = this.quotes.get(target.$symbol);
        if (quote) quote.visible = isIntersecting;
      }
      this.dirty = true;
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (this.inks = null));
    this.section.querySelector("tbody").addEventListener("keydown", (event) => this.#onKey(event));
  }

  /** The symbols that a price has come of. */
  get symbols() {
    if (this.#sorted.length !== this.quotes.size) this.#sorted = [...this.quotes.keys()].sort();
    return this.#sorted;
  }

  /** Show one symbol in detail. Of all rows this one is reached with Tab, the others with the arrows. */
  choose(symbol) {
    for (const [each, chosen] of [[this.chosen, false], [symbol, true]]) {
      const row = this.rows.byKey.get(each);
      if (!row) continue;
      mark(row.node, "aria-current", chosen ? "true" : null);
      row.name.tabIndex = chosen ? 0 : -1;
    }
    this.chosen = symbol;
    this.onChoose(symbol);
  }

  #onKey(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const at = this.symbols.indexOf(event.target.closest("tr").$symbol);
    const next = this.rows.byKey.get(this.symbols[at + step]);
    if (!next) return;
    event.preventDefault();
    next.name.focus();
  }

  /** @param {import("./krin.js").Message} message */
  take({ data, timestamp }) {
    let quote = this.quotes.get(data.symbol);
    if (!quote) this.quotes.set(data.symbol, (quote = newQuote(data.symbol)));
    const before = middle(quote.tick);
    quote.tick = data;
    quote.timestamp = timestamp;
    quote.changed = true;
    const value = middle(data);
    if (before !== null && value !== null && value !== before) quote.direction = Math.sign(value - before);
    if (timestamp - quote.sampled_at >= 1000 && value !== null) {
      quote.sampled_at = timestamp;
      quote.trend.push(value);
      if (quote.trend.length > TREND_POINTS) quote.trend.shift();
    }
    this.dirty = true;
  }

  /** What the trend was before we came: closes of one-second bars, oldest first. @param {string} symbol @param {number[]} closes */
  seed(symbol, closes) {
    const quote = this.quotes.get(symbol);
    if (!quote) return;
    quote.trend.unshift(...closes);
    quote.trend.splice(0, quote.trend.length - TREND_POINTS);
    quote.changed = true;
    this.dirty = true;
  }

  /** @param {{now_ms: number, live: boolean, ticking: boolean}} at  ticking: ages may have changed. */
  render({ now_ms, live, ticking }) {
    const { symbols } = this;
    this.inks ??= readInks("up", "down", "muted");
    const rows = this.rows.arrange(symbols);
    let stale = 0;
    rows.forEach((row, index) => {
      const quote = this.quotes.get(symbols[index]);
      const late = now_ms - quote.timestamp >= STALE_AFTER_MS;
      if (late || !live) stale += 1;
      if (!quote.visible || !(quote.changed || ticking)) return;
      this.#draw(row, quote, now_ms, live);
      quote.changed = false;
    });
    this.summary(symbols.length, `${symbols.length}${stale ? ` · ${stale} stale` : ""}`);
  }

  #row(symbol) {
    const row = tableRow(PRICE_CELLS);
    // Laid out as grids (see style.css), rows and cells must say what they are.
    row.node.setAttribute("role", "row");
    row.cells.forEach((cell, index) => cell.setAttribute("role", index === 0 ? "rowheader" : "cell"));
    const name = make("button", "symbol", symbol);
    name.tabIndex = -1;
    name.addEventListener("click", () => this.choose(symbol));
    const simulated = make("span", "tag sim", "SIM");
    simulated.title = "Simulated";
    simulated.hidden = true;
    row.cells[0].append(name, simulated);
    row.cells[0].title = symbol;
    const arrow = make("span", "arrow");
    const mid = make("span");
    row.cells[3].append(arrow, mid);
    const canvas = /** @type {HTMLCanvasElement} */ (make("canvas"));
    canvas.setAttribute("aria-hidden", "true");
    const scale = window.devicePixelRatio || 1;
    canvas.width = TREND_WIDTH * scale;
    canvas.height = TREND_HEIGHT * scale;
    row.cells[5].append(canvas);
    const state = make("span", "chip");
    row.cells[6].append(state);
    row.node.$symbol = symbol;
    this.observer.observe(row.node);
    return { ...row, name, simulated, arrow, mid, canvas, state, drawn: -1 };
  }

  /** What is to be thought of a quote. @returns {string} */
  stateOf({ tick, timestamp }, now_ms, live) {
    if (!live) return "NO_LINK";
    return now_ms - timestamp >= STALE_AFTER_MS ? "STALE" : (tick.state ?? "LIVE");
  }

  #draw(row, quote, now_ms, live) {
    const { tick } = quote;
    const { quality } = tick;
    figure(row.cells[1], this.widths, "price", amount(tick.bid));
    figure(row.cells[2], this.widths, "price", amount(tick.ask));
    figure(row.mid, this.widths, "mid", amount(tick.mid ?? tick.price));
    say(row.arrow, quote.direction > 0 ? "▲" : quote.direction < 0 ? "▼" : "");
    mark(row.cells[3], "data-tone", tone(quote.direction));
    const first = quote.trend[0];
    const value = middle(tick);
    const change = first && value !== null ? value / first - 1 : 0;
    say(row.cells[4], quote.trend.length > 1 ? percent(change) : "");
    mark(row.cells[4], "data-tone", Math.abs(change) < 0.00005 ? null : tone(change)); // as it is printed
    if (row.drawn !== quote.sampled_at || row.ink !== this.inks) {
      drawTrend(row.canvas, quote.trend, change, this.inks);
      row.drawn = quote.sampled_at;
      row.ink = this.inks;
    }
    const state = this.stateOf(quote, now_ms, live);
    chip(row.state, words(state), QUOTE_TONES[state] ?? "bad");
    mark(row.state, "title", excluded(quality));
    say(row.cells[7], quality ? `${quality.sources_ok}/${quality.sources_total}` : "");
    mark(row.cells[7], "data-tone", quality && quality.sources_ok < quality.sources_total ? "warn" : null);
    say(row.cells[8], age(now_ms - quote.timestamp));
    mark(row.node, "data-stale", ["NO_LINK", "STALE", "HALTED"].includes(state) ? "" : null);
    row.simulated.hidden = !tick.ext?.simulated;
  }
}

/** The number a trend is drawn of. For pictures only: what is printed stays the string that came. */
function middle(tick) {
  if (!tick) return null;
  if (tick.mid ?? tick.price) return Number(tick.mid ?? tick.price);
  if (tick.bid && tick.ask) return (Number(tick.bid) + Number(tick.ask)) / 2;
  return tick.bid || tick.ask ? Number(tick.bid ?? tick.ask) : null;
}

const tone = (direction) => (direction > 0 ? "up" : direction < 0 ? "down" : null);

function excluded(quality) {
  if (!quality?.excluded?.length) return null;
  return `left out: ${quality.excluded.map(({ source, reason }) => `${source} (${reason})`).join(", ")}`;
}

/** The page's colours, for what is drawn by hand. @param {...string} names */
export function readInks(...names) {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`)]));
}

/** @param {HTMLCanvasElement} canvas @param {number[]} points @param {number} change */
function drawTrend(canvas, points, change, inks) {
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, canvas.width, canvas.height);
  if (points.length < 2) return;
  const low = Math.min(...points);
  const span = Math.max(...points) - low || 1;
  const scale = canvas.height / TREND_HEIGHT;
  const step = (canvas.width - 2 * scale) / (points.length - 1);
  pen.beginPath();
  points.forEach((value, index) => {
    const y = canvas.height - 2 * scale - ((value - low) / span) * (canvas.height - 4 * scale);
    if (index === 0) pen.moveTo(scale, y);
    else pen.lineTo(scale + index * step, y);
  });
  pen.lineWidth = 1.25 * scale;
  pen.lineJoin = "round";
  pen.strokeStyle = inks[tone(change) ?? "muted"];
  pen.stroke();
}

export class TradesView extends Panel {
  constructor() {
    super("trades");
    /** @type {any[]} */
    this.tape = []; // newest first
    const classes = ["c-time", "c-aggressor", "num", "num", "c-origin"];
    this.rows = new Children(this.section.querySelector("tbody"), () => tableRow(classes));
    this.widths = new Widths(this.section.querySelector("table"));
    this.simulated = false;
  }

  clear() {
    this.tape = [];
    this.dirty = true;
  }

  /** @param {import("./krin.js").Message} message */
  take({ type, data, timestamp }) {
    if (type !== "TRADE") {
      this.#amend(type, data);
      return;
    }
    this.tape.unshift({ ...data, at: data.ts_event ? data.ts_event / 1000 : timestamp });
    if (this.tape.length > 1 && this.tape[1].at > this.tape[0].at) this.tape.sort((a, b) => b.at - a.at); // snapshots
    if (this.tape.length > TAPE_ROWS) this.tape.length = TAPE_ROWS;
    this.simulated ||= Boolean(data.ext?.simulated);
    this.dirty = true;
  }

  /** TRADE_CORRECTION and TRADE_BUST, of a trade that is still shown. */
  #amend(type, { original_trade_id, source, corrected_price, corrected_size }) {
    const trade = this.tape.find((each) => each.trade_id === original_trade_id && each.source === source);
    if (!trade) return;
    if (type === "TRADE_BUST") this.tape.splice(this.tape.indexOf(trade), 1);
    trade.price = corrected_price ?? trade.price;
    trade.size = corrected_size ?? trade.size;
    this.dirty = true;
  }

  render() {
    if (!this.dirty) return;
    this.dirty = false;
    const rows = this.rows.arrange(this.tape.map((_, index) => String(index)));
    rows.forEach(({ cells }, index) => {
      const trade = this.tape[index];
      const buyer = trade.aggressor_side === "BUYER";
      const seller = trade.aggressor_side === "SELLER";
      say(cells[0], time(trade.at));
      say(cells[1], buyer ? "B" : seller ? "S" : "");
      mark(cells[1], "title", buyer ? "the buyer crossed the spread" : seller ? "the seller crossed the spread" : null);
      figure(cells[2], this.widths, "price", amount(trade.price));
      figure(cells[3], this.widths, "qty", amount(trade.size));
      say(cells[4], trade.source ?? "");
      const side = buyer ? "up" : seller ? "down" : null;
      mark(cells[1], "data-tone", side);
      mark(cells[2], "data-tone", side);
    });
    this.summary(rows.length, this.simulated ? "simulated" : "");
  }
}
