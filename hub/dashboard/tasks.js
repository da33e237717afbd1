/** The tasks of a project as a board and as a graph, and one of them in detail. What is shown is kept in the address. */

import { lasting, time, words } from "./format.js";
import { Children, bar, chip, draw, make, mark, say, show } from "./dom.js";
import { layered, relevant } from "./graph.js";
import { WorkPanel } from "./people.js";
import { FINISHED, WAITS_FOR_A_PERSON } from "./work.js";

const FINISHED_CARDS = 30;
const MOST_NODES = 300;
const HISTORY = 500; // messages of a project that are looked through for those of a task
const HOUR_MS = 3_600_000;
const [WIDTH, HEIGHT, GAP_X, GAP_Y] = [146, 56, 30, 12];

const TONES = { WORKING: "info", INPUT_REQUIRED: "warn", AUTH_REQUIRED: "warn", COMPLETED: "good", FAILED: "bad", REJECTED: "bad" };
const COLUMNS = [
  ["To do", ({ state }) => state === "SUBMITTED" || !state],
  ["Held up", ({ state, substate }) => WAITS_FOR_A_PERSON.has(state) || substate === "BLOCKED" || substate === "PAUSED"],
  ["At work", ({ state, substate }) => state === "WORKING" && substate !== "IN_REVIEW"],
  ["In review", ({ substate }) => substate === "IN_REVIEW"],
  ["Ended", ({ state }) => FINISHED.has(state)],
];

/** A task's state in a word or two, with its tone. @param {Map<string, any>} [tasks]  of its project, to say what comes before */
function stateOf({ state, substate, depends_on = [] }, tasks) {
  if (WAITS_FOR_A_PERSON.has(state)) return ["Asks a person", "warn"];
  if (state === "WORKING" && substate !== "RUNNING") return [words(substate), substate === "BLOCKED" ? "bad" : "info"];
  if (state !== "SUBMITTED" || !tasks) return [words(state), TONES[state] ?? "muted"];
  const before = depends_on.filter((each) => tasks.get(each)?.state !== "COMPLETED").length;
  return [before ? `After ${before} ${before === 1 ? "task" : "tasks"}` : substate === "ASSIGNED" ? "Assigned" : "Ready", "muted"];
}

/** Since when it stands still, in ms; undefined: it does not. */
export function stillSince({ state, substate, blockers, at }) {
  if (substate === "BLOCKED" && blockers?.[0]?.since) return blockers[0].since / 1000;
  return WAITS_FOR_A_PERSON.has(state) || ["BLOCKED", "PAUSED", "IN_REVIEW"].includes(substate) ? at : undefined;
}

const reference = (work, project) => ({ kind, ref }) => (kind === "task" ? `“${work.titleOf(ref, project)}”` : `${kind} ${ref}`);

export class TasksPanel extends WorkPanel {
  constructor(work) {
    super("tasks", work);
    this.pick = document.getElementById("project");
    this.pick.addEventListener("change", () => this.go({ project: this.pick.value, task: "" }));
    this.board = this.section.querySelector(".kanban");
    this.graph = this.section.querySelector(".graph");
    this.links = [...this.section.querySelectorAll(".switch a")];
    this.note = this.section.querySelector(".note");
    this.columns = COLUMNS.map(([title]) => {
      const count = make("span", "count");
      const list = make("ul");
      this.board.append(make("section", "", make("h3", "", `${title} `, count), list));
      return { count, rows: new Children(list, () => newCard()) };
    });
    this.dialog = new TaskDialog(work, () => this.go({ task: "" }));
    this.place = { view: "board", project: "", task: "" };
    this.painted = "";
    addEventListener("hashchange", () => {
      this.#read();
      work.context.schedule();
    });
    this.#read();
  }

