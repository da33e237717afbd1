"""Budgets of projects and agents, enforced on the node that coordinates: what is used up refuses the next claim."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal

import msgspec

from hub.coordination.budgets import (
    ALERT_PERCENT,
    DAY_US,
    Account,
    Amount,
    Budgets,
    Decision,
    Limit,
    Reservation,
    cost,
    project_limit,
)
from hub.coordination.desk import Project, TaskDesk
from hub.coordination.journal import Change, key_within
from hub.coordination.roster import Roster
from hub.coordination.tasks.task import Task
from protocol.budgets import BudgetStanding, BudgetUse
from protocol.coordination import Alert, ProjectConfig, Specialist, SpecialistStatus, TaskSpec, Usage
from protocol.errors import ErrorCode, HubError

KIND, RESERVATION = "budget", "reservation"
ENOUGH = Amount(tokens=1, usd=Decimal("0.000001"))


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What is booked on one account. `usd` is decimal text."""

    kind: str
    name: str
    day: int | None
    tokens: int
    usd: str


class Reserved(msgspec.Struct, frozen=True, kw_only=True):
    """What is held for a call; once it is over, what was `settled`: tokens and dollars. `usd` is decimal text."""

    project_id: str
    specialist_id: str
    reservation_id: str
    tokens: int
    usd: str
    expires_us: int
    settled: tuple[int, str] | None = None


_decode = msgspec.json.Decoder(Spent).decode
_decode_reserved = msgspec.json.Decoder(Reserved).decode


