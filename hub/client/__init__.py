"""Krin's Python client.

    from hub.client import Client

    async with Client("https://hub.example:8443", token=fetch_token, name="desk-7") as krin:
        await krin.publish("alerts:desk", "ALERT", {"alert_id": "a1", "severity": "INFO", "title": "spread widens"})

        async for message in krin.subscribe("prices:BTC-USD", max_rate=10):
            print(message.data["bid"], message.typed().ask)

It stays connected: after a loss it comes back, continues every subscription where it stood, and repeats publishes
under their idempotency keys. Each message reaches the application once and in order. What could not be recovered is
told to the subscription's `on_lost`, in its place in the stream.

To survive a restart of the application too, store `message.position` together with the message's effect and subscribe
with `recover=position`:

    async with krin.subscribe("orders:acct-1", recover=stored, on_lost=reload_orders) as orders:
        async for message in orders:
            with database.transaction():
                apply(message)
                store(message.position)

Orders are placed, changed and canceled by `krin.orders`, whose reports come once and in order, too:

    async with krin.orders.reports() as reports:
        order = await krin.orders.submit("BTC-USD", "BUY", "0.01", price="64000")
        print(await reports.until(order, "FILLED"))

Scripts and notebooks, which have no event loop, use `hub.client.sync`, where the same methods wait.

Errors: HubError is a command the hub refused (`code`, `message`, `path`, `retry_after_ms`; `code.temporary`);
Disconnected is the end of the connection for good, raised in everything that waits.
"""

from __future__ import annotations

from hub.client.client import Client
from hub.client.link import State
from hub.client.orders import OrderEnded, Orders, Reports
from hub.client.specialist import Specialist, Task, TaskLost
from hub.client.subscription import Lost, Subscription
from hub.client.wire import Disconnected, History, Message
from protocol.errors import ErrorCode, HubError
from protocol.messages import Filter, Member, Notice, PresenceDiff, Published
from protocol.positions import Position

__all__ = [
    "Client",
    "Disconnected",
    "ErrorCode",
    "Filter",
    "History",
    "HubError",
    "Lost",
    "Member",
    "Message",
    "Notice",
    "OrderEnded",
    "Orders",
    "Position",
    "PresenceDiff",
    "Published",
    "Reports",
    "Specialist",
    "State",
    "Subscription",
    "Task",
    "TaskLost",
]
