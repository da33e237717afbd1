/** The API documents as a page on which each operation can be tried, with a token that stays in this tab's memory. */

import { make, say } from "./dom.js";

const SHOWN = 65536; // characters of an answer, or of what a socket says
const DEPTH = 3; // of examples
const token = /** @type {HTMLInputElement} */ (document.getElementById("token"));
const filter = /** @type {HTMLInputElement} */ (document.getElementById("filter"));

/** A schema with its reference followed. @param {any} document @param {any} schema */
export function resolved(document, schema) {
  let found = schema ?? {};
  while (found.$ref) found = found.$ref.slice(2).split("/").reduce((part, name) => part[name], document);
  return found;
}

/** What a schema is, in a word or two. @param {any} document @param {any} schema @returns {string} */
export function kind(document, schema) {
  const found = resolved(document, schema);
  const options = found.anyOf ?? found.oneOf;
  if (options) return [...new Set(options.map((each) => kind(document, each)))].join(" or ");
  if ("const" in found) return JSON.stringify(found.const);
  if (found.enum) return found.enum.map((each) => JSON.stringify(each)).join(" or ");
  if (found.type === "array") return `array of ${Array.isArray(found.items) ? "pairs" : kind(document, found.items)}`;
  return found.title ?? [found.type ?? "anything"].flat().join(" or ");
}

/** Something of that schema, to begin with. @param {any} document @param {any} schema @returns {any} */
export function example(document, schema, depth = 0) {
  const found = resolved(document, schema);
  if ("const" in found) return found.const;
  if ("default" in found) return found.default;
  if (found.enum) return found.enum[0];
  const options = found.anyOf ?? found.oneOf;
  if (options) return example(document, options[0], depth);
  switch (found.type) {
    case "object": {
      const wanted = depth > DEPTH ? [] : (found.required ?? []);
      return Object.fromEntries(wanted.map((name) => [name, example(document, found.properties?.[name], depth + 1)]));
    }
    case "array":
      return found.minItems ? [example(document, found.items, depth + 1)] : [];
    case "integer":
    case "number":
      return found.minimum ?? 0;
    case "boolean":
      return false;
    case "string":
      return "";
    default:
      return {};
  }
}

function fields(document, schema) {
  const found = resolved(document, schema);
  const rows = Object.entries(found.properties ?? {}).map(([name, each]) => {
    const needed = found.required?.includes(name) ? "required" : "";
    const about = resolved(document, each).description ?? "";
    const cell = make("th", "", name);
    cell.setAttribute("scope", "row");
    return make("tr", "", cell, make("td", "", kind(document, each)), make("td", "", needed), make("td", "", about));
  });
  return make("table", "", make("tbody", "", ...rows));
}

function labelled(text, control, className = "") {
  return make("label", className, text, control);
}

function textarea(value) {
  const node = /** @type {HTMLTextAreaElement} */ (make("textarea"));
  node.value = JSON.stringify(value, null, 2);
  node.rows = Math.min(14, node.value.split("\n").length + 1);
  return node;
}

/** An operation that opens on demand: hundreds of forms are made only when somebody looks. */
function entry(name, about, fill) {
  const node = /** @type {HTMLDetailsElement} */ (make("details", "", make("summary", "", name, " ", make("span", "", about))));
  node.dataset.name = `${name} ${about}`.toLowerCase();
  node.addEventListener("toggle", () => node.childElementCount > 1 || node.append(...fill()), { once: true });
  return node;
}

function form(controls, send) {
  const output = make("pre");
  output.hidden = true;
  output.setAttribute("role", "status");
  const button = make("button", "", "Send");
  const node = make("form", "", ...controls, button);
  node.addEventListener("submit", async (event) => {
    event.preventDefault();
    output.hidden = false;
    say(output, "…");
    try {
      await send((text) => say(output, text.slice(-SHOWN)));
    } catch (failure) {
      say(output, failure.message);
    }
  });
  return [node, output];
}

