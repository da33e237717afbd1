"""The tables and plots of benchmarks/README.md, from stored results and from nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import plots
from benchmarks.histogram import Histogram
from benchmarks.peers.catalogue import PEERS
from benchmarks.results import FOLDER, load_all

README = Path(__file__).parent / "README.md"
PLOTS = Path(__file__).parent / "plots"
Results = dict[str, dict[str, Any]]
TITLES = {peer.name: peer.title for peer in PEERS}


def plain(name: str) -> str:
    return TITLES.get(name, name).replace("*", "").replace("`", "")


def table(headings: list[str], rows: list[list[Any]]) -> str:
    lines = ["| " + " | ".join(headings) + " |", "|---" + "|---:" * (len(headings) - 1) + "|"]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if type(value) is int else str(value)


def flags(result: dict[str, Any]) -> str:
    """What a reader must know before quoting a figure."""
    found = [*result["problems"], *(note.split(":")[0] for note in result["notes"])]
    return "; ".join(dict.fromkeys(found))


def of(results: Results, scenario: str) -> list[dict[str, Any]]:
    return [result for result in results.values() if result["scenario"] == scenario]


def headline(results: Results) -> str:
    rows = []
    for name, what, pick in HEADLINE:
        if (result := results.get(name)) is None:
            continue
        rows.append([what, *pick(result["figures"]), flags(result), f"`{result['command']}`"])
    return table(["", "result", "p50 ms", "p99 ms", "delivered %", "flags", "command"], rows)


def _fanout(figures: dict[str, Any]) -> list[Any]:
    latency = figures["latency_ms"]
    rate = f"{figures['deliveries_per_s']:,} deliveries/s, {figures['server_cpu_us_per_delivery']:.2f} us each"
    return [rate, latency["p50"], latency["p99"], figures["delivered_percent"]]


def _acks(figures: dict[str, Any]) -> list[Any]:
    latency = figures["ack_latency_ms"]
    return [
        f"{figures['acknowledged_per_s']:,} acknowledged/s",
        latency["p50"],
        latency["p99"],
        figures["delivered_percent"],
    ]


def _storm(figures: dict[str, Any]) -> list[Any]:
    latency = figures["connect_latency_ms"]
    rate = f"{figures['connects_per_s']:,} connects/s"
    return [rate, latency["p50"], latency["p99"], figures["delivered_percent"]]


def _return(figures: dict[str, Any]) -> list[Any]:
    back = figures["back_ms"]
    what = f"all back in {figures['reconnect_s']:.2f} s, {figures['recovered']:,} recovered"
    return [what, back["p50"], back["p99"], figures["delivered_percent"]]


def _memory(figures: dict[str, Any]) -> list[Any]:
    kernel = sum(figures["kernel_kib_per_connection"].values()) / 2
    return [f"{figures['process_kib_per_connection']} KiB in the process, {kernel:.1f} KiB in the kernel", "", "", ""]


def _rest(figures: dict[str, Any]) -> list[Any]:
    publish = {name: each["latency_ms"] for name, each in figures["routes"].items()}
    slowest = max(publish, key=lambda name: publish[name]["p99"])
    means = ", ".join(f"{name} {publish[name]['mean']:.2f}" for name in ("publish durable", "history durable"))
    return [
        f"mean ms: {means}",
        publish[slowest]["p50"],
        f"{publish[slowest]['p99']:.3g} ({slowest})",
        figures["delivered_percent"],
    ]


def _restart(figures: dict[str, Any]) -> list[Any]:
    away, during = figures["away_ms"], figures["restart_latency_ms"]
    what = f"clients away p50 {away['p50'] / 1000:.2f} s, at most {away['max'] / 1000:.2f} s"
    return [what, during["p50"], during["p99"], figures["delivered_percent"]]


HEADLINE: list[tuple[str, str, Callable[[dict[str, Any]], list[Any]]]] = [
    ("broadcast-1000x100-json", "1,000 subscribers, 100 messages/s", _fanout),
    ("broadcast-1000x3000-json", "1,000 subscribers, 3,000 messages/s", _fanout),
    ("broadcast-10000x10-json", "10,000 subscribers, 10 messages/s", _fanout),
    ("broadcast-10000x100-json", "10,000 subscribers, 100 messages/s", _fanout),
    ("ticks-1000x20of100x100", "1,000 clients, each 20 of 100 symbols, 100 updates/s per symbol", _fanout),
    ("durable-64x4", "durable, fsync on, 64 publishers", _acks),
    ("orders-500", "orders, submit to committed, 500/s", _acks),
    ("team-1000x20", "specialist updates with next steps, 1,000 watchers, 20/s", _fanout),
    ("rest-500", "REST, 500 requests/s per route", _rest),
    ("rest-500-hanging", "the same with a language model that never answers", _rest),
    ("connect-storm-5000", "full connects: TCP, upgrade, own token, one subscription", _storm),
    ("reconnect-storm-10000", "10,000 clients cut at once", _return),
    ("idle-5000", "memory per connection, authenticated and subscribed", _memory),
    ("nodes-1000", "two nodes through Redis, 1,000 messages/s on 100 channels", _fanout),
    ("rolling-restart-5000", "two nodes replaced under 5,000 clients", _restart),
]


def compared(results: Results) -> str:
    parts = []
    for result in of(results, "compare"):
        given = result["parameters"]
        servers = result["figures"]["servers"]
        rows = []
        for name, each in sorted(servers.items(), key=lambda item: item[1].get("server_cpu_us_per_delivery", 1e9)):
            if "failed" in each:
                rows.append([TITLES.get(name, name), "failed", "", "", "", "", "", "", ""])
                continue
            latency = each["latency_ms"]
            flag = "generator saturated" if each["generator_saturated"] else ""
            rows.append(
                [
                    TITLES.get(name, name),
                    each["server_cpu_us_per_delivery"],
                    each.get("cpu_to_floor", ""),
                    latency["p50"],
                    latency["p99"],
                    latency["max"],
                    f"{each['delivered_percent']:g}",
                    each["kib_per_connection"],
                    flag,
                ]
            )
        head = [
            "server",
            "CPU us/delivery",
            "x floor",
            "p50 ms",
            "p99 ms",
            "max ms",
            "delivered %",
            "KiB/connection",
            "flags",
        ]
        shape = f"{given['subscribers']:,} subscribers, {given['rate']:g} messages/s"
        title = f"**{shape}**, median of {given['rounds']} rounds"
        skipped = "; ".join(f"{TITLES.get(name, name)}: {why}" for name, why in result["figures"]["skipped"].items())
        note = f" Not measured: {skipped}." if skipped else ""
        parts.append(f"{title}. `{result['command']}`{_when(result)}{note}\n\n{table(head, rows)}")
    return "\n\n".join(parts) or NOTHING


def highest(results: Results) -> str:
    parts = []
    for result in of(results, "highest"):
        what = result["parameters"]["what"]
        rows = []
        for name, each in sorted(result["figures"]["servers"].items(), key=lambda item: -item[1].get("held", 0)):
            if "failed" in each:
                rows.append([TITLES.get(name, name), "failed", "", "", "", ""])
                continue
            top = each["climbed"][-1]
            ended = "the last step" if top["step"] == each["held"] else f"{top['step']:g}: p99 {top['p99']:.3g} ms"
            if not top["ok"]:
                ended += f", {top['delivered_percent']:g} % delivered"
            saturated = any(step["generator_saturated"] for step in each["climbed"])
            flag = "generator saturated" if saturated else ""
            p99 = each["latency_ms"].get("p99", "")
            rows.append([TITLES.get(name, name), each["held"], each["deliveries_per_s"], p99, ended, flag])
        unit = "messages/s to 1,000" if what == "rate" else "subscribers at 100/s"
        head = ["server", f"held: {unit}", "deliveries/s", "p99 ms there", "ended by", "flags"]
        parts.append(f"`{result['command']}`{_when(result)}\n\n{table(head, rows)}")
    return "\n\n".join(parts) or NOTHING


def everything(results: Results) -> str:
    rows = []
    for name, result in results.items():
        figures = result["figures"]
        if result["scenario"] == "rest" or "generator_cpu" not in figures:
            continue
        latency: dict[str, Any] = next((figures[key] for key in LATENCIES if key in figures), {})
        each = figures.get("server_cpu_us_per_delivery") or figures.get("server_cpu_us_per_message") or ""
        rows.append(
            [
                name,
                *(latency.get(key, "") for key in ("p50", "p90", "p99", "p99_9", "max")),
                f"{figures['delivered_percent']:g}" if "delivered_percent" in figures else "",
                each,
                figures["generator_cpu"],
                result["load_average"][0],
                flags(result),
            ]
        )
    head = [
        "result",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max ms",
        "delivered %",
        "CPU us each",
        "generator CPU",
        "load",
        "flags",
    ]
    return table(head, rows) if rows else NOTHING


LATENCIES = ("restart_latency_ms", "back_ms", "ack_latency_ms", "latency_ms", "connect_latency_ms")


def routes(results: Results) -> str:
    parts = []
    for result in of(results, "rest"):
        rows = [
            [name, *(each["latency_ms"][key] for key in ("mean", "p50", "p99", "max")), each["statuses"].get("200", 0)]
            for name, each in result["figures"]["routes"].items()
        ]
        head = ["route", "mean ms", "p50 ms", "p99 ms", "max ms", "answers 200"]
        parts.append(f"`{result['command']}`{_when(result)}\n\n{table(head, rows)}")
    return "\n\n".join(parts) or NOTHING


def restarts(results: Results) -> str:
    parts = []
    for result in of(results, "rolling-restart"):
        figures = result["figures"]
        rows = [
            [what, *(figures[key][each] for each in ("p50", "p90", "p99", "p99_9", "max"))]
            for what, key in (
                ("durable delivery before", "steady_latency_ms"),
                ("durable delivery during the restart", "restart_latency_ms"),
                ("price delivery before", "steady_tick_latency_ms"),
                ("price delivery during the restart", "restart_tick_latency_ms"),
                ("time away, per client", "away_ms"),
                ("announced wait", "announced_ms"),
            )
        ]
        told = (
            f"{figures['connections']:,} clients, {figures['goodbyes']:,} goodbyes, "
            f"{figures['cut_off_without_goodbye']:,} cut without one, {figures['recovered']:,} recovered, "
            f"{figures['missing']:,} durable deliveries missing, {figures['surplus']:,} repeated."
        )
        head = ["ms", "p50", "p90", "p99", "p99.9", "max"]
        parts.append(f"`{result['command']}`{_when(result)} {told}\n\n{table(head, rows)}")
    return "\n\n".join(parts) or NOTHING


def traced(results: Results) -> str:
    parts = []
    for result in of(results, "tracing"):
        figures = result["figures"]
        rows = [
            [what, figures[key]["mean"], f"{figures[key]['low']:.3f} to {figures[key]['high']:.3f}", wanted]
            for what, key, wanted in (
                ("off, against a hub without the code", "off_ratio", "at most 1.02"),
                ("1 % sampled, against a hub without the code", "sampled_ratio", "at most 1.05"),
                ("the control: off, against itself", "luck_ratio", "1"),
            )
        ]
        told = f"{figures['delivered']:,} deliveries, {figures['missing']} missing."
        flag = f" Flags: {flags(result)}." if flags(result) else ""
        head = ["tracing", "CPU", "95 % interval", "wanted"]
        parts.append(f"`{result['command']}`{_when(result)} {told}{flag}\n\n{table(head, rows)}")
    return "\n\n".join(parts) or NOTHING


def machine(results: Results) -> str:
    found = {}
    for result in results.values():
        hardware = result["hardware"]
        found[
            f"{hardware['cpu']}, {hardware['cores']} cores, {hardware['memory_gib']} GiB, Linux {hardware['kernel']}"
            + (", virtual" if hardware["virtual"] else "")
        ] = result
    lines = []
    for text, result in found.items():
        versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
        lines.append(f"- {text}; {versions}")
    return "\n".join(lines) or NOTHING


NOTHING = "Nothing stored yet."
SECTIONS: dict[str, Callable[[Results], str]] = {
    "headline": headline,
    "compare": compared,
    "highest": highest,
    "rest": routes,
    "restart": restarts,
    "tracing": traced,
    "all": everything,
    "machine": machine,
}


def _when(result: dict[str, Any]) -> str:
    stamp = result["at"][:16].replace("T", " ")
    return f" ({stamp} UTC, commit {result['commit'] or 'unknown'}, load {result['load_average'][0]})."


def fill(text: str, results: Results) -> str:
    """The text with each marked section written anew."""
    for name, make in SECTIONS.items():
        pattern = re.compile(rf"(<!-- bench:{name} -->\n).*?(<!-- /bench:{name} -->)", re.DOTALL)
        made = make(results)
        text = pattern.sub(lambda match, made=made: f"{match[1]}{made}\n{match[2]}", text)  # type: ignore[misc]
    return text


def draw(results: Results) -> dict[str, str]:
    """Plot name -> SVG."""
    made = {}
    for result in of(results, "compare"):
        given, servers = result["parameters"], result["figures"]["servers"]
        good = {name: each for name, each in servers.items() if "failed" not in each}
        shape = f"{given['subscribers']}x{given['rate']:g}"
        what = f"{given['subscribers']:,} subscribers, {given['rate']:g} messages/s"
        cpu = sorted(((plain(name), each["server_cpu_us_per_delivery"]) for name, each in good.items()), key=_second)
        made[f"cpu-{shape}"] = plots.bars(f"Server CPU per delivery: {what}", cpu, unit="us", marked="Krin")
        memory = sorted(((plain(name), each["kib_per_connection"]) for name, each in good.items()), key=_second)
        made[f"memory-{shape}"] = plots.bars("Memory per connection, process", memory, unit="KiB", marked="Krin")
        series = [(plain(name), list(Histogram.load(each["histogram"]).curve())) for name, each in good.items()]
        series.sort(key=lambda each: each[0] != "Krin")
        made[f"latency-{shape}"] = plots.curves(f"Delivery latency: {what}", series[:10])
    for result in of(results, "highest"):
        what = result["parameters"]["what"]
        held = {name: each["held"] for name, each in result["figures"]["servers"].items() if "held" in each}
        rows = sorted(((plain(name), float(value)) for name, value in held.items()), key=lambda each: -each[1])
        unit = "messages/s" if what == "rate" else "subscribers"
        made[f"highest-{what}"] = plots.bars(f"Highest {what} with p99 under 100 ms", rows, unit=unit, marked="Krin")
    return made


def _second(pair: tuple[str, float]) -> float:
    return pair[1]


def write(folder: Path = FOLDER, readme: Path = README, plots_folder: Path = PLOTS) -> list[Path]:
    """Write tables and plots; returns what was written."""
    results = load_all(folder)
    readme.write_text(fill(readme.read_text(), results))
    written = [readme]
    plots_folder.mkdir(exist_ok=True)
    for name, svg in draw(results).items():
        path = plots_folder / f"{name}.svg"
        path.write_text(svg)
        written.append(path)
    return written
