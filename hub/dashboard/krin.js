/**
 * Krin's browser SDK: one ES module without dependencies, for browsers and for Node 22 (or any global WebSocket).
 *
 *   import { Krin } from "./krin.js";
 *   const krin = new Krin("wss://hub.example/ws", { token, name: "blotter", kind: "dashboard" });
 *   krin.on("state", ({ state, reason }) => console.log(state, reason));
 *   krin.subscribe("orders:alice", { rewind: 100 }, (message) => console.log(message.data));
 *   await krin.connect();
 *   await krin.publish("custom:room", { type: "NOTE", data: { text: "hello" } });
 *
 * What it takes off your hands: reconnecting with jitter, resuming every subscription from its position, dropping
 * repeats, noticing gaps, answering pings, and publishing again under the same idempotency key.
 * The wire protocol is krin.v1.json; times are milliseconds, offsets are integers below 2^53.
 */

const SUBPROTOCOL = "krin.v1.json";
const CONNECT_TIMEOUT_MS = 10_000;
const PONG_TIMEOUT_MS = 10_000; // of silence, on top of the hub's ping interval
const OFFLINE_PATIENCE_MS = 2_000; // of silence, once the device has said that it is offline
const STABLE_AFTER_MS = 5_000; // a connection that lived this long starts the back-off anew
const MAX_WAITING = 1_000; // requests kept while there is no connection
const MAX_REPAIRS = 3; // gaps mended per channel within REPAIR_WINDOW_MS, before one is accepted and reported
const REPAIR_WINDOW_MS = 10_000;
const RESUBSCRIBE_FROM = 2_500; // an `unsubscribed` with this code or above asks to come back
const ASSUMED_LIMIT_BYTES = 65_536; // until `connected` has told max_message_bytes
const NO_OUTCOME = { code: 1000, name: "internal", message: "the hub left this channel out", temporary: true };

/**
 * @typedef {import("./krin.d.ts").ErrorBody} ErrorBody
 * @typedef {import("./krin.d.ts").Explained} Explained
 * @typedef {import("./krin.d.ts").Handler} Handler
 * @typedef {import("./krin.d.ts").KrinOptions} KrinOptions
 * @typedef {import("./krin.d.ts").Member} Member
 * @typedef {import("./krin.d.ts").Publication} Message
 * @typedef {import("./krin.d.ts").Position} Position
 * @typedef {import("./krin.d.ts").Promised} Promised
 * @typedef {import("./krin.d.ts").State} State
 * @typedef {import("./krin.d.ts").StateEvent} StateEvent
 * @typedef {import("./krin.d.ts").SubscribeOptions} SubscribeOptions
 * @typedef {import("./krin.d.ts").SubscribeResult} SubscribeResult
 */

/** A command failed. `name` and `code` are the hub's, or `connection_lost`, `timeout`, `closed` with code 0. */
export class KrinError extends Error {
  /** @param {{code?: number, name: string, message: string, temporary?: boolean, retry_after_ms?: number, path?: string}} body */
  constructor({ code = 0, name, message, temporary = false, retry_after_ms, path }) {
    super(message);
    this.code = code;
    this.name = name;
    this.temporary = temporary;
    this.retry_after_ms = retry_after_ms;
    this.path = path;
  }
}

/** Whether a close code leaves the door open: 4000-4099, a normal closure and our own protocol faults do not. */
export function shouldReconnect(code) {
  return !((code >= 4000 && code <= 4099) || [1000, 1002, 1003, 1007, 1009].includes(code));
}

/**
 * Where a reader stands in one channel, and what each message means to it. Pure: no socket, no clock.
 * Same epoch and offset not above the last one: a repeat. Another epoch: another history, start over.
 * In latest channels order holds per key only, because values wait and merge per key on their way.
 */
export class Track {
  /** @param {{filtered?: boolean, recover?: Position | null}} [options]  filtered: offsets may jump by design. */
  constructor({ filtered = false, recover = null } = {}) {
    this.filtered = filtered;
    /** @type {Promised | null} */
    this.promise = null;
    /** @type {string | null} */
    this.epoch = recover ? recover.epoch : null;
    this.offset = recover ? recover.offset : -1;
    /** @type {Map<string, number>} */
    this.keys = new Map();
  }

  /** @returns {Position | null} */
  get position() {
    return this.epoch === null ? null : { epoch: this.epoch, offset: this.offset };
  }