  /** `#team/graph/project/task` */
  #read() {
    const [view, as, project, task] = location.hash.slice(1).split("/");
    if (view !== "team") return;
    const named = { view: as === "graph" ? "graph" : "board", project: decodeURIComponent(project ?? ""), task: decodeURIComponent(task ?? "") };
    this.place = as ? named : { ...this.place, task: "" };
    this.work.chosen = this.place.project;
    this.work.version += 1;
  }

  address(change = {}) {
    const { view, project, task } = { ...this.place, ...change };
    const rest = task ? [project || this.work.project, task] : project ? [project] : [];
    return `#${["team", view, ...rest.map(encodeURIComponent)].join("/")}`;
  }

  go(change) {
    location.hash = this.address(change);
  }

  draw(now_ms) {
    const { work } = this;
    const { project } = work;
    this.#drawChoice(project);
    const tasks = work.tasksOf(project);
    const critical = new Set(work.steps.get(project)?.critical_path);
    const asGraph = this.place.view === "graph";
    show(this.board, !asGraph && tasks.length > 0);
    show(this.graph, asGraph && tasks.length > 0);
    if (asGraph) this.#drawGraph(tasks, critical);
    else this.#drawBoard(tasks, critical, now_ms);
    const open = tasks.filter(({ state }) => !FINISHED.has(state)).length;
    this.summary(tasks.length, `${open} open · ${tasks.length - open} ended`, "projects.list");
    this.dialog.draw(project, this.place.task, now_ms);
  }

  #drawChoice(project) {
    const { names } = this.work;
    if (this.pick.$names !== names.join("\n")) {
      this.pick.$names = names.join("\n");
      this.pick.replaceChildren(...names.map((name) => make("option", "", name)));
    }
    if (this.pick.value !== project) this.pick.value = project;
    show(this.pick, names.length > 0);
    for (const link of this.links) {
      mark(link, "href", this.address({ view: link.dataset.view }));
      mark(link, "aria-current", link.dataset.view === this.place.view ? "true" : null);
    }
  }

  #drawBoard(tasks, critical, now_ms) {
    const heaps = COLUMNS.map(() => []);
    for (const task of tasks) heaps[COLUMNS.findIndex(([, fits]) => fits(task))]?.push(task);
    const urgency = (task) => (WAITS_FOR_A_PERSON.has(task.state) ? 0 : task.substate === "BLOCKED" ? 1 : 2);
    let hidden = 0;
    this.columns.forEach(({ count, rows }, index) => {
      const ended = index === COLUMNS.length - 1;
      const heap = heaps[index].sort((a, b) => (ended ? b.at - a.at : urgency(a) - urgency(b) || critical.has(b.task_id) - critical.has(a.task_id) || a.at - b.at));
      const shown = heap.slice(0, ended ? FINISHED_CARDS : MOST_NODES);
      hidden += heap.length - shown.length;
      say(count, String(heap.length));
      rows.arrange(shown.map(({ task_id }) => task_id)).forEach((row, place) => this.#drawCard(row, shown[place], critical, now_ms));
    });
    say(this.note, hidden ? `${hidden} more are not shown: the newest are.` : "");
  }

  #drawCard(row, task, critical, now_ms) {
    mark(row.node.firstChild, "href", this.address({ task: task.task_id }));
    say(row.title, task.title ?? task.task_id);
    const [word, tone] = stateOf(task, this.work.tasks.get(this.work.project));
    const since = stillSince(task);
    chip(row.state, since ? `${word} · ${lasting(now_ms - since)}` : word, tone);
    say(row.who, task.specialist_id ?? "nobody yet");
    const why = since && task.blockers?.length ? `for ${task.blockers.map(reference(this.work, this.work.project)).join(", ")}` : "";
    say(row.why, why);
    show(row.critical, critical.has(task.task_id));
    show(row.progress, task.state === "WORKING");
    if (row.progress.value !== (task.progress ?? 0)) row.progress.value = task.progress ?? 0;
  }

  /** Redrawn as a whole, and only when something that it shows has changed. */
  #drawGraph(all, critical) {
    const tasks = relevant(all, MOST_NODES);
    const { place } = this;
    const shown = tasks.map(({ task_id, state, substate, specialist_id, depends_on }) => [task_id, state, substate, specialist_id, depends_on]);
    const painted = JSON.stringify([place, shown, [...critical]]);
    if (painted === this.painted || !tasks.length) return;
    this.painted = painted;
    const { places, edges, layers, rows } = layered(tasks);
    const x = (id) => 8 + places.get(id).layer * (WIDTH + GAP_X);
    const y = (id) => 8 + places.get(id).row * (HEIGHT + GAP_Y);
    const path = [...critical];
    const isCritical = (from, to) => critical.has(from) && path[path.indexOf(from) + 1] === to;
    const lines = edges.map(([from, to]) => {
      const [x1, y1, x2, y2] = [x(from) + WIDTH, y(from) + HEIGHT / 2, x(to), y(to) + HEIGHT / 2];
      const bend = Math.max(16, (x2 - x1) / 2);
      return draw("path", { class: isCritical(from, to) ? "critical" : "", d: `M${x1},${y1} C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}` });
    });
    const known = this.work.tasks.get(this.work.project);
    const nodes = tasks.map((task) => {
      const id = task.task_id;
      const [word, tone] = stateOf(task, known);
      const on_path = critical.has(id);
      const label = [task.title ?? id, word, task.specialist_id, on_path && "on the critical path"].filter(Boolean).join(", ");
      const text = make("div", "", make("strong", "", `${on_path ? "◆ " : ""}${task.title ?? id}`), make("span", "cut", `${word}${task.specialist_id ? ` · ${task.specialist_id}` : ""}`));
      text.title = label;
      const box = { width: String(WIDTH), height: String(HEIGHT) };
      return draw(
        "a",
        { href: this.address({ task: id }), class: on_path ? "critical" : "", "data-tone": tone, "aria-label": label, transform: `translate(${x(id)},${y(id)})` },
        draw("rect", { ...box, rx: "4" }),
        draw("foreignObject", box, text),
      );
    });
    const [width, height] = [16 + layers * (WIDTH + GAP_X) - GAP_X, 16 + rows * (HEIGHT + GAP_Y) - GAP_Y];
    const focused = this.graph.contains(document.activeElement) && document.activeElement.getAttribute("href");
    this.graph.replaceChildren(draw("svg", { width: String(width), height: String(height), role: "group", "aria-label": "Tasks, from left to right" }, ...lines, ...nodes));
    if (focused) this.graph.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
    const left_out = all.length - tasks.length;
    const legend = critical.size ? `◆ and thick lines: the critical path, ${critical.size} tasks.` : "Nothing is left to do: there is no critical path.";
    say(this.note, `${legend}${left_out ? ` ${left_out} more tasks are not shown: ${tasks.length < MOST_NODES ? "they are done, and nothing waits for them" : `at most ${MOST_NODES} are, those that are not finished first`}.` : ""}`);
  }
}

