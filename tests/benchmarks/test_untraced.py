"""What the benchmark of tracing cuts out of the hub is what is there."""

from __future__ import annotations

import inspect
import textwrap

import pytest

from benchmarks.untraced import code_of, without_tracing
from hub.channels.publishing import Publisher


def test_all_of_tracing_is_cut_out_of_publish_and_nothing_else() -> None:
    source = textwrap.dedent(inspect.getsource(Publisher.publish))
    whole, cut = code_of(source), code_of(without_tracing(source))

    assert set(whole.co_names) == set(Publisher.publish.__code__.co_names)
    assert set(whole.co_names) - set(cut.co_names) == {"_tracing", "trace", "followed", "replace", "traceparent"}
    assert set(cut.co_names) <= set(whole.co_names)
    assert set(whole.co_varnames) - set(cut.co_varnames) == {"traced", "where"}


def test_a_changed_publish_is_noticed() -> None:
    with pytest.raises(LookupError, match="not found"):
        without_tracing("def publish(self):\n    pass\n")
