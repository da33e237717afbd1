"""What is wrong with what was found. Pure: facts in, findings out, the time included.

A finding is an error where messages can be lost, clients cut off or a protection is missing; a warning where it works,
and will hurt one day.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

Level = Literal["ok", "warning", "error", "skipped"]

SPARE_FILES = 200  # for Postgres, Redis, logs and whoever is being refused
WORST_CLOCK_MS = 2_000
BAD_CLOCK_MS = 250
BACKLOG = 1024
PGVECTOR = (0, 8, 4)
POOL = 12  # connections of one node: the pool, the writer, and those that watch
CERTIFICATE_DAYS = 14
FULL = 0.8
DURABLE = ("fsync", "synchronous_commit", "full_page_writes")


class Finding(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`change`: what to do about it, where there is something to do."""

    check: str
    level: Level
    found: str
    change: str | None = None


def fine(check: str, found: str) -> Finding:
    return Finding(check=check, level="ok", found=found)


def warning(check: str, found: str, change: str) -> Finding:
    return Finding(check=check, level="warning", found=found, change=change)


def error(check: str, found: str, change: str) -> Finding:
    return Finding(check=check, level="error", found=found, change=change)


def skipped(check: str, why: str) -> Finding:
    return Finding(check=check, level="skipped", found=why)


def files(soft_limit: int, *, connections: int) -> Finding:
    needed = connections + SPARE_FILES
    found = f"{soft_limit} open files for {connections} connections"
    if soft_limit >= needed:
        return fine("files", found)
    return error(
        "files", found, f"raise the limit to {needed} (LimitNOFILE=, ulimit -n), or lower [limits] connections"
    )


def backlog(somaxconn: int) -> Finding:
    found = f"{somaxconn} connections may wait to be accepted"
    if somaxconn >= BACKLOG:
        return fine("backlog", found)
    return warning("backlog", found, f"sysctl net.core.somaxconn={BACKLOG} or more: a crowd that comes back is refused")


def clock(of: str, offset_ms: float) -> Finding:
    """`offset_ms`: how far that clock is ahead of this machine's."""
    found = f"{abs(offset_ms):.0f} ms {'ahead of' if offset_ms > 0 else 'behind'} this machine"
    change = "synchronise both with NTP: tokens, expiry and latency figures rest on it"
    if abs(offset_ms) < BAD_CLOCK_MS:
        return fine(f"clock {of}", found)
    return (error if abs(offset_ms) >= WORST_CLOCK_MS else warning)(f"clock {of}", found, change)


def redis(info: Mapping[str, str], config: Mapping[str, str]) -> Iterator[Finding]:
    """`info`: of INFO; `config`: of CONFIG GET, empty where that is forbidden."""
    policy = info.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        yield fine("redis eviction", policy)
    else:
        yield error("redis eviction", policy, "maxmemory-policy noeviction: histories must not be thrown out for room")
    limit, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    if limit and used > limit * FULL:
        yield warning("redis memory", f"{used / limit:.0%} of maxmemory used", "raise maxmemory, or shorten histories")
    elif not limit:
        yield warning("redis memory", "no maxmemory", "set maxmemory: a full machine kills Redis without a word")
    else:
        yield fine("redis memory", f"{used / limit:.0%} of maxmemory used")
    if info.get("aof_enabled") == "1":
        yield fine("redis persistence", "append-only file")
    elif config.get("save") or (not config and info.get("rdb_last_save_time")):
        yield warning(
            "redis persistence", "snapshots only", "appendonly yes: a restart forgets what came since the last"
        )
    else:
        yield warning("redis persistence", "none", "appendonly yes: a restart gives every channel in Redis a new epoch")
    if info.get("aof_last_write_status", "ok") != "ok" or info.get("rdb_last_bgsave_status", "ok") != "ok":
        yield error("redis disk", "the last write to disk failed", "make room on its disk; see its log")
    if idle := int(config.get("timeout", 0)):
        yield warning("redis timeout", f"idle connections end after {idle} s", "timeout 0")


