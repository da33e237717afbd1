"""Commands that run or prepare a node: serve, demo, migrate, check."""

from __future__ import annotations

import asyncio
import inspect
import socket
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, get_args

import click
from msgspec.structs import replace

from hub.bootstrap import Hub, make_sealer, make_tokens, open_database, open_hub
from hub.caller import SYSTEM, Caller, Grant
from hub.cli.nodes import node_options, serve_options, settings_of
from hub.cli.parameters import Number
from hub.cli.shared import err, json_option, run, show
from hub.clock import SystemClock
from hub.config import NodeRole, Settings, SimulatedFeed, environment_with
from hub.demo.desk import ACCOUNT
from hub.demo.run import run_demo
from hub.demo.team import CREW, GUEST, LEAD
from hub.serve import address, bind, tls_context
from hub.serve import serve as serve_hub
from hub.supervise import Supervisor, local_redis, worker_command
from protocol.messages import Call

WORKER_PORT = 8001  # health and metrics
DEMO_SEED = 10  # halts and outages come after minutes: what somebody tries first should not meet one
DEMO_TOKEN_TTL_S = 12 * 3600
ROLES_IN_DEMO = {ACCOUNT: ["trader"], CREW: ["agent"], LEAD: ["agent", LEAD], GUEST: ["dashboard", "trader", "agent"]}
SEEN_IN_DEMO = Grant(subscribe=tuple(f"{name}:{ACCOUNT}" for name in ("orders", "fills", "positions", "risk")))


@click.command()
@serve_options
@click.option("--workers", type=click.IntRange(1, 256), envvar="KRIN_WORKERS", default=1, help="processes on the port")
@click.option(
    "--role", type=click.Choice(get_args(NodeRole)), envvar="KRIN_ROLE", help="default: all; see hub/README.md, Roles"
)
@click.option("--listen-fd", type=int, hidden=True, help="of a supervisor")
def serve(workers: int, listen_fd: int | None, **options: Any) -> None:
    """Run the hub."""
    settings = _serving(options)
    if workers > 1 and listen_fd is None:
        run(_supervise(settings, workers, options))
    else:
        run(_serve(settings, listen_fd=listen_fd))


@click.command()
@serve_options
def worker(**options: Any) -> None:
    """Do what gateways leave to others: as `serve --role worker`, beside a hub on the same machine, too."""
    if options["port"] is None:
        options["port"] = WORKER_PORT
    run(_serve(_serving(options | {"role": "worker"})))


@click.command()
@serve_options
@click.option("--seed", type=int, default=DEMO_SEED, show_default=True, help="of the simulation")
@click.option(
    "--rate", type=Number(0, 1000, min_open=True), default=10.0, show_default=True, help="ticks per second and symbol"
)
def demo(seed: int, rate: float, **options: Any) -> None:
    """Run the hub with a simulated market, a team of specialists at work and a desk of trading strategies."""
    settings = settings_of(options)
    if not settings.feeds:
        settings = replace(settings, feeds={"simulated": SimulatedFeed(seed=seed, rate=rate)})
    run(_serve(settings, demo=lambda hub: _demo(hub, seed)))


def _serving(options: dict[str, Any]) -> Settings:
    """As `settings_of`, for a node that serves."""
    settings = settings_of(options)
    if settings.role != "all" and settings.redis_url is None:
        raise click.ClickException(f"a {settings.role} works with nodes elsewhere: give --redis-url")
    return settings


async def _supervise(settings: Settings, workers: int, options: dict[str, Any]) -> None:
    tls_context(settings)  # what the workers would fail at, said once
    listener = bind(settings)
    where = address(listener, settings)
    async with AsyncExitStack() as stack:
        stack.callback(listener.close)
        redis_url = settings.redis_url
        if redis_url is None:
            redis_url = await stack.enter_async_context(local_redis(settings.data_dir))
        await stack.enter_async_context(open_database(settings))  # migrated once, by one
        make_tokens(settings, SystemClock())
        environment = environment_with(database_url=settings.database_url, redis_url=redis_url)
        elsewhere = dict.fromkeys(("database_url", "redis_url", "node", "port"))
        given = {**options, "data_dir": settings.data_dir, **elsewhere}
        arguments = [
            text
            for name, value in given.items()
            if value is not None
            for text in (f"--{name.replace('_', '-')}", str(value))
        ]
        supervisor = Supervisor(
            worker_command(arguments), listener, environment=environment, workers=workers, node=settings.node
        )
        await supervisor.run(lambda: _announce(settings, where))


