"""How an explanation is shown: as text, or as one JSON object."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from proxy.cli.log import visible
from proxy.cli.tables import console
from proxy.plan import Context, Deny
from proxy.policy.lines import Action
from proxy.review.explain import Access, Explanation, Form, Said, Seen, Usable
from proxy.review.words import NONE
from proxy.subject import Subject
from proxy.values import Value

_BY_DEFAULT: Final = ("no-allow-line", "tool-may-not-act")
_PLACE: Final = re.compile(r"\S+\.csv:[0-9]+\S*")
_MOST_OTHERS: Final = 20
"""Lines that did nothing to a decision, of those that did so for one reason: a policy may have 100,000."""
_SAID: Final = {
    Said.APPLIED: "green",
    Said.CONDITION_FALSE: "yellow",
    Said.CONDITION_UNKNOWN: "yellow",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What the proxy answers, or answered."""

    status: int = 200
    cause: str = ""
    """Why it is no permit; '' where it is one."""
    why: str = ""
    """What is wrong with a request that the lines permit."""

    @property
    def permitted(self) -> bool:
        """Whether it is a permit."""
        return not self.cause


@dataclass(frozen=True, kw_only=True, slots=True)
class Explained:
    """Who asks for what, what is answered, and what led to it."""

    who: Subject
    about: str
    """A report; of a lockdown what it calls several."""
    context: Context
    found: Explanation
    answer: Answer


def show(explained: Explained) -> None:
    """Print it for people."""
    out = console()
    who, found, answer = explained.who, explained.found, explained.answer
    out.print(_headline(explained))
    if who.groups:
        out.print(f"  groups: {', '.join(map(visible, who.groups))}")
    for name in found.attributes:
        value = explained.context.attributes.get(name.removeprefix("sub."))
        shown = "unknown: no token or file says it" if value is None else _shown(value)
        out.print(f"  {name} = {visible(shown)}")
    _show_lines(out, found)
    if found.fields:
        _show_fields(out, found.fields)
    if found.sorted_for:
        hidden = visible(", ".join(found.sorted_for))
        out.print(
            f"\nRows are sorted anew: the store orders them by {hidden}, not clear in every row."
        )
    if found.parameters:
        _show_parameters(out, found.parameters)
    if answer.why:
        click.echo(f"the request is refused ({answer.status}): {visible(answer.why)}")


def _headline(explained: Explained) -> Text:
    who, context, answer = explained.who, explained.context, explained.answer
    does = " reads" if context.action == Action.READ else f": {context.action} on"
    through = f" through {who.tool}" if who.user and who.tool else ""
    asked = f"{who.name}{does} {explained.about}{through}"
    if answer.permitted:
        return Text.assemble(("permitted", "bold green"), f": {visible(asked)}")
    # Whose request is refused holds a grant all the same.
    word = "denied" if isinstance(explained.found.decision, Deny) else "refused"
    on = f" on {explained.found.refused_on}" if explained.found.refused_on else ""
    told = visible(f"{asked} ({answer.status}, cause {answer.cause}{on})")
    return Text.assemble((word, "bold red"), f": {told}")


def _shown(value: Value) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple | frozenset | list) else str(value)


def _show_lines(console: Console, found: Explanation) -> None:
    lines, left = _some(sorted(found.lines, key=lambda line: line.said is not Said.APPLIED))
    places = _column("line", (str(each.line) for each in lines))
    table = _table(places, "who", "action", "when", "effect", "")
    for each in lines:
        table.add_row(
            *map(Text, map(visible, (str(each.line), each.principal, each.action, each.when, each.effect))),
            Text(visible(": ".join(filter(None, (each.said, each.why)))), style=_SAID.get(each.said, "dim")),
        )  # fmt: skip
    console.print("\nAccess:" if lines else "\nAccess: no `p` line is about this report.")
    if lines:
        console.print(table)
    for said, more in left.items():
        console.print(f"and {more} more: {said} (--json has all)", style="dim")
    if isinstance(found.decision, Deny) and found.decision.cause in _BY_DEFAULT:
        console.print("What no line allows is denied.")


def _some(lines: Sequence[Access]) -> tuple[list[Access], Counter[Said]]:
    """All that counted, and of the others so many for each reason; and how many more there are of it."""
    seen: Counter[Said] = Counter()
    some: list[Access] = []
    for each in lines:
        seen[each.said] += 1
        if each.said is Said.APPLIED or seen[each.said] <= _MOST_OTHERS:
            some.append(each)
    del seen[Said.APPLIED]
    return some, Counter({said: n - _MOST_OTHERS for said, n in seen.items() if n > _MOST_OTHERS})


