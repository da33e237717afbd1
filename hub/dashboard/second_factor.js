/** Enrolling an authenticator app: the password again, the QR code, a first code, then the recovery codes, once. */

import { make, say, show } from "./dom.js";

const $ = (id) => document.getElementById(id);
const SECRET_GROUP = /.{1,4}/g;

export class SecondFactor {
  #session;
  #onEnrolled;
  /** @type {PromiseWithResolvers<void> | null} */ #asked = null; // somebody waits for it
  #scanned = false; // the QR code is shown, and the form asks for a code of the app

  /** @param {import("./session.js").Session} session @param {() => Promise<void> | undefined} onEnrolled  the session has two factors now */
  constructor(session, onEnrolled) {
    this.#session = session;
    this.#onEnrolled = onEnrolled;
    $("second-factor").addEventListener("click", () => this.open());
    $("enrolment-form").addEventListener("submit", (event) => this.#submit(event));
    $("enrolment-close").addEventListener("click", () => $("enrolment").close());
    $("enrolment").addEventListener("close", () => this.#closed());
  }

  /** Whoever came with a token from elsewhere has no password here, and no second factor either. */
  offer() {
    show($("second-factor"), this.#session.ofPerson);
  }

  withdraw() {
    show($("second-factor"), false);
    $("enrolment").close();
  }

  /** Resolves when there is a second factor, and rejects when the person does not want one. */
  enrol() {
    this.#asked ??= Promise.withResolvers();
    this.open();
    return this.#asked.promise;
  }

  async open() {
    this.#clear();
    $("enrolment").showModal();
    try {
      const { enabled, recovery_codes_left } = await this.#session.get("v1/auth/mfa");
      show($("enrolment-form"), !enabled);
      const text = enabled
        ? `Your account has a second factor, and ${recovery_codes_left} recovery codes are left.`
        : "An authenticator app on your phone shows a code that signing in asks for, beside the password.";
      say($("enrolment-text"), text);
    } catch (failure) {
      say($("enrolment-text"), `This is not available: ${failure.message}`);
    }
  }

  async #submit(event) {
    event.preventDefault();
    const form = event.currentTarget;
    const button = form.querySelector("button");
    button.disabled = true;
    say($("enrolment-error"), "");
    try {
      if (this.#scanned) await this.#confirm(form.elements.namedItem("otp"));
      else await this.#begin(form.elements.namedItem("password"));
    } catch (failure) {
      say($("enrolment-error"), failure.message);
    } finally {
      button.disabled = false;
    }
  }

  async #begin(password) {
    const { uri, qr } = await this.#session.post("v1/auth/mfa/enrol", { password: password.value });
    password.value = "";
    $("enrolment-qr").src = qr;
    say($("enrolment-secret"), new URL(uri).searchParams.get("secret").match(SECRET_GROUP).join(" "));
    say($("enrolment-text"), "Scan this with the app, then enter the code that it shows.");
    show($("enrolment-password"), false);
    show($("enrolment-scan"), true);
    this.#scanned = true;
    $("enrolment-form").elements.namedItem("otp").focus();
  }

  async #confirm(otp) {
    const typed = otp.value.trim();
    otp.value = ""; // each works once
    const { recovery_codes } = await this.#session.post("v1/auth/mfa/confirm", { otp: typed });
    show($("enrolment-form"), false);
    say($("enrolment-text"), "Done. Keep these recovery codes: each replaces the app once, and they are shown only now.");
    $("recovery-codes").replaceChildren(...recovery_codes.map((code) => make("li", "", code)));
    show($("recovery-codes"), true);
    const asked = this.#asked;
    this.#asked = null; // who closes the dialog now has confirmed
    await this.#onEnrolled();
    asked?.resolve();
  }

  #closed() {
    this.#clear();
    this.#asked?.reject(new Error("not confirmed")); // says nothing after it was resolved
    this.#asked = null;
  }

  /** Nothing secret stays in a closed dialog. */
  #clear() {
    this.#scanned = false;
    $("enrolment-form").reset();
    $("enrolment-qr").removeAttribute("src");
    $("recovery-codes").replaceChildren();
    for (const id of ["enrolment-text", "enrolment-secret", "enrolment-error"]) say($(id), "");
    for (const id of ["enrolment-scan", "recovery-codes", "enrolment-form"]) show($(id), false);
    show($("enrolment-password"), true);
  }
}
