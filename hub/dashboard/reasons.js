/** Why an order is refused, in words: the codes of the risk checks and of venues. Pure. */

import { amount } from "./format.js";

/** @type {Record<string, string>} */
export const REASONS = {
  APPROVAL_DECLINED: "The approval was declined",
  APPROVAL_EXPIRED: "Nobody approved it in time",
  CANCEL_ONLY: "Only cancels are taken for this symbol",
  DAILY_LOSS_LIMIT: "The account has lost as much as it may today",
  DEGRADED_MARKET_DATA: "The price is not good enough to trade on",
  DISPUTED_MARKET_DATA: "The sources do not agree on the price",
  DUPLICATE_ORDER: "There is another order of this name",
  DUPLICATE_PATTERN: "The same order came too often in a row",
  EXECUTION_THROTTLE: "The strategy has traded too often",
  EXPIRE_TIME_IN_PAST: "It would have expired already",
  EXPOSURE_LIMIT_EXCEEDED: "The account would be exposed too far",
  INSTRUMENT_HALTED: "The symbol is halted",
  INSUFFICIENT_BALANCE: "The account does not hold enough",
  LOT_SIZE_INVALID: "The quantity is not a multiple of the lot size",
  MARKET_CLOSED: "The market is closed",
  MAX_OPEN_ORDERS: "Too many orders are open",
  NOTIONAL_BELOW_MINIMUM: "The order is worth too little",
  NOTIONAL_EXCEEDS_MAXIMUM: "The order is worth too much",
  NO_EXECUTION_ROUTE: "No venue trades this symbol",
  POSITION_LIMIT_EXCEEDED: "The position would be too large",
  POST_ONLY_WOULD_MATCH: "A post-only order would trade at once",
  PRICE_OUTSIDE_COLLAR: "The price is too far from the market",
  QUANTITY_BELOW_MINIMUM: "The quantity is too small",
  QUANTITY_EXCEEDS_MAXIMUM: "The quantity is too large",
  RATE_LIMIT_EXCEEDED: "Too many commands in a short time",
  REDUCE_ONLY_WOULD_INCREASE: "A reduce-only order would not reduce the position",
  RESTRICTED_INSTRUMENT: "The symbol may not be traded",
  SELF_TRADE_PREVENTED: "It would trade with the account's own order",
  STALE_MARKET_DATA: "The price is too old, or there is none",
  STALE_ORDER: "The order came too late",
  STOP_WOULD_TRIGGER: "The stop would trigger at once",
  TICK_SIZE_INVALID: "The price is not a multiple of the tick size",
  TOO_LATE: "It is too late for that",
  TRADING_HALTED: "Trading is halted",
  TRADING_REDUCING: "Only orders that reduce a position are taken",
  UNCONFIRMED: "The venue did not answer",
  UNKNOWN_ACCOUNT: "The venue does not know the account",
  UNKNOWN_ORDER: "There is no such order",
  UNKNOWN_SYMBOL: "The symbol is not known",
  UNSUPPORTED_ORDER_TYPE: "Orders of this type are not taken",
  UNSUPPORTED_TIME_IN_FORCE: "This time in force does not go with the order",
  VALIDATION_FAILED: "The order is not complete, or contradicts itself",
};

/** @param {string | undefined | null} reason  a code; one of a later version reads as it is spelled */
export function why(reason) {
  if (!reason) return "";
  const text = reason.toLowerCase().replaceAll("_", " ");
  return REASONS[reason] ?? text[0].toUpperCase() + text.slice(1);
}

/** What was seen and what the limit is: "is 70,000, limit 67,500". @param {{limit?: string, observed?: string, text?: string}} fault */
export function measured({ limit, observed, text }) {
  const said = (value) => (/^-?\d+(\.\d+)?$/.test(value) ? amount(value) : value);
  const numbers = [observed && `is ${said(observed)}`, limit && `limit ${said(limit)}`].filter(Boolean).join(", ");
  return [numbers, text].filter(Boolean).join(" · ");
}
