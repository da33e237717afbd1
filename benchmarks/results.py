"""Stored results: one JSON file for each named measurement, the newest wins; git remembers the others."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path
from typing import Any

from benchmarks import machine

# Scenarios whose own Postgres, Redis or restarted nodes show as "other processes".
OWN_PROCESSES = ("durable", "mixed", "rest", "nodes", "rolling-restart")
FOLDER = Path(__file__).parent / "results"

Result = dict[str, Any]
"""As `record` makes it and a file holds it."""


def problems_of(figures: dict[str, Any]) -> list[str]:
    """What makes a measurement a failed one. A benchmark that does not check what arrived measures nothing."""
    found = []
    missing, surplus = figures.get("missing", 0), figures.get("surplus", 0)
    if missing and not figures.get("conflates"):
        found.append(f"{missing} of {figures['expected']} deliveries are missing")
    if surplus:
        found.append(f"{surplus} deliveries too many")
    for name, text in (
        ("lost_connections", "connections were lost"),
        ("publish_errors", "publishes were refused"),
        ("refused", "publishes were refused"),
        ("unanswered", "publishes were never answered"),
        ("not_recovered", "clients came back without recovery"),
        ("still_away", "clients never came back"),
    ):
        count = figures.get(name) or 0
        if count and not isinstance(count, list):
            found.append(f"{count} {text}")
    return found


def record(scenario: str, name: str, parameters: dict[str, Any], figures: dict[str, Any]) -> Result:
    """One measurement with all that is needed to repeat it."""
    problems = problems_of(figures)
    notes = []
    if figures.get("generator_saturated"):
        notes.append("generator saturated: latency and rate are bounds of the generator, not of the server")
    if figures.get("others_cpu", 0) > 0.1 and scenario not in OWN_PROCESSES:
        notes.append(f"disturbed: other processes used {figures['others_cpu']:.0%} of a core meanwhile")
    if figures.get("stolen_cpu", 0) > 0.02:
        notes.append(f"disturbed: the hypervisor took {figures['stolen_cpu']:.0%} of a core meanwhile")
    if figures.get("core_slowed", 0) > 0.1:
        notes.append(f"disturbed: the server's core was slowed for {figures['core_slowed']:.0%} of the time")
    if len(machine.cores()) < 2:
        notes.append("one core for server and generator together")
    return {
        "scenario": scenario,
        "name": name,
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "command": machine.command(),
        "hardware": machine.hardware(),
        "versions": machine.versions(),
        "load_average": [round(each, 2) for each in os.getloadavg()],
        "parameters": parameters,
        "ok": not problems,
        "problems": problems,
        "notes": notes,
        "figures": figures,
    }


def store(result: dict[str, Any], folder: Path = FOLDER) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{result['name']}.json"
    # Two levels on lines of their own: a diff shows which figure moved, and a histogram is one line.
    lines = []
    for key, value in result.items():
        if isinstance(value, dict) and value:
            inner = ",\n".join(f"  {json.dumps(name)}: {json.dumps(each)}" for name, each in value.items())
            lines.append(f"{json.dumps(key)}: {{\n{inner}\n}}")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value)}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return path


def load_all(folder: Path = FOLDER) -> dict[str, Result]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
