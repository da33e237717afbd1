"""Who may do what: the whole table, decided by a second hand-written oracle; everything not named is denied."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from doubles import caller
from hypothesis import given
from hypothesis import strategies as st

from hub.caller import Caller, Grant
from hub.channels.access import MAX_REMEMBERED, Access, Action, decide
from hub.channels.readable import readable
from hub.guard.events import SecurityEvent
from hub.namespaces import DEFAULTS, Namespace, Namespaces
from protocol.errors import ErrorCode, HubError

ROLES = ("admin", "feed", "trader", "agent", "dashboard", "risk", "security", "stranger")
OWN, OTHER = "ann", "bob"
ACTIONS: tuple[Action, Action] = ("publish", "subscribe")
EVERYONE = frozenset(ROLES)

# Written from the documents, not from the code: namespace -> (publish, subscribe) on a channel of somebody else.
ANYWHERE: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "prices": (frozenset({"feed"}), EVERYONE),
    "book": (frozenset({"feed"}), EVERYONE),
    "ticker": (frozenset({"feed"}), EVERYONE),
    "sources": (frozenset({"feed"}), EVERYONE),
    "instruments": (frozenset({"feed"}), EVERYONE),
    "status": (frozenset({"feed", "agent"}), EVERYONE),
    "trades": (frozenset({"feed"}), EVERYONE),
    "bars": (frozenset({"feed"}), EVERYONE),
    "agent": (frozenset({"agent"}), frozenset({"agent", "dashboard"})),
    "custom": (frozenset({"feed", "trader", "agent"}), EVERYONE),
    "orders": (frozenset(), frozenset()),
    "fills": (frozenset(), frozenset()),
    "positions": (frozenset(), frozenset()),
    "risk": (frozenset(), frozenset({"risk"})),
    "trading": (frozenset(), EVERYONE),
    "team": (frozenset(), frozenset({"dashboard"})),
    "tasks": (frozenset(), frozenset({"dashboard"})),
    "alerts": (frozenset({"agent", "feed"}), EVERYONE),
    "approvals": (frozenset({"agent", "trader"}), frozenset()),
    "semantic": (frozenset(), EVERYONE),
    "sessions": (frozenset(), frozenset()),
    "insights": (frozenset(), frozenset()),
    "system": (frozenset(), EVERYONE),
    "security": (frozenset(), frozenset({"security"})),
}
SCOPED = Namespaces(
    DEFAULTS
    | {
        "desk": Namespace(publish=("trader:own",), subscribe=("*",), tenant_scoped=True),
        "squad": Namespace(publish=("agent:team",), subscribe=("agent", "*:role"), tenant_scoped=True),
    }
)
OWN_ONLY = {"orders": {"trader"}, "fills": {"trader"}}
OWN_TO_READ = {"positions": {"trader"}, "risk": {"trader"}, "sessions": EVERYONE}
TEAM_ONLY = {"team": {"agent"}, "tasks": {"agent"}}


def allowed(caller: Caller, action: Action, channel: str, namespace: Namespace, name: str) -> bool:
    return decide(caller, action, channel, namespace, name).allowed


def expected(role: str, action: Action, namespace: str, name: str, teams: tuple[str, ...]) -> bool:
    if role == "admin" or role in ANYWHERE[namespace][ACTIONS.index(action)]:
        return True
    if role in OWN_ONLY.get(namespace, set()) and name == OWN:
        return True
    if action == "subscribe" and role in OWN_TO_READ.get(namespace, set()) and name == OWN:
        return True
    if role in TEAM_ONLY.get(namespace, set()) and (name in teams or "*" in teams):
        return True
    return namespace == "approvals" and action == "subscribe" and name == role


@pytest.mark.parametrize("namespace", sorted(DEFAULTS))
def test_the_access_table_is_exactly_what_was_promised(namespace: str) -> None:
    assert set(ANYWHERE) == set(DEFAULTS), "a namespace is missing from this table"
    names = (OWN, OTHER, "alpha", "trader", "dashboard", "admin")
    wrong = [
        (role, action, name, teams)
        for role, action, name, teams in itertools.product(ROLES, ACTIONS, names, ((), ("alpha",), ("*",)))
        if allowed(caller(OWN, role, teams=teams), action, f"{namespace}:{name}", DEFAULTS[namespace], name)
        is not expected(role, action, namespace, name, teams)
    ]

    assert wrong == []


@pytest.mark.parametrize("namespace", sorted(DEFAULTS))
def test_a_caller_without_roles_may_only_read_what_is_open_to_everyone_signed_in(namespace: str) -> None:
    policy = DEFAULTS[namespace]

    assert not allowed(caller("ann"), "publish", f"{namespace}:x", policy, "x")
    assert allowed(caller("ann"), "subscribe", f"{namespace}:x", policy, "x") is (policy.subscribe == ("*",))


def test_two_roles_may_do_what_either_may() -> None:
    both = caller("ann", "feed", "dashboard")

    assert allowed(both, "publish", "prices:X", DEFAULTS["prices"], "X")
    assert allowed(both, "subscribe", "team:alpha", DEFAULTS["team"], "alpha")
    assert not allowed(both, "publish", "team:alpha", DEFAULTS["team"], "alpha")


def test_a_grant_opens_what_it_names_and_nothing_beside_it() -> None:
    ann = caller("ann", grant=Grant(publish=("orders:ann-*",), subscribe=("team:alpha",)))

    assert allowed(ann, "publish", "orders:ann-1", DEFAULTS["orders"], "ann-1")
    assert not allowed(ann, "publish", "orders:an", DEFAULTS["orders"], "an")
    assert not allowed(ann, "subscribe", "orders:ann-1", DEFAULTS["orders"], "ann-1")
    assert allowed(ann, "subscribe", "team:alpha", DEFAULTS["team"], "alpha")
    assert not allowed(ann, "subscribe", "team:alphabet", DEFAULTS["team"], "alphabet")
    assert not allowed(ann, "publish", "team:alpha", DEFAULTS["team"], "alpha")


@pytest.mark.parametrize("pattern", ["(o+)+$", "orders:.*", "orders:???", "[o]rders:ann", "orders:%"])
def test_a_pattern_is_a_literal_prefix_and_never_an_expression(pattern: str) -> None:
    ann = caller("ann", grant=Grant(subscribe=(pattern,)))

    assert not allowed(ann, "subscribe", "orders:bob", DEFAULTS["orders"], "bob")


@pytest.mark.parametrize("entry", ["trader:Own", "trader:any", ":own", ":", "trader:own:x", "*:own2", ""])
def test_an_entry_nobody_understands_lets_nobody_in(entry: str) -> None:
    policy = Namespace(publish=(entry,))

    assert not allowed(caller("ann", "trader"), "publish", "x:ann", policy, "ann")


def test_a_user_named_like_a_role_gets_nothing_of_that_role() -> None:
    assert not allowed(caller("trader"), "subscribe", "approvals:trader", DEFAULTS["approvals"], "trader")
    assert not allowed(caller("admin", "dashboard"), "subscribe", "orders:x", DEFAULTS["orders"], "x")


def test_an_unknown_namespace_is_unknown_even_to_an_admin() -> None:
    with pytest.raises(HubError) as caught:
        Namespaces().of("nope:x")

    assert caught.value.code is ErrorCode.UNKNOWN_CHANNEL
    assert caught.value.path == "$.channel"


@pytest.mark.parametrize(
    "channel",
    [
        "prices",
        ":x",
        "prices:",
        "Prices:x",
        "prices :x",
        "prices:x y",
        "prices:x\n",
        "prices:x\x00",
        "prices:é",
        "prices:а",  # Cyrillic
        "prices:x\u200b",
        "prices:\u202ex",
        "prices:*",
        "prices:[a]",
        'prices:"x"',
        "prices:x\\y",
        "prices:" + "x" * 249,
        "p" * 33 + ":x",
    ],
)
def test_a_channel_outside_the_grammar_is_a_bad_request(channel: str) -> None:
    with pytest.raises(HubError) as caught:
        Namespaces().of(channel)

    assert caught.value.code is ErrorCode.BAD_REQUEST
    assert channel not in str(caught.value)


def test_a_symbol_with_slashes_and_colons_is_the_name_after_the_first_colon() -> None:
    assert Namespaces().of("book:10:BTC/USDT:USDT")[1] == "10:BTC/USDT:USDT"


def test_a_million_invented_channels_do_not_stay_in_memory() -> None:
    namespaces = Namespaces()
    for number in range(200_000):
        namespaces.of(f"custom:{number}")

    assert len(namespaces._known) <= 65_536


# --- why


@pytest.mark.parametrize(
    ("who", "action", "channel", "rule", "named"),
    [
        (caller("ann", "admin"), "publish", "prices:X", "admin", "admin"),
        (caller("ann", "trader"), "publish", "orders:ann", "role", "'trader:own'"),
        (caller("ann"), "subscribe", "prices:X", "role", "'*'"),
        (caller("ann", grant=Grant(publish=("orders:ann-*",))), "publish", "orders:ann-1", "grant", "'orders:ann-*'"),
        (caller("ann", "trader"), "publish", "orders:bob", "default", "trader:own"),
        (caller("ann", "admin", tenant="acme"), "subscribe", "desk:other/x", "tenant", "acme"),
    ],
)
def test_a_decision_names_the_rule_that_decided(
    who: Caller, action: Action, channel: str, rule: str, named: str
) -> None:
    decision = Access(SCOPED, report=lambda event: None).decide(who, action, channel)

    assert decision.allowed is (rule not in ("default", "tenant"))
    assert decision.rule == rule
    assert named in decision.reason


def test_a_refusal_is_reported_with_who_what_and_where() -> None:
    reported: list[SecurityEvent] = []
    access = Access(Namespaces(), report=reported.append)

    for _ in range(2):  # remembered or not
        with pytest.raises(HubError) as caught:
            access.require(caller("ann", "trader"), "subscribe", "orders:bob")

    assert caught.value.code is ErrorCode.PERMISSION_DENIED
    assert [(e.name, e.user, e.target, e.allowed, e.detail) for e in reported] == [
        ("authz_fail", "ann", "orders:bob", False, {"action": "subscribe"})
    ] * 2


def test_what_is_remembered_of_a_caller_ends_with_its_roles() -> None:
    access = Access(Namespaces(), report=lambda event: None)
    ann = caller("ann", "trader")
    access.require(ann, "publish", "orders:ann")

    for changed in (
        caller("ann", "dashboard"),
        caller("bob", "trader"),
        caller("ann", "agent", teams=("ann",)),
    ):
        with pytest.raises(HubError):
            access.require(changed, "publish", "orders:ann")
    assert access.require(caller("ann", grant=Grant(publish=("orders:ann",))), "publish", "orders:ann").durable


def test_decisions_about_invented_channels_do_not_stay_in_memory() -> None:
    access = Access(Namespaces(), report=lambda event: None)
    for number in range(2 * MAX_REMEMBERED):
        access.require(caller("ann"), "subscribe", f"custom:{number}")

    assert len(access._remembered) <= MAX_REMEMBERED


# --- C65: tenants

tenants = st.sampled_from(["", "acme", "globex", "a"])
names = st.sampled_from(["ann", "bob", "acme", "globex", "a", "agent"])
roles = st.sampled_from(["admin", "trader", "agent", "feed"])
patterns = st.sampled_from(["desk:*", "squad:*", "*", "desk:globex/*", "desk:acme/ann", "prices:*"])


@st.composite
def callers(draw: st.DrawFn) -> Caller:
    granted = tuple(draw(st.lists(patterns, max_size=2)))
    return caller(
        draw(names),
        *draw(st.sets(roles)),
        teams=tuple(draw(st.sets(names | st.just("*"), max_size=2))),
        grant=Grant(publish=granted, subscribe=granted),
        tenant=draw(tenants),
    )


@st.composite
def scoped_channels(draw: st.DrawFn) -> str:
    return draw(st.sampled_from(["desk", "squad"])) + ":" + "/".join(draw(st.lists(names, min_size=1, max_size=3)))


@given(who=callers(), action=st.sampled_from(ACTIONS), channel=scoped_channels())
def test_c65_no_role_and_no_grant_lets_a_tenant_into_another_one(who: Caller, action: Action, channel: str) -> None:
    tenant, slash, _ = channel.partition(":")[2].partition("/")
    decision = Access(SCOPED, report=lambda event: None).decide(who, action, channel)

    if who.tenant and (not slash or tenant != who.tenant):
        assert (decision.allowed, decision.rule) == (False, "tenant")
    else:
        assert decision.rule != "tenant"


@given(who=callers(), action=st.sampled_from(ACTIONS), name=names, namespace=st.sampled_from(sorted(DEFAULTS)))
def test_c65_elsewhere_a_tenant_changes_nothing_but_that_its_admin_is_nobodys_admin(
    who: Caller, action: Action, name: str, namespace: str
) -> None:
    free = msgspec.structs.replace(who, tenant="", roles=who.roles - {"admin"} if who.tenant else who.roles)
    access = Access(SCOPED, report=lambda event: None)

    assert access.decide(who, action, f"{namespace}:{name}") == access.decide(free, action, f"{namespace}:{name}")


@given(who=callers(), action=st.sampled_from(ACTIONS), name=names, namespace=st.sampled_from(["desk", "squad"]))
def test_c65_within_its_tenant_a_caller_may_what_one_without_tenant_may_in_a_hub_of_its_own(
    who: Caller, action: Action, name: str, namespace: str
) -> None:
    access = Access(SCOPED, report=lambda event: None)
    inside = msgspec.structs.replace(who, tenant="acme", grant=Grant())
    alone = msgspec.structs.replace(who, tenant="", grant=Grant())

    decided = access.decide(inside, action, f"{namespace}:acme/{name}")

    assert decided.allowed == access.decide(alone, action, f"{namespace}:{name}").allowed


def test_c65_the_owner_of_a_name_in_one_tenant_is_not_its_namesake_elsewhere() -> None:
    access = Access(SCOPED, report=lambda event: None)

    assert access.decide(caller("ann", "trader", tenant="acme"), "publish", "desk:acme/ann").allowed
    assert not access.decide(caller("ann", "trader"), "publish", "desk:acme/ann").allowed
    assert not access.decide(caller("acme/ann", "trader"), "publish", "desk:acme/ann").allowed
    assert access.decide(caller("ann", "trader"), "publish", "desk:ann").allowed


SUBJECTS = [name for name, namespace in DEFAULTS.items() if not namespace.about]


@given(
    st.sets(st.sampled_from(ROLES)).map(frozenset),
    st.sets(st.sampled_from([OWN, OTHER])).map(frozenset),
    st.sampled_from(SUBJECTS),
    st.sampled_from([OWN, OTHER, "risk"]),
)
def test_insights_of_a_channel_are_read_by_whoever_may_read_the_channel(
    roles: frozenset[str], teams: frozenset[str], subject: str, name: str
) -> None:
    access = Access(Namespaces(), report=lambda event: None)
    who = caller(OWN, *roles, teams=teams)
    channel = f"{subject}:{name}"
    allowed = access.decide(who, "subscribe", channel).allowed
    assert access.decide(who, "subscribe", f"insights:{channel}").allowed == allowed
    assert access.decide(who, "publish", f"insights:{channel}").allowed == ("admin" in roles)
    scope = readable(who, Namespaces().by_prefix())
    assert (f"insights:{channel}" in scope.names or f"insights:{channel}".startswith(scope.prefixes)) == allowed


@pytest.mark.parametrize("channel", ["insights:errors", "insights:nowhere:x", "insights:insights:team:a"])
def test_insights_of_what_is_no_channel_are_for_administrators(channel: str) -> None:
    access = Access(Namespaces(), report=lambda event: None)
    roles = EVERYONE - {"admin"}
    assert not access.decide(caller(OWN, *roles), "subscribe", channel).allowed
    assert access.decide(caller(OWN, "admin"), "subscribe", channel).allowed


def test_insights_stay_within_a_tenant() -> None:
    access = Access(SCOPED, report=lambda event: None)
    ada = msgspec.structs.replace(caller("ada", "trader"), tenant="acme")
    assert access.decide(ada, "subscribe", "insights:desk:acme/x").allowed
    assert not access.decide(ada, "subscribe", "insights:desk:other/x").allowed
