"""Cell rules -> plan: all the `p2` lines that one set of grants has on one report, merged.

For a row and a field, of the lines that name the field and whose row condition is true (unknown:
false in a grant, true in a `deny`): any `deny` makes the cell absent, else the preferred treatment
is given (preference.py). A field that no line names has no column. The result holds no requester's
value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from proxy.plan import Choice, Column, Plan, Predicate
from proxy.policy.lines import CellRule
from proxy.policy.preference import order
from proxy.report import Field, Report
from proxy.treatments import Treatment
from proxy.values import Type

_NOTHING: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})


def merge(
    report: Report,
    rules: Iterable[CellRule],
    carried: Mapping[str, tuple[str, ...]] = _NOTHING,
) -> Plan | None:
    """The plan of all `rules` on `report`; None where they grant no cell of any field.

    The caller has chosen the lines that apply to a requester and an action. `carried` are the fields on
    which it depends, for each field, in which rows it may be revealed. A column that can be given a form in
    no row is left out, or is all null where the report's shape is stable.
    """
    rules = tuple(rules)
    predicates = _Predicates()
    columns: list[Column] = []
    preference = order(report)
    for field in report.fields.values():
        named = [rule for rule in rules if field.name in rule.fields[report.id]]
        granted = [(rule.treatment, rule.rows[report.id]) for rule in named if rule.treatment]
        granted.sort(key=lambda grant: (preference(grant[0]), grant[1].text))
        hidden = [rule.rows[report.id] for rule in named if rule.treatment is None]
        if choices := () if any(map(_always, hidden)) else _choices(granted, predicates):
            denies = dict.fromkeys(predicates.number(rows) for rows in hidden if not _never(rows))
            columns.append(
                Column(
                    field=field,
                    type=_given(field, [choice.treatment for choice in choices]),
                    choices=choices,
                    denies=tuple(denies),
                    carried=carried.get(field.name, ())
                    if any(choice.treatment.carries for choice in choices)
                    else (),
                )
            )
        elif report.stable:
            columns.append(Column(field=field, type=field.type, choices=()))
    if not any(column.choices for column in columns):
        return None
    return Plan(
        report=report,
        predicates=tuple(predicates.all),
        columns=tuple(columns),
        lines=tuple(dict.fromkeys(rule.line for rule in rules)),
    )


def _choices(
    granted: Sequence[tuple[Treatment, Predicate]], predicates: _Predicates
) -> tuple[Choice, ...]:
    """Grants in the order of preference, without those that a preferred one always forestalls."""
    chosen: dict[str, Choice] = {}
    for treatment, rows in granted:
        if rows.text in chosen or _never(rows):
            continue
        chosen[rows.text] = Choice(when=predicates.number(rows), treatment=treatment)
        if _always(rows):
            break
    return tuple(chosen.values())


def _given(field: Field, treatments: Iterable[Treatment]) -> Type:
    """The common type of what the forms give, else text; the field's own where none gives any."""
    types = {treatment.gives(field.type) for treatment in treatments} - {None}
    match [*types]:
        case []:
            return field.type
        case [Type() as common]:
            return common
        case _:
            return Type.TEXT


def _always(rows: Predicate) -> bool:
    return rows.text == "true"


def _never(rows: Predicate) -> bool:
    return rows.text == "false"


class _Predicates:
    """Row conditions, each distinct one numbered once, in the order of first use."""

    def __init__(self) -> None:
        self.all: list[Predicate] = []
        self._numbers: dict[str, int] = {}

    def number(self, rows: Predicate) -> int:
        """The number of a condition; equal texts are equal conditions on one report."""
        if rows.text not in self._numbers:
            self._numbers[rows.text] = len(self.all)
            self.all.append(rows)
        return self._numbers[rows.text]
