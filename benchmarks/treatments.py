"""Every treatment on columns of 200,000 cells: cells a second of one core, with the bare primitive beside.

What is measured is the stage in which a plan's forms are given, as a request has it: the CSV decoder's
batches of a document that comes in the gateway's pieces, each put through `Transform.apply`, under a plan
that grants one field in one form and nothing else, bound to a keyring of its own, so that nothing is known
of any cell when the document begins. So in the time are: the field cut out of the document's bytes, each
cell or each distinct one treated, remembered or met again, and the column in the form that the encoder
takes; of `suppress` also what counts the rows before. Not in it are: finding the records and writing the
answer, which are the formats' matter. `clear` takes nothing out of the document at all.

    few       1,333 licence numbers, `AB-1234-77`, over and over
    distinct  as many licence numbers as cells
    cards     as many numbers of 16 digits in fours, `4000 1234 5678 9010`
    integers  as many of ten digits
    days      the days of ten years, over and over; `shift` takes them for persons too
    amounts   decimals with two digits after the point, `1843.07`, few of them twice
    records   licence numbers as `few`, of rows with three key fields to which each cell is bound, and two
              others that it carries, for a `reveal` line looks at them

The primitives are called once a value, by a loop in Python over the same texts: AES-256-GCM-SIV (seal, with
a nonce from one draw for all, and associated data of the same length; also on as much as a cell of
`records` seals), HMAC-SHA-256, FF1 by libffx. Time is
the process's on all its cores, so that a second core is no gain; works are interleaved.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import partial

import ffx
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from benchmarks.figures import Figure, interleaved, ratio
from proxy import transform
from proxy.batch import Batch
from proxy.catalogue import Catalogue
from proxy.formats import FORMATS
from proxy.formats.base import Limits, Reading
from proxy.keys import NONCE_BYTES, Keyring
from proxy.plan import Context, Permit, Plan
from proxy.policy.decide import decide
from proxy.policy.rules import MODEL
from proxy.policy.source import load
from proxy.report import Dialect, FormatName
from proxy.spool import Spools
from proxy.subject import Subject
from proxy.treatments import TABLE, parse
from proxy.treatments.groups import Tally

CELLS = 200_000
FEW = 1_333
ROUNDS = 3
BARE = 40_000
"""Cells of which the primitives' time is taken."""
FIRST_PIECE, PIECE = 1 << 16, 1 << 22
FIELD = "value"
CSV = Dialect(format=FormatName.CSV)

MILLIONS = 5e6
BOUND = "encrypt records"
CARRYING = 103, 111
"""Bytes that are sealed of each of these records: the value, two fields, their names; and what binds it."""
MEASURED: tuple[tuple[str, str, float | None], ...] = (
    ("clear", "few", None),
    ("suppress(5, by='value')", "few", None),
    ("suppress(5, by='value')", "distinct", None),
    ("round(100)", "amounts", MILLIONS),
    ("round(0.5)", "amounts", MILLIONS),
    ("bucket(0|100|1000)", "amounts", None),
    ("truncate('month')", "days", None),
    ("shift(days=30, per='value')", "days", None),
    ("partial(last=4)", "few", MILLIONS),
    ("partial(last=4)", "distinct", MILLIONS),
    ("tokenise", "few", MILLIONS),
    ("tokenise", "distinct", 40_000),
    ("tokenise(alphabet='digits')", "cards", 40_000),
    ("tokenise(alphabet='upper')", "distinct", 40_000),
    ("tokenise", "integers", 40_000),
    ("pseudonym", "few", MILLIONS),
    ("pseudonym", "distinct", None),
    ("encrypt", "few", None),
    ("encrypt", "distinct", None),
    ("constant('n/a')", "few", MILLIONS),
    ("redact", "few", MILLIONS),
    ("redact", "distinct", MILLIONS),
)
"""Form, column, and the bar in cells a second; of a column without repetitions cells are distinct values."""
REPORTS = """\
stores:
  bench: {{url: "http://127.0.0.1:1", loopback: true, credential: null}}
reports:
  bench/column:
    title: One column
    store: bench
    variants: [{{path: /column.csv, format: csv}}]
    fields: {{value: {{type: {type}, class: confidential}}}}
"""
KEYED = """\
stores:
  bench: {{url: "http://127.0.0.1:1", loopback: true, credential: null}}
reports:
  bench/column:
    title: Records
    store: bench
    key: [day, shop, item]
    variants: [{{path: /column.csv, format: csv}}]
    fields:
      day: {{type: date, class: public}}
      shop: {{type: text, class: public}}
      item: {{type: text, class: public}}
      units: {{type: integer, class: public}}
      amount: {{type: decimal, class: public}}
      value: {{type: {type}, class: confidential}}
"""
REVEALED = """\
p2, role:reader, bench/column, true, day|shop|item, clear
p2, role:reader, bench/column, row.units < 0 or row.amount > 9000, value, reveal
p,  role:reader, bench/column, reveal, true, allow
"""
RULES = """\
p,  role:reader, bench/column, read, true, allow
p,  tool:app, bench/column, act, true, allow
p2, role:reader, bench/column, true, value, {form}
g,  user:u, role:reader
"""


