/** Candles on a canvas, the newest at the right. Hollow ones rose and filled ones fell: colour never stands alone. */

import { amount } from "./format.js";

/** Pixels of one candle and its gap: near and far. */
export const SLOTS = [3, 5, 8, 12, 18, 26];
const MEAN_OF = 20; // candles
const RIGHT = 70; // the axis of prices
const BOTTOM = 18; // the axis of times
const VOLUME = 0.18; // of the height

const LENGTHS_MS = { "1s": 1e3, "1m": 6e4, "5m": 3e5, "15m": 9e5, "1h": 36e5, "4h": 144e5, "1d": 864e5 };
/** Of bars, shortest first. */
export const INTERVALS = Object.keys(LENGTHS_MS);

const clocks = {
  s: new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }),
  m: new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }),
  h: new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", hourCycle: "h23" }),
  d: new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" }),
};

/** When a bar began, as its interval needs it. @param {string} interval @param {number} start_us */
export const startOf = (interval, start_us) => clocks[interval.at(-1)].format(start_us / 1000);

/** Round numbers between two: at most so many, 1, 2 or 5 times a power of ten apart. Pure. */
export function steps(low, high, most) {
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) found.push(value);
  return found;
}

/** How many candles a picture of this width has room for. @param {number} width @param {number} slot */
export const room = (width, slot) => Math.max(1, Math.floor((width - RIGHT) / slot));

/** The mean of the last 20 closes up to each bar; null before there are so many. Pure. @param {any[]} bars */
export function means(bars) {
  let sum = 0;
  return bars.map(({ close }, index) => {
    sum += Number(close) - Number(bars[index - MEAN_OF]?.close ?? 0);
    return index + 1 < MEAN_OF ? null : sum / MEAN_OF;
  });
}

/** The price of an average piece traded since the first bar; null before anything was. Pure. @param {any[]} bars */
export function vwaps(bars) {
  let [worth, volume] = [0, 0];
  return bars.map((bar) => {
    worth += Number(bar.vwap ?? (Number(bar.high) + Number(bar.low) + Number(bar.close)) / 3) * Number(bar.volume);
    volume += Number(bar.volume);
    return volume ? worth / volume : null;
  });
}

/** Which of the candles shown is under this point, counted from the first. Pure. */
export const under = (x, width, shown, slot) =>
  Math.min(shown - 1, Math.max(0, Math.floor((x - (width - RIGHT - shown * slot)) / slot)));

/**
 * @param {HTMLCanvasElement} canvas  as large as it is to be
 * @param {any[]} bars  oldest first, no more than there is room for
 * @param {{interval: string, slot: number, lines: {values: (number | null)[], ink: string, dash: number[]}[], decimals: number,
 *   marked: number, inks: Record<string, string>, scale: number}} how  a line has one value for each bar
 */
export function drawCandles(canvas, bars, { interval, slot, lines, decimals, marked, inks, scale }) {
  const pen = canvas.getContext("2d");
  const [width, height] = [canvas.width / scale, canvas.height / scale];
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  if (bars.length === 0) return;
  pen.font = "11px system-ui, sans-serif";
  const [right, floor] = [width - RIGHT, height - BOTTOM];
  const lows = bars.map(({ low }) => Number(low));
  const highs = bars.map(({ high }) => Number(high));
  const last = Number(bars.at(-1).close);
  const margin = (Math.max(...highs) - Math.min(...lows)) * 0.06 || last * 0.0005 || 1;
  const [low, high] = [Math.min(...lows) - margin, Math.max(...highs) + margin];
  const roof = floor * (1 - VOLUME);
  const y = (price) => roof - ((price - low) / (high - low)) * (roof - 6);

  pen.textBaseline = "middle";
  for (const price of steps(low, high, Math.max(2, Math.floor(roof / 46)))) {
    pen.fillStyle = inks.line;
    pen.fillRect(0, Math.round(y(price)), right, 1);
    pen.fillStyle = inks.muted;
    pen.fillText(amount(price.toFixed(decimals)), right + 8, y(price));
  }
  const left = right - bars.length * slot;
  const every = Math.ceil(84 / slot);
  bars.forEach(({ start }, index) => {
    if (index % every === Math.floor(every / 2)) pen.fillText(startOf(interval, start), left + index * slot - 20, height - BOTTOM / 2);
  });

  const most = Math.max(...bars.map(({ volume }) => Number(volume))) || 1;
  bars.forEach((bar, index) => {
    const rose = Number(bar.close) >= Number(bar.open);
    const x = left + index * slot;
    const tall = (Number(bar.volume) / most) * floor * (VOLUME - 0.03);
    pen.globalAlpha = 0.35;
    pen.fillStyle = pen.strokeStyle = rose ? inks.up : inks.down;
    const wide = Math.max(1, slot - 3);
    pen.fillRect(x + 1, floor - tall, wide, tall);
    pen.globalAlpha = 1;
    const [top, end] = [y(Math.max(bar.open, bar.close)), y(Math.min(bar.open, bar.close))];
    const middle = Math.round(x + slot / 2 - 1);
    pen.fillRect(middle, y(highs[index]), 1, top - y(highs[index]));
    pen.fillRect(middle, end, 1, y(lows[index]) - end);
    if (rose && wide > 2) pen.strokeRect(x + 1.5, top, wide - 1, Math.max(1, end - top));
    else pen.fillRect(x + 1, top, wide, Math.max(1, end - top));
    if (index === marked) {
      pen.fillStyle = inks.muted;
      pen.fillRect(middle, 0, 1, floor);
    }
  });

  pen.save();
  pen.beginPath();
  pen.rect(0, 0, right, roof); // a line may leave the picture, and not cross the volumes
  pen.clip();
  for (const { values, ink, dash } of lines) {
    pen.setLineDash(dash);
    pen.strokeStyle = ink;
    pen.beginPath();
    values.forEach((value, index) => value !== null && pen.lineTo(left + (index + 0.5) * slot - 1, y(value)));
    pen.stroke();
  }
  pen.restore();

  pen.setLineDash([3, 3]);
  pen.strokeStyle = inks.text;
  pen.beginPath();
  pen.moveTo(0, y(last));
  pen.lineTo(right, y(last));
  pen.stroke();
  pen.setLineDash([]);
  pen.fillStyle = inks.text;
  pen.fillRect(right, y(last) - 8, RIGHT, 16);
  pen.fillStyle = inks.panel;
  pen.fillText(amount(last.toFixed(decimals)), right + 8, y(last));
}
