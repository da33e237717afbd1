"""Every security control, C1 to C95, has a test that says so in its name: `test_c45_...`, `test_c78_c79_...`.

`OPEN` is what no test can prove here, and why. SECURITY.md says where we differ from a control on purpose.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent

OPEN = {
    84: "pgaudit is not in the embedded Postgres; hub/README.md recommends it for a server of one's own",
}


def every_test() -> set[str]:
    return {
        f"{path.relative_to(TESTS).as_posix()}::{node.name}"
        for path in TESTS.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test")
    }


def numbered(names: set[str]) -> set[int]:
    return {int(number) for name in names for number in re.findall(r"_c(\d+)(?=_)", name.partition("::")[2])}


def test_every_control_is_proven_or_said_to_be_open() -> None:
    by_name = numbered(every_test())
    known = by_name | set(OPEN)

    assert sorted(set(range(1, 96)) - known) == []
    assert sorted(by_name & set(OPEN)) == [], "these have tests of their own by now"
