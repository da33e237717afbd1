"""`krin publish`, `history`, `replay`, `search`, `top`: what a person at a terminal says to and reads of a hub."""

from __future__ import annotations

import asyncio
import csv
import functools
import json
import os
import secrets
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from click.testing import CliRunner
from processes import ROOT, HubProcess

from hub.cli import main
from hub.client import Client


async def said(hub: HubProcess, *arguments: str, code: int = 0) -> str:
    environment = {"KRIN_URL": hub.url, "KRIN_TOKEN": hub.token("ann", "admin")}
    done = await asyncio.to_thread(CliRunner().invoke, main, arguments, env=environment)
    assert done.exit_code == code, done.output
    return done.output


async def test_history_gives_the_newest_oldest_first_as_text_lines_or_table(hub: HubProcess) -> None:
    channel = f"custom:{secrets.token_hex(4)}"
    async with asyncio.timeout(60), Client(hub.url, token=hub.token("ann", "admin")) as krin:
        for number in range(5):
            await krin.publish(channel, "NOTE", {"n": number, "text": "=1+1" if number == 4 else "-1.5", "list": [1]})

    assert [line.split()[2] for line in (await said(hub, "history", channel)).splitlines()] == list("12345")
    lines = [json.loads(line) for line in (await said(hub, "history", channel, "--json", "-n", "2")).splitlines()]
    assert [(each["offset"], each["data"]["n"]) for each in lines] == [(4, 3), (5, 4)]
    rows = list(csv.DictReader((await said(hub, "history", channel, "--csv", "-n", "2")).splitlines()))
    assert [(row["offset"], row["publisher"], row["data.n"], row["data.list"]) for row in rows] == [
        ("4", "ann", "3", "[1]"),
        ("5", "ann", "4", "[1]"),
    ]
    assert [row["data.text"] for row in rows] == ["-1.5", "'=1+1"], "a number stays one, a formula is made text"
    assert datetime.fromisoformat(rows[0]["time"]).utcoffset() is not None
    assert "not both" in await said(hub, "history", channel, "--csv", "--json", code=2)
    assert len((await said(hub, "history", "nowhere:x", code=1)).splitlines()) == 1


async def test_history_goes_on_past_a_page(hub: HubProcess) -> None:
    channel = f"team:{secrets.token_hex(4)}"
    async with asyncio.timeout(60), Client(hub.url, token=hub.token("ann", "admin")) as krin:
        for start in range(0, 1500, 100):
            alerts = [{"alert_id": f"a-{start + each}", "severity": "INFO", "title": "t"} for each in range(100)]
            await asyncio.gather(*(krin.publish(channel, "ALERT", alert) for alert in alerts))

    lines = (await said(hub, "history", channel, "-n", "1200", "--json")).splitlines()
    assert [json.loads(line)["offset"] for line in lines] == list(range(301, 1501))


async def test_search_finds_what_was_said(hub: HubProcess) -> None:
    word = f"zephyr{secrets.token_hex(4)}"
    async with asyncio.timeout(60), Client(hub.url, token=hub.token("ann", "admin")) as krin:
        await krin.publish("team:words", "ALERT", {"alert_id": word, "severity": "INFO", "title": f"the {word} rises"})
        # Words and vectors are asked for one after the other: what arrives between is found by its words alone at first.
        while "team:words" not in (await said(hub, "search", word)).partition("\n")[0]:
            await asyncio.sleep(0.05)
        as_json = json.loads(await said(hub, "search", word, "--channel", "team:words", "--json"))
    assert as_json["hits"][0]["type"] == "ALERT"


async def test_top_shows_each_node(hub: HubProcess) -> None:
    async with asyncio.timeout(60):
        await said(hub, "publish", "custom:top", "NOTE", "{}")
        [seen] = [json.loads(each) for each in (await said(hub, "top", "--once", "--json")).splitlines()]
        table = await said(hub, "top", "--once")
    [line] = seen["nodes"]
    assert line["state"] == "OK"
    assert line["connections"] >= 1
    assert line["delivered_per_s"] >= 0
    assert line["latency_ms"].keys() == {"p50", "p99", "p999"}  # the statuses themselves are deliveries
    assert line["node"] in table
    assert "p99 ms" in table


