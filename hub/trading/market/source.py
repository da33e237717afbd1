"""The contract between the market and where its data comes from."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Literal, Protocol

from hub.trading.market.events import Event

Role = Literal["PRIMARY", "SECONDARY"]


class SourceLost(Exception):
    """The connection of a source has ended or could not be made.

    Everybody may read the text, on `sources:all`; what only the operator should know is its cause.
    """


class Source(Protocol):
    """One market-data source. `symbols` are those it is expected to quote; `marks` goes into the `ext` of what is made
    of it, such as `{"simulated": true}`."""

    @property
    def name(self) -> str: ...
    @property
    def role(self) -> Role: ...
    @property
    def symbols(self) -> Sequence[str]: ...
    @property
    def marks(self) -> Mapping[str, Any] | None: ...

    def events(self) -> AsyncGenerator[Sequence[Event]]:
        """Connect, and give what arrives, together what arrived together, until the connection ends.

        Raises SourceLost. Called again to reconnect; then books begin with a new snapshot.
        """
        ...

    async def resync(self, symbol: str) -> None:
        """Ask for a new snapshot of a book that cannot be believed any more. It arrives among the events.

        Raises SourceLost.
        """
        ...
