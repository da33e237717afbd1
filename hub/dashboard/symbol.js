/** One symbol, chosen among the prices: its candles, its book, where its price comes from. Its trades are a panel too. */

import { age, amount, sum, words } from "./format.js";
import { Children, Panel, chip, make, mark, say, show, tableRow } from "./dom.js";
import { INTERVALS, SLOTS, drawCandles, means, room, startOf, under, vwaps } from "./chart.js";
import { QUOTE_TONES, readInks } from "./trading.js";

const BARS = 400; // kept
const REWIND = { bars: 400, trades: 60 };

const $ = (id) => document.getElementById(id);

/** Sizes of levels, best first, added up from the best. Pure. @param {[string, string][]} levels */
export function cumulated(levels) {
  let total = "0";
  return levels.map(([price, size]) => ({ price, size, total: (total = sum([total, size])) }));
}

export class DepthView extends Panel {
  constructor() {
    super("depth");
    this.book = null;
    this.centered = false;
    this.rows = new Children(this.section.querySelector("tbody"), () => tableRow(["num c-px", "num", "num c-total"]));
  }

  take({ data }) {
    this.book = data.kind === "update" ? null : data; // the hub's own feed says whole books
    this.dirty = true;
  }

  clear() {
    this.book = null;
    this.centered = false;
    this.dirty = true;
  }

  render() {
    if (!this.dirty) return;
    this.dirty = false;
    const asks = cumulated(this.book?.asks ?? []).reverse();
    const bids = cumulated(this.book?.bids ?? []);
    const most = Math.max(Number(asks[0]?.total ?? 0), Number(bids.at(-1)?.total ?? 0)) || 1;
    const levels = [...asks.map((each) => ["ask", each]), ...bids.map((each) => ["bid", each])];
    const rows = this.rows.arrange(levels.map((_, index) => String(index)));
    rows.forEach(({ node, cells }, index) => {
      const [side, { price, size, total }] = levels[index];
      mark(node, "data-side", index === asks.length ? "bid best" : side);
      say(cells[0], amount(price));
      mark(cells[0], "data-tone", side === "ask" ? "down" : "up");
      mark(cells[0], "aria-label", `${side} ${price}`);
      say(cells[1], amount(size));
      say(cells[2], amount(total));
      node.style.setProperty("--share", `${((Number(total) / most) * 100).toFixed(1)}%`);
    });
    if (!this.centered && rows.length > 0) {
      const scroll = this.section.querySelector(".scroll"); // once: where the spread is
      scroll.scrollTop = (rows[asks.length] ?? rows[0]).node.offsetTop - scroll.clientHeight / 2;
      this.centered = true;
    }
    const spread = this.book && asks.length && bids.length ? sum([asks.at(-1).price, `-${bids[0].price}`]) : "";
    this.summary(rows.length, spread && `spread ${spread}`);
  }
}

export class SymbolView extends Panel {
  #context;
  #client = null; // whose subscriptions these are
  #heard = new Map(); // channel -> subscription
  #offered = new Map(); // symbol -> its channels
  #bars = new Map(); // by start
  #ticker = null;
  #interval = INTERVALS[0];
  #marked = -1; // the candle under the pointer, among those shown
  #inks = null;
  #zoom = SLOTS.indexOf(8);

