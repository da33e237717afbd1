"""What every command shares: the options that name a hub, what it prints, and one line for what went wrong."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from http import HTTPStatus
from typing import Any, BinaryIO, TextIO, TypeVar

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table
from websockets.exceptions import InvalidStatus

from hub.client import Client, Disconnected
from hub.client.link import OnState
from hub.namespaces import DEFAULTS
from hub.observe.printable import printable
from hub.permissions import Ungoverned
from hub.unusable import ConfigError
from protocol.close_codes import CloseCode
from protocol.errors import ErrorCode, HubError
from storage.errors import StorageError, Unavailable

F = TypeVar("F", bound=Callable[..., Any])
TABLE_WIDTH = 160  # whatever the terminal's is: who pipes it wants whole lines
CONNECT_S = 5.0  # somebody waits; what is asked for may take longer

Progressed = Callable[[int, int | None], None]
"""(how many are done, of how many; None: nobody knows)."""

err = Console(stderr=True, highlight=False)
json_option = click.option("--json", "as_json", is_flag=True, help="JSON, an object a line, for programs")


TOKEN_CODES = (CloseCode.UNAUTHORIZED, CloseCode.TOKEN_INVALID, CloseCode.TOKEN_EXPIRED)
OTHERS_CODES = (HTTPStatus.NOT_FOUND,)  # something serves there, and it is no hub
TOKEN_HINT = "krin token NAME --role ROLE prints one, --token or KRIN_TOKEN names it"
HINTS = {
    ErrorCode.UNKNOWN_CHANNEL: f"a hub without namespaces of its own has {', '.join(DEFAULTS)}",
    ErrorCode.PERMISSION_DENIED: "krin auth explain USER ACTION CHANNEL says which rule decides",
    ErrorCode.MFA_REQUIRED: "sign in with the second factor, and use that token",
}


class Unsafe(click.ClickException):
    """A protection is missing, declared or taken for granted: not to be confused with a start that failed."""

    exit_code = 3


class Unreachable(click.ClickException):
    """Nobody answers, be it a hub or a database: the same may succeed later."""

    exit_code = 6


class TokenOption(click.Option):
    """Whoever has named no token is told where one comes from."""

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        try:
            return super().process_value(ctx, value)
        except click.MissingParameter:
            raise click.MissingParameter(TOKEN_HINT, ctx=ctx, param=self) from None


def token_option(help: str) -> Callable[[F], F]:
    """As whom a command speaks to a hub."""
    return click.option("--token", "token_", cls=TokenOption, envvar="KRIN_TOKEN", required=True, help=help)


def hub_options(command: F) -> F:
    """Where a running hub is, and as whom to speak to it."""
    for option in (
        token_option("krin token prints one"),
        click.option("--url", envvar="KRIN_URL", default="http://127.0.0.1:8000", show_default=True),
    ):
        command = option(command)
    return command


@asynccontextmanager
async def hub_client(url: str, token: str, *, name: str, on_state: OnState | None = None) -> AsyncIterator[Client]:
    """The client of one command, which gives up soon when there is no hub.

    Raises click.UsageError for a URL that is none, Unreachable.
    """
    try:
        krin = Client(url, token=token, name=name, on_state=on_state, connect_timeout_s=CONNECT_S)
    except ValueError as failure:
        raise click.UsageError(f"--url {url}: {failure}") from None
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(krin)
        except TimeoutError as failure:
            raise no_hub(url, failure.__cause__) from None
        except Disconnected as failure:
            if failure.code not in OTHERS_CODES:
                raise
            raise no_hub(url, failure) from None
        yield krin


def no_hub(url: str, trouble: BaseException | None) -> Unreachable:
    match trouble:
        case InvalidStatus():
            why = f"the answer was HTTP {trouble.response.status_code}"
        case ssl.SSLCertVerificationError():
            why = f"its certificate is not trusted, {trouble.verify_message}; SSL_CERT_FILE names whom to trust"
        case ssl.SSLError():
            why = f"no TLS, {(trouble.reason or 'no answer').replace('_', ' ').lower()}"
        case OSError(errno=int(number)) if number > 0:
            why = os.strerror(number).lower()
        case OSError():  # a name that nobody knows
            why = trouble.strerror or str(trouble)
        case _:
            why = str(trouble or "no answer")
    return Unreachable(f"there is no hub at {url} ({why}): krin serve starts one, --url or KRIN_URL names another")


@contextmanager
def progress(title: str, *, beside: TextIO | BinaryIO | None = None) -> Iterator[Progressed]:
    """A bar on standard error while that is a terminal. None where what is printed goes to a terminal `beside` it."""
    if not err.is_terminal or (beside is not None and beside.isatty()):
        yield lambda done, total: None
        return
    # Redirected, standard output would be written to standard error.
    with Progress(console=err, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def say(text: str) -> None:
    """A line for people, beside what programs read."""
    click.echo(printable(text), err=True)


def write(text: str) -> None:
    """A line for people on standard output, whoever has said what is in it."""
    click.echo(printable(text))


def cell(text: str) -> str:
    """What stands in a cell of a table as it is, whoever has said it."""
    return escape(printable(text))


def print_json(document: Any) -> None:
    click.echo(msgspec.json.encode(document).decode())


def show(rows: Iterable[Mapping[str, Any]], *, as_json: bool) -> None:
    """Rows with the same names: a table, or a JSON object a line."""
    found = list(rows)
    if as_json:
        for row in found:
            print_json(row)
        return
    table = Table(*(name.replace("_", " ") for name in next(iter(found), ())), box=None)
    for row in found:
        table.add_row(*(cell(_cell(value)) for value in row.values()))
    Console(width=TABLE_WIDTH, highlight=False).print(table)


def _cell(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else "" if value is None else str(value)


def pairs(given: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE`s. Raises click.UsageError."""
    found = dict(each.partition("=")[::2] for each in given)
    if "" in (*found, *found.values()):
        raise click.UsageError("give names and values as NAME=VALUE")
    return found


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a command's work. What can be expected to go wrong is one line and an exit code, never a traceback."""
    try:
        asyncio.run(work)
    except Exception as failure:
        told = _told(failure)
        if told is None:
            raise
        raise told from None


def _told(failure: BaseException) -> Exception | None:
    """A failure that needs no traceback, also inside a group, as what ends the command."""
    match failure:
        case BaseExceptionGroup():
            told = [_told(each) for each in failure.exceptions]
            return told[0] if None not in told else None
        case click.ClickException() | BrokenPipeError():
            return failure
        case Ungoverned():  # a mistake in the program: no supervisor should try again
            return Unsafe(str(failure))
        case Disconnected():
            return click.ClickException(_with(TOKEN_HINT if failure.code in TOKEN_CODES else None, str(failure)))
        case HubError():
            return click.ClickException(_with(_hint(failure), str(failure)))
        case Unavailable():
            return Unreachable(str(failure))
        case ConfigError() | StorageError():
            return click.ClickException(str(failure))
        case OSError():
            return click.ClickException(reason_of(failure))
    return None


def _hint(failure: HubError) -> str | None:
    # That command explains channels, and not what an account, a scope or a role may.
    about_something_else = failure.code == ErrorCode.PERMISSION_DENIED and failure.path != "$.channel"
    return None if about_something_else else HINTS.get(failure.code)


def _with(hint: str | None, text: str) -> str:
    text = printable(text)  # the hub's words
    return f"{text}: {hint}" if hint else text


def reason_of(failure: OSError) -> str:
    """What the system says, and of which file."""
    reason = failure.strerror or str(failure)
    return f"{failure.filename}: {reason}" if failure.filename else reason
