"""One of a report's `parameters` -> a `Parameter`, with every fault in its place.

A parameter that groups changes what a row is: the store sums over rows before any policy has seen them.
It can be declared all the same, for `Plan.hides` keeps it from everybody to whom some of that is hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from proxy.catalogue.entries import ParameterEntry, ReportEntry
from proxy.catalogue.routing import canonical
from proxy.documents import nearest
from proxy.report import By, Direction, Operator, Ordering, Parameter
from proxy.values import Type

_OWN: Final[Mapping[By, frozenset[str]]] = {
    By.FILTER: frozenset({"type", "field", "fields", "operator", "allowed"}),
    By.ORDER: frozenset({"fields", "direction", "spelling"}),
    By.GROUP: frozenset({"fields", "spelling"}),
    By.LIMIT: frozenset({"most"}),
    By.OFFSET: frozenset({"most"}),
}
"""The keys that each kind of parameter has; those that decide something of all are not listed."""
_BARE: Final = ParameterEntry()
_ON_TEXT: Final = (Operator.STARTS, Operator.CONTAINS)
_DIRECTIONS: Final[Mapping[Direction | None, tuple[tuple[str, bool], ...]]] = {
    None: (("{}", False),),
    Direction.MINUS: (("{}", False), ("-{}", True)),
    Direction.DOT: (("{}", False), ("{}.asc", False), ("{}.desc", True)),
    Direction.BLANK: (("{}", False), ("{} asc", False), ("{} desc", True)),
}
"""How the words of an order parameter are written, and whether they mean descending."""

Note = Callable[..., None]
"""(message, *path below the entry, hint=, key=): note a fault."""


def parameter_of(name: str, entry: ParameterEntry, report: ReportEntry, fault: Note) -> Parameter:
    """The parameter that `entry` declares; what is wrong with it is told to `fault`."""
    for key in sorted(frozenset().union(*_OWN.values()) - _OWN[entry.by]):
        if getattr(entry, key) != getattr(_BARE, key):
            fault(f"`{key}` is not for a parameter `by: {entry.by}`", key, hint="take it out")
    for number, field in enumerate(entry.fields):
        if field not in report.fields:
            fault(f"unknown field `{field}`", "fields", number, hint=nearest(field, report.fields))
        if field in entry.fields[:number]:
            fault(f"`{field}` is named twice", "fields", number, hint="write it once")
    match entry.by:
        case By.FILTER:
            return _filter(name, entry, report, fault)
        case By.ORDER | By.GROUP:
            words = dict(_words(entry, fault))
            return Parameter(
                name=name, by=entry.by, required=entry.required, words=tuple(words.items())
            )
        case By.LIMIT | By.OFFSET:
            if entry.most is None:
                fault("missing key `most`", hint="the largest value that is allowed")
            return Parameter(
                name=name,
                type=Type.INTEGER,
                by=entry.by,
                required=entry.required,
                most=entry.most or 0,
            )


def _filter(name: str, entry: ParameterEntry, report: ReportEntry, fault: Note) -> Parameter:
    if entry.type is None:
        fault("missing key `type`", hint="what a value must be, as `text` or `date`")
    if entry.field is not None:
        if entry.fields:
            fault("`field` and `fields` are one too many", "field", hint="name all in `fields`")
        if entry.field not in report.fields:
            fault(
                f"unknown field `{entry.field}`",
                "field",
                hint=nearest(entry.field, report.fields),
            )
    type_ = entry.type or Type.TEXT
    if entry.operator in _ON_TEXT and type_ is not Type.TEXT:
        fault(f"`{entry.operator}` is for values of type text", "operator", hint="use `eq`, `ge` …")
    anything = Parameter(name=name, type=type_)
    for number, text in enumerate(entry.allowed):
        if text in entry.allowed[:number]:
            fault(f"`{text}` is named twice", "allowed", number, hint="write it once")
        if canonical(anything, text) is None:
            hint = "write values of its `type`, in quotes"
            fault(f"not a value of type {type_}", "allowed", number, hint=hint)
        elif entry.operator is Operator.IN and "," in text:
            fault("a value of a list has no comma", "allowed", number, hint="use `eq`")
    return Parameter(
        name=name,
        type=type_,
        fields=entry.fields if entry.field is None else (entry.field,),
        operator=entry.operator,
        required=entry.required,
        allowed=entry.allowed,
    )


def _words(entry: ParameterEntry, fault: Note) -> Iterator[tuple[str, Ordering]]:
    """Each word with its meaning; one that could mean two things is a fault."""
    if not entry.fields:
        fault("missing key `fields`", hint="the fields that it may name")
    for field, spelled in entry.spelling.items():
        if field not in entry.fields:
            fault(
                f"`{field}` is not one of its `fields`",
                "spelling",
                field,
                hint=nearest(field, entry.fields),
            )
        if not spelled or "," in spelled or not spelled.isprintable():
            fault(
                "not a word: it is empty or has a comma",
                "spelling",
                field,
                hint="write it as the store takes it",
            )
    said: dict[str, str] = {}
    for number, field in enumerate(entry.fields):
        for form, descending in _DIRECTIONS[entry.direction]:
            word = form.format(entry.spelling.get(field, field))
            if said.setdefault(word, field) != field:
                fault(
                    f"`{word}` could also mean `{said[word]}`",
                    "fields",
                    number,
                    hint="give one of them another `spelling`",
                )
            yield word, Ordering(field, descending)