function newCard() {
  const title = make("strong");
  const state = make("span", "chip");
  const who = make("span", "muted cut");
  const why = make("span", "muted why");
  const critical = make("span", "tag", "◆ critical");
  const progress = bar("progress");
  const link = make("a", "card", title, make("span", "line", state, critical), why, make("span", "line", who, progress));
  return { node: make("li", "", link), title, state, who, why, critical, progress };
}

class TaskDialog {
  /** @param {import("./work.js").Work} work @param {() => void} onClose */
  constructor(work, onClose) {
    this.work = work;
    this.node = document.getElementById("task");
    [this.title, this.chip, this.facts, this.events, this.error] = ["h2", ".chip", "dl", "ol", ".bad"].map((each) => this.node.querySelector(each));
    this.node.addEventListener("close", () => this.shown && onClose());
    this.node.querySelector("button").addEventListener("click", () => this.node.close());
    this.shown = "";
    this.asked = -1;
    this.detail = null;
    this.history = [];
  }

  draw(project, id, now_ms) {
    const wanted = id && `${project}/${id}`;
    if (wanted !== this.shown) {
      this.shown = wanted;
      this.detail = null;
      this.history = [];
      this.asked = -1;
      if (id) this.node.open || this.node.showModal();
      else this.node.close();
    }
    if (!id) return;
    const task = this.work.tasks.get(project)?.get(id);
    if (this.asked !== (task?.at ?? 0)) {
      this.asked = task?.at ?? 0;
      this.#ask(project, id, wanted);
    }
    this.#draw(project, id, task, now_ms);
  }

