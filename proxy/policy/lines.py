"""The lines of a policy, parsed and checked: access rules (`p`) and cell rules (`p2`).

Every principal is typed, `user:` `group:` `tool:` `role:` or `anyone`; a token can never name a
`role:`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Final

import msgspec

from proxy.plan import Line
from proxy.policy.conditions import Condition, Form
from proxy.treatments import Treatment

ANYONE: Final = "anyone"
"""The principal that every authenticated requester is."""


class Action(StrEnum):
    """What can be done with a report."""

    READ = "read"
    """Get the report."""
    ACT = "act"
    """Ask on behalf of a user: a tool's own permission, which lends the user nothing."""
    REVEAL = "reveal"
    """Get back what is encrypted or tokenised."""
    DOWNLOAD = "download"
    """Get a body that the proxy cannot look into."""
    GRANT = "grant"
    """Give somebody else, for a time, what a role gives on the report."""
    LOCKDOWN = "lockdown"
    """Refuse everybody the report, and end that."""


WITHOUT_CELLS: Final = frozenset({Action.GRANT, Action.LOCKDOWN})
"""Actions that give no cells: who may do them needs no cell rule."""


GIVES_CELLS: Final = frozenset({Action.READ, Action.REVEAL})
"""Actions of which cell rules say what they give, row by row."""


class Effect(StrEnum):
    """What an access rule does; a deny wins over every allow."""

    ALLOW = "allow"
    DENY = "deny"


class AccessRule(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who may do what: `p, sub, report, action, when, effect`."""

    line: Line
    principal: str
    report: str
    """As written: an id, `prefix/*` or `set:name`."""
    action: Action
    when: Condition
    effect: Effect


class CellRule(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who sees which cells in what form: `p2, sub, report, rows, fields, treatment`."""

    line: Line
    principal: str
    report: str
    """As written: an id, `prefix/*` or `set:name`."""
    rows: Mapping[str, Condition]
    """For each report that the line covers: the condition, checked against that report's fields."""
    fields: Mapping[str, frozenset[str]]
    """For each report that the line covers: the declared fields that it names."""
    treatment: Treatment | None
    """None: `deny`, for whatever action; `clear` for a line whose treatment is written `reveal`."""
    action: Action = Action.READ
    """What the line gives cells to: `read`, or `reveal`."""

    def looks_at(self, report: str) -> frozenset[str]:
        """The fields that its row condition reads on a report."""
        rows = self.rows
        return rows.fields(report) if isinstance(rows, Rows) else rows[report].fields


class Rows(Mapping[str, Condition]):
    """A line's row condition for each report that it covers, made when it is first asked for.

    Reports that declare alike whatever the condition can name share one.
    """

    __slots__ = ("_forms", "_literals", "_made")

    def __init__(self, forms: Mapping[str, Form], literals: tuple[str, ...]) -> None:
        """`literals` are what `Form.read` gives."""
        self._forms = forms
        self._literals = literals
        self._made: dict[Form, Condition] | None = None

    def __getitem__(self, report: str) -> Condition:
        form = self._forms[report]
        if self._made is None:
            self._made = {}
        found = self._made.get(form)
        if found is None:
            found = self._made[form] = form.condition(self._literals)
        return found

    def fields(self, report: str) -> frozenset[str]:
        """The fields that the condition reads on a report, without making it."""
        return self._forms[report].fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._forms)

    def __len__(self) -> int:
        return len(self._forms)


def patterns(report: str) -> tuple[str, ...]:
    """The id of a report and each `prefix/*` that it is under: `a/b/c` -> `a/b/c`, `a/*`, `a/b/*`.

    Anchored: `public/*` never covers `public-secret`, nor `public/` alone.
    """
    slashes = [at for at, character in enumerate(report[:-1]) if character == "/"]
    return (report, *[f"{report[:at]}/*" for at in slashes])