  /** What to send as `recover`. A latest channel is joined anew: some key may lag behind the channel's offset. */
  get resume() {
    return this.promise === "latest" ? null : this.position;
  }

  /**
   * Take a subscribe result.
   * @param {SubscribeResult} result
   * @returns {{fresh: Message[], lost: string | null}}
   */
  begin(result) {
    const known = this.epoch !== null;
    this.promise = result.promise;
    const restarted =
      result.epoch !== this.epoch || result.reason === "epoch_changed" || result.offset < this.offset;
    if (restarted) this.#restart(result.epoch, -1);
    const fresh = (result.messages ?? []).filter((message) => this.#advance(message));
    this.offset = Math.max(this.offset, result.offset);
    const lost = known && !result.recovered && this.promise !== "latest" ? (result.reason ?? "unknown") : null;
    return { fresh, lost };
  }

  /**
   * Take a live message.
   * @param {Message} message
   * @returns {"fresh" | "repeat" | "gap" | "reset"}  A gap does not move the position.
   */
  next(message) {
    if (message.epoch !== undefined && message.epoch !== this.epoch) {
      this.#restart(message.epoch, message.offset - 1);
      this.#advance(message);
      return "reset";
    }
    if (this.promise !== "latest" && !this.filtered && message.offset > this.offset + 1) return "gap";
    return this.#advance(message) ? "fresh" : "repeat";
  }

  /** Accept a gap that cannot be mended. @param {Message} message */
  skipTo(message) {
    this.offset = message.offset;
  }

  #restart(epoch, offset) {
    this.epoch = epoch;
    this.offset = offset;
    this.keys.clear();
  }

  #advance(message) {
    if (this.promise === "latest") {
      const key = message.key ?? "";
      if (message.offset <= (this.keys.get(key) ?? -1)) return false;
      this.keys.set(key, message.offset);
      this.offset = Math.max(this.offset, message.offset);
      return true;
    }
    if (message.offset <= this.offset) return false;
    this.offset = message.offset;
    return true;
  }
}

/** One channel as this client hears it. Made by `krin.subscribe`. */
export class Subscription {
  /** @type {Krin} */ #krin;

  /**
   * @param {Krin} krin
   * @param {string} channel
   * @param {SubscribeOptions} options
   * @param {Handler} handler
   */
  constructor(krin, channel, options, handler) {
    this.#krin = krin;
    this.channel = channel;
    this.options = options;
    this.handler = handler;
    /** @type {"pending" | "subscribed" | "ended"} */
    this.state = "pending";
    /** Why the subscription ended, if it was not by `unsubscribe`. @type {KrinError | null} */
    this.error = null;
    this.onLost = options.onLost ?? null;
    this.onSubscribed = options.onSubscribed ?? null;
    this.onError = options.onError ?? null;
    this.onPresence = options.onPresence ?? null;
    /** @internal */
    this.track = new Track({ filtered: Boolean(options.filter), recover: options.recover ?? null });
    /** @internal @type {Map<string, Member>} */
    this.present = new Map();
    /** @internal Times of recent repairs. @type {number[]} */
    this.repairs = [];
    /** @internal Marks the join under way, so that a late answer to an earlier one is ignored. */
    this.join = 0;
    /** @internal Failed joins in a row. */
    this.failures = 0;
  }

  /** Where this subscription stands, to store and to pass as `recover` later. */
  get position() {
    return this.track.position;
  }

  /** The channel's promise, once subscribed. */
  get promise() {
    return this.track.promise;
  }

  /** Who is present, if `presence` was asked for. @returns {Member[]} */
  get members() {
    return [...this.present.values()];
  }

  unsubscribe() {
    this.#krin.unsubscribe(this.channel, this);
  }

  /** @internal The subscribe fields as they stand now. */
  fields() {
    const { rewind, max_rate, max_age_ms, min_quality, filter, presence } = this.options;
    const fields = {};
    const resume = this.track.resume;
    if (resume) fields.recover = resume;
    else if (rewind !== undefined && this.track.epoch === null) fields.rewind = rewind;
    if (max_rate !== undefined) fields.max_rate = max_rate;
    if (max_age_ms !== undefined) fields.max_age_ms = max_age_ms;
    if (min_quality !== undefined) fields.min_quality = min_quality;
    if (filter !== undefined) fields.filter = filter;
    if (presence) fields.presence = true;
    return fields;
  }
}

