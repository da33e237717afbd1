"""Whose address a request comes from, and to which network it belongs. Pure: texts in, texts out."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network

NEIGHBOURS = {4: 24, 6: 64}  # prefix lengths within which addresses are one party's


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Parsed networks. Raises ValueError that names the text that is none."""
    return tuple(ip_network(text) for text in texts)


def within(address: str, among: Sequence[Network]) -> bool:
    """Whether the address lies in one of the networks; what is no address lies in none."""
    parsed = _parsed(address)
    return parsed is not None and any(parsed in network for network in among)


def client_address(peer: str, forwarded_for: Sequence[str], trusted: Sequence[Network]) -> str:
    """The nearest hop that is not a trusted proxy.

    `forwarded_for` are the values of X-Forwarded-For in order. Each proxy appends whom it heard from, so reading goes
    from the right and stops at the first stranger: what stands left of it is the stranger's own word.
    """
    if not within(peer, trusted):
        return peer
    nearest = peer
    for hop in reversed([each.strip() for value in forwarded_for for each in value.split(",")]):
        if _parsed(hop) is None:
            return nearest
        nearest = hop
        if not within(hop, trusted):
            return hop
    return nearest


def neighbourhood(address: str) -> str:
    """The network that one party is likely to own whole: /24 for IPv4, /64 for IPv6."""
    parsed = _parsed(address)
    if parsed is None:
        return address
    return str(ip_network((parsed, NEIGHBOURS[parsed.version]), strict=False))


def party(address: str) -> str:
    """Who is counted as one: an IPv4 address, or a whole IPv6 /64, whose owner can take a new address at will."""
    return neighbourhood(address) if ":" in address else address


@functools.lru_cache(maxsize=4096)
def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    return parsed.ipv4_mapped or parsed if isinstance(parsed, IPv6Address) else parsed
