"""Two versions of a small policy for the tests of their difference, and how a cell's forms in them differ."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.policy.rules import MODEL
from proxy.review.pairs import Kind

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
