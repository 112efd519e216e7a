"""What evidence of released rows costs, and how large it is: the demo's sales, all rows of them.

The same view is made with and without a witness, in one thread, of the document in the gateway's pieces:
decoded, transformed, encoded, cut into blocks. Rounds are interleaved, and time is the process's own, so that
the difference is what evidence costs. `alice` is given all rows, under no condition on rows; `sam` those of
two stores. What a small answer pays is the witness's own time on ten records.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from benchmarks.figures import Figure, interleaved
from proxy import demo, transform
from proxy.demo.sales import Sales
from proxy.evidence.witness import Witness
from proxy.formats import FORMATS
from proxy.formats.base import Limits, Reading
from proxy.gateway.view import Cutter, Steps, View
from proxy.keys import Keyring
from proxy.plan import Context, Permit
from proxy.policy.decide import decide
from proxy.policy.rules import MODEL
from proxy.report import FormatName
from proxy.snapshot import snapshot_of
from proxy.spool import Spools
from proxy.subject import Subject

ROUNDS = 5
PIECE = 1 << 22
SMALL = 10
REPORT = "sales/store-daily"
PEOPLE = {"alice": ("group:sales-analysts", ()), "sam": ("group:store-owners", ("2191", "2192"))}


class Made:
    """One person's view of the report in one format."""

    def __init__(self, who: str, kind: FormatName) -> None:
        group, stores = PEOPLE[who]
        folder = Path(demo.__file__).parent / "policies"
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        snapshot = snapshot_of({**files, "model.conf": MODEL.encode()})
        report = snapshot.catalogue.reports[REPORT]
        now = datetime.now(UTC)
        subject = Subject(
            user=f"user:{who}", groups=(group,), tool="tool:demo-cli",
            attributes={"stores": stores}, expires=now.timestamp() + 600,
        )  # fmt: skip
        self.context = Context(
            attributes=subject.attributes, now=now, date=now.date(), ip="127.0.0.1", purpose="",
            tool="demo-cli", action="read", method="GET",
        )  # fmt: skip
        decision = decide(snapshot.policy, subject=subject, report=report, context=self.context)
        assert isinstance(decision, Permit), decision
        self.permit = decision
        self.keyring = Keyring.generate()
        variants = [each for each in report.variants if each.stored.format is kind]
        self.dialect = variants[0].stored

    def view(self, *, witnessed: bool) -> View:
        """It, with or without a witness."""
        report = self.permit.report
        format_ = FORMATS[self.dialect.format]
        bound = transform.bind(
            self.permit.plan,
            context=self.context,
            subject=self.permit.subject.name,
            keyring=self.keyring,
        )
        decoder = format_.decoder(
            Reading(
                report=report, dialect=self.dialect, reads=self.permit.plan.reads, limits=Limits(),
                spools=Spools(most=1 << 26, most_each=1 << 26),
                beside=frozenset(report.found_by if witnessed else ()),
            )
        )  # fmt: skip
        return View(
            Steps(
                decoder=decoder,
                transform=bound,
                encoder=format_.encoder(bound.columns, self.dialect),
                digest=self.keyring.mac("audit-digest").start(),
                witness=Witness.of(report, self.keyring) if witnessed else None,
            )
        )

    def run(self, document: bytes, *, witnessed: bool) -> tuple[int, int]:
        """Bytes of evidence, and the rows that it is of."""
        view = self.view(witnessed=witnessed)
        cutter, size, rows = Cutter(view), 0, 0
        works = [
            w
            for at in range(0, len(document), PIECE)
            for w in view.records(document[at : at + PIECE])
        ]
        blocks = [
            b for w in (*works, *view.rest()) for part in view.parts(w) for b in cutter.add(part)
        ]
        for block in (*blocks, *cutter.end()):
            size, rows = size + len(block.evidence), block.rows
        return size, rows

    def seconds(self, document: bytes, *, witnessed: bool) -> float:
        """How long that takes, of this process's time."""
        started = time.process_time()
        self.run(document, witnessed=witnessed)
        return time.process_time() - started


def run() -> Iterator[Figure]:
    """The figures."""
    sales = Sales()
    documents = {
        FormatName.CSV: sales.store_daily_csv().body,
        FormatName.JSON: sales.store_daily_json().body,
    }
    for kind, document in documents.items():
        for who in PEOPLE:
            made = Made(who, kind)
            size, rows = made.run(document, witnessed=True)
            name = f"evidence {kind} {who}"
            yield Figure(name=f"{name} size", value=size / rows, unit="bytes/row", better="less")
            works = {
                word: partial(made.seconds, document, witnessed=word == "with")
                for word in ("with", "without")
            }
            took = interleaved(works, rounds=ROUNDS)
            megabytes = len(document) / 1e6
            cost = min(took["with"]) - min(took["without"])
            yield Figure(
                name=f"{name} cost", value=1e3 * cost / megabytes, unit="ms/MB", better="less"
            )
            share = min(took["with"]) / min(took["without"])
            yield Figure(name=f"{name} time", value=share, unit="x without", better="less")
    yield Figure(name="evidence of ten rows", value=_small(), unit="µs", better="less")


def _small() -> float:
    """Microseconds for the evidence of a small answer."""
    made = Made("alice", FormatName.JSON)
    rows = b",\n".join(Sales().store_daily_json().rows.split(b",\n")[:SMALL])
    view = made.view(witnessed=True)
    batches = [b for w in (*view.records(b"[" + rows + b"]"), *view.rest()) for b in w()]
    bound = transform.bind(
        made.permit.plan, context=made.context, subject="user:alice", keyring=made.keyring
    )
    witness = Witness.of(made.permit.report, made.keyring)
    assert witness is not None
    (given,) = [found for batch in batches if (found := bound.apply(batch)).source.height]
    assert given.source.height == SMALL
    best = float("inf")
    for _ in range(200):
        started = time.perf_counter()
        for _ in range(20):
            witness.piece(given.source, bound.shapes(given))
        best = min(best, time.perf_counter() - started)
    return 1e6 * best / 20
