"""C57: secrets are compared in constant time. Read from the source, so that nobody forgets."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECRET = re.compile(
    r"(secret|token|code|mac|password|signature|verifier|challenge|otp|api_key|digest|(secret|password|token|key|code)_hash)\Z"
)
PUBLIC = re.compile(r"(status_code|opcode|exit_code|error\.code|failure\.code|problem\.code|goodbye\.code)\Z")


def compared(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Each `==` and `!=` with something secret on one side, and on the other neither a constant nor an enum's member."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Compare):
            continue
        operands = [node.left, *node.comparators]
        for left, operator, right in zip(operands, node.ops, operands[1:], strict=False):
            secret = any(SECRET.search(_name(side)) and not PUBLIC.search(_name(side)) for side in (left, right))
            if isinstance(operator, ast.Eq | ast.NotEq) and secret and not (_fixed(left) or _fixed(right)):
                yield node.lineno, ast.unparse(node)


def _name(side: ast.expr) -> str:
    return ast.unparse(side.func if isinstance(side, ast.Call) else side)


def _fixed(side: ast.expr) -> bool:
    name = side.attr if isinstance(side, ast.Attribute) else side.id if isinstance(side, ast.Name) else ""
    return isinstance(side, ast.Constant) or name.isupper()


def test_c57_no_secret_is_compared_with_an_operator_that_stops_at_the_first_difference() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for folder in ("hub", "storage", "protocol")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, text in compared(ast.parse(path.read_text()))
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "given == secret",
        "self.token != token",
        "code == stored_code",
        "digest(x) == y",
        "a == b == otp",
        "x.key_hash != y",
    ],
)
def test_a_plain_comparison_of_a_secret_would_be_found(source: str) -> None:
    assert list(compared(ast.parse(source)))


@pytest.mark.parametrize("source", ["code == CloseCode.DRAINING", "error.code == 3", "token is None", "kind == other"])
def test_what_is_no_secret_may_be_compared(source: str) -> None:
    assert not list(compared(ast.parse(source)))
