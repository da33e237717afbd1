"""A node with a fault planted in it: `python -m benchmarks.faults.planted NAME[,NAME] serve ...`.

A harness that never failed proves nothing. Each negative control breaks one rule that the promises rest on, in the
running program and nowhere else; harness and checker must then find it. The `die-...` ones are no controls: they kill
the node at a moment no outside hand can hit, when a message asks for it.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import Callable
from typing import Any

import hub.bootstrap.ground
import hub.brokers.redis.server
import storage.messages
from hub.brokers.base import Recovered
from hub.brokers.redis import RedisBroker
from hub.channels.durable import DurableChannels
from hub.channels.fanout import Fanout
from hub.channels.subscriptions import Subscriptions
from hub.cli import main
from storage.database import Database, Writer, _Connector
from storage.messages import MessageLog

EARLY_S = 0.05
DEADLY = b"die-now"


def _replace(owner: Any, name: str, planted: Any) -> None:
    """A fault whose place is gone would plant nothing and never be caught: then the node must not start."""
    getattr(owner, name)
    setattr(owner, name, planted)


def ack_before_commit() -> None:
    """N1: the publisher is answered from inside the transaction, which commits a little later."""
    committing: dict[int, asyncio.Task[None]] = {}
    original = Writer.fetch

    async def commit(writer: Writer, connection: Any) -> None:
        await asyncio.sleep(EARLY_S)
        try:
            await connection.execute("COMMIT")
        except Exception:
            connection.terminate()

    async def fetch(self: Writer, query: str, *arguments: Any) -> list[Any]:
        if (earlier := committing.pop(id(self), None)) is not None:
            await earlier
        if query is not storage.messages.APPEND:
            return await original(self, query, *arguments)
        async with self.connection() as connection:
            await connection.execute("BEGIN")
            rows: list[Any] = await connection.fetch(query, *arguments)
        committing[id(self)] = asyncio.ensure_future(commit(self, connection))
        return rows

    _replace(Writer, "fetch", fetch)


def commit_without_disk() -> None:
    """N2: `synchronous_commit` off for this node's connections, and the check against that left out.

    What is lost then is what Postgres itself still held: the harness sets `wal_writer_delay` to its longest, 10 s, and
    kills all processes at once, so log that no process had handed to the kernel is gone. A loss of power would also
    take what the kernel held; that cannot be had on one machine.
    """
    original = _Connector._options

    def options(self: _Connector) -> dict[str, Any]:
        found = original(self)
        found["server_settings"]["synchronous_commit"] = "off"
        return found

    async def unchecked(self: Database) -> dict[str, str]:
        return {}

    _replace(_Connector, "_options", options)
    _replace(Database, "durability_settings", unchecked)


def no_sweep() -> None:
    """N3: nobody compares positions with Postgres, and a third of the bells is lost."""

    async def never(self: DurableChannels) -> None:
        await asyncio.Event().wait()

    original = RedisBroker.ring

    def ring(self: RedisBroker, publication: Any) -> None:
        if random.random() < 1 / 3:
            self._deliver(publication)
        else:
            original(self, publication)

    _replace(DurableChannels, "sweep", never)
    _replace(RedisBroker, "ring", ring)


def history_before_live() -> None:
    """N5: a subscription reads history first and listens afterwards; what comes in between is nobody's."""
    original = Subscriptions._recover
    go_live = Fanout.go_live

    def recover(self: Subscriptions, *arguments: Any) -> asyncio.Future[Recovered]:
        found = original(self, *arguments)

        async def later() -> Recovered:
            recovered = found if isinstance(found, Recovered) else await found
            await asyncio.sleep(EARLY_S)
            return recovered

        return asyncio.ensure_future(later())

    def deaf(self: Fanout, *arguments: Any) -> list[Any]:
        go_live(self, *arguments)
        return []

    _replace(Subscriptions, "_recover", recover)
    _replace(Fanout, "go_live", deaf)


