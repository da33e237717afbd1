"""The quality gates every result has to pass, by version. A project may add gates and may not take these away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from protocol.coordination import Gate
from protocol.errors import ErrorCode, HubError

LATEST = "1"


class GateSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A version is never edited: what passed it yesterday would mean something else today."""

    version: str
    gates: tuple[Gate, ...]


KRIN_STANDARDS: Mapping[str, GateSet] = {
    "1": GateSet(
        version="1",
        gates=(
            Gate(gate_id="latency_mean", name="Mean latency", metric="latency_mean_ms", op="<", threshold=50),
            Gate(gate_id="latency_p95", name="95th percentile", metric="latency_p95_ms", op="<", threshold=100),
            Gate(
                gate_id="vulnerabilities",
                name="No critical vulnerability",
                metric="critical_vulnerabilities",
                op="==",
                threshold=0,
            ),
            # A share, not a count of failures: where no test ran there is no share, and nothing passes.
            Gate(gate_id="tests", name="All tests pass", metric="tests_passed_share", op="==", threshold=1),
            Gate(gate_id="contract", name="The contract is kept", metric="contract_violations", op="==", threshold=0),
            Gate(gate_id="documentation", name="Nothing undocumented", metric="undocumented", op="==", threshold=0),
        ),
    ),
}


def krin_standards(version: str = LATEST) -> GateSet:
    """Raises HubError(not_found)."""
    if version not in KRIN_STANDARDS:
        raise HubError(ErrorCode.NOT_FOUND, "There is no such version of the standards.", path="version")
    return KRIN_STANDARDS[version]


def gates_for(standards: GateSet, *more: Iterable[Gate]) -> tuple[Gate, ...]:
    """The standards, then each level's own gates (the project's, the task's), in order and each once.

    Raises HubError(schema_invalid) when a level gives a gate of an earlier one another meaning.
    """
    gates = {gate.gate_id: gate for gate in standards.gates}
    for level in more:
        for gate in level:
            if gates.setdefault(gate.gate_id, gate) != gate:
                raise HubError(ErrorCode.SCHEMA_INVALID, "A gate of this gate_id exists and differs.", path="gates")
    return tuple(gates.values())
