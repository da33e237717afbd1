"""One question to a model: what it is shown, what it may answer, and what of that is believed. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from hub.insight.insights.grounding import Flaw, flaw_of
from hub.insight.insights.redaction import Veil
from protocol.insights import InsightKind, Severity

MAX_SHOWN = 24_000  # characters of data
MAX_SAID = 2_000  # characters of a statement, or of an action
MAX_EVIDENCE = 16
MAX_VALUE = 256  # characters

_WHO = re.compile(r"(_by|specialist|owner|author|user|person|assignee)(_id|_name)?\Z")


class Point(BaseModel):
    ref: str
    value: str


class Finding(BaseModel):
    """What a model answers. `statement` empty: there is nothing worth saying."""

    kind: InsightKind
    statement: str
    evidence: list[Point]
    confidence: float
    severity: Severity
    action: str | None


class Question:
    """`data`: by ref, JSON-like. `names`: of people whom the model meets under other names, beside those that the data
    call by a field such as `specialist_id`."""

    def __init__(self, data: Mapping[str, Any], *, names: Collection[str] = ()) -> None:
        self._veil = Veil([*names, *people_in([*data.values()])])
        self._shown: dict[str, Any] = {}
        left = MAX_SHOWN
        for ref, value in reversed([*data.items()]):  # what does not fit is the oldest
            hidden = self._veil.hide(value)
            left -= len(_encoded(hidden))
            if left < 0:
                break
            self._shown[ref] = hidden

    @property
    def text(self) -> str:
        """The data between marks that cannot stand in them."""
        entries = ",\n".join(f"{_encoded(ref)}: {_encoded(value)}" for ref, value in reversed([*self._shown.items()]))
        return f"<data>\n{{{entries}}}\n</data>"

    def flaw_of(self, finding: Finding) -> Flaw | None:
        """Why this answer is not believed."""
        said = [finding.statement, finding.action or ""]
        if any(len(text) > MAX_SAID for text in said) or not 0 <= finding.confidence <= 1:
            return "form"
        if "\0" in "".join([*said, *(point.ref + point.value for point in finding.evidence)]):
            return "form"  # Postgres cannot keep it
        if len(finding.evidence) > MAX_EVIDENCE or any(len(point.value) > MAX_VALUE for point in finding.evidence):
            return "form"
        shown = {ref: "\n".join([json.dumps(value), *_leaves(value)]) for ref, value in self._shown.items()}
        return flaw_of(said, [(point.ref, point.value) for point in finding.evidence], shown)

    def show(self, text: str) -> str:
        """With the names again."""
        return self._veil.show(text)


def people_in(value: Any) -> Iterator[str]:
    """Who is named in fields that name people."""
    if isinstance(value, dict):
        for key, each in value.items():
            if isinstance(each, str) and _WHO.search(key):
                yield each
            else:
                yield from people_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from people_in(each)


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _leaves(each)
    else:
        yield str(value)


def _encoded(value: Any) -> str:
    """Without the characters of a mark: escaped, they say the same."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c").replace(">", "\\u003e")
