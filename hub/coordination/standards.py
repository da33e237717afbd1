"""Krin's standards: the gates that every result passes. Projects and tasks add to them and take nothing away."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from protocol.coordination import Gate
from protocol.errors import ErrorCode, HubError


class Standards(msgspec.Struct, frozen=True, kw_only=True):
    """A set of gates by name and version: another set is another version, so a plan can tell what it was held to."""

    name: str
    version: int
    gates: Sequence[Gate]


KRIN_STANDARDS = Standards(
    name="krin",
    version=1,
    gates=(
        Gate(gate_id="latency-mean", name="mean latency below 50 ms", metric="latency_mean_ms", op="<", threshold=50),
        Gate(gate_id="latency-p95", name="95 % below 100 ms", metric="latency_p95_ms", op="<", threshold=100),
        Gate(gate_id="no-critical-vulnerability", metric="critical_vulnerabilities", op="==", threshold=0),
        # A share, not a count of failures: where no test ran there is no share, and nothing passes.
        Gate(gate_id="tests-pass", metric="tests_passed_share", op="==", threshold=1),
        Gate(gate_id="contract-valid", metric="contract_violations", op="==", threshold=0),
        Gate(gate_id="documented", metric="undocumented", op="==", threshold=0),
    ),
)


def gates_for(standards: Standards, *more: Iterable[Gate], at: str = "$.params.tasks") -> tuple[Gate, ...]:
    """The standards, then each level's own gates (the project's, the task's), in order and each once.

    Raises HubError(schema_invalid), with `at` as its path, when a level gives a gate of an earlier one another meaning.
    """
    gates = {gate.gate_id: gate for gate in standards.gates}
    for level in more:
        for gate in level:
            if gates.setdefault(gate.gate_id, gate) != gate:
                raise HubError(ErrorCode.SCHEMA_INVALID, "A gate of this gate_id exists and differs.", path=at)
    return tuple(gates.values())
