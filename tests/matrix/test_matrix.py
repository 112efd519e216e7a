"""Every form of a cell, from every format into every other, against the naive reference evaluator.

The store's documents are written, and the answers read, by libraries that nobody here wrote.
"""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest

from proxy.formats import FORMATS
from proxy.keys import Keyring
from proxy.report import Dialect, FormatName
from proxy.treatments import decrypt
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
}
ROWS = [
    dict(zip(TYPES, row, strict=True))
    for row in [
        ("a-1", "plain", "5", "12.5", "true", "2026-11-28", "2026-11-28T14:20:00Z"),
        ("a-2", 'with, "quotes"\nand a line', "-17", "-0.25", "false", "2024-02-29", "1999-12-31T23:59:59Z"),
        ("b-3", "hidden", "99", "1.75", "true", "2026-01-02", "2026-01-02T03:04:05Z"),
        ("b-4", None, None, None, None, None, None),
        ("c-5", "Ünïcode ☃ 𝄞 =1+1", "2147483000", "98765432.1234", "true", "1970-01-01", "2000-01-01T00:00:00Z"),
        ("c-6", "007", "0", "0.0625", "false", "9999-12-31", "2026-06-30T12:00:00Z"),
        ("d-7", "null", "1", "150", "true", "2026-11-27", "2026-11-27T00:00:01Z"),
    ]
]  # fmt: skip
FORMS = [
    Form("clear"),
    Form("round", ("100",)),
    Form("round", ("0.05",)),
    Form("partial", (1, 2, "*")),
    Form("pseudonym", (None, None)),
    Form("encrypt"),
    Form("constant", ("n/a", True)),
    Form("constant", ("7", False)),
    Form("redact"),
]
KEYRING = Keyring.generate()
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
SEEN = Condition("!=", (Condition("row", ("word",)), Condition("text", ("hidden",))))
ANY = Condition("true")


def world_of(form: Form) -> World:
    """A report of which every field that takes the form has it, in the rows that are not hidden."""
    fields = tuple(Field(name, type_, "public") for name, type_ in TYPES.items())
    lines = [
        CellLine("role:r", "sales", ANY if name == "key" else SEEN, Fields((name,)),
                 form if name != "key" and form.takes(type_) else Form("clear"))
        for name, type_ in TYPES.items()
    ]  # fmt: skip
    hidden = CellLine("role:r", "sales", Condition("not", (SEEN,)), Fields(("key",)), None)
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
            for row in ROWS
        ),
    )


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
    document = WRITERS[given](TYPES, ROWS)
    bound = view.bound()
    decoder = view.decoder_of(Dialect(format=given))
    encoder = FORMATS[taken].encoder(bound.columns, Dialect(format=taken))
    out = b""
    for batches in (feed(decoder, document), ended(decoder)):
        encoder.source_types = decoder.source_types
        out += b"".join([joined(encoder, bound.apply(batch).batch) for batch in batches])
    names, rows = READERS[taken](out + encoder.finish())
    assert names == [name for name, _ in meant.columns]
    assert len(rows) == len(meant.released)
    for row, cells in zip(rows, meant.released, strict=True):
        for (name, type_), got in zip(meant.columns, row, strict=True):
            cell = cells[name]
            if cell.kind == "absent":
                assert got is None
            elif cell.kind == "encrypt":
                opened = decrypt(got, view.site(name), {"key": row[0]}) if got else None
                assert parsed(opened, TYPES[name]) == parsed(cell.text, TYPES[name])
            elif cell.kind == "pseudonym":
                assert (got is None) == (cell.text is None)
                assert got != cell.text or got is None
            elif type_ == "text":
                assert (got or None) == (cell.text or None), name
            else:
                assert parsed(got, type_) == parsed(cell.text, type_), (name, got, cell.text)
