"""Cancel on disconnect: a client's word that its orders must not outlive its connection. Kept on the node it is on.

Who must be sure even if that node dies arms the dead man's switch as well.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, NoReturn, Protocol

import msgspec

from hub.caller import Caller
from hub.channels.access import Access
from hub.clock import Clock
from hub.dispatch import Method, convert, insist
from hub.trading.permission import require_account
from protocol.errors import ErrorCode, HubError
from protocol.trading import CancelOnDisconnect

logger = logging.getLogger("krin.orders")

MAX_ACCOUNTS = 100  # of one connection
RETRY_S = 1.0
TRIES = 30


class Connected(Protocol):
    id: str


class Disconnects:
    def __init__(self, cancel_all: Method, *, access: Access, clock: Clock) -> None:
        self._cancel_all = cancel_all
        self._access = access
        self._clock = clock
        self._armed: dict[str, dict[str, Caller]] = {}  # connection -> account -> who said so
        self._left: asyncio.Queue[tuple[str, Caller]] = asyncio.Queue()  # bounded by what was armed
        self.methods: Mapping[str, Method] = {"orders.cancel_on_disconnect": self.arm}

    def arm(self, params: Mapping[str, Any], caller: Caller) -> CancelOnDisconnect:
        """Raises HubError(permission_denied, mfa_required, bad_request, limit_exceeded)."""
        asked: CancelOnDisconnect = convert(params, CancelOnDisconnect)
        require_account(self._access, caller, "publish", asked.account)
        if caller.connection is None:
            raise HubError(ErrorCode.BAD_REQUEST, "this needs a connection that can end")
        accounts = self._armed.setdefault(caller.connection.id, {})
        if not asked.enabled:
            accounts.pop(asked.account, None)
        elif len(accounts) >= MAX_ACCOUNTS:
            raise HubError(ErrorCode.LIMIT_EXCEEDED, f"at most {MAX_ACCOUNTS} accounts on one connection")
        else:
            accounts[asked.account] = msgspec.structs.replace(caller, connection=None)
        if not accounts:
            del self._armed[caller.connection.id]
        return asked

    def leave(self, connection: Connected) -> None:
        """The connection has ended."""
        for account, caller in self._armed.pop(connection.id, {}).items():
            self._left.put_nowait((account, caller))

    async def run(self) -> NoReturn:
        async with asyncio.TaskGroup() as group:
            while True:
                account, caller = await self._left.get()
                group.create_task(self._cancel(account, caller), name="cancel on disconnect")
        raise AssertionError("the loop never ends")

    async def _cancel(self, account: str, caller: Caller) -> None:
        params = {"account": account}
        try:
            await insist(self._cancel_all, lambda: params, caller, tries=TRIES, every_s=RETRY_S, clock=self._clock)
        except HubError as failure:
            logger.error("the orders of %s outlive a connection: %s", account, failure)
