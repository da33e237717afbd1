/** Specialists, each with its three axes, and what a team should do next. */

import { lasting, words } from "./format.js";
import { Children, bar, chip, make, mark, say, show } from "./dom.js";
import { WorkPanel } from "./people.js";
import { stillSince } from "./tasks.js";
import { FINISHED } from "./work.js";

const STEPS_SHOWN = 4; // per kind
const HOUR_MS = 3_600_000;

const PRESENCE_TONES = { ONLINE: "good", STALE: "warn", OFFLINE: "bad" };
const ACTIVITY_TONES = { WORKING: "info", BLOCKED: "bad", WAITING_HUMAN: "warn", RATE_LIMITED: "warn" };
const HEALTH_TONES = { HEALTHY: "good", DEGRADED: "warn", STUCK: "bad", FAILED: "bad" };
const TROUBLE = ["WAITING_HUMAN", "BLOCKED", "FAILED", "STUCK", "DEGRADED", "RATE_LIMITED", "STALE"]; // the most urgent first

const percentOf = (fraction) => `${Math.floor(fraction * 100)}%`;

export class SpecialistsPanel extends WorkPanel {
  constructor(work) {
    super("team", work);
    this.rows = new Children(this.section.querySelector(".specialists"), () => newSpecialistRow());
  }

  /** Those of the team of the project that is shown. */
  draw(now_ms) {
    const { project, projects, specialists } = this.work;
    const team = projects.get(project)?.project.team ?? project;
    const ours = ([, { entry, said }]) => !project || (entry ? entry.team === team : (said.project_id ?? project) === project);
    const all = [...specialists].filter(ours).map(([id, known]) => this.#describe(id, known, now_ms));
    all.sort((a, b) => a.urgency - b.urgency || (a.since ?? 0) - (b.since ?? 0) || (a.id < b.id ? -1 : 1));
    const troubled = all.filter(({ urgency }) => urgency < TROUBLE.length).length;
    this.rows.arrange(all.map(({ id }) => id)).forEach((row, index) => this.#draw(row, all[index]));
    this.summary(all.length, `${all.length}${troubled ? ` · ${troubled} ${troubled === 1 ? "needs" : "need"} attention` : ""}`, "agents.list");
  }

  /** What the hub derives counts; what a specialist that is not registered says of itself is all there is. */
  #describe(id, { entry, status, said = {}, at }, now_ms) {
    const { presence, activity, health } = status ?? said;
    const held = [...this.work.tasks.values()].flatMap((tasks) => [...tasks.values()]).filter((task) => task.specialist_id === id && !FINISHED.has(task.state));
    const reported = !status && said.task_id && (this.work.tasks.get(said.project_id)?.get(said.task_id) ?? { task_id: said.task_id });
    const task = held.find(stillSince) ?? held[0] ?? (reported || undefined);
    const progress = task?.progress ?? (status ? undefined : said.progress);
    const blockers = task?.blockers ?? (status ? [] : (said.blockers ?? []));
    const waits = blockers.length ? `waits for ${blockers.map(({ kind, ref }) => (kind === "task" ? `“${this.work.titleOf(ref)}”` : `${kind} ${ref}`)).join(", ")}` : "";
    const because = status
      ? [presence !== "ONLINE" && status.presence_because, !waits && !["IDLE", "WORKING"].includes(activity) && (task?.substate === "IN_REVIEW" ? "its result is in review" : status.activity_because), health !== "HEALTHY" && status.health_because]
      : [said.because, said.message !== task?.title && said.message];
    const since = (task && stillSince(task)) ?? (presence === "ONLINE" ? undefined : (status?.last_heartbeat ?? 0) / 1000 || at);
    const found = TROUBLE.findIndex((each) => [presence, activity, health].includes(each));
    const urgency = found >= 0 ? found : presence === "OFFLINE" ? TROUBLE.length + 1 : TROUBLE.length;
    return { id, presence, activity, health, task, progress, since, urgency, age: since && lasting(now_ms - since), mine: entry && this.work.mine.some((each) => each.entry === entry), text: [waits, ...because].filter(Boolean).join(" · ") };
  }

  #draw(row, { id, presence, activity, health, task, progress, age: since, text, mine }) {
    say(row.name, id);
    show(row.mine, Boolean(mine));
    say(row.age, since ? `for ${since}` : "");
    chip(row.presence, words(presence) || "Unknown", PRESENCE_TONES[presence] ?? "muted");
    chip(row.activity, words(activity) || "Unknown", ACTIVITY_TONES[activity] ?? "muted");
    chip(row.health, words(health) || "Unknown", HEALTH_TONES[health] ?? "muted");
    say(row.task, task ? (task.title ?? this.work.titleOf(task.task_id)) : "No task");
    mark(row.task, "title", task?.task_id ?? null);
    show(row.progress, Boolean(task) && progress !== undefined);
    if (progress !== undefined && row.progress.value !== progress) row.progress.value = progress;
    say(row.percent, task && progress !== undefined ? percentOf(progress) : "");
    say(row.message, text);
  }
}

