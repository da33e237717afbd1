"""The one place where parts meet: a builder for each room of the house, and `open_hub`, which opens them in order.

    room         what a room gives to the whole
    database     where it is stored, on its own for commands
    ground       what every room stands on: settings, clock, database, the one door for commands
    keys         the keys of the data folder, or those that are configured
    delivery     how messages reach every node
    auth         who somebody is
    connections  who is here
    guard        how much anybody may ask for, and who misbehaves
    channels     what is published and read
    market       prices, and what the trading side knows of them
    insights     what is worth saying of what somebody reads
    rest         the doors under /v1
    venue        where orders trade
    knowledge    what teams have learned, and what front ends expect
    trading      orders, and what they must pass
    risk         the doors of risk control
    strategies   programs that trade
    coordination teams of specialists
    sockets      the WebSocket
    watch        what is true no more
    accounts     people, and those who administer them
    privacy      the rights of people
    operations   how the hub is doing
    doors        protocols of other people's agents
    search       what was said, found again
    engine       what is done later
    audit        what is written down, and proven
    hub          all of it together

A new room is a file with a builder, and its line in `open_hub`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hub.bootstrap.database import open_database
    from hub.bootstrap.hub import Hub, open_hub
    from hub.bootstrap.keys import load_audit_key, make_sealer, make_tokens, open_keys
    from hub.bootstrap.market import make_feed
    from hub.bootstrap.privacy import make_privacy, open_hold, stored_privacy, stored_retention

__all__ = [
    "Hub",
    "load_audit_key",
    "make_feed",
    "make_privacy",
    "make_sealer",
    "make_tokens",
    "open_database",
    "open_hold",
    "open_hub",
    "open_keys",
    "stored_privacy",
    "stored_retention",
]

# A room is loaded when something of it is asked for: all of them take two seconds, and a command that makes a token
# needs its keys only.
_ROOMS = {
    **dict.fromkeys(("Hub", "open_hub"), "hub"),
    **dict.fromkeys(("load_audit_key", "make_sealer", "make_tokens", "open_keys"), "keys"),
    **dict.fromkeys(("make_privacy", "open_hold", "stored_privacy", "stored_retention"), "privacy"),
    "make_feed": "market",
    "open_database": "database",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_ROOMS[name]}"), name)