def _show_fields(console: Console, fields: tuple[Seen, ...]) -> None:
    rows: list[tuple[Text, ...]] = []
    alike: dict[tuple[tuple[Form, ...], str], list[str]] = {}
    for seen in fields:
        alike.setdefault((seen.forms, seen.why_absent), []).append(visible(seen.field))
    for (forms, why_absent), names in alike.items():
        shown = Text(", ".join(names))
        if why_absent:
            absent = Text("absent", style="red")
            rows.append((absent, Text(), shown, Text(visible(why_absent)), Text()))
            shown = Text("″")
        for form in forms:
            nothing = form.why_not or form.where.startswith(NONE)
            style = "dim" if nothing else "red" if form.form == "deny" else "green"
            why = ", ".join(map(str, form.lines))
            if form.why_not:
                why = f"not given: {form.why_not} ({why})"
            condition = "" if form.rows == "true" else visible(form.rows)
            told = (visible(form.form), visible(form.where))
            rows.append(
                (*(Text(each, style=style) for each in told), shown, Text(why), Text(condition))
            )
            shown = Text("″")
    lines = _column("why", (str(row[3]) for row in rows))
    table = _table("form", "rows", "fields", lines, "condition")
    for row in rows:
        table.add_row(*row)
    console.print("\nCells; of several forms the first whose rows match is given, and a deny wins:")
    console.print(table)


def _show_parameters(console: Console, parameters: tuple[Usable, ...]) -> None:
    told = [
        Text(visible(_use(each)), style="yellow" if each.hidden else "green") for each in parameters
    ]
    table = _table("parameter", "by", "fields", _column("", map(str, told)))
    for each, use in zip(parameters, told, strict=True):
        looks_at = Text(visible(", ".join(each.looks_at)))
        table.add_row(visible(each.parameter), each.by, looks_at, use)
    console.print("\nParameters; each field that one looks at must be clear in every row:")
    console.print(table)


def _use(usable: Usable) -> str:
    if not usable.hidden:
        return "may be used" + (f", up to {usable.most}" if usable.most else "")
    hidden = "; ".join(f"{field}, {why}" for field, why in usable.hidden)
    return f"{'refused:' if usable.never else 'refused with'} {hidden}"


def _table(*columns: str | Column) -> Table:
    """A table of which nothing is cut off, on a narrow terminal neither."""
    folding = (Column(c, overflow="fold") if isinstance(c, str) else c for c in columns)
    return Table(*folding, box=None, pad_edge=False)


def _column(header: str, texts: Iterable[str]) -> Column:
    """A column as wide as the places of lines in it, which are broken nowhere."""
    places = (place for text in texts for place in _PLACE.findall(text))
    return Column(header, overflow="fold", min_width=max(map(len, places), default=None))


def document(explained: Explained) -> dict[str, Any]:
    """What is shown, for programs."""
    found, answer = explained.found, explained.answer
    refused = {"refused": {"status": answer.status, "why": answer.why}} if answer.why else {}
    return {
        "subject": explained.who.name,
        "groups": explained.who.groups,
        "action": explained.context.action,
        "report": explained.about,
        "refused_on": found.refused_on,
        "decision": "permit" if answer.permitted else "deny",
        "cause": answer.cause,
        "status": answer.status,
        "lines": [
            {
                "line": str(each.line), "principal": each.principal, "action": each.action,
                "when": each.when, "effect": each.effect, "said": each.said.value, "why": each.why,
            }
            for each in found.lines
        ],
        "fields": [
            {
                "field": seen.field, "class": seen.class_, "absent": seen.why_absent,
                "forms": [
                    {
                        "form": form.form, "rows": form.rows, "where": form.where,
                        "lines": [*map(str, form.lines)], "why_not": form.why_not,
                    }
                    for form in seen.forms
                ],
            }
            for seen in found.fields
        ],
        "sorted_for": found.sorted_for,
        "parameters": [
            {
                "parameter": each.parameter, "by": each.by, "fields": each.looks_at, "never": each.never,
                "most": each.most,
                "hidden": [{"field": field, "why": why} for field, why in each.hidden],
            }
            for each in found.parameters
        ],
        **refused,
    }  # fmt: skip
