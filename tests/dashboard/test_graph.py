"""Where tasks stand on paper, by the dashboard's own module in Node."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .peers import node_command
from .tools import absent

MODULE = Path(__file__).parents[2] / "hub" / "dashboard" / "graph.js"
SCRIPT = """
import { layered, relevant } from "%s";
const read = []; for await (const part of process.stdin) read.push(part);
const answers = JSON.parse(read.join("")).map(({ tasks, most }) => {
  const { places, ...rest } = layered(tasks);
  return { ...rest, places: Object.fromEntries(places), relevant: relevant(tasks, most).map((each) => each.task_id) };
});
console.log(JSON.stringify(answers));
"""


def asked(*heaps: list[dict[str, Any]], most: int = 300) -> list[dict[str, Any]]:
    node = node_command()
    if isinstance(node, str):
        absent(node)
    command = [*node, "--input-type=module", "-e", SCRIPT % MODULE.as_uri()]
    wanted = json.dumps([{"tasks": tasks, "most": most} for tasks in heaps])
    done = subprocess.run(command, input=wanted, capture_output=True, text=True, check=True)
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def task(task_id: str, *depends_on: str, **fields: Any) -> dict[str, Any]:
    return {"task_id": task_id, "depends_on": list(depends_on), **fields}


@pytest.fixture(scope="module")
def heaps() -> list[list[dict[str, Any]]]:
    """Sixty random projects without circles, among them an empty one and one of a thousand tasks."""
    dice = random.Random(7)
    made = []
    for size in [0, 1, 1000, *(dice.randrange(2, 60) for _ in range(57))]:
        names = [f"t-{number}" for number in range(size)]
        made.append([task(name, *dice.sample(names[:n], min(n, dice.randrange(4)))) for n, name in enumerate(names)])
        dice.shuffle(made[-1])
    return made


def test_a_task_stands_right_of_all_it_waits_for_and_nowhere_twice(heaps: list[list[dict[str, Any]]]) -> None:
    for tasks, drawn in zip(heaps, asked(*heaps), strict=True):
        places = drawn["places"]
        assert places.keys() == {each["task_id"] for each in tasks}
        wanted = [[before, each["task_id"]] for each in tasks for before in each["depends_on"]]
        assert sorted(drawn["edges"]) == sorted(wanted)
        assert all(places[before]["layer"] < places[after]["layer"] for before, after in drawn["edges"])
        for each in tasks:  # as far left as may be
            nearest = max((places[before]["layer"] for before in each["depends_on"]), default=-1)
            assert places[each["task_id"]]["layer"] == nearest + 1
        standing = {(place["layer"], place["row"]) for place in places.values()}
        assert len(standing) == len(places)
        assert all(
            0 <= place["row"] <= drawn["rows"] - 1 and place["layer"] < drawn["layers"] for place in places.values()
        )


def test_lines_that_need_not_cross_do_not() -> None:
    pairs = [task("a"), task("b"), task("c"), task("x", "c"), task("y", "b"), task("z", "a")]
    [drawn] = asked(pairs)
    places = drawn["places"]
    assert [places[end]["row"] for end in "xyz"] == [places[begin]["row"] for begin in "cba"]


def test_a_layer_with_fewer_tasks_is_centred() -> None:
    [drawn] = asked([task("a"), task("b"), task("c"), task("z", "a", "b", "c")])
    assert (drawn["rows"], drawn["places"]["z"]) == (3, {"layer": 1, "row": 1})


def test_what_the_hub_would_refuse_is_drawn_all_the_same() -> None:
    [drawn] = asked([task("a", "b", "nowhere", "a"), task("b", "a"), task("c")])
    assert (drawn["places"]["a"]["layer"], drawn["places"]["b"]["layer"], drawn["places"]["c"]["layer"]) == (1, 1, 0)


def test_what_is_not_finished_is_drawn_with_all_that_hangs_together_with_it() -> None:
    done, at_work = {"state": "COMPLETED"}, {"state": "WORKING"}
    old = [task("1-a", **done, at=1), task("1-b", "1-a", **done, at=2)]
    new = [task("2-a", **done, at=3), task("2-b", "2-a", **at_work, at=4), task("2-c", "2-a", **done, at=5)]
    finished = [{**each, **done} for each in new]
    three, newest, none = asked([*old, *new], [*old, *finished], [])
    assert three["relevant"] == ["2-a", "2-b", "2-c"]
    assert newest["relevant"] == ["2-a", "2-b", "2-c"]
    assert none["relevant"] == []
    [two] = asked([*old, *new], most=2)
    assert two["relevant"] == ["2-b", "2-c"]
