/** Who acts, and how: what the views of the market and of orders ask the hub to do. */

const ANSWER_WITHIN_MS = 30_000;

/** A name that nobody else has given. */
export const newId = () =>
  [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** Whether somebody with these roles commands an account. The hub decides; this decides what is offered. Pure. */
export function mayCommand({ user, roles }, account) {
  if (roles.length === 0) return true; // a token that does not say: the hub's answer will
  return roles.includes("admin") || (roles.includes("trader") && account === user);
}

export class Desk {
  #context;
  /** Whose orders, fills and positions are shown; empty: of all that may be seen. */
  account = "";

  /** @param {{session: import("./session.js").Session, krin: () => import("./krin.js").Krin | null, stepUp: () => Promise<void>}} context */
  constructor(context) {
    this.#context = context;
  }

  get user() {
    return this.#context.krin()?.info?.user ?? "";
  }

  /** @param {string} account */
  may(account) {
    return mayCommand({ user: this.user, roles: this.#context.session.roles }, account);
  }

  /** The accounts among these channels, the own one first. @param {string[]} channels */
  accounts(channels) {
    const named = [...this.channels, ...channels].filter((name) => name.startsWith("orders:")).map((name) => name.slice("orders:".length));
    const own = (account) => Number(account === this.user);
    return [...new Set(named)].sort((a, b) => own(b) - own(a) || (a < b ? -1 : 1));
  }

  /** @param {string} account */
  shows(account) {
    return this.account === "" || this.account === account;
  }

  /** Whether this person controls the risk of all. */
  get officer() {
    const { roles } = this.#context.session;
    return roles.length === 0 || roles.includes("risk") || roles.includes("admin");
  }

  /** The channels of the own account; those that nothing was said on yet are not in the hub's list. */
  get channels() {
    return this.may(this.user) ? ["orders", "fills", "positions"].map((name) => `${name}:${this.user}`) : [];
  }

  /**
   * Ask for something that may be asked twice: it goes out again until it is answered, also over a new connection.
   * @param {string} method @param {object} params
   */
  ask(method, params, timeout_ms = ANSWER_WITHIN_MS) {
    const krin = this.#context.krin();
    return krin ? krin.call(method, params, { retry: true, timeout_ms }) : Promise.reject(new Error("you are signed out"));
  }

  /** The same, and where the hub wants a second factor the person is asked for one. */
  async command(method, params) {
    try {
      return await this.ask(method, params);
    } catch (failure) {
      if (failure.name !== "mfa_required") throw failure;
      await this.#context.stepUp();
      return this.ask(method, params);
    }
  }

  /** How a symbol trades; null where nobody has said. @param {string} symbol */
  async instrument(symbol) {
    const { messages } = await this.#context.krin().history(`instruments:${symbol}`, { limit: 1, reverse: true });
    return messages[0]?.data ?? null;
  }
}

/** Whether a command that failed so may have been carried out all the same. @param {Error & {temporary?: boolean}} failure */
export const isOpen = (failure) => Boolean(failure.temporary) || failure.name === "closed";
