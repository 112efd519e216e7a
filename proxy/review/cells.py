"""How two plans of one requester on one report differ, field by field.

Compared are the plans, not rows: for each field the forms that it can have, most preferred first, with
the rows for which each is given, and what hides it. So a difference may lie in rows that a report never
had, and none is missed; what is proved to be none in any row is not told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from proxy.plan import Plan
from proxy.review.alike import Alike
from proxy.review.rules import Bound, Rules, bound_for, rules_of
from proxy.review.then import Given
from proxy.values import Value

ABSENT: Final = "absent"
_LUMPED = re.compile(r"\+[0-9]+\Z")
"""The name under which a record counts the fields together that it does not name."""
_NOTHING: Final = Rules()
_MOST_REMEMBERED: Final = 2_048
"""Plans, as bound to requesters, whose rules are remembered."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldChange:
    """One field whose cells were given in some forms, and would now be in others."""

    field: str
    then: tuple[str, ...]
    now: tuple[str, ...]


class Cells:
    """Compares what is given then and now; what many requesters have alike is looked at once."""

    def __init__(self, alike: Alike) -> None:
        self._alike = alike
        self._known: dict[tuple[Plan, Bound], Mapping[str, Rules]] = {}

    def changes(self, then: Given, now: Given) -> tuple[FieldChange, ...]:
        """The fields whose forms or rows differ, in the catalogue's order (of now, then of then)."""
        before, after, changed = self._rules(then), self._rules(now), _changed(then, now)
        found, by_attributes = [], []
        for name in dict.fromkeys((*after, *before)):
            was, is_ = before.get(name, _NOTHING), after.get(name, _NOTHING)
            if was.key != is_.key and not self._alike.proves(then, was, now, is_):
                found.append(FieldChange(field=name, then=_forms(was), now=_forms(is_)))
            elif read := changed and (was.attributes | is_.attributes) & changed:
                by_attributes.append(
                    FieldChange(
                        field=name, then=_attributes(read, then), now=_attributes(read, now)
                    )
                )
        return (*found, *by_attributes)

    def recorded(
        self, fields: Mapping[str, Mapping[str, int]], rows: int, now: Given
    ) -> tuple[FieldChange, ...] | None:
        """The same from the forms on record alone; None where these do not tell.

        Rows that were not given then are not on record: it is not seen that they would be now.
        """
        after = self._rules(now)
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
            rules = after.get(name, _NOTHING)
            possible = tuple([form.name for form in rules.forms])
            if rules.forms and (rules.denies or rules.forms[0].rows):
                # Which of its forms the cells of then would have now depends on their rows.
                certain = False
                if was and not set(was) <= {*possible, ABSENT}:
                    found.append(FieldChange(field=name, then=was, now=_forms(rules)))
            elif _LUMPED.match(name) is None and (was or (ABSENT,)) != (possible or (ABSENT,)):
                found.append(FieldChange(field=name, then=was or (ABSENT,), now=_forms(rules)))
        return tuple(found) if found or certain else None

    def _rules(self, given: Given) -> Mapping[str, Rules]:
        key = (given.plan, bound_for(given))
        rules = self._known.get(key)
        if rules is None:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            rules = self._known[key] = rules_of(*key, given.scope)
        return rules


def doubtful(then: Given, now: Given) -> frozenset[str]:
    """Attributes that decide which rows are given, known on one side alone or taken from elsewhere."""
    read = then.plan.attributes & now.plan.attributes
    return frozenset(read & (then.unknown ^ now.unknown))


def _forms(rules: Rules) -> tuple[str, ...]:
    """The forms in words: `clear where row.region == 'North'`, `round(100)`."""
    words = [
        f"{form.name}{where}"
        for form in rules.forms
        for where in ([f" where {rows.text}" for rows in form.rows] or [""])
    ]
    words += [f"{ABSENT} where {rows.text}" for rows in rules.denies]
    return tuple(words) or (ABSENT,)


def _changed(then: Given, now: Given) -> frozenset[str]:
    """The attributes that are known of then and of now, and differ."""
    before, after = then.context.attributes, now.context.attributes
    known = (before.keys() | after.keys()) - then.unknown - now.unknown
    return frozenset(name for name in known if before.get(name) != after.get(name))


def _attributes(names: Iterable[str], given: Given) -> tuple[str, ...]:
    values = given.context.attributes
    return tuple(f"rows by sub.{name} = {_value(values.get(name))}" for name in sorted(names))


def _value(value: Value | None) -> str:
    if value is None:
        return "nothing"
    listed = value if isinstance(value, tuple) else (value,)
    shown = ", ".join(map(str, listed[:5]))
    return f"{shown}, … ({len(listed)})" if len(listed) > 5 else shown or "an empty list"
