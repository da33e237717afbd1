/**
 * The page on which a person allows an application to act for them. The decision goes out with the person's own access
 * token, which this page holds and no other site can make a browser send.
 */

import { CodeNeeded, Session, address } from "./session.js";

const session = new Session();
const signIn = /** @type {HTMLFormElement} */ (document.getElementById("sign-in"));
const consent = /** @type {HTMLFormElement} */ (document.getElementById("consent"));
const code = document.getElementById("code");
const problem = document.getElementById("problem");

function show(/** @type {string} */ text = "") {
  problem.textContent = text;
  signIn.hidden = session.signedIn;
  consent.hidden = !session.signedIn;
}

signIn.addEventListener("submit", async (event) => {
  event.preventDefault();
  const fields = new FormData(signIn);
  try {
    await session.signIn(String(fields.get("name")), String(fields.get("password")), String(fields.get("code")));
    show();
  } catch (failure) {
    const needed = failure instanceof CodeNeeded;
    show(needed ? "" : `Signing in failed: ${failure.message}`);
    code.hidden &&= !needed;
    const typed = /** @type {HTMLInputElement} */ (code.querySelector("input"));
    typed.value = ""; // each works once
    if (!code.hidden) typed.focus();
  }
});

consent.addEventListener("submit", async (event) => {
  event.preventDefault();
  const decision = /** @type {HTMLButtonElement} */ (event.submitter).value;
  try {
    const answer = await fetch(address("oauth/authorize"), {
      method: "POST",
      headers: { authorization: `Bearer ${await session.token()}` },
      body: new URLSearchParams([...new URLSearchParams(location.search), ["decision", decision]]),
    });
    const body = await answer.json();
    if (!answer.ok) {
      if (answer.status === 401 || answer.status === 403) session.signOut();
      throw new Error(body.error_description);
    }
    location.assign(body.redirect_to);
  } catch (failure) {
    show(failure.message);
  }
});

show();
