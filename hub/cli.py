"""The `krin` command."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar, get_args

import click
from rich.console import Console
from rich.table import Table

from hub import __version__
from hub.auth.service import BUILT_IN_ROLES, Authentication
from hub.bootstrap import Hub, make_tokens, open_database, open_hub
from hub.clock import SystemClock
from hub.config import ConfigError, LogLevel, Settings, load
from hub.observe.logs import configure_logging
from hub.serve import address, bind
from hub.serve import serve as serve_hub
from hub.supervise import Supervisor, local_redis, worker_command
from protocol.errors import HubError
from storage.errors import StorageError

F = TypeVar("F", bound=Callable[..., Any])
DEMO_TOKEN_TTL_S = 12 * 3600
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

err = Console(stderr=True, highlight=False)


class Duration(click.ParamType[int]):
    """`90s`, `15m`, `1h`, `7d` -> seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        number, unit = value[:-1], value[-1:]
        if unit not in UNITS_S or not number.isdigit() or int(number) == 0:
            self.fail("use a number with s, m, h or d, such as 1h", param, ctx)
        return int(number) * UNITS_S[unit]


def node_options(command: F) -> F:
    """The options that say which node this is: the same for every command that opens one."""
    for option in reversed(
        [
            click.option("--data-dir", type=click.Path(path_type=Path), envvar="KRIN_DATA_DIR", help="data folder"),
            click.option("--database-url", envvar="KRIN_DATABASE_URL", help="Postgres; default: an embedded one"),
            click.option("--config", type=click.Path(path_type=Path), envvar="KRIN_CONFIG", help="TOML file"),
            click.option(
                "--log-level",
                type=click.Choice(get_args(LogLevel)),
                envvar="KRIN_LOG_LEVEL",
                default=None,
                help="default: info",
            ),
        ]
    ):
        command = option(command)
    return command


def serve_options(command: F) -> F:
    for option in reversed(
        [
            click.option("--host", envvar="KRIN_HOST", help="default: 127.0.0.1"),
            click.option(
                "--port", type=click.IntRange(0, 65535), envvar="KRIN_PORT", help="default: 8000; 0: any free"
            ),
            click.option("--redis-url", envvar="KRIN_REDIS_URL", help="Redis; default: this node alone"),
            click.option("--node", envvar="KRIN_NODE", help="this node's name"),
            click.option("--ping-interval", type=float, envvar="KRIN_PING_INTERVAL", help="seconds; default: 25"),
            click.option("--drain-timeout", type=float, envvar="KRIN_DRAIN_TIMEOUT", help="seconds; default: 10"),
        ]
    ):
        command = option(command)
    return node_options(command)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="krin")
def main() -> None:
    """Krin: a real-time coordination server. Start with `krin demo`."""


@main.command()
@serve_options
@click.option("--workers", type=click.IntRange(1, 256), envvar="KRIN_WORKERS", default=1, help="processes on the port")
@click.option("--listen-fd", type=int, hidden=True, help="of a supervisor")
def serve(workers: int, listen_fd: int | None, **options: Any) -> None:
    """Run the hub."""
    settings = settings_of(options)
    if workers > 1 and listen_fd is None:
        run(_supervise(settings, workers, options))
    else:
        run(_serve(settings, listen_fd=listen_fd))


@main.command()
@serve_options
@click.option("--seed", type=int, default=1, show_default=True, help="of the simulation")
@click.option("--rate", type=float, default=10.0, show_default=True, help="ticks per second and symbol")
def demo(seed: int, rate: float, **options: Any) -> None:
    """Run the hub with a simulated market, a team of specialists at work and a paper trader."""
    settings = settings_of(options)
    run(_serve(settings, demo=lambda hub: _demo(hub, seed, rate)))


