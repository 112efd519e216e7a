"""The table of metrics, from which the documentation's is made: what each is, and where it is read.

No metric says who asked, and none holds a value or a part of a request: labels are ids of reports and
keys, issuers of subjects.yaml, stores of reports.yaml, and words of our own tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from proxy.alarms.kinds import Kind
from proxy.audit.durations import Durations
from proxy.gateway.connections import CAUSES as CONNECTION_CAUSES
from proxy.metrics.watched import Watched
from proxy.readings import CAUSES
from proxy.rotation import CAUSES as KEYS_CAUSES
from proxy.tls import PARTS
from proxy.upstream.breaker import STATES
from proxy.upstream.live import OUTCOMES, Live

Sample = tuple[tuple[str, ...], float | Durations]
"""The labels' values, and what is so."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row of the table of metrics."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    labels: tuple[str, ...] = ()
    help: str
    read: Callable[[Watched], Iterable[Sample]] = lambda _: ()


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


def _revocations(watched: Watched) -> list[Sample]:
    authorities = watched.tls.authorities
    until = None if authorities is None else authorities.lists_end
    return [] if until is None else _one(until)


def _fetches(watched: Watched) -> Iterator[Sample]:
    for issuer, fetches in watched.gateway.snapshot.identities.fetches():
        for (what, good), number in fetches.items():
            yield (issuer, what, "good" if good else "failed"), number


def _fetched(watched: Watched) -> Iterator[Sample]:
    for source in watched.gateway.snapshot.identities.remote():
        yield (source.issuer,), source.fetched if source.keys is not None else 0


