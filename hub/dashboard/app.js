/**
 * The first dashboard: one connection, seven views.
 * Messages only change what the views remember; drawing happens at most ten times a second, in one animation frame.
 */

import { Krin } from "./krin.js";
import { milliseconds, time } from "./format.js";
import { chip, say, show } from "./dom.js";
import { CodeNeeded, Session, address } from "./session.js";
import { SecondFactor } from "./second_factor.js";
import { AlertsView, SourcesView, TasksView, TeamView } from "./team.js";
import { OrdersView, PricesView, TradesView } from "./trading.js";

const DRAW_EVERY_MS = 100;
const TICK_EVERY_MS = 500; // ages, rates and the countdown
const CHANNELS_EVERY_MS = 10_000;
const NOTICE_SHOWN_MS = 15_000;
const TRADE_CHANNELS = 8;
const SEEDED_TRENDS = 20;
const SEED_POINTS = 120;
const SETTLED_AFTER_MS = 5000; // the first answer is large; that values wait behind it is no news
const SPARE_SUBSCRIPTIONS = 32; // of the hub's bound, kept for what is not a price

const $ = (id) => document.getElementById(id);

const prices = new PricesView();
const trades = new TradesView();
const orders = new OrdersView();
const tasks = new TasksView();
const team = new TeamView(tasks);
const alerts = new AlertsView();
const sources = new SourcesView();
const views = [prices, trades, orders, tasks, team, alerts, sources];

/** What is subscribed to, by namespace. `reload`: how much history to read again when messages were lost. */
const FEEDS = {
  prices: { view: prices },
  trades: { view: trades, rewind: 20, most: TRADE_CHANNELS },
  orders: { view: orders, rewind: 300, reload: 300 },
  tasks: { view: tasks, rewind: 200, reload: 200, also: team },
  team: { view: team, rewind: 100, reload: 100, also: tasks },
  alerts: { view: alerts, rewind: 100, reload: 100 },
  sources: { view: sources },
  status: { view: sources },
};

const session = new Session();
const secondFactor = new SecondFactor(session, () => krin?.refresh());
/** @type {Krin | null} */
let krin = null;
/** @type {import("./krin.js").StateEvent & {at: number, since_ms: number}} */
let connection = { state: "closed", at: performance.now(), since_ms: Date.now() };
/** @type {Set<string>} */
let known = new Set();

// --- drawing ---

let drawn_at = 0;
let scheduled = false;
let ticking = true;

function schedule() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(draw);
}

function draw(at) {
  if (at - drawn_at < DRAW_EVERY_MS) {
    requestAnimationFrame(draw);
    return;
  }
  drawn_at = at;
  scheduled = false;
  const now_ms = Date.now() + (krin?.clock_offset_ms ?? 0);
  const moment = { now_ms, live: connection.state === "open", ticking };
  ticking = false;
  for (const view of views) view.render(moment);
}

let counted = { received: 0, at: performance.now() };

function tick() {
  const at = performance.now();
  if (krin && at - counted.at >= 990) {
    const rate = ((krin.received - counted.received) * 1000) / (at - counted.at);
    say($("rate"), `${Math.round(rate).toLocaleString()}/s`);
    counted = { received: krin.received, at };
  }
  drawBanner();
  ticking = true;
  schedule();
}

// --- the connection, and what the page says about it ---

const STATE_WORDS = {
  connecting: ["Connecting", "muted"],
  open: ["Live", "good"],
  reconnecting: ["Reconnecting", "warn"],
  closed: ["Disconnected", "bad"],
};

function drawBanner() {
  const { state, reason, code, retry_in_ms = 0, attempt, at, since_ms } = connection;
  const [word, tone] = STATE_WORDS[state];
  if (krin) chip($("state"), word, tone);
  else chip($("state"), "Signed out", "muted");
  const broken = krin !== null && (state === "reconnecting" || state === "closed");
  document.body.classList.toggle("stale", broken);
  show($("banner"), broken);
  show($("reconnect"), broken && state === "closed");
  if (!broken) return;
  const why = reason || (code === 1006 ? "no connection to the hub" : `close code ${code}`);
  const left_s = Math.ceil((at + retry_in_ms - performance.now()) / 1000);
  const next = left_s > 0 ? `next attempt in ${left_s} s` : "connecting";
  const then = state === "closed" ? "The hub will not be asked again." : `Attempt ${attempt}: ${next}.`;
  say($("banner-text"), `Not live. What you see is as of ${time(since_ms)}. ${then} (${why})`);
}

function onState(event) {
  const wasLive = connection.state === "open" || connection.state === "connecting";
  connection = { ...event, at: performance.now(), since_ms: wasLive ? Date.now() : connection.since_ms };
  if (event.state === "open") {
    say($("node"), krin.info.node);
    say($("user"), krin.info.user);
    findChannels();
  } else {
    say($("latency"), "–");
  }
  if (event.state === "closed" && event.final && event.code === 4002) signedOut(event.reason);
  drawBanner();
  ticking = true;
  schedule();
}

let noticeTimer;

function notice(text) {
  say($("notice"), text);
  show($("notice"), true);
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => show($("notice"), false), NOTICE_SHOWN_MS);
}

// --- channels ---

