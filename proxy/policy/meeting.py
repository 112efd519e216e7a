"""Forms that can meet on one field but cannot be compared: a fault unless the report prefers one.

Two lines can meet unless no requester is under both: two users, two tools, or a tool and a user or
group (a tool's grants count only when it acts alone). Row conditions are not looked at. Lines that
differ in nothing that matters here are looked at once, so that 100,000 of them are one pass.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from proxy.plan import Line
from proxy.policy.lines import CellRule
from proxy.report import Report
from proxy.treatments import Treatment, comparable, parse

_UNLIKE: Final = (parse("partial(last=1)"), parse("pseudonym"))
"""Two forms that do not compare: what compares with both of these compares with everything."""

_MEETS: Final = {
    "role": ("role", "group", "user", "tool"),
    "anyone": ("role", "group", "user", "tool"),
    "group": ("role", "group", "user"),
    "user": ("role", "group"),
    "tool": ("role",),
}
"""Kind of principal -> the kinds whose lines can be about the same requester, beside its own."""


class _Seen(NamedTuple):
    treatment: Treatment
    line: Line


_Cell = tuple[str, str]
"""A report's id and a field's name."""

_Forms = dict[str, dict[Hashable, _Seen]]
"""Treatment's name -> kin -> the first form of them, which stands for the others."""


def incomparable(
    rules: Sequence[CellRule], reports: Mapping[str, Report]
) -> Iterator[tuple[int, str, str]]:
    """Find the lines that bring a form which does not compare with an earlier line's.

    Yields each one's number in `rules`, a message and a hint.
    """
    told_apart = list(_told_apart(rules))
    torn = _of_many_kinds(told_apart)
    seen: dict[tuple[str, _Cell], _Forms] = {}
    looked: set[tuple[str, int, int]] = set()
    for number, rule, treatment in told_apart:
        kind = rule.principal.partition(":")[0]
        own = rule.principal in torn
        # Equal cells of the files were read once, to one object.
        alike = (kind, id(rule.fields), id(treatment))
        if (alike in looked and not own) or _nowhere(rule):
            continue
        looked.add(alike)
        meets = (*_MEETS[kind], rule.principal) if own else _MEETS[kind]
        clash: tuple[_Cell, _Seen] | None = None
        for cell in _cells(rule):
            prefer = reports[cell[0]].prefer
            clash = clash or _clash(treatment, prefer, cell, meets, seen)
            whose = "role" if kind == "anyone" else kind
            for noted in (whose, rule.principal) if own else (whose,):
                forms = seen.setdefault((noted, cell), {}).setdefault(treatment.name, {})
                forms.setdefault(treatment.kin, _Seen(treatment, rule.line))
        if clash is not None:
            (report, field), other = clash
            yield (
                number,
                f"`{treatment}`, `{other.treatment}` ({other.line}) meet on `{report}`'s `{field}`",
                f"neither is finer: give one, or name both in `prefer:` of `{report}`",
            )


def _told_apart(rules: Sequence[CellRule]) -> Iterator[tuple[int, CellRule, Treatment]]:
    """The lines, with their numbers, that bring a form which does not compare with every other."""
    anywhere: dict[int, bool] = {}
    for number, rule in enumerate(rules):
        treatment = rule.treatment
        if treatment is None:
            continue
        alike = anywhere.get(id(treatment))
        if alike is None:
            alike = anywhere[id(treatment)] = _anywhere(treatment)
        if not alike:
            yield number, rule, treatment


def _cells(rule: CellRule) -> Iterator[_Cell]:
    for report, fields in rule.fields.items():
        for field in sorted(fields):
            yield report, field


def _nowhere(rule: CellRule) -> bool:
    """Whether the line is switched off: its condition is `false`, for whatever report."""
    return all(rows.text == "false" for rows in rule.rows.values())


def _clash(
    treatment: Treatment,
    prefer: Sequence[str],
    cell: _Cell,
    meets: Sequence[str],
    seen: Mapping[tuple[str, _Cell], _Forms],
) -> tuple[_Cell, _Seen] | None:
    """The first earlier form on the cell that `treatment` meets and does not compare with.

    Few are looked at: forms of two kin hardly ever compare, unless the report prefers one of them.
    """
    for whose in meets:
        for name, forms in seen.get((whose, cell), {}).items():
            if name in prefer and treatment.name in prefer:
                continue
            for other in forms.values():
                if not comparable(treatment, other.treatment):
                    return cell, other
    return None


def _of_many_kinds(rules: Sequence[tuple[int, CellRule, Treatment]]) -> frozenset[str]:
    """The users and tools whose own lines hold forms of more than one kin."""
    first: dict[str, Treatment] = {}
    torn: set[str] = set()
    for _, rule, treatment in rules:
        if rule.principal.startswith(("user:", "tool:")):
            held = first.setdefault(rule.principal, treatment)
            if held.kin != treatment.kin:
                torn.add(rule.principal)
    return frozenset(torn)


def _anywhere(treatment: Treatment) -> bool:
    """Whether a form compares with every other."""
    return all(comparable(treatment, unlike) for unlike in _UNLIKE)
