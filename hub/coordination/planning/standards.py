"""Krin's standards: the gates that every result passes unless a team sets its own."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from protocol.coordination import Gate


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
        Gate(gate_id="tests-pass", metric="tests_failed", op="==", threshold=0),
        Gate(gate_id="contract-valid", metric="contract_violations", op="==", threshold=0),
        Gate(gate_id="documented", metric="undocumented", op="==", threshold=0),
    ),
)
