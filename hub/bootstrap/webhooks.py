"""Webhooks: made by those who own them, delivered by one node among those that do work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec
from prometheus_client.core import Metric

from hub import __version__
from hub.auth.sealing import Sealer
from hub.bootstrap.audit import Audit
from hub.bootstrap.auth import Auth
from hub.bootstrap.channels import Channels
from hub.bootstrap.delivery import Delivery
from hub.bootstrap.ground import Ground
from hub.bootstrap.rest import Rest
from hub.bootstrap.room import Room
from hub.edge.webhooks import WebhookRoutes
from hub.guard.outbound import Outbound
from hub.observe.metrics import Tally, counters, gauge
from hub.observe.operations import ALERT_CHANNEL
from hub.webhooks.courier import Courier
from hub.webhooks.dispatch import WebhookDispatch
from hub.webhooks.reach import Reach
from hub.webhooks.service import WebhookService, keys_of, owner_of
from protocol.coordination import Alert
from storage.webhooks import Webhook, Webhooks


@asynccontextmanager
async def open_webhooks(
    ground: Ground, audit: Audit, delivery: Delivery, auth: Auth, channels: Channels, rest: Rest, sealer: Sealer
) -> AsyncIterator[Room]:
    settings, clock, table = ground.settings.webhooks, ground.clock, Webhooks(ground.database)
    reach = Reach(
        delivery.broker,
        delivery.durable,
        judge=auth.authentication.judge,
        namespaces=channels.namespaces,
        access=channels.access,
        reads=audit.reads,
    )

    async def tell(webhook: Webhook, reason: str) -> None:
        alert = Alert(
            alert_id=f"webhook:{webhook.id}",
            severity="WARNING",
            title="a webhook is disabled",
            source="webhooks",
            detail=f"{webhook.id} of {webhook.owner}: {reason}",
            ts_event=clock.now_us(),
        )
        key = f"webhook:{webhook.id}:{webhook.version}"
        await ground.dispatcher.publish(ALERT_CHANNEL, "ALERT", msgspec.to_builtins(alert), idempotency_key=key)

    async with Outbound(
        private=settings.allow_private, timeout_s=settings.timeout_s, agent=f"krin/{__version__}"
    ) as outbound:

        def courier(webhook: Webhook, outcomes: Tally) -> Courier:
            return Courier(
                webhook,
                caller=owner_of(webhook),
                keys=lambda: keys_of(webhook, sealer, datetime.fromtimestamp(clock.now_ms() / 1000, UTC)),
                table=table,
                reach=reach,
                outbound=outbound,
                tell=tell,
                outcomes=outcomes,
                first_wait_s=settings.first_wait_s,
                max_failures=settings.max_failures,
                clock=clock,
            )

        dispatch = WebhookDispatch(table, courier=courier, clock=clock)
        service = WebhookService(table, sealer, reach=reach, outbound=outbound, clock=clock)
        routes = WebhookRoutes(rest.service, service, max_body_bytes=ground.settings.limits.message_bytes)
        yield Room(routes=routes.routes, metrics=lambda: _measure(dispatch), work={"webhooks": dispatch.run})


def _measure(dispatch: WebhookDispatch) -> Iterable[Metric]:
    yield gauge("krin_webhooks", "Webhooks that this node delivers to.", len(dispatch.begun or ()))
    yield counters(
        "krin_webhook_attempts",
        "Attempts at deliveries of this node: delivered, failed; and lost, where a history has gone.",
        "outcome",
        dispatch.outcomes.counts,
    )
