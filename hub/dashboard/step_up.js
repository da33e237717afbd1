/** Proving a second factor in the middle of the work: some things want one, or want it from just now. */

import { say } from "./dom.js";

const $ = (id) => document.getElementById(id);

export class StepUp {
  #session;
  #secondFactor;
  #onProven;
  /** @type {PromiseWithResolvers<void> | null} */ #asked = null;

  /**
   * @param {import("./session.js").Session} session
   * @param {import("./second_factor.js").SecondFactor} secondFactor  For those who have none yet.
   * @param {() => Promise<void> | undefined} onProven  The sign-in has more rights: the connection wants a new token.
   */
  constructor(session, secondFactor, onProven) {
    this.#session = session;
    this.#secondFactor = secondFactor;
    this.#onProven = onProven;
    $("step-up-form").addEventListener("submit", (event) => this.#submit(event));
    $("step-up-cancel").addEventListener("click", () => $("step-up").close());
    $("step-up").addEventListener("close", () => this.#end(new Error("not confirmed")));
  }

  /** Ask for a code; whoever asks meanwhile waits for the same. Rejects when the person does not want to. */
  async ask() {
    if (!this.#session.ofPerson) throw new Error("sign in with name and password for this, not with a token");
    if (!(await this.#session.get("v1/auth/mfa")).enabled) return this.#secondFactor.enrol();
    if (this.#asked) return this.#asked.promise;
    this.#asked = Promise.withResolvers();
    $("step-up-form").reset();
    say($("step-up-error"), "");
    $("step-up").showModal();
    return this.#asked.promise;
  }

  async #submit(event) {
    event.preventDefault();
    const form = event.currentTarget;
    const button = form.querySelector("button");
    const { value } = form.elements.namedItem("code");
    form.reset(); // each code works once
    button.disabled = true;
    say($("step-up-error"), "");
    try {
      await this.#session.stepUp(value);
      await this.#onProven();
      this.#end(null);
      $("step-up").close();
    } catch (failure) {
      say($("step-up-error"), failure.message);
    } finally {
      button.disabled = false;
    }
  }

  /** @param {Error | null} refusal */
  #end(refusal) {
    const asked = this.#asked;
    this.#asked = null;
    if (refusal) asked?.reject(refusal);
    else asked?.resolve();
  }
}
