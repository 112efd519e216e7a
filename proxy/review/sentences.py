"""Changes in words: what one edited line does to somebody reads as one sentence, of all forms and reports.

role:analyst (so group:sales-analysts) on sales/store-daily
  loses rows with date, city clear, net_sales round(100), and keeps it when env.purpose == 'audit'
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from proxy.policy.lines import Action
from proxy.review.cells import ABSENT
from proxy.review.changes import Change, Kind
from proxy.review.sides import ANY_TOOL

_MOST_MEMBERS: Final = 6
_LOSES: Final = (Kind.LOSES, Kind.LOSES_ROWS)

_Cells = tuple[tuple[str, ...], str]
"""Fields, and what of them: a form, or one instead of another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sentence:
    """Who, on what, and what it is to them."""

    heading: str
    kind: str
    text: str
    witness: str = ""


@dataclass(kw_only=True, slots=True)
class _Said:
    """Several changes that are told at once."""

    change: Change
    """What they have in common."""
    parts: dict[str, list[_Cells]] = field(default_factory=dict)
    """What is told of each, by report."""
    others: list[tuple[str, ...]]
    """What else the requester must be: one of these sets of principals."""
    witness: tuple[tuple[str, str], ...] = ()

    def add(self, change: Change) -> None:
        """Take one more."""
        self.witness = self.witness or change.witness
        for report in change.reports:
            self.parts.setdefault(report, []).append(_cells_of(change))

    @property
    def key(self) -> object:
        """The same for those that differ in nothing but in what else the requester must be."""
        cells = [
            (report, frozenset((name, form) for names, form in each for name in names))
            for report, each in self.parts.items()
        ]
        return (replace(self.change, also=()), bool(self.change.also), frozenset(cells))


def sentences(changes: Iterable[Change]) -> list[Sentence]:
    """The changes as a person reads them, those under one heading together."""
    found: dict[Change, _Said] = {}
    for change in changes:
        common = replace(change, reports=(), fields=(), was="", now="", witness=())
        if change.kind is Kind.UNDECIDED:
            common = change
        found.setdefault(common, _Said(change=common, others=[change.also])).add(change)
    merged: dict[object, _Said] = {}
    for said in found.values():
        met = merged.setdefault(said.key, said)
        if met is not said:
            met.others += said.others
    told: dict[str, list[Sentence]] = {}
    for said in merged.values():
        sentence = _sentence(said)
        told.setdefault(sentence.heading, []).append(sentence)
    return [sentence for each in told.values() for sentence in each]


def _cells_of(change: Change) -> _Cells:
    """What is told of a change's fields."""
    # What somebody loses by being this too, the other thing gave: in which form is no news.
    if change.also and change.kind is Kind.LOSES_ROWS:
        return ((), "")
    if change.also and change.kind is Kind.LOSES:
        return (change.fields, "")
    if change.kind is Kind.CHANGES:
        return (change.fields, f"{change.now} instead of {change.was}")
    if change.action == Action.REVEAL:  # of which there is one form
        return (change.fields, "revealed")
    return (change.fields, change.was if change.now == ABSENT else change.now)


# ── one sentence ──


def _sentence(said: _Said) -> Sentence:
    change = said.change
    others, condition = _others(change, said.others), _condition(change.where, change.when)
    return Sentence(
        heading=f"{_about(change)} on {', '.join(said.parts)}",
        kind=change.kind.value,
        text=f"{_what(said)}{others}{condition}{_tail(change)}".strip(),
        witness=_witness(said.witness),
    )


def _what(said: _Said) -> str:
    """The fields and forms; those of each report where they are not the same."""
    change = said.change
    if change.kind is Kind.UNDECIDED:
        return f"whether {', '.join(change.fields)} is {change.now} where it was {change.was}"
    by_cells: dict[str, list[str]] = {}
    for report, cells in said.parts.items():
        by_cells.setdefault(_cells(cells), []).append(report)
    rows = change.kind in (Kind.GAINS_ROWS, Kind.LOSES_ROWS)
    if "" in by_cells:
        return "" if rows else f"the right to {change.action}"
    told = [f"with {each}" if rows else each for each in by_cells]
    if len(told) > 1:
        told = [
            f"{each} on {', '.join(of)}" for each, of in zip(told, by_cells.values(), strict=True)
        ]
    return ", and ".join(told)


def _cells(cells: Sequence[_Cells]) -> str:
    """Each form with all its fields."""
    by_form: dict[str, list[str]] = {}
    for fields, form in cells:
        by_form.setdefault(form, []).extend(fields)
    return ", ".join(f"{', '.join(fields)} {form}".strip() for form, fields in by_form.items())


def _about(change: Change) -> str:
    text = change.principal
    if change.members:
        some = ", ".join(change.members[:_MOST_MEMBERS])
        rest = len(change.members) - _MOST_MEMBERS
        text += f" (so {some}{f' and {rest} more' if rest > 0 else ''})"
    return f"{text} ({change.person})" if change.person else text


def _others(change: Change, others: Sequence[tuple[str, ...]]) -> str:
    """What else the requester must be."""
    sets = [tuple(n for n in each if not n.startswith("tool:")) for each in others]
    tools = dict.fromkeys(n for each in others for n in each if n.startswith("tool:"))
    told = " or ".join(dict.fromkeys(" and ".join(names) for names in sets if names))
    text = ""
    if told:
        tool = change.principal.startswith("tool:")
        text = f" for {told}" if tool else f" together with {told}"
    if tools:
        text += " through " + " or ".join("a tool" if n == ANY_TOOL else n for n in tools)
    return text


def _condition(where: str, when: str) -> str:
    text = "" if where == "true" else f" where {where}"
    return text if when == "true" else f"{text} when {when}"


def _tail(change: Change) -> str:
    """Where it is the same as it was."""
    if not change.otherwise or change.kind in (Kind.CHANGES, Kind.UNDECIDED):
        return ""
    where = "true" if change.otherwise == change.where else change.otherwise
    when = "true" if change.otherwise_when == change.when else change.otherwise_when
    condition = _condition(where, when)
    verb = "keeps" if change.kind in _LOSES else "had"
    return f", and {verb} it{condition}" if condition else ""


def _witness(values: Iterable[tuple[str, str]]) -> str:
    return ", ".join(
        f"{name} without a value" if value == "nothing" else f"{name} = {value}"
        for name, value in values
    )