async def _supervise(settings: Settings, workers: int, options: dict[str, Any]) -> None:
    listener = bind(settings)
    where = address(listener)
    async with AsyncExitStack() as stack:
        stack.callback(listener.close)
        redis_url = settings.redis_url
        if redis_url is None:
            redis_url = await stack.enter_async_context(local_redis(settings.data_dir))
        await stack.enter_async_context(open_database(settings))  # migrated once, by one
        make_tokens(settings, SystemClock())
        given = {**options, "data_dir": settings.data_dir, "redis_url": redis_url, "node": None, "port": None}
        arguments = [
            text
            for name, value in given.items()
            if value is not None
            for text in (f"--{name.replace('_', '-')}", str(value))
        ]
        supervisor = Supervisor(worker_command(arguments), listener, workers=workers, node=settings.node)
        await supervisor.run(lambda: _announce(settings, where))


async def _serve(
    settings: Settings,
    *,
    demo: Callable[[Hub], Coroutine[Any, Any, None]] | None = None,
    listen_fd: int | None = None,
) -> None:
    listener = bind(settings) if listen_fd is None else socket.socket(fileno=listen_fd)
    where = address(listener)
    async with AsyncExitStack() as stack:
        stack.callback(listener.close)
        hub = await stack.enter_async_context(open_hub(settings))
        async with asyncio.TaskGroup() as group:
            extra = group.create_task(demo(hub), name="demo") if demo else None
            await serve_hub(
                hub,
                listener,
                lambda: _announce(settings, where, quiet=listen_fd is not None),
                demo_token=(lambda: _demo_token(settings)) if demo else None,
            )
            if extra is not None:
                extra.cancel()


def _announce(settings: Settings, where: str, *, quiet: bool = False) -> None:
    """Say that we serve: one line for scripts on standard output, the rest for people on standard error."""
    click.echo(f"ready {where}")
    sys.stdout.flush()
    if quiet:
        return
    token = _demo_token(settings)
    # In the fragment: a browser never sends it to a server, and the page removes it at once.
    err.print(f"\n  dashboard  {where}/#token={token}", soft_wrap=True)
    err.print(f"  token      valid {DEMO_TOKEN_TTL_S // 3600} hours, user demo: dashboard, trader, agent\n")


def _demo_token(settings: Settings) -> str:
    return make_tokens(settings, SystemClock()).issue(
        "demo", roles=["dashboard", "trader", "agent"], teams=["*"], ttl_s=DEMO_TOKEN_TTL_S
    )


async def _demo(hub: Hub, seed: int, rate: float) -> None:
    """Everything here is simulated, and every message says so."""
    from hub.caller import SYSTEM
    from hub.demo.run import run_demo

    async def publish(
        channel: str, type: str, data: Any, key: str | None = None, coordination: dict[str, Any] | None = None
    ) -> None:
        await hub.publish(channel, type, data, caller=SYSTEM, key=key, coordination=coordination)

    await run_demo(publish, hub.clock, seed=seed, rate=rate)


@main.command()
@click.argument("name")
@click.option("--role", "roles", multiple=True, required=True, help=f"built in: {', '.join(BUILT_IN_ROLES)}")
@click.option("--team", "teams", multiple=True, help="a team an agent belongs to; default: every team of this hub")
@click.option("--ttl", type=Duration(), default="1h", show_default=True)
@node_options
def token(name: str, roles: tuple[str, ...], teams: tuple[str, ...], ttl: int, **options: Any) -> None:
    """Print an access token for NAME, signed with the key of the data folder, and nothing else."""
    settings = settings_of(options)
    _check_roles(roles, settings)
    try:
        tokens = make_tokens(settings, SystemClock())
    except ConfigError as failure:
        raise click.ClickException(str(failure)) from None
    click.echo(tokens.issue(name, roles=roles, teams=teams or ("*",), ttl_s=ttl))


@main.group()
def user() -> None:
    """People who sign in with a name and a password."""


