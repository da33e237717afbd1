"""What a room of the house gives to the whole."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from prometheus_client.core import Metric
from starlette.routing import BaseRoute

from hub.dispatch import Handler, Method
from hub.observe.metrics import Reader

Task = Callable[[], Coroutine[Any, Any, None]]


def nothing_measured() -> Iterable[Metric]:
    return ()


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """Parts that the rooms opened later may use are fields of a subclass.

    `tasks`: what runs as long as the hub does, by name; one that fails ends the hub. `work`: likewise, but not on a
    gateway, which leaves it to other nodes.
    """

    handlers: Mapping[type, Handler] = {}
    methods: Mapping[str, Method] = {}
    routes: Sequence[BaseRoute] = ()
    metrics: Reader = nothing_measured
    tasks: Mapping[str, Task] = {}
    work: Mapping[str, Task] = {}