def _of_stores(
    name: str, kind: Literal["gauge", "counter"], said: str, read: Callable[[Live], float]
) -> Row:
    """One number of each store."""
    return Row(
        name=name,
        kind=kind,
        labels=("store",),
        help=said,
        read=lambda w: [((each.store.name,), read(each)) for each in w.gateway.stores],
    )


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
        name="counterfoil_keys_info",
        kind="gauge",
        labels=("seals", "names"),
        help="1 for the ids of the keys that seal values and name subjects.",
        read=lambda w: [((w.keys.keyring.sealing, w.keys.keyring.naming), 1)],
    ),
    Row(
        name="counterfoil_keys_refused",
        kind="gauge",
        labels=("cause",),
        help="1 for the cause for which the file's keyring is not in force, and the last good one is.",
        read=lambda w: [((cause,), int(cause == w.gateway.keys_stale)) for cause in KEYS_CAUSES],
    ),
    Row(
        name="counterfoil_tls_certificate_end_timestamp_seconds",
        kind="gauge",
        help="When the server's certificate ends.",
        read=lambda w: [] if w.tls.ends is None else _one(w.tls.ends),
    ),
    Row(
        name="counterfoil_tls_revocations_end_timestamp_seconds",
        kind="gauge",
        help="When the first list of revoked client certificates ends, and with it all of its authority's.",
        read=_revocations,
    ),
    Row(
        name="counterfoil_tls_refused",
        kind="gauge",
        labels=("part",),
        help="1 where files of `listen` are not in force, and the last good ones are: `certificate` with"
        " its key, or those of `clients`.",
        read=lambda w: [((part,), int(part in w.tls.untaken)) for part in PARTS],
    ),
    Row(
        name="counterfoil_connections",
        kind="gauge",
        help="Connections of clients.",
        read=lambda w: _one(w.connections.open),
    ),
    Row(
        name="counterfoil_connections_refused_total",
        kind="counter",
        labels=("cause",),
        help="Connections that were closed without an answer, failed TLS handshakes among them.",
        read=lambda w: [((cause,), w.connections.refused[cause]) for cause in CONNECTION_CAUSES],
    ),
    Row(
        name="counterfoil_issuer_requests_total",
        kind="counter",
        labels=("issuer", "what", "outcome"),
        help="Requests to the issuers of subjects.yaml, for `discovery`, `keys` or `introspection`: `good`"
        " or `failed`.",
        read=_fetches,
    ),
    Row(
        name="counterfoil_issuer_keys_timestamp_seconds",
        kind="gauge",
        labels=("issuer",),
        help="When the keys of an issuer were fetched last that are not in a file; 0 where there are none.",
        read=_fetched,
    ),
    Row(
        name="counterfoil_store_state",
        kind="gauge",
        labels=("store", "state"),
        help="1 for what a store is: `closed` is asked, `open` has failed and is left alone, `half-open` is"
        " asked by one request.",
        read=lambda w: [
            ((each.store.name, state), int(state == each.breaker.state))
            for each in w.gateway.stores
            for state in STATES
        ],
    ),
    Row(
        name="counterfoil_store_requests_total",
        kind="counter",
        labels=("store", "outcome"),
        help="Requests to a store: `answered`, with an error of its own too; `failed`: no answer, or one that"
        " broke off; not asked, for it was left alone (`suspended`) or had too much to do (`crowded`).",
        read=lambda w: [
            ((each.store.name, outcome), each.outcomes[outcome])
            for each in w.gateway.stores
            for outcome in OUTCOMES
        ],
    ),
    _of_stores(
        "counterfoil_store_retries_total",
        "counter",
        "How often a request was sent again of which nothing had come.",
        lambda each: each.retried,
    ),
    _of_stores(
        "counterfoil_store_requests_running",
        "gauge",
        "Requests to a store that are under way.",
        lambda each: each.room.running,
    ),
    _of_stores(
        "counterfoil_store_requests_waiting",
        "gauge",
        "Requests that wait until fewer are under way.",
        lambda each: each.room.waiting,
    ),
    _of_stores(
        "counterfoil_store_answered_timestamp_seconds",
        "gauge",
        "When a store answered last; 0 where it did not yet.",
        lambda each: each.last_answer,
    ),
    _of_stores(
        "counterfoil_store_failed_timestamp_seconds",
        "gauge",
        "When a store failed last; 0 where it did not yet.",
        lambda each: each.last_failure,
    ),
    Row(
        name="counterfoil_store_credential_failures",
        kind="gauge",
        labels=("store",),
        help="How often in a row a store's credential could not be had: its file read, its command run, its"
        " token asked for.",
        read=lambda w: [
            ((each.store.name,), each.credential.failures)
            for each in w.gateway.stores
            if each.credential is not None
        ],
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
    Row(
        name="counterfoil_log_unpublished_events",
        kind="gauge",
        help="Durable events that no signed checkpoint covers yet.",
        read=lambda w: _one(w.log.unpublished),
    ),
    Row(
        name="counterfoil_log_retaining_failures",
        kind="gauge",
        help="Places that do not take checkpoints of the log now.",
        read=lambda w: _one(len(w.retaining.failures)),
    ),
    Row(
        name="counterfoil_log_verified_timestamp_seconds",
        kind="gauge",
        help="When the server last saw the access log to be whole; 0 where it did not yet, or is not the"
        " process that looks.",
        read=lambda w: _one(w.verifying.verified_at),
    ),
    Row(
        name="counterfoil_log_verifier_failed",
        kind="gauge",
        help="1 where the server saw it not to be whole, or could not look, the last time.",
        read=lambda w: _one(int(bool(w.verifying.wrong))),
    ),
    Row(
        name="counterfoil_alarms_total",
        kind="counter",
        labels=("kind",),
        help="Alarms that were told, by kind, see Alarms.",
        read=lambda w: [((kind.slug,), w.alarms.raised[kind.slug]) for kind in Kind],
    ),
    Row(
        name="counterfoil_alarms_waiting",
        kind="gauge",
        help="Alarms that the webhook has not taken yet.",
        read=lambda w: _one(w.webhook.waiting if w.webhook else 0),
    ),
    Row(
        name="counterfoil_alarms_dropped_total",
        kind="counter",
        help="Alarms that were lost, since too many waited.",
        read=lambda w: _one(w.alarms.dropped + (w.webhook.dropped if w.webhook else 0)),
    ),
    Row(
        name="counterfoil_traces_dropped_total",
        kind="counter",
        help="Traces that were lost: too many waited, or their receiver refused them.",
        read=lambda w: _one(w.exporter.dropped if w.exporter else 0),
    ),
)
"""Beside these, what the system knows of the process: `process_cpu_seconds_total` and its like."""
