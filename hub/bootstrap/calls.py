"""Calls of a language model, and what they may cost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import msgspec
from prometheus_client.core import Metric

from hub.bootstrap.ground import Ground
from hub.bootstrap.room import Room
from hub.insight.calls.base import LanguageModel, Prices
from hub.insight.calls.budget import Budget
from hub.insight.calls.service import Calls
from hub.observe.metrics import counter, counters, gauges, histogram
from hub.observe.operations import ALERT_CHANNEL
from protocol.coordination import Alert
from protocol.errors import HubError
from storage.model_spending import ModelSpending, Spent


class ModelCalls(Room, frozen=True, kw_only=True):
    """The one way to a language model."""

    calls: Calls


def open_calls(ground: Ground) -> ModelCalls:
    settings = ground.settings.insights
    calls = Calls(
        _model(ground),
        prices=Prices(settings.usd_per_mtok_in, settings.usd_per_mtok_out),
        budget=make_budget(ground, "insights", Spent(settings.usd_per_day, settings.tokens_per_day)),
        clock=ground.clock,
    )
    return ModelCalls(calls=calls, metrics=lambda: _measure(calls))


def make_budget(ground: Ground, purpose: str, limit: Spent) -> Budget:
    async def warn(purpose: str, tenant: str, share: float) -> None:
        alert = Alert(
            alert_id=f"model-budget-{purpose}-{tenant or 'all'}",
            severity="WARNING",
            title=f"{share:.0%} of the day's budget for models is used",
            detail=f"purpose {purpose}, tenant {tenant or 'none'}",
            source="calls",
            ts_event=ground.clock.now_us(),
        )
        with contextlib.suppress(HubError):  # krin_model_cost_usd says so, too
            await ground.dispatcher.publish(ALERT_CHANNEL, "ALERT", msgspec.to_builtins(alert))

    return Budget(ModelSpending(ground.database), purpose=purpose, limit=limit, warn=warn, clock=ground.clock)


def _model(ground: Ground) -> LanguageModel | None:
    model, openai = ground.settings.insights.model, ground.settings.openai
    if model is None:
        return None
    # Half a second and 60 MB that nobody pays who does not want it.
    from hub.insight.calls.openai import OpenAIModel

    return OpenAIModel(model, api_key=openai.api_key, base_url=openai.base_url)


def _measure(calls: Calls) -> Iterable[Metric]:
    """Named after OpenTelemetry's semantic conventions where those have a name."""
    yield histogram("gen_ai_client_operation_duration_ms", "Answered calls of a language model.", calls.latency_ms)
    yield counters("gen_ai_client_token_usage", "Tokens of language models.", "token_type", calls.tokens)
    yield counters("krin_model_calls", "Calls of a language model by how they ended.", "outcome", calls.outcomes)
    yield counters("krin_model_cost_usd", "What language models cost, US dollars.", "purpose", calls.cost_usd)
    yield counter("krin_model_breaker_opened", "How often the breaker before the language model opened.", calls.opened)
    yield gauges(
        "krin_model_breaker",
        "1 for the state that the breaker is in.",
        "state",
        {state: float(calls.breaker == state) for state in ("closed", "half_open", "open")},
    )
