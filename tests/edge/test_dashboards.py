"""What Grafana shows and Prometheus alerts on: every query names a metric that the hub has, and a real Prometheus that
scrapes two nodes answers it."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from processes import ROOT, HubProcess, running
from redis_server import redis_server
from test_metrics_page import page

from hub.bootstrap.operations import objectives_of
from hub.client import Client
from hub.observe.metrics import Histogram
from hub.observe.monitors import KrinObservabilityService
from hub.observe.objectives import prometheus_rules
from protocol.errors import HubError

DASHBOARDS = {
    each.stem: json.loads(each.read_text()) for each in sorted((ROOT / "deploy/grafana/dashboards").iterdir())
}
RULES = ROOT / "deploy/prometheus/krin.rules.yml"
METRIC = re.compile(r"\b(?:krin|hub|gen_ai)_\w+")
GROUPED = re.compile(r"by \(([\w, ]+)\)")
INTERVAL = "$__rate_interval"  # of Grafana: four scrapes
NEEDS_PROMETHEUS = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="Prometheus is not installed (Debian package prometheus)"
)


def queries() -> Iterator[tuple[str, str]]:
    """(dashboard: panel, query); a panel that may be empty says so in its description."""
    for name, dashboard in DASHBOARDS.items():
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                yield f"{name}: {panel['title']}", target["expr"]


def may_be_empty(place: str) -> bool:
    name, _, title = place.partition(": ")
    [panel] = [each for each in DASHBOARDS[name]["panels"] if each["title"] == title]
    return str(panel.get("description", "")).startswith("Empty until")


def family(metric: str) -> str:
    return re.sub(r"_(total|bucket|sum|count)\Z", "", metric)


def test_there_is_a_dashboard_for_each_of_what_people_watch() -> None:
    assert set(DASHBOARDS) == {"overview", "realtime", "trading", "team", "security"}
    assert all(dashboard["uid"] == f"krin-{name}" for name, dashboard in DASHBOARDS.items())
    source = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())
    used = {panel["datasource"]["uid"] for dashboard in DASHBOARDS.values() for panel in dashboard["panels"]}
    assert used == {source["datasources"][0]["uid"]}


@pytest.mark.parametrize(("place", "query"), [*queries()])
def test_a_query_names_metrics_that_the_hub_has(place: str, query: str) -> None:
    names = METRIC.findall(re.sub(r"by \([^)]*\)|\{[^}]*\}", "", query))
    metrics = page()
    kinds = {name: metrics.get(family(name), metrics.get(name, (None, "")))[0] for name in names}
    assert names or "up{" in query
    for name, kind in kinds.items():
        assert kind is not None, f"{place} asks for {name}, which is not on the page of metrics"
        assert (kind == "counter") == name.endswith("_total"), name
        assert (kind == "histogram") == name.endswith(("_bucket", "_sum", "_count")), name


def test_every_metric_of_the_hub_is_on_a_dashboard() -> None:
    shown = {family(name) for _, query in queries() for name in METRIC.findall(query)}
    assert set(page()) - shown == set()


def test_panels_do_not_cover_each_other() -> None:
    for name, dashboard in DASHBOARDS.items():
        places = [each["gridPos"] for each in dashboard["panels"]]
        cells = [
            (x, y)
            for at in places
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        ]
        assert len(cells) == len(set(cells)), name
        assert all(at["x"] + at["w"] <= 24 for at in places), name
        assert len({each["id"] for each in dashboard["panels"]}) == len(places), name


def test_the_rules_for_prometheus_are_the_objectives_of_the_hub() -> None:
    service = KrinObservabilityService(report=lambda event: None, clock=None)  # type: ignore[arg-type]  # of no moment
    wanted = prometheus_rules(objectives_of(service, Histogram()))
    assert yaml.safe_load(RULES.read_text()) == wanted, yaml.safe_dump(wanted, sort_keys=False, width=110)


@NEEDS_PROMETHEUS
def test_the_rules_fire_when_an_objective_is_missed_and_not_otherwise(tmp_path: Path) -> None:
    """By promtool: a sample every 15 s, 100 deliveries each; from the tenth minute on half of them are late."""

    def series(name: str, values: str) -> dict[str, str]:
        return {"series": f'{name}{{instance="n1"}}', "values": values}

    alert = {
        "exp_labels": {"severity": "critical"},
        "exp_annotations": {"summary": "99 % of deliveries within 100 ms: missed"},
    }
    test = {
        "rule_files": [str(RULES)],
        "tests": [
            {
                "interval": "15s",
                "input_series": [
                    series("krin_delivery_latency_ms_count", "0+100x120"),
                    {
                        "series": 'krin_delivery_latency_ms_bucket{instance="n1",le="100"}',
                        "values": "0+100x40 4050+50x80",
                    },
                ],
                "alert_rule_test": [
                    {"eval_time": "9m", "alertname": "KrinBroadcastCritical", "exp_alerts": []},
                    {"eval_time": "16m", "alertname": "KrinBroadcastCritical", "exp_alerts": [alert]},
                ],
            }
        ],
    }
    file = tmp_path / "rules_test.yml"
    file.write_text(yaml.safe_dump(test))
    for arguments in (("check", "rules", str(RULES)), ("test", "rules", str(file))):
        done = subprocess.run(["promtool", *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


class Prometheus:
    def __init__(self, url: str) -> None:
        self.http = httpx.AsyncClient(base_url=url, timeout=10)

    async def ask(self, query: str) -> list[Any]:
        """The series of an instant query. A query that is none fails the test."""
        answer = (await self.http.get("/api/v1/query", params={"query": query.replace(INTERVAL, "20s")})).json()
        assert answer["status"] == "success", answer
        found: list[Any] = answer["data"]["result"]
        return [each for each in found if each["value"][1] != "NaN"]

    async def answers(self, place: str, query: str) -> bool:
        """Whether there is data; its labels must be those the query groups by."""
        found = await self.ask(query)
        if found and (grouped := GROUPED.search(query)):
            wanted = {name.strip() for name in grouped[1].split(",")} - {"le"}
            assert wanted <= set(found[0]["metric"]), f"{place}: no label {wanted}"
        return bool(found)

    async def until(self, query: str, holds: Any = bool) -> list[Any]:
        async with asyncio.timeout(30):
            while not holds(found := await self.ask(query)):
                await asyncio.sleep(0.05)
        return found


@asynccontextmanager
async def prometheus(folder: Path, hubs: list[HubProcess]) -> AsyncIterator[Prometheus]:
    config = yaml.safe_load((ROOT / "deploy/compose/prometheus.yml").read_text())
    config["global"]["scrape_interval"] = "1s"
    config["rule_files"] = [str(RULES)]
    targets = [hub.url.removeprefix("http://") for hub in hubs]
    config["scrape_configs"] = [
        {"job_name": each["job_name"], "static_configs": [{"targets": targets}]} for each in config["scrape_configs"]
    ]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    server = await asyncio.create_subprocess_exec(
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={address}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    made = Prometheus(f"http://{address}")
    try:
        async with asyncio.timeout(30):
            while True:
                with suppress(httpx.HTTPError):
                    if (await made.http.get("/-/ready")).status_code == 200:
                        break
                await asyncio.sleep(0.05)
        yield made
    finally:
        await made.http.aclose()
        server.terminate()
        await server.wait()


async def live(hubs: list[HubProcess]) -> None:
    """A little of everything, at both nodes, until it is cancelled."""
    first, second = hubs
    async with (
        Client(first.url, token=first.token("ann", "admin")) as ann,
        Client(second.url, token=second.token("bob", "admin")) as bob,
        httpx.AsyncClient(
            base_url=second.url, headers={"authorization": f"Bearer {second.token('bob', 'admin')}"}
        ) as http,
        bob.subscribe("team:desk"),
        bob.subscribe("custom:room"),
        asyncio.timeout(100),
    ):
        while True:
            alert = {"alert_id": "a-1", "severity": "INFO", "title": "t"}
            await ann.publish("team:desk", "ALERT", alert)
            await ann.publish("custom:room", "NOTE", {"text": "hello"})
            await http.get("/v1/history/team:desk")
            with suppress(HubError):
                await ann.call("orders.no_such_thing")
            async with Client(first.url, token=first.token("eve", "viewer")) as eve:
                with suppress(HubError):
                    await eve.publish("team:desk", "ALERT", alert)
            await asyncio.sleep(0.05)


@NEEDS_PROMETHEUS
async def test_a_real_prometheus_scrapes_two_nodes_and_answers_every_query(tmp_path: Path) -> None:
    (tmp_path / "krin.toml").write_text('[feeds.sim]\nkind = "simulated"\n')
    given = ("--config", str(tmp_path / "krin.toml"))
    async with redis_server() as url, asyncio.timeout(110):
        with (
            running(tmp_path / "data", "--redis-url", url, "--node", "n1", *given) as one,
            running(tmp_path / "data", "--redis-url", url, "--node", "n2", *given) as two,
        ):
            hubs = [one, two]
            async with prometheus(tmp_path, hubs) as made, asyncio.TaskGroup() as group:
                living = group.create_task(live(hubs))
                up = await made.until('up{job="krin"} == 1', lambda found: len(found) == 2)
                assert {each["metric"]["instance"] for each in up} == {hub.url.removeprefix("http://") for hub in hubs}
                unanswered = list(queries())
                with suppress(TimeoutError):
                    async with asyncio.timeout(45):
                        while unanswered := [each for each in unanswered if not await made.answers(*each)]:
                            await asyncio.sleep(0.05)
                            unanswered = [each for each in unanswered if not may_be_empty(each[0])]
                assert unanswered == []
                nodes = await made.until("sum by (instance) (krin_connections)", lambda found: len(found) == 2)
                assert all(float(each["value"][1]) >= 1 for each in nodes)
                rules = (await made.http.get("/api/v1/rules")).json()["data"]["groups"][0]["rules"]
                assert {rule["health"] for rule in rules} <= {"ok", "unknown"}
                assert {rule["state"] for rule in rules} == {"inactive"}
                living.cancel()
