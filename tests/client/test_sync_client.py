"""The client for scripts and notebooks against a real hub: no event loop in sight."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fake_hub import FakeHub, Proxy, joined, publication, soon

import hub.client
from hub.client import Disconnected, ErrorCode, HubError, Lost, OrderEnded, Position, TaskLost, sync
from hub.client.orders import leaves_in
from hub.client.sync import Client, connect
from protocol.trading import ExecutionReport, PriceTick

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0


@pytest.fixture
def krin(hub: Any) -> Iterator[Client]:
    with connect(hub.url, token=hub.token("ada"), name="notebook", timeout_s=PATIENCE_S) as client:
        yield client


def fresh(kind: str = "custom") -> str:
    return f"{kind}:{secrets.token_hex(4)}"


def threads() -> set[str]:
    return {each.name for each in threading.enumerate() if each.name.startswith(("krin client", "specialist"))}


def test_what_is_published_arrives_and_history_has_it(krin: Client) -> None:
    channel = fresh("prices")
    with krin.subscribe(channel) as prices:
        placed = krin.publish(channel, "PRICE_TICK", PriceTick(symbol="BTC-USD", bid="1.5"), key="BTC-USD")
        message = prices.receive(PATIENCE_S)
        assert message.typed() == PriceTick(symbol="BTC-USD", bid="1.5")
        assert message.position == Position(placed.epoch, placed.offset) == prices.position

    room = fresh()
    offsets = [krin.publish(room, "NOTE", {"n": number}).offset for number in range(3)]
    kept = krin.history(room, limit=2)
    assert ([each.offset for each in kept.messages], kept.more) == (offsets[:2], True)
    assert (krin.state, krin.user) == ("open", "ada")
    assert krin.now_ms == pytest.approx(krin.call("hub.time")["time"], abs=10_000)


def test_a_loop_ends_when_it_has_become_quiet_and_the_channel_is_left(krin: Client) -> None:
    room = fresh()
    for number in range(3):
        krin.publish(room, "NOTE", {"n": number})
    heard = [message.data["n"] for message in krin.subscribe(room, rewind=10, quiet_s=0.2)]
    assert heard == [0, 1, 2]
    assert list(krin.subscribe(room, rewind=1, quiet_s=0.2))  # which would be refused while it is subscribed


def test_what_comes_after_a_wait_has_ended_is_not_lost(krin: Client) -> None:
    room = fresh()
    with krin.subscribe(room) as notes:
        with pytest.raises(TimeoutError, match="nothing came"):
            notes.receive(0.01)
        krin.publish(room, "NOTE", {"n": 1})
        krin.publish(room, "NOTE", {"n": 2})
        assert [notes.receive(PATIENCE_S).data["n"] for _ in range(2)] == [1, 2]
        assert notes.position is not None
        assert notes.position.offset == 2


def test_more_than_is_brought_ahead_comes_in_order(krin: Client) -> None:
    room = fresh()
    with krin.subscribe(room) as notes:
        for number in range(5 * sync.AHEAD):
            krin.publish(room, "NOTE", {"n": number})
        assert [notes.receive(PATIENCE_S).data["n"] for _ in range(5 * sync.AHEAD)] == list(range(5 * sync.AHEAD))


def test_leaving_a_loop_unsubscribes(krin: Client) -> None:
    room = fresh()
    krin.publish(room, "NOTE", {"n": 1})
    for message in krin.subscribe(room, rewind=1, presence=True):
        assert message.data == {"n": 1}
        break
    gc.collect()
    with krin.subscribe(room, presence=True) as again:  # one subscription to a channel at a time
        assert [member.user for member in again.members] == ["ada"]


def test_errors_are_those_of_the_asynchronous_client(hub: Any, krin: Client) -> None:
    with pytest.raises(HubError) as refused:
        krin.publish("nowhere", "NOTE", {})
    assert refused.value.code in (ErrorCode.BAD_REQUEST, ErrorCode.UNKNOWN_CHANNEL, ErrorCode.SCHEMA_INVALID)
    with (
        connect(hub.url, token=hub.token("bob", "dashboard")) as bob,
        pytest.raises(HubError) as forbidden,
    ):
        bob.subscribe("orders:ada")
    assert forbidden.value.code is ErrorCode.PERMISSION_DENIED
    before = threads()
    with pytest.raises(Disconnected) as final:
        connect(hub.url, token="nonsense")
    assert final.value.code in (401, 4001, 4002)
    with pytest.raises(TimeoutError):
        connect("http://127.0.0.1:9", token="t", timeout_s=0.3)
    assert threads() == before


def test_several_threads_share_a_client(krin: Client) -> None:
    room = fresh()
    with ThreadPoolExecutor(8) as pool:
        offsets = set(pool.map(lambda number: krin.publish(room, "NOTE", {"n": number}).offset, range(40)))
    assert offsets == set(range(1, 41))


def test_closing_ends_loops_and_calls_everywhere_and_leaves_no_thread(hub: Any) -> None:
    krin = connect(hub.url, token=hub.token("ada"))
    notes = krin.subscribe(fresh())
    heard: list[Any] = []
    reader = threading.Thread(target=lambda: heard.append(list(notes)))
    reader.start()
    krin.close()
    reader.join(PATIENCE_S)
    assert heard == [[]]
    krin.close()  # once more does no harm
    notes.close()
    for late in (lambda: krin.publish("custom:a", "NOTE", {}), notes.receive):
        with pytest.raises(Disconnected):
            late()
    assert list(notes) == []
    assert not krin._background._thread.is_alive()


def test_a_client_that_nobody_refers_to_is_closed(hub: Any) -> None:
    krin = connect(hub.url, token=hub.token("ada"))
    thread = krin._background._thread
    del krin
    gc.collect()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_it_must_not_be_waited_for_in_what_it_calls_back(hub: Any) -> None:
    told: list[BaseException | Any] = []

    def on_state(state: str) -> None:
        if state == "closed":
            try:
                krin.presence("custom:a")
            except RuntimeError as failure:
                told.append(failure)

    krin = connect(hub.url, token=hub.token("ada"), on_state=on_state)
    krin.close()
    assert "must not wait" in str(told[0])


async def test_it_works_where_a_loop_runs_already(hub: Any) -> None:
    """As in a notebook."""
    room = fresh()
    with connect(hub.url, token=hub.token("ada")) as krin:
        krin.publish(room, "NOTE", {"n": 1})
        assert [message.data for message in krin.subscribe(room, rewind=1, quiet_s=0.2)] == [{"n": 1}]


async def test_it_stays_connected_while_nobody_calls(hub: Any) -> None:
    room = fresh()
    async with Proxy(*hub.address) as proxy:

        def script(cut: Callable[[], None]) -> list[Any]:
            with (
                connect(proxy.url, token=hub.token("ada"), backoff_s=(0.01, 0.1)) as krin,
                krin.subscribe(room) as notes,
            ):
                krin.publish(room, "NOTE", {"n": 1})
                cut()
                krin.publish(room, "NOTE", {"n": 2})
                return [notes.receive(PATIENCE_S).data["n"] for _ in range(2)]

        loop = asyncio.get_running_loop()
        heard = await asyncio.to_thread(script, lambda: loop.call_soon_threadsafe(proxy.cut))
    assert heard == [1, 2]
    assert proxy.connections >= 1


async def test_a_loss_is_told_in_its_place_by_whoever_iterates(tmp_path: Path) -> None:
    """So that `on_lost` may ask the hub for what it needs."""
    told: list[tuple[Lost, bool, list[Any]]] = []

    def script(url: str) -> list[Any]:
        with connect(url, token="t", backoff_s=(0.01, 0.05)) as krin:
            mine = threading.current_thread()

            def reload(lost: Lost) -> None:
                there = krin.presence("custom:a")
                told.append((lost, threading.current_thread() is mine, there))

            with krin.subscribe("custom:a", recover=Position("e1", 3), on_lost=reload) as notes:
                heard = [notes.receive(PATIENCE_S).offset]
                assert notes.position == Position("e1", heard[0])
                return heard

    async with FakeHub() as fake:
        running = asyncio.create_task(asyncio.to_thread(script, fake.url))
        peer = await soon(fake.welcome())
        command = await peer.expect("subscribe")
        lost = joined(epoch="e1", offset=8, recovered=False, reason="offset_too_old", messages=[])
        await peer.reply(command, **lost)
        await peer.send(publication(9))
        asking = await peer.expect("presence")
        await peer.reply(asking, channel="custom:a", members=[])
        heard = await soon(running)
    assert heard == [9]
    assert told == [(Lost("custom:a", "offset_too_old", Position("e1", 3), Position("e1", 8)), True, [])]


SCRIPT = """
import os
from hub.client.sync import connect

