/** What waits for somebody's word: approvals and hand-offs, answered in place; and what is left of the budget. */

import { amount, lasting, words } from "./format.js";
import { Children, Panel, chip, draw, make, mark, say, show } from "./dom.js";

const HURRY_MS = 30_000;

/** A panel that draws what is known, when that has changed or time goes on. */
export class WorkPanel extends Panel {
  /** @param {string} id @param {import("./work.js").Work} work */
  constructor(id, work) {
    super(id);
    this.work = work;
    this.drawn = -1;
  }

  shown() {
    this.drawn = -1;
  }

  render(moment) {
    if (this.drawn === this.work.version && !moment.ticking) return;
    this.drawn = this.work.version;
    this.draw(moment.now_ms);
  }

  /** @param {number} size @param {string} text @param {string} method  that the hub was asked by */
  summary(size, text, method) {
    super.summary(size, text);
    this.nothing ??= this.none.textContent;
    say(this.none, this.work.refusals.get(method) ?? this.nothing);
  }
}

/** A button that waits for the hub, and a line for what the hub said against it. */
function actions(say_no, ...buttons) {
  return buttons.map(([label, primary, act]) => {
    const button = make("button", primary ? "primary" : "", label);
    button.type = "button";
    button.addEventListener("click", async () => {
      button.disabled = true;
      say(say_no, "");
      try {
        await act();
      } catch (failure) {
        say(say_no, failure.message);
      } finally {
        button.disabled = false;
      }
    });
    return button;
  });
}

export class ApprovalsPanel extends WorkPanel {
  constructor(work) {
    super("approvals", work);
    this.rows = new Children(this.section.querySelector(".open"), (id) => this.#row(id));
    this.answered = new Children(this.section.querySelector(".decided"), () => {
      const node = make("li", "muted");
      return { node };
    });
  }

  #row(id) {
    const subject = make("strong", "subject");
    const kind = make("span", "tag");
    const asked = make("p", "message");
    const count = make("span", "chip");
    const error = make("p", "bad");
    error.setAttribute("role", "alert");
    const why = make("input");
    why.setAttribute("aria-label", "Reason, if you refuse");
    why.placeholder = "Reason, if you refuse";
    const fields = make("div", "fields");
    const resolve = async (decision, payload) => {
      const answer = { approval_id: id, decision, ...(payload !== undefined && { payload }) };
      this.work.decide((await this.work.act("approvals.resolve", answer)).approval);
    };
    const [approve, refuse] = actions(
      error,
      ["Approve", true, () => resolve("APPROVED", given(fields))],
      ["Refuse", false, () => resolve("DECLINED", why.value.trim() ? { reason: why.value.trim() } : undefined)],
    );
    const answer = make("div", "answer", approve, why, refuse);
    const head = make("div", "line", kind, count);
    return { node: make("li", "", head, subject, asked, fields, answer, error), subject, kind, asked, count, answer, fields };
  }