function newSpecialistRow() {
  const name = make("strong");
  const mine = make("span", "tag", "yours");
  const since = make("span", "muted when");
  const [presence, activity, health] = ["presence", "activity", "health"].map((axis) => {
    const label = make("span", "chip");
    label.title = axis;
    return label;
  });
  const task = make("span", "task");
  const progress = bar("progress");
  const percent = make("span", "num percent");
  const message = make("p", "message");
  const head = make("div", "line", name, mine, since);
  const axes = make("div", "axes", presence, activity, health);
  const work = make("div", "line", task, progress, percent);
  return { node: make("li", "", head, axes, work, message), name, mine, age: since, presence, activity, health, task, progress, percent, message };
}

export class StepsPanel extends WorkPanel {
  constructor(work) {
    super("steps", work);
    this.rows = new Children(this.section.querySelector("dl"), (label) => {
      const text = make("dd");
      return { node: make("div", "", make("dt", "", label), text), text };
    });
  }

  /** Next steps as the hub computes them: `NextSteps` of the protocol. */
  draw(now_ms) {
    const { work } = this;
    const { project } = work;
    const lines = [];
    const name = (id) => work.titleOf(id, project);
    const task = (id) => work.tasks.get(project)?.get(id);
    const waited = (id) => {
      const since = task(id) && stillSince(task(id));
      return since ? `, for ${lasting(now_ms - since)}` : "";
    };
    const add = (label, items, text) => items?.length && lines.push([label, items.map(text)]);
    const next = work.steps.get(project) ?? {};
    add("Waits for a person", next.waiting_human, (id) => `${name(id)}: ${task(id)?.message ?? "somebody is asked"}${waited(id)}`);
    add("Blocked", Object.entries(next.blocked ?? {}), ([id, refs]) => `${name(id)} ← ${[refs].flat().map(name).join(", ")}${waited(id)}`);
    add("Stuck", next.stuck, String);
    add("At risk", next.at_risk, ({ task_id, slack_h, reason }) => `${name(task_id)}${slack_h < 0 ? `, ${lasting(-slack_h * HOUR_MS)} late` : ""}: ${reason}`);
    add("Suggested", next.suggestions, ({ action, target, why }) => `${words(action)} ${name(target)}${why ? `: ${why}` : ""}`);
    add("Ready", next.ready, (id) => `${name(id)}: ${task(id)?.depends_on?.length ? "all that it waited for is done" : "it waits for nothing"}`);
    if (next.critical_path?.length) {
      lines.push(["Critical path", [`${next.critical_path.map(name).join(" → ")}${next.critical_path_h ? `, ${lasting(next.critical_path_h * HOUR_MS)} of work` : ""}`]]);
    }
    this.rows.arrange(lines.map(([label]) => label)).forEach(({ text }, index) => {
      const items = lines[index][1];
      const more = items.length - STEPS_SHOWN;
      say(text, [...items.slice(0, STEPS_SHOWN), ...(more > 0 ? [`and ${more} more`] : [])].join("\n"));
      mark(text, "title", more > 0 ? items.join("\n") : null);
    });
    this.summary(lines.length, project, "team.next_steps");
  }
}