function restEntry(api, method, path, operation) {
  return entry(`${method.toUpperCase()} ${path}`, operation.summary ?? "", () => {
    const inputs = (operation.parameters ?? []).map((each) => ({ ...each, input: make("input") }));
    const content = Object.entries(operation.requestBody?.content ?? {})[0];
    const isJson = content?.[0] === "application/json";
    const body = content && textarea(isJson ? example(api, content[1].schema) : {});
    const controls = inputs.map((each) => labelled(each.name, each.input));
    if (body) controls.push(labelled(`body (${isJson ? "JSON" : "fields of the form, as JSON"})`, body, "wide"));
    const shape = isJson ? [fields(api, content[1].schema)] : [];
    let running = new AbortController();
    return [...shape, ...form(controls, async (print) => {
      running.abort(); // a stream of the last try
      running = new AbortController();
      const { signal } = running;
      let target = path;
      const query = new URLSearchParams();
      for (const { name, in: place, input } of inputs) {
        const value = /** @type {HTMLInputElement} */ (input).value;
        if (place === "path") target = target.replace(`{${name}}`, encodeURIComponent(value));
        else if (value) query.set(name, value);
      }
      const headers = token.value ? { authorization: `Bearer ${token.value}` } : {};
      if (content) headers["content-type"] = content[0];
      const given = body && JSON.parse(body.value);
      const answer = await fetch(`.${target}${query.size ? `?${query}` : ""}`, {
        method: method.toUpperCase(),
        headers,
        body: given && (isJson ? JSON.stringify(given) : new URLSearchParams(given)),
        signal,
      });
      let text = `${answer.status} ${answer.statusText}\n`;
      const decoder = new TextDecoder();
      for (const reader = answer.body.getReader(); ; ) {
        const { done, value } = await reader.read();
        if (done) break;
        text = (text + decoder.decode(value, { stream: true })).slice(-SHOWN);
        print(text);
      }
      print(pretty(text));
    })];
  });
}

function pretty(text) {
  const end = text.indexOf("\n");
  try {
    return text.slice(0, end + 1) + JSON.stringify(JSON.parse(text.slice(end)), null, 2);
  } catch {
    return text; // no JSON
  }
}

/** One connection for all tries, opened by the first and signed in with the token of then. */
class Socket {
  constructor() {
    this.number = 0;
    this.print = (/** @type {string} */ _) => {};
    this.lines = "";
  }

  async open() {
    if (this.socket?.readyState === WebSocket.OPEN) return;
    const url = new URL("ws", document.baseURI);
    url.protocol = url.protocol.replace("http", "ws");
    this.socket = new WebSocket(url, ["krin.v1.json"]);
    this.socket.addEventListener("message", ({ data }) => this.hear([JSON.parse(data)].flat()));
    this.socket.addEventListener("close", ({ code }) => this.show(`closed with ${code}`));
    await new Promise((resolve, reject) => {
      this.socket.addEventListener("open", resolve, { once: true });
      this.socket.addEventListener("close", () => reject(new Error("the hub cannot be reached")), { once: true });
    });
  }

  hear(messages) {
    for (const message of messages) {
      if (message.type === "ping") this.socket.send(JSON.stringify({ type: "pong", time: message.time }));
      else this.show(JSON.stringify(message, null, 2));
    }
  }

  show(text) {
    this.lines = `${this.lines}${text}\n`.slice(-SHOWN);
    this.print(this.lines);
  }

  /** @param {any} command @param {(text: string) => void} print hears everything from now on */
  async send(command, print) {
    this.lines = "";
    this.print = print;
    const fresh = this.socket?.readyState !== WebSocket.OPEN;
    await this.open();
    const all = fresh && command.type !== "connect" ? [{ type: "connect", token: token.value }, command] : [command];
    this.socket.send(JSON.stringify(all.map((each) => ({ ...each, id: ++this.number }))));
  }
}

function commandEntry(api, socket, name, operation) {
  const message = resolved(api, operation.messages[0]);
  const result = resolved(api, operation.reply.messages[0]).payload.properties.result;
  return entry(name, "", () => {
    const body = textarea(example(api, message.payload));
    const call = resolved(api, message.payload).properties.params;
    return [
      fields(api, call ?? message.payload),
      make("p", "", `Answered with ${kind(api, result)}:`),
      fields(api, result),
      ...form([labelled("message (JSON)", body, "wide")], (print) => socket.send(JSON.parse(body.value), print)),
    ];
  });
}

function toldEntry(api, reference) {
  const { name, payload } = resolved(api, reference);
  const data = resolved(api, payload).properties?.data;
  return entry(name, "", () => [fields(api, payload), ...(data ? [make("p", "", "data:"), fields(api, data)] : [])]);
}

async function load(name) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
  return answer.json();
}

try {
  const [rest, socketApi] = await Promise.all([load("openapi.json"), load("asyncapi.json")]);
  const socket = new Socket();
  const { told, pong, ...commands } = socketApi.operations;
  say(document.getElementById("version"), rest.info.version);
  document.getElementById("rest").append(...Object.entries(rest.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => restEntry(rest, method, path, operation))));
  document.getElementById("commands").append(...Object.entries(commands).map(([name, operation]) =>
    commandEntry(socketApi, socket, name, operation)));
  document.getElementById("told").append(...[...told.messages, ...pong.messages].map((each) => toldEntry(socketApi, each)));
  filter.addEventListener("input", () => {
    const wanted = filter.value.toLowerCase();
    for (const node of document.querySelectorAll("details")) node.hidden = !node.dataset.name.includes(wanted);
  });
} catch (failure) {
  say(document.getElementById("problem"), failure.message);
}
document.getElementById("settings").addEventListener("submit", (event) => event.preventDefault());