  draw(now_ms) {
    const { work } = this;
    const user = work.context.krin()?.info?.user;
    const open = work.approvals.filter(({ expires_at }) => expires_at / 1000 > now_ms);
    open.sort((a, b) => (a.requested_by === user) - (b.requested_by === user) || a.expires_at - b.expires_at);
    this.rows.arrange(open.map(({ approval_id }) => approval_id)).forEach((row, index) => {
      const approval = open[index];
      const { requested_by, requested_at, expires_at, project_id, task_id, reason, answers = [], quorum = 1, approver_roles } = approval;
      say(row.subject, approval.subject);
      say(row.kind, words(reason ?? "CONFIRMATION"));
      const rest_ms = expires_at / 1000 - now_ms;
      chip(row.count, `${lasting(rest_ms)} left`, rest_ms < HURRY_MS ? "bad" : "warn");
      const about = task_id ? `about “${work.titleOf(task_id, project_id)}”` : "";
      const agreed = quorum > 1 && `${answers.filter(({ decision }) => decision === "APPROVED").length} of ${quorum} agree`;
      const mine = requested_by === user;
      const given_before = answers.some((each) => each.user === user);
      const whose = mine ? `for ${approver_roles.join(" or ")} to answer` : given_before && "you have answered";
      const told = [`${mine ? "you" : requested_by} asked ${lasting(now_ms - requested_at / 1000)} ago`, about, agreed, whose];
      say(row.asked, told.filter(Boolean).join(" · "));
      show(row.answer, !mine && !given_before);
      show(row.fields, !mine && !given_before);
      if (approval.response_schema && !row.fields.childElementCount) row.fields.append(...form(approval.response_schema));
    });
    const decided = [...work.decided.values()].sort((a, b) => b.at - a.at).slice(0, 3);
    this.answered.arrange(decided.map(({ approval_id }) => approval_id)).forEach(({ node }, index) => {
      const { subject, state, by: who, at } = decided[index];
      const by = who && state !== "EXPIRED" ? ` by ${who === user ? "you" : who}` : "";
      say(node, `${words(state)}${by} ${lasting(now_ms - at)} ago: ${subject}`);
    });
    this.summary(open.length, `${open.length} open`, "approvals.list");
  }
}

/** Fields for the properties of an answer that are one value each; anything else is typed as JSON. */
function form({ type, properties = {}, required = [] }) {
  const simple = type === "object" && Object.values(properties).every((each) => each.enum || ["string", "number", "integer", "boolean"].includes(each.type));
  const wanted = simple ? Object.entries(properties) : [["", { type: "json", title: "Answer, as JSON" }]];
  return wanted.map(([name, schema]) => {
    const field = make(schema.enum ? "select" : "input");
    if (schema.enum) field.append(...schema.enum.map((each) => Object.assign(make("option", "", String(each)), { value: JSON.stringify(each) })));
    else if (schema.type === "boolean") field.type = "checkbox";
    else if (schema.type === "number" || schema.type === "integer") Object.assign(field, { type: "number", step: schema.type === "integer" ? "1" : "any" });
    field.required = schema.type !== "boolean" && (schema.type === "json" || required.includes(name));
    Object.assign(field.dataset, { name, type: schema.enum ? "enum" : schema.type });
    return make("label", "", `${schema.title || name} `, field);
  });
}

/** What was entered into the fields; undefined: nothing is asked for. Raises Error: something is missing or no JSON. */
function given(fields) {
  const inputs = [...fields.querySelectorAll("[data-type]")];
  if (!inputs.length) return undefined;
  const unfit = inputs.find((input) => !input.checkValidity());
  if (unfit) throw new Error(`${unfit.parentNode.firstChild.textContent.trim()}: ${unfit.validationMessage}`);
  const read = ({ value, checked, dataset: { type } }) => {
    if (type === "boolean") return checked;
    if (type === "string") return value;
    return type === "number" || type === "integer" ? Number(value) : JSON.parse(value);
  };
  if (inputs[0].dataset.type === "json") return read(inputs[0]);
  const filled = inputs.filter(({ value, required }) => value !== "" || required);
  return Object.fromEntries(filled.map((input) => [input.dataset.name, read(input)]));
}

export class HandOffsPanel extends WorkPanel {
  constructor(work) {
    super("handoffs", work);
    this.rows = new Children(this.section.querySelector("ul"), (id) => this.#row(id));
  }

  #row(handoff_id) {
    const title = make("strong");
    const count = make("span", "chip");
    const who = make("p", "");
    const why = make("p", "message");
    const error = make("p", "bad");
    error.setAttribute("role", "alert");
    const row = { title, count, who, why, by: "", from: "" };
    const act = (method, whose) => () => this.work.act(`handoffs.${method}`, { handoff_id, specialist_id: row[whose] });
    [row.accept, row.decline, row.withdraw] = actions(
      error,
      ["Accept", true, act("accept", "by")],
      ["Decline", false, act("decline", "by")],
      ["Withdraw", false, act("withdraw", "from")],
    );
    const answer = make("div", "answer", row.accept, row.decline, row.withdraw);
    return { ...row, row, node: make("li", "", make("div", "line", title, count), who, why, answer, error) };
  }

