"""Commands about teams, spoken to a running hub: specialists, projects, tasks, plans, approvals."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

import click

from hub.cli.parameters import Number
from hub.cli.shared import hub_client, hub_options, json_option, print_json, run, write
from protocol.coordination import Activity, Health, ProjectState, TaskState


@click.group()
def team() -> None:
    """Teams of specialists: who is there, what is to do, who does it, what waits for a person."""


@team.command()
@click.option("--team", "team_", help="of this team only")
@json_option
@hub_options
def agents(team_: str | None, as_json: bool, url: str, token_: str) -> None:
    """Specialists, and how they are: presence, activity, health."""
    asked = {"team": team_} if team_ else {}
    _ask(url, token_, "agents.list", asked, as_json, lambda found: map(_agent, found["specialists"]))


@team.command()
@click.argument("specialist_id")
@click.option("--reason", default="", help="for whoever wonders")
@json_option
@hub_options
def pause(specialist_id: str, reason: str, as_json: bool, url: str, token_: str) -> None:
    """Stop a specialist: its tasks are paused, and it gets no more."""
    asked = {"specialist_id": specialist_id, "reason": reason}
    _ask(url, token_, "agents.pause", asked, as_json, lambda entry: [_agent(entry)])


@team.command()
@click.argument("specialist_id")
@json_option
@hub_options
def resume(specialist_id: str, as_json: bool, url: str, token_: str) -> None:
    """Let it go on."""
    _ask(url, token_, "agents.resume", {"specialist_id": specialist_id}, as_json, lambda entry: [_agent(entry)])


@team.command()
@click.option("--state", type=click.Choice(get_args(ProjectState)), default="OPEN", show_default=True)
@click.option("-n", "--limit", type=click.IntRange(1, 500), default=100, show_default=True, help="of those that ended")
@click.option("--before", help="what the page before ended with")
@json_option
@hub_options
def projects(state: str, limit: int, before: str | None, as_json: bool, url: str, token_: str) -> None:
    """Projects, and how many of their tasks are in which state."""
    asked = {"state": state, "limit": limit, **({"before": before} if before else {})}

    def lines(found: Any) -> Iterable[str]:
        yield from map(_project, found["projects"])
        if "next" in found:
            yield f"... more before {found['next']}"

    _ask(url, token_, "projects.list", asked, as_json, lines)


@team.command()
@click.argument("project_id")
@click.option("--reason", default="", help="for whoever wonders")
@json_option
@hub_options
def close(project_id: str, reason: str, as_json: bool, url: str, token_: str) -> None:
    """End a project, all of whose tasks have ended. It stays readable."""
    asked = {"project_id": project_id, "reason": reason}
    _ask(url, token_, "projects.close", asked, as_json, lambda ended: [_project(ended)])


@team.command()
@click.argument("project_id")
@click.option("--reason", default="", help="for whoever wonders")
@json_option
@hub_options
def cancel(project_id: str, reason: str, as_json: bool, url: str, token_: str) -> None:
    """End a project, and cancel the tasks that have not ended. It stays readable."""
    asked = {"project_id": project_id, "reason": reason}
    _ask(url, token_, "projects.cancel", asked, as_json, lambda ended: [_project(ended)])


@team.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@json_option
@hub_options
def create(file: Path, as_json: bool, url: str, token_: str) -> None:
    """Create a project from a JSON file: project_id, tasks, deadline and what else a project has."""
    try:
        project = json.loads(file.read_bytes())
    except ValueError as failure:
        raise click.ClickException(f"{file} is not JSON: {failure}") from None
    _ask(
        url,
        token_,
        "projects.create",
        {"project": project},
        as_json,
        lambda made: [f"{made['project_id']}: {made['tasks']} tasks"],
    )


@team.command()
@click.argument("project_id")
@click.option("--state", type=click.Choice(get_args(TaskState)))
@click.option("-n", "--limit", type=click.IntRange(1, 500), default=100, show_default=True)
@json_option
@hub_options
def tasks(project_id: str, state: str | None, limit: int, as_json: bool, url: str, token_: str) -> None:
    """The tasks of a project."""
    asked = {"project_id": project_id, "limit": limit, **({"state": state} if state else {})}

    def lines(found: Any) -> Iterable[str]:
        yield from map(describe_task, found["tasks"])
        if "next" in found:
            yield f"... more after {found['next']}"

    _ask(url, token_, "tasks.list", asked, as_json, lines)


@team.command()
@click.argument("project_id")
@json_option
@hub_options
def plan(project_id: str, as_json: bool, url: str, token_: str) -> None:
    """Propose who does what, and compare it with giving tasks out one by one. Nothing changes until it is committed."""

    def lines(found: Any) -> Iterable[str]:
        proposed, greedy = found["plan"], found["greedy"]
        for each in proposed["assignments"]:
            yield f"{each['task_id']} {each['specialist_id']} {each['start_h']:g}-{each['finish_h']:g} h"
        for each in proposed.get("unassigned", ()):
            yield f"{each['task_id']} nobody: {each['reason']}"
        yield f"{proposed['plan_id']}: {proposed['makespan_h']:g} h (one by one: {greedy['makespan_h']:g} h)"

    _ask(url, token_, "team.plan", {"project_id": project_id}, as_json, lines)


@team.command()
@click.argument("project_id")
@click.argument("plan_id")
@json_option
@hub_options
def commit(project_id: str, plan_id: str, as_json: bool, url: str, token_: str) -> None:
    """Let the plan that was proposed last hold from now on."""
    asked = {"project_id": project_id, "plan_id": plan_id}
    _ask(url, token_, "team.commit", asked, as_json, lambda found: [f"{found['plan']['plan_id']} holds"])


@team.command("next")
@click.argument("project_id")
@json_option
@hub_options
def next_command(project_id: str, as_json: bool, url: str, token_: str) -> None:
    """What to do now: what is ready, blocked, waiting for a person, at risk, and what would help most."""

    _ask(url, token_, "team.next_steps", {"project_id": project_id}, as_json, _next_steps)


@team.command()
@click.argument("specialist_id")
@click.option("--project", "project_id", required=True)
@click.option("--activity", type=click.Choice(get_args(Activity)))
@click.option("--health", type=click.Choice(get_args(Health)))
@click.option("--task", "task_id", help="the task at hand")
@click.option("--progress", type=Number(0, 1))
@click.option("--message")
@json_option
@hub_options
def sync(as_json: bool, url: str, token_: str, **fields: Any) -> None:
    """Report for a specialist to its team, and see what to do next."""
    update = {name: value for name, value in fields.items() if value is not None}
    _ask(url, token_, "team.sync", {"updates": [update]}, as_json, _next_steps)


@team.command()
@click.option("--all", "all_", is_flag=True, help="also those that are decided")
@json_option
@hub_options
def approvals(all_: bool, as_json: bool, url: str, token_: str) -> None:
    """What waits for you, or what you have asked for."""
    asked = {} if all_ else {"state": "REQUESTED"}
    _ask(url, token_, "approvals.list", asked, as_json, lambda found: map(_approval, found["approvals"]))


@team.command()
@click.argument("approval_id")
@click.option("--payload", help="JSON, where the question asks for an answer")
@json_option
@hub_options
def approve(approval_id: str, payload: str | None, as_json: bool, url: str, token_: str) -> None:
    """Agree to it."""
    try:
        given = {"payload": json.loads(payload)} if payload is not None else {}
    except ValueError as failure:
        raise click.UsageError(f"--payload is not JSON: {failure}") from None
    asked = {"approval_id": approval_id, "decision": "APPROVED", **given}
    _ask(url, token_, "approvals.resolve", asked, as_json, lambda found: [_approval(found["approval"])])


@team.command()
@click.argument("approval_id")
@json_option
@hub_options
def decline(approval_id: str, as_json: bool, url: str, token_: str) -> None:
    """Say no to it."""
    asked = {"approval_id": approval_id, "decision": "DECLINED"}
    _ask(url, token_, "approvals.resolve", asked, as_json, lambda found: [_approval(found["approval"])])


@team.command()
@click.option("--project", "project_id", help="of this project only")
@click.option("--agent", "specialist_id", help="to or from this specialist only")
@json_option
@hub_options
def handoffs(as_json: bool, url: str, token_: str, **fields: str | None) -> None:
    """Tasks that one specialist offers to another, and what became of the offer."""
    asked = {name: value for name, value in fields.items() if value is not None}
    _ask(url, token_, "handoffs.list", asked, as_json, lambda found: map(describe_handoff, found["handoffs"]))


@team.command()
@click.argument("project_id")
@json_option
@hub_options
def budgets(project_id: str, as_json: bool, url: str, token_: str) -> None:
    """What a project and its specialists have used of what they may. Only those with a limit are listed."""
    asked = {"project_id": project_id}
    _ask(url, token_, "budgets.list", asked, as_json, lambda found: map(describe_budget, found["budgets"]))


def describe_handoff(handoff: dict[str, Any]) -> str:
    """`h-1 OFFERED t-1 of alpha: ann to bob: lunch`; the reason last: of the offer, or of its end."""
    to = handoff.get("to_specialist") or f"whoever knows {handoff['to_skill']}"
    why = handoff.get("because") or handoff.get("reason")
    task = f"{handoff['task_id']} of {handoff['project_id']}"
    parts = [f"{handoff['handoff_id']} {handoff['state']} {task}", f"{handoff['from_specialist']} to {to}", why]
    return ": ".join(part for part in parts if part)


def describe_budget(budget: dict[str, Any]) -> str:
    """`PROJECT alpha: 40 % used: 4 of 10 USD (1 reserved), 900 tokens`."""
    used = []
    for unit, label in (("usd", "USD"), ("tokens", "tokens")):
        limit = f" of {budget[f'limit_{unit}']}" if budget.get(f"limit_{unit}") is not None else ""
        reserved = budget.get(f"reserved_{unit}", 0)
        held = f" ({reserved} reserved)" if float(reserved) else ""
        used.append(f"{budget[unit]}{limit} {label}{held}")
    return f"{budget['kind']} {budget['name']}: {budget['percent']:.0f} % used: {', '.join(used)}"


def describe_task(task: dict[str, Any]) -> str:
    """`t-1 WORKING/RUNNING 50 % py-1 the title`."""
    state = "/".join(filter(None, (task.get("state"), task.get("substate"))))
    progress = f"{task['progress']:.0%}" if task.get("progress") else ""
    parts = [task["task_id"], state, progress, task.get("specialist_id"), task.get("title"), task.get("message")]
    return " ".join(part for part in parts if part)


def _project(answer: dict[str, Any]) -> str:
    """`alpha 2 SUBMITTED`; of one that has ended also how."""
    counts = ", ".join(f"{count} {state}" for state, count in sorted(answer["tasks"].items())) or "no tasks"
    ended = [f"{answer['state']}:"] if answer["state"] != "OPEN" else []
    because = [f"({answer['reason']})"] if answer.get("reason") else []
    return " ".join([answer["project"]["project_id"], *ended, counts, *because])


def _next_steps(found: Any) -> Iterable[str]:
    steps = found["next_steps"]
    for name in ("ready", "waiting_human", "stuck", "critical_path"):
        if steps.get(name):
            yield f"{name.replace('_', ' ')}: {', '.join(steps[name][:10])}"
    for name, blockers in list(steps.get("blocked", {}).items())[:10]:
        yield f"blocked: {name} by {', '.join(blockers)}"
    for each in steps.get("at_risk", ())[:10]:
        yield f"at risk: {each['task_id']}: {each['reason']}"
    if not steps.get("critical_path"):
        yield "all is done"
    for each in steps.get("suggestions", ())[:10]:
        yield f"{each['action'].lower()} {each['target']}: {each['why']}"


def _agent(entry: dict[str, Any]) -> str:
    status = entry["status"]
    axes = " ".join(status[axis] for axis in ("presence", "activity", "health"))
    return f"{status['specialist_id']} {axes}: {status['activity_because']}"


def _approval(approval: dict[str, Any]) -> str:
    return f"{approval['approval_id']} {approval['state']} {approval['subject']} (asked by {approval['requested_by']})"


def _ask(
    url: str, token: str, method: str, params: dict[str, Any], as_json: bool, lines: Callable[[Any], Iterable[str]]
) -> None:
    async def go() -> None:
        async with hub_client(url, token, name="team") as krin:
            answer = await krin.call(method, **params)
        if as_json:
            print_json(answer)
            return
        for line in lines(answer):
            write(line)

    run(go())
