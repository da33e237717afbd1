/**
 * The dashboard: one connection, five views of panels. All panels listen; those of the view that is up are drawn.
 * Messages only change what the panels remember; drawing happens at most ten times a second, in one animation frame.
 */

import { Krin } from "./krin.js";
import { milliseconds, time } from "./format.js";
import { chip, mark, say, show } from "./dom.js";
import { CodeNeeded, Session, address } from "./session.js";
import { SecondFactor } from "./second_factor.js";
import { StepUp } from "./step_up.js";
import { DigestView, ErrorsView, InsightsView, SearchView } from "./insight.js";
import { AlertsView, AuditView, ClientsView, HubView, ObjectivesView } from "./operate.js";
import { SourcesView } from "./sources.js";
import { Desk } from "./desk.js";
import { FillsView, OrdersView, PositionsView } from "./orders.js";
import { DepthView, SymbolView } from "./symbol.js";
import { SwitchesView } from "./switches.js";
import { Ticket } from "./ticket.js";
import { PricesView, TradesView } from "./trading.js";
import { ApprovalsPanel, BudgetPanel, HandOffsPanel } from "./people.js";
import { TasksPanel } from "./tasks.js";
import { SpecialistsPanel, StepsPanel } from "./team.js";
import { Work } from "./work.js";

const DRAW_EVERY_MS = 100;
const TICK_EVERY_MS = 500; // ages, rates and the countdown
const CHANNELS_EVERY_MS = 10_000;
const NOTICE_SHOWN_MS = 15_000;
const SEEDED_TRENDS = 20;
const SEED_POINTS = 120;
const SETTLED_AFTER_MS = 5000; // the first answer is large; that values wait behind it is no news
const SPARE_SUBSCRIPTIONS = 32; // of the hub's bound, kept for what is not a price

const $ = (id) => document.getElementById(id);

/** @type {Krin | null} */
let krin = null;
const session = new Session();
const secondFactor = new SecondFactor(session, proven);
const stepUp = new StepUp(session, secondFactor, proven);

/** What panels may use of the page. Whoever hears `mfa_required` awaits `stepUp` and asks the hub again. */
const context = { session, krin: () => krin, notice, schedule, stepUp: () => stepUp.ask() };

const desk = new Desk(context);
const prices = new PricesView((symbol) => chosen.choose(symbol));
const trades = new TradesView();
const depth = new DepthView();
const chosen = new SymbolView(context, { prices, trades, depth });
const sources = new SourcesView();
const ticket = new Ticket(desk, prices);
const orders = new OrdersView(context, desk);
const fills = new FillsView(desk);
const positions = new PositionsView(desk);
const switches = new SwitchesView(context, desk);
const work = new Work(context);
const team = [work, ...[ApprovalsPanel, HandOffsPanel, SpecialistsPanel, TasksPanel, StepsPanel, BudgetPanel].map((Made) => new Made(work))];
const search = new SearchView(context);
const insights = new InsightsView(context);
const errors = new ErrorsView(context);
const digest = new DigestView();
const hub = new HubView();
const objectives = new ObjectivesView(hub);
const clients = new ClientsView(context);
const alerts = new AlertsView();
const audit = new AuditView(context);

/** The sign-in has more rights: the connection gets a token that says so. */
async function proven() {
  await krin?.refresh();
  for (const panel of PANELS) panel.opened();
  schedule();
}

/** @type {Record<string, import("./dom.js").Panel[]>} */
const VIEWS = {
  market: [chosen, prices, trades, depth, sources],
  orders: [ticket, orders, positions, fills, switches],
  team,
  insight: [search, insights, errors, digest],
  operate: [hub, objectives, clients, alerts, audit],
};
const NAMES = Object.keys(VIEWS);
const PANELS = Object.values(VIEWS).flat();

/** What is subscribed to, by namespace. `reload`: how much history to read again when messages were lost. */
const FEEDS = {
  prices: { to: [prices] },
  orders: { to: [orders], rewind: 300, reload: 300 },
  fills: { to: [fills], rewind: 100, reload: 100 },
  positions: { to: [positions] },
  trading: { to: [switches] },
  tasks: { to: [work], rewind: 200, reload: 200 },
  team: { to: [work, digest], rewind: 100, reload: 100 },
  approvals: { to: [work] },
  alerts: { to: [alerts], rewind: 100, reload: 100 },
  insights: { to: [insights], rewind: 100, reload: 100 },
  sources: { to: [sources] },
  status: { to: [sources] },
  system: { to: [hub, objectives, audit], rewind: 120 },
};

/** @type {import("./krin.js").StateEvent & {at: number, since_ms: number}} */
let connection = { state: "closed", at: performance.now(), since_ms: Date.now() };
/** @type {Set<string>} */
let known = new Set();

// --- the views ---

let viewed = "";

/** Show the view that the address names. */
function navigate() {
  const [named] = location.hash.slice(1).split("/");
  const name = NAMES.includes(named) ? named : NAMES[0];
  if (name === viewed) return;
  viewed = name;
  for (const link of $("views").children) {
    const current = link.getAttribute("href") === `#${name}`;
    mark(link, "aria-current", current ? "page" : null);
    if (current) document.title = `${link.textContent} · Krin`;
  }
  for (const each of NAMES) show($(`view-${each}`), each === name);
  for (const panel of VIEWS[name]) panel.shown();
  ticking = true;
  schedule();
}

/** The keys 1 to 5, and / for the search, where they are not typed into something. */
function onKey(event) {
  const { key, target, altKey, ctrlKey, metaKey } = event;
  const name = key === "/" ? "insight" : NAMES[Number(key) - 1];
  if (!krin || !name || altKey || ctrlKey || metaKey) return;
  if (target.closest("input, textarea, select, dialog, form")) return;
  location.hash = name;
  if (key !== "/") return;
  event.preventDefault();
  navigate(); // what is hidden cannot be focused
  search.focus();
}

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
  for (const panel of VIEWS[viewed]) panel.render(moment);
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
    for (const panel of PANELS) panel.opened();
  } else {
    say($("latency"), "–");
  }
  if (event.state === "closed" && event.final && [4001, 4002].includes(event.code)) signedOut(event.reason);
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
  for (const panel of PANELS) panel.heard(names);
  const bound = (asking.info?.limits?.max_subscriptions ?? 1024) - SPARE_SUBSCRIPTIONS;
  for (const channel of [...desk.channels, ...names]) {
    const namespace = channel.split(":", 1)[0];
    const feed = FEEDS[namespace];
    if (!feed || known.has(channel)) continue;
    if (namespace === "prices" && known.size >= bound) continue;
    known.add(channel);
    listen(asking, channel, feed);
  }
}

let simulated = false;

function listen(client, channel, feed) {
  const take = (message) => {
    for (const panel of feed.to) panel.take(message);
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
      onSubscribed: () => feed === FEEDS.prices && seedTrend(client, channel),
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
  show($("views"), true);
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
  show($("views"), false);
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

$("orders-account").addEventListener("change", ({ target }) => {
  desk.account = target.value;
  for (const panel of [orders, fills, positions]) panel.dirty = true;
  if (desk.account) ticket.choose(desk.account);
  schedule();
});

addEventListener("hashchange", navigate);
addEventListener("keydown", onKey);
navigate();
setInterval(tick, TICK_EVERY_MS);
setInterval(() => connection.state === "open" && findChannels(), CHANNELS_EVERY_MS);
if (await session.enter()) start();
else signedOut();
