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

/** A path of this hub, also where a proxy serves it under a prefix. @param {string} path */
export const address = (path) => new URL(path, document.baseURI);

export class Session {
  /** @type {{access_token: string, refresh_token?: string, expires_at?: number} | null} */ #held = null;
  /** @type {Promise<string> | null} */ #renewing = null;

  constructor() {
    const token = new URLSearchParams(location.hash.slice(1)).get("token");
    if (token) {
      this.#keep({ access_token: token, expires_at: expiryOf(token) });
      history.replaceState(null, "", location.pathname + location.search);
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
    const typed = code.trim();
    const second = !typed ? {} : /^\d{6}$/.test(typed) ? { otp: typed } : { recovery_code: typed };
    const answer = await fetch(address("v1/auth/login"), {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ name, password, ...second }),
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
    let answer = await this.#fetch(path, {});
    if (answer.status === 401) answer = await this.#fetch(path, { expired: true });
    if (!answer.ok) throw new Error(`${path} answered ${answer.status}`);
    return (await answer.json()).data;
  }

  /** POST to a path of the hub; the envelope's `data`. @param {string} path @param {object} body @returns {Promise<any>} */
  async post(path, body) {
    const answer = await this.#fetch(path, {}, { method: "POST", body: JSON.stringify(body) });
    const { data, meta } = await answer.json();
    if (!answer.ok) throw new Error(meta.error.message);
    return data;
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
  try {
    const { exp } = JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    return typeof exp === "number" ? exp * 1000 : undefined;
  } catch {
    return undefined;
  }
}
