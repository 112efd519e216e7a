"""Where `suppress` could be taken from another answer: a fault of the policy, on each line that allows it.

`suppress` hides a cell whose group has too few rows. Two answers on one report of which the difference is
such a group would tell of it. So on a report of which a line gives a field in this form

- no parameter selects rows: one may order them, but not filter, group or page them;
- no line, whoever it is about, looks at a row: whoever sees some rows of a field would be subtracted from
  who sees all. A line may still hang on the time or the requester;
- all lines count by the same fields, up to the same number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from proxy.policy.lines import CellRule
from proxy.report import By, Report

ROWS: Final = 3
"""The cell of a `p2` line that says which rows."""
TREATMENT: Final = 5
"""The cell that says in which form."""


def differenced(
    rules: Sequence[CellRule], reports: Mapping[str, Report]
) -> Iterator[tuple[int, int, str, str]]:
    """Find the lines that would tell of what is suppressed.

    Yields each one's number in `rules`, the cell that is at fault, a message and a hint.
    """
    first: dict[str, CellRule] = {}
    for number, rule in enumerate(rules):
        treatment = rule.treatment
        if treatment is None or treatment.counting is None:
            continue
        for id_ in _about(rule):
            known = first.setdefault(id_, rule)
            if known is rule:
                selecting = [n for n, p in reports[id_].parameters.items() if p.by is not By.ORDER]
                if selecting:
                    yield (
                        number,
                        TREATMENT,
                        f"`{selecting[0]}` of `{id_}` selects rows, which tells of suppressed ones",
                        "declare a report without parameters but those that order, or give another form",
                    )
            elif known.treatment != treatment:
                yield (
                    number,
                    TREATMENT,
                    f"`{treatment}`, `{known.treatment}` ({known.line}) count differently on `{id_}`",
                    "what one hides, the other tells: give one of them wherever one is given",
                )
    for number, rule in enumerate(rules if first else ()):
        for id_ in _about(rule):
            if id_ in first and rule.rows[id_].fields:
                yield (
                    number,
                    ROWS,
                    f"a line that looks at rows of `{id_}` tells of what {first[id_].line} suppresses",
                    "write a condition without `row.`, as `true`, or give another form than `suppress`",
                )


def _about(rule: CellRule) -> Iterator[str]:
    """The reports of which a line names a field."""
    for id_, fields in rule.fields.items():
        if fields:
            yield id_
