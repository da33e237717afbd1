"""A hub that can do without the code of tracing: `python -m benchmarks.untraced serve ...`.

SIGUSR1 cuts that code out of the running process, SIGUSR2 puts it back, and the file that `KRIN_BENCH_STATE` names says
which was done. So both are measured on the same objects at the same addresses: two processes of one program differ by
up to 4 %, which is more than is looked for.

Off, that code is in `Publisher.publish` alone. Where it is on, each written message is looked at as well, in what
`Tracing.measured` gives: one more call decides there whether it is.
"""

from __future__ import annotations
import __future__

import inspect
import os
import signal
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType, FrameType

from hub.channels import publishing
from hub.cli import main
from hub.observe.delivery import DeliveryMeter
from hub.observe.tracing import Tracing
from hub.publication import Publication

Written = Callable[[Sequence[Publication], int], None]

STATE = "KRIN_BENCH_STATE"
CUT, WHOLE = signal.SIGUSR1, signal.SIGUSR2
BEGIN = """    traced = None
    if self._tracing is not None:
        where = "commit" if namespace.durable else "broker"
        traced = self._tracing.publish(channel, type_name, message.trace, where=where)
        if traced is not None:
            message = replace(message, trace=traced.traceparent)
"""
END = """    if traced is not None:
        placed = traced.followed(placed)
"""


def without_tracing(source: str) -> str:
    """Raises LookupError: `Publisher.publish` has changed."""
    if source.count(BEGIN) != 1 or source.count(END) != 1:
        raise LookupError("what is to be cut out of Publisher.publish is not found")
    return source.replace(BEGIN, "").replace(END, "")


def code_of(source: str) -> CodeType:
    """A function of the module `publishing`, as if it were written there."""
    flags = __future__.annotations.compiler_flag
    module = compile(source, publishing.__file__, "exec", flags=flags, dont_inherit=True)
    (code,) = (each for each in module.co_consts if isinstance(each, CodeType))
    return code


def measured_while(whole: Callable[[], bool]) -> Callable[[Tracing, DeliveryMeter], Written]:
    """`Tracing.measured` whose look at each message is left out as long as `whole` is false."""
    measured = Tracing.measured

    def measure(tracing: Tracing, meter: DeliveryMeter) -> Written:
        traced = measured(tracing, meter)

        def written(publications: Sequence[Publication], readers: int) -> None:
            (traced if whole() else meter.written)(publications, readers)

        return written

    return measure


def serve() -> None:
    publish = publishing.Publisher.publish
    source = textwrap.dedent(inspect.getsource(publish))
    codes = {CUT: code_of(without_tracing(source)), WHOLE: code_of(source)}

    state = WHOLE

    def switch(number: int, _frame: FrameType | None) -> None:
        nonlocal state
        state = signal.Signals(number)
        publish.__code__ = codes[state]
        Path(os.environ[STATE]).write_text(state.name)

    Tracing.measured = measured_while(lambda: state is WHOLE)
    for number in codes:
        signal.signal(number, switch)
    main()


if __name__ == "__main__":
    serve()