/** A client of one hub. See the module for an example. */
export class Krin {
  /** @type {WebSocket | null} */ #socket = null;
  /** @type {Map<string, Subscription>} */ #subscriptions = new Map();
  /** @type {Map<number, {settle: (reply: any) => void, lost: () => void, sent_at: number, type: string}>} */
  #pending = new Map();
  /** @type {Request[]} */ #requests = [];
  /** @type {Map<string, Set<(detail: any) => void>>} */ #listeners = new Map();
  /** @type {string[]} */ #outgoing = [];
  /** @type {Record<string, ReturnType<typeof setTimeout>>} */ #timers = {};
  /** @type {{promise: Promise<any>, resolve: Function, reject: Function} | null} */ #opening = null;
  #url;
  #options;
  #nextId = 1;
  #dial = 0; // counts connection attempts; what belongs to an earlier one is ignored
  #attempt = 0; // failed attempts in a row
  #openedAt = 0;
  #heardAt = 0;
  #goodbye = null;
  #session = null;
  #tokenRefused = false;
  #onOnline = () => this.#state === "reconnecting" && this.#timers.retry && this.#connectNow();
  #onOffline = () => this.#state === "open" && this.#doubt();
  /** @type {State} */ #state = "closed";

  /**
   * @param {string | URL} url  `ws://` or `wss://`, usually ending in `/ws`.
   * @param {KrinOptions} [options]
   */
  constructor(url, options = {}) {
    this.#url = String(url);
    this.#options = options;
    /** Result of the last `connect`: client, session, user, node, version, limits ... @type {any} */
    this.info = null;
    /** Last measured round trip in milliseconds. @type {number | null} */
    this.rtt_ms = null;
    /** Add to Date.now() for the hub's clock, to within half a round trip. */
    this.clock_offset_ms = 0;
    /** Publications received, repeats included. */
    this.received = 0;
  }

  /** @returns {State} */
  get state() {
    return this.#state;
  }

