"""Evidence tells which rows were given and in which forms: as many, as they are, and no value that it may not hold."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.batch import PLAIN, Batch
from proxy.evidence.layout import MOST, NotEvidence, digest_of, inline, kept, mac_of, named
from proxy.evidence.reading import read
from proxy.evidence.witness import Shapes, Witness, combined
from proxy.few import Few
from proxy.formats import FORMATS
from proxy.formats.json_lexis import JSON_LEXIS
from proxy.gateway.paging import Page, PagedView
from proxy.gateway.sorting import SortedView
from proxy.gateway.view import View
from proxy.report import Field, FormatName, Report, Store
from proxy.values import Type, scalar
from tests.gateway.views import KEYRING, steps_of
from tests.reference import documents, product
from tests.reference.evaluator import Source, evaluate
from tests.reference.worlds import SEEDS, world_of

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
FORMATS_OF_WORLDS = ("csv", "json")


def told(evidence: bytes) -> list[tuple[tuple, tuple]]:
    """Each row's kept values and forms, row by row."""
    return [
        (
            tuple((f, v.distinct[v.codes[n]]) for f, v in noted.values.items()),
            tuple(sorted(noted.forms[noted.codes[n]].items())),
        )
        for noted in read(evidence)
        for n in range(noted.rows)
    ]


def kept_of(report: Report, field: str, source: Source) -> str | None:
    """What is to be kept of a cell, worked out for itself."""
    text = source.written
    if text is None:
        return None
    if text != source.text:  # in JSON, as its characters
        text = source.text if source.text is not None else text
        text = json.loads(text) if source.text is None and text.startswith('"') else text
    if report.fields[field].class_ in ("public", "internal") and len(text) <= 64:
        return "=" + text
    type_ = report.types[field]
    value = scalar(text, type_)
    if value is None:
        return None
    mac = KEYRING.mac("audit-evidence", report.id, field)
    return "#" + mac.hexdigest((text if type_ is Type.TEXT else str(value)).encode())[:16]


def naive(world, view: product.View, format_: str) -> list[tuple[tuple, tuple]]:
    """The same from the reference evaluator, which shares no code with the product."""
    sources = documents.sources(world.report, world.rows, format_)
    meant = evaluate(world.rules, world.report, world.requester, sources, NOW)
    rows = []
    for cells, source in zip(meant.cells, sources, strict=True):
        forms = {f: product_form(cell) for f, cell in cells.items() if cell.kind != "absent"}
        if forms:
            values = tuple((f, kept_of(view.report, f, source[f])) for f in view.report.found_by)
            rows.append((values, tuple(sorted(forms.items()))))
    return rows


def product_form(cell) -> str:
    from proxy.treatments import parse

    return str(parse(str(cell.form)))


def run(made: View, document: bytes, cuts: list[int]) -> bytes:
    """The evidence of the whole answer."""
    places = [0, *sorted(min(cut, len(document)) for cut in cuts), len(document)]
    evidence = b""
    works = itertools.chain.from_iterable(
        made.records(document[a:b]) for a, b in itertools.pairwise(places)
    )
    for work in itertools.chain(works, made.rest()):
        for part in made.parts(work):
            made.add(part)
        if made.full:
            break
        evidence += made.block(b"", 0, last=False).evidence
    made.finish()
    return evidence + made.block(b"", 0, last=True).evidence


@settings(max_examples=80)
@given(
    SEEDS,
    st.sampled_from(FORMATS_OF_WORLDS),
    st.sampled_from([12, 200]),
    st.lists(st.integers(0, 3000), max_size=6),
)
def test_evidence_equals_a_naive_recount(seed, format_, size, cuts):
    """Each released row's key values and forms, in the order of the answer, on random policies and rows."""
    world = world_of(seed, rows=size)
    view = product.view(world, KEYRING, NOW)
    if view is None or not view.report.found_by:
        return
    document = product.document(world, format_)
    assert told(run(View(steps_of(view, format_, document)), document, cuts)) == naive(
        world, view, format_
    )