async def test_top_goes_on_in_json_until_nobody_reads(hub: HubProcess) -> None:
    environment = os.environ | {"KRIN_URL": hub.url, "KRIN_TOKEN": hub.token("ann", "admin")}
    command = f"{sys.executable} -m hub top --json | head -n 2; exit ${{PIPESTATUS[0]}}"
    run = functools.partial(subprocess.run, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    done = await asyncio.to_thread(run, ["bash", "-c", command])
    first, second = (json.loads(each)["nodes"] for each in done.stdout.splitlines())
    assert first[0]["delivered_per_s"] is None
    assert second[0]["delivered_per_s"] >= 0
    assert (done.returncode, done.stderr) == (141, "")


async def test_publish_takes_lines_of_standard_input_and_says_where_each_was_placed(hub: HubProcess) -> None:
    channel = f"custom:{secrets.token_hex(4)}"

    async def piped(text: str, *options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "hub", "publish", channel, "NOTE", "-", *options]
        environment = os.environ | {"KRIN_URL": hub.url, "KRIN_TOKEN": hub.token("ann", "admin")}
        run = functools.partial(subprocess.run, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
        return await asyncio.to_thread(run, command, input=text)

    done = await piped('{"n": 1}\n\n{"n": 2}\n{"n": 3}', "--idempotency-key", "k")
    assert [json.loads(line)["offset"] for line in done.stdout.splitlines()] == [1, 2, 3]
    again = await piped('{"n": 1}\n\n{"n": 2}\n{"n": 3}\n{"n": 4}', "--idempotency-key", "k")
    assert [(each["offset"], each.get("duplicate", False)) for each in map(json.loads, again.stdout.splitlines())] == [
        (1, True),
        (2, True),
        (3, True),
        (4, False),
    ]
    wrong = await piped('{"n": 5}\n{"n"')
    assert (wrong.returncode, len(wrong.stdout.splitlines())) == (1, 1)
    assert wrong.stderr.startswith("Error: line 2 is not JSON: ")
    assert wrong.stderr.endswith("; those before it are published\n")


async def test_publish_and_watch_shows_what_is_heard_until_it_is_interrupted(hub: HubProcess) -> None:
    channel = f"custom:{secrets.token_hex(4)}"
    command = [sys.executable, "-m", "hub", "publish", channel, "NOTE", '{"text": "anybody?"}', "--watch", "--json"]
    environment = os.environ | {"KRIN_URL": hub.url, "KRIN_TOKEN": hub.token("ann", "admin")}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe)
    assert process.stdout and process.stderr
    async with asyncio.timeout(60), Client(hub.url, token=hub.token("bob", "admin")) as bob:
        own = json.loads(await process.stdout.readline())
        placed = json.loads(await process.stderr.readline())
        await bob.publish(channel, "NOTE", {"text": "me"})
        answer = json.loads(await process.stdout.readline())
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
        assert await process.stderr.read() == b""
    assert (own["publisher"], own["data"], own["offset"]) == ("ann", {"text": "anybody?"}, placed["offset"])
    assert (answer["publisher"], answer["data"]) == ("bob", {"text": "me"})


async def test_a_channel_is_replayed_to_another_in_its_order_and_a_repeat_does_no_harm(hub: HubProcess) -> None:
    source, target = (f"{namespace}:{secrets.token_hex(4)}" for namespace in ("custom", "team"))
    async with asyncio.timeout(60), Client(hub.url, token=hub.token("ann", "admin")) as krin:
        for number in range(5):
            alert = {"alert_id": f"a-{number}", "severity": "INFO", "title": "t"}
            await krin.publish(source, "ALERT", alert, key=f"k{number}")
        for told in (f"5 messages are in {target}", f"5 messages are in {target}, 5 of them were there already"):
            assert (await said(hub, "replay", source, target, "--speed", "0")).strip() == told
        kept = (await krin.history(target)).messages
    assert [(each.type, each.data["alert_id"], each.key) for each in kept] == [
        ("ALERT", f"a-{number}", f"k{number}") for number in range(5)
    ]


async def test_a_file_of_messages_is_replayed_at_its_pace(hub: HubProcess, tmp_path: Path) -> None:
    target = f"custom:{secrets.token_hex(4)}"
    file = tmp_path / "kept.jsonl"
    messages = [
        {"type": "NOTE", "channel": "custom:then", "offset": n, "epoch": "e", "timestamp": at_ms, "data": {"n": n}}
        for n, at_ms in enumerate((0, 40_000, 60_000), 1)
    ]
    file.write_text("\n".join(map(json.dumps, messages)))
    async with asyncio.timeout(60), Client(hub.url, token=hub.token("ann", "admin")) as krin:
        await said(hub, "replay", str(file), target, "--speed", "100")
        kept = (await krin.history(target)).messages
        first, second, third = (each.timestamp for each in kept)
        assert [each.data["n"] for each in kept] == [1, 2, 3]
        assert second - first >= 380, "never ahead of its time, and late by what a machine takes"
        assert third - first >= 580
        file.write_text(file.read_text() + '\n{"type": "NOTE"}')
        told = await said(hub, "replay", str(file), target, "--speed", "0", code=1)
    assert told.splitlines() == [
        f"3 messages are in {target}, 3 of them were there already",
        "Error: line 4 of kept.jsonl is no message: Object missing required field `channel`",
    ]