@user.command("add")
@click.argument("name")
@click.option("--role", "roles", multiple=True, required=True)
@click.option("--team", "teams", multiple=True)
@click.password_option(envvar="KRIN_PASSWORD")
@node_options
def user_add(name: str, roles: tuple[str, ...], teams: tuple[str, ...], password: str, **options: Any) -> None:
    """Add the user NAME."""
    settings = settings_of(options)
    _check_roles(roles, settings)

    async def add() -> None:
        async with open_database(settings) as (database, _):
            await _authentication(settings, database).create_user(name, password, roles=list(roles), teams=list(teams))
        err.print(f"added {name} with {', '.join(roles)}")

    run(add())


@main.group()
def client() -> None:
    """Agents and services that sign in with client credentials."""


@client.command("add")
@click.argument("client_id")
@click.option("--role", "roles", multiple=True, required=True)
@click.option("--team", "teams", multiple=True)
@node_options
def client_add(client_id: str, roles: tuple[str, ...], teams: tuple[str, ...], **options: Any) -> None:
    """Add an OAuth client and print its secret, which is shown only now."""
    settings = settings_of(options)
    _check_roles(roles, settings)

    async def add() -> None:
        async with open_database(settings) as (database, _):
            secret = await _authentication(settings, database).create_client(
                client_id, roles=list(roles), teams=list(teams)
            )
        click.echo(secret)

    run(add())


@main.command()
@node_options
def migrate(**options: Any) -> None:
    """Bring the database to this version's schema."""
    settings = settings_of(options)

    async def go() -> None:
        async with open_database(settings):
            err.print("the database is up to date")

    run(go())


@main.command()
@serve_options
def check(**options: Any) -> None:
    """Check the configuration and the environment, and say what is wrong."""
    settings = settings_of(options)
    table = Table(box=None, show_header=False)

    async def go() -> None:
        table.add_row("configuration", "ok", f"{len(settings.namespaces)} namespaces")
        make_tokens(settings, SystemClock())
        table.add_row("signing key", "ok", settings.auth.algorithm)
        bind(settings).close()
        table.add_row("address", "ok", f"{settings.host}:{settings.port}")
        async with open_database(settings) as (database, embedded):
            await database.ping()
            table.add_row("postgres", "ok", "embedded" if embedded else "given, durable, migrated")

    try:
        run(go())
    finally:
        err.print(table)


@main.command()
@click.argument("channel")
@click.argument("type_name", metavar="TYPE")
@click.argument("data", metavar="JSON")
@click.option("--url", envvar="KRIN_URL", default="http://127.0.0.1:8000", show_default=True)
@click.option("--token", "token_", envvar="KRIN_TOKEN", required=True)
@click.option("--key")
@click.option("--idempotency-key")
def publish(
    channel: str, type_name: str, data: str, url: str, token_: str, key: str | None, idempotency_key: str | None
) -> None:
    """Publish one message, e.g. krin publish custom:hello GREETING '{"text": "hi"}'."""
    from hub.client import Client

    try:
        decoded = json.loads(data)
    except ValueError as failure:
        raise click.ClickException(f"the data is not JSON: {failure}") from None

    async def go() -> None:
        async with Client(url, token=token_) as krin:
            placed = await krin.publish(channel, type_name, decoded, key=key, idempotency_key=idempotency_key)
        click.echo(json.dumps({"channel": channel, "epoch": placed.epoch, "offset": placed.offset}))

    run(go())


@main.command()
@click.argument("channels", nargs=-1, required=True)
@click.option("--url", envvar="KRIN_URL", default="http://127.0.0.1:8000", show_default=True)
@click.option("--token", "token_", envvar="KRIN_TOKEN", required=True)
@click.option("--json", "as_json", is_flag=True, help="one JSON object a line, for pipes")
@click.option("--rewind", help='start with that many messages, or with what is as old as "30s"')
def tail(channels: tuple[str, ...], url: str, token_: str, as_json: bool, rewind: str | None) -> None:
    """Follow channels until interrupted."""
    from hub.client.tail import follow

    run(follow(channels, url=url, token=token_, as_json=as_json, rewind=rewind))


@main.group()
def feed() -> None:
    """Market data from elsewhere."""