@settings(max_examples=60)
@given(
    SEEDS,
    st.sampled_from(FORMATS_OF_WORLDS),
    st.integers(0, 12),
    st.none() | st.integers(1, 12),
    st.sampled_from([12, 200]),
    st.booleans(),
)
def test_evidence_of_a_page_is_that_of_its_rows_alone(seed, format_, first, limit, size, ordered):
    """As they come or put in order here: what is not on the page is not in the evidence, and all else is."""
    world = world_of(seed, rows=size)
    view = product.view(world, KEYRING, NOW)
    if view is None or not view.report.found_by or view.plan.counting is not None:
        return
    document = product.document(world, format_)
    page = Page(first=first, end=None if limit is None else first + limit)
    everything = naive(world, view, format_)
    made = steps_of(view, format_, document)
    if not ordered:
        given_ = told(run(PagedView(made, page=page), document, []))
        assert given_ == everything[page.first : page.end]
        return
    lexis = FORMATS[FormatName(format_)].lexis
    bounds = {"lexis": lexis, "plan": view.plan, "asked": (), "most": 1 << 30}
    whole = told(run(SortedView(made, page=None, **bounds), document, []))
    assert Counter(whole) == Counter(everything)
    made = steps_of(view, format_, document)
    paged = told(run(SortedView(made, page=page, **bounds), document, []))
    assert len(paged) == len(everything[page.first : page.end])
    assert Counter(paged) <= Counter(everything)


def test_the_random_worlds_have_evidence_worth_looking_at():
    """Of 300 worlds many have rows in several forms, closed keys and nulls."""
    seen: Counter[str] = Counter()
    for seed in range(300):
        world = world_of(seed)
        view = product.view(world, KEYRING, NOW)
        if view is None or not view.report.found_by:
            continue
        rows = naive(world, view, "json")
        seen["rows"] += bool(rows)
        seen["forms"] += len({forms for _, forms in rows}) > 1
        kept_ = {value for values, _ in rows for _, value in values}
        seen["digest"] += any(value and value[0] == "#" for value in kept_)
        seen["itself"] += any(value and value[0] == "=" for value in kept_)
        seen["nothing"] += None in kept_
    assert min(seen.values()) >= 10 and len(seen) == 5, seen


# ── the layout ──

REPORT = Report(
    id="r",
    title="r",
    store=Store(name="s", url="http://s"),
    fields={
        "open": Field(name="open", type=Type.TEXT, class_="public"),
        "closed": Field(name="closed", type=Type.TEXT, class_="personal"),
        "number": Field(name="number", type=Type.DECIMAL, class_="confidential"),
    },
    variants=(),
    parameters={},
    key=("open",),
    found_by=("open", "closed", "number"),
)
CELLS = (
    st.none() | st.sampled_from(["", "=1+1", "a", "b", "é\n\"'", "x" * 80]) | st.text(max_size=6)
)


@st.composite
def rows_and_forms(draw):
    height = draw(st.integers(1, 90))
    column = st.lists(CELLS, min_size=height, max_size=height)
    numbers = st.lists(
        st.sampled_from(["1", "1.0", "1e0", "2.50", "n/a", None]), min_size=height, max_size=height
    )
    shapes = draw(st.integers(1, 300))
    codes = draw(st.lists(st.integers(0, shapes - 1), min_size=height, max_size=height))
    return draw(column), draw(column), draw(numbers), shapes, codes


@given(rows_and_forms(), st.booleans())
def test_what_is_taken_down_is_read_back(drawn, few):
    """For any cells and forms, of few and of many rows."""
    import numpy as np
    import polars as pl

    opened, closed, numbers, shapes, codes = drawn
    cells = {"open": opened, "closed": closed, "number": numbers}
    columns = {
        name: Few(each) if few else pl.Series(each, dtype=pl.String) for name, each in cells.items()
    }
    batch = Batch(columns, height=len(codes), lexis=PLAIN, types=REPORT.types, few=few)
    forms = tuple(((f"round({n})", ("open", "closed")),) for n in range(shapes))
    evidence = Witness.of(REPORT, KEYRING).piece(batch, Shapes(forms, np.array(codes)))
    rows = told(evidence)
    assert [dict(forms)["open"] for _, forms in rows] == [f"round({code})" for code in codes]
    assert [dict(values)["open"] for values, _ in rows] == [
        None
        if text is None
        else "=" + text
        if len(text) <= 64
        else digest_of(mac_of(KEYRING, "r", "open"), text, Type.TEXT)
        for text in opened
    ]
    for name, type_ in (("closed", Type.TEXT), ("number", Type.DECIMAL)):
        assert [dict(values)[name] for values, _ in rows] == [
            None if text is None else digest_of(mac_of(KEYRING, "r", name), text, type_)
            for text in cells[name]
        ]