  /** Names of the channels subscribed to. */
  get channels() {
    return [...this.#subscriptions.keys()];
  }

  /**
   * Listen to `state` ({@link StateEvent}), `notice` ({code, channel?, detail}), `latency` ({rtt_ms, type}) or
   * `error` (what a handler of yours threw).
   * @param {"state" | "notice" | "latency" | "error"} event
   * @param {(detail: any) => void} listener
   * @returns {() => void} Stops listening.
   */
  on(event, listener) {
    if (!this.#listeners.has(event)) this.#listeners.set(event, new Set());
    this.#listeners.get(event).add(listener);
    return () => this.#listeners.get(event).delete(listener);
  }

  /**
   * Open the connection and keep it open. Resolves with the first `connected` result; rejects if it is closed for good.
   * @returns {Promise<any>}
   */
  connect() {
    if (this.#opening === null) {
      const opening = {};
      opening.promise = new Promise((resolve, reject) => Object.assign(opening, { resolve, reject }));
      opening.promise.catch(() => {}); // whoever does not wait for it is told by the state event
      this.#opening = opening;
      this.#attempt = 0;
      this.#tokenRefused = false;
      globalThis.addEventListener?.("online", this.#onOnline);
      globalThis.addEventListener?.("offline", this.#onOffline);
      this.#setState({ state: "connecting" });
      this.#connectNow();
    }
    return this.#opening.promise;
  }

  /** Say goodbye for good. Whatever still waits is rejected. */
  close() {
    if (this.#opening === null) return;
    this.#finish({ code: 1000, reason: "closed by this client" });
  }

  /**
   * Hear a channel. Survives reconnects; ends with `unsubscribe`, or when the hub says no (`onError`).
   * @param {string} channel
   * @param {SubscribeOptions | Handler} options
   * @param {Handler} [handler]
   * @returns {Subscription}
   */
  subscribe(channel, options, handler) {
    if (typeof options === "function") [options, handler] = [{}, options];
    if (this.#subscriptions.has(channel)) throw new Error(`already subscribed to ${channel}`);
    const subscription = new Subscription(this, channel, options ?? {}, handler ?? (() => {}));
    this.#subscriptions.set(channel, subscription);
    if (this.#state === "open") this.#join(subscription);
    return subscription;
  }

  /**
   * @param {string} channel
   * @param {Subscription} [subscription]  Only if it is still this one.
   */
  unsubscribe(channel, subscription = this.#subscriptions.get(channel)) {
    if (!subscription || this.#subscriptions.get(channel) !== subscription) return;
    this.#subscriptions.delete(channel);
    subscription.state = "ended";
    subscription.join = 0;
    if (this.#state === "open") this.#command({ type: "unsubscribe", channel });
  }

  /**
   * Publish once, however often it must be sent: the same idempotency key goes with every attempt, after reconnects
   * and temporary errors alike. What is published while another message waits for its retry may overtake it.
   * @param {string} channel
   * @param {{type: string, data: any, trace?: string, coordination?: Record<string, any>}} message
   * @param {{key?: string, idempotency_key?: string, ttl_ms?: number, timing?: boolean, timeout_ms?: number}} [options]
   *   timing: be told where its time went. timeout_ms: give up after this long; 60000 by default.
   * @returns {Promise<{channel: string, epoch: string, offset: number, timestamp: number, duplicate?: boolean,
   *   timing?: {received: number, checked: number, placed: number}}>}  Of timing: microseconds, by the hub's clock.
   */
  publish(channel, message, { key, idempotency_key = randomKey(), ttl_ms, timing, timeout_ms = 60_000 } = {}) {
    const fields = { type: "publish", channel, message, key, idempotency_key, ttl_ms, timing };
    return this.#request(fields, { retry: true, timeout_ms });
  }

  /**
   * @param {string} channel
   * @param {{since?: Position, limit?: number, reverse?: boolean, timeout_ms?: number}} [options]
   * @returns {Promise<{channel: string, epoch: string, offset: number, messages: Message[], more: boolean}>}
   */
  history(channel, { since, limit, reverse, timeout_ms = 15_000 } = {}) {
    return this.#request({ type: "history", channel, since, limit, reverse }, { retry: true, timeout_ms });
  }

  /**
   * @param {string} query
   * @param {{channel?: string, mode?: "semantic" | "text" | "hybrid", limit?: number, timeout_ms?: number}} [options]
   * @returns {Promise<any>}
   */
  search(query, { channel, mode, limit, timeout_ms = 15_000 } = {}) {
    return this.#request({ type: "search", query, channel, mode, limit }, { retry: true, timeout_ms });
  }

  /**
   * @param {string} channel
   * @returns {Promise<{channel: string, members: Member[]}>}
   */
  presence(channel, { timeout_ms = 15_000 } = {}) {
    return this.#request({ type: "presence", channel }, { retry: true, timeout_ms });
  }

  /**
   * What became of a message for this user's connections on the node: delivered, conflated, filtered ...
   * @param {string} channel
   * @param {number} offset
   * @param {{client?: string, timeout_ms?: number}} [options]  client: for that connection only
   * @returns {Promise<{channel: string, offset: number, connections: Explained[]}>}
   */
  explain(channel, offset, { client, timeout_ms = 15_000 } = {}) {
    return this.#request({ type: "explain", channel, offset, client }, { retry: true, timeout_ms });
  }

  /**
   * An operation of one of the domains, such as `orders.submit`.
   * @param {string} method
   * @param {Record<string, any>} [params]
   * @param {{retry?: boolean, timeout_ms?: number}} [options]
   *   retry: send again after a reconnect or a temporary error. Only for what may happen twice without harm.
   * @returns {Promise<any>}
   */
  call(method, params = {}, { retry = false, timeout_ms = 15_000 } = {}) {
    return this.#request({ type: "call", method, params }, { retry, timeout_ms });
  }

  /** Measure a round trip now. @returns {Promise<number>} milliseconds */
  ping() {
    if (this.#state !== "open") return Promise.reject(connectionLost());
    return new Promise((resolve, reject) => {
      const sent_at = now();
      const measured = () => {
        this.rtt_ms = now() - sent_at;
        this.#emit("latency", { rtt_ms: this.rtt_ms, type: "ping" });
        resolve(this.rtt_ms);
      };
      // Any answer measures the way there and back; a hub without this method answers with an error.
      this.#command({ type: "call", method: "hub.time", params: {} }, measured, () => reject(connectionLost()));
    });
  }

  // --- a connection's life ---

  async #connectNow() {
    this.#clearTimers();
    const dial = ++this.#dial;
    let token;
    try {
      token = await this.#token();
    } catch (failure) {
      if (dial !== this.#dial) return;
      const reason = `no token: ${failure?.message ?? failure}`;
      if (failure?.final) this.#finish({ code: 4002, reason });
      else this.#retry({ code: 0, reason });
      return;
    }
    if (dial !== this.#dial) return;
    const Socket = this.#options.WebSocket ?? globalThis.WebSocket;
    let socket;
    try {
      if (!Socket) throw new Error("there is no WebSocket here: give a class as the option WebSocket");
      socket = new Socket(this.#url, [SUBPROTOCOL]);
    } catch (failure) {
      this.#finish({ code: 0, reason: String(failure?.message ?? failure) });
      return;
    }
    this.#socket = socket;
    this.#goodbye = null;
    const mine = (handle) => (event) => dial === this.#dial && handle(event);
    socket.onopen = mine(() => this.#introduce(token));
    socket.onmessage = mine((event) => this.#receive(event.data));
    socket.onclose = mine((event) => this.#lost({ code: event.code, reason: event.reason }));
    socket.onerror = () => {}; // a close event follows and says more
    this.#timers.connect = setTimeout(
      () => this.#lost({ code: 0, reason: "no answer from the hub" }),
      CONNECT_TIMEOUT_MS,
    );
  }

  async #token() {
    const { token } = this.#options;
    return typeof token === "function" ? token({ expired: this.#tokenRefused }) : token;
  }

  /** The first message: who we are, and every subscription that fits into one. */
  #introduce(token) {
    this.#heardAt = now();
    const { name, kind } = this.#options;
    const command = { type: "connect", token, name, kind, session: this.#session ?? undefined, subscriptions: {} };
    let room = this.#frameBytes() - byteLength(JSON.stringify(command)) - 64;
    const joins = new Map();
    for (const subscription of this.#subscriptions.values()) {
      const fields = subscription.fields();
      room -= byteLength(JSON.stringify({ [subscription.channel]: fields }));
      if (room < 0) break; // the rest follows as soon as the hub knows us
      command.subscriptions[subscription.channel] = fields;
      subscription.join = this.#nextId++;
      joins.set(subscription.channel, { subscription, join: subscription.join });
    }
    const sent_at = now();
    this.#command(command, (reply) => {
      if (reply.error) this.#refused(reply.error);
      else this.#connected(reply.result, joins, now() - sent_at);
    });
  }

  #refused(error) {
    const expired = error.name === "token_expired" || error.name === "token_invalid";
    const reason = `${error.name}: ${error.message}`;
    if (expired && typeof this.#options.token === "function" && !this.#tokenRefused) {
      this.#tokenRefused = true; // one more chance, with a token that the function knows must be new
      this.#lost({ code: 4202, reason, retry_after_ms: 0 });
    } else if (error.temporary) {
      this.#lost({ code: 4100, reason, retry_after_ms: error.retry_after_ms });
    } else {
      this.#finish({ code: expired ? 4002 : 4001, reason });
    }
  }

  #connected(result, joins, elapsed_ms) {
    clearTimeout(this.#timers.connect);
    this.#tokenRefused = false;
    this.#openedAt = now();
    this.#session = result.session;
    this.info = { ...result, subscriptions: undefined };
    this.clock_offset_ms = result.server_time + elapsed_ms / 2 - Date.now();
    this.#watch(result.ping_interval_ms + (this.#options.pong_timeout_ms ?? PONG_TIMEOUT_MS));
    this.#setState({ state: "open" });
    if (this.#state !== "open") return; // a listener closed it
    for (const [channel, { subscription, join }] of joins) {
      const outcome = result.subscriptions?.[channel] ?? { error: NO_OUTCOME };
      if (subscription.join === join) this.#joined(subscription, join, outcome.error ? outcome : { result: outcome });
      else if (!outcome.error) this.#command({ type: "unsubscribe", channel }); // given up while we connected
    }
    for (const subscription of this.#subscriptions.values()) {
      if (subscription.state === "pending" && subscription.join === 0) this.#join(subscription);
    }
    for (const request of this.#requests) if (!request.waiting) this.#sendRequest(request);
    this.#opening?.resolve(this.info);
    const interval = this.#options.latency_interval_ms ?? 10_000;
    if (interval > 0) {
      const measure = () => {
        this.ping().catch(() => {});
        this.#timers.latency = setTimeout(measure, interval);
      };
      measure();
    }
  }

  /** End the connection if the hub stays silent for so long: it pings well before that. */
  #watch(limit_ms) {
    const silence = now() - this.#heardAt;
    if (silence >= limit_ms) this.#lost({ code: 0, reason: "the hub fell silent" });
    else this.#timers.silence = setTimeout(() => this.#watch(limit_ms), limit_ms - silence + 10);
  }

  /** The device says that it has no network. A hub that does not answer now is gone; one on this machine still answers. */
  #doubt() {
    const asked_at = now();
    this.ping().catch(() => {});
    clearTimeout(this.#timers.doubt);
    this.#timers.doubt = setTimeout(() => {
      if (this.#heardAt < asked_at) this.#lost({ code: 0, reason: "this device is offline" });
    }, OFFLINE_PATIENCE_MS);
  }

  /** The connection is gone, or as good as gone. */
  #lost({ code, reason, retry_after_ms }) {
    const goodbye = this.#goodbye;
    if (goodbye) ({ code, reason, retry_after_ms } = goodbye);
    if (code === 4205) this.#session = null; // somebody else holds it now: do not fight over it
    if (goodbye?.reconnect === false || !shouldReconnect(code)) this.#finish({ code, reason });
    else this.#retry({ code, reason, retry_after_ms });
  }

  #retry({ code, reason, retry_after_ms }) {
    this.#drop(1000);
    if (this.#openedAt && now() - this.#openedAt >= STABLE_AFTER_MS) this.#attempt = 0;
    this.#openedAt = 0;
    this.#attempt += 1;
    if (code >= 4100 && code <= 4199) this.#attempt = Math.max(this.#attempt, 2);
    const retry_in_ms = Math.round(retry_after_ms ?? this.#jitter(this.#attempt));
    this.#setState({ state: "reconnecting", code, reason, attempt: this.#attempt, retry_in_ms });
    this.#timers.retry = setTimeout(() => this.#connectNow(), retry_in_ms);
  }

  #jitter(attempt) {
    const { min_ms = 500, max_ms = 20_000 } = this.#options.backoff ?? {};
    return Math.random() * Math.min(max_ms, min_ms * 2 ** attempt);
  }

  /** Closed for good. */
  #finish({ code, reason }) {
    this.#drop(1000);
    globalThis.removeEventListener?.("online", this.#onOnline);
    globalThis.removeEventListener?.("offline", this.#onOffline);
    const requests = this.#requests.splice(0);
    const closed = new KrinError({ code, name: "closed", message: reason || `closed with code ${code}` });
    for (const request of requests) request.fail(closed);
    this.#opening?.reject(closed);
    this.#opening = null;
    this.#setState({ state: "closed", code, reason, final: true });
  }

  /** Let go of the socket and of everything that hung on it. */
  #drop(code) {
    this.#dial += 1;
    this.#clearTimers();
    const socket = this.#socket;
    this.#socket = null;
    this.#outgoing = [];
    try {
      socket?.close(code);
    } catch {
      // a socket that cannot even be closed is gone already
    }
    for (const subscription of this.#subscriptions.values()) {
      subscription.state = "pending";
      subscription.join = 0;
    }
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const command of pending) command.lost();
  }

  #clearTimers() {
    for (const timer of Object.values(this.#timers)) clearTimeout(timer);
    this.#timers = {};
  }

  // --- in ---

  #receive(payload) {
    this.#heardAt = now();
    let frame;
    try {
      frame = JSON.parse(payload);
    } catch {
      this.#lost({ code: 1007, reason: "the hub sent something that is not JSON" });
      return;
    }
    const dial = this.#dial;
    for (const message of Array.isArray(frame) ? frame : [frame]) {
      this.#take(message);
      if (dial !== this.#dial) return;
    }
  }

  #take(message) {
    switch (message.type) {
      case "reply":
        return this.#reply(message);
      case "ping":
        return this.#send({ type: "pong", time: message.time });
      case "presence_diff":
        return this.#presenceDiff(message);
      case "unsubscribed":
        return this.#unsubscribed(message);
      case "notice":
        if (message.code === "token_expiring") this.refresh();
        return this.#emit("notice", message);
      case "disconnect":
        this.#goodbye = message;
        return undefined;
      default:
        if (message.channel !== undefined && message.offset !== undefined) this.#publication(message);
        return undefined; // a control type of a later version: not ours to understand
    }
  }

  #reply(reply) {
    const command = this.#pending.get(reply.id);
    if (!command) return;
    this.#pending.delete(reply.id);
    if (command.type !== "call") this.#emit("latency", { rtt_ms: now() - command.sent_at, type: command.type });
    command.settle(reply);
  }

  #publication(message) {
    this.received += 1;
    const subscription = this.#subscriptions.get(message.channel);
    if (!subscription || subscription.state !== "subscribed") return;
    switch (subscription.track.next(message)) {
      case "fresh":
        return this.#deliver(subscription, message);
      case "reset":
        if (subscription.promise !== "latest") this.#tell(subscription, "onLost", "epoch_changed");
        return this.#deliver(subscription, message);
      case "gap":
        return this.#repair(subscription, message);
      default:
        return undefined;
    }
  }

  #deliver(subscription, message) {
    try {
      subscription.handler(message, subscription);
    } catch (failure) {
      this.#failed(failure);
    }
  }

  /** Something is missing before this message: join again from where we stand. The hub sends both. */
  #repair(subscription, message) {
    const recent = subscription.repairs.filter((at) => now() - at < REPAIR_WINDOW_MS);
    if (recent.length >= MAX_REPAIRS) {
      subscription.track.skipTo(message);
      this.#tell(subscription, "onLost", "gap");
      this.#deliver(subscription, message);
      return;
    }
    subscription.repairs = [...recent, now()];
    this.#command({ type: "unsubscribe", channel: subscription.channel });
    this.#join(subscription);
  }

  #presenceDiff({ channel, joins, leaves }) {
    const subscription = this.#subscriptions.get(channel);
    if (!subscription) return;
    for (const member of leaves) subscription.present.delete(member.client);
    for (const member of joins) subscription.present.set(member.client, member);
    this.#tell(subscription, "onPresence", subscription.members, { joins, leaves });
  }

  #unsubscribed({ channel, code, reason }) {
    const subscription = this.#subscriptions.get(channel);
    if (!subscription) return;
    if (code >= RESUBSCRIBE_FROM) this.#join(subscription);
    else this.#end(subscription, new KrinError({ code, name: "unsubscribed", message: reason }));
  }

  // --- subscriptions ---

  #join(subscription) {
    const join = this.#nextId++;
    subscription.state = "pending";
    subscription.join = join;
    const command = { type: "subscribe", channel: subscription.channel, ...subscription.fields() };
    this.#command(command, (reply) => this.#joined(subscription, join, reply));
  }

  #joined(subscription, join, { result, error }) {
    if (subscription.join !== join) return; // ended, or overtaken by a later attempt
    if (error) {
      this.#notJoined(subscription, error);
      return;
    }
    subscription.state = "subscribed";
    subscription.failures = 0;
    const { fresh, lost } = subscription.track.begin(result);
    this.received += result.messages?.length ?? 0;
    if (result.members) subscription.present = new Map(result.members.map((member) => [member.client, member]));
    this.#tell(subscription, "onSubscribed", result);
    if (result.members) this.#tell(subscription, "onPresence", subscription.members, null);
    if (lost) this.#tell(subscription, "onLost", lost);
    for (const message of fresh) this.#deliver(subscription, message);
  }

  #notJoined(subscription, error) {
    if (error.name === "already_subscribed") {
      this.#command({ type: "unsubscribe", channel: subscription.channel });
      this.#join(subscription);
    } else if (error.temporary) {
      const join = subscription.join;
      const wait_ms = error.retry_after_ms ?? this.#jitter((subscription.failures += 1));
      setTimeout(() => subscription.join === join && this.#state === "open" && this.#join(subscription), wait_ms);
    } else {
      this.#end(subscription, new KrinError(error));
    }
  }

  #end(subscription, error) {
    this.#subscriptions.delete(subscription.channel);
    subscription.state = "ended";
    subscription.join = 0;
    subscription.error = error;
    this.#tell(subscription, "onError", error);
  }

  /** Call one of a subscription's callbacks, if it has it. */
  #tell(subscription, callback, ...details) {
    try {
      subscription[callback]?.(...details);
    } catch (failure) {
      this.#failed(failure);
    }
  }

