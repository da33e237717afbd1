"""Budgets in tokens and dollars, of a project or an agent, in all or per day. They are enforced, not only shown.

Rules: what may be spent is reserved first and counts from then on, so two who ask at once do not both get the last
dollar; what nobody settles in time counts as spent. Money is `Decimal`, a day is a day of UTC. No I/O: time is an
argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Literal, NamedTuple

import msgspec

from protocol.coordination import ProjectConfig, Specialist, Usage
from protocol.errors import ErrorCode, HubError

DAY_US = 86_400_000_000
RESERVATION_TTL_US = 900_000_000  # longer than any one call takes
MAX_RESERVATIONS = 10_000
MAX_RESERVATIONS_OF_PROJECT = 1_000
ALERT_PERCENT = 80
MILLION = 1_000_000


class Amount(NamedTuple):
    tokens: int = 0
    usd: Decimal = Decimal(0)

    def plus(self, other: Amount) -> Amount:
        return Amount(self.tokens + other.tokens, self.usd + other.usd)

    def minus(self, other: Amount) -> Amount:
        return Amount(self.tokens - other.tokens, self.usd - other.usd)


class Limit(NamedTuple):
    """None: no limit. Zero: nothing at all."""

    tokens: int | None = None
    usd: Decimal | None = None

    def admits(self, amount: Amount, *, percent: int = 100) -> bool:
        """Whether the amount is at most this share of the limit."""
        tokens = self.tokens is None or amount.tokens * 100 <= self.tokens * percent
        return tokens and (self.usd is None or amount.usd * 100 <= self.usd * percent)


class Account(NamedTuple):
    """Whose budget, and of which day, counted from 1970; None: over all days."""

    kind: Literal["PROJECT", "AGENT"]
    name: str
    day: int | None = None

    @property
    def budget(self) -> tuple[str, str, bool]:
        return self.kind, self.name, self.day is not None


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """`refused_by`: the accounts whose limits stand in the way. `alerts`: those that have now passed 80 % of theirs."""

    refused_by: tuple[Account, ...] = ()
    alerts: tuple[Account, ...] = ()

    @property
    def allowed(self) -> bool:
        return not self.refused_by

    def require(self) -> None:
        """Raises HubError(limit_exceeded)."""
        if self.refused_by:
            kind, _, day = self.refused_by[0]
            spent = f"The {kind.lower()}'s budget {'of today ' if day is not None else ''}does not allow this."
            raise HubError(ErrorCode.LIMIT_EXCEEDED, spent)


class Reservation(NamedTuple):
    """`settled`: what was really spent, once that is known."""

    accounts: tuple[Account, ...]
    amount: Amount
    expires_us: int
    settled: Amount | None = None


class Ended(NamedTuple):
    """Reservations whose time is over, by project, agent and id; and accounts of days that are over."""

    reservations: dict[tuple[str, str, str], Reservation]
    accounts: dict[Account, Amount]


class Budgets:
    """Limits, what is used of them, and the reservations that are open."""

    def __init__(self) -> None:
        self._limits: dict[tuple[str, str, bool], Limit] = {}
        self._used: dict[Account, Amount] = {}
        # By project, agent and id; the oldest, and so the first to expire, stands first.
        self._reservations: dict[tuple[str, str, str], Reservation] = {}
        self._settled: dict[tuple[str, str, str], Reservation] = {}  # so that a repeat is known, for as long
        self._today = 0

    def limit_project(self, project: ProjectConfig) -> None:
        self.limit(Account("PROJECT", project.project_id), project_limit(project))

    def limit_agent(self, agent: Specialist) -> None:
        usd = None if agent.usd_per_day is None else Decimal(agent.usd_per_day)
        self.limit(Account("AGENT", agent.specialist_id, day=0), Limit(agent.tokens_per_day, usd))

    def limit(self, account: Account, limit: Limit) -> None:
        """A limit of one day is that of every day. One below what is spent already refuses from now on."""
        self._limits[account.budget] = limit

    def used(self, account: Account) -> Amount:
        """Spent and reserved together."""
        return self._used.get(account, Amount())

    def reserved(self) -> dict[Account, Amount]:
        """Of what is used, what is held for calls that are not over."""
        found: dict[Account, Amount] = {}
        for held in self._reservations.values():
            for account in held.accounts:
                found[account] = found.get(account, Amount()).plus(held.amount)
        return found

    def has_limit(self, account: Account) -> bool:
        return self._limit(account) != Limit()

    def limit_of(self, account: Account) -> Limit:
        return self._limit(account)

    def accounts(self, project: str, agent: str, now_us: int) -> tuple[Account, ...]:
        """Those that what this agent uses for this project is booked on."""
        return _touched(project, agent, now_us)

    def book(self, account: Account, amount: Amount) -> None:
        """What was spent before, as it was written down."""
        self._used[account] = amount

    def check(self, amount: Amount, *, project: str, agent: str, now_us: int) -> Decision:
        """Whether so much is left; nothing is reserved."""
        accounts = _touched(project, agent, now_us)
        return Decision(
            refused_by=tuple(each for each in accounts if not self._limit(each).admits(self.used(each).plus(amount)))
        )

    def spend(self, amount: Amount, *, project: str, agent: str, now_us: int) -> Decision:
        """Book what was used without having been reserved, also beyond a limit. Raises HubError(bad_request)."""
        _check(amount)
        accounts = _touched(project, agent, now_us)
        alerts = tuple(self._alerted(accounts, amount))
        self._add(accounts, amount)
        return Decision(alerts=alerts)

    def reserve(self, reservation_id: str, amount: Amount, *, project: str, agent: str, now_us: int) -> Decision:
        """Hold the amount in every account it touches, or in none. A reservation made before is allowed again as it is.

        Raises HubError(bad_request, idempotency_conflict, overloaded).
        """
        _check(amount)
        self.expire(now_us=now_us)
        accounts = _touched(project, agent, now_us)
        key = (project, agent, reservation_id)
        held = self._reservations.get(key)
        if held is not None:
            if held.amount != amount:
                raise HubError(ErrorCode.IDEMPOTENCY_CONFLICT, "Something else was reserved under this id.")
            return Decision()
        refused_by = tuple(each for each in accounts if not self._limit(each).admits(self.used(each).plus(amount)))
        if refused_by:
            return Decision(refused_by=refused_by)
        if len(self._reservations) >= MAX_RESERVATIONS:
            raise HubError(ErrorCode.OVERLOADED, "Too many reservations are open.")
        if sum(each[0] == project for each in self._reservations) >= MAX_RESERVATIONS_OF_PROJECT:
            raise HubError(ErrorCode.OVERLOADED, "Too many reservations of the project are open.")
        alerts = tuple(self._alerted(accounts, amount))
        self._add(accounts, amount)
        self._settled.pop(key, None)
        self._reservations[key] = Reservation(accounts, amount, now_us + RESERVATION_TTL_US)
        return Decision(alerts=alerts)

    def settle(self, reservation_id: str, amount: Amount, *, project: str, agent: str) -> Decision:
        """Book what was really spent, on the day of the reservation. Nothing spent: `Amount()`.

        More than was reserved is booked all the same: it is gone, and what comes next is refused for it. Settled again
        with the same amount, it is not booked again.

        Raises HubError(bad_request, idempotency_conflict, not_found): the latter, too, when it has expired.
        """
        _check(amount)
        key = (project, agent, reservation_id)
        held = self._reservations.pop(key, None)
        if held is None and (before := self._settled.get(key)) is not None:
            if before.settled != amount:
                raise HubError(ErrorCode.IDEMPOTENCY_CONFLICT, "This was settled before, with another amount.")
            return Decision()
        if held is None:
            raise HubError(ErrorCode.NOT_FOUND, "Nothing is reserved under this id.")
        self._settled[key] = held._replace(settled=amount)
        more = amount.minus(held.amount)
        alerts = tuple(self._alerted(held.accounts, more))
        self._add(held.accounts, more)
        return Decision(alerts=alerts)

    def reservation(self, project: str, agent: str, reservation_id: str) -> Reservation | None:
        """Open or settled."""
        key = (project, agent, reservation_id)
        return self._reservations.get(key) or self._settled.get(key)

    def hold(
        self,
        project: str,
        agent: str,
        reservation_id: str,
        amount: Amount,
        *,
        expires_us: int,
        settled: Amount | None = None,
    ) -> None:
        """What was reserved before, and is booked already: the first to expire first."""
        accounts = _touched(project, agent, expires_us - RESERVATION_TTL_US)
        kept = self._reservations if settled is None else self._settled
        kept[project, agent, reservation_id] = Reservation(accounts, amount, expires_us, settled)

    def forget(self, agent: str) -> None:
        """It has left. What it used today counts until tomorrow, should it come back."""
        self._limits.pop(("AGENT", agent, True), None)
        self._used.pop(Account("AGENT", agent), None)

    def forget_project(self, project: str) -> None:
        """It has ended. What is still reserved in it counts as spent by its agents."""
        for daily in (False, True):
            self._limits.pop(("PROJECT", project, daily), None)
        for account in [each for each in self._used if (each.kind, each.name) == ("PROJECT", project)]:
            del self._used[account]
        for kept in (self._reservations, self._settled):
            for key in [each for each in kept if each[0] == project]:
                del kept[key]

    def expire(self, *, now_us: int) -> Ended:
        """Let what nobody settled in time count as spent, and forget the days that nothing is booked on any more."""
        ended = Ended({}, {})
        for kept in (self._reservations, self._settled):
            while kept:
                key, held = next(iter(kept.items()))
                if held.expires_us > now_us and len(kept) <= MAX_RESERVATIONS:
                    break
                del kept[key]
                ended.reservations[key] = held
        today = now_us // DAY_US
        if today > self._today:  # yesterday stays: what was reserved before midnight is settled after it
            self._today = today
            for account in [each for each in self._used if each.day is not None and each.day < today - 1]:
                ended.accounts[account] = self._used.pop(account)
        return ended

    def _add(self, accounts: Iterable[Account], amount: Amount) -> None:
        for account in accounts:
            self._used[account] = self.used(account).plus(amount)

    def _limit(self, account: Account) -> Limit:
        return self._limits.get(account.budget, Limit())

    def _alerted(self, accounts: Iterable[Account], more: Amount) -> Iterator[Account]:
        for account in accounts:
            limit, used = self._limit(account), self.used(account)
            if limit.admits(used, percent=ALERT_PERCENT) and not limit.admits(used.plus(more), percent=ALERT_PERCENT):
                yield account


def project_limit(project: ProjectConfig) -> Limit:
    usd = None if project.budget_usd is None else Decimal(project.budget_usd)
    return Limit(project.budget_tokens, usd)


def cost(agent: Specialist, usage: Usage) -> Amount:
    """What the usage counts for: its tokens, and dollars by the agent's prices."""
    usd = usage.input_tokens * Decimal(agent.usd_per_mtok_in) + usage.output_tokens * Decimal(agent.usd_per_mtok_out)
    return Amount(max(usage.total_tokens, usage.input_tokens + usage.output_tokens), usd / MILLION)


def _touched(project: str, agent: str, now_us: int) -> tuple[Account, ...]:
    day = now_us // DAY_US
    return (
        Account("PROJECT", project),
        Account("PROJECT", project, day),
        Account("AGENT", agent),
        Account("AGENT", agent, day),
    )


def _check(amount: Amount) -> None:
    if amount.tokens < 0 or not amount.usd.is_finite() or amount.usd < 0:
        raise HubError(ErrorCode.BAD_REQUEST, "An amount is not below zero.", path="$.params")