async def _serve(
    settings: Settings,
    *,
    demo: Callable[[Hub], Coroutine[Any, Any, None]] | None = None,
    listen_fd: int | None = None,
) -> None:
    tls = tls_context(settings)
    listener = bind(settings) if listen_fd is None else socket.socket(fileno=listen_fd)
    where = address(listener, settings)
    grant = SEEN_IN_DEMO if demo else Grant()
    async with AsyncExitStack() as stack:
        stack.callback(listener.close)
        family = settings.node.rpartition("-")[0] if listen_fd is not None else None
        hub = await stack.enter_async_context(open_hub(settings, family=family))
        async with asyncio.TaskGroup() as group:
            extra = group.create_task(demo(hub), name="demo") if demo else None
            await serve_hub(
                hub,
                listener,
                lambda: _announce(settings, where, grant, quiet=listen_fd is not None),
                tls=tls,
                demo_token=(lambda: _demo_token(settings, grant)) if demo else None,
            )
            if extra is not None:
                extra.cancel()


def _announce(settings: Settings, where: str, grant: Grant = Grant(), *, quiet: bool = False) -> None:
    """Say that we serve: one line for scripts on standard output, the rest for people on standard error."""
    click.echo(f"ready {where}")
    sys.stdout.flush()
    if quiet or settings.role == "worker":
        return
    if settings.database_url is not None and not err.is_terminal:
        return  # a node of a deployment, whose log others keep and read: no place for a token
    token = _demo_token(settings, grant)
    # In the fragment: a browser never sends it to a server, and the page removes it at once.
    err.print(f"\n  dashboard  {where}/#token={token}", soft_wrap=True)
    err.print(f"  token      valid {DEMO_TOKEN_TTL_S // 3600} hours, user {GUEST}: {', '.join(ROLES_IN_DEMO[GUEST])}\n")


def _demo_token(settings: Settings, grant: Grant) -> str:
    return make_tokens(settings, SystemClock()).issue(
        GUEST,
        roles=ROLES_IN_DEMO[GUEST],
        teams=["*"],
        ttl_s=DEMO_TOKEN_TTL_S,
        grant=grant,
        principal="operator",
    )


async def _demo(hub: Hub, seed: int) -> None:
    """Everything here is simulated, and every message says so."""

    async def publish(
        channel: str, type: str, data: Any, key: str | None, coordination: dict[str, Any] | None = None
    ) -> None:
        await hub.dispatcher.publish(channel, type, data, caller=SYSTEM, key=key, coordination=coordination)

    async def call(user: str, method: str, params: dict[str, Any]) -> Any:
        result = hub.dispatcher.handle(Call(id=1, method=method, params=params), callers[user])
        return await result if inspect.isawaitable(result) else result

    anybody = Caller(user="", roles=frozenset(), teams=frozenset("*"), transport="system", principal="operator")
    callers = {user: replace(anybody, user=user, roles=frozenset(roles)) for user, roles in ROLES_IN_DEMO.items()}
    await run_demo(publish, call, hub.clock, seed=seed)


@click.command()
@node_options
def migrate(**options: Any) -> None:
    """Bring the database to this version's schema."""
    settings = settings_of(options)

    async def go() -> None:
        async with open_database(settings):
            err.print("the database is up to date")

    run(go())


@click.command()
@json_option
@serve_options
def check(as_json: bool, **options: Any) -> None:
    """Check the configuration and the environment, and say what is wrong."""
    settings = _serving(options)
    found: list[dict[str, str]] = []

    def fine(name: str, detail: str) -> None:
        found.append({"check": name, "state": "ok", "detail": detail})

    async def go() -> None:
        fine("configuration", f"{len(settings.namespaces)} namespaces")
        make_tokens(settings, SystemClock())
        fine("signing key", settings.auth.algorithm)
        make_sealer(settings)
        fine("encryption key", settings.auth.encryption_key_file or "of the data folder")
        fine("tls", "off" if tls_context(settings) is None else "1.3")
        bind(settings).close()
        fine("address", f"{settings.host}:{settings.port}")
        async with open_database(settings) as (database, embedded):
            await database.ping()
            fine("postgres", "embedded" if embedded else "given, durable, migrated")

    try:
        run(go())
    finally:
        show(found, as_json=as_json)