  async #ask(project, id, wanted) {
    const krin = this.work.context.krin();
    try {
      const detail = await krin.call("tasks.get", { project_id: project, task_id: id });
      if (!this.history.length) {
        const { messages } = await krin.history(`tasks:${project}`, { limit: HISTORY, reverse: true });
        if (wanted === this.shown) this.history = messages.reverse().filter(({ data }) => data.task_id === id);
      }
      if (wanted !== this.shown) return;
      this.detail = detail;
      say(this.error, "");
    } catch (failure) {
      if (wanted === this.shown) say(this.error, `There is no more to tell: ${failure.message}`);
    }
    this.work.version += 1;
    this.work.context.schedule();
  }

  #draw(project, id, heard, now_ms) {
    const { spec = {}, task: told, artifacts = [], results = {}, interrupt, answer, reason } = this.detail ?? {};
    const task = heard ?? told ?? {};
    say(this.title, task.title || id);
    const since = stillSince(task);
    const [word, tone] = stateOf(task, this.work.tasks.get(project));
    chip(this.chip, since ? `${word}, for ${lasting(now_ms - since)}` : word, tone);
    const waits = (task.depends_on ?? []).map((each) => `${this.work.titleOf(each, project)} (${words(this.work.tasks.get(project)?.get(each)?.state) || "not known"})`);
    const deadline_ms = task.deadline && task.deadline / 1000 - now_ms;
    const facts = {
      Task: `${id} of ${project}`,
      Holder: task.specialist_id ?? "nobody yet",
      Progress: `${Math.floor((task.state === "COMPLETED" ? 1 : (task.progress ?? 0)) * 100)} %`,
      "Held up by": (task.blockers ?? []).map((each) => `${reference(this.work, project)(each)}${each.since ? `, for ${lasting(now_ms - each.since / 1000)}` : ""}`).join("\n"),
      "Asks a person": interrupt && `${words(interrupt.reason)}${interrupt.expires_at ? `, ${lasting(interrupt.expires_at / 1000 - now_ms)} left` : ""}`,
      Estimate: spec.effort_h && `${lasting(spec.effort_h * HOUR_MS)} of work`,
      Deadline: deadline_ms && (FINISHED.has(task.state) ? time(task.deadline / 1000) : deadline_ms > 0 ? `in ${lasting(deadline_ms)}` : `missed ${lasting(-deadline_ms)} ago`),
      "Comes after": waits.join("\n"),
      Wants: spec.required_skills?.join(", "),
      Gates: (spec.gates ?? []).map(({ gate_id, kind }) => `${gate_id}: ${words(results[gate_id] ?? "PENDING")} (${words(kind ?? "AUTOMATED").toLowerCase()})`).join("\n"),
      Artifacts: artifacts.map(({ name, ref, ...more }) => [name, ref, Object.keys(more).length && JSON.stringify(more)].filter(Boolean).join(" ")).join("\n"),
      Answer: answer && `${words(answer.decision) || JSON.stringify(answer)}${answer.payload ? ` ${JSON.stringify(answer.payload)}` : ""}`,
      Reason: reason,
      About: spec.description,
    };
    const lines = Object.entries(facts).filter(([, text]) => text);
    this.rows ??= new Children(this.facts, (label) => {
      const text = make("dd");
      return { node: make("div", "", make("dt", "", label), text), text };
    });
    this.rows.arrange(lines.map(([label]) => label)).forEach(({ text }, index) => say(text, lines[index][1]));
    const before = this.history.filter(({ timestamp }) => timestamp < (heard?.events[0]?.at ?? Infinity)).map(({ data, timestamp }) => ({ ...data, at: timestamp }));
    const events = [...before, ...(heard?.events ?? [])].filter((each, index, all) => index === 0 || stateOf(each)[0] !== stateOf(all[index - 1])[0] || each.specialist_id !== all[index - 1].specialist_id || each.message !== all[index - 1].message);
    this.lines ??= new Children(this.events, () => ({ node: make("li") }));
    this.lines.arrange(events.map(({ at }, index) => `${at} ${index}`)).forEach(({ node }, index) => {
      const { at, specialist_id, message } = events[index];
      say(node, [time(at), stateOf(events[index])[0], specialist_id, message].filter(Boolean).join(" · "));
    });
  }
}
