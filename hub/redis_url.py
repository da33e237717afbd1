"""What a Redis URL says: one server, or the seeds of a cluster; on this machine or not; with a password or without.

redis://[user:password@]host[:port][/db]     rediss:// with TLS     unix:///path/to/socket
redis+cluster://[user:password@]host[:port][,host[:port]...]         rediss+cluster:// with TLS
"""

from __future__ import annotations

import ipaddress
from urllib.parse import parse_qs, urlsplit

SINGLE = ("redis", "rediss", "unix")
CLUSTER = {"redis+cluster": "redis", "rediss+cluster": "rediss"}


def is_cluster(url: str) -> bool:
    return urlsplit(url).scheme in CLUSTER


def servers(url: str) -> list[str]:
    """A URL for each server that is named. Raises ValueError, without the password, for what is no Redis URL."""
    parts = urlsplit(url)
    if parts.scheme in SINGLE:
        return [url]
    if parts.scheme not in CLUSTER:
        raise ValueError(f"a Redis URL begins with one of {', '.join((*SINGLE, *CLUSTER))}")
    hosts = parts.netloc.rpartition("@")[2].split(",")
    if not all(hosts):
        raise ValueError("a host is missing in the Redis URL")
    single = parts._replace(scheme=CLUSTER[parts.scheme], path="/").geturl()
    return [at(single, host) for host in hosts]


def at(url: str, address: str) -> str:
    """The same URL for another server."""
    parts = urlsplit(url)
    credentials, found, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{credentials}{found}{address}").geturl()


def is_local(url: str) -> bool:
    """A Unix socket or a loopback address."""
    parts = urlsplit(url)
    if parts.scheme == "unix" or parts.hostname in (None, "localhost"):
        return True
    try:
        return ipaddress.ip_address(parts.hostname).is_loopback
    except ValueError:
        return False


def has_password(url: str) -> bool:
    parts = urlsplit(url)
    return bool(parts.password or parse_qs(parts.query).get("password"))
