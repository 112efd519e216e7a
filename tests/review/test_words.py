"""Conditions in words, for a request whose attributes and context are known."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from proxy.plan import Context
from proxy.policy.conditions import Scope
from proxy.policy.conditions import compile as condition_of
from proxy.policy.lines import Effect
from proxy.review.words import rows_in_words
from proxy.subject import AttributeType
from proxy.values import Type

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SCOPE = Scope(
    fields={
        "region": Type.TEXT, "units": Type.INTEGER, "net": Type.DECIMAL, "paid": Type.BOOLEAN,
        "day": Type.DATE, "at": Type.DATETIME,
    },
    elsewhere={},
    attributes={
        "stores": AttributeType(type=Type.TEXT, many=True),
        "none": AttributeType(type=Type.TEXT, many=True),
        "region": AttributeType(type=Type.TEXT),
        "level": AttributeType(type=Type.INTEGER),
    },
)  # fmt: skip
CONTEXT = Context(
    attributes={"stores": ("2191", "2192"), "none": (), "region": "North"}, now=NOW, date=NOW.date(),
    ip="10.0.0.7", purpose="", tool="", action="read", method="GET",
)  # fmt: skip


def told(text: str, effect: Effect = Effect.ALLOW) -> str:
    return rows_in_words(condition_of(text, SCOPE), CONTEXT, effect)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("true", "every row"),
        ("env.purpose == ''", "every row"),
        ("row.region in sub.stores", "rows whose region is one of 2191, 2192"),
        ("row.region not in sub.stores", "rows whose region is none of 2191, 2192"),
        ("row.region in ['a, b', ' c', 'd']", "rows whose region is one of 'a, b', ' c', d"),
        ("row.region == sub.region", "rows whose region is North"),
        ("'North' != row.region", "rows whose region is not North"),
        ("not row.units < 5", "rows whose units is at least 5"),
        ("10 < row.net and row.paid", "rows whose net is above 10 and paid is true"),
        ("row.net > -1.50", "rows whose net is above -1.5"),
        ("row.day >= env.date - days(30)", "rows whose day is 2026-01-30 or after"),
        ("row.at < env.now", "rows whose at is before 2026-03-01T12:00:00Z"),
        ("not present(row.day)", "rows whose day has no value"),
        ("not starts(row.region, 'N')", "rows whose region does not start with N"),
        (
            "row.paid and (row.units == 1 or row.units == 2)",
            "rows whose paid is true and (units is 1 or units is 2)",
        ),
        (
            "row.paid and row.units * 2 > row.net and sub.region == 'North'",
            "rows whose paid is true and for which row.units * 2 > row.net",
        ),
        ("row.paid or sub.level > 3", "rows whose paid is true"),
        ("row.paid and sub.level > 3", "no row: sub.level is unknown"),
        ("row.paid and sub.region == 'South'", "no row: `sub.region == 'South'` is false"),
        ("row.region in sub.none", "no row: sub.none is empty"),
        ("row.paid and not (sub.level > 3 or row.units > 1)", "no row: sub.level is unknown"),
        ("row.units / 0 > 1", "rows for which row.units / 0 > 1"),
    ],
)
def test_an_allow_gives_rows_for_which_its_condition_is_true(text, words):
    """What the request leaves of it, as people say it; what they cannot is the condition's own text."""
    assert told(text) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("true", "every row"),
        ("row.paid", "rows whose paid is true, or where that is unknown"),
        ("not present(row.day)", "rows whose day has no value"),
        ("row.paid or sub.level > 3", "every row: sub.level is unknown"),
        ("row.paid and sub.level > 3", "rows whose paid is true, or where that is unknown"),
        ("sub.region == 'South' or sub.level > 3", "every row: sub.level is unknown"),
        ("row.paid and sub.region == 'South'", "no row: `sub.region == 'South'` is false"),
    ],
)
def test_a_deny_hides_rows_for_which_its_condition_is_not_false(text, words):
    """What is unknown counts for it, and is said."""
    assert told(text, Effect.DENY) == words
