"""The scenarios: each starts what it needs, has the generator do its work, and answers with one recorded result."""

from __future__ import annotations

import asyncio
import json
import socket
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from benchmarks import krin, scaling
from benchmarks.plans import (
    AckPlan,
    Audience,
    FanoutPlan,
    HttpPlan,
    MarketPlan,
    OrdersPlan,
    RestartPlan,
    Route,
    StormPlan,
)
from benchmarks.results import Result, load_all, record
from benchmarks.runner import run_load, server_cores
from benchmarks.wire import NUMBER_SLOT, STAMP_SLOT
from hub.client import Client
from hub.insight.calls.breaker import IN_A_ROW

MARGIN_S = 90.0
NO_LIMITS = dict.fromkeys(("submit_rate", "duplicate_count", "max_open_orders_symbol", "max_open_orders"))


def broadcast(
    *,
    subscribers: int = 1000,
    rate: float = 100,
    seconds: float = 5,
    padding: int = 0,
    format: str = "json",
    loop_options: tuple[str, ...] = (),
) -> Result:
    """One publisher, everybody gets everything."""
    msgpack = format == "msgpack"
    with krin.workplace() as folder, krin.hub(folder, on=server_cores(), options=loop_options) as node:
        target = node.target(node.token("reader", "dashboard"), ["prices:BTC-USD"], msgpack=msgpack)
        feed = node.token("feed", "feed")
        plan = FanoutPlan(
            audience=Audience(targets=[target], count=subscribers),
            streams=[node.stream(feed, [krin.tick("BTC-USD", padding=padding)], rate, msgpack=msgpack)],
            seconds=seconds,
            pids=[node.pid],
            ascii=not msgpack,
        )
        figures = run_load(plan, title="broadcast", limit_s=seconds + MARGIN_S)
        figures["hub_conflated"] = node.metrics().get("krin_conflated_total", 0)
    shape = f"{subscribers}x{rate:g}" + (f"-{padding}b" if padding else "")
    parameters = {
        "subscribers": subscribers,
        "rate": rate,
        "seconds": seconds,
        "padding": padding,
        "format": format,
    }
    return record("broadcast", f"broadcast-{shape}-{format}", parameters, figures)