krin = connect(os.environ["URL"], token=os.environ["TOKEN"])
notes = krin.subscribe("custom:interrupted")
try:
    print("waiting", flush=True)
    notes.receive()
except KeyboardInterrupt:
    print("interrupted", flush=True)
krin.publish("custom:interrupted", "NOTE", {"n": 1})
print(notes.receive(20).data, flush=True)
"""


def test_ctrl_c_interrupts_a_wait_and_a_script_that_forgets_to_close_ends(hub: Any) -> None:
    environment = os.environ | {"URL": hub.url, "TOKEN": hub.token("ada")}
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as script:
        assert script.stdout is not None
        assert script.stdout.readline() == "waiting\n"
        script.send_signal(signal.SIGINT)
        out, err = script.communicate(timeout=PATIENCE_S)
    assert (script.returncode, out, err) == (0, "interrupted\n{'n': 1}\n", "")


def test_a_specialist_works_through_its_project(hub: Any) -> None:
    team = f"team-{secrets.token_hex(4)}"
    token = hub.token("ada", "agent", teams=(team,))
    options: dict[str, Any] = {"specialist_id": f"ada-{team}", "team": team, "heartbeat_s": 1.0}
    done = []
    with sync.Specialist(hub.url, token=token, **options) as me:
        tasks = [{"task_id": "a"}, {"task_id": "b", "depends_on": ["a"]}]
        me.call("projects.create", project={"project_id": team, "tasks": tasks})
        for task in me.tasks():
            task.progress(0.5, "half of it")
            done.append((task.task_id, task.submit({"name": "patch"}), task.held))
            if task.task_id == "b":
                break
        with pytest.raises(TaskLost):
            task.fail("it has ended")
    assert done == [("a", "COMPLETED", False), ("b", "COMPLETED", False)]
    with connect(hub.url, token=token) as krin, pytest.raises(ZeroDivisionError):
        krin.call("tasks.create", project_id=team, tasks=[{"task_id": "c"}])
        with sync.Specialist(hub.url, token=token, **options) as me:
            next(me.tasks()).progress(0.1)
            raise ZeroDivisionError("a mistake of the program")
    with connect(hub.url, token=token) as krin:
        failed = krin.call("tasks.get", project_id=team, task_id="c")["task"]
        assert (failed["state"], "a mistake" in failed["message"]) == ("FAILED", True)


@pytest.mark.parametrize("name", ["Client", "Orders", "Specialist", "Task", "Reports", "Subscription"])
def test_everything_that_the_asynchronous_one_can_do_is_there(name: str) -> None:
    """But for what a loop is needed for: its protocols, and running tasks side by side."""

    def offered(kind: type) -> set[str]:
        return {each for each, _ in inspect.getmembers(kind) if not each.startswith("_")}

    left_out = {
        "Client": {"client", "session"},
        "Specialist": {"check", "from_now", "offer", "take", "wake", "work"},
        "Task": {"hear", "look", "lose"},
        "Subscription": {"on_lost", "ready", "waiting", "aclose"},
        "Reports": {"aclose"},
    }.get(name, set())
    assert offered(getattr(hub.client, name)) - offered(getattr(sync, name)) == left_out


def test_an_order_that_ended_otherwise_is_told_with_its_report() -> None:
    order = ExecutionReport(
        account="a", client_order_id="c", order_id="o", symbol="S", side="BUY", exec_type="NEW", ord_status="CANCELED"
    )
    with pytest.raises(OrderEnded):
        leaves_in(order, order, ("FILLED",))
    assert leaves_in(order, order, ("CANCELED",))
