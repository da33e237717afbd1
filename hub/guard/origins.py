"""May a page of this origin talk to the hub? Pure; everything not allowed is refused.

Browsers send a socket's handshake from any page (cross-site WebSocket hijacking, CWE-1385), but they always say from
which: programs that are no browser send no Origin and prove who they are with a token, as everybody does.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

ORIGIN = re.compile(r"https?://(?:[a-z0-9_.-]+|\[[0-9a-f:]+\])(?::[0-9]{1,5})?\Z")
"""An origin as browsers write it (RFC 6454 section 6.2): lower case, nothing after the port."""


def allowed_origin(origins: Sequence[str], *, hosts: Sequence[str], scheme: str, listed: Collection[str]) -> bool:
    """Compare byte for byte. `origins` and `hosts` are all values of those headers, `scheme` is http or https.

    Without a list only the hub's own pages may: those whose origin is the address they ask for.
    """
    if not origins:
        return True
    if len(origins) > 1:
        return False
    if listed:
        return origins[0] in listed
    return len(hosts) == 1 and origins[0] == f"{scheme}://{hosts[0]}"
