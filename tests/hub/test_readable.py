"""What a caller may read, said in advance, is exactly what would be allowed one by one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hub.caller import Caller, Grant
from hub.channels.access import decide
from hub.channels.readable import readable
from hub.namespaces import Namespace, Namespaces
from protocol.errors import HubError
from storage.vectors import Scope

WORDS = ("ann", "bob", "acme", "alpha", "trader")
NAMES = st.one_of(st.sampled_from(WORDS), st.tuples(*[st.sampled_from(WORDS)] * 2).map("/".join))
ROLES = ("admin", "trader", "agent", "alpha")
ENTRIES = st.tuples(st.sampled_from(("*", *ROLES)), st.sampled_from(("", ":own", ":team", ":role"))).map("".join)
NAMESPACES = st.dictionaries(
    st.sampled_from(("team", "tea", "desk", "orders")),
    st.builds(Namespace, subscribe=st.lists(ENTRIES, max_size=3).map(tuple), tenant_scoped=st.booleans()),
    min_size=1,
)
CHANNELS = st.tuples(st.sampled_from(("team", "tea", "desk", "orders")), NAMES).map(":".join)
PATTERNS = st.one_of(
    CHANNELS, st.sampled_from(("*", "t*", "team*", "team:*", "desk:acme/*", "desk:a*", "team:ac*", "orders:ann*"))
)
CALLERS = st.builds(
    lambda user, roles, teams, tenant, grant: Caller(
        user=user, roles=frozenset(roles), teams=frozenset(teams), tenant=tenant, grant=grant, transport="rest"
    ),
    NAMES,
    st.sets(st.sampled_from(ROLES), max_size=2),
    st.sets(st.sampled_from(("*", *WORDS, "acme/alpha")), max_size=2),
    st.sampled_from(("", "acme", "bob")),
    st.builds(Grant, subscribe=st.lists(PATTERNS, max_size=3).map(tuple)),
)


def within(scope: Scope, channel: str) -> bool:
    return (
        channel in scope.names
        or channel.startswith(scope.prefixes)
        or (channel.startswith(scope.flat_prefixes) and "/" not in channel)
    )


def allowed(caller: Caller, namespaces: Namespaces, channel: str) -> bool:
    try:
        namespace, name = namespaces.of(channel)
    except HubError:
        return False
    return decide(caller, "subscribe", channel, namespace, name).allowed


@settings(max_examples=1000, deadline=None)
@given(CALLERS, NAMESPACES, st.lists(CHANNELS, min_size=1, max_size=10))
def test_c64_the_scope_of_a_search_is_what_decide_allows(
    caller: Caller, table: dict[str, Namespace], channels: list[str]
) -> None:
    namespaces = Namespaces(table)
    scope = readable(caller, namespaces.items())
    assert [within(scope, each) for each in channels] == [allowed(caller, namespaces, each) for each in channels]
