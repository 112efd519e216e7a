"""Two versions of a small policy for the tests of their difference, and how a cell's forms in them differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from proxy.batch import PLAIN, Batch
from proxy.few import Few
from proxy.plan import Context, Plan
from proxy.policy.rules import MODEL
from proxy.review.changes import Kind
from proxy.values import Type

REPORTS = """
purposes: [audit]
stores:
  sales: {url: "https://store.invalid"}
reports:
  sales/daily:
    title: Daily
    store: sales
    variants:
      - {path: /daily.csv, source: /daily.csv, format: csv}
    fields:
"""
SUBJECTS = """
issuers:
  - issuer: https://id.test.invalid
    prefix: ""
    audience: [counterfoil]
    keys: {url: https://id.test.invalid/keys}
"""


def files(
    rules: str, *, fields: Mapping[str, str], subjects: str = "", **more: str
) -> dict[str, bytes]:
    """A folder of policies about one report; `subjects` are more lines of its issuer."""
    declared = "".join(f"      {name}: {type_}\n" for name, type_ in fields.items())
    texts = {
        "model.conf": MODEL,
        "policy.csv": rules,
        "reports.yaml": REPORTS + declared,
        "subjects.yaml": SUBJECTS + subjects,
        **{f"{name}.csv": text for name, text in more.items()},
    }
    return {name: text.encode() for name, text in texts.items()}


def turn(
    was: Mapping[str, str], now: Mapping[str, str], field: str
) -> tuple[Kind, str, str, str] | None:
    """How a field of a row differs, of which each field that is given has its form; None: it does not."""
    a, b = was.get(field, "absent"), now.get(field, "absent")
    if a == b:
        return None
    kind = Kind.CHANGES
    if a == "absent":
        kind = Kind.GAINS if was else Kind.GAINS_ROWS
    elif b == "absent":
        kind = Kind.LOSES if now else Kind.LOSES_ROWS
    return kind, field, a, b


def table(rows: Sequence[Mapping[str, str | None]], types: Mapping[str, Type]) -> Batch:
    """All rows of a small world, to be decided on at once."""
    cells = {name: Few([row[name] for row in rows]) for name in rows[0]}
    return Batch(cells, height=len(rows), lexis=PLAIN, types=types, few=True)


def forms(plan: Plan, context: Context, rows: Batch) -> list[dict[str, str]]:
    """Of each row, field -> form, as the plan's conditions and columns have it."""
    truths = []
    for each in plan.predicates:
        bound = each.bind(context)
        truths.append([*bound(rows)] if callable(bound) else [bound] * rows.height)
    found: list[dict[str, str]] = [{} for _ in range(rows.height)]
    for column in plan.columns:
        choices = [(truths[c.when], str(c.treatment)) for c in column.choices]
        denies = [truths[number] for number in column.denies]
        for number, row in enumerate(found):
            if all(denied[number] is False for denied in denies):
                form = next((form for truth, form in choices if truth[number] is True), None)
                if form is not None:
                    row[column.field.name] = form
    return found
