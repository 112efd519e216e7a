"""Every form of a cell, from every format into every other, against the naive reference evaluator.

The store's documents are written, and the answers read, by libraries that nobody here wrote.
"""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest

from proxy.formats import FORMATS
from proxy.keys import Keyring
from proxy.report import Dialect, FormatName
from proxy.treatments import detokenise, opened, parse
from tests.harness.streams import ended, feed, joined
from tests.matrix.others import READERS, WRITERS
from tests.reference import product
from tests.reference.conditions import Condition, parsed
from tests.reference.documents import Datum, token_of
from tests.reference.evaluator import Source, evaluate
from tests.reference.forms import Form
from tests.reference.nouns import (
    AccessLine,
    CellLine,
    Field,
    Fields,
    Report,
    Requester,
    Rules,
    World,
)

TYPES = {
    "key": "text",
    "word": "text",
    "units": "integer",
    "price": "decimal",
    "sold": "boolean",
    "day": "date",
    "at": "datetime",
    "part": "text",
}
ROWS = [
    dict(zip(TYPES, row, strict=True))
    for row in [
        ("a-1", "plain", "5", "12.5", "true", "2026-11-28", "2026-11-28T14:20:00Z", "x"),
        ("a-2", 'with, "quotes"\nand a line', "-17", "-0.25", "false", "2024-02-29", "1999-12-31T23:59:59Z", "y"),
        ("b-3", "hidden", "99", "1.75", "true", "2026-01-02", "2026-01-02T03:04:05Z", "x"),
        ("b-4", None, None, None, None, None, None, None),
        ("c-5", "Ünïcode ☃ 𝄞 =1+1", "2147483000", "98765432.1234", "true", "1970-01-01", "2000-01-01T00:00:00Z", "x"),
        ("c-6", "007", "0", "0.0625", "false", "9999-12-31", "2026-06-30T12:00:00Z", "z"),
        ("d-7", "null", "1", "150", "true", "2026-11-27", "2026-11-27T00:00:01Z", "y"),
    ]
]  # fmt: skip
FORMS = [
    Form("clear"),
    Form("suppress", (2, ("part",))),
    Form("round", ("100",)),
    Form("round", ("0.05",)),
    Form("round", ("25",)),
    Form("round", ("0.5",)),
    Form("bucket", ("-0.25", "1.75", "12.50", "100", False)),
    Form("bucket", ("0", "100", True)),
    Form("bucket", ("2024-02-29", "2026-01-02", False)),
    Form("truncate", ("quarter",)),
    Form("truncate", ("hour",)),
    Form("shift", (30, "key")),
    Form("partial", (1, 2, "*")),
    Form("tokenise", ("pattern", None)),
    Form("tokenise", ("upper", None)),
    Form("pseudonym", (None, None)),
    Form("encrypt"),
    Form("constant", ("n/a", True)),
    Form("constant", ("7", False)),
    Form("redact"),
]
KEYRING = Keyring.generate()
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
SEEN = Condition("!=", (Condition("row", ("word",)), Condition("text", ("hidden",))))
ANY, FALSE = Condition("true"), Condition("false")


def world_of(form: Form, rows=ROWS) -> World:
    """A report of which every field that takes the form has it, in the rows that are not hidden.

    No row is, where rows are counted: what looks at rows would tell of groups that are hidden.
    """
    seen = ANY if form.name == "suppress" else SEEN
    fields = tuple(Field(name, type_, "public") for name, type_ in TYPES.items())
    lines = [
        CellLine("role:r", "sales", ANY if name == "key" else seen, Fields((name,)),
                 form if name != "key" and form.takes(type_) else Form("clear"))
        for name, type_ in TYPES.items()
    ]  # fmt: skip
    unseen = FALSE if seen == ANY else Condition("not", (seen,))
    hidden = CellLine("role:r", "sales", unseen, Fields(("key",)), None)
    return World(
        reports=(Report("sales", fields, key=("key",)),),
        rules=Rules(
            access=(AccessLine("role:r", "sales", "read", ANY, "allow"),),
            cells=(*lines, hidden),
            members=(("user:u", "role:r"),),
        ),
        requester=Requester("user:u"),
        rows=tuple(
            {name: Datum(text, token_of(text, TYPES[name])) for name, text in row.items()}
            for row in rows
        ),
    )


def through(view, document, given, taken):
    """What a reader finds in the answer: column names, and each row's cells."""
    bound = view.bound(view.groups(Dialect(format=given), document))
    decoder = view.decoder_of(Dialect(format=given))
    encoder = FORMATS[taken].encoder(bound.columns, Dialect(format=taken))
    out = b""
    for batches in (feed(decoder, document), ended(decoder)):
        encoder.source_types = decoder.source_types
        out += b"".join([joined(encoder, bound.apply(batch).batch) for batch in batches])
    return READERS[taken](out + encoder.finish())