@feed.command("replay")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--speed", type=float, default=1.0, show_default=True, help="times recorded pace; 0: as fast as possible")
@click.option("--url", envvar="KRIN_URL", default="http://127.0.0.1:8000", show_default=True)
@click.option("--token", "token_", envvar="KRIN_TOKEN", required=True)
def feed_replay_command(file: Path, speed: float, url: str, token_: str) -> None:
    """Publish recorded exchange messages (Coinbase, Binance US, Kraken) as prices, trades and books."""
    import msgspec

    from hub.client import Client
    from hub.trading.feed import feed_replay

    async def go() -> None:
        async with Client(url, token=token_, name="replay") as krin:

            async def publish(
                channel: str, type: str, data: Any, key: str | None, coordination: dict[str, Any] | None = None
            ) -> None:
                await krin.publish(channel, type, msgspec.to_builtins(data), key=key, coordination=coordination)

            count = await feed_replay(publish, file, speed, SystemClock())
        err.print(f"published {count} messages from {file.name}")

    run(go())


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: tuple[str, ...]) -> None:
    """Measure: the scenarios of the benchmarks folder, in a checkout. `krin bench --help` lists them."""
    if not Path("benchmarks/__main__.py").is_file():
        raise click.ClickException("benchmarks are run in a checkout: there is no benchmarks folder here")
    module = "benchmarks.faults" if arguments[:1] == ("faults",) else "benchmarks"
    rest = arguments[1:] if module == "benchmarks.faults" else arguments
    raise SystemExit(subprocess.run([sys.executable, "-m", module, *rest], check=False).returncode)


def settings_of(options: dict[str, Any]) -> Settings:
    """Settings from the options of one command. Ends the command with one line when they are wrong."""
    given = {
        "host": options.get("host"),
        "port": options.get("port"),
        "data_dir": str(options["data_dir"]) if options.get("data_dir") else None,
        "database_url": options.get("database_url"),
        "redis_url": options.get("redis_url"),
        "log_level": options.get("log_level"),
        "node": options.get("node"),
        "ping_interval_s": options.get("ping_interval"),
        "drain_timeout_s": options.get("drain_timeout"),
    }
    try:
        settings = load(options.get("config"), **given)
    except ConfigError as failure:
        raise click.ClickException(str(failure)) from None
    configure_logging(settings.log_level)
    return settings


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a command's work. What can be expected to go wrong is one line and exit code 1, never a traceback."""
    try:
        asyncio.run(work)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BaseException as failure:
        known = _known(failure)
        if known is None:
            raise
        raise click.ClickException(known) from None


def _known(failure: BaseException) -> str | None:
    """The one line for a failure that needs no traceback, also inside a group."""
    if isinstance(failure, BaseExceptionGroup):
        lines = [_known(each) for each in failure.exceptions]
        return lines[0] if lines and all(lines) else None
    if isinstance(failure, ConfigError | StorageError | HubError):
        return str(failure)
    if isinstance(failure, OSError):
        return failure.strerror or str(failure)
    return None


def _check_roles(roles: Iterable[str], settings: Settings) -> None:
    """Built-in roles and those that the configured namespaces mention are known; others end the command."""
    named = {
        entry.partition(":")[0]
        for policy in settings.namespaces.values()
        for entry in (*policy.publish, *policy.subscribe)
    }
    known = (named | set(BUILT_IN_ROLES)) - {"*"}
    if unknown := sorted(set(roles) - known):
        raise click.ClickException(f"no such role: {', '.join(unknown)}; there are {', '.join(sorted(known))}")


def _authentication(settings: Settings, database: Any) -> Authentication:
    from hub.auth.passwords import Passwords
    from storage.users import OAuthClients, RefreshTokens, Users

    clock = SystemClock()
    return Authentication(
        make_tokens(settings, clock),
        Passwords(),
        users=Users(database),
        clients=OAuthClients(database),
        refresh_tokens=RefreshTokens(database),
        clock=clock,
    )