@given(rows_and_forms(), st.booleans())
def test_a_few_values_are_taken_down_as_they_are_however_they_are_written(drawn, escaped):
    """Evidence of a JSON document is to the byte that of one without quotes and escapes."""
    import numpy as np

    *columns, shapes, codes = drawn
    written = [
        [None if text is None else json.dumps(text, ensure_ascii=escaped) for text in column]
        for column in columns
    ]
    forms = tuple(((f"round({n})", ("open", "closed")),) for n in range(shapes))
    pieces = [
        Witness.of(REPORT, KEYRING).piece(
            Batch(
                dict(zip(("open", "closed", "number"), map(Few, each), strict=True)),
                height=len(codes), lexis=lexis, types=REPORT.types, few=True,
            ),
            Shapes(forms, np.array(codes)),
        )
        for lexis, each in ((PLAIN, columns), (JSON_LEXIS, written))
    ]  # fmt: skip
    assert pieces[0] == pieces[1]


def test_equal_numbers_have_one_digest():
    """However they are written; and what is no number has none."""
    mac = mac_of(KEYRING, "r", "number")
    assert len({digest_of(mac, text, Type.DECIMAL) for text in ("1", "1.0", "1e0", "01.00")}) == 1
    assert digest_of(mac, "n/a", Type.DECIMAL) is None


@given(st.lists(st.lists(st.integers(-1, 3), min_size=1, max_size=6), min_size=1, max_size=30))
def test_combinations_are_told_apart(rows):
    """Each row gets the number of what it has of all choices."""
    import numpy as np

    width = min(map(len, rows))
    choices = [np.array([row[n] for row in rows], np.int16) for n in range(width)]
    distinct, codes = combined([*choices, 2], len(rows))
    assert len(set(distinct)) == len(distinct)
    assert [distinct[code] for code in codes] == [(*row[:width], 2) for row in rows]


@given(rows_and_forms(), st.data())
def test_damaged_evidence_is_no_evidence_or_another(drawn, data):
    """Whatever becomes of its bytes, it is read or refused, and nothing else happens."""
    import numpy as np

    opened, closed, numbers, shapes, codes = drawn
    batch = Batch(
        {"open": Few(opened), "closed": Few(closed), "number": Few(numbers)},
        height=len(codes), lexis=PLAIN, types=REPORT.types, few=True,
    )  # fmt: skip
    forms = tuple(((f"round({n})", ("open",)),) for n in range(shapes))
    evidence = bytearray(Witness.of(REPORT, KEYRING).piece(batch, Shapes(forms, np.array(codes))))
    for _ in range(data.draw(st.integers(1, 3))):
        evidence[data.draw(st.integers(0, len(evidence) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(NotEvidence):
        told(bytes(evidence[: data.draw(st.integers(0, len(evidence)))]))


@pytest.mark.parametrize("size", [0, 1, 1000, 3000, MOST // 3])
def test_a_record_holds_little_evidence_and_names_more(size):
    """What is named is divided at whole pieces; together it is the evidence."""
    piece = size.to_bytes(4, "big") + bytes(size)
    evidence = piece * 7 if size else b""
    stated, attachments = kept(evidence)
    if len(evidence) <= 2048:
        assert b"".join(map(inline, stated)) == evidence and not attachments
    else:
        assert [named(each) for each in stated] == [each.digest for each in attachments]
        assert b"".join(each.content for each in attachments) == evidence
        assert all(len(each.content) <= MOST for each in attachments)