class BudgetDesk:
    def __init__(self, tasks: TaskDesk, roster: Roster) -> None:
        self._tasks = tasks
        self._roster = roster
        self._budgets = Budgets()
        self._kept: set[Account] = set()  # of which there is a record that has not ended
        self._reserved: list[Reserved] = []  # restored, in no order yet
        self.listeners: list[Callable[[Amount], None]] = []
        self.kinds: Mapping[str, Callable[[bytes], None]] = {
            KIND: self._restore,
            RESERVATION: lambda body: self._reserved.append(_decode_reserved(body)),
        }
        tasks.may_claim.append(self._require_left)
        roster.listeners.append(self._hear)
        tasks.leaving.append(self._leave)

    def _restore(self, body: bytes) -> None:
        spent = _decode(body)
        account = Account(spent.kind, spent.name, spent.day)  # type: ignore[arg-type]
        self._budgets.book(account, Amount(spent.tokens, Decimal(spent.usd)))
        self._kept.add(account)

    def restored(self, now_us: int) -> None:
        for project in self._tasks.projects.values():
            self._budgets.limit_project(project.config)
        for specialist, _ in self._roster.members():
            self._budgets.limit_agent(specialist)
        for each in sorted(self._reserved, key=lambda reserved: reserved.expires_us):
            amount = Amount(each.tokens, Decimal(each.usd))
            names = (each.project_id, each.specialist_id, each.reservation_id)
            settled = None if each.settled is None else Amount(each.settled[0], Decimal(each.settled[1]))
            self._budgets.hold(*names, amount, expires_us=each.expires_us, settled=settled)
        self._reserved.clear()

    def tick(self, change: Change) -> None:
        ended = self._budgets.expire(now_us=change.now_us)
        for key, held in ended.reservations.items():
            self._keep_reservation(key, held, change, ended=True)
        for account, used in ended.accounts.items():
            if account in self._kept:
                self._keep(account, used, change, ended=True)

    def report(self, task: Task, usage: Usage | None, cost_usd: str | None, change: Change) -> None:
        """What was used for a task. It is booked even beyond the limit: it is gone."""
        if usage is None and cost_usd is None:
            return
        specialist = self._roster.specialist(task.specialist_id or "")
        amount = cost(specialist, usage or Usage())
        if cost_usd is not None:
            amount = Amount(amount.tokens, Decimal(cost_usd))
        decision = self._budgets.spend(
            amount, project=task.project_id, agent=specialist.specialist_id, now_us=change.now_us
        )
        self._told(decision, task.project_id, specialist, change)
        self._spent(amount)

    def reserve(
        self, project: Project, specialist: Specialist, reservation_id: str, amount: Amount, change: Change
    ) -> list[BudgetUse]:
        """Raises HubError(limit_exceeded, idempotency_conflict, bad_request, overloaded)."""
        self._limit(project, specialist)
        self.tick(change)
        decision = self._budgets.reserve(
            reservation_id,
            amount,
            project=project.project_id,
            agent=specialist.specialist_id,
            now_us=change.now_us,
        )
        decision.require()
        key = (project.project_id, specialist.specialist_id, reservation_id)
        if (held := self._budgets.reservation(*key)) is not None:
            self._keep_reservation(key, held, change)
        self._told(decision, project.project_id, specialist, change)
        return self.uses(project.project_id, specialist, change.now_us)

    def settle(
        self, project: Project, specialist: Specialist, reservation_id: str, amount: Amount, change: Change
    ) -> list[BudgetUse]:
        """Raises HubError(not_found, bad_request, idempotency_conflict)."""
        self.tick(change)
        key = (project.project_id, specialist.specialist_id, reservation_id)
        before = self._budgets.reservation(*key)
        decision = self._budgets.settle(
            reservation_id, amount, project=project.project_id, agent=specialist.specialist_id
        )
        settled = self._budgets.reservation(*key)
        if settled is not None and settled != before:
            self._keep_reservation(key, settled, change)
            self._spent(amount)
        self._told(decision, project.project_id, specialist, change)
        return self.uses(project.project_id, specialist, change.now_us)

    def _spent(self, amount: Amount) -> None:
        for hear in self.listeners:
            hear(amount)

    def uses(self, project_id: str, specialist: Specialist, now_us: int) -> list[BudgetUse]:
        """The budgets it touches that have a limit."""
        accounts = self._budgets.accounts(project_id, specialist.specialist_id, now_us)
        return [self._use(account, now_us) for account in accounts if self._budgets.has_limit(account)]

    def standing(self, project: Project, now_us: int) -> list[BudgetStanding]:
        """The project's, then those of its specialists today; where there is a limit."""
        self._budgets.limit_project(project.config)
        agents = [specialist.specialist_id for specialist, _ in self._roster.members(project.team)]
        wanted = [
            Account("PROJECT", project.project_id),
            *(Account("AGENT", each, now_us // DAY_US) for each in agents),
        ]
        held = self._budgets.reserved()
        found = []
        for account in filter(self._budgets.has_limit, wanted):
            use, reserved = self._use(account, now_us), held.get(account, Amount())
            found.append(
                BudgetStanding(
                    **msgspec.structs.asdict(use),
                    reserved_tokens=reserved.tokens,
                    reserved_usd=f"{reserved.usd:f}",
                )
            )
        return found

    def _require_left(self, project: Project, spec: TaskSpec, specialist: Specialist, now_us: int) -> None:
        self._limit(project, specialist)
        wanted = Amount(tokens=max(spec.est_tokens, ENOUGH.tokens), usd=ENOUGH.usd)
        self._budgets.check(wanted, project=project.project_id, agent=specialist.specialist_id, now_us=now_us).require()

    def _limit(self, project: Project, specialist: Specialist) -> None:
        self._budgets.limit_project(project.config)
        self._budgets.limit_agent(specialist)

    def _hear(self, specialist: Specialist, status: SpecialistStatus | None, change: Change) -> None:
        if status is not None:
            self._budgets.limit_agent(specialist)
        else:
            self._budgets.forget(specialist.specialist_id)

    def _leave(self, project: Project, change: Change) -> None:
        """It ends; its records do with it."""
        self._budgets.forget_project(project.project_id)
        self._kept = {each for each in self._kept if (each.kind, each.name) != ("PROJECT", project.project_id)}

    def _keep(self, account: Account, used: Amount, change: Change, *, ended: bool = False) -> None:
        """What an agent has used belongs to no project, and outlives those that it was used for."""
        spent = Spent(kind=account.kind, name=account.name, day=account.day, tokens=used.tokens, usd=f"{used.usd:f}")
        day = f"/{account.day}" if account.day is not None else ""
        project_id = account.name if account.kind == "PROJECT" else ""
        change.keep(KIND, f"{account.kind}/{account.name}{day}", spent, project_id=project_id, ended=ended)
        (self._kept.discard if ended else self._kept.add)(account)

    def _keep_reservation(
        self, key: tuple[str, str, str], held: Reservation, change: Change, *, ended: bool = False
    ) -> None:
        project_id, specialist_id, reservation_id = key
        reserved = Reserved(
            project_id=project_id,
            specialist_id=specialist_id,
            reservation_id=reservation_id,
            tokens=held.amount.tokens,
            usd=f"{held.amount.usd:f}",
            expires_us=held.expires_us,
            settled=None if held.settled is None else (held.settled.tokens, f"{held.settled.usd:f}"),
        )
        record_id = key_within(project_id, key_within(specialist_id, reservation_id))
        change.keep(RESERVATION, record_id, reserved, project_id=project_id, ended=ended)

    def _told(self, decision: Decision, project_id: str, specialist: Specialist, change: Change) -> None:
        """Keep what is booked now, and tell of what has passed its alert."""
        for account in self._budgets.accounts(project_id, specialist.specialist_id, change.now_us):
            if not self._budgets.has_limit(account):
                continue
            self._keep(account, self._budgets.used(account), change)
        for account in decision.alerts:
            use = self._use(account, change.now_us)
            change.tell(f"team:{project_id}", "BUDGET_ALERT", use)
            change.tell(
                f"team:{project_id}",
                "ALERT",
                Alert(
                    alert_id=f"budget:{account.kind.lower()}:{account.name}",
                    severity="WARNING",
                    title=f"the budget of {account.name} is used to {use.percent:.0f} %",
                    source="budgets",
                    ts_event=change.now_us,
                ),
            )
        share = max(
            (use.percent for use in self.uses(project_id, specialist, change.now_us) if use.kind == "AGENT"), default=0
        )
        if share >= ALERT_PERCENT:
            self._roster.spent(specialist.specialist_id, share / 100, change)

    def _use(self, account: Account, now_us: int) -> BudgetUse:
        return use_of(account, self._budgets.used(account), self._budgets.limit_of(account), now_us)


def left_of(config: ProjectConfig, bodies: Iterable[bytes], ended_us: int) -> list[BudgetStanding]:
    """The budget of a project that has ended, from what it has left in the records."""
    limit = project_limit(config)
    account = Account("PROJECT", config.project_id)
    used = Amount()
    for spent in map(_decode, bodies):
        if Account(spent.kind, spent.name, spent.day) == account:  # type: ignore[arg-type]
            used = Amount(spent.tokens, Decimal(spent.usd))
    if limit == Limit():
        return []
    return [BudgetStanding(**msgspec.structs.asdict(use_of(account, used, limit, ended_us)))]


def use_of(account: Account, used: Amount, limit: Limit, now_us: int) -> BudgetUse:
    shares = [
        *([used.tokens * 100 / limit.tokens if limit.tokens else 100.0] if limit.tokens is not None else []),
        *([float(used.usd * 100 / limit.usd) if limit.usd else 100.0] if limit.usd is not None else []),
    ]
    return BudgetUse(
        kind=account.kind,
        name=account.name,
        day=account.day,
        tokens=used.tokens,
        usd=f"{used.usd:f}",
        limit_tokens=limit.tokens,
        limit_usd=f"{limit.usd:f}" if limit.usd is not None else None,
        percent=round(max(shares, default=0.0), 2),
        ts_event=now_us,
    )


def amount_of(tokens: int, usd: str) -> Amount:
    """Raises HubError(schema_invalid)."""
    try:
        return Amount(tokens, Decimal(usd))
    except ArithmeticError:
        raise HubError(ErrorCode.SCHEMA_INVALID, "expected an amount of dollars", path="$.params.usd") from None