def is_moved(got, text, type_):
    """Whether a day or an instant was moved by 1 to 30 whole days; at the end of the calendar there is none."""
    if got is None or text is None:
        return text in (None, "9999-12-31") and got is None
    by = parsed(got, type_) - parsed(text, type_)
    return by % timedelta(days=1) == timedelta() and 1 <= abs(by.days) <= 30


@pytest.fixture(scope="module", params=FORMS, ids=str)
def granted(request):
    """A view, and the rows that the reference gives of it."""
    world = world_of(request.param)
    view = product.view(world, KEYRING, NOW)
    sources = [{name: Source(text, text) for name, text in row.items()} for row in ROWS]
    meant = evaluate(world.rules, world.report, world.requester, sources, NOW)
    assert view is not None
    assert meant is not None
    return view, meant


@pytest.mark.parametrize(
    ("given", "taken"), [*itertools.product(FormatName, FormatName)], ids=lambda name: name.value
)
def test_what_the_reference_gives_is_what_a_reader_finds(granted, given, taken):
    """The same rows, columns, forms and values, whatever the store's format and the requester's."""
    view, meant = granted
    names, rows = through(view, WRITERS[given](TYPES, ROWS), given, taken)
    assert names == [name for name, _ in meant.columns]
    assert len(rows) == len(meant.released)
    for row, cells in zip(rows, meant.released, strict=True):
        for (name, type_), got in zip(meant.columns, row, strict=True):
            cell = cells[name]
            if cell.kind == "absent":
                assert got is None
            elif cell.kind == "encrypt":
                found = opened(got, view.site(name), {"key": row[0]}).text if got else None
                assert parsed(found, TYPES[name]) == parsed(cell.text, TYPES[name])
            elif cell.kind == "tokenise" and cell.text is not None:
                back = detokenise(parse(str(cell.form)), got, view.site(name), key_id=None)
                assert back == cell.text
            elif cell.kind == "shift":
                assert is_moved(got, cell.text, TYPES[name])
            elif cell.kind == "pseudonym":
                assert (got is None) == (cell.text is None)
                assert got != cell.text or got is None
            elif type_ == "text":
                assert (got or None) == (cell.text or None), name
            else:
                assert parsed(got, type_) == parsed(cell.text, type_), (name, got, cell.text)


# ── numbers ──

TIES = [
    dict.fromkeys(TYPES)
    | {"key": f"k{n}", "word": "plain", "units": str(units), "price": f"{price:.4f}"}
    for n, (units, price) in enumerate(
        (half + off, Decimal(half + off) / 4 + Decimal(hair) / 10**4)
        for half in range(-300, 301, 5)
        for off, hair in ((0, 0), (1, 0), (0, 1), (0, -1), (-1, 0))
    )
]
"""Numbers half-way between multiples of 10 and of 2.5, on edges, and a hair beside them: 605 rows."""
EDGES = ("-72.50", "-10", "0", "12.5", "50.00")


def rounded(text: str, step: str) -> Fraction:
    """The multiple that is nearest, of two the even one."""
    count = Fraction(text) / Fraction(step)
    below = count.numerator // count.denominator
    over = count - below
    up = over > Fraction(1, 2) or (over == Fraction(1, 2) and below % 2 == 1)
    return (below + up) * Fraction(step)


def interval(text: str) -> str:
    """The one interval that holds a number: all are looked at."""
    number = Fraction(text)
    ends = [None, *EDGES, None]
    (held,) = [
        (low, high)
        for low, high in itertools.pairwise(ends)
        if (low is None or Fraction(low) <= number) and (high is None or number < Fraction(high))
    ]
    low, high = held
    return f"<{high}" if low is None else f">={low}" if high is None else f"[{low}, {high})"


@pytest.fixture(scope="module")
def on_numbers():
    """Views of the rows of `TIES`: rounded to multiples of 10, of 2.5, and in intervals."""
    forms = (Form("round", ("10",)), Form("round", ("2.5",)), Form("bucket", (*EDGES, False)))
    return [product.view(world_of(form, TIES), KEYRING, NOW) for form in forms]


@pytest.mark.parametrize(
    ("given", "taken"), [*itertools.product(FormatName, FormatName)], ids=lambda name: name.value
)
def test_numbers_are_rounded_and_put_into_intervals_exactly(on_numbers, given, taken):
    """On ties, on edges and beside them: what plain fractions say, in all formats alike."""
    document = WRITERS[given](TYPES, TIES)
    by_ten, by_half, intervals = (through(view, document, given, taken) for view in on_numbers)
    units, price = (by_ten[0].index(name) for name in ("units", "price"))
    for place, name in ((units, "units"), (price, "price")):
        texts = [row[name] for row in TIES]
        assert [Fraction(row[place]) for row in by_ten[1]] == [rounded(t, "10") for t in texts]
        assert [Fraction(row[place]) for row in by_half[1]] == [rounded(t, "2.5") for t in texts]
        assert [row[place] for row in intervals[1]] == [interval(text) for text in texts]
