"""Which domain types exist, and what each one's `data` must look like.

A namespace names the types it accepts. A type that is not listed here is a custom one: any JSON object.
"""

from __future__ import annotations

from typing import Any

import msgspec

from protocol.audit import AuditHead
from protocol.budgets import BudgetUse
from protocol.contracts import ContractChange
from protocol.coordination import (
    AgentStatus,
    Alert,
    Approval,
    HandOff,
    ProjectEnded,
    SpecialistUpdate,
    Status,
    TaskUpdate,
)
from protocol.fields import MessageType
from protocol.gates import GateVerdict
from protocol.insights import Insight, InsightRetracted
from protocol.knowledge import KnowledgeDigest
from protocol.planning import PlanNotice, SecurityReport
from protocol.trading import (
    Balance,
    Bar,
    Book,
    ExecutionReport,
    Instrument,
    OrderEvent,
    Position,
    PriceTick,
    RiskDecision,
    SourceStatus,
    Ticker,
    Trade,
    TradeCorrection,
    TradingState,
)


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What a publisher sends: a type, its data, and optionally a W3C `traceparent`."""

    type: MessageType
    data: Any
    trace: str | None = None
    coordination: dict[str, Any] | None = None


class CustomMessage(Message, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    data: dict[str, Any]


DATA_TYPES: dict[str, Any] = {
    "PRICE_TICK": PriceTick,
    "TRADE": Trade,
    "BOOK": Book,
    "BAR": Bar,
    "TICKER": Ticker,
    "TRADE_CORRECTION": TradeCorrection,
    "TRADE_BUST": TradeCorrection,
    "INSTRUMENT": Instrument,
    "SOURCE_STATUS": SourceStatus,
    "ORDER_EVENT": OrderEvent,
    "EXECUTION_REPORT": ExecutionReport,
    "RISK_DECISION": RiskDecision,
    "TRADING_STATE": TradingState,
    "POSITION": Position,
    "BALANCE": Balance,
    "SPECIALIST_UPDATE": list[SpecialistUpdate],
    "AGENT_STATUS": AgentStatus,
    "TASK_CREATED": TaskUpdate,
    "TASK_STATUS_UPDATE": TaskUpdate,
    "HANDOFF": HandOff,
    "APPROVAL_REQUESTED": Approval,
    "APPROVAL_RESOLVED": Approval,
    "PLAN_PROPOSED": PlanNotice,
    "PLAN_COMMITTED": PlanNotice,
    "PROJECT_ENDED": ProjectEnded,
    "SECURITY_REPORT": SecurityReport,
    "KNOWLEDGE_DIGEST": KnowledgeDigest,
    "GATE_RESULT": GateVerdict,
    "BUDGET_ALERT": BudgetUse,
    "SCHEMA_CHANGE_ANNOUNCED": ContractChange,
    "CONTRACT_CHANGED": ContractChange,
    "INSIGHT": Insight,
    "INSIGHT_RETRACTED": InsightRetracted,
    "ALERT": Alert,
    "STATUS": Status,
    "AUDIT_HEAD": AuditHead,
}

# The field that serves as `key` when a publisher names none: newest value per component, not per channel.
DEFAULT_KEYS = {
    "STATUS": "component",
    "SOURCE_STATUS": "source",
    "POSITION": "symbol",
    "BALANCE": "asset",
}

MESSAGE_TYPES: dict[str, Any] = {
    name: msgspec.defstruct(
        f"Message{name.title().replace('_', '')}",
        [("data", data)],
        bases=(Message,),
        frozen=True,
        forbid_unknown_fields=True,
        omit_defaults=True,
        kw_only=True,
    )
    for name, data in DATA_TYPES.items()
}


def message_type(name: str) -> type[Message]:
    """The struct that validates messages of this domain type."""
    found: type[Message] = MESSAGE_TYPES.get(name, CustomMessage)
    return found
