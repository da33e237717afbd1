"""What each method of `call` takes and answers, as far as it is written down in a struct."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from protocol import (
    approvals,
    budgets,
    clients,
    contracts,
    gates,
    handoffs,
    insights,
    knowledge,
    planning,
    risk,
    strategies,
    team,
    trading,
)
from protocol.coordination import PlanDifference


class Operation(NamedTuple):
    """`result` Any: not written down."""

    params: type[msgspec.Struct]
    result: Any = Any


class NoParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a method that takes none."""


OPERATIONS: Mapping[str, Operation] = {
    "channels.list": Operation(NoParams, list[str]),
    "hub.time": Operation(NoParams, dict[str, int]),
    "hub.clients": Operation(clients.ClientList, clients.ClientsFound),
    "orders.submit": Operation(trading.OrderSubmit, trading.ExecutionReport),
    "orders.validate": Operation(trading.OrderSubmit, trading.RiskDecision),
    "orders.replace": Operation(trading.OrderReplace, trading.ExecutionReport),
    "orders.cancel": Operation(trading.OrderCancel, trading.ExecutionReport),
    "orders.cancel_all": Operation(trading.OrderCancelAll, trading.Canceled),
    "orders.cancel_all_after": Operation(trading.CancelAllAfter, trading.SwitchState),
    "orders.cancel_on_disconnect": Operation(trading.CancelOnDisconnect, trading.CancelOnDisconnect),
    "orders.status": Operation(trading.OrderCancel, trading.ExecutionReport),
    "orders.list": Operation(trading.OrderList, trading.OrderPage),
    "strategies.list": Operation(strategies.StrategyList, list[strategies.StrategyState]),
    "strategies.start": Operation(strategies.StrategyStart, strategies.StrategyState),
    "strategies.stop": Operation(strategies.StrategyStop, strategies.StrategyState),
    "risk.limits": Operation(risk.LimitsOf, risk.LimitsInForce),
    "risk.set_limits": Operation(risk.SetLimits, risk.LimitsInForce),
    "risk.state": Operation(NoParams, risk.RiskState),
    "risk.halt": Operation(risk.Halt, risk.StateChanged),
    "risk.resume": Operation(risk.Resume, risk.StateChanged),
    "risk.waiting": Operation(NoParams, risk.WaitingOrders),
    "risk.approve": Operation(risk.ApprovalAnswer, risk.ApprovalState),
    "risk.decline": Operation(risk.ApprovalAnswer, risk.ApprovalState),
    "agents.register": Operation(team.AgentRegister, team.AgentEntry),
    "agents.heartbeat": Operation(team.AgentHeartbeat, team.HeartbeatAnswer),
    "agents.list": Operation(team.AgentList, team.AgentPage),
    "agents.status": Operation(team.AgentName, team.AgentEntry),
    "agents.leave": Operation(team.AgentName, dict[str, Any]),
    "agents.pause": Operation(team.AgentPause, team.AgentEntry),
    "agents.resume": Operation(team.AgentPause, team.AgentEntry),
    "projects.create": Operation(team.ProjectCreate, team.ProjectCreated),
    "projects.get": Operation(team.ProjectName, team.ProjectAnswer),
    "projects.list": Operation(team.ProjectList, team.ProjectPage),
    "projects.close": Operation(team.ProjectEnd, team.ProjectAnswer),
    "projects.cancel": Operation(team.ProjectEnd, team.ProjectAnswer),
    "tasks.create": Operation(team.TaskCreate, team.TaskPage),
    "tasks.list": Operation(team.TaskList, team.TaskPage),
    "tasks.get": Operation(team.TaskName, team.TaskDetail),
    "tasks.assign": Operation(team.TaskAssign, team.TaskAnswer),
    "tasks.claim": Operation(team.TaskClaim, team.TaskClaimed),
    "tasks.progress": Operation(team.TaskProgress, team.TaskAnswer),
    "tasks.block": Operation(team.TaskBlock, team.TaskAnswer),
    "tasks.unblock": Operation(team.TaskUnblock, team.TaskAnswer),
    "tasks.submit": Operation(team.TaskSubmit, team.TaskAnswer),
    "tasks.pause": Operation(team.TaskIntervene, team.TaskAnswer),
    "tasks.resume": Operation(team.TaskIntervene, team.TaskAnswer),
    "tasks.cancel": Operation(team.TaskIntervene, team.TaskAnswer),
    "tasks.fail": Operation(team.TaskFail, team.TaskAnswer),
    "tasks.decline": Operation(team.TaskDecline, team.TaskAnswer),
    "tasks.gate": Operation(gates.GateJudge, team.TaskAnswer),
    "tasks.request_input": Operation(team.TaskRequestInput, team.QuestionAsked),
    "approvals.request": Operation(approvals.ApprovalRequest, approvals.ApprovalResult),
    "approvals.resolve": Operation(approvals.ApprovalResolve, approvals.ApprovalResult),
    "approvals.list": Operation(approvals.ApprovalList, approvals.ApprovalsFound),
    "approvals.get": Operation(approvals.ApprovalGet, approvals.ApprovalResult),
    "handoffs.offer": Operation(handoffs.HandOffOffer, handoffs.HandOffResult),
    "handoffs.accept": Operation(handoffs.HandOffAnswer, handoffs.HandOffResult),
    "handoffs.decline": Operation(handoffs.HandOffAnswer, handoffs.HandOffResult),
    "handoffs.withdraw": Operation(handoffs.HandOffAnswer, handoffs.HandOffResult),
    "handoffs.list": Operation(handoffs.HandOffList, handoffs.HandOffsFound),
    "budgets.reserve": Operation(budgets.BudgetReserve, budgets.BudgetAnswer),
    "budgets.settle": Operation(budgets.BudgetSettle, budgets.BudgetAnswer),
    "budgets.list": Operation(budgets.BudgetList, budgets.BudgetsFound),
    "team.plan": Operation(planning.TeamPlanAsk, planning.TeamPlanned),
    "team.what_if": Operation(planning.TeamWhatIf, PlanDifference),
    "team.commit": Operation(planning.TeamCommit, planning.TeamCommitted),
    "team.current": Operation(planning.TeamPlanAsk, planning.TeamCommitted),
    "team.sync": Operation(planning.TeamSync, planning.TeamSteps),
    "team.next_steps": Operation(planning.TeamPlanAsk, planning.TeamSteps),
    "knowledge.add": Operation(knowledge.KnowledgeAdd, knowledge.KnowledgeAnswer),
    "knowledge.get": Operation(knowledge.KnowledgeGet, knowledge.KnowledgeAnswer),
    "knowledge.search": Operation(knowledge.KnowledgeSearch, knowledge.KnowledgeFound),
    "insights.list": Operation(insights.InsightList, insights.InsightsFound),
    "insights.feedback": Operation(insights.InsightFeedback, insights.InsightScored),
    "insights.scores": Operation(insights.InsightScores, insights.InsightScored),
    "insights.retract": Operation(insights.InsightRetract, insights.InsightRetracted),
    "insights.errors": Operation(insights.ErrorList, insights.ErrorsFound),
    "contracts.announce": Operation(contracts.ContractAnnounce, contracts.ContractChange),
    "contracts.validate": Operation(contracts.ContractExpectation, contracts.ContractReport),
}
