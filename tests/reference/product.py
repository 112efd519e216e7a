"""The real thing, driven like the reference: files -> decision -> plan -> bytes of an answer."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import msgspec

from proxy import transform
from proxy.catalogue import Catalogue
from proxy.formats import FORMATS
from proxy.formats.base import Decoder, Limits, Reading
from proxy.keys import Keyring
from proxy.plan import Context, Permit, Plan
from proxy.policy.decide import decide
from proxy.policy.index import Policy
from proxy.policy.rules import MODEL
from proxy.policy.source import load
from proxy.report import Dialect, FormatName, Report
from proxy.spool import Spools
from proxy.subject import AttributeType, Subject
from proxy.treatments import Site
from proxy.treatments import opened as unsealed
from proxy.treatments.groups import Groups, Tally
from proxy.values import Type
from tests.harness.streams import ended, feed, joined
from tests.reference import documents, nouns
from tests.reference.evaluator import Answer, Cell
from tests.reference.forms import places
from tests.reference.nouns import World
from tests.reference.worlds import policy_text, reports_text

ATTRIBUTES = {
    name: AttributeType(type=Type(type_), many=many)
    for name, (type_, many) in nouns.ATTRIBUTES.items()
}


_PSEUDONYM = re.compile(r"p[0-9a-f]{26}\Z")
_ENCRYPTED = re.compile(r"cf1\.[a-z0-9-]{1,32}\.(?:d|r[0-9a-f]+)\.[A-Za-z0-9_-]{60,}\Z")


@dataclass(frozen=True)
class View:
    """A requester's permit in a world, and what ties it to one request."""

    plan: Plan
    context: Context
    subject: Subject
    keyring: Keyring

    @property
    def report(self) -> Report:
        return self.plan.report

    def bound(self, groups: Groups | None = None) -> transform.Transform:
        return transform.bind(
            self.plan,
            context=self.context,
            subject=self.subject.name,
            keyring=self.keyring,
            groups=groups,
        )

    def groups(self, dialect: Dialect, document: bytes) -> Groups | None:
        """Which groups of a document's rows may be given, where the plan has them counted."""
        counting = self.plan.counting
        if counting is None:
            return None
        decoder = self.decoder_of(dialect, frozenset(counting.by))
        tally = Tally(counting, self.report.types, most=1 << 30)
        for batch in (*feed(decoder, document), *ended(decoder)):
            tally.count(batch)
        return tally.groups()

    def site(self, field: str) -> Site:
        return Site(
            report=self.report.id, field=field, type=self.report.fields[field].type,
            key=self.report.key, purpose=self.context.purpose, subject=self.subject.name,
            keyring=self.keyring, types=self.report.types,
        )  # fmt: skip

    def dialect(self, format_: str) -> Dialect:
        """How the report's document of that format is written."""
        return next(v.stored for v in self.report.variants if v.stored.format == format_)

    def decoder(self, format_: str) -> Decoder:
        """What reads the store's document of that format."""
        return self.decoder_of(self.dialect(format_))

    def decoder_of(self, dialect: Dialect, reads: frozenset[str] | None = None) -> Decoder:
        """What reads the store's document that is written so; all that the plan needs of it, or some."""
        return FORMATS[dialect.format].decoder(
            Reading(
                report=self.report,
                dialect=dialect,
                reads=self.plan.reads if reads is None else reads,
                limits=Limits(),
                spools=Spools(most=1 << 26, most_each=1 << 26),
                beside=frozenset(self.report.found_by),
            )
        )

    def answer(self, format_: str, document: bytes, cuts: Sequence[int] = ()) -> bytes:
        """The answer to a source that comes in pieces, cut at the given places."""
        kind = FORMATS[FormatName(format_)]
        bound = self.bound(self.groups(self.dialect(format_), document))
        decoder = self.decoder(format_)
        encoder = kind.encoder(bound.columns, self.dialect(format_))
        places = [0, *sorted(min(cut, len(document)) for cut in cuts), len(document)]
        out = b""
        for start, end in itertools.pairwise(places):
            for work in decoder.cut(document[start:end]):
                out += b"".join([joined(encoder, bound.apply(batch).batch) for batch in work()])
        for batch in ended(decoder):
            out += joined(encoder, bound.apply(batch).batch)
        return out + encoder.finish()

    def forms(self, world: World, format_: str) -> list[dict[str, str]]:
        """For each row of the world: field -> the form in which its cell is given, if it is."""
        rows = []
        for row in world.rows:
            bound = self.bound()
            decoder = self.decoder(format_)
            batches = feed(decoder, document(world, format_, [row])) + ended(decoder)
            given = [bound.apply(batch).cells for batch in batches]
            rows.append(
                {
                    field: next(iter(counts))
                    for cells in given
                    for field, counts in cells.items()
                    if counts
                }
            )
        return rows


class Asked(NamedTuple):
    """What a world's policy decides about."""

    policy: Policy
    subject: Subject
    report: Report
    context: Context


def asked(world: World, now: datetime, order: Sequence[int] | None = None) -> Asked:
    """The world's policy, and its requester's wish to read the world's report. Raises Faulty."""
    catalogue = Catalogue.load(
        reports_text(world.reports).encode(), file="reports.yaml", environment={}, folder=None
    )
    decided = load(
        {"model.conf": MODEL.encode(), "policy.csv": policy_text(world.rules, order).encode()},
        reports=catalogue.reports,
        classes=catalogue.classes,
        purposes=catalogue.purposes,
        attributes=ATTRIBUTES,
        version="0" * 64,
    )
    who = world.requester
    subject = Subject(
        user=who.user, groups=who.groups, tool=who.tool, attributes=dict(who.attributes),
        expires=now.timestamp() + 600,
    )  # fmt: skip
    context = Context(
        attributes=subject.attributes, now=now, date=now.date(), ip="127.0.0.1",
        purpose=who.purpose, tool=(who.tool or "").removeprefix("tool:"), action="read", method="GET",
    )  # fmt: skip
    return Asked(decided, subject, catalogue.reports[world.report.id], context)


