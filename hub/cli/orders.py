"""Commands about orders, spoken to a running hub: submit, validate, replace, cancel, status, list."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, get_args

import click

from hub.cli.parameters import Amount, Duration
from hub.cli.shared import F, hub_client, hub_options, json_option, print_json, run, write
from hub.client import Client, Reports
from hub.client.orders import CLOSED
from hub.clock import SystemClock
from protocol.trading import ExecutionReport, OrdStatus, RiskDecision, Side, StpMode, TimeInForce

REFUSED: frozenset[OrdStatus] = frozenset({"DENIED", "REJECTED"})


def order_options(command: F) -> F:
    """What an order says: the same for placing it and for asking what the risk checks would say."""
    for option in reversed(
        [
            click.argument("symbol"),
            click.argument("side", type=click.Choice(get_args(Side), case_sensitive=False)),
            click.argument("qty", type=Amount()),
            click.option("--price", type=Amount(), help="the limit; without any price a market order"),
            click.option("--stop-price", type=Amount(), help="a stop; with --price a stop limit"),
            click.option("--trail", type=Amount(), help="a trailing stop at this distance"),
            click.option("--tif", type=click.Choice(get_args(TimeInForce)), default="GTC", show_default=True),
            click.option("--expires-in", type=Duration(), help="with --tif GTD, such as 15m"),
            click.option("--post-only", is_flag=True, help="never take"),
            click.option("--reduce-only", is_flag=True, help="only make a position smaller"),
            click.option("--stp-mode", type=click.Choice(get_args(StpMode)), help="when it would meet an own order"),
            click.option("--id", "client_order_id", help="default: a new one"),
            click.option("--account", help="default: the user's own"),
            click.option("--strategy", "strategy_id"),
            click.option("--tag"),
        ]
    ):
        command = option(command)
    return json_option(hub_options(command))


@click.group()
def order() -> None:
    """Orders: place, change, cancel, look up."""


@order.command()
@click.option("--follow", is_flag=True, help="print what becomes of it, until it is closed")
@order_options
def submit(
    symbol: str, side: Side, qty: str, url: str, token_: str, follow: bool, as_json: bool, **options: Any
) -> None:
    """Place an order, e.g. krin order submit BTC-USD BUY 0.01 --price 64000. Exit code 1 when it is refused."""

    async def place(krin: Client) -> None:
        report = await krin.orders.submit(symbol, side, qty, **_fields(options))
        _print(report, as_json)

    async def place_and_follow(krin: Client) -> None:
        async with krin.orders.reports(options["account"]) as reports:
            report = await krin.orders.submit(symbol, side, qty, **_fields(options))
            await _follow(reports, report, as_json)

    _speak(url, token_, place_and_follow if follow else place)


@order.command()
@order_options
def validate(symbol: str, side: Side, qty: str, url: str, token_: str, as_json: bool, **options: Any) -> None:
    """What the risk checks say of such an order: every fault. Nothing is placed. Exit code 1 when there is one."""

    async def ask(krin: Client) -> None:
        decision = await krin.orders.validate(symbol, side, qty, **_fields(options))
        if as_json:
            print_json(decision)
        else:
            for line in describe_decision(decision):
                write(line)
        if decision.result != "APPROVED":
            raise SystemExit(1)

    _speak(url, token_, ask)


@order.command()
@click.argument("client_order_id")
@click.option("--qty", type=Amount(), help="the new total")
@click.option("--price", type=Amount())
@click.option("--stop-price", type=Amount())
@click.option("--trail", type=Amount())
@click.option("--account", help="default: the user's own")
@json_option
@hub_options
def replace(client_order_id: str, as_json: bool, url: str, token_: str, **changes: Any) -> None:
    """Change an open order; what is not named stays. Exit code 1 when the change is refused."""
    if not any(changes[name] for name in ("qty", "price", "stop_price", "trail")):
        raise click.UsageError("say what changes: --qty, --price, --stop-price or --trail")

    async def change(krin: Client) -> None:
        _print(await krin.orders.replace(client_order_id, **_given(changes)), as_json)

    _speak(url, token_, change)


@order.command()
@click.argument("client_order_ids", nargs=-1)
@click.option("--all", "all_", is_flag=True, help="every open order of the account")
@click.option("--account", help="default: the user's own")
@json_option
@hub_options
def cancel(
    client_order_ids: tuple[str, ...], all_: bool, account: str | None, as_json: bool, url: str, token_: str
) -> None:
    """Cancel orders by their ids, or all of an account."""
    if all_ == bool(client_order_ids):
        raise click.UsageError("name orders, or say --all")

    async def end(krin: Client) -> None:
        if all_:
            canceled = await krin.orders.cancel_all(account=account)
            if as_json:
                print_json({"canceled": canceled})
            else:
                click.echo(f"{canceled} are being canceled")
        for client_order_id in client_order_ids:
            _print(await krin.orders.cancel(client_order_id, account=account), as_json)

    _speak(url, token_, end)


@order.command()
@click.argument("client_order_id")
@click.option("--account", help="default: the user's own")
@json_option
@hub_options
def status(client_order_id: str, account: str | None, as_json: bool, url: str, token_: str) -> None:
    """How an order stands."""

    async def look(krin: Client) -> None:
        _show(await krin.orders.status(client_order_id, account=account), as_json)

    _speak(url, token_, look)


@order.command("list")
@click.option("--open", "open_", is_flag=True, help="only those that may still trade")
@click.option("--symbol")
@click.option("-n", "--limit", type=click.IntRange(1, 500), default=100, show_default=True)
@click.option("--account", help="default: the user's own")
@json_option
@hub_options
def list_command(
    open_: bool, symbol: str | None, limit: int, account: str | None, as_json: bool, url: str, token_: str
) -> None:
    """The orders of an account, the newest first."""

    async def look(krin: Client) -> None:
        page = await krin.orders.list(open=open_, symbol=symbol, limit=limit, account=account)
        for report in page.orders:
            _show(report, as_json)

    _speak(url, token_, look)


def describe(report: ExecutionReport) -> str:
    """`b1 BUY 0.10 BTC-USD LIMIT 64000 PARTIALLY_FILLED 0.04 at 63999.5`, and why it was refused."""
    parts = [report.client_order_id, report.side, report.order_qty or "", report.symbol, report.order_type or ""]
    parts += [report.price or "", report.stop_price or "", report.ord_status]
    if report.avg_px is not None:
        parts.append(f"{report.cum_qty} at {report.avg_px}")
    parts += [report.reject_reason or "", report.text or ""]
    return " ".join(part for part in parts if part)


def describe_decision(decision: RiskDecision) -> list[str]:
    """A line of the result, and one per fault: `PRICE_COLLAR PRICE_OUTSIDE_COLLAR limit 500, observed 700`."""
    lines: list[str] = [decision.result]
    for fault in decision.faults:
        measured = ", ".join(
            f"{name} {value}" for name, value in (("limit", fault.limit), ("observed", fault.observed)) if value
        )
        lines.append(" ".join(part for part in (fault.check, fault.reason, measured, fault.text) if part))
    return lines


async def _follow(reports: Reports, placed: ExecutionReport, as_json: bool) -> None:
    """Print what becomes of an order. Its answer is among its reports, or was before we listened."""
    if placed.ord_status in CLOSED:
        _print(placed, as_json)
        return
    async for report in reports:
        if report.order_id == placed.order_id:
            _print(report, as_json)
            if report.ord_status in CLOSED:
                return


def _show(report: ExecutionReport, as_json: bool) -> None:
    if as_json:
        print_json(report)
    else:
        write(describe(report))


def _print(report: ExecutionReport, as_json: bool) -> None:
    """An answer to a command: a refusal ends with exit code 1."""
    _show(report, as_json)
    if report.ord_status in REFUSED or report.exec_type == "REPLACE_REJECTED":
        raise SystemExit(1)


def _fields(options: dict[str, Any]) -> Any:
    fields = _given(options)
    if (expires_in := fields.pop("expires_in", None)) is not None:
        fields["expire_at"] = SystemClock().now_us() + expires_in * 1_000_000
    return fields


def _given(options: dict[str, Any]) -> Any:
    """What was said on the command line: flags that were not set and options that were not named say nothing."""
    return {name: value for name, value in options.items() if value not in (None, False)}


def _speak(url: str, token: str, work: Callable[[Client], Awaitable[None]]) -> None:
    async def go() -> None:
        async with hub_client(url, token, name="order") as krin:
            await work(krin)

    run(go())