  // --- requests: commands of the application ---

  #request(fields, { retry, timeout_ms }) {
    return new Promise((resolve, reject) => {
      const request = new Request(fields, retry, resolve, reject);
      const limit = this.info?.limits?.max_message_bytes ?? ASSUMED_LIMIT_BYTES;
      if (byteLength(JSON.stringify(fields)) + 32 > limit) {
        request.fail(new KrinError({ code: 1016, name: "payload_too_large", message: `at most ${limit} bytes` }));
      } else if (this.#opening === null) {
        request.fail(new KrinError({ name: "closed", message: "call connect first" }));
      } else if (this.#requests.length >= MAX_WAITING) {
        request.fail(new KrinError({ code: 1006, name: "limit_exceeded", message: `${MAX_WAITING} requests wait already` }));
      } else {
        request.deadline = setTimeout(() => {
          this.#forget(request);
          request.fail(new KrinError({ code: 1018, name: "timeout", message: "no answer in time", temporary: true }));
        }, timeout_ms);
        this.#requests.push(request);
        if (this.#state === "open") this.#sendRequest(request);
      }
    });
  }

  #sendRequest(request) {
    request.waiting = true;
    const settle = (reply) => {
      if (request.done) return;
      if (!reply.error) {
        this.#forget(request);
        request.succeed(reply.result);
      } else if (request.retry && reply.error.temporary) {
        const wait_ms = reply.error.retry_after_ms ?? this.#jitter((request.failures += 1));
        request.pause = setTimeout(() => {
          request.waiting = false;
          if (this.#state === "open") this.#sendRequest(request);
        }, wait_ms);
      } else {
        this.#forget(request);
        request.fail(new KrinError(reply.error));
      }
    };
    const lost = () => {
      if (request.retry) {
        request.waiting = false; // goes out again with the next connection
      } else {
        this.#forget(request);
        request.fail(connectionLost());
      }
    };
    this.#command(request.fields, settle, lost);
  }

