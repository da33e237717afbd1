/**
 * Who is signed in: the token from the address bar's fragment, or from a name and a password.
 * It lives in sessionStorage: gone with the tab, and never part of an address that is sent anywhere.
 */

const STORED = "krin.session";
const SIGNED_OUT = "krin.signed-out";
const RENEW_BEFORE_MS = 60_000;

/** There is no token and no way to get one without asking the person. The SDK takes it as the end. */
export class SignedOut extends Error {
  final = true;
}

/** The name and the password are right, and this account wants a code as well. */
export class CodeNeeded extends Error {}

/** The hub refused; `name` is the error's in the protocol. */
export class Refused extends Error {
  /** @param {{name: string, message: string}} error */
  constructor({ name, message }) {
    super(message);
    this.name = name;
  }
}

/** What was typed as a second factor, as the hub wants it: six digits of the app, or a recovery code. */
function secondFactor(typed) {
  if (!typed) return {};
  return /^\d{6}$/.test(typed) ? { otp: typed } : { recovery_code: typed };
}

/** A path of this hub, also where a proxy serves it under a prefix. @param {string} path */
export const address = (path) => new URL(path, document.baseURI);

export class Session {
  /** @type {{access_token: string, refresh_token?: string, expires_at?: number} | null} */ #held = null;
  /** @type {Promise<string> | null} */ #renewing = null;

  constructor() {
    const parts = location.hash.slice(1).split("&");
    const token = parts.find((part) => part.startsWith("token="))?.slice("token=".length);
    if (token) {
      this.#keep({ access_token: token, expires_at: expiryOf(token) });
      const view = parts.find((part) => !part.includes("="));
      history.replaceState(null, "", location.pathname + location.search + (view ? `#${view}` : ""));
    } else {
      this.#held = JSON.parse(sessionStorage.getItem(STORED) ?? "null");
    }
  }

  get signedIn() {
    return this.#held !== null;
  }

  /** Whether it was a person who signed in here, with a name and a password. */
  get ofPerson() {
    return Boolean(this.#held?.refresh_token);
  }

  /** What the token says about rights: enough to ask the hub for nothing that it would refuse. @returns {string[]} */
  get roles() {
    return claimsOf(this.#held?.access_token).roles ?? [];
  }

  /** Whether somebody is signed in already, or may be without being asked. */
  async enter() {
    if (!this.#held && !sessionStorage.getItem(SIGNED_OUT)) await this.#askDemo();
    return this.signedIn;
  }

  signOut() {
    sessionStorage.setItem(SIGNED_OUT, "true"); // and not in again by itself
    this.#keep(null);
  }

  /**
   * Raises CodeNeeded when the account has a second factor and no code was given.
   * @param {string} name @param {string} password @param {string} [code]  six digits of the app, or a recovery code
   */
  async signIn(name, password, code = "") {
    const answer = await fetch(address("v1/auth/login"), {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ name, password, ...secondFactor(code.trim()) }),
    });
    const envelope = await answer.json().catch(() => null);
    const error = envelope?.meta?.error;
    if (error?.name === "mfa_required") throw new CodeNeeded(error.message);
    if (!answer.ok || !envelope?.data) throw new Error(error?.message ?? `the hub answered ${answer.status}`);
    this.#keepPair(envelope.data);
  }

  /**
   * A token that is good for now. Raises SignedOut when there is none, or another error when it cannot be renewed yet.
   * @param {{expired?: boolean}} [why]  expired: the hub has refused the one we hold.
   * @returns {Promise<string>}
   */
  async token({ expired = false } = {}) {
    if (!this.#held) throw new SignedOut("you are signed out");
    const left_ms = (this.#held.expires_at ?? Infinity) - Date.now();
    if (!expired && left_ms > RENEW_BEFORE_MS) return this.#held.access_token;
    if (this.#held.refresh_token) {
      this.#renewing ??= this.#renew().finally(() => (this.#renewing = null));
      return this.#renewing;
    }
    if (!expired && left_ms > 0) return this.#held.access_token;
    throw new SignedOut("your sign-in has expired");
  }

  /** GET a path of the hub; the envelope's `data`. @param {string} path @returns {Promise<any>} */
  async get(path) {
    return (await this.envelope(path)).data;
  }

  /** GET a path of the hub. @param {string} path @returns {Promise<{data: any, meta: any, ai_insights: any}>} */
  async envelope(path) {
    let answer = await this.#fetch(path, {});
    if (answer.status === 401) answer = await this.#fetch(path, { expired: true });
    return this.#opened(answer);
  }

  /** POST to a path of the hub; the envelope's `data`. @param {string} path @param {object} body @returns {Promise<any>} */
  async post(path, body) {
    return (await this.#opened(await this.#fetch(path, {}, { method: "POST", body: JSON.stringify(body) }))).data;
  }

  /** Raise what this sign-in has proven: what was refused with `mfa_required` may be asked again. @param {string} code */
  async stepUp(code) {
    const pair = await this.post("v1/auth/step-up", secondFactor(code.trim()));
    this.#keepPair({ ...pair, refresh_token: this.#held.refresh_token });
  }

  /** @param {Response} answer */
  async #opened(answer) {
    const envelope = await answer.json().catch(() => null);
    if (answer.ok && envelope) return envelope;
    throw envelope?.meta?.error ? new Refused(envelope.meta.error) : new Error(`the hub answered ${answer.status}`);
  }

  async #fetch(path, why, request = {}) {
    const headers = { authorization: `Bearer ${await this.token(why)}`, "content-type": "application/json" };
    return fetch(address(path), { headers, cache: "no-store", ...request });
  }

  async #renew() {
    const answer = await fetch(address("oauth/token"), {
      method: "POST",
      body: new URLSearchParams({ grant_type: "refresh_token", refresh_token: this.#held.refresh_token }),
    });
    if (answer.status === 400 || answer.status === 401) {
      throw new SignedOut("your sign-in has expired");
    }
    if (!answer.ok) throw new Error(`signing in again was answered with ${answer.status}`);
    this.#keepPair(await answer.json());
    return this.#held.access_token;
  }

  /** The demo, where everything is simulated, gives anybody a token; other hubs answer 404. */
  async #askDemo() {
    const answer = await fetch(address("demo/token"), { cache: "no-store" });
    if (answer.ok) {
      const { access_token } = await answer.json();
      this.#keep({ access_token, expires_at: expiryOf(access_token) });
    }
  }

  #keepPair({ access_token, refresh_token, expires_in }) {
    this.#keep({ access_token, refresh_token, expires_at: Date.now() + expires_in * 1000 });
  }

  #keep(held) {
    this.#held = held;
    if (held) sessionStorage.setItem(STORED, JSON.stringify(held));
    else sessionStorage.removeItem(STORED);
  }
}

/** When a JWT expires, in ms; undefined where it does not say. Nothing is decided by it but when to ask again. */
function expiryOf(token) {
  const { exp } = claimsOf(token);
  return typeof exp === "number" ? exp * 1000 : undefined;
}

/** What a JWT says, unproven; nothing of a token that is none. */
function claimsOf(token) {
  try {
    return JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
  } catch {
    return {};
  }
}
