"""What a monitoring system reads of the running server, in Prometheus' words.

    counterfoil_decisions_total{report="sales/store-daily",decision="deny",reason="not-found"} 3.0

table.py      what there is                 listener.py   where it is read
workers.py    the same of all processes
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from proxy.audit.durations import BOUNDS, Durations
from proxy.metrics.table import TABLE, Row, Sample
from proxy.metrics.watched import Watched

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

Readings = list[tuple[Row, list[Sample]]]


def readings(watched: Watched) -> Readings:
    """What is so now; in the thread that counts."""
    return [(row, list(row.read(watched))) for row in TABLE]


def exposition(given: Readings, *, process: bool = True) -> bytes:
    """The same in Prometheus' text format, with what is known of the `process`; in any thread."""
    return generate_latest(_Given(given, process=process))


class _Given(Collector):
    """What was read, as prometheus_client wants it."""

    def __init__(self, given: Readings, *, process: bool) -> None:
        self._given = given
        self._process = process

    def collect(self) -> Iterator[Metric]:
        """Its families."""
        for row, samples in self._given:
            match row.kind:
                case "histogram":
                    yield _histogram(row, samples)
                case "counter":
                    counter = CounterMetricFamily(row.name, row.help, labels=row.labels)
                    for labels, value in samples:
                        assert not isinstance(value, Durations)
                        counter.add_metric(labels, value)
                    yield counter
                case "gauge":
                    gauge = GaugeMetricFamily(row.name, row.help, labels=row.labels)
                    for labels, value in samples:
                        assert not isinstance(value, Durations)
                        gauge.add_metric(labels, value)
                    yield gauge
        if self._process:
            yield from ProcessCollector(registry=None).collect()


def _histogram(row: Row, samples: Iterable[Sample]) -> Metric:
    family = HistogramMetricFamily(row.name, row.help, labels=row.labels)
    for labels, value in samples:
        assert isinstance(value, Durations)
        bounds = (*map(str, BOUNDS), "+Inf")
        buckets = list(zip(bounds, accumulate(value.counts), strict=True))
        family.add_metric(labels, buckets, sum_value=value.total)
    return family
