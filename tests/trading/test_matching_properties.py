"""Whatever is sent to the paper market, in whatever order: what must hold for every order and every report."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hub.trading.orders.event import Event
from hub.trading.orders.fold import apply
from hub.trading.orders.order import OPEN, Order
from hub.trading.venues.base import VenueReport
from protocol.trading import ExecType

from .paper_market import START_US, PaperMarket, make_order

# What may be said of an order after what, written down apart from the engine. None: nothing has been said yet.
OPEN_SAYS: frozenset[ExecType] = frozenset(
    {
        "TRADE",
        "TRADE_PREVENTION",
        "TRIGGERED",
        "REPLACED",
        "SUSPENDED",
        "RESTATED",
        "CANCELED",
        "EXPIRED",
        "REJECTED",
        "REPLACE_REJECTED",
    }
)
LAST: frozenset[ExecType] = frozenset({"CANCELED", "EXPIRED", "REJECTED"})
REFUSALS: frozenset[ExecType] = frozenset({"CANCEL_REJECTED", "REPLACE_REJECTED"})

prices = st.integers(95, 106).map(str)
sizes = st.integers(1, 40).map(lambda tenths: f"{Decimal(tenths) / 10}")
sides = st.sampled_from(["BUY", "SELL"])

orders = st.fixed_dictionaries(
    {
        "side": sides,
        "qty": sizes,
        "price": prices,
        "order_type": st.sampled_from(["MARKET", "LIMIT", "LIMIT", "LIMIT", "STOP", "STOP_LIMIT", "TRAILING_STOP"]),
        "stop_price": prices,
        "trail": st.integers(1, 5).map(str),
        "tif": st.sampled_from(["GTC", "GTC", "IOC", "FOK", "GTD", "DAY"]),
        "post_only": st.booleans(),
        "reduce_only": st.booleans(),
        "stp_mode": st.sampled_from(["NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH", "DECREMENT"]),
        "account": st.sampled_from(["ada", "bob"]),
    }
)
ticks = st.tuples(
    st.integers(96, 104), st.integers(1, 3), sizes, st.sampled_from(["LIVE", "LIVE", "LIVE", "STALE", "HALTED"])
)
steps = st.one_of(
    st.tuples(st.just("submit"), orders),
    st.tuples(st.just("quote"), ticks),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
    st.tuples(st.just("replace"), st.tuples(st.integers(0, 30), prices, sizes)),
    st.tuples(st.just("wait"), st.integers(1, 90)),
)
stories = st.lists(steps, max_size=60)
crowds = st.lists(  # many who rest, few who trade
    st.one_of(
        st.tuples(
            st.just("submit"),
            st.fixed_dictionaries(
                {"side": sides, "qty": sizes, "price": prices, "order_type": st.just("LIMIT"), "tif": st.just("GTC")}
            ),
        ),
        st.tuples(st.just("quote"), st.tuples(st.integers(96, 104), st.integers(1, 3), sizes, st.just("LIVE"))),
        st.tuples(st.just("replace"), st.tuples(st.integers(0, 30), prices, sizes)),
    ),
    min_size=20,
    max_size=60,
)


def made(number: int, wish: dict[str, str]) -> Order:
    fields = dict(wish)
    kind = fields["order_type"]
    if kind not in ("STOP", "STOP_LIMIT"):
        fields.pop("stop_price", None)
    if kind != "TRAILING_STOP":
        fields.pop("trail", None)
    price = fields.pop("price") if kind in ("LIMIT", "STOP_LIMIT") else fields.pop("price") and None
    expire_at = START_US + 60_000_000 if fields["tif"] == "GTD" else None
    return make_order(
        fields.pop("side"),  # type: ignore[arg-type]  # the strategy draws sides
        fields.pop("qty"),
        price,
        order_id=f"p{number}",
        expire_at=expire_at,
        **fields,
    )


def tell(market: PaperMarket, sent: list[Order], verb: str, value: object) -> None:
    match verb, value:
        case "submit", dict():
            sent.append(made(len(sent), value))
            market.submit(sent[-1])
        case "quote", (int(bid), int(width), str(size), state):
            market.quote(str(bid), str(bid + width), size=size, state=state)
        case "cancel", int(n) if sent:
            market.cancel(sent[n % len(sent)])
        case "replace", (int(n), str(price), str(qty)) if sent:
            order = sent[n % len(sent)]
            market.replace(order, qty=qty, **({"price": price} if order.price is not None else {}))
        case "wait", int(seconds):
            market.wait(seconds)
        case _:
            pass


def told(story: list[tuple[str, object]]) -> tuple[PaperMarket, list[Order]]:
    market, sent = PaperMarket(size="2", held="1"), []
    for verb, value in story:
        tell(market, sent, verb, value)
    return market, sent


def standing(market: PaperMarket, sent: list[Order], side: str) -> list[str]:
    """The limit orders of a side as they are to be served, worked out from what was said of them."""
    known = {order.order_id: order for order in sent if order.side == side and order.price is not None}
    places: dict[str, int] = {}  # order_id -> when it came to where it stands
    for at, report in enumerate(market.said):
        order = known.get(report.order_id)
        if order is None:
            continue
        changed = replace(order, qty=report.qty or order.qty, price=report.price or order.price)
        if report.exec_type == "TRIGGERED" or (report.exec_type == "NEW" and order.order_type == "LIMIT"):
            places[order.order_id] = at
        elif report.exec_type == "REPLACED" and (changed.price != order.price or changed.qty > order.qty):
            places = {**places, order.order_id: at} if order.order_id in places else places
        known[order.order_id] = changed
    sign = 1 if side == "SELL" else -1
    queue = sorted(places, key=lambda each: (sign * (known[each].price or 0), places[each]))
    return [each for each in queue if (status := market.matcher.status(each)) is not None and status.open]


def lives(market: PaperMarket) -> dict[str, list[VenueReport]]:
    found: defaultdict[str, list[VenueReport]] = defaultdict(list)
    for report in market.said:
        found[report.order_id].append(report)
    return found


@settings(max_examples=100, deadline=None)
@given(stories)
def test_every_order_leads_a_legal_life(story: list[tuple[str, object]]) -> None:
    market, sent = told(story)
    found = lives(market)
    assert set(found) == {order.order_id for order in sent}
    for order in sent:
        reports = found[order.order_id]
        assert reports[0].exec_type in ("NEW", "REJECTED")
        qty, cum, ended = order.qty, Decimal(0), reports[0].exec_type == "REJECTED"
        for report in reports[1:]:
            assert report.exec_type in (REFUSALS if ended else OPEN_SAYS)
            qty = qty if report.qty is None else report.qty
            cum += report.last_qty or 0 if report.exec_type == "TRADE" else 0
            assert cum <= qty
            ended = ended or report.exec_type in LAST or cum == qty
        status = market.matcher.status(order.order_id)
        assert status is not None
        assert (status.open, status.cum_qty, list(status.reports)) == (not ended, cum, reports)


@settings(max_examples=100, deadline=None)
@given(stories)
def test_nobody_pays_more_or_gets_less_than_his_limit(story: list[tuple[str, object]]) -> None:
    market, sent = told(story)
    found = lives(market)
    for order in sent:
        limit = order.price
        for report in found[order.order_id]:
            if report.exec_type == "REPLACED":
                limit = report.price
            if report.exec_type == "TRADE" and limit is not None and report.last_px is not None:
                assert report.last_px <= limit if order.side == "BUY" else report.last_px >= limit


@settings(max_examples=100, deadline=None)
@given(stories | crowds)
def test_who_is_served_had_nobody_before_him(story: list[tuple[str, object]]) -> None:
    """Resting orders in the order of their price, then of their arrival: whoever trades, all before him have ended."""
    market, sent = PaperMarket(size="2", held="1"), []
    for verb, value in story:
        queues = [standing(market, sent, side) for side in ("BUY", "SELL")]
        heard = len(market.said)
        tell(market, sent, verb, value)
        for report in market.said[heard:]:
            for queue in queues:
                if report.liquidity == "MAKER" and report.order_id in queue:
                    for earlier in queue[: queue.index(report.order_id)]:
                        status = market.matcher.status(earlier)
                        assert status is not None
                        assert not status.open


@settings(max_examples=100, deadline=None)
@given(stories)
def test_ids_are_unique_and_the_same_story_is_told_again(story: list[tuple[str, object]]) -> None:
    market, _ = told(story)
    ids = [report.exec_id for report in market.said]
    assert len(set(ids)) == len(ids)
    assert told(story)[0].said == market.said


@settings(max_examples=100, deadline=None)
@given(stories)
def test_reduce_only_never_leaves_an_account_on_the_other_side(story: list[tuple[str, object]]) -> None:
    market, sent = told(story)
    orders_by_id = {order.order_id: order for order in sent}
    held = {"ada": Decimal(1), "bob": Decimal(1)}
    for report in market.said:
        if report.exec_type != "TRADE" or report.last_qty is None:
            continue
        order = orders_by_id[report.order_id]
        before = held[order.account]
        held[order.account] += report.last_qty if order.side == "BUY" else -report.last_qty
        if order.reduce_only:
            assert abs(held[order.account]) < abs(before)


@settings(max_examples=100, deadline=None)
@given(stories)
def test_fok_is_all_or_nothing(story: list[tuple[str, object]]) -> None:
    market, sent = told(story)
    for order in sent:
        if order.tif == "FOK":
            status = market.matcher.status(order.order_id)
            assert status is not None
            assert status.cum_qty in (0, order.qty) or (
                status.open is False and status.cum_qty == _asked(status.reports)
            )


def _asked(reports: tuple[VenueReport, ...]) -> Decimal | None:
    """What a replaced stop asked for last."""
    return next((report.qty for report in reversed(reports) if report.qty is not None), None)


@settings(max_examples=100, deadline=None)
@given(stories)
def test_the_order_manager_understands_every_report(story: list[tuple[str, object]]) -> None:
    """Each report is a legal transition of an order that was asked for; what the commands were waits for no answer."""
    market, sent = told(story)
    found = lives(market)
    for order in sent:
        known = replace(order, status="PENDING_NEW")
        for report in found[order.order_id]:
            if report.exec_type in ("CANCEL_REJECTED", "REPLACE_REJECTED"):
                continue
            if report.exec_type == "REPLACED":
                known = replace(known, status="PENDING_REPLACE", prev_status=known.status)
            known = apply(known, event_of(report))
        status = market.matcher.status(order.order_id)
        assert status is not None
        assert (known.status in OPEN, known.cum_qty) == (status.open, status.cum_qty)


def event_of(report: VenueReport) -> Event:
    fields = msgspec.structs.asdict(report)
    return Event(actor="venue", **fields)