  #forget(request) {
    const index = this.#requests.indexOf(request);
    if (index >= 0) this.#requests.splice(index, 1);
  }

  /** Go on with a new token of the token function, for its rights or its time. */
  async refresh() {
    if (typeof this.#options.token !== "function") return;
    const dial = this.#dial;
    try {
      const token = await this.#options.token({ expired: true });
      if (dial === this.#dial && token) this.#command({ type: "refresh", token });
    } catch {
      // the hub closes with 4202 when the token expires; the next connection asks again
    }
  }

  // --- out ---

  #command(fields, settle = () => {}, lost = () => {}) {
    const id = this.#nextId++;
    this.#pending.set(id, { settle, lost, sent_at: now(), type: fields.type });
    this.#send({ ...fields, id });
  }

  /** What is sent within one turn travels in as few frames as the hub's bound allows. */
  #send(message) {
    if (this.#outgoing.length === 0) queueMicrotask(() => this.#flush());
    this.#outgoing.push(JSON.stringify(message));
  }

  #flush() {
    const messages = this.#outgoing;
    this.#outgoing = [];
    if (this.#socket?.readyState !== 1) return; // its close event rejects what was waiting for an answer
    const bound = this.#frameBytes();
    let parts = [];
    let bytes = 0;
    const write = () => {
      if (parts.length > 0) this.#socket?.send(parts.length === 1 ? parts[0] : `[${parts.join(",")}]`);
      parts = [];
      bytes = 0;
    };
    for (const message of messages) {
      const size = byteLength(message) + 1;
      if (bytes + size > bound) write();
      parts.push(message);
      bytes += size;
    }
    write();
  }

  #frameBytes() {
    return 0.75 * (this.info?.limits?.max_message_bytes ?? ASSUMED_LIMIT_BYTES);
  }

  #setState(event) {
    this.#state = event.state;
    this.#emit("state", event);
  }

  #emit(event, detail) {
    for (const listener of this.#listeners.get(event) ?? []) {
      try {
        listener(detail);
      } catch (failure) {
        if (event !== "error") this.#failed(failure);
      }
    }
  }

  /** The application's own mistake must neither break the connection nor pass unseen. */
  #failed(failure) {
    if (this.#listeners.get("error")?.size) this.#emit("error", failure);
    else console.error("krin: a handler failed", failure);
  }
}

/** A command of the application, until it is answered for good. `waiting`: sent, or paused before the next try. */
class Request {
  constructor(fields, retry, resolve, reject) {
    this.fields = fields;
    this.retry = retry;
    this.waiting = false;
    this.done = false;
    this.failures = 0;
    this.deadline = undefined;
    this.pause = undefined;
    this.succeed = (result) => this.#settle(resolve, result);
    this.fail = (error) => this.#settle(reject, error);
  }

  #settle(settle, value) {
    this.done = true;
    clearTimeout(this.deadline);
    clearTimeout(this.pause);
    settle(value);
  }
}

const now = () => performance.now();
const encoder = new TextEncoder();
const byteLength = (text) => encoder.encode(text).length;

function connectionLost() {
  return new KrinError({ name: "connection_lost", message: "the connection was lost before the answer", temporary: true });
}

/** 128 random bits; crypto.randomUUID exists in secure contexts only. */
function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
