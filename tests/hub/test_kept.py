"""What is kept of a channel: whatever is done to it, it knows what that costs and stays a run of offsets."""

from __future__ import annotations

from doubles import publication
from hypothesis import given
from hypothesis import strategies as st

from hub.brokers.kept import Kept, cost
from hub.namespaces import Namespace

POLICIES = (
    Namespace(promise="recoverable", history_size=4, history_ttl_s=10),
    Namespace(promise="latest", max_keys=3),
    Namespace(promise="recoverable", history_size=0),
)
STEPS = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 2), st.sampled_from("abcde")),
    st.tuples(st.just("expire"), st.integers(0, 20), st.just("")),
    st.tuples(st.just("forget"), st.just(0), st.sampled_from("abcde")),
    st.tuples(st.just("halve"), st.just(0), st.just("")),
    st.tuples(st.just("skip"), st.integers(0, 3), st.just("")),
    st.tuples(st.just("extend"), st.integers(0, 6), st.just("")),
)


@given(st.sampled_from(POLICIES), st.lists(STEPS, max_size=30))
def test_it_knows_its_cost_and_its_history_has_no_holes(policy: Namespace, steps: list[tuple[str, int, str]]) -> None:
    kept = Kept(policy, epoch="e", offset=10)
    for step, number, name in steps:
        match step:
            case "append":
                offset = kept.offset + number
                kept.append(
                    publication("c", offset, key=name, publisher=name, timestamp=offset * 1000, text="x" * offset)
                )
            case "expire":
                kept.expire((kept.offset - 10 + number) * 1000)
            case "forget":
                kept.forget(lambda publisher, name=name: publisher == name)
            case "halve":
                kept.drop_older_half()
            case "skip":
                kept.skip_to(kept.offset - 1 + number)
            case "extend":
                first = kept.history[0].offset if kept.history else kept.offset + 1
                kept.extend_back([publication("c", offset) for offset in range(max(1, first - number), first + 1)])

        history = [each.offset for each in kept.history]
        assert history == list(range(kept.offset - len(history) + 1, kept.offset + 1))
        assert len(history) <= policy.history_size
        assert kept.bytes == sum(cost(each) for each in (*kept.history, *kept.latest.values()))
