"""The table of what is odd about a policy but no fault of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from proxy.errors import Fault
from proxy.review import idle, telling, undone
from proxy.review.written import Written


class Lint(NamedTuple):
    """One row of the table of warnings."""

    why: str
    """What comes of it, for the documentation."""
    look: Callable[[Written], Iterator[Fault]]


LINT: Final[Mapping[str, Lint]] = {
    "role-unheld": Lint(
        "The lines of a role that nobody holds grant and deny nothing.", idle.unheld
    ),
    "role-empty": Lint(
        "A role that is given and has no line, but nearly the name of one that has: a slip loses a deny.",
        idle.empty,
    ),
    "never-applies": Lint("A line whose condition is false does nothing.", idle.never),
    "over": Lint(
        "A line whose time is over for good does nothing, and is taken for one that does. (Where it looks at "
        "the date: needs the extra `review`.)",
        idle.over,
    ),
    "said-twice": Lint(
        "Of two equal lines one will be forgotten when the other is changed.", idle.twice
    ),
    "shadowed": Lint("A deny wins over every allow, so the line gives nothing.", undone.shadowed),
    "nobody-reads": Lint("Cells are given only to those who may read the report.", idle.unreadable),
    "no-cells": Lint(
        "Who may read a report and is given no cell of it is refused like everybody else.",
        idle.cellless,
    ),
    "nothing-sealed": Lint(
        "There is nothing to reveal of a field that nobody is given encrypted or tokenised.",
        idle.unsealed,
    ),
    "field-elsewhere": Lint(
        "A field that a report lacks is unknown there: a deny line hides all that it names, an allow line "
        "gives nothing. (Needs the extra `review`.)",
        idle.elsewhere,
    ),
    "given-to-anyone": Lint(
        "Whoever has a valid token sees confidential or personal fields in clear.", telling.broad
    ),
    "contradiction": Lint(
        "No row and no requester meets the condition, so the line does nothing. (Needs the extra `review`.)",
        idle.contradictory,
    ),
    "hidden": Lint(
        "A deny line applies wherever this one does, so it gives nothing. (Needs the extra `review`.)",
        undone.hidden,
    ),
    "redundant": Lint(
        "Other lines do all that this one does, or give a preferred form: to edit it changes nothing. "
        "(Where conditions differ: needs the extra `review`.)",
        undone.redundant,
    ),
    "guessable": Lint(
        "Equal values have equal pseudonyms and tokens: over the few values of a type, or of a parameter's "
        "`allowed`, they hide nothing.",
        telling.guessable,
    ),
    "probeable": Lint(
        "A parameter would tell of what the form hides, so whoever sees nothing else may not use it (403).",
        telling.probeable,
    ),
    "parameter-without-field": Lint(
        "A parameter by which the store selects tells of a field all the same, and is refused to nobody.",
        telling.unbound,
    ),
    "parameter-mismatch": Lint(
        "A value that does not compare with the field's selects nothing, or another field than it says.",
        telling.mismatched,
    ),
    "unread": Lint(
        "A file that looks like one of the policy's and has another name: a deny in it is lost.",
        idle.unread,
    ),
    "mixed-letters": Lint(
        "A name with letters of two alphabets may not be the one that it looks like, and a deny be lost.",
        telling.mixed,
    ),
}
"""Kind of warning -> why it matters, and how it is found."""
