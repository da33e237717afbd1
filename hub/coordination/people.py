"""What others have a say in: approvals, questions, quality gates, hand-offs and budgets. Their desks, and the methods.

Who may publish to `team:{project}` may act in the project. Approvals are answered by the roles that they name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from hub.auth.assurance import mfa_required, two_factors
from hub.caller import Caller
from hub.channels.access import Access, Action
from hub.coordination import approval_desk, approvals, budget_desk, handoff_desk, handoffs
from hub.coordination.approval_desk import ApprovalDesk, concerns, not_found, open_payload
from hub.coordination.approvals import ApprovalCase
from hub.coordination.archive import Archive
from hub.coordination.budget_desk import BudgetDesk, amount_of, left_of
from hub.coordination.budgets import Amount
from hub.coordination.coordinator import Coordination, Term
from hub.coordination.desk import Project, update_of
from hub.coordination.gate_desk import GateDesk
from hub.coordination.handoff_desk import HandOffDesk
from hub.coordination.journal import Change
from hub.coordination.service import Decide, T, decided, team_channel
from hub.dispatch import Method, convert
from protocol.approvals import (
    ApprovalGet,
    ApprovalList,
    ApprovalRequest,
    ApprovalResolve,
    ApprovalResult,
    ApprovalsFound,
)
from protocol.budgets import BudgetAnswer, BudgetList, BudgetReserve, BudgetSettle, BudgetsFound, BudgetUse
from protocol.coordination import Specialist
from protocol.gates import GateJudge
from protocol.handoffs import HandOffAnswer, HandOffList, HandOffOffer, HandOffResult, HandOffsFound
from protocol.team import QuestionAsked, TaskAnswer, TaskProgress, TaskRequestInput, TaskSubmit

Book: TypeAlias = Callable[[BudgetDesk, Project, Specialist, str, Amount, Change], list[BudgetUse]]


class People:
    """The desks of one term, which must not be missing."""

    def __init__(self, term: Term) -> None:
        self.gates = GateDesk(term.tasks, term.roster)
        self.approvals = ApprovalDesk(term.tasks, waive=self._waive)
        self.handoffs = HandOffDesk(term.tasks, term.roster)
        self.budgets = BudgetDesk(term.tasks, term.roster)
        term.desks |= {
            "people": self,
            "gates": self.gates,
            "approvals": self.approvals,
            "handoffs": self.handoffs,
            "budgets": self.budgets,
        }
        term.remembered |= {approval_desk.KIND: approval_desk.MAX_ENDED, handoff_desk.KIND: handoff_desk.MAX_ENDED}
        self.kinds: Mapping[str, Any] = {}

    def restored(self, now_us: int) -> None:
        """Each desk does so by itself."""

    def tick(self, change: Change) -> None:
        """Likewise."""

    def _waive(self, case: ApprovalCase, by: Caller, change: Change) -> object:
        request = case.request
        return self.gates.waive(
            request.project_id or "", request.task_id or "", request.gate_id or "", by, request.subject, change
        )


class PeopleService:
    def __init__(self, coordination: Coordination, *, access: Access, archive: Archive) -> None:
        self._coordination = coordination
        self._access = access
        self._archive = archive
        self.methods: Mapping[str, Method] = {
            "tasks.progress": self.progress,
            "tasks.submit": self.submit,
            "tasks.gate": self.gate,
            "tasks.request_input": self.request_input,
            "approvals.request": self.request,
            "approvals.resolve": self.resolve,
            "approvals.list": self.approvals,
            "approvals.get": self.approval,
            "handoffs.offer": self.offer,
            "handoffs.accept": self.accept,
            "handoffs.decline": self.decline,
            "handoffs.withdraw": self.withdraw,
            "handoffs.list": self.handoffs,
            "budgets.reserve": self.reserve,
            "budgets.settle": self.settle,
            "budgets.list": self.budgets,
        }

    # --- results ---

    async def progress(self, params: Mapping[str, Any], caller: Caller) -> TaskAnswer:
        asked: TaskProgress = self._asked(params, TaskProgress, caller)

        def decide(term: Term, change: Change) -> TaskAnswer:
            term.roster.own(asked.specialist_id, caller)
            if term.tasks.said_before(asked) is None:
                told = {"progress": asked.progress, "message": asked.message}
                task = term.tasks.say(asked, "PROGRESS", actor=caller.user, change=change, **told)
                _people(term).budgets.report(task, asked.usage, asked.cost_usd, change)
            return TaskAnswer(task=update_of(term.tasks.task(asked.project_id, asked.task_id)))

        return await self._decided(decide)

    async def submit(self, params: Mapping[str, Any], caller: Caller) -> TaskAnswer:
        asked: TaskSubmit = self._asked(params, TaskSubmit, caller)

        def decide(term: Term, change: Change) -> TaskAnswer:
            term.roster.own(asked.specialist_id, caller)
            if term.tasks.said_before(asked) is None:
                people, artifacts = _people(term), tuple(asked.artifacts)
                task = term.tasks.say(asked, "SUBMIT_RESULT", actor=caller.user, change=change, artifacts=artifacts)
                people.budgets.report(task, asked.usage, asked.cost_usd, change)
                people.gates.handed_in(task, asked.evidence, actor=caller.user, change=change)
            return TaskAnswer(task=update_of(term.tasks.task(asked.project_id, asked.task_id)))

        return await self._decided(decide)

    async def gate(self, params: Mapping[str, Any], caller: Caller) -> TaskAnswer:
        asked: GateJudge = self._asked(params, GateJudge, caller)
        return await self._decided(
            lambda term, change: TaskAnswer(task=update_of(_people(term).gates.judge(asked, caller, change)))
        )

    # --- approvals ---

    async def request_input(self, params: Mapping[str, Any], caller: Caller) -> QuestionAsked:
        asked: TaskRequestInput = self._asked(params, TaskRequestInput, caller)

        def decide(term: Term, change: Change) -> QuestionAsked:
            term.roster.own(asked.specialist_id, caller)
            said = term.tasks.said_before(asked)
            if said is not None:
                task, approval_id = term.tasks.task(asked.project_id, asked.task_id), said.interrupt_id or ""
            else:
                task, case = _people(term).approvals.ask_about(asked, caller, change)
                approval_id = case.approval_id
            return QuestionAsked(task=update_of(task), approval_id=approval_id)

        return await self._decided(decide)

    async def request(self, params: Mapping[str, Any], caller: Caller) -> ApprovalResult:
        asked: ApprovalRequest = convert(params, ApprovalRequest)
        if asked.project_id is not None:
            self._access.require(caller, "publish", team_channel(asked.project_id))
            if asked.approval_id not in _people(self._coordination.term).approvals:  # or it was asked for before
                await self._archive.refuse_ended(asked.project_id)
        else:
            for role in asked.approver_roles:
                self._access.require(caller, "publish", f"approvals:{role}")
        return await self._decided(
            lambda term, change: _told(_people(term).approvals.request(asked, caller, change), caller)
        )

    async def resolve(self, params: Mapping[str, Any], caller: Caller) -> ApprovalResult:
        """Consent needs two factors; nothing keeps anybody from saying no."""
        asked: ApprovalResolve = convert(params, ApprovalResolve)
        if asked.decision == "APPROVED" and not two_factors(caller):
            raise mfa_required()

        def decide(term: Term, change: Change) -> ApprovalResult:
            desk = _people(term).approvals
            request = desk.case(asked.approval_id).request
            if request.gate_id is not None:  # waived by those of the team, as by `tasks.gate`
                self._access.require(caller, "publish", team_channel(request.project_id or ""))
            return _told(desk.resolve(asked, caller, change), caller)

        return await self._decided(decide)

    def approvals(self, params: Mapping[str, Any], caller: Caller) -> ApprovalsFound:
        """Those that the caller may answer, or has asked for."""
        asked: ApprovalList = convert(params, ApprovalList)
        cases = [
            case
            for case in _people(self._coordination.term).approvals.cases()
            if asked.state in (None, case.state) and concerns(case, caller)
        ]
        cases.sort(key=lambda case: -case.requested_us)
        return ApprovalsFound(approvals=[approvals.detail(case) for case in cases])

    def approval(self, params: Mapping[str, Any], caller: Caller) -> ApprovalResult:
        asked: ApprovalGet = convert(params, ApprovalGet)
        desk = _people(self._coordination.term).approvals
        case = desk.case(asked.approval_id)
        if not concerns(case, caller):
            raise not_found()
        return _told(case, caller)

    # --- hand-offs ---

    async def offer(self, params: Mapping[str, Any], caller: Caller) -> HandOffResult:
        asked: HandOffOffer = self._asked(params, HandOffOffer, caller)

        def decide(term: Term, change: Change) -> HandOffResult:
            term.roster.own(asked.specialist_id, caller)
            return HandOffResult(handoff=handoffs.detail(_people(term).handoffs.offer(asked, caller, change)))

        return await self._decided(decide)

    async def accept(self, params: Mapping[str, Any], caller: Caller) -> HandOffResult:
        asked: HandOffAnswer = convert(params, HandOffAnswer)

        def decide(term: Term, change: Change) -> HandOffResult:
            desk = self._open_to(term, asked, caller)
            offered, task = desk.accept(asked.handoff_id, asked.specialist_id, caller, change)
            return HandOffResult(
                handoff=handoffs.detail(offered),
                task=update_of(task),
                spec=task.spec,
                fence=task.fence,
                lease_until=task.lease_until,
            )

        return await self._decided(decide)

    async def decline(self, params: Mapping[str, Any], caller: Caller) -> HandOffResult:
        asked: HandOffAnswer = convert(params, HandOffAnswer)

        def decide(term: Term, change: Change) -> HandOffResult:
            desk = self._open_to(term, asked, caller)
            offered = desk.decline(asked.handoff_id, asked.specialist_id, asked.reason, caller, change)
            return HandOffResult(handoff=handoffs.detail(offered))

        return await self._decided(decide)

    async def withdraw(self, params: Mapping[str, Any], caller: Caller) -> HandOffResult:
        asked: HandOffAnswer = convert(params, HandOffAnswer)

        def decide(term: Term, change: Change) -> HandOffResult:
            desk = self._open_to(term, asked, caller)
            offered = desk.withdraw(asked.handoff_id, asked.specialist_id, asked.reason, caller, change)
            return HandOffResult(handoff=handoffs.detail(offered))

        return await self._decided(decide)

    def handoffs(self, params: Mapping[str, Any], caller: Caller) -> HandOffsFound:
        asked: HandOffList = convert(params, HandOffList)
        found = [
            handoffs.detail(each)
            for each in _people(self._coordination.term).handoffs.offers()
            if asked.project_id in (None, each.request.project_id)
            and asked.specialist_id in (None, each.request.specialist_id, each.request.to_specialist)
            and self._access.decide(caller, "subscribe", team_channel(each.request.project_id)).allowed
        ]
        return HandOffsFound(handoffs=found)

    # --- budgets ---

    async def reserve(self, params: Mapping[str, Any], caller: Caller) -> BudgetAnswer:
        return await self._book(self._asked(params, BudgetReserve, caller), caller, BudgetDesk.reserve)

    async def settle(self, params: Mapping[str, Any], caller: Caller) -> BudgetAnswer:
        return await self._book(self._asked(params, BudgetSettle, caller), caller, BudgetDesk.settle)

    async def budgets(self, params: Mapping[str, Any], caller: Caller) -> BudgetsFound:
        """Of a project that has ended what was used in the end."""
        asked: BudgetList = self._asked(params, BudgetList, caller, "subscribe")
        term = self._coordination.term
        if asked.project_id not in term.tasks.projects:
            kept = await self._archive.project(asked.project_id)
            bodies = await self._archive.last(asked.project_id, budget_desk.KIND)
            return BudgetsFound(budgets=left_of(kept.config, bodies, kept.ended_us or 0))
        project = term.tasks.project(asked.project_id)
        return BudgetsFound(budgets=_people(term).budgets.standing(project, term.now_us))

    # ---

    async def _book(self, asked: BudgetReserve | BudgetSettle, caller: Caller, book: Book) -> BudgetAnswer:
        def decide(term: Term, change: Change) -> BudgetAnswer:
            specialist = term.roster.own(asked.specialist_id, caller)
            project = term.tasks.project(asked.project_id)
            amount = amount_of(asked.tokens, asked.usd)
            desk = _people(term).budgets
            return BudgetAnswer(budgets=book(desk, project, specialist, asked.reservation_id, amount, change))

        return await self._decided(decide)

    def _open_to(self, term: Term, asked: HandOffAnswer, caller: Caller) -> HandOffDesk:
        """Raises HubError(not_found, permission_denied)."""
        desk = _people(term).handoffs
        self._access.require(caller, "publish", team_channel(desk.get(asked.handoff_id).request.project_id))
        term.roster.own(asked.specialist_id, caller)
        return desk

    async def _decided(self, decide: Decide[T]) -> T:
        return await decided(self._coordination, decide)

    def _asked(self, params: Mapping[str, Any], kind: type[Any], caller: Caller, action: Action = "publish") -> Any:
        """Raises HubError(schema_invalid, permission_denied)."""
        asked = convert(params, kind)
        self._access.require(caller, action, team_channel(asked.project_id))
        return asked


def _people(term: Term) -> People:
    people = term.desks["people"]
    assert isinstance(people, People)
    return people


def _told(case: ApprovalCase, caller: Caller) -> ApprovalResult:
    return ApprovalResult(approval=approvals.detail(case), payload=open_payload(case, caller))