def columns() -> dict[str, tuple[str, list[str]]]:
    """Name -> type and cells."""
    chance = random.Random(5)

    def licences(count: int) -> list[str]:
        letters = [a + b for a in "ABCDEFGHKLMNPQRSTUVWXYZ" for b in "ABCDEFGHKLMNPQRSTUVWXYZ"]
        numbers = chance.sample(range(len(letters) * 10**6), count)
        return [f"{letters[n // 10**6]}-{n // 100 % 10**4:04d}-{n % 100:02d}" for n in numbers]

    digits = [f"{n:016d}" for n in chance.sample(range(10**16), CELLS)]
    return {
        "few": ("text", chance.choices(licences(FEW), k=CELLS)),
        "distinct": ("text", licences(CELLS)),
        "cards": ("text", [f"{d[:4]} {d[4:8]} {d[8:12]} {d[12:]}" for d in digits]),
        "integers": ("integer", [str(n) for n in chance.sample(range(10**9, 10**10), CELLS)]),
        "days": (
            "date",
            [str(date(2017, 1, 1) + timedelta(chance.randrange(3652))) for _ in range(CELLS)],
        ),
        "amounts": ("decimal", [f"{chance.randrange(10**7) / 100:.2f}" for _ in range(CELLS)]),
    }


def records(values: list[str]) -> bytes:
    """The values in rows of three key fields, which name a row, and two other fields."""
    chance = random.Random(7)
    rows = (
        f"{date(2026, 1, 1) + timedelta(n // FEW)},{2000 + n % FEW},SKU-{chance.randrange(200):04d},"
        f"{chance.randrange(-3, 40)},{chance.randrange(10**6) / 100:.2f},{value}\n"
        for n, value in enumerate(values)
    )
    return f"day,shop,item,units,amount,{FIELD}\n{''.join(rows)}".encode()


class Stage:
    """One form of one column, from permit to treated batches."""

    def __init__(self, form: str, type_: str, document: bytes, *, keyed: bool = False) -> None:
        catalogue = Catalogue.load(
            (KEYED if keyed else REPORTS).format(type=type_).encode(),
            file="reports.yaml", environment={}, folder=None,
        )  # fmt: skip
        self.context = _context()
        decided = load(
            {
                "model.conf": MODEL.encode(),
                "policy.csv": (RULES.format(form=form) + REVEALED * keyed).encode(),
            },
            reports=catalogue.reports, classes=catalogue.classes, purposes=catalogue.purposes,
            attributes={}, version="0" * 64,
        )  # fmt: skip
        report = catalogue.reports["bench/column"]
        subject = Subject(
            user="user:u", tool="tool:app", expires=self.context.now.timestamp() + 600
        )
        decision = decide(decided, subject=subject, report=report, context=self.context)
        assert isinstance(decision, Permit), decision
        self.plan: Plan = decision.plan
        self.document = document

    def batches(self) -> list[Batch]:
        """The document's records as the decoder gives them, in the gateway's pieces."""
        decoder = FORMATS[FormatName.CSV].decoder(
            Reading(
                report=self.plan.report, dialect=CSV, reads=self.plan.reads, limits=Limits(),
                spools=Spools(most=1 << 20, most_each=1 << 20),
            )
        )  # fmt: skip
        found: list[Batch] = []
        start, size = 0, FIRST_PIECE
        while start < len(self.document):
            works = decoder.cut(self.document[start : start + size])
            found += [batch for work in works for batch in work()]
            start, size = start + size, min(2 * size, PIECE)
        return found + [batch for work in decoder.finish() for batch in work()]

    def __call__(self) -> float:
        """Cells a second."""
        batches, keyring = self.batches(), Keyring.generate()
        counting, again = self.plan.counting, self.batches()
        started = time.process_time()
        groups = None
        if counting is not None:
            tally = Tally(counting, self.plan.report.types, most=1 << 30)
            for batch in again:
                tally.count(batch)
            groups = tally.groups()
        bound = transform.bind(
            self.plan, context=self.context, subject="user:u", keyring=keyring, groups=groups
        )
        heights = [bound.apply(batch).batch.height for batch in batches]
        took = time.process_time() - started
        assert sum(heights) == CELLS
        return CELLS / took


