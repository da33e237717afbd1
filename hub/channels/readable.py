"""All that a caller may read, said in advance: for a search, which must not look at anything else."""

from __future__ import annotations

from collections.abc import Iterable

from hub.caller import Caller
from hub.namespaces import Namespace
from storage.vectors import Scope


def readable(caller: Caller, namespaces: Iterable[tuple[str, Namespace]]) -> Scope:
    """The channels of these namespaces for which `hub.channels.access.decide` lets the caller subscribe.

    The same rules, turned round: there a channel is given and a rule is sought, here the other way about.
    """
    names: set[str] = set()
    prefixes: set[str] = set()
    flat: set[str] = set()
    for prefix, namespace in namespaces:
        walled = namespace.tenant_scoped and caller.tenant
        room = f"{prefix}:{caller.tenant}/" if walled else f"{prefix}:"
        if "admin" in caller.roles and (namespace.tenant_scoped or not caller.tenant):
            prefixes.add(room)
            continue
        for entry in namespace.subscribe:
            role, _, qualifier = entry.partition(":")
            if role != "*" and role not in caller.roles:
                continue
            own = {"own": {caller.user}, "team": caller.teams, "role": caller.roles}.get(qualifier, set())
            if not qualifier:
                prefixes.add(room)
            elif qualifier == "team" and "*" in caller.teams:
                # Whoever has no tenant is of every team that has none either.
                (flat if namespace.tenant_scoped and not caller.tenant else prefixes).add(room)
            else:
                bare = namespace.tenant_scoped and not caller.tenant
                names.update(room + each for each in own if not (bare and "/" in each))
        for pattern in caller.grant.subscribe:
            if not pattern.endswith("*"):
                if pattern.startswith(room):
                    names.add(pattern)
            elif pattern[:-1].startswith(room):
                prefixes.add(pattern[:-1])
            elif room.startswith(pattern[:-1]):
                prefixes.add(room)
    return Scope(tuple(sorted(names)), tuple(sorted(prefixes)), tuple(sorted(flat)))
