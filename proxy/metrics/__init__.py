"""What a monitoring system reads of the running server; the documentation's table is made from this one.

No metric says who asked, and none holds a value or a part of a request: labels are ids of reports, and
words of our own tables.

    counterfoil_decisions_total{report="sales/store-daily",decision="deny",reason="not-found"} 3.0
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Literal

from prometheus_client import CONTENT_TYPE_LATEST, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from proxy.audit.durations import BOUNDS, Durations
from proxy.audit.log import AccessLog
from proxy.gateway import Gateway
from proxy.readings import CAUSES
from proxy.reload import PolicyInForce

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """What is looked at."""

    policy: PolicyInForce
    gateway: Gateway
    log: AccessLog


Sample = tuple[tuple[str, ...], float | Durations]
"""The labels' values, and what is so."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row of the table of metrics."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    labels: tuple[str, ...] = ()
    help: str
    read: Callable[[Watched], Iterable[Sample]]


def _one(value: float) -> list[Sample]:
    return [((), value)]


def _decisions(watched: Watched) -> Iterator[Sample]:
    for report, count in watched.gateway.recorder.tally.reports.items():
        for reason, number in count.decisions.items():
            yield (report, "deny" if reason else "permit", reason), number


def _answers(watched: Watched) -> Iterator[Sample]:
    for report, count in watched.gateway.recorder.tally.reports.items():
        for ended, number in count.endings.items():
            yield (report, ended), number


def _drifting(watched: Watched) -> Iterator[Sample]:
    for report, kinds in watched.gateway.drifting.items():
        for kind, number in kinds.items():
            yield (report, kind), number


TABLE: Final = (
    Row(
        name="counterfoil_policy_info",
        kind="gauge",
        labels=("version",),
        help="1 for the version of the policy that is in force.",
        read=lambda w: [((w.policy.snapshot.version,), 1)],
    ),
    Row(
        name="counterfoil_policy_in_force_timestamp_seconds",
        kind="gauge",
        help="When that version was put in force.",
        read=lambda w: _one(w.policy.since),
    ),
    Row(
        name="counterfoil_policy_refused",
        kind="gauge",
        labels=("cause",),
        help="1 for the cause for which the folder's policy is not in force, and the last good one is.",
        read=lambda w: [((cause,), int(cause == w.gateway.stale)) for cause in CAUSES],
    ),
    Row(
        name="counterfoil_policy_reloads_total",
        kind="counter",
        labels=("outcome",),
        help="Readings of the folder, and grants and lockdowns: `taken`, `unchanged` or `refused`.",
        read=lambda w: [((outcome,), number) for outcome, number in w.policy.outcomes.items()],
    ),
    Row(
        name="counterfoil_drift_fields",
        kind="gauge",
        labels=("report", "kind"),
        help="Fields that a store gives (16 at most) or lacks otherwise than the catalogue declares:"
        " `undeclared-field` or `vanished-field`.",
        read=_drifting,
    ),
    Row(
        name="counterfoil_decisions_total",
        kind="counter",
        labels=("report", "decision", "reason"),
        help="Accesses decided and on record, `permit` or `deny`; what is about no report of the"
        " catalogue has the report `(none)`.",
        read=_decisions,
    ),
    Row(
        name="counterfoil_answers_total",
        kind="counter",
        labels=("report", "ended"),
        help="Answers by how they ended, `whole` or in the words of the access log's `ended`.",
        read=_answers,
    ),
    Row(
        name="counterfoil_released_rows_total",
        kind="counter",
        labels=("report",),
        help="Rows in answers that have ended, as they are on record: of a range, all that the answer has.",
        read=lambda w: [
            ((id_,), n.rows) for id_, n in w.gateway.recorder.tally.reports.items() if n.endings
        ],
    ),
    Row(
        name="counterfoil_released_bytes_total",
        kind="counter",
        labels=("report",),
        help="Bytes of their bodies.",
        read=lambda w: [
            ((id_,), n.bytes) for id_, n in w.gateway.recorder.tally.reports.items() if n.endings
        ],
    ),
    Row(
        name="counterfoil_answers_running",
        kind="gauge",
        help="Permitted requests whose answer is under way.",
        read=lambda w: _one(w.gateway.running),
    ),
    Row(
        name="counterfoil_unrecorded_total",
        kind="counter",
        help="Requests that were refused (503) since no record of them could be made.",
        read=lambda w: _one(w.gateway.recorder.tally.unrecorded),
    ),
    Row(
        name="counterfoil_log_healthy",
        kind="gauge",
        help="1 while the access log can be written; at 0 nothing is released.",
        read=lambda w: _one(int(w.log.healthy)),
    ),
    Row(
        name="counterfoil_log_events_total",
        kind="counter",
        help="Durable events of this process.",
        read=lambda w: _one(w.log.size),
    ),
    Row(
        name="counterfoil_log_commit_seconds",
        kind="histogram",
        help="From the moment when the first event of a commit was handed over until all were durable.",
        read=lambda w: [((), w.log.commits)],
    ),
    Row(
        name="counterfoil_log_waiting_events",
        kind="gauge",
        help="Events that wait to be durable.",
        read=lambda w: _one(w.log.waiting),
    ),
    Row(
        name="counterfoil_log_index_lag_events",
        kind="gauge",
        help="Durable events that the index for queries has not taken in yet.",
        read=lambda w: _one(w.log.lag),
    ),
)
"""Beside these, what the system knows of the process: `process_cpu_seconds_total` and its like."""

Readings = list[tuple[Row, list[Sample]]]


def readings(watched: Watched) -> Readings:
    """What is so now; in the thread that counts."""
    return [(row, list(row.read(watched))) for row in TABLE]


def exposition(given: Readings) -> bytes:
    """The same in Prometheus' text format, with what is known of the process; in any thread."""
    return generate_latest(_Given(given))


class _Given(Collector):
    """What was read, as prometheus_client wants it."""

    def __init__(self, given: Readings) -> None:
        self._given = given

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
        yield from ProcessCollector(registry=None).collect()


def _histogram(row: Row, samples: Iterable[Sample]) -> Metric:
    family = HistogramMetricFamily(row.name, row.help, labels=row.labels)
    for labels, value in samples:
        assert isinstance(value, Durations)
        bounds = (*map(str, BOUNDS), "+Inf")
        buckets = list(zip(bounds, accumulate(value.counts), strict=True))
        family.add_metric(labels, buckets, sum_value=value.total)
    return family
