"""How two plans of one requester on one report differ, field by field.

Compared are the plans, not rows: for each field the forms that it can have, most preferred first, with
the rows for which each is given, and what hides it. So a difference may lie in rows that a report never
had, and none is missed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from proxy.plan import Column, Plan
from proxy.review.then import Given
from proxy.values import Value

ABSENT: Final = "absent"
_LUMPED = re.compile(r"\+[0-9]+\Z")
"""The name under which a record counts the fields together that it does not name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldChange:
    """One field whose cells were given in some forms, and would now be in others."""

    field: str
    then: tuple[str, ...]
    now: tuple[str, ...]


def changes(then: Given, now: Given) -> tuple[FieldChange, ...]:
    """The fields whose forms or rows differ, in the catalogue's order (of now, then of then)."""
    before, after = _columns(then.plan), _columns(now.plan)
    found = []
    for name in dict.fromkeys((*after, *before)):
        was, is_ = before.get(name), after.get(name)
        if _rules(was, then.plan) == _rules(is_, now.plan):
            continue
        found.append(
            FieldChange(field=name, then=_forms(was, then.plan), now=_forms(is_, now.plan))
        )
    found += _by_attributes(then, now, before.keys() & after.keys() - {c.field for c in found})
    return tuple(found)


def doubtful(then: Given, now: Given) -> frozenset[str]:
    """Attributes that decide which rows are given, known on one side alone or taken from elsewhere."""
    read = then.plan.attributes & now.plan.attributes
    return frozenset(read & (then.unknown ^ now.unknown))


def recorded(
    fields: Mapping[str, Mapping[str, int]], rows: int, now: Given
) -> tuple[FieldChange, ...] | None:
    """The same from the forms on record alone; None where these do not tell.

    Rows that were not given then are not on record: it is not seen that they would be now.
    """
    after = _columns(now.plan)
    if not rows:
        return ()
    found = []
    certain = not any(_LUMPED.match(name) for name in fields)
    for name in dict.fromkeys((*after, *fields)):
        if not certain and name not in fields:
            continue
        given = fields.get(name, {})
        was = tuple(sorted(form for form, cells in given.items() if cells))
        if was and sum(given.values()) < rows:
            was = (*was, ABSENT)
        column = after.get(name)
        possible = _names(column)
        if column is not None and not _is_whole(column, now.plan):
            # Which of its forms the cells of then would have now depends on their rows.
            certain = False
            if was and not set(was) <= {*possible, ABSENT}:
                found.append(FieldChange(field=name, then=was, now=_forms(column, now.plan)))
        elif _LUMPED.match(name) is None and (was or (ABSENT,)) != (possible[:1] or (ABSENT,)):
            found.append(
                FieldChange(field=name, then=was or (ABSENT,), now=_forms(column, now.plan))
            )
    return tuple(found) if found or certain else None


def _columns(plan: Plan) -> dict[str, Column]:
    return {column.field.name: column for column in plan.columns if column.choices}


def _rules(column: Column | None, plan: Plan) -> object:
    """What decides the form of a field's cells; equal where that is the same."""
    if column is None:
        return None
    return (
        [(plan.predicates[choice.when], choice.treatment) for choice in column.choices],
        {plan.predicates[number] for number in column.denies},
    )


def _names(column: Column | None) -> tuple[str, ...]:
    if column is None:
        return ()
    return tuple(dict.fromkeys(str(choice.treatment) for choice in column.choices))


def _is_whole(column: Column, plan: Plan) -> bool:
    """Whether the field has its first form in every row."""
    return not column.denies and plan.predicates[column.choices[0].when].text == "true"


def _forms(column: Column | None, plan: Plan) -> tuple[str, ...]:
    """The forms in words: `clear where row.region == 'North'`, `round(100)`."""
    if column is None:
        return (ABSENT,)
    words = [
        str(choice.treatment) + _where(plan.predicates[choice.when].text)
        for choice in column.choices
    ]
    words += [f"{ABSENT}{_where(plan.predicates[number].text)}" for number in column.denies]
    return tuple(words)


def _where(text: str) -> str:
    return "" if text == "true" else f" where {text}"


def _by_attributes(then: Given, now: Given, fields: Iterable[str]) -> list[FieldChange]:
    """Fields whose rules are the same, but not the attributes that these read."""
    changed = {
        name
        for name in then.plan.attributes | now.plan.attributes
        if name not in then.unknown | now.unknown
        and then.attributes.get(name) != now.attributes.get(name)
    }
    columns = _columns(now.plan)
    found = []
    for name in (name for name in columns if name in fields):
        column = columns[name]
        numbers = {choice.when for choice in column.choices} | set(column.denies)
        read = frozenset().union(*(now.plan.predicates[n].attributes for n in numbers)) & changed
        if read:
            found.append(
                FieldChange(
                    field=name,
                    then=_attributes(read, then.attributes),
                    now=_attributes(read, now.attributes),
                )
            )
    return found


def _attributes(names: Iterable[str], attributes: Mapping[str, Value]) -> tuple[str, ...]:
    return tuple(f"rows by sub.{name} = {_value(attributes.get(name))}" for name in sorted(names))


def _value(value: Value | None) -> str:
    if value is None:
        return "nothing"
    listed = value if isinstance(value, tuple) else (value,)
    shown = ", ".join(map(str, listed[:5]))
    return f"{shown}, … ({len(listed)})" if len(listed) > 5 else shown or "an empty list"