SERIALS = 100
MAKE_SERIALS = f"""
SELECT pg_advisory_lock(4711);
DO $$ BEGIN FOR n IN 0..{SERIALS - 1} LOOP EXECUTE format('CREATE SEQUENCE IF NOT EXISTS krin_serial_%s', n);
END LOOP; END $$;
CREATE OR REPLACE FUNCTION krin_append_serial(
    in_channel text[], in_timestamp_ms bigint[], in_type text[], in_key text[], in_publisher text[],
    in_idempotency_key text[], in_body_hash bytea[], in_body bytea[], in_trace text[]
) RETURNS TABLE (given_offset bigint, given_epoch text, given_timestamp_ms bigint, outcome text)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    place int;
    head record;
    given bigint[];
    known record;
BEGIN
    INSERT INTO channels (name) SELECT DISTINCT n FROM unnest(in_channel) AS n ON CONFLICT (name) DO NOTHING;
    FOR place IN 1..cardinality(in_channel) LOOP
        SELECT * INTO head FROM channels WHERE name = in_channel[place];
        given[place] := nextval(('krin_serial_' || head.id % {SERIALS})::regclass);
    END LOOP;
    PERFORM pg_sleep(random() * 0.03);
    FOR place IN 1..cardinality(in_channel) LOOP
        SELECT * INTO head FROM channels WHERE name = in_channel[place];
        SELECT m."offset", m.timestamp_ms INTO known FROM messages AS m
        WHERE m.channel_id + 0 = head.id AND m.publisher = in_publisher[place]
          AND m.idempotency_key = in_idempotency_key[place];
        given_epoch := head.epoch;
        IF known."offset" IS NOT NULL THEN
            given_offset := known."offset"; given_timestamp_ms := known.timestamp_ms; outcome := 'duplicate';
        ELSE
            given_offset := given[place]; given_timestamp_ms := in_timestamp_ms[place]; outcome := 'new';
            INSERT INTO messages (channel_id, "offset", timestamp_ms, type, key, publisher, idempotency_key,
                                  body_hash, body, trace)
            VALUES (head.id, given[place], in_timestamp_ms[place], in_type[place], in_key[place],
                    in_publisher[place], in_idempotency_key[place], in_body_hash[place], in_body[place],
                    in_trace[place]);
        END IF;
        RETURN NEXT;
    END LOOP;
    UPDATE channels AS c SET top = greatest(c.top, g.top)
    FROM (SELECT n, max(o) AS top FROM unnest(in_channel, given) AS u (n, o) GROUP BY n ORDER BY n) AS g
    WHERE c.name = g.n;
END $$;
SELECT pg_advisory_unlock(4711);
"""


def offsets_by_sequence() -> None:
    """N6: offsets come from a sequence, as a bigserial's do: handed out before the commit, without the head's lock."""
    planted = storage.messages.APPEND.replace("krin_append(", "krin_append_serial(")
    assert planted != storage.messages.APPEND
    _replace(storage.messages, "APPEND", planted)
    original = Database.durability_settings

    async def settings(self: Database) -> dict[str, str]:
        async with self.session() as connection:  # the first thing after the migrations
            await connection.execute(MAKE_SERIALS)
        return await original(self)

    _replace(Database, "durability_settings", settings)


def epoch_survives_restore() -> None:
    """N7: a restored Postgres keeps its epochs."""

    async def nothing_happened(database: Database) -> None:
        return None

    _replace(hub.bootstrap.ground, "verify_lineage", nothing_happened)


def epoch_survives_redis() -> None:
    """N7 for Redis: a server that came back with less than it had is taken for the one it was."""
    _replace(hub.brokers.redis.server, "run_id", lambda info: "0" * 40)


def die_before_commit() -> None:
    original = MessageLog.append

    async def append(self: MessageLog, batch: Any) -> Any:
        _die_if_asked(batch)
        return await original(self, batch)

    _replace(MessageLog, "append", append)


def die_after_commit() -> None:
    original = MessageLog.append

    async def append(self: MessageLog, batch: Any) -> Any:
        answers = await original(self, batch)
        _die_if_asked(batch)
        return answers

    _replace(MessageLog, "append", append)


def mute() -> None:
    """Commits and acknowledges, and never rings: as a node that dies between the two."""
    _replace(RedisBroker, "ring", lambda self, publication: None)


def _die_if_asked(batch: Any) -> None:
    if any(DEADLY in message.body for message in batch):
        os.kill(os.getpid(), signal.SIGKILL)


PLANTS: dict[str, Callable[[], None]] = {
    "ack-before-commit": ack_before_commit,
    "commit-without-disk": commit_without_disk,
    "no-sweep": no_sweep,
    "history-before-live": history_before_live,
    "offsets-by-sequence": offsets_by_sequence,
    "epoch-survives-restore": epoch_survives_restore,
    "epoch-survives-redis": epoch_survives_redis,
    "die-before-commit": die_before_commit,
    "die-after-commit": die_after_commit,
    "mute": mute,
}

if __name__ == "__main__":
    for name in sys.argv.pop(1).split(","):
        PLANTS[name]()
    main()