  /**
   * @param {{krin: () => import("./krin.js").Krin | null, schedule: () => void}} context
   * @param {{prices: import("./trading.js").PricesView, trades: import("./trading.js").TradesView, depth: DepthView}} panels
   */
  constructor(context, { prices, trades, depth }) {
    super("symbol");
    this.#context = context;
    this.prices = prices;
    this.trades = trades;
    this.depth = depth;
    this.symbol = null;
    this.canvas = /** @type {HTMLCanvasElement} */ (this.section.querySelector("canvas"));
    this.choices = new Children($("intervals"), (interval) => {
      const node = make("button", "small", interval);
      node.addEventListener("click", () => this.#pick(interval));
      return { node };
    });
    new ResizeObserver(() => this.#redraw()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.#inks = null;
      this.#redraw();
    });
    this.canvas.addEventListener("pointermove", ({ offsetX }) => this.#point(offsetX));
    this.canvas.addEventListener("pointerleave", () => this.#point(null));
    this.canvas.addEventListener("wheel", (event) => this.#zoomBy(event, -Math.sign(event.deltaY)), { passive: false });
    this.canvas.addEventListener("keydown", (event) => this.#zoomBy(event, { "+": 1, "=": 1, "-": -1 }[event.key]));
  }

  /** @param {string[]} names */
  heard(names) {
    this.#offered.clear();
    for (const name of names) {
      const [namespace, ...rest] = name.split(":");
      if (!["bars", "book", "trades", "ticker"].includes(namespace)) continue;
      const symbol = rest.at(-1);
      if (!this.#offered.has(symbol)) this.#offered.set(symbol, new Set());
      this.#offered.get(symbol).add(name);
    }
    this.#listen();
  }

  /** @param {string} symbol */
  choose(symbol) {
    if (symbol === this.symbol) return;
    this.symbol = symbol;
    this.#bars.clear();
    this.#ticker = null;
    this.depth.clear();
    this.trades.clear();
    this.#listen();
    this.#redraw();
  }

  opened() {
    this.#listen();
  }

  /** Subscribe to what the chosen symbol has, and to nothing else. */
  #listen() {
    const krin = this.#context.krin();
    if (krin !== this.#client) this.#heard.clear();
    this.#client = krin;
    if (!krin || !this.symbol) return;
    const offered = this.#offered.get(this.symbol) ?? new Set();
    const intervals = INTERVALS.filter((each) => offered.has(`bars:${each}:${this.symbol}`));
    if (intervals.length > 0 && !intervals.includes(this.#interval)) this.#interval = intervals[0];
    this.choices.arrange(intervals);
    const bars = `bars:${this.#interval}:${this.symbol}`;
    const wanted = [...offered].filter((name) => !name.startsWith("bars:") || name === bars);
    for (const [name, subscription] of this.#heard) {
      if (wanted.includes(name)) continue;
      subscription.unsubscribe();
      this.#heard.delete(name);
    }
    for (const name of wanted) if (!this.#heard.has(name)) this.#heard.set(name, this.#hear(krin, name));
  }

  #hear(krin, channel) {
    const panel = { bars: this, ticker: this, book: this.depth, trades: this.trades }[channel.split(":", 1)[0]];
    const take = (message) => {
      panel.take(message);
      this.#context.schedule();
    };
    return krin.subscribe(channel, { rewind: REWIND[channel.split(":", 1)[0]], onError: () => {} }, take);
  }

  take({ type, data }) {
    if (data.symbol !== this.symbol) return;
    if (type === "TICKER") this.#ticker = data;
    else if (data.interval === this.#interval) this.#takeBar(data);
    this.dirty = true;
  }

  #takeBar(bar) {
    const known = this.#bars.get(bar.start);
    if (known && (known.revision ?? 0) > (bar.revision ?? 0)) return;
    this.#bars.set(bar.start, bar);
    if (this.#bars.size > BARS) this.#bars.delete(Math.min(...this.#bars.keys()));
  }

  #pick(interval) {
    this.#interval = interval;
    this.#bars.clear();
    this.#listen();
    this.#redraw();
  }

  #point(x) {
    this.#marked = x === null ? -1 : x;
    this.#redraw();
  }

  /** At the last step the page scrolls on. */
  #zoomBy(event, step) {
    if (event.ctrlKey || event.metaKey || !SLOTS[this.#zoom + step]) return;
    event.preventDefault();
    this.#zoom += step;
    this.#redraw();
  }

  #redraw() {
    this.dirty = true;
    this.#context.schedule();
  }

  render({ now_ms, live, ticking }) {
    if (!this.symbol && this.prices.symbols.length > 0) this.prices.choose(this.prices.symbols[0]);
    if (!this.dirty && !ticking && !this.prices.quotes.get(this.symbol)?.changed) return;
    this.#drawQuote(now_ms, live);
    if (!this.dirty) return;
    this.dirty = false;
    for (const [interval, { node }] of this.choices.byKey) {
      mark(node, "aria-pressed", String(interval === this.#interval));
    }
    this.#drawChart();
    this.#drawTicker();
  }

  #drawQuote(now_ms, live) {
    const quote = this.prices.quotes.get(this.symbol);
    say($("symbol-name"), this.symbol ?? "No symbol");
    if (!quote) return;
    const { tick, timestamp } = quote;
    say($("symbol-price"), amount(tick.mid ?? tick.price ?? tick.bid));
    const state = this.prices.stateOf(quote, now_ms, live);
    chip($("symbol-state"), words(state), QUOTE_TONES[state] ?? "bad");
    say($("symbol-age"), `${age(now_ms - timestamp)} ago`);
    say($("symbol-sources"), origin(tick.quality));
  }

  #drawTicker() {
    const { change_pct, high_24h, low_24h, volume_24h } = this.#ticker ?? {};
    const facts = [
      change_pct && `24 h ${Number(change_pct) > 0 ? "+" : ""}${change_pct.replace("-", "−")}%`,
      high_24h && `high ${amount(high_24h)}`,
      low_24h && `low ${amount(low_24h)}`,
      volume_24h && `volume ${amount(volume_24h)}`,
    ];
    say($("symbol-day"), facts.filter(Boolean).join(" · "));
  }

  #drawChart() {
    const { clientWidth, clientHeight } = this.canvas;
    const scale = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(clientWidth * scale), Math.round(clientHeight * scale)];
    if (this.canvas.width !== width) this.canvas.width = width;
    if (this.canvas.height !== height) this.canvas.height = height;
    const kept = [...this.#bars.values()].sort((a, b) => a.start - b.start);
    const slot = SLOTS[this.#zoom];
    const shown = room(clientWidth, slot);
    const bars = kept.slice(-shown);
    const [mean, vwap] = [means(kept).slice(-shown), vwaps(bars)];
    const marked = this.#marked < 0 ? -1 : under(this.#marked, clientWidth, bars.length, slot);
    const decimals = Math.max(0, ...bars.slice(-20).map(({ close }) => close.split(".")[1]?.length ?? 0));
    this.#inks ??= readInks("up", "down", "muted", "line", "text", "panel", "accent", "warn");
    const lines = [{ values: mean, ink: this.#inks.accent, dash: [] }, { values: vwap, ink: this.#inks.warn, dash: [5, 3] }];
    drawCandles(this.canvas, bars, { interval: this.#interval, slot, lines, decimals, marked, inks: this.#inks, scale });
    const bar = bars.at(marked);
    const told = bar && ["open", "high", "low", "close", "volume"].map((name) => `${name} ${amount(bar[name])}`).join("  ");
    say($("symbol-bar"), bar ? `${startOf(this.#interval, bar.start)}  ${told}` : "");
    const figure = (values) => (bar && values.at(marked) !== null ? amount(values.at(marked).toFixed(decimals)) : "–");
    say($("symbol-mean"), `mean of 20 ${figure(mean)}`);
    say($("symbol-vwap"), `VWAP shown ${figure(vwap)}`);
    show(this.none, bars.length === 0);
    mark(this.canvas, "aria-label", `${this.symbol ?? ""} candles of ${this.#interval}, ${bars.length} shown; plus and minus zoom`);
  }
}

/** Where a price comes from, in words. Pure. */
export function origin(quality) {
  if (!quality) return "";
  const { sources_ok, sources_total, bid_source, ask_source, spread_bps, excluded = [] } = quality;
  return [
    `${sources_ok} of ${sources_total} sources agree`,
    bid_source && `bid from ${bid_source}`,
    ask_source && `ask from ${ask_source}`,
    spread_bps && `spread ${spread_bps} bps`,
    ...excluded.map(({ source, reason }) => `without ${source} (${words(reason).toLowerCase()})`),
  ].filter(Boolean).join(" · ");
}
