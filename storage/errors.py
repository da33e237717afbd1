"""What can go wrong with stored things, sorted by what the caller may conclude.

Rule: the text of an error never carries a credential, a DSN or a statement.
"""

from __future__ import annotations


class StorageError(Exception):
    """The store did not do what was asked; the text is one sentence for an operator."""


class Unavailable(StorageError):
    """The store could not be reached or refused for now. The work was definitely not done: repeating it is safe."""


class Busy(Unavailable):
    """All connections were in use for as long as one may wait: that says nothing about the server."""


class OutcomeUnknown(StorageError):
    """The connection was lost or timed out after the statement was sent: it may have been committed.

    Never report this as "not done". Repeat with the same idempotency key, or look up what is there.
    """


class Conflict(StorageError):
    """What is stored contradicts the request: a name is taken, an idempotency key was used for another body."""


class NotFound(StorageError):
    """Nothing is stored under that name or id."""


class Rejected(StorageError):
    """The store will never accept this value, such as text with a NUL or an embedding of the wrong dimension."""
