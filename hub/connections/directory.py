"""Where somebody is connected, on every node: asked for when somebody wants to know, and stored nowhere."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection

import msgspec

from hub.clock import Clock
from hub.connections.connection import Connection
from hub.connections.registry import Registry

TOPIC = "sockets"
ANSWER_S = 0.5  # a node that takes longer is not waited for
MAX_SOCKETS = 1000  # of one user and node in one answer


class Socket(msgspec.Struct, frozen=True, kw_only=True):
    """One open connection. `session` is the sign-in its token descends from, or else the token's id; times are
    milliseconds since 1970."""

    client: str
    node: str
    address: str
    kind: str | None
    name: str | None
    session: str
    signed_in: bool
    connected_at: int
    expires_at: int | None


class _Word(msgspec.Struct, frozen=True):
    """A question (`sockets` None), or one node's answer to it."""

    question: str
    node: str
    user: str
    sockets: list[Socket] | None = None


class Directory:
    def __init__(
        self,
        registry: Registry,
        *,
        node: str,
        nodes: Callable[[], Collection[str]],
        announce: Callable[[str, bytes], None],
        clock: Clock,
    ) -> None:
        """`nodes()` are the names of the others that live."""
        self._registry = registry
        self._node = node
        self._nodes = nodes
        self._announce = announce
        self._clock = clock
        self._open: dict[str, dict[str, list[Socket]]] = {}  # question -> node -> its answer
        self._answered = asyncio.Event()

    async def of_user(self, user: str) -> tuple[list[Socket], bool]:
        """Open connections of a user, and whether every node has answered."""
        question = secrets.token_hex(8)
        answers = self._open[question] = {self._node: self._here(user)}
        missing = set(self._nodes())
        try:
            if missing:
                self._tell(_Word(question, self._node, user))
                async with asyncio.timeout(ANSWER_S):
                    while not missing <= answers.keys():
                        self._answered.clear()
                        await self._answered.wait()
        except TimeoutError:
            pass
        finally:
            del self._open[question]
        return [socket for sockets in answers.values() for socket in sockets], missing <= answers.keys()

    def hear(self, payload: bytes) -> None:
        """What some node asked or answered."""
        try:
            word = msgspec.msgpack.decode(payload, type=_Word)
        except msgspec.MsgspecError:
            return
        if word.node == self._node:
            return
        if word.sockets is None:
            self._tell(_Word(word.question, self._node, word.user, self._here(word.user)))
        elif (answers := self._open.get(word.question)) is not None:
            answers[word.node] = word.sockets
            self._answered.set()

    def _here(self, user: str) -> list[Socket]:
        return [self._describe(each) for each in self._registry.of_user(user)[:MAX_SOCKETS]]

    def _describe(self, connection: Connection) -> Socket:
        caller = connection.caller
        return Socket(
            client=connection.id,
            node=self._node,
            address=connection.address,
            kind=caller.kind,
            name=caller.name,
            session=caller.sid or caller.jti,
            signed_in=bool(caller.sid),
            connected_at=self._clock.now_ms() - round(connection.age_s * 1000),
            expires_at=caller.expires_at,
        )

    def _tell(self, word: _Word) -> None:
        self._announce(TOPIC, msgspec.msgpack.encode(word))