def reveal_of(world: World, now: datetime) -> tuple[Plan, Context] | None:
    """What the requester may have back of the world's report; None where that is nothing."""
    decided, subject, report, context = asked(world, now)
    context = msgspec.structs.replace(context, action="reveal", method="POST")
    decision = decide(decided, subject=subject, report=report, context=context)
    return (decision.plan, context) if isinstance(decision, Permit) else None


def view(
    world: World, keyring: Keyring, now: datetime, order: Sequence[int] | None = None
) -> View | None:
    """The requester's view of the world's report; None where it is denied. Raises Faulty."""
    decided, subject, report, context = asked(world, now, order)
    decision = decide(decided, subject=subject, report=report, context=context)
    if not isinstance(decision, Permit):
        return None
    return View(decision.plan, context, subject, keyring)


def document(
    world: World, format_: str, rows: Sequence[documents.Row] | None = None, *, quoted: bool = False
) -> bytes:
    """The store's document in a format."""
    names = [field.name for field in world.report.fields]
    chosen = world.rows if rows is None else rows
    if format_ == "csv":
        return documents.as_csv(names, chosen, quote_all=quoted)
    write = documents.as_ndjson if format_ == "ndjson" else documents.as_json
    return write(names, chosen, blank=" " if quoted else "")


# ── an answer held against the reference ──


def compare(
    answer: bytes, expected: Answer, format_: str, world: World, opened: View | None
) -> None:
    """Assert that the bytes are what the reference gives, cell for cell.

    Pseudonyms are looked at as symbols: as many as values, of one shape, none of them a value. So are
    tokens, each of its value's shape; by chance one may be its value.
    Encrypted cells are opened with `opened`; without it only their shape is looked at.
    """
    names = tuple(name for name, _ in expected.columns)
    if format_ == "csv":
        table = documents.read_csv(answer)
        assert table.names == names, "columns"
        given = [list(row) for row in table.rows]
    else:
        records = documents.read_json(answer)
        for record in records:
            assert tuple(name for name, _ in record) == names, "columns"
        given = [[token for _, token in record] for record in records]
    sources = documents.sources(world.report, world.rows, format_)
    released = [
        (cells, source)
        for cells, source in zip(expected.cells, sources, strict=True)
        if any(cell.kind != "absent" for cell in cells.values())
    ]
    assert len(given) == len(released), "rows"
    symbols: dict[tuple[str, str], dict[str, str]] = {}
    for (cells, source), row in zip(released, given, strict=True):
        key = {name: source[name].text for name in world.report.key}
        for (name, type_), got in zip(expected.columns, row, strict=True):
            cell = cells[name]
            field_type = world.report.type(name)
            assert field_type is not None
            wrong = f"{name} is not given as {cell.form or 'absent'}: {got}"
            if cell.kind in ("absent", "text", "clear") or cell.text is None:
                wanted = _written(cell, source[name].written, format_, type_, field_type)
                if cell.kind != "clear" and wanted is not None and wanted.startswith('"'):
                    # JSON can write a text in many ways: what counts is the text.
                    assert json.loads(got or "0") == json.loads(wanted), wrong
                else:
                    assert got == wanted, wrong
                continue
            text = got if format_ == "csv" or type_ == "integer" else json.loads(got or "")
            if cell.kind == "tokenise":
                assert cell.form is not None and isinstance(text, str), wrong
                first_digit = cell.form.gives(field_type) == "integer"
                shape = places(cell.text, cell.form.arguments[0], first_digit=first_digit)
                assert shape is not None and len(text) == len(shape), wrong
                assert all(c in each for c, each in zip(text, shape, strict=True)), wrong
                known = symbols.setdefault((name, str(cell.form)), {})
                assert known.setdefault(cell.text, text) == text, "one value has two tokens"
                continue
            assert isinstance(text, str) and text != cell.text, wrong
            if cell.kind == "pseudonym":
                assert _PSEUDONYM.match(text), wrong
                known = symbols.setdefault((name, str(cell.form)), {})
                assert known.setdefault(cell.text, text) == text, "one value has two pseudonyms"
            else:
                assert _ENCRYPTED.match(text), wrong
                if opened is not None:
                    assert unsealed(text, opened.site(name), key).text == cell.text, wrong
    for known in symbols.values():
        assert len(set(known.values())) == len(known), "two values have one stand-in"


def _written(
    cell: Cell, source: str | None, format_: str, type_: str, field_type: str
) -> str | None:
    """How a cell that needs no key is written: a field of CSV, or a token of JSON."""
    if cell.kind == "clear" and type_ == field_type:
        written = cell.text
    elif cell.kind == "clear":
        # Of another type it is text: a string is one already, anything else is its characters.
        as_it_is = format_ == "csv" or source is None or source.startswith('"')
        written = source if as_it_is else f'"{source}"'
    elif format_ == "csv":
        written = cell.text
    else:
        written = documents.token_of(cell.text, type_)
    return "null" if written is None and format_ == "json" else written
