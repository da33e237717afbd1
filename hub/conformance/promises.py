"""The promises, each by the section of protocol/README.md that makes it. A check returns, or raises Broken."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec

from hub.conformance.wire import FORMATS, Broken, Message, Probe, Wire, refused
from protocol.close_codes import CloseCode
from protocol.errors import ErrorCode

RUN = 20  # messages in a row


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """Where the checks may publish: namespaces of each promise, and a channel that the token must not open."""

    durable: str = "team"
    recoverable: str = "custom"
    latest: str = "status"
    forbidden: str | None = None

    def channel(self, namespace: str) -> str:
        return f"{namespace}:conformance-{secrets.token_hex(6)}"


class Skipped(Exception):
    """What this check needs was not given; the text says what."""


Check = Callable[[Probe, Subject], Awaitable[None]]


class Promise(NamedTuple):
    number: str
    text: str
    check: Check
    slow: bool


PROMISES: list[Promise] = []


def promise(number: str, text: str, *, slow: bool = False) -> Callable[[Check], Check]:
    def enter(check: Check) -> Check:
        PROMISES.append(Promise(number, text, check, slow))
        return check

    return enter


def content(namespace: str, subject: Subject, number: int = 0) -> Message:
    """A message that the namespace takes."""
    if namespace == subject.durable:
        return {"type": "SPECIALIST_UPDATE", "data": [{"specialist_id": f"s{number}"}]}
    if namespace == subject.latest:
        return {"type": "STATUS", "data": {"component": f"c{number}", "state": "OK"}}
    return {"type": "NOTE", "data": {"n": number}}


async def publish(wire: Wire, channel: str, subject: Subject, number: int = 0, **fields: Any) -> Message:
    message = content(channel.partition(":")[0], subject, number)
    return await wire.result("publish", channel=channel, message=message, **fields)


def expect(kept: bool, reason: str) -> None:
    if not kept:
        raise Broken(reason)


def in_a_row(messages: list[Message], *, after: int, what: str) -> None:
    """Raises Broken at the first message that is not the next."""
    for expected, message in enumerate(messages, after + 1):
        found = message["offset"]
        if found < expected:
            raise Broken(f"{what}: offset {found} came again, or too late (expected {expected})")
        if found > expected:
            raise Broken(f"{what}: offset {expected} is missing, or late ({found} came)")


@promise("1.1", "the subprotocol that was offered is named in the answer")
async def _(probe: Probe, subject: Subject) -> None:
    async with probe.open() as wire:
        named = wire.socket.subprotocol
    expect(named == FORMATS[probe.format], f"offered {FORMATS[probe.format]}, answered {named}")


@promise("1.2", "who offers no subprotocol speaks JSON")
async def _(probe: Probe, subject: Subject) -> None:
    async with probe.open(offered=(), format="json") as wire:
        expect(wire.socket.subprotocol is None, "a subprotocol was named that nobody offered")
        await wire.result("connect", token=probe.token)


@promise("1.3", "unknown subprotocols are refused with 400")
async def _(probe: Probe, subject: Subject) -> None:
    await probe.refused(400, "an unknown subprotocol", offered=("krin.v0.unknown",))


@promise("1.4", "a token in the URL is refused with 400")
async def _(probe: Probe, subject: Subject) -> None:
    await probe.refused(400, "a token in the URL", url=f"{probe.url}?token=x")


@promise("1.5", "a bad Authorization header is refused with 401 and a challenge")
async def _(probe: Probe, subject: Subject) -> None:
    headers = await probe.refused(401, "a bad token", headers={"authorization": "Bearer no-token"})
    expect("www-authenticate" in headers, "the 401 has no WWW-Authenticate")


@promise("2.1", "every command of an array is answered once, with its id")
async def _(probe: Probe, subject: Subject) -> None:
    async with probe.connected() as wire:
        commands = [wire.command("call", method="hub.time", params={}) for _ in range(5)]
        await wire.send(*commands)
        for command in commands:
            await wire.reply(command)
        await wire.ask("call", method="hub.time", params={})  # whatever came twice has come by now
        counted = Counter(each["id"] for each in wire.heard if each["type"] == "reply")
        repeated = [id for id, count in counted.items() if count > 1]
        expect(not repeated, f"the commands with the ids {repeated} were answered twice")


@promise("2.2", "a frame that is no message is answered with id 0 and bad_request")
async def _(probe: Probe, subject: Subject) -> None:
    async with probe.connected() as wire:
        await wire.send_raw("{" if probe.format == "json" else b"\x81")
        answer = await wire.until(lambda each: each["type"] == "reply" and each["id"] == 0, "reply with id 0")
        refused(answer, ErrorCode.BAD_REQUEST, "a frame that cannot be read")
        await wire.result("call", method="hub.time", params={})


@promise("2.3", "one wrong message of an array does no harm to the others")
async def _(probe: Probe, subject: Subject) -> None:
    async with probe.connected() as wire:
        good, bad = wire.command("call", method="hub.time", params={}), wire.command("subscribe")
        await wire.send(bad, good)
        refused(await wire.reply(bad), ErrorCode.SCHEMA_INVALID, "`subscribe` without a channel")
        expect("result" in await wire.reply(good), "the good command of the array was refused, too")


@promise("2.4", "unknown fields of commands and unknown commands are refused")
async def _(probe: Probe, subject: Subject) -> None:
    async with probe.connected() as wire:
        await wire.refusal(ErrorCode.SCHEMA_INVALID, "history", channel=subject.channel(subject.recoverable), colour=1)
        await wire.refusal(ErrorCode.UNKNOWN_TYPE, "levitate")


@promise("2.5", "a frame of the other type ends the connection with 4000")
async def _(probe: Probe, subject: Subject) -> None:
    async with probe.connected() as wire:
        await wire.send_raw(b"{}" if probe.format == "json" else "{}")
        await wire.closed(CloseCode.BAD_PROTOCOL, "a frame of the wrong type")


@promise("3.1", "what is published comes out as it went in")
async def _(probe: Probe, subject: Subject) -> None:
    channel = subject.channel(subject.recoverable)
    data = {
        "text": 'é " \\ \n \u2028 😀',
        "most": 2**53 - 1,
        "least": 1 - 2**53,
        "half": 0.5,
        "no": None,
        "list": [[], {}],
    }
    async with probe.connected(subscriptions={channel: {}}) as wire:
        await wire.result("publish", channel=channel, message={"type": "NOTE", "data": data})
        [heard] = await wire.publications(channel, 1)
    for name, value in data.items():
        expect(
            heard["data"].get(name) == value, f"`{name}` was published as {value!r}, heard {heard['data'].get(name)!r}"
        )
    expect(heard["data"].keys() == data.keys(), f"there are more fields than were published: {[*heard['data']]}")


@promise("3.2", "the character NUL is refused in what is published")
async def _(probe: Probe, subject: Subject) -> None:
    async with probe.connected() as wire:
        message = {"type": "NOTE", "data": {"text": "a\0b"}}
        channel = subject.channel(subject.recoverable)
        await wire.refusal(ErrorCode.BAD_REQUEST, "publish", channel=channel, message=message)


@promise("4.1", "channels outside the grammar and of unknown namespaces are refused")
async def _(probe: Probe, subject: Subject) -> None:
    async with probe.connected() as wire:
        await wire.refusal(ErrorCode.BAD_REQUEST, "subscribe", channel=f"{subject.recoverable}:a b")
        await wire.refusal(ErrorCode.UNKNOWN_CHANNEL, "subscribe", channel="nosuchnamespace:a")


@promise("5.1", "no command is run before connect")
async def _(probe: Probe, subject: Subject) -> None:
    async with probe.open() as wire:
        await wire.refusal(ErrorCode.UNAUTHORIZED, "subscribe", channel=subject.channel(subject.recoverable))


@promise("5.2", "connect with a bad token is answered, and ends with 4002")
async def _(probe: Probe, subject: Subject) -> None:
    async with probe.open() as wire:
        await wire.refusal(ErrorCode.TOKEN_INVALID, "connect", token="no-token")
        await wire.closed(CloseCode.TOKEN_INVALID, "a bad token")


@promise("5.3", "connect without a token is answered, and ends with 4001")
async def _(probe: Probe, subject: Subject) -> None:
    async with probe.open() as wire:
        await wire.refusal(ErrorCode.UNAUTHORIZED, "connect")
        await wire.closed(CloseCode.UNAUTHORIZED, "`connect` without a token")


@promise("5.4", "a connection without connect ends with 4006 after 10 s", slow=True)
async def _(probe: Probe, subject: Subject) -> None:
    patient = Probe(probe.url, probe.token, format=probe.format, patience_s=probe.patience_s + 10)
    async with patient.open() as wire:
        await wire.closed(CloseCode.NO_CONNECT, "a connection without `connect`")


@promise(
    "5.5", "silence is asked by ping after the interval that connect told, and pong keeps the connection", slow=True
)
async def _(probe: Probe, subject: Subject) -> None:
    async with probe.connected() as wire:
        interval_s = wire.heard[0]["result"]["ping_interval_ms"] / 1000
        patient = Wire(wire.socket, format=probe.format, patience_s=interval_s + probe.patience_s)
        await patient.until(lambda each: each["type"] == "ping", "`ping`")
        await wire.result("call", method="hub.time", params={})


@promise("5.6", "WebSocket pings are answered")
async def _(probe: Probe, subject: Subject) -> None:
    async with probe.connected() as wire:
        try:
            async with asyncio.timeout(probe.patience_s):
                await (await wire.socket.ping())
        except TimeoutError:
            raise Broken("a WebSocket ping got no pong (RFC 6455, 5.5.2)") from None


@promise("5.7", "a goodbye is echoed")
async def _(probe: Probe, subject: Subject) -> None:
    async with probe.connected() as wire:
        await wire.socket.close(1000)
        expect(wire.socket.close_code == 1000, f"closed with 1000, answered with {wire.socket.close_code}")


@promise("5.8", "who presents a session again replaces the earlier connection, which ends with 4205")
async def _(probe: Probe, subject: Subject) -> None:
    async with probe.connected() as earlier, probe.connected(session=earlier.heard[0]["result"]["session"]):
        await earlier.closed(CloseCode.REPLACED, "another connection with the same session")


@promise("6.1", "connect tells of the connection, once, and joins channels one by one")
async def _(probe: Probe, subject: Subject) -> None:
    good, bad = subject.channel(subject.recoverable), "nosuchnamespace:a"
    async with probe.connected(subscriptions={good: {}, bad: {}}) as wire:
        result = wire.heard[0]["result"]
        needed = {"client", "session", "user", "node", "version", "ping_interval_ms", "limits", "server_time"}
        expect(needed <= set(result), f"the result has no {', '.join(sorted(needed - set(result)))}")
        joined = result.get("subscriptions", {})
        expect(
            joined.get(good, {}).get("channel") == good, "a channel that may be joined was not, beside one that fails"
        )
        refused(joined.get(bad, {}), ErrorCode.UNKNOWN_CHANNEL, "a channel of an unknown namespace")
        await wire.refusal(ErrorCode.BAD_REQUEST, "connect", token=probe.token)


@promise("6.2", "a channel is joined once, and left once")
async def _(probe: Probe, subject: Subject) -> None:
    channel = subject.channel(subject.recoverable)
    async with probe.connected() as wire:
        result = await wire.result("subscribe", channel=channel)
        needed = {"channel", "epoch", "offset", "promise", "recovered", "messages"}
        expect(needed <= set(result), f"the result has no {', '.join(sorted(needed - set(result)))}")
        await wire.refusal(ErrorCode.ALREADY_SUBSCRIBED, "subscribe", channel=channel)
        await wire.result("unsubscribe", channel=channel)
        await wire.refusal(ErrorCode.BAD_REQUEST, "unsubscribe", channel=channel)


@promise("6.3", "publish answers with the position that everybody hears, one after the other")
async def _(probe: Probe, subject: Subject) -> None:
    channel = subject.channel(subject.recoverable)
    async with probe.connected(subscriptions={channel: {}}) as wire:
        placed = [await publish(wire, channel, subject, number) for number in range(3)]
        heard = await wire.publications(channel, 3)
    expect([each["offset"] for each in placed] == [1, 2, 3], "the offsets of a new channel are not 1, 2, 3")
    for mine, theirs in zip(placed, heard, strict=True):
        same = (mine["offset"], mine["timestamp"]) == (theirs["offset"], theirs["timestamp"])
        expect(same, f"published at offset {mine['offset']}, heard at {theirs['offset']}")


@promise("6.4", "an idempotency key makes a repeat harmless, and is bound to its message")
async def _(probe: Probe, subject: Subject) -> None:
    for namespace in (subject.durable, subject.recoverable):
        channel = subject.channel(namespace)
        async with probe.connected() as wire:
            first = await publish(wire, channel, subject, 1, idempotency_key="k")
            again = await publish(wire, channel, subject, 1, idempotency_key="k")
            expect(again.get("duplicate") is True, f"{namespace}: a repeat is not told to be one")
            expect(again["offset"] == first["offset"], f"{namespace}: a repeat was published once more")
            await wire.refusal(
                ErrorCode.IDEMPOTENCY_CONFLICT,
                "publish",
                channel=channel,
                message=content(namespace, subject, 2),
                idempotency_key="k",
            )


@promise("6.5", "history goes page by page, forwards and backwards")
async def _(probe: Probe, subject: Subject) -> None:
    channel = subject.channel(subject.durable)
    async with probe.connected() as wire:
        placed = [await publish(wire, channel, subject, number) for number in range(5)]
        since = {"epoch": placed[0]["epoch"], "offset": 1}
        page = await wire.result("history", channel=channel, since=since, limit=2)
        found = ([each["offset"] for each in page["messages"]], page["more"])
        expect(found == ([2, 3], True), f"two messages after offset 1 of 5: {found[0]}, more {found[1]}")
        page = await wire.result("history", channel=channel, reverse=True, limit=10)
        found = ([each["offset"] for each in page["messages"]], page["more"])
        expect(found == ([5, 4, 3, 2, 1], False), f"backwards from the end: {found[0]}, more {found[1]}")
        await wire.refusal(
            ErrorCode.UNRECOVERABLE_POSITION, "history", channel=channel, since={"epoch": "elsewhere", "offset": 1}
        )


@promise("6.6", "a channel that the token does not open is refused with permission_denied")
async def _(probe: Probe, subject: Subject) -> None:
    if subject.forbidden is None:
        raise Skipped("name a channel that the token must not open: --forbidden")
    async with probe.connected() as wire:
        for type in ("subscribe", "history"):
            await wire.refusal(ErrorCode.PERMISSION_DENIED, type, channel=subject.forbidden)


@promise("9.1", "durable messages arrive in order, each once")
async def _(probe: Probe, subject: Subject) -> None:
    await _in_order(probe, subject, subject.durable)


@promise("9.2", "recoverable messages arrive in order, each once")
async def _(probe: Probe, subject: Subject) -> None:
    await _in_order(probe, subject, subject.recoverable)


async def _in_order(probe: Probe, subject: Subject, namespace: str) -> None:
    channel = subject.channel(namespace)
    async with probe.connected() as publisher, probe.connected(subscriptions={channel: {}}) as reader:
        messages = [content(namespace, subject, number) for number in range(RUN)]
        commands = [publisher.command("publish", channel=channel, message=each) for each in messages]
        await publisher.send(*commands)
        offsets = [(await publisher.reply(command)).get("result", {}).get("offset") for command in commands]
        expect(offsets == list(range(1, RUN + 1)), f"{RUN} messages of one connection were placed at {offsets}")
        heard = await reader.publications(channel, RUN)
    in_a_row(heard, after=0, what="live")
    for message, sent in zip(heard, messages, strict=True):
        expect(message["data"] == sent["data"], f"offset {message['offset']} holds another message's data")


@promise("9.3", "a latest channel begins with the newest value of each key")
async def _(probe: Probe, subject: Subject) -> None:
    channel = subject.channel(subject.latest)
    async with probe.connected() as wire:
        placed = [await publish(wire, channel, subject, number) for number in (1, 2, 1)]
        result = await wire.result("subscribe", channel=channel)
    snapshot = {each.get("key"): each["offset"] for each in result["messages"]}
    expected = {"c1": placed[2]["offset"], "c2": placed[1]["offset"]}
    expect(snapshot == expected, f"the snapshot is {snapshot}, not {expected}")


@promise("10.1", "who comes back with a position gets what was missed, and then what happens")
async def _(probe: Probe, subject: Subject) -> None:
    for namespace in (subject.durable, subject.recoverable):
        channel = subject.channel(namespace)
        async with probe.connected() as wire:
            placed = [await publish(wire, channel, subject, number) for number in range(6)]
        position = {"epoch": placed[0]["epoch"], "offset": 2}
        async with probe.connected() as wire:
            result = await wire.result("subscribe", channel=channel, recover=position)
            expect(result["recovered"] is True, f"{namespace}: not recovered, {result.get('reason')}")
            in_a_row(result["messages"], after=2, what=f"{namespace}, recovered")
            last = result["offset"]
            in_reply = 2 + len(result["messages"])
            expect(in_reply == last, f"{namespace}: the reply claims offset {last}, and its messages end at {in_reply}")
            expect(last == 6, f"{namespace}: recovered up to {last} of 6")
            await publish(wire, channel, subject, 7)
            in_a_row(await wire.publications(channel, 1), after=6, what=f"{namespace}, live after recovery")


@promise("10.2", "a position of another history is told to be one")
async def _(probe: Probe, subject: Subject) -> None:
    for namespace in (subject.durable, subject.recoverable):
        channel = subject.channel(namespace)
        async with probe.connected() as wire:
            await publish(wire, channel, subject)
            result = await wire.result("subscribe", channel=channel, recover={"epoch": "elsewhere", "offset": 1})
            told = (result["recovered"], result.get("reason"))
            expect(told == (False, "epoch_changed"), f"{namespace}: recovered {told[0]}, reason {told[1]}")


@promise("10.3", "rewind begins with the newest messages")
async def _(probe: Probe, subject: Subject) -> None:
    channel = subject.channel(subject.recoverable)
    async with probe.connected() as wire:
        for number in range(4):
            await publish(wire, channel, subject, number)
        result = await wire.result("subscribe", channel=channel, rewind=2)
    expect([each["offset"] for each in result["messages"]] == [3, 4], "the two newest of four were not sent")


@promise("10.4", "nothing is lost between what was missed and what is live")
async def _(probe: Probe, subject: Subject) -> None:
    channel = subject.channel(subject.recoverable)
    async with probe.connected() as publisher, probe.connected() as reader:
        first = await publish(publisher, channel, subject)
        commands = [
            publisher.command("publish", channel=channel, message=content(subject.recoverable, subject, number))
            for number in range(RUN)
        ]

        async def publish_all() -> None:
            for command in commands:
                await publisher.send(command)

        position = {"epoch": first["epoch"], "offset": 1}
        _, result = await asyncio.gather(publish_all(), reader.result("subscribe", channel=channel, recover=position))
        missed = result["messages"]
        heard = missed + await reader.publications(channel, RUN - len(missed))
    expect(result["recovered"] is True, f"not recovered, {result.get('reason')}")
    in_a_row(heard, after=1, what="recovered and live")


@promise("11.1", "a filter lets pass what it names, and nothing else")
async def _(probe: Probe, subject: Subject) -> None:
    channel = subject.channel(subject.recoverable)
    async with probe.connected() as wire:
        await wire.result("subscribe", channel=channel, filter={"keys": ["b"]})
        for key in ("a", "b", "a", "b"):
            await publish(wire, channel, subject, key=key)
        heard = await wire.publications(channel, 2)
    expect(
        [each["offset"] for each in heard] == [2, 4], f"of keys a, b, a, b came {[each['offset'] for each in heard]}"
    )


@promise("13.1", "ten malformed messages end the connection with 4007")
async def _(probe: Probe, subject: Subject) -> None:
    async with probe.connected() as wire:
        for _ in range(10):
            await wire.send({"type": "subscribe", "id": "one"})
        await wire.closed(CloseCode.TOO_MANY_ERRORS, "ten malformed messages")