  draw(now_ms) {
    const { work } = this;
    const mine = work.mine.map(({ entry }) => entry);
    const open = work.handoffs.filter(({ expires_at }) => expires_at / 1000 > now_ms);
    this.rows.arrange(open.map(({ handoff_id }) => handoff_id)).forEach(({ row, ...nodes }, index) => {
      const { task_id, project_id, from_specialist, to_specialist, to_skill, reason, summary, expires_at } = open[index];
      const able = mine.find(({ specialist_id, skills = [] }) =>
        to_specialist ? specialist_id === to_specialist : specialist_id !== from_specialist && skills.some(({ id }) => id === to_skill),
      );
      row.by = able?.specialist_id ?? "";
      row.from = from_specialist;
      say(nodes.title, work.titleOf(task_id, project_id));
      chip(nodes.count, `${lasting(expires_at / 1000 - now_ms)} left`, "muted");
      const to = to_specialist ?? `whoever can do ${to_skill}`;
      say(nodes.who, `${from_specialist} → ${to}${able ? ` · yours${to_specialist ? "" : `: ${able.specialist_id}`}` : ""}`);
      say(nodes.why, [reason, summary].filter(Boolean).join(" · "));
      show(nodes.accept, Boolean(able));
      show(nodes.decline, Boolean(able && to_specialist));
      show(nodes.withdraw, mine.some(({ specialist_id }) => specialist_id === from_specialist));
    });
    this.summary(open.length, `${open.length} open`, "handoffs.list");
  }
}

export class BudgetPanel extends WorkPanel {
  constructor(work) {
    super("budget", work);
    this.rows = new Children(this.section.querySelector("ul"), () => {
      const name = make("strong");
      const share = make("span", "when");
      const spent = draw("rect", { class: "spent", height: 6 });
      const reserved = draw("rect", { class: "reserved", height: 6 });
      const track = draw("svg", { class: "track", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" }, spent, reserved);
      const text = make("p", "message");
      return { node: make("li", "", make("div", "line", name, share), track, text), name, share, spent, reserved, text };
    });
  }

  draw() {
    const { budgets, project } = this.work;
    this.rows.arrange(budgets.map(({ kind, name }) => `${kind} ${name}`)).forEach((row, index) => {
      const { kind, name, usd, tokens, reserved_usd = "0", reserved_tokens = 0, limit_usd, limit_tokens, percent } = budgets[index];
      say(row.name, kind === "PROJECT" ? name : `${name} today`);
      chip(row.share, `${percent.toFixed(0)} % used`, percent >= 100 ? "bad" : percent >= 80 ? "warn" : "muted");
      const money = limit_usd !== undefined;
      const [used, held, limit] = money ? [usd, reserved_usd, limit_usd].map(Number) : [tokens, reserved_tokens, limit_tokens];
      const width = (value) => String(Math.min(100, limit ? (value * 100) / limit : 100));
      mark(row.spent, "width", width(used - held));
      mark(row.reserved, "x", width(used - held));
      mark(row.reserved, "width", width(held));
      const dollars = money && [`$${(used - held).toFixed(2)} spent`, `$${held.toFixed(2)} reserved`, `limit $${amount(limit_usd)}`].join(" · ");
      const counts = limit_tokens !== undefined && `${tokens.toLocaleString()} of ${limit_tokens.toLocaleString()} tokens`;
      say(row.text, [dollars, counts].filter(Boolean).join(" · "));
    });
    this.summary(budgets.length, project, "budgets.list");
  }
}