/** Subscribe to what exists now and was not there before. A channel that refuses us is left alone. */
async function findChannels() {
  const asking = krin;
  let names;
  try {
    names = await session.get("v1/channels");
  } catch (failure) {
    if (!failure.final) notice(`The list of channels is not available: ${failure.message}`);
    return;
  }
  if (krin !== asking || asking === null) return;
  const counts = {};
  for (const name of known) counts[name.split(":", 1)[0]] = (counts[name.split(":", 1)[0]] ?? 0) + 1;
  const bound = (asking.info?.limits?.max_subscriptions ?? 1024) - SPARE_SUBSCRIPTIONS;
  for (const channel of names) {
    const namespace = channel.split(":", 1)[0];
    const feed = FEEDS[namespace];
    if (!feed || known.has(channel)) continue;
    if ((counts[namespace] ?? 0) >= (feed.most ?? Infinity)) continue;
    if (namespace === "prices" && known.size >= bound) continue;
    counts[namespace] = (counts[namespace] ?? 0) + 1;
    known.add(channel);
    listen(asking, channel, feed);
  }
}

let simulated = false;

function listen(client, channel, feed) {
  const take = (message) => {
    feed.view.take(message);
    feed.also?.take(message);
    if (!simulated && isSimulated(message.data)) {
      simulated = true;
      show($("simulated"), true);
    }
    schedule();
  };
  client.subscribe(
    channel,
    {
      rewind: feed.rewind,
      onLost: (reason) => reload(client, channel, feed, take, reason),
      onSubscribed: () => feed.view === prices && seedTrend(client, channel),
      onError: (error) => notice(`${channel}: ${error.message}`),
    },
    take,
  );
}

const isSimulated = (data) => Boolean(Array.isArray(data) ? data[0]?.ext?.simulated : data?.ext?.simulated);

/** Messages are gone: read what the hub still has, so that the tables show the present at least. */
async function reload(client, channel, feed, take, reason) {
  notice(`${channel}: messages were lost (${reason})`);
  if (!feed.reload) return;
  try {
    const { messages } = await client.history(channel, { limit: feed.reload, reverse: true });
    for (const message of messages.reverse()) take(message);
  } catch (failure) {
    notice(`${channel}: ${failure.message}`);
  }
}

let seeded = new Set();
let seeding = Promise.resolve();

/** Where the hub keeps one-second bars, a trend need not start empty. One symbol after the other: there is no hurry. */
function seedTrend(client, channel) {
  const symbol = channel.slice("prices:".length);
  if (seeded.has(symbol) || seeded.size >= SEEDED_TRENDS) return;
  seeded.add(symbol);
  seeding = seeding.then(async () => {
    const { messages } = await client.history(`bars:1s:${symbol}`, { limit: SEED_POINTS, reverse: true });
    prices.seed(symbol, messages.reverse().map(({ data }) => Number(data.close)));
    schedule();
  }).catch(() => {}); // no bars, or not for us: the trend grows from now on
}

// --- signing in and out ---

function start() {
  known = new Set();
  seeded = new Set();
  show($("sign-in"), false);
  show($("board"), true);
  show($("facts"), true);
  show($("sign-out"), true);
  secondFactor.offer();
  const url = address("ws");
  url.protocol = url.protocol.replace("http", "ws");
  krin = new Krin(url, {
    token: (why) => session.token(why),
    name: "dashboard",
    kind: "dashboard",
    latency_interval_ms: 5000,
  });
  counted = { received: 0, at: performance.now() };
  krin.on("state", onState);
  krin.on("latency", ({ rtt_ms, type }) => type === "ping" && say($("latency"), milliseconds(rtt_ms)));
  krin.on("notice", ({ code, detail }) => {
    const settled = connection.state === "open" && performance.now() - connection.at > SETTLED_AFTER_MS;
    if (code !== "token_expiring" && (code !== "conflating" || settled)) notice(detail);
  });
  krin.connect();
}

function signedOut(reason = "") {
  const leaving = krin;
  krin = null;
  session.signOut();
  leaving?.close();
  connection = { state: "closed", at: performance.now(), since_ms: Date.now() };
  show($("facts"), false);
  show($("notice"), false);
  show($("board"), false);
  show($("sign-out"), false);
  secondFactor.withdraw();
  show($("sign-in"), true);
  say($("sign-in-error"), reason);
  $("sign-in").elements.namedItem("name").focus();
  drawBanner();
}

$("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.currentTarget;
  const button = form.querySelector("button");
  button.disabled = true;
  say($("sign-in-error"), "");
  try {
    const [name, password, code] = ["name", "password", "code"].map((field) => form.elements.namedItem(field).value);
    await session.signIn(name, password, code);
    form.reset();
    show($("code"), false);
    start();
  } catch (failure) {
    const code = form.elements.namedItem("code");
    code.value = ""; // each works once
    if (failure instanceof CodeNeeded) show($("code"), true);
    else say($("sign-in-error"), `Signing in failed: ${failure.message}`);
    if (!$("code").hidden) code.focus();
  } finally {
    button.disabled = false;
  }
});
$("sign-out").addEventListener("click", () => {
  signedOut();
  location.reload(); // nothing of what was shown stays behind
});
$("reconnect").addEventListener("click", () => krin?.connect());

setInterval(tick, TICK_EVERY_MS);
setInterval(() => connection.state === "open" && findChannels(), CHANNELS_EVERY_MS);
if (await session.enter()) start();
else signedOut();
