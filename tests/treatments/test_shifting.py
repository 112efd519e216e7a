"""What `shift` keeps and what it hides."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.treatments import parse, shifting
from proxy.values import Type, calendar_date
from tests.treatments.conftest import INSTANTS, KEYRING, PERSON

PEOPLE = [f"C-{n}" for n in range(6000)]


def days_moved(before: str, after: str) -> int:
    return (calendar_date(after[:10]) - calendar_date(before[:10])).days


@given(
    st.integers(1, 400),
    st.lists(st.tuples(st.dates().map(str), st.sampled_from(PEOPLE[:3])), min_size=1, max_size=20),
)
def test_dates_of_a_person_move_together_and_never_stay(apply, most, rows):
    """By one number of whole days, not 0, at most so many; the calendar's end apart."""
    cells, people = ([row[n] for row in rows] for n in (0, 1))
    form = f"shift(days={most}, per='who')"
    moved = {}
    for times in (1, 300):
        found = apply(form, cells * times, Type.DATE, others={"who": people * times})
        for before, after, person in zip(cells * times, found, people * times, strict=True):
            if after is None:
                year = before[:4]
                assert year in ("0001", "0002", "9998", "9999")
                continue
            by = moved.setdefault(person, days_moved(before, after))
            assert by == days_moved(before, after) and 1 <= abs(by) <= most


@given(st.lists(INSTANTS, min_size=1, max_size=10))
def test_an_instant_keeps_its_time_of_day_and_its_writing(apply, cells):
    """Its day alone moves, by as much as a day of the same person does."""
    (day,) = apply("shift(days=9, per='who')", ["2026-03-01"], Type.DATE)
    by = days_moved("2026-03-01", day)
    for before, after in zip(
        cells, apply("shift(days=9, per='who')", cells, Type.DATETIME), strict=True
    ):
        if after is None:
            assert before[:4] in ("0001", "9999")
        else:
            assert after[10:] == before[10:] and days_moved(before, after) == by


def test_the_number_of_days_is_what_the_mac_says(apply):
    """HMAC-SHA-256 of a counter and the person, reduced to the 2N numbers that are not 0."""
    digest = KEYRING.mac("shift", "30", "report", "sales", "audit", "who").digest
    number = int.from_bytes(digest(b"\0\0\0\0" + PERSON.encode()), "big") % 60
    expected = date(2026, 3, 1) + timedelta(days=number - 30 if number < 30 else number - 29)
    found = apply("shift(days=30, per='who')", ["2026-03-01"], Type.DATE, purpose="audit")
    assert found == [expected.isoformat()]


def test_every_number_of_days_is_as_likely_as_any_other(apply):
    """Of 6,000 people, each of -3 … -1, 1 … 3 has about a sixth: chi-squared of 5 degrees below 20.5
    (one in a thousand keys is above; this one is fixed).
    """
    found = apply(
        "shift(days=3, per='who')", ["2026-03-01"] * 6000, Type.DATE, others={"who": PEOPLE}
    )
    counts = Counter(days_moved("2026-03-01", day) for day in found)
    assert set(counts) == {-3, -2, -1, 1, 2, 3}
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 20.5


def test_what_would_be_unfair_is_drawn_again():
    """A MAC beyond the largest multiple of 2N is not reduced, but another one taken."""
    asked = []

    def digest(data: bytes) -> bytes:
        asked.append(data)
        return b"\xff" * 32 if len(asked) < 3 else bytes(32)

    assert shifting._drawn(3, digest, b"C") == -3
    assert asked == [bytes([0, 0, 0, n]) + b"C" for n in range(3)]


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ({}, {"field": "f"}, True),
        ({}, {"subject": "user:bob"}, True),
        ({}, {"report": "other"}, False),
        ({}, {"purpose": "audit"}, False),
        ({"form": "shift(days=300, per='whose')"}, {}, False),
        ({"form": "shift(days=301, per='who')"}, {}, False),
        ({"form": "shift(days=300, per='who', domain='d')"}, {}, False),
        ({"form": "shift(days=300, per='who', domain='d')"},
         {"form": "shift(days=300, per='whose', domain='d')", "report": "other", "purpose": "audit"}, True),
        ({"form": "shift(days=300, per='who', domain='d')"},
         {"form": "shift(days=300, per='who', domain='e')"}, False),
    ],
)  # fmt: skip
def test_who_is_moved_alike(apply, one, other, alike):
    """In one report and purpose by one field of persons, or wherever one domain is named; else not."""
    moves = []
    for place in (one, other):
        rest = dict(place)
        form = rest.pop("form", "shift(days=300, per='who')")
        field = parse(form).per
        people = PEOPLE[:50]
        found = apply(form, ["2026-03-01"] * 50, Type.DATE, others={field: people}, **rest)
        moves.append(found)
    equal = sum(a == b for a, b in zip(*moves, strict=True))
    assert equal == 50 if alike else equal < 10


@pytest.mark.threat("G64")
def test_to_ask_a_thousand_times_tells_no_more_than_to_ask_once(apply):
    """Whoever asks, in whichever order and beside whichever other rows: no average gives the date away."""
    cells = ["2026-03-01", "1999-12-31", "2026-03-01"]
    people = PEOPLE[:3]
    form = "shift(days=300, per='who')"
    once = apply(form, cells, Type.DATE, others={"who": people})
    assert once[0] != once[2]
    for number in range(1000):
        by = number % 3
        more, others = cells[by:] + cells[:by], people[by:] + people[:by]
        again = apply(
            form,
            [*more, "2020-02-02"],
            Type.DATE,
            others={"who": [*others, PEOPLE[number]]},
            subject=f"user:{number}",
        )
        assert again[:3] == once[by:] + once[:by]


def test_without_a_person_there_is_no_value(apply):
    """A row that names nobody, or an empty text, is given no date: one that did not move would be true."""
    who = {"who": [None, "", "C"]}
    found = apply("shift(days=9, per='who')", ["2026-03-01"] * 3, Type.DATE, others=who)
    assert found[:2] == [None, None] and found[2] is not None


def test_at_the_end_of_the_calendar_there_is_no_value(apply):
    """A day that would leave the calendar, or an instant that would in UTC, is given as none."""
    ends = ["0001-01-01", "9999-12-31"] * 100
    found = apply("shift(days=1, per='who')", ends, Type.DATE, others={"who": PEOPLE[:200]})
    assert {day for day in found if day} == {"0001-01-02", "9999-12-30"}
    near = ["0001-01-02T00:30:00+01:00"] * 100
    found = apply("shift(days=1, per='who')", near, Type.DATETIME, others={"who": PEOPLE[:100]})
    assert set(found) == {None, "0001-01-03T00:30:00+01:00"}


@pytest.mark.parametrize("offset", ["", "T09:41:07Z", " 09:41", "T00:30:00+01:00"])
def test_the_vectorised_road_moves_as_far_as_the_other(apply, offset):
    """At the ends of the years that are moved at once, by as much as there is."""
    ends = [f"{day}{offset}" for day in ("1000-01-01", "1999-02-28", "2024-02-29", "2999-12-28")]
    type_ = Type.DATETIME if offset else Type.DATE
    cells, people = ends * 100, PEOPLE[:400]
    form = "shift(days=36500, per='who')"
    one_by_one = [
        apply(form, [cell], type_, others={"who": [person]})[0]
        for cell, person in zip(cells, people, strict=True)
    ]
    assert apply(form, cells, type_, others={"who": people}) == one_by_one
    assert None not in one_by_one