def _context() -> Context:
    now = datetime(2026, 11, 28, tzinfo=UTC)
    return Context(
        attributes={}, now=now, date=now.date(), ip="127.0.0.1", purpose="", tool="app",
        action="read", method="GET",
    )  # fmt: skip


def _timed(work: Callable[[str], object], cells: list[str]) -> float:
    started = time.process_time()
    for cell in cells:
        work(cell)
    return len(cells) / (time.process_time() - started)


def _sealing(cells: list[str], size: int = 0, bound: int = 64) -> float:
    """AES-256-GCM-SIV by itself, and nothing put together; of so many bytes at least, bound to so many."""
    plaintexts = [cell.encode().ljust(size, b"\0") for cell in cells]
    seal = AESGCMSIV(os.urandom(32)).encrypt
    associated = bytes(bound)
    started = time.process_time()
    drawn = os.urandom(NONCE_BYTES * len(plaintexts))
    for at, plaintext in enumerate(plaintexts):
        seal(drawn[NONCE_BYTES * at : NONCE_BYTES * (at + 1)], plaintext, associated)
    return len(cells) / (time.process_time() - started)


def primitives(cells: list[str]) -> Mapping[str, Callable[[], float]]:
    """What the keyed treatments are made of, value by value."""
    digest = Keyring.generate().mac("pseudonym", "bench").digest
    digits = ["".join(filter(str.isdigit, cell)) for cell in cells]
    ff1 = ffx.FF1(os.urandom(32), radix=10)
    return {
        "aes-gcm-siv": partial(_sealing, cells),
        "aes-gcm-siv-carrying": partial(_sealing, cells, *CARRYING),
        "hmac-sha-256": partial(_timed, lambda cell: digest(cell.encode()), cells),
        "ff1-libffx": partial(
            _timed, partial(ff1.encrypt, tweak=b"12345678"), digits[: BARE // 10]
        ),
    }


def run() -> Iterator[Figure]:
    """Medians over the rounds; the ratio of sealing round by round."""
    if missing := set(TABLE) - {parse(form).name for form, _, _ in MEASURED}:
        raise RuntimeError(f"no column is measured in the form {', '.join(sorted(missing))}")
    cells = columns()
    documents = {
        name: f"{FIELD}\n{chr(10).join(texts)}\n".encode() for name, (_, texts) in cells.items()
    }
    works: dict[str, Callable[[], float]] = {
        f"{form} {column}": Stage(form, cells[column][0], documents[column])
        for form, column, _ in MEASURED
    }
    works[BOUND] = Stage("encrypt", "text", records(cells["few"][1]), keyed=True)
    works |= primitives(cells["cards"][1][:BARE])
    measured = interleaved(works, rounds=ROUNDS)
    for form, column, bar in MEASURED:
        rates = sorted(measured[f"{form} {column}"])
        yield Figure(
            name=f"{form}-{column}".replace(" ", ""),
            value=rates[len(rates) // 2] / 1e6,
            unit="Mcells/s",
            bar=None if bar is None else bar / 1e6,
        )
    for name in ("aes-gcm-siv", "aes-gcm-siv-carrying", "hmac-sha-256", "ff1-libffx"):
        rates = sorted(measured[name])
        yield Figure(name=f"bare-{name}", value=rates[len(rates) // 2] / 1e6, unit="Mcells/s")
    yield Figure(
        name="encrypt-records", value=sorted(measured[BOUND])[ROUNDS // 2] / 1e6, unit="Mcells/s"
    )
    compared = (
        ("encrypt distinct", "aes-gcm-siv", 2.5),
        (BOUND, "aes-gcm-siv-carrying", None),  # five more fields are cut out of the document
        (BOUND, "aes-gcm-siv", None),
    )
    for work, primitive, bar in compared:
        yield Figure(
            name=f"{work}-to-bare-{primitive}".replace(" ", "-"),
            value=ratio(measured[primitive], measured[work]),
            unit="×",
            bar=bar,
            better="less",
        )
