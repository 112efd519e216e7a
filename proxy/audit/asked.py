"""What is asked of the accesses of a log, and its words in SQL: exact ones, of a row by itself.

Whatever an index is good for, a row is in an answer where these words say so of it, so that a reader's
overlay and the index are looked at by the same words.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from proxy.access import written
from proxy.audit.accesses import OUTCOMES
from proxy.audit.facets import CUT

NOT_OPENED: Final = "outcome <> 'opened'"


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """Conditions that an access fits all of; what is left out is any.

    Lists that were too long for a record end with how many more there were (`+12`). What is asked of
    groups, or of fields, is taken to be among those: an answer may have an access too many, and never
    lacks one.
    """

    subject: str = ""
    """A principal, or an opaque id …"""
    ids: tuple[str, ...] = ()
    """… with more opaque ids of the same one, that the directory does not know."""
    group: str = ""
    """`group:` may be left out."""
    tool: str = ""
    """`tool:` may be left out."""
    report: str = ""
    """An id, or `prefix/*`."""
    action: str = ""
    """`read`, `reveal`, `grant` or `lockdown`; where no report was found, `read` is on no record."""
    parameters: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Names, each with the forms in which its value may be on record, of which it has one."""
    field: str = ""
    """Given, in whatever form …"""
    treatment: str = ""
    """… or in this one: `round(100)`, or by its name, `round`."""
    purpose: str = ""
    since: datetime | None = None
    until: datetime | None = None
    """It was going on at some instant t of it, since ≤ t < until."""
    outcome: str = ""
    """A decision, a reason, a cause or one of OUTCOMES; openings of logs are no accesses otherwise."""
    rows_over: int | None = None
    """It was given more rows than that."""
    policy: str = ""
    """How the hash of the policy's version begins, as the newest record has it."""

    @property
    def digits(self) -> int:
        """How many digits the least number of rows has that is enough."""
        return 0 if self.rows_over is None else len(str(self.rows_over + 1))


Values = dict[str, object]
"""What stands for the names in words of SQL."""


def stored(text: str) -> str:
    """A text as the index has it: SQLite's JSON functions cut at NUL, so that is its symbol there."""
    return text.replace("\0", "\u2400")


def listed(texts: tuple[str, ...]) -> str:
    """The texts as one value, for `json_each`."""
    return msgspec.json.encode([*map(stored, texts)]).decode()


def of_shapes(asked: Asked) -> tuple[list[str], Values]:
    """The conditions on what an access has in common with others; the same of rows and of shapes."""
    where, values = [], Values()
    if asked.outcome != "opened":
        where.append(NOT_OPENED)
    if asked.report.endswith("/*"):
        where.append("report >= :report AND report < :beyond")  # `0` is the character after `/`
        values |= {"report": stored(asked.report[:-1]), "beyond": stored(asked.report[:-2]) + "0"}
    elif asked.report:
        where.append("report = :report")
        values["report"] = stored(asked.report)
    if asked.tool:
        where.append("tool IN (:tool, 'tool:' || :tool)")
        values["tool"] = stored(asked.tool)
    if asked.action:
        where.append("action = :action")
        values["action"] = asked.action
    if asked.outcome:
        values["outcome"] = stored(asked.outcome)
        if asked.outcome in ("permit", "deny"):
            where.append("decision = :outcome")
        elif asked.outcome in OUTCOMES:
            where.append("outcome = :outcome")
        else:
            where.append("(reason = :outcome OR cause = :outcome)")
    return where, values


def of_forms(asked: Asked, field: str, form: str) -> tuple[list[str], Values]:
    """The conditions on a field and its form, in columns of these names."""
    where, values = [], Values()
    if asked.field:
        where.append(f"({field} = :field OR {field} GLOB '{CUT}')")
        values["field"] = stored(asked.field)
    if asked.treatment:
        named = f"{form} >= :treatment || '(' AND {form} < :treatment || ')'"  # `)` comes after `(`
        cut = f"{field} GLOB '{CUT}' AND {form} = ''"
        where.append(f"({form} = :treatment OR {named} OR {cut})")
        values["treatment"] = stored(asked.treatment)
    return where, values


def of_rows(asked: Asked, subjects: tuple[str, ...]) -> tuple[str, Values]:
    """All conditions, on a row of `access` that is called `a`; `subjects`: the ids of the one asked for."""
    where, values = of_shapes(asked)
    between, times = going_on(asked.since, asked.until)
    where += between
    values |= times
    if asked.subject:
        where.append("subject IN (SELECT value FROM json_each(:subjects))")
        values["subjects"] = listed(subjects)
    if asked.group:
        of_group = f"value IN (:group, 'group:' || :group) OR value GLOB '{CUT}'"
        where.append(f"EXISTS (SELECT 1 FROM json_each(a.groups) WHERE {of_group})")
        values["group"] = stored(asked.group)
    for number, (name, forms) in enumerate(asked.parameters):
        of_name = f"key = :name{number} AND value IN (SELECT value FROM json_each(:values{number}))"
        where.append(f"EXISTS (SELECT 1 FROM json_each(a.parameters) WHERE {of_name})")
        values |= {f"name{number}": stored(name), f"values{number}": listed(forms)}
    given, named = of_forms(asked, "f.key", "t.key")
    if given:
        pairs = "json_each(a.fields) AS f, json_each(f.value) AS t"
        where.append(f"EXISTS (SELECT 1 FROM {pairs} WHERE {' AND '.join(given)})")
        values |= named
    if asked.purpose:
        where.append("purpose = :purpose")
        values["purpose"] = stored(asked.purpose)
    if asked.rows_over is not None:
        where.append("a.rows > :over")
        values["over"] = asked.rows_over
    if asked.policy:
        where.append("substr(policy, 1, length(:policy)) = :policy")
        values["policy"] = stored(asked.policy)
    return " AND ".join(where) or "1", values


def going_on(since: datetime | None, until: datetime | None) -> tuple[list[str], Values]:
    """Conditions of accesses that were going on in [since, until), and their values."""
    where, values = [], Values()
    if since is not None:
        where.append("at >= :since")
        values["since"] = written(since)
    if until is not None:
        where.append("started < :until")
        values["until"] = written(until)
    return where, values