def postgres(settings: Mapping[str, str], *, local: bool) -> Iterator[Finding]:
    """`settings`: by name, as SHOW says them, and `in_recovery`, `encrypted` ("on" or "off")."""
    off = [name for name in DURABLE if settings[name] == "off"]
    if off:
        yield error("postgres durability", f"{', '.join(off)} off", f"turn {', '.join(off)} on: a commit may be lost")
    else:
        yield fine("postgres durability", f"{', '.join(DURABLE)} on")
    if settings["in_recovery"] == "on":
        yield error("postgres role", "a read-only standby", "give the address of the primary")
    if settings["data_checksums"] == "off":
        yield warning("postgres checksums", "off", "pg_checksums --enable: a disk that lies is not noticed without")
    else:
        yield fine("postgres checksums", "on")
    most = int(settings["max_connections"])
    if most < POOL * 4:
        yield warning("postgres connections", f"max_connections {most}", f"{POOL} for each node, and some for people")
    else:
        yield fine("postgres connections", f"max_connections {most}, enough for {most // POOL} nodes")
    if not local and settings["encrypted"] == "off":
        yield error("postgres tls", "the connection is not encrypted", "sslmode=verify-full in the database URL")


def pgvector(installed: str | None, available: str | None) -> Finding:
    wanted = ".".join(map(str, PGVECTOR))
    if installed is None:
        if available is None:
            return error("pgvector", "not there", f"install pgvector {wanted} or later on the database server")
        return error("pgvector", f"{available}, not created", "krin migrate, or CREATE EXTENSION vector as a superuser")
    if version(installed) >= PGVECTOR:
        return fine("pgvector", installed)
    newer = available is not None and version(available) >= PGVECTOR
    change = (
        "ALTER EXTENSION vector UPDATE" if newer else f"install pgvector {wanted} or later, and update the extension"
    )
    return warning("pgvector", installed, f"{change}: earlier ones have known faults")


def version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def certificate(not_before_s: float, not_after_s: float, *, now_s: float) -> Finding:
    left_days = (not_after_s - now_s) / 86_400
    if now_s < not_before_s:
        return error("certificate", "not valid yet", "check this machine's clock, and the certificate")
    if left_days <= 0:
        return error("certificate", "expired", "renew it, then restart the hub")
    found = f"valid for {left_days:.0f} days"
    return fine("certificate", found) if left_days > CERTIFICATE_DAYS else warning("certificate", found, "renew it")


def exposure(host: str, *, local: bool, tls: bool, proxied: bool) -> Finding:
    if local or tls or proxied:
        how = "loopback only" if local else "TLS" if tls else "behind proxies that are trusted"
        return fine("exposure", f"{host}: {how}")
    return error("exposure", f"{host} in clear text", "give --tls-cert, or put a TLS proxy in front and trust it")


def origins(listed: tuple[str, ...], plain: tuple[str, ...]) -> Finding:
    """`plain`: those that are http and not on this machine."""
    if plain:
        return warning("origins", f"{', '.join(plain)} in clear text", "list https origins only")
    return fine("origins", ", ".join(listed) or "the hub's own pages only")


def secret(name: str, mode: int) -> Finding:
    """`mode`: the file's permission bits."""
    if mode & 0o077:
        return error("secrets", f"{name} is {mode & 0o777:o}", "chmod 600: whoever reads it can sign in as anybody")
    return fine("secrets", f"{name} is {mode & 0o777:o}")


def idle(survived_s: float, *, ping_interval_s: float, ended: str | None) -> Finding:
    """`ended`: how a silent connection ended before the hub's ping came; None: the ping came."""
    if ended is None:
        return fine("proxy timeout", f"a silent connection lived until the ping after {survived_s:.0f} s")
    return error(
        "proxy timeout",
        f"a silent connection ended after {survived_s:.0f} s ({ended})",
        f"proxy_read_timeout and the like: three times the ping interval of {ping_interval_s:.0f} s",
    )


def metrics_page(status: int) -> Finding:
    if status == 200:
        return warning(
            "metrics", "anybody can read /metrics there", "refuse /metrics in the proxy: it is for Prometheus"
        )
    return fine("metrics", f"/metrics answers {status} there")


def exit_code(findings: list[Finding]) -> int:
    """0: nothing to change; 4: at least one error; 5: warnings only."""
    levels = {finding.level for finding in findings}
    return 4 if "error" in levels else 5 if "warning" in levels else 0
