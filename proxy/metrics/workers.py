"""The metrics of several workers as one text: each sample says of which worker it is.

counterfoil_decisions_total{report="sales/store-daily",decision="permit",reason="",worker="1"} 3.0
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from proxy.metrics.table import Row

LABEL: Final = "worker"
_UP: Final = Row(
    name="counterfoil_worker_up",
    kind="gauge",
    labels=(LABEL,),
    help="With `workers`: 1 where that one told its metrics, 0 where it did not in time.",
)
_STARTS: Final = Row(
    name="counterfoil_worker_starts_total",
    kind="counter",
    labels=(LABEL,),
    help="With `workers`: how often that one was started.",
)
TABLE: Final = (_UP, _STARTS)
"""What the supervisor tells itself."""


def merged(texts: Mapping[int, bytes], starts: Mapping[int, int]) -> bytes:
    """Of each worker that answered, its text; of each that there is, how often it was started."""
    return generate_latest(_Merged(texts, starts))


class _Merged(Collector):
    def __init__(self, texts: Mapping[int, bytes], starts: Mapping[int, int]) -> None:
        self._texts = texts
        self._starts = starts

    def collect(self) -> Iterator[Metric]:
        """Each family once, with the samples of all."""
        families: dict[str, Metric] = {}
        for worker, text in sorted(self._texts.items()):
            for given in text_string_to_metric_families(text.decode()):
                family = families.setdefault(
                    given.name, Metric(given.name, given.documentation, given.type)
                )
                for sample in given.samples:
                    labels = {**sample.labels, LABEL: str(worker)}
                    family.samples.append(sample._replace(labels=labels))
        yield from families.values()
        up = GaugeMetricFamily(_UP.name, _UP.help, labels=_UP.labels)
        counter = CounterMetricFamily(_STARTS.name, _STARTS.help, labels=_STARTS.labels)
        for worker, count in sorted(self._starts.items()):
            up.add_metric([str(worker)], int(worker in self._texts))
            counter.add_metric([str(worker)], count)
        yield up
        yield counter
