"""The daily report: what came up since the last one, on every team's channel, also across terms."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec

from hub.coordination.journal import Change
from hub.coordination.reports import PERIOD_US, SecurityReports


def told(reports: SecurityReports, now_us: int) -> list[dict[str, Any]]:
    change = Change(now_us)
    reports.tick(change)
    return [msgspec.json.decode(b"{" + each.body + b"}")["data"] for each in change.messages]


async def test_a_report_tells_what_came_up_within_its_day() -> None:
    counts: tuple[dict[str, int], ...] = ({"authn_login_success": 5}, {"authz_fail": 1}, {})
    term: Any = SimpleNamespace(tasks=SimpleNamespace(projects={"alpha": None, "beta": None}))
    reports = SecurityReports(term, node="n1", counts=lambda: counts)  # type: ignore[arg-type, return-value]
    assert told(reports, 1_000) == []
    counts = ({"authn_login_success": 5}, {"authz_fail": 4}, {"credential_stuffing": 1})
    assert told(reports, 1_000 + PERIOD_US - 1) == []
    first = told(reports, 1_000 + PERIOD_US)
    assert len(first) == 2
    assert (first[0]["denied"], first[0]["threats"], first[0]["since"]) == (
        {"authz_fail": 3},
        {"credential_stuffing": 1},
        1_000,
    )
    assert "allowed" not in first[0]
    assert [each.get("denied") for each in told(reports, 1_000 + 2 * PERIOD_US)] == [None, None]
