"""people.csv -> what identity providers do not hold: groups and attributes by subject, until when.

    subject,        groups,            stores,     region, valid-until
    user:sam,       ,                  2191|2192,  ,
    user:pat,       group:contractors, ,           North,  2026-12-31

The first line names the columns: `subject`, and in any order every attribute that subjects.yaml
takes from here, `groups` where it takes those, and, where wanted, `valid-until`. Then one subject a
line, in the line syntax of policy.csv. An empty cell says nothing; several values are joined by
`|`; a value that holds `,`, `|`, a quote or a bracket stands in quotes. A line means nothing from
`valid-until` on: an instant with its offset (RFC 3339), or a day, whose end in UTC it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, time
from functools import partial
from typing import Final, TypeVar

from proxy.errors import Fault, Faulty
from proxy.policy import grammar
from proxy.policy.grammar import Wrong
from proxy.policy.syntax import Record, read
from proxy.subject import COLUMNS, AttributeType, Person, Realm
from proxy.values import Scalar, Type, Value, calendar_date, instant, scalar

PEOPLE_FILE: Final = "people.csv"
MAX_FAULTS: Final = 1_000
"""With so many faults the rest of the lines is not looked at."""

_SUBJECT, _GROUPS, _UNTIL = COLUMNS
_OFFSET = re.compile(r"(?:Z|[+-][0-9]{2}:[0-9]{2})\Z")
_QUOTED = re.compile(r"'((?:[^']|'')+)'\Z")
_ITEM = re.compile(r"(?:'(?:[^']|'')*'|[^|'])*")
_DAY: Final = 86_400

T = TypeVar("T")


def read_people(data: bytes | None, realms: Sequence[Realm]) -> Mapping[str, Person]:
    """What the file says, by subject; `data` is None where there is none. Raises Faulty.

    `realms` are those of subjects.yaml: whose names count, and what is taken from this file.
    """
    wanted = {
        name
        for realm in realms
        for name, (_, source) in realm.attributes.items()
        if source.reads_people
    }
    if any(realm.groups and realm.groups.reads_people for realm in realms):
        wanted.add(_GROUPS)
    if data is None:
        if not wanted:
            return {}
        message = f"is missing: subjects.yaml takes {_listed(wanted)} from it"
        hint = "add it, or take what it says from claims"
        raise Faulty([Fault(file=PEOPLE_FILE, message=message, hint=hint)])
    records, faults = read(PEOPLE_FILE, data)
    reader = _Reader(realms, wanted, faults)
    if records:
        reader.header(records[0])
        reader.lines(records[1:])
    elif not faults:
        hint = f"its first line names the columns: {', '.join((_SUBJECT, *sorted(wanted)))}"
        faults.append(Fault(file=PEOPLE_FILE, message="has no header", hint=hint))
    if faults:
        raise Faulty(faults)
    return reader.people


class _Reader:
    """Records -> persons, each fault noted in its place."""

    def __init__(self, realms: Sequence[Realm], wanted: set[str], faults: list[Fault]) -> None:
        self.people: dict[str, Person] = {}
        self._realms = realms
        self._wanted = wanted
        self._faults = faults
        self._columns: tuple[str, ...] = ()
        self._first: dict[str, int] = {}

    def header(self, record: Record) -> None:
        """Take the names of the columns."""
        known = {_SUBJECT, _UNTIL, *self._wanted}
        declared = {_GROUPS, *(name for realm in self._realms for name in realm.attributes)}
        for number, name in enumerate(record.cells):
            if name in record.cells[:number]:
                self._faults.append(
                    record.fault(f"column `{name}` stands twice", "write it once", cell=number)
                )
            elif name not in known and name in declared:
                hint = "take the column out, or declare a `source` with `people` in subjects.yaml"
                message = f"subjects.yaml does not take `{name}` from people.csv"
                self._faults.append(record.fault(message, hint, cell=number))
            elif name not in known:
                hint = grammar.nearest(name, known, otherwise=f"columns are {_listed(known)}")
                self._faults.append(record.fault(f"unknown column `{name}`", hint, cell=number))
        if record.cells[0] != _SUBJECT:
            message = f"the first column is not `{_SUBJECT}`"
            hint = (
                f"the first line names the columns: {', '.join((_SUBJECT, *sorted(self._wanted)))}"
            )
            self._faults.append(record.fault(message, hint))
            return
        missing = self._wanted.difference(record.cells)
        if missing:
            # A lost column must not pass: a deny may hang on a group or an attribute.
            message = f"no column {_listed(missing)}, which subjects.yaml takes from people.csv"
            self._faults.append(record.fault(message, "add it; its cells may be empty"))
        self._columns = record.cells

    def lines(self, records: Iterable[Record]) -> None:
        """Take the lines below the header."""
        for record in records:
            if len(self._faults) > MAX_FAULTS:
                self._faults.append(
                    record.fault(
                        "so far more faults than are told at once", "put those right first"
                    )
                )
                return
            if not self._columns:
                continue  # told at the header
            if len(record.cells) != len(self._columns):
                message = f"{len(record.cells)} cells under {len(self._columns)} columns"
                hint = f"write `{', '.join(self._columns)}`; an empty cell keeps its comma"
                at = min(len(record.cells), len(self._columns))
                self._faults.append(record.fault(message, hint, cell=at))
                continue
            self._line(record)

    def _line(self, record: Record) -> None:
        subject = self._read(record, 0, _subject)
        if subject is None:
            return
        first = self._first.setdefault(subject, record.line)
        if first != record.line:
            message = f"`{subject}` has a line already, line {first}"
            self._faults.append(record.fault(message, "write one line for each subject"))
        bare = subject.partition(":")[2]
        realm = next((realm for realm in self._realms if realm.holds(bare)), None)
        if realm is None:
            prefixes = _listed(realm.prefix for realm in self._realms)
            message = f"`{subject}` is no issuer's subject"
            self._faults.append(record.fault(message, f"their names begin with {prefixes}"))
            return
        groups: tuple[str, ...] | None = None
        attributes: dict[str, Value] = {}
        until = math.inf
        for number, (column, text) in enumerate(zip(self._columns, record.cells, strict=True)):
            if not text or column == _SUBJECT:
                continue
            if column == _UNTIL:
                ends = self._read(record, number, _until)
                until = until if ends is None else ends
            elif column == _GROUPS:
                if not realm.groups or not realm.groups.reads_people:
                    self._not_from_here(record, number, subject)
                    continue
                groups = self._read(record, number, _groups)
            elif column in self._wanted:
                type_, source = realm.attributes.get(column, (None, None))
                if type_ is None or source is None or not source.reads_people:
                    self._not_from_here(record, number, subject)
                    continue
                value = self._read(record, number, partial(_value, type_=type_))
                if value is not None:
                    attributes[column] = value
        self.people[subject] = Person(groups=groups, attributes=attributes, until=until)

    def _not_from_here(self, record: Record, cell: int, subject: str) -> None:
        column = self._columns[cell]
        message = f"subjects.yaml does not take `{column}` of `{subject}` from people.csv"
        hint = "leave the cell empty, or declare its `source` at the subject's issuer"
        self._faults.append(record.fault(message, hint, cell=cell))

    def _read(self, record: Record, cell: int, read_: Callable[[str], T]) -> T | None:
        """The value of one cell, or None with its faults told."""
        try:
            return read_(record.cells[cell])
        except Wrong as wrong:
            for offset, message, hint in wrong.found:
                self._faults.append(record.fault(message, hint, cell=cell, offset=offset))
            return None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


# ── cells ──


def _subject(text: str) -> str:
    if not text:
        raise Wrong((0, "the subject is missing", "write `user:…` or `tool:…`"))
    found = grammar.principal(text)
    if not found.startswith(("user:", "tool:")):
        raise Wrong((0, f"`{text}` is not a subject", "a line is about a `user:…` or a `tool:…`"))
    return found


def _groups(text: str) -> tuple[str, ...]:
    found: list[str] = []
    for at, item in _items(text):
        kind = item.partition(":")[0]
        if kind == "role":
            hint = "roles come from `g` lines of policy.csv alone"
            raise Wrong((at, f"`{item}` is not a group", hint))
        if kind != "group":
            raise Wrong((at, f"`{item}` is not a group", f"write `group:{item}`"))
        try:
            found.append(grammar.principal(item))
        except Wrong as wrong:
            raise Wrong(
                *((at + offset, what, hint) for offset, what, hint in wrong.found)
            ) from None
    return _distinct(text, found)


def _value(text: str, type_: AttributeType) -> Value:
    items = _items(text)
    if not type_.many:
        if len(items) > 1:
            hint = "declare it with `many: true`, or put a value that holds `|` in quotes"
            raise Wrong((items[1][0], "the attribute has one value", hint))
        return _scalar(*items[0], type_.type)
    return _distinct(text, [_scalar(at, item, type_.type) for at, item in items])


def _distinct(text: str, values: list[T]) -> tuple[T, ...]:
    for number, value in enumerate(values):
        if value in values[:number]:
            raise Wrong((_items(text)[number][0], "stands twice", "write it once"))
    return tuple(values)


def _items(text: str) -> list[tuple[int, str]]:
    """The values between `|` outside quotes, trimmed, each with its offset; none is empty."""
    found: list[tuple[int, str]] = []
    at = 0
    while at <= len(text):
        matched = _ITEM.match(text, at)
        end = matched.end() if matched else at
        part = text[at:end]
        found.append((at + len(part) - len(part.lstrip(" \t")), part.strip(" \t")))
        at = end + 1
    empty = [
        (at, "a value is missing", "write one on both sides of `|`") for at, i in found if not i
    ]
    if empty:
        raise Wrong(*empty)
    return found


def _scalar(at: int, item: str, type_: Type) -> Scalar:
    text = _plain(at, item)
    value = scalar(text, type_)
    if value is None:
        raise Wrong((at, f"`{item}` is no {type_}", f"such as {_SUCH_AS[type_]}"))
    return value


def _plain(at: int, item: str) -> str:
    """What an item writes, without its quotes."""
    quoted = _QUOTED.match(item)
    if quoted:
        return quoted[1].replace("''", "'")
    if item == "*":
        hint = "list the values; one that really is a star stands in quotes: `'*'`"
        raise Wrong((at, "`*` stands for nothing here", hint))
    for character, hint in _MISTAKEN.items():
        if character in item:
            where = item.index(character)
            raise Wrong((at + where, f"`{character.strip()}` stands within quotes alone", hint))
    return item


_MISTAKEN: Final = {
    "'": "put the whole value in quotes, a quote in it doubled: `'O''Brien'`",
    '"': "there are no double quotes here: write `'…'` around a value that needs quotes",
    " #": "a comment stands on a line of its own",
    "\t#": "a comment stands on a line of its own",
}
"""What in a value without quotes means that its author meant something else."""

_SUCH_AS: Final[Mapping[Type, str]] = {
    Type.TEXT: "`North`",
    Type.INTEGER: "`42`",
    Type.DECIMAL: "`12.50`",
    Type.BOOLEAN: "`true` or `false`",
    Type.DATE: "`2026-11-23`",
    Type.DATETIME: "`2026-11-23T22:58:40Z`",
}


def _until(text: str) -> float:
    day = calendar_date(text)
    if day is not None:
        return datetime.combine(day, time(), UTC).timestamp() + _DAY
    found = instant(text)
    if found is None:
        hint = "write `2026-12-31T18:00:00Z`, or a day, `2026-12-31`, whose end in UTC it is"
        raise Wrong((0, f"`{text}` is neither an instant nor a day", hint))
    if not _OFFSET.search(text):
        raise Wrong((len(text), "the offset from UTC is missing", f"write `{text}Z` for UTC"))
    return found.timestamp()
