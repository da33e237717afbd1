/** Numbers and times as people read them. Pure. Amounts stay the decimal strings they came as. */

/** "64176.48" -> "64,176.48". Never rounds. @param {string | undefined | null} decimal */
export function amount(decimal) {
  if (decimal === undefined || decimal === null) return "";
  const [whole, fraction] = decimal.split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+(?!\d))/g, ",");
  return fraction === undefined ? grouped : `${grouped}.${fraction}`;
}

/**
 * An average, to two decimals more than the price it belongs to and without idle zeros. For the eye only.
 * @param {string} decimal
 * @param {string | undefined} price
 */
export function average(decimal, price) {
  const shown = price ? (price.split(".")[1]?.length ?? 0) : 2;
  const [whole, fraction = ""] = decimal.split(".");
  const exact = fraction.length > shown + 2 ? Number(decimal).toFixed(shown + 2) : decimal;
  const cut = fraction.length > shown ? exact.slice(0, whole.length + 1 + shown) + exact.slice(whole.length + 1 + shown).replace(/0+$/, "") : exact;
  return amount(cut.replace(/\.$/, ""));
}

/** A decimal as an integer of so many places. @param {string} decimal @param {number} places */
function scaled(decimal, places) {
  const [whole, fraction = ""] = decimal.split(".");
  return BigInt(whole + fraction.padEnd(places, "0"));
}

/** @param {bigint} integer @param {number} places */
function unscaled(integer, places) {
  const digits = String(integer < 0n ? -integer : integer).padStart(places + 1, "0");
  const at = digits.length - places;
  return `${integer < 0n ? "-" : ""}${digits.slice(0, at)}${places ? `.${digits.slice(at)}` : ""}`;
}

const places = (decimal) => decimal.split(".")[1]?.length ?? 0;

/** Without idle zeros behind the point. @param {string} decimal */
export const plain = (decimal) => decimal.replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");

/** Exactly. @param {string} left @param {string} right */
export const product = (left, right) =>
  plain(unscaled(scaled(left, places(left)) * scaled(right, places(right)), places(left) + places(right)));

/** Exactly. @param {string[]} decimals */
export function sum(decimals) {
  const most = Math.max(0, ...decimals.map(places));
  return unscaled(decimals.reduce((total, each) => total + scaled(each, most), 0n), most);
}

/** A profit with its sign, and a loss, to the cent. For the eye only. @param {string} decimal */
export function profit(decimal) {
  const value = Number(decimal).toFixed(2);
  if (Number(value) === 0) return "0.00";
  return value[0] === "-" ? `−${amount(value.slice(1))}` : `+${amount(value)}`;
}

/** A change as a percentage with its sign. @param {number} ratio */
export function percent(ratio) {
  const value = (ratio * 100).toFixed(2);
  if (value === "0.00" || value === "-0.00") return "0.00%";
  return ratio > 0 ? `+${value}%` : `${value.replace("-", "−")}%`;
}

/** Milliseconds as a short age: 0.4s, 12s, 3m, 2h, 5d. @param {number} ms */
export function age(ms) {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)}s`;
  if (seconds < 60) return `${Math.floor(seconds)}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86_400)}d`;
}

/** A while, to the second: 9s, 1m 05s, 2h 03m. @param {number} ms */
export function lasting(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const two = (value) => String(value).padStart(2, "0");
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m ${two(seconds % 60)}s`;
  return seconds < 86_400 ? `${Math.floor(seconds / 3600)}h ${two(Math.floor((seconds % 3600) / 60))}m` : age(ms);
}

const clock = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
});

/** Milliseconds since 1970 as local HH:MM:SS. @param {number} ms */
export const time = (ms) => clock.format(ms);

/** A count, or a rate that has no digits to spare. @param {number} value */
export const rate = (value) => (value > 0 && value < 10 && !Number.isInteger(value) ? value.toFixed(1) : Math.round(value).toLocaleString());

/** @param {number} count */
export function bytes(count) {
  if (count < 1000) return `${count} B`;
  return count < 1e6 ? `${(count / 1000).toFixed(1)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}

/** A round trip. @param {number} ms */
export const milliseconds = (ms) => `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;

/** "INPUT_REQUIRED" -> "Input required". @param {string | undefined | null} word */
export function words(word) {
  if (!word) return "";
  const text = word.toLowerCase().replaceAll("_", " ");
  return text[0].toUpperCase() + text.slice(1);
}
