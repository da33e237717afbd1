"""What krin doctor makes of what it found: pure, so every verdict has a case."""

from __future__ import annotations

import pytest

from hub.doctor import findings
from hub.doctor.findings import Finding

DAY_S = 86_400
WELL = {"maxmemory_policy": "noeviction", "maxmemory": "1000", "used_memory": "10", "aof_enabled": "1"}
POSTGRES = {
    **dict.fromkeys(("fsync", "synchronous_commit", "full_page_writes", "data_checksums"), "on"),
    "in_recovery": "off",
    "encrypted": "on",
    "max_connections": "100",
}


def wrong(found: list[Finding]) -> dict[str, str]:
    return {each.check: each.level for each in found if each.level != "ok"}


@pytest.mark.parametrize(("limit", "level"), [(19_199, "error"), (19_200, "ok")])
def test_open_files_must_suffice_for_every_connection(limit: int, level: str) -> None:
    assert findings.files(limit, connections=19_000).level == level


@pytest.mark.parametrize(
    ("offset_ms", "level"),
    [(0.0, "ok"), (-249.0, "ok"), (250.0, "warning"), (-1999.0, "warning"), (2000.0, "error"), (-9000.0, "error")],
)
def test_clocks_may_differ_a_little(offset_ms: float, level: str) -> None:
    assert findings.clock("of redis", offset_ms).level == level


def test_a_redis_that_is_set_up_as_it_should_be_needs_nothing() -> None:
    assert wrong([*findings.redis(WELL, {"timeout": "0", "save": ""})]) == {}


@pytest.mark.parametrize(
    ("info", "config", "expected"),
    [
        ({"maxmemory_policy": "allkeys-lru"}, {}, {"redis eviction": "error"}),
        ({"maxmemory": "0"}, {}, {"redis memory": "warning"}),
        ({"used_memory": "900"}, {}, {"redis memory": "warning"}),
        ({"aof_enabled": "0"}, {"save": ""}, {"redis persistence": "warning"}),
        ({"aof_enabled": "0"}, {"save": "3600 1"}, {"redis persistence": "warning"}),
        ({"rdb_last_bgsave_status": "err"}, {}, {"redis disk": "error"}),
        ({}, {"timeout": "60"}, {"redis timeout": "warning"}),
    ],
)
def test_each_thing_that_is_wrong_with_redis_is_named(
    info: dict[str, str], config: dict[str, str], expected: dict[str, str]
) -> None:
    assert wrong([*findings.redis({**WELL, **info}, config)]) == expected


@pytest.mark.parametrize(
    ("settings", "local", "expected"),
    [
        ({}, False, {}),
        ({"fsync": "off"}, True, {"postgres durability": "error"}),
        ({"in_recovery": "on"}, True, {"postgres role": "error"}),
        ({"data_checksums": "off"}, True, {"postgres checksums": "warning"}),
        ({"max_connections": "20"}, True, {"postgres connections": "warning"}),
        ({"encrypted": "off"}, False, {"postgres tls": "error"}),
        ({"encrypted": "off"}, True, {}),
    ],
)
def test_each_thing_that_is_wrong_with_postgres_is_named(
    settings: dict[str, str], local: bool, expected: dict[str, str]
) -> None:
    assert wrong([*findings.postgres({**POSTGRES, **settings}, local=local)]) == expected


@pytest.mark.parametrize(
    ("installed", "available", "level", "change"),
    [
        ("0.8.4", "0.8.4", "ok", ""),
        ("0.10.0", None, "ok", ""),
        ("0.8.3", "0.8.5", "warning", "ALTER EXTENSION vector UPDATE"),
        ("0.8.3", "0.8.3", "warning", "install pgvector 0.8.4"),
        (None, "0.8.5", "error", "CREATE EXTENSION"),
        (None, None, "error", "install pgvector"),
    ],
)
def test_pgvector_must_be_there_and_new_enough(
    installed: str | None, available: str | None, level: str, change: str
) -> None:
    found = findings.pgvector(installed, available)
    assert found.level == level
    assert change in (found.change or "")


@pytest.mark.parametrize(
    ("begins", "ends", "level"),
    [(-1, 90, "ok"), (-1, 14, "warning"), (-90, -1, "error"), (1, 90, "error")],
)
def test_a_certificate_is_renewed_before_it_ends(begins: float, ends: float, level: str) -> None:
    assert findings.certificate(begins * DAY_S, ends * DAY_S, now_s=0).level == level


@pytest.mark.parametrize("protected", ["local", "tls", "proxied"])
def test_an_open_address_in_clear_text_is_an_error(protected: str) -> None:
    protections = dict.fromkeys(("local", "tls", "proxied"), False)
    assert findings.exposure("0.0.0.0", **protections).level == "error"
    assert findings.exposure("0.0.0.0", **{**protections, protected: True}).level == "ok"


def test_a_secret_is_for_its_owner_only() -> None:
    assert findings.secret("signing.key", 0o100600).level == "ok"
    assert findings.secret("signing.key", 0o100640).level == "error"


def test_origins_in_clear_text_and_a_page_of_metrics_for_anybody_are_warned_of() -> None:
    assert findings.origins(("http://a.example",), ("http://a.example",)).level == "warning"
    assert findings.origins(("https://a.example",), ()).level == "ok"
    assert [findings.metrics_page(status).level for status in (200, 403, 404)] == ["warning", "ok", "ok"]


def test_whatever_must_be_changed_says_how_and_the_exit_code_says_how_bad_it_is() -> None:
    bad, poor = findings.backlog(128), findings.files(10, connections=10)
    assert bad.change and poor.change
    assert findings.exit_code([findings.fine("a", "b"), findings.skipped("c", "d")]) == 0
    assert findings.exit_code([bad]) == 5
    assert findings.exit_code([bad, poor]) == 4
