"""Going round a deployment: this machine, its settings, Redis, Postgres. What does not answer is a finding, too."""

from __future__ import annotations

import resource
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import redis.asyncio
from cryptography import x509
from redis.exceptions import RedisError

from hub import redis_url
from hub.clock import Clock
from hub.config import Settings
from hub.doctor import findings
from hub.doctor.findings import Finding
from hub.guard.addresses import networks
from storage.database import Database
from storage.diagnosis import diagnose
from storage.errors import StorageError

ANSWER_S = 3.0
SOMAXCONN = Path("/proc/sys/net/core/somaxconn")
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


def machine(settings: Settings) -> Iterator[Finding]:
    """This machine, as a hub sees it that is started like this command."""
    yield findings.files(resource.getrlimit(resource.RLIMIT_NOFILE)[0], connections=settings.limits.connections)
    try:
        yield findings.backlog(int(SOMAXCONN.read_text()))
    except (OSError, ValueError):
        yield findings.skipped("backlog", "this system does not say")


def protections(settings: Settings, clock: Clock) -> Iterator[Finding]:
    security = settings.security
    yield findings.exposure(
        settings.host,
        local=settings.host in LOCAL_HOSTS,
        tls=settings.tls.cert is not None,
        proxied=bool(networks(security.trusted_proxies)),
    )
    plain = tuple(
        origin
        for origin in security.allowed_origins
        if origin.startswith("http://") and urlsplit(origin).hostname not in LOCAL_HOSTS
    )
    yield findings.origins(security.allowed_origins, plain)
    if settings.tls.cert is not None:
        yield _certificate(Path(settings.tls.cert), clock)
    given = (settings.auth.signing_key_file, settings.auth.encryption_key_file, settings.redis.bell_key_file)
    named = [Path(each) for each in (*given, settings.tls.key) if each is not None]
    for path in (*named, *sorted((settings.data_dir / "keys").glob("*"))):
        try:
            yield findings.secret(path.name, path.stat().st_mode)
        except OSError as failure:
            yield findings.error("secrets", f"{path.name}: {failure.strerror}", "make it readable for the hub's user")


def _certificate(path: Path, clock: Clock) -> Finding:
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return findings.error("certificate", "cannot be read", "give the PEM file of a certificate")
    valid = found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()
    return findings.certificate(*valid, now_s=clock.now_ms() / 1000)


async def redis_servers(settings: Settings, clock: Clock) -> AsyncIterator[Finding]:
    if settings.redis_url is None:
        yield findings.skipped("redis", "not used: this node is alone")
        return
    for url in redis_url.servers(settings.redis_url):
        try:
            for finding in await _redis(url, clock):
                yield finding
        except (RedisError, OSError, TimeoutError) as failure:
            place = urlsplit(url).hostname or "the socket"
            yield findings.error("redis", f"{place}: {type(failure).__name__}", "start it, or correct the Redis URL")


async def _redis(url: str, clock: Clock) -> list[Finding]:
    client: Any = redis.asyncio.from_url(
        url, socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S, decode_responses=True
    )
    async with client:
        await client.ping()  # the connection, before a clock is read over it
        before = clock.now_ms()
        seconds, microseconds = await client.time()
        now_ms = (before + clock.now_ms()) / 2
        info = {name: str(value) for name, value in (await client.info("everything")).items()}
        try:
            config = {**await client.config_get("save"), **await client.config_get("timeout")}
        except RedisError:  # forbidden, as providers do
            config = {}
    offset_ms = int(seconds) * 1000 + int(microseconds) / 1000 - now_ms
    return [findings.clock("of redis", offset_ms), *findings.redis(info, config)]


async def database(settings: Settings, dsn: str, clock: Clock) -> AsyncIterator[Finding]:
    try:
        async with Database.open(dsn, max_size=1) as opened:
            await opened.ping()
            before = clock.now_ms()
            found = await diagnose(opened)
            now_ms = (before + clock.now_ms()) / 2
    except StorageError as failure:
        yield findings.error("postgres", str(failure).rstrip("."), "start it, or correct the database URL")
        return
    yield findings.clock("of postgres", found.now_ms - now_ms)
    for finding in findings.postgres(found.settings, local=settings.database_url is None or _is_local(dsn)):
        yield finding
    yield findings.pgvector(found.pgvector, found.pgvector_available)


def _is_local(dsn: str) -> bool:
    parts = urlsplit(dsn)
    host = parts.hostname or parse_qs(parts.query).get("host", [""])[0]
    return not host or host.startswith("/") or host in LOCAL_HOSTS
