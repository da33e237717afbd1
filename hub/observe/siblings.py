"""The metrics of all processes behind one port: whichever of them is scraped asks the others, and answers for all.

Otherwise every scrape would show another process, and counters would jump. A sample carries its process as `node`. Who
does not answer in time is left out of this scrape.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
from prometheus_client.core import Metric
from prometheus_client.samples import Exemplar, Sample

from hub.observe.metrics import Metrics

TOPIC = "metrics"
ANSWER_S = 0.5
MAX_ASKED = 16  # scrapes at once that wait for others


class _Sample(msgspec.Struct, frozen=True, array_like=True):
    name: str
    labels: dict[str, str]
    value: float
    exemplar: tuple[dict[str, str], float, float | None] | None = None


class _Family(msgspec.Struct, frozen=True, array_like=True):
    name: str
    text: str
    kind: str
    samples: list[_Sample]


class _Word(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A question to the family's others (no `families`), or an answer to it."""

    family: str
    node: str
    question: str
    families: list[_Family] | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Word).decode


class Siblings:
    """`family` is the name that its processes share, and each is `FAMILY-NUMBER`."""

    def __init__(
        self,
        family: str,
        metrics: Metrics,
        *,
        node: str,
        nodes: Callable[[], Sequence[str]],
        announce: Callable[[str, bytes], None],
    ) -> None:
        self._family = family
        self._metrics = metrics
        self._node = node
        self._nodes = nodes
        self._announce = announce
        self._asked: dict[str, tuple[set[str], dict[str, list[_Family]], asyncio.Event]] = {}

    def hear(self, payload: bytes) -> None:
        """What some process announced under TOPIC."""
        try:
            word = _decode(payload)
        except msgspec.MsgspecError:
            return  # of another version
        if word.family != self._family or word.node == self._node:
            return
        if word.families is None:
            answer = _Word(
                family=self._family, node=self._node, question=word.question, families=packed(self._metrics.collect())
            )
            self._announce(TOPIC, _encode(answer))
        elif (asked := self._asked.get(word.question)) is not None:
            missing, answers, complete = asked
            answers[word.node] = word.families
            missing.discard(word.node)
            if not missing:
                complete.set()

    async def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """As `Metrics.exposition`, for all processes of the family."""
        others = {each for each in self._nodes() if each.rpartition("-")[0] == self._family} - {self._node}
        answers: dict[str, list[_Family]] = {}
        if others and len(self._asked) < MAX_ASKED:
            question, complete = secrets.token_hex(8), asyncio.Event()
            self._asked[question] = (others, answers, complete)
            self._announce(TOPIC, _encode(_Word(family=self._family, node=self._node, question=question)))
            try:
                async with asyncio.timeout(ANSWER_S):
                    await complete.wait()
            except TimeoutError:
                pass
            finally:
                del self._asked[question]
        answers[self._node] = packed(self._metrics.collect())
        return Metrics([lambda: merged(answers)]).exposition(accept)


def packed(metrics: Iterable[Metric]) -> list[_Family]:
    return [
        _Family(
            metric.name,
            metric.documentation,
            metric.type,
            [_Sample(each.name, dict(each.labels), each.value, _exemplar(each)) for each in metric.samples],
        )
        for metric in metrics
    ]


def _exemplar(sample: Sample) -> tuple[dict[str, str], float, float | None] | None:
    given = sample.exemplar
    return (dict(given.labels), given.value, float(given.timestamp) if given.timestamp else None) if given else None


def merged(answers: dict[str, list[_Family]]) -> Iterator[Metric]:
    """One family of each name, with the samples of all nodes."""
    found: dict[str, Metric] = {}
    for node, families in sorted(answers.items()):
        for family in families:
            metric = found.get(family.name)
            if metric is None:
                metric = found[family.name] = Metric(family.name, family.text, family.kind)
            for sample in family.samples:
                exemplar = Exemplar(*sample.exemplar) if sample.exemplar is not None else None
                metric.add_sample(sample.name, {**sample.labels, "node": node}, sample.value, exemplar=exemplar)
    yield from found.values()
