"""What is true no more: tokens and rights that were taken back, and people who were erased."""

from __future__ import annotations

from collections.abc import Callable

from hub.auth.revocations import TOPIC, RevocationWatch
from hub.bootstrap.auth import Auth
from hub.bootstrap.delivery import Delivery
from hub.bootstrap.ground import Ground
from hub.bootstrap.room import Room
from hub.bootstrap.sockets import Sockets
from hub.privacy.forgetting import Forgetting
from storage.revocations import Kind, Revocations


class Watch(Room, frozen=True, kw_only=True):
    """`ring` lets every node look at once at what was just taken back."""

    ring: Callable[[], None]


async def open_watch(ground: Ground, delivery: Delivery, auth: Auth, sockets: Sockets) -> Watch:
    """Knows what was revoked when it returns."""

    async def forget(theirs: Callable[[str], bool]) -> None:
        await delivery.durable.forget(theirs)
        await delivery.broker.forget(theirs)

    forgetting = Forgetting(forget, clock=ground.clock)

    def review(touched: set[tuple[Kind, str]]) -> None:
        sockets.sessions.review(touched)
        forgetting.hear(touched)

    watch = RevocationWatch(
        auth.revoked,
        Revocations(ground.database),
        announce=delivery.broker.announce,
        review=review,
        signal=ground.signals.report,
        clock=ground.clock,
    )
    delivery.broker.listen(TOPIC, watch.hear)
    await watch.look()  # before the first token is looked at
    return Watch(ring=watch.ring, tasks={"revocations": watch.run, "forgetting": forgetting.run})
