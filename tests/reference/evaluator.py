"""DESIGN.md §4, "Who matches" and "Meaning, cell by cell", for one row and one field at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.reference import groups
from tests.reference.conditions import FALSE, TRUE, Condition, Surroundings, over, parsed, truth
from tests.reference.forms import Form, preference, treated
from tests.reference.nouns import CellLine, Field, Report, Requester, Rules


@dataclass(frozen=True)
class Cell:
    """What is given of one cell: `absent`, `clear` (as written), `text` (of the column's type),
    `tokenise`, `pseudonym` or `encrypt` (of that text). Text None: no value.
    """

    kind: str
    text: str | None = None
    form: Form | None = None


ABSENT = Cell("absent")
REVEAL = Form("reveal")
"""What a line gives that gives no cell: leave to have sealed cells back."""


@dataclass(frozen=True)
class Answer:
    columns: tuple[tuple[str, str], ...]
    """Names and types."""
    cells: tuple[dict[str, Cell], ...]
    """For every row of the source."""

    @property
    def released(self) -> list[dict[str, Cell]]:
        """The rows in which some cell is granted."""
        return [row for row in self.cells if any(cell.kind != "absent" for cell in row.values())]


@dataclass(frozen=True)
class Source:
    """One cell of the source in one format: as the document writes it, and its plain text (None where
    there is no value, or one of another kind than the field's type).
    """

    written: str | None
    text: str | None


def evaluate(
    rules: Rules,
    report: Report,
    requester: Requester,
    rows: Sequence[Mapping[str, Source]],
    now: datetime,
) -> Answer | None:
    """None where the requester is not permitted."""
    who = _Matching(rules, requester)
    if not permitted(rules, report, requester, now, "read"):
        return None
    sub, env = _surroundings(requester, now, "read")
    patterns = names_of(report.id, rules)
    lines = [
        each
        for each in rules.cells
        if each.report in patterns
        and each.who in (who.denying if each.form is None else who.allowing)
        and not over(each.rows, now)
        and each.form != REVEAL
    ]
    reachable = {field: forms_that_can_be_given(report, lines, field) for field in report.fields}
    if not any(reachable.values()):
        return None
    columns = [field for field in report.fields if reachable[field] or report.stable]
    shown = _shown(report, lines, rows)
    cells = []
    for row, given_ in zip(rows, shown, strict=True):
        values = {f.name: parsed(row[f.name].text, f.type) for f in report.fields}
        at = Surroundings(values, sub, env)
        cells.append({f.name: _cell(report, lines, f, row[f.name], at, given_) for f in columns})
    return Answer(
        columns=tuple((field.name, _type(field, reachable[field])) for field in columns),
        cells=tuple(cells),
    )


def gives_back(
    rules: Rules,
    report: Report,
    requester: Requester,
    row: Mapping[str, Source],
    field: Field,
    now: datetime,
) -> bool:
    """Whether a sealed cell of the row may be given back, where all of the row is known."""
    if not permitted(rules, report, requester, now, "reveal"):
        return False
    who, patterns = _Matching(rules, requester), names_of(report.id, rules)
    values = {f.name: parsed(row[f.name].text, f.type) for f in report.fields}
    at = Surroundings(values, *_surroundings(requester, now, "reveal"))
    about = [
        each
        for each in rules.cells
        if each.report in patterns and each.fields.names(field) and not over(each.rows, now)
    ]
    return any(
        each.form == REVEAL and each.who in who.allowing and truth(each.rows, at) is True
        for each in about
    ) and not any(
        each.form is None and each.who in who.denying and truth(each.rows, at) is not False
        for each in about
    )


def permitted(
    rules: Rules, report: Report, requester: Requester, now: datetime, action: str
) -> bool:
    """Whether the access lines let the requester do it, whatever it then sees."""
    who = _Matching(rules, requester)
    at = Surroundings({}, *_surroundings(requester, now, action))
    patterns = names_of(report.id, rules)

    def may(action: str, allowing: set[str]) -> bool:
        about = [each for each in rules.access if each.report in patterns and each.action == action]
        allowed = any(
            each.effect == "allow" and each.who in allowing and truth(each.when, at) is True
            for each in about
        )
        denied = any(
            each.effect == "deny" and each.who in who.denying and truth(each.when, at) is not False
            for each in about
        )
        return allowed and not denied

    through = requester.user and requester.tool
    return may(action, who.allowing) and (not through or may("act", who.of_tool))


def _surroundings(
    requester: Requester, now: datetime, action: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    env = {
        **requester.environment, "now": now, "date": now.date(), "action": action,
        "method": "POST" if action == "reveal" else "GET",
        "ip": "127.0.0.1",
    }  # fmt: skip
    return dict(requester.attributes), env


class _Matching:
    """Whose lines count."""

    def __init__(self, rules: Rules, requester: Requester) -> None:
        self.of_tool = closure([requester.tool], rules.members) if requester.tool else {"anyone"}
        if requester.user:
            self.allowing = closure([requester.user, *requester.groups], rules.members)
        else:
            self.allowing = self.of_tool
        self.denying = self.allowing | self.of_tool


def closure(names: Iterable[str], members: Iterable[tuple[str, str]]) -> set[str]:
    """The names, all that they are members of, and `anyone`."""
    found = {*names, "anyone"}
    while more := {of for member, of in members if member in found} - found:
        found |= more
    return found


def names_of(report: str, rules: Rules) -> set[str]:
    """Everything by which a line can mean the report: its id, prefixes, sets."""
    parts = report.split("/")
    prefixes = ["/".join(parts[:n]) + "/*" for n in range(1, len(parts))]
    return closure([report, *prefixes], rules.sets) - {"anyone"}


def forms_that_can_be_given(report: Report, lines: Iterable[CellLine], field: Field) -> list[Form]:
    """The forms of a column: granted for some row, not hidden in every row, and not always forestalled
    by a preferred form under the same condition, or under `true`.
    """
    named = [line for line in lines if line.fields.names(field)]
    if any(line.form is None and line.rows == TRUE for line in named):
        return []
    granted = sorted(
        ((line.form, line.rows) for line in named if line.form and line.rows != FALSE),
        key=lambda grant: preference(grant[0], report.prefer),
    )
    forms: list[Form] = []
    met: list[Condition] = []
    for form, rows in granted:
        if rows not in met and TRUE not in met:
            forms.append(form)
            met.append(rows)
    return forms


def _shown(
    report: Report, lines: Iterable[CellLine], rows: Sequence[Mapping[str, Source]]
) -> list[bool]:
    """For each row of the source whether its group is large enough, where a line asks for that."""
    asked = {line.form.arguments for line in lines if line.form and line.form.name == "suppress"}
    if not asked:
        return [False] * len(rows)
    [(least, by)] = asked  # one report counts in one way
    types = {field.name: field.type for field in report.fields}
    return groups.given(
        [[parsed(row[name].text, types[name]) for name in by] for row in rows], least
    )


def _type(field: Field, forms: Iterable[Form]) -> str:
    types = {form.gives(field.type) for form in forms} - {None}
    if not types:
        return field.type
    return str(types.pop()) if len(types) == 1 else "text"


def _cell(
    report: Report,
    lines: Iterable[CellLine],
    field: Field,
    source: Source,
    at: Surroundings,
    shown: bool,
) -> Cell:
    granted: list[Form] = []
    for line in lines:
        if not line.fields.names(field):
            continue
        holds = truth(line.rows, at)
        if line.form is None and holds is not False:
            return ABSENT
        if line.form is not None and holds is True:
            granted.append(line.form)
    if not granted:
        return ABSENT
    form = min(granted, key=lambda each: preference(each, report.prefer))
    if form.name == "clear":
        return Cell("clear", source.written, form)
    kind, text = treated(form, source.text, field.type, shown=shown)
    return Cell(kind, text, form)
