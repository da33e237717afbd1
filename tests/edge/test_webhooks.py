"""Webhooks against a real receiver: signed, in order, at least once, and what becomes of receivers that do not take them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from processes import HubProcess, krin, running
from receiver import Receiver, receiving
from redis_server import redis_server
from sockets import PATIENCE_S, Metrics, peer, unique

CONFIG = """
[doors]
socketio = false
[webhooks]
allow_private = true
timeout_s = 1.0
first_wait_s = 0.05
max_failures = 4
"""
MAX_FAILURES = 4
HOOKS = "/v1/webhooks"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "krin.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def sender(tmp_path_factory: pytest.TempPathFactory, config: Path) -> Iterator[HubProcess]:
    with running(tmp_path_factory.mktemp("sender") / "data", "--config", str(config)) as hub:
        yield hub


@asynccontextmanager
async def api(hub: Any, name: str = "owner", *roles: str, **token: Any) -> AsyncIterator[httpx.AsyncClient]:
    bearer = {"authorization": f"Bearer {hub.token(name, *(roles or ('agent',)), **token)}"}
    async with httpx.AsyncClient(base_url=hub.url, headers=bearer, timeout=PATIENCE_S) as client:
        yield client


async def add(http: httpx.AsyncClient, receiver: Receiver, *channels: str) -> dict[str, Any]:
    answer = await http.post(HOOKS, json={"url": receiver.url, "channels": channels})
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()["data"]
    return made


async def state(http: httpx.AsyncClient, id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await http.get(f"{HOOKS}/{id}")).json()["data"]
    return found


async def until_disabled(http: httpx.AsyncClient, id: str) -> str:
    async with asyncio.timeout(PATIENCE_S):
        while (found := await state(http, id))["enabled"]:
            await asyncio.sleep(0.05)
    reason: str = found["reason"]
    return reason


async def say(publisher: Any, channel: str, times: int = 1) -> None:
    for _ in range(times):
        await publisher.publish(channel, "SPECIALIST_UPDATE", [{"specialist_id": "s1"}])


async def test_what_is_published_is_told_signed_in_order_and_as_a_socket_has_it(sender: HubProcess) -> None:
    room = unique("team")
    async with receiving() as receiver, api(sender) as http, peer(sender, sender.token("pub")) as publisher:
        await say(publisher, room)
        made = await add(http, receiver, room)
        begun = (await publisher.ask("subscribe", channel=room))["result"]
        await say(publisher, room, 3)
        told = (await receiver.until(3))[:3]

        assert [each.data["offset"] for each in told] == [2, 3, 4]
        assert all(each.signed_by(made["secret"]) for each in told)
        assert len({each.id for each in told}) == 3
        assert told[0].data == {**await publisher.until_offset(room, 2), "epoch": begun["epoch"]}
        assert (told[0].said["type"], told[0].headers["content-type"]) == ("SPECIALIST_UPDATE", "application/json")
        assert (await state(http, made["id"])).get("secret") is None
        async with asyncio.timeout(PATIENCE_S):
            while len(kept := (await http.get(f"{HOOKS}/{made['id']}/deliveries")).json()["data"]) < 3:
                await asyncio.sleep(0.05)
        assert [(each["id"], each["delivered"], each["status"]) for each in kept] == [
            (each.id, True, 204) for each in reversed(told)
        ]


async def test_a_receiver_that_fails_and_hangs_gets_each_message_again_under_the_same_id_and_in_order(
    sender: HubProcess,
) -> None:
    room = unique("team")
    async with receiving() as receiver, api(sender) as http, peer(sender, sender.token("pub")) as publisher:
        await add(http, receiver, room)
        receiver.answers = [500, 302, 200, None, 429]
        await say(publisher, room, 3)
        taken = await receiver.until(3)

        assert [each.data["offset"] for each in taken] == [1, 2, 3]
        assert [each.data["offset"] for each in receiver.requests] == [1, 1, 1, 2, 2, 2, 3]
        ids = [each.id for each in receiver.requests]
        assert [len(set(ids[start:end])) for start, end in ((0, 3), (3, 6), (6, 7))] == [1, 1, 1]
        assert len(set(ids)) == 3


async def test_after_failures_enough_it_is_disabled_with_an_alert_and_enabled_goes_on_where_it_stood(
    sender: HubProcess,
) -> None:
    room = unique("team")
    async with receiving() as receiver, api(sender) as http, peer(sender, sender.token("pub")) as publisher:
        await publisher.ask("subscribe", channel="alerts:ops")
        made = await add(http, receiver, room)
        receiver.always = 503
        await say(publisher, room, 2)
        assert await until_disabled(http, made["id"]) == "4 attempts in a row have failed, the last one with: HTTP 503"
        assert [each.data["offset"] for each in receiver.requests] == [1] * MAX_FAILURES
        alert = await publisher.until(
            lambda each: each["type"] == "ALERT" and each["data"]["alert_id"] == f"webhook:{made['id']}"
        )
        assert "503" in alert["data"]["detail"]

        receiver.always = 200
        assert (await http.patch(f"{HOOKS}/{made['id']}", json={"enabled": True})).json()["data"]["failures"] == 0
        assert [each.data["offset"] for each in await receiver.until(2)] == [1, 2]


async def test_a_receiver_that_is_gone_is_not_asked_again(sender: HubProcess) -> None:
    room = unique("team")
    async with receiving() as receiver, api(sender) as http, peer(sender, sender.token("pub")) as publisher:
        made = await add(http, receiver, room)
        receiver.always = 410
        await say(publisher, room)
        assert "410" in await until_disabled(http, made["id"])
        assert len(receiver.requests) == 1


async def test_a_sigkill_loses_nothing(tmp_path: Path, config: Path) -> None:
    room = unique("team")
    data = tmp_path / "data"
    async with receiving() as receiver:
        with running(data, "--config", str(config)) as hub:
            async with api(hub) as http, peer(hub, hub.token("pub")) as publisher:
                assert (await http.get("/socket.io/?EIO=4&transport=polling")).status_code == 404  # [doors]
                await add(http, receiver, room)
                await say(publisher, room, 3)
                await receiver.until(3)
                receiver.always = None  # from here on it hangs, and nobody knows what it has taken
                await say(publisher, room, 3)
                await receiver.until(4, taken=False)
                hub.kill()
        receiver.always = 204
        receiver.hang_up()
        with running(data, "--config", str(config)) as hub:
            async with peer(hub, hub.token("pub")) as publisher:
                await say(publisher, room)
            while (taken := await receiver.until(7))[-1].data["offset"] < 7:
                await receiver.until(len(taken) + 1)
    offsets = [each.data["offset"] for each in receiver.taken]
    assert offsets == sorted(offsets)  # what was sent twice comes before what follows it
    assert set(offsets) == set(range(1, 8))
    assert len({each.id for each in receiver.requests}) == 7


async def test_the_node_that_sends_is_killed_and_the_other_goes_on_behind_it(tmp_path: Path, config: Path) -> None:
    room, data = unique("team"), tmp_path / "data"

    async def sends(hub: HubProcess) -> bool:
        return await Metrics(hub).value("krin_webhooks") == 1

    async with receiving() as receiver, redis_server(limit_s=150) as url:
        given = ("--redis-url", url, "--config", str(config))
        with (
            running(data, *given, "--node", "n1") as one,
            running(data, *given, "--node", "n2") as two,
        ):
            async with api(one) as http:
                made = await add(http, receiver, room)
            async with asyncio.timeout(PATIENCE_S):
                while not (await sends(one) or await sends(two)):
                    await asyncio.sleep(0.05)
            sender, other = (one, two) if await sends(one) else (two, one)
            async with peer(other, other.token("pub")) as publisher:
                await say(publisher, room, 3)
                await receiver.until(3)
                receiver.always = None  # from here on it hangs, and nobody knows what it has taken
                await say(publisher, room, 3)
                await receiver.until(4, taken=False)
                sender.kill()
                receiver.hang_up()
                receiver.always = 204
                await say(publisher, room, 3)
                while (taken := await receiver.until(9))[-1].data["offset"] < 9:
                    await receiver.until(len(taken) + 1)
            assert await sends(other)
    offsets = [each.data["offset"] for each in receiver.requests]
    assert offsets == sorted(offsets)  # what was sent twice comes before what follows it
    assert {each.data["offset"] for each in receiver.taken} == set(range(1, 10))
    assert len({(each.id, each.data["offset"]) for each in receiver.requests}) == 9
    assert len({each.id for each in receiver.requests}) == 9
    assert all(each.signed_by(made["secret"]) for each in receiver.requests)


async def test_a_history_that_has_gone_is_told_as_lost(tmp_path: Path, config: Path) -> None:
    room = unique("custom")  # kept by the node, and gone with it
    data = tmp_path / "data"
    async with receiving() as receiver:
        with running(data, "--config", str(config)) as hub:
            async with api(hub) as http, peer(hub, hub.token("pub")) as publisher:
                await add(http, receiver, room)
                await publisher.publish(room)
                first = (await receiver.until(1))[0]
                async with asyncio.timeout(PATIENCE_S):  # taken, and noted that it was
                    while not (await http.get(HOOKS)).json()["data"] or receiver.taken[-1] is not first:
                        await asyncio.sleep(0.05)
                await publisher.publish(room)
                await receiver.until(2)
        with running(data, "--config", str(config)) as hub:
            async with peer(hub, hub.token("pub")) as publisher:
                await publisher.publish(room)
                told = (await receiver.until(4))[-2:]
    assert [each.said["type"] for each in told] == ["krin.lost", "NOTE"]
    assert (told[0].data["channel"], told[0].data["reason"]) == (room, "epoch_changed")
    assert told[0].data["after"] == {"epoch": first.data["epoch"], "offset": 2}
    assert told[1].data["epoch"] != first.data["epoch"]


async def test_a_new_secret_and_the_old_one_both_sign(sender: HubProcess) -> None:
    room = unique("team")
    async with receiving() as receiver, api(sender) as http, peer(sender, sender.token("pub")) as publisher:
        made = await add(http, receiver, room)
        rotated = (await http.post(f"{HOOKS}/{made['id']}/secret")).json()["data"]
        assert rotated["secret"] != made["secret"]
        async with asyncio.timeout(PATIENCE_S):  # whoever delivers finds out within a second
            while len(receiver.taken[-1].headers["webhook-signature"].split(" ") if receiver.taken else ()) < 2:
                await say(publisher, room)
                await receiver.until(len(receiver.taken) + 1)
        assert receiver.taken[-1].signed_by(made["secret"])
        assert receiver.taken[-1].signed_by(rotated["secret"])
        assert not receiver.taken[-1].signed_by("whsec_" + "A" * 43 + "=")


async def test_it_is_told_what_its_owner_may_read_and_no_more(sender: HubProcess) -> None:
    mine, others = unique("team"), unique("team")
    rights = {"teams": (mine.removeprefix("team:"),)}
    async with (
        receiving() as receiver,
        api(sender, "bot", "agent", **rights) as http,
        peer(sender, sender.token("pub")) as publisher,
    ):
        refused = await http.post(HOOKS, json={"url": receiver.url, "channels": [others]})
        assert (refused.status_code, refused.json()["meta"]["error"]["name"]) == (403, "permission_denied")
        await add(http, receiver, "team:*")
        await say(publisher, others)
        await say(publisher, mine)
        assert [each.data["channel"] for each in await receiver.until(1)] == [mine]


async def test_whose_rights_are_revoked_is_told_nothing_any_more(sender: HubProcess) -> None:
    room = unique("team")
    async with (
        receiving() as receiver,
        api(sender, "leaver") as http,
        peer(sender, sender.token("pub")) as publisher,
    ):
        made = await add(http, receiver, room)
        done = krin("user", "revoke", "leaver", "--data-dir", str(sender.data_dir))
        assert done.returncode == 0, done.stderr
        async with api(sender, "admin", "admin") as admin:
            assert await until_disabled(admin, made["id"]) == "its owner's rights were revoked"
        await say(publisher, room)
        assert receiver.requests == []


async def test_others_webhooks_are_not_there(sender: HubProcess) -> None:
    async with receiving() as receiver, api(sender) as http, api(sender, "other") as other:
        made = await add(http, receiver, unique("team"))
        for method, path in (
            ("GET", ""),
            ("DELETE", ""),
            ("POST", "/test"),
            ("POST", "/secret"),
            ("GET", "/deliveries"),
        ):
            assert (await other.request(method, f"{HOOKS}/{made['id']}{path}")).status_code == 404
        assert made["id"] not in [each["id"] for each in (await other.get(HOOKS)).json()["data"]]
        assert (await http.delete(f"{HOOKS}/{made['id']}")).status_code == 200
        assert (await http.get(f"{HOOKS}/{made['id']}")).status_code == 404


@pytest.mark.parametrize(
    ("url", "channels"),
    [
        ("ftp://example.com/", ["team:a"]),
        ("https://user:pass@example.com/", ["team:a"]),
        ("https://example.com/#part", ["team:a"]),
        ("not a url", ["team:a"]),
        ("https://example.com/", ["prices:*"]),
        ("https://example.com/", []),
    ],
)
async def test_what_cannot_be_told_is_refused(sender: HubProcess, url: str, channels: list[str]) -> None:
    async with api(sender) as http:
        answer = await http.post(HOOKS, json={"url": url, "channels": channels})
    assert (answer.status_code, answer.json()["meta"]["error"]["name"]) == (422, "schema_invalid")


async def test_c75_addresses_of_this_machine_are_refused_unless_the_setting_allows_them(hub: Any) -> None:
    async with receiving() as receiver, api(hub) as http:
        port = receiver.url.rpartition(":")[2]
        for host in (
            "127.0.0.1",
            "localhost",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "169.254.169.254",
            "10.0.0.1",
            "2130706433",
        ):
            answer = await http.post(HOOKS, json={"url": f"http://{host}:{port}", "channels": ["team:a"]})
            assert (answer.status_code, answer.json()["meta"]["error"]["path"]) == (422, "$.url"), host
        assert receiver.requests == []


async def test_the_commands(sender: HubProcess) -> None:
    environment = {"KRIN_URL": sender.url, "KRIN_TOKEN": sender.token("cli", "agent")}

    async def command(*arguments: str) -> Any:
        return await asyncio.to_thread(krin, "webhook", *arguments, environment=environment)

    async with receiving() as receiver:
        made = await command("add", receiver.url, unique("team"))
        assert made.returncode == 0, made.stderr
        id = made.stderr.split()[0]
        listed = await command("list", "--json")
        assert id in listed.stdout
        assert (await command("test", id)).returncode == 0
        assert receiver.taken[-1].said["type"] == "krin.test"
        assert receiver.taken[-1].signed_by(made.stdout.strip())
        receiver.always = 500
        failed = await command("test", id)
        assert (failed.returncode, "HTTP 500" in failed.stderr) == (1, True)
        assert (await command("remove", id)).returncode == 0
        assert id not in (await command("list")).stdout
