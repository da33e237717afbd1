"""A result before its quality gates: the parameters of `tasks.gate`, and what `GATE_RESULT` tells."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from protocol.coordination import GateResult
from protocol.fields import ChannelPart, Count, Finite, Micros, Name, Text

MAX_EVIDENCE = 32


class Evidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Where a verdict comes from: `ref` is a run, a report, a commit; `value` what was measured there."""

    kind: Name
    ref: Text
    metric: Name | None = None
    value: Finite | None = None


class GateJudge(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Parameters of `tasks.gate`. Without `result` an automated gate is measured by the evidence."""

    project_id: ChannelPart
    task_id: Name
    gate_id: Name
    result: Literal["PASS", "FAIL", "WAIVED"] | None = None
    evidence: Annotated[list[Evidence], Meta(max_length=MAX_EVIDENCE)] = []
    because: Text = ""


class GateVerdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What was found at one gate of a task's result. `review` counts the results that were handed in."""

    task_id: Name
    project_id: Name | None = None
    gate_id: Name
    review: Count
    result: GateResult
    by: Name | None = None
    because: Text = ""
    evidence: list[Evidence] = []
    ts_event: Micros | None = None