def ticks(*, clients: int = 1000, symbols: int = 100, each: int = 20, rate: float = 100, seconds: float = 5) -> Result:
    """Market data as traders get it: many symbols, each client its own selection, `rate` updates/s per symbol."""
    names = [f"SYM{index:03d}" for index in range(symbols)]
    # As many selections as symbols, evenly spread: every symbol has the same number of readers.
    selections = [
        sorted((start + step * (symbols // each)) % symbols for step in range(each)) for start in range(symbols)
    ]
    with krin.workplace() as folder, krin.hub(folder, on=server_cores()) as node:
        token = node.token("reader", "dashboard")
        targets = [node.target(token, [f"prices:{names[index]}" for index in chosen]) for chosen in selections]
        feed = node.token("feed", "feed")
        stream = node.stream(feed, [krin.tick(name) for name in names], rate * symbols, batch=True)
        plan = FanoutPlan(
            audience=Audience(targets=targets, count=clients, follows=selections),
            streams=[stream],
            seconds=seconds,
            pids=[node.pid],
        )
        figures = run_load(plan, title="ticks", limit_s=seconds + MARGIN_S)
    parameters = {"clients": clients, "symbols": symbols, "each": each, "rate_per_symbol": rate, "seconds": seconds}
    return record("ticks", f"ticks-{clients}x{each}of{symbols}x{rate:g}", parameters, figures)


def market(*, clients: int = 1000, symbols: int = 1, rate: float = 10, seconds: float = 10) -> Result:
    """The hub's own feed: four simulated sources, consolidated; from a quote in the hub to the price at each reader."""
    names = ["BTC-USD", "ETH-USD", "SOL-USD", "AAPL", "EUR-USD"][:symbols]
    with krin.workplace() as folder:
        config = folder / "feeds.toml"
        config.write_text(f'[feeds.sim]\nkind = "simulated"\nrate = {rate}\nsymbols = {symbols}\n')
        with krin.hub(folder, on=server_cores(), options=("--config", str(config))) as node:
            target = node.target(node.token("reader", "dashboard"), [f"prices:{name}" for name in names])
            plan = MarketPlan(target=target, count=clients, seconds=seconds, pids=[node.pid])
            figures = run_load(plan, title="market", limit_s=seconds + MARGIN_S)
            figures["hub_gaps"] = node.metrics().get("krin_feed_gaps_total", 0)
    parameters = {"clients": clients, "symbols": symbols, "rate_per_symbol": rate, "seconds": seconds}
    return record("market", f"market-{clients}x{symbols}x{rate:g}", parameters, figures)


def team(*, watchers: int = 1000, tasks: int = 1000, rate: float = 20, seconds: float = 10) -> Result:
    """What a specialist reports: stored, the next steps of its project found, and told to everybody who watches."""
    with krin.workplace() as folder, krin.hub(folder, on=server_cores()) as node:
        agent = node.token("agent", "agent")
        asyncio.run(_found_project(node, agent, "bench", tasks))
        plan = FanoutPlan(
            audience=Audience(targets=[node.target(node.token("reader", "dashboard"), ["team:bench"])], count=watchers),
            streams=[node.stream(agent, [krin.sync("bench")], rate)],
            seconds=seconds,
            pids=[node.pid],
        )
        figures = run_load(plan, title="team", limit_s=seconds + MARGIN_S)
        figures["reports_stored"] = node.metrics().get("krin_coordination_commits_total", 0)
    figures["filesystem"] = _filesystem()
    parameters = {"watchers": watchers, "tasks": tasks, "rate": rate, "seconds": seconds}
    return record("team", f"team-{watchers}x{rate:g}", parameters, figures)


async def _found_project(node: krin.Node, token: str, name: str, tasks: int) -> None:
    """A project whose tasks wait for each other in rows of ten, a specialist at work on the first."""
    specs = [
        {"task_id": f"t-{index}", **({"depends_on": [f"t-{index - 1}"]} if index % 10 else {})}
        for index in range(tasks)
    ]
    async with Client(f"http://127.0.0.1:{node.port}", token=token) as client:
        await client.call("projects.create", project={"project_id": name, "tasks": specs[:1000]})
        for start in range(1000, tasks, 1000):
            await client.call("tasks.create", project_id=name, tasks=specs[start : start + 1000])
        await client.call("agents.register", specialist={"specialist_id": "s1", "team": name, "heartbeat_s": 300})
        await client.call("tasks.claim", specialist_id="s1", project_id=name)


def mixed(*, clients: int = 500, seconds: float = 5, tick_rate: float = 50) -> Result:
    """Prices, durable orders and durable specialist updates on one connection, each class with its own latency."""
    channels = ["prices:BTC-USD", "orders:acct", "team:alpha"]
    with krin.workplace() as folder, krin.hub(folder, on=server_cores()) as node:
        target = node.target(node.token("acct", "dashboard", "trader"), channels)
        plan = FanoutPlan(
            audience=Audience(targets=[target], count=clients),
            streams=[
                node.stream(node.token("feed", "feed"), [krin.tick("BTC-USD")], tick_rate),
                node.stream(node.token("acct", "trader"), [krin.order("acct", mark="T")], 10, mark="T"),
                node.stream(node.token("agent", "agent"), [krin.update("alpha", mark="U")], 5, mark="U"),
            ],
            seconds=seconds,
            pids=[node.pid],
            samples_per_s=60_000,
        )
        figures = run_load(plan, title="mixed", limit_s=seconds + MARGIN_S)
    named = {"S": "ticks", "T": "orders", "U": "specialist_updates"}
    by_class = figures.pop("latency_ms_by_class", {})
    figures["latency_ms_by_class"] = {named[mark]: each for mark, each in by_class.items()}
    parameters = {
        "clients": clients,
        "seconds": seconds,
        "ticks_per_s": tick_rate,
        "orders_per_s": 10,
        "updates_per_s": 5,
    }
    return record("mixed", f"mixed-{clients}", parameters, figures)


def durable(
    *, publishers: int = 64, window: int = 4, rate: float = 0, seconds: float = 5, channels: int = 64
) -> Result:
    """Concurrent publishers that wait for their acknowledgements: closed loop, or open at `rate` messages/s in all."""
    with krin.workplace() as folder, krin.hub(folder, on=None) as node:
        token = node.token("agent", "agent")
        names = [f"bench{index % channels}" for index in range(publishers)]
        messages = [krin.update(name, key=f"p{index}") for index, name in enumerate(names)]
        plan = AckPlan(
            publishers=[node.target(token, kind="agent") for _ in range(publishers)],
            messages=[krin.encode_publish(message) for message in messages],
            reader=node.target(node.token("reader", "agent"), sorted({f"team:{name}" for name in names})),
            seconds=seconds,
            window=window,
            rate_per_s=rate or None,
            pids=[node.pid],
        )
        figures = run_load(plan, title="durable", limit_s=seconds + MARGIN_S)
        metrics = node.metrics()
        commits = metrics.get("krin_durable_commits_total", 0)
        figures["messages_per_commit"] = (
            round(metrics.get("krin_durable_committed_total", 0) / commits, 1) if commits else 0
        )
    figures["filesystem"] = _filesystem()
    parameters = {"publishers": publishers, "window": window, "rate": rate, "seconds": seconds, "channels": channels}
    name = f"durable-{publishers}-rate{rate:g}" if rate else f"durable-{publishers}x{window}"
    return record("durable", name, parameters, figures)


def orders(*, traders: int = 8, rate: float = 500, seconds: float = 10) -> Result:
    """Market orders that trade at once: decoded, checked, committed with their messages, sent to the paper venue."""
    accounts = [f"bench{index}" for index in range(traders)]
    with krin.workplace() as folder, krin.hub(folder, on=None) as node:
        officer = node.token("officer", "risk", "admin")
        plan = OrdersPlan(
            traders=[node.target(node.token(account, "trader"), kind="trader") for account in accounts],
            messages=[[krin.submit(account, side) for side in ("BUY", "SELL")] for account in accounts],
            reader=node.target(officer, [f"orders:{account}" for account in accounts]),
            feed=node.target(node.token("feed", "feed")),
            market=krin.market(),
            officer=node.target(officer),
            limits=krin.call("risk.set_limits", scope="GLOBAL", limits=NO_LIMITS),
            probe=krin.call("orders.validate", **krin.order_params("probe", "BUY"), client_order_id="probe"),
            rate_per_s=rate,
            seconds=seconds,
            pids=[node.pid],
        )
        figures = run_load(plan, title="orders", limit_s=seconds + MARGIN_S)
        metrics = node.metrics()
        commits = metrics.get("krin_orders_commits_total", 0)
        figures["orders_per_commit"] = round(figures["expected"] / 4 / commits, 2) if commits else 0
    figures["filesystem"] = _filesystem()
    return record("orders", f"orders-{rate:g}", {"traders": traders, "rate": rate, "seconds": seconds}, figures)


def rest(*, rate: float = 500, seconds: float = 4, connections: int = 32, hanging: bool = False) -> Result:
    """Each route by itself at a steady rate. hanging: with a language model that takes every call and never answers."""
    with krin.workplace() as folder, socket.create_server(("127.0.0.1", 0)) as silence:
        options = _with_model(folder, silence.getsockname()[1]) if hanging else ()
        return _rest(folder, options, rate=rate, seconds=seconds, connections=connections, hanging=hanging)


def _with_model(folder: Path, port: int) -> tuple[str, ...]:
    """Options of a hub that shows every channel to a model on that port."""
    config = folder / "model.toml"
    config.write_text(
        f'[openai]\nbase_url = "http://127.0.0.1:{port}/v1"\n[insights]\nmodel = "silent"\nconsent = false\n'
    )
    return ("--config", str(config))


def _rest(
    folder: Path, options: Sequence[str], *, rate: float, seconds: float, connections: int, hanging: bool
) -> Result:
    with krin.hub(folder, on=server_cores(), options=options) as node:
        token = node.token("all", "feed", "agent", "dashboard")
        _fill(node, token)
        if hanging:
            _interest_the_model(node, token)
        latest = {
            "channel": "prices:BTC-USD",
            "message": {"type": "PRICE_TICK", "data": {"symbol": "BTC-USD", "bid": "1"}},
        }
        custom = {"channel": "custom:rest", "message": {"type": "NOTE", "data": {"text": "of note"}}}
        written = {"channel": "team:rest", "message": krin.update("rest")["message"]}
        routes = [
            Route(name="publish latest", request=_request("POST", "/v1/publish", token, latest)),
            Route(name="publish recoverable", request=_request("POST", "/v1/publish", token, custom)),
            Route(name="publish durable", request=_request("POST", "/v1/publish", token, written)),
            Route(name="history recoverable", request=_request("GET", "/v1/history/custom:rest?limit=50", token)),
            Route(name="history durable", request=_request("GET", "/v1/history/team:rest?limit=50", token)),
            Route(name="channels", request=_request("GET", "/v1/channels", token)),
            Route(name="presence", request=_request("GET", "/v1/presence/custom:rest", token)),
            Route(name="health", request=_request("GET", "/health", None)),
        ]
        plan = HttpPlan(
            port=node.port, routes=routes, rate_per_s=rate, seconds=seconds, connections=connections, pids=[node.pid]
        )
        figures = run_load(plan, title="rest", limit_s=seconds * len(routes) + MARGIN_S)
        if hanging:
            figures["breaker_opened"] = _breaker_opened(node)
    parameters = {"rate": rate, "seconds_per_route": seconds, "connections": connections}
    name = f"rest-{rate:g}" + ("-hanging" if hanging else "")
    return record("rest", name, parameters | ({"model": "hanging"} if hanging else {}), figures)


def _interest_the_model(node: krin.Node, token: str) -> None:
    """Read channels that have something new, so that more calls begin than the breaker lets fail."""
    for number in range(2 * IN_A_ROW):
        channel = f"team:read-{number}"
        _ask(node, token, "/v1/publish", {"channel": channel, "message": krin.update("rest")["message"]})
        _ask(node, token, f"/v1/history/{channel}")


def _breaker_opened(node: krin.Node) -> float:
    """How often; raises RuntimeError if the breaker lets calls fail for ever."""
    for _ in range(60):
        if opened := node.metrics().get("krin_model_breaker_opened_total", 0):
            return opened
        time.sleep(1)
    raise RuntimeError("the model never answered, and the breaker before it never opened")


def connect_storm(*, clients: int = 5000, in_flight: int = 256) -> Result:
    """Full connects: TCP, upgrade, a token of each client's own, one subscription."""
    with krin.workplace() as folder, krin.hub(folder, on=server_cores()) as node:
        targets = [node.target(node.token(f"u{index}", "dashboard"), ["prices:BTC-USD"]) for index in range(clients)]
        plan = StormPlan(targets=targets, count=clients, in_flight=in_flight, pids=[node.pid])
        figures = run_load(plan, title="connect-storm", limit_s=MARGIN_S)
    parameters = {"clients": clients, "in_flight": in_flight, "tokens": "one for each client"}
    return record("connect-storm", f"connect-storm-{clients}", parameters, figures)


def reconnect_storm(*, clients: int = 10_000, rate: float = 10, away: float = 1.0, in_flight: int = 2000) -> Result:
    """All clients are cut at once; all come back without waiting and recover what was published meanwhile."""
    channel = "trades:BTC-USD"
    with krin.workplace() as folder, krin.hub(folder, on=server_cores()) as node:
        targets = [node.target(node.token(f"u{index}", "dashboard"), [channel]) for index in range(clients)]
        plan = StormPlan(
            targets=targets,
            count=clients,
            in_flight=in_flight,
            stream=node.stream(node.token("feed", "feed"), [krin.trade("BTC-USD")], rate),
            away_s=away,
            recover_channel=channel,
            pids=[node.pid],
        )
        figures = run_load(plan, title="reconnect-storm", limit_s=60 + MARGIN_S)
    parameters = {"clients": clients, "rate": rate, "away_s": away, "in_flight": in_flight}
    return record("reconnect-storm", f"reconnect-storm-{clients}", parameters, figures)


def slow_readers(*, subscribers: int = 1000, rate: float = 200, seconds: float = 20, share: float = 0.1) -> Result:
    """A share of the clients never reads. What the others feel, and what becomes of the hub's memory."""
    with krin.workplace() as folder, krin.hub(folder, on=server_cores()) as node:
        target = node.target(node.token("reader", "dashboard"), ["prices:BTC-USD"])
        plan = FanoutPlan(
            audience=Audience(targets=[target], count=subscribers, never_reads=int(subscribers * share)),
            streams=[node.stream(node.token("feed", "feed"), [krin.tick("BTC-USD", padding=800)], rate)],
            seconds=seconds,
            pids=[node.pid],
        )
        figures = run_load(plan, title="slow-readers", limit_s=seconds + MARGIN_S)
        figures["hub_outbox_bytes_end"] = node.metrics().get("krin_outbox_bytes", 0)
    parameters = {"subscribers": subscribers, "rate": rate, "seconds": seconds, "never_read": share, "padding": 800}
    return record("slow-readers", f"slow-readers-{subscribers}x{rate:g}", parameters, figures)


def idle(*, clients: int = 5000, seconds: float = 5) -> Result:
    """Connected, authenticated, subscribed once, quiet: what one connection costs."""
    with krin.workplace() as folder, krin.hub(folder, on=server_cores()) as node:
        target = node.target(node.token("reader", "dashboard"), ["prices:BTC-USD"])
        audience = Audience(targets=[target], count=clients)
        plan = FanoutPlan(audience=audience, streams=[], seconds=seconds, settle_s=2.0, pids=[node.pid])
        figures = run_load(plan, title="idle", limit_s=seconds + MARGIN_S)
    return record("idle", f"idle-{clients}", {"clients": clients, "seconds": seconds}, figures)


def nodes(*, rate: float = 1000, channels: int = 100, subscribers: int = 4, seconds: float = 5) -> Result:
    """Published on one node, read on another: through Redis. Each subscriber reads every channel."""
    names = [f"S{index}" for index in range(channels)]
    with krin.workplace() as folder, krin.two_nodes(folder) as (first, second, _):
        target = second.target(second.token("reader", "dashboard"), [f"trades:{name}" for name in names])
        feed = first.token("feed", "feed")
        stream = first.stream(feed, [krin.trade(name) for name in names], rate, batch=rate > 2000)
        plan = FanoutPlan(
            audience=Audience(targets=[target], count=subscribers),
            streams=[stream],
            seconds=seconds,
            pids=[first.pid, second.pid],
        )
        figures = run_load(plan, title="nodes", limit_s=seconds + MARGIN_S)
    parameters = {"nodes": 2, "rate": rate, "channels": channels, "subscribers": subscribers, "seconds": seconds}
    return record("nodes", f"nodes-{rate:g}", parameters, figures)


def scale(*, subscribers: int = 2000, rate: float = 20, node_rate: float = 500, seconds: float = 5) -> Result:
    """What the model of `benchmarks.scaling` predicts for loads it was not made from, beside what they cost.

    What a write and the way to another node cost is measured first: stored results may be of a faster machine.
    """
    costs = scaling.costs_of(
        load_all(), here=(broadcast(subscribers=5000, rate=10, seconds=seconds), nodes(rate=1000, seconds=seconds))
    )
    one, one_off = scaling.checked(
        scaling.one_node(costs, subscribers=subscribers, rate=rate),
        broadcast(subscribers=subscribers, rate=rate, seconds=seconds)["figures"],
    )
    two, two_off = scaling.checked(
        scaling.two_nodes(costs, rate=node_rate), nodes(rate=node_rate, seconds=seconds)["figures"]
    )
    figures = {f"one_node_{what}": value for what, value in one.items()}
    figures |= {f"two_nodes_{what}": value for what, value in two.items()}
    parameters = {"subscribers": subscribers, "rate": rate, "node_rate": node_rate, "seconds": seconds}
    result = record("scale", "scale", parameters, figures)
    problems = [*(f"one node: {each}" for each in one_off), *(f"two nodes: {each}" for each in two_off)]
    return {**result, "ok": not problems, "problems": problems}


def rolling_restart(*, clients: int = 5000, rate: float = 10, drain: float = 5) -> Result:
    """Two nodes are replaced one after the other under steady durable and price traffic."""
    durable_channel, latest_channel = "alerts:bench", "prices:BTC-USD"
    with krin.workplace() as folder, ExitStack() as stack:
        url = stack.enter_context(krin.redis(folder, on=None))
        first, second = (
            stack.enter_context(
                krin.hub(folder, on=None, name=name, redis_url=url, options=("--drain-timeout", str(drain)))
            )
            for name in "ab"
        )
        reader = first.token("reader", "dashboard")
        alert = {
            "type": "publish",
            "channel": durable_channel,
            "idempotency_key": f"r-{NUMBER_SLOT}",
            "message": {"type": "ALERT", "data": _alert()},
        }
        feed = first.token("feed", "feed")
        targets = [node.target(reader, [durable_channel, latest_channel]) for node in (first, second)]
        plan = RestartPlan(
            targets=targets,
            count=clients,
            streams=[
                first.stream(feed, [alert], rate),
                first.stream(feed, [krin.tick("BTC-USD", mark="U")], rate, mark="U"),
            ],
            recover_channel=durable_channel,
        )
        took: dict[str, float] = {}

        def replace(name: str, answer: IO[bytes]) -> None:
            for letter, node in (("a", first), ("b", second)):
                started = time.monotonic()
                node.process.stop()
                took[f"{letter}_drain_s"] = round(time.monotonic() - started, 2)
                options = ("--drain-timeout", str(drain))
                stack.enter_context(
                    krin.hub(folder, on=None, name=f"{letter}2", redis_url=url, options=options, port=node.port)
                )
                took[f"{letter}_down_s"] = round(time.monotonic() - started, 2)
            answer.write(b"done\n")
            answer.flush()

        figures = run_load(plan, title="rolling-restart", limit_s=plan.limit_s + MARGIN_S, on_event=replace)
    figures["nodes"] = took
    parameters = {"clients": clients, "nodes": 2, "durable_per_s": rate, "ticks_per_s": rate, "drain_window_s": drain}
    return record("rolling-restart", f"rolling-restart-{clients}", parameters, figures)


def ladder(
    measure: Callable[[float], Result], steps: tuple[float, ...], *, limit_ms: float = 100.0
) -> tuple[float, Result | None, list[dict[str, Any]]]:
    """Climb while everything arrives and p99 stays under the limit; the last step held, its result, and every step."""
    held: tuple[float, Result | None] = (0.0, None)
    climbed = []
    for step in steps:
        result = measure(step)
        figures = result["figures"]
        p99 = figures["latency_ms"]["p99"]
        climbed.append(
            {
                "step": step,
                "ok": result["ok"],
                "p99": p99,
                "delivered_percent": figures["delivered_percent"],
                "deliveries_per_s": figures["deliveries_per_s"],
                "server_cpu": figures["server_cpu"],
                "generator_cpu": figures["generator_cpu"],
                "generator_saturated": figures["generator_saturated"],
            }
        )
        if not result["ok"] or p99 > limit_ms:
            break
        held = (step, result)
    return (*held, climbed)


def _filesystem() -> str:
    import tempfile

    found = ("", "unknown")
    with open("/proc/mounts") as mounts:
        for line in mounts:
            _, place, kind, *_ = line.split()
            if tempfile.gettempdir().startswith(place) and len(place) >= len(found[0]):
                found = (place, kind)
    return found[1]


def _alert() -> dict[str, Any]:
    return {"alert_id": "bench", "severity": "INFO", "title": "bench", "ext": {"s": f"TS={STAMP_SLOT}"}}


def _request(method: str, path: str, token: str | None, body: Any = None) -> bytes:
    payload = krin.compact(body) if body is not None else b""
    lines = [f"{method} {path} HTTP/1.1", "Host: bench", *([f"Authorization: Bearer {token}"] if token else [])]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(payload)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + payload


def _fill(node: krin.Node, token: str) -> None:
    """A hundred messages of history to read."""
    for channel, message in (
        ("custom:rest", {"type": "NOTE", "data": {"text": "of note"}}),
        ("team:rest", krin.update("rest")["message"]),
    ):
        for _ in range(100):
            _ask(node, token, "/v1/publish", {"channel": channel, "message": message})


def _ask(node: krin.Node, token: str, path: str, body: Any = None) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{node.port}{path}",
        data=json.dumps(body).encode() if body is not None else None,
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        answer.read()
