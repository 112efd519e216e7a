"""The sample reports are deterministic, well-formed in both formats, and filtered as asked."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.demo.sales import FIELDS, FIRST_DAY, FIRST_STORE, Sales, Selection
from proxy.demo.size import PRODUCTS
from proxy.values import Type, scalar

SMALL = Sales(stores=11, days=5, rows=170)

selections = st.builds(
    Selection,
    first=st.none() | st.integers(-2, 7).map(lambda n: FIRST_DAY + timedelta(days=n)),
    last=st.none() | st.integers(-2, 7).map(lambda n: FIRST_DAY + timedelta(days=n)),
    store_id=st.none()
    | st.integers(-1, 12).map(lambda n: str(FIRST_STORE + n))
    | st.text(max_size=6),
)


def table(body: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(body.decode(), newline=""), strict=True))


def objects(body: bytes) -> list[dict[str, str]]:
    return json.loads(body, parse_float=str, parse_int=str)


def test_same_arguments_same_bytes():
    """The bytes of a given seed and size never change, whatever library writes them."""
    assert Sales(stores=11, days=5, rows=170).store_daily_csv() == SMALL.store_daily_csv()
    digest = hashlib.sha256(SMALL.store_daily_csv().body + SMALL.store_daily_json().body)
    assert digest.hexdigest()[:16] == "70d93359f9851a39"


def test_another_seed_another_report():
    """Each seed has sales of its own."""
    assert Sales(seed=8, stores=11, days=5, rows=170).store_daily_csv() != SMALL.store_daily_csv()


@given(selections)
def test_csv_and_json_hold_the_same_rows(selected):
    """A row is the same to the character in CSV and in JSON, whatever is selected."""
    assert table(SMALL.store_daily_csv(selected).body) == objects(
        SMALL.store_daily_json(selected).body
    )


@given(selections)
def test_parameters_select_exactly(selected):
    """What is selected is what filtering the whole report by hand gives, in the same order."""
    by_hand = [
        row
        for row in table(SMALL.store_daily_csv().body)
        if (selected.first is None or row["date"] >= str(selected.first))
        and (selected.last is None or row["date"] <= str(selected.last))
        and (selected.store_id is None or row["store_id"] == selected.store_id)
    ]
    assert table(SMALL.store_daily_csv(selected).body) == by_hand


@given(
    st.integers(1, 9).flatmap(
        lambda stores: st.integers(1, 4).flatmap(
            lambda days: st.tuples(
                st.just(stores), st.just(days), st.integers(1, min(stores * days * PRODUCTS, 3000))
            )
        )
    )
)
def test_any_size_has_that_many_rows_each_with_its_own_key(size):
    """A report of any size has exactly its rows; date, store and sku name one of them."""
    stores, days, rows = size
    found = table(Sales(stores=stores, days=days, rows=rows).store_daily_csv().body)
    assert len(found) == rows
    assert len({(row["date"], row["store_id"], row["sku"]) for row in found}) == rows
    assert [row["date"] for row in found] == sorted(row["date"] for row in found)


@pytest.mark.parametrize(
    "size",
    [{"rows": 0}, {"stores": 0}, {"days": 0}, {"stores": 1, "days": 1, "rows": PRODUCTS + 1}],
)
def test_sizes_that_cannot_be_had_are_refused(size):
    """A size that has no rows, or more than products to sell, is an error."""
    with pytest.raises(ValueError, match=r"at least|at most"):
        Sales(**size)


def test_the_quarter_is_as_large_and_as_awkward_as_promised():
    """120,000 rows, 1,333 stores, 90 days; commas, quotes, accents, outer zeros, returns."""
    rows = table(Sales().store_daily_csv().body)
    assert tuple(rows[0]) == FIELDS
    assert len(rows) == 120_000
    assert len({row["store_id"] for row in rows}) == 1333
    assert len({row["date"] for row in rows}) == 90
    names = "".join({row["store_name"] + row["product_name"] + row["producer"] for row in rows})
    assert all(mark in names for mark in ',"éñŁ')
    assert any(row["postal_code"].startswith("0") for row in rows)
    assert any(row["net_sales"].endswith("0") for row in rows)
    assert any(row["net_sales"].startswith("-") for row in rows)
    types = {
        "date": Type.DATE,
        "units": Type.INTEGER,
        "net_sales": Type.DECIMAL,
        "gross_margin": Type.DECIMAL,
    }
    assert all(
        scalar(row[name], kind) is not None for row in rows[:1000] for name, kind in types.items()
    )


def test_producers_stand_in_an_envelope():
    """The producers' sales add up to the envelope's total, which is that of the daily sales."""
    envelope = json.loads(SMALL.producers_json().body)
    cents = sum(round(row["net_sales"] * 100) for row in envelope["data"]["rows"])
    daily = sum(round(float(row["net_sales"]) * 100) for row in table(SMALL.store_daily_csv().body))
    assert cents == daily == round(envelope["total"] * 100)
    assert envelope["as_of"] == str(SMALL.last_day)
    assert set(envelope["data"]["rows"][0]) == {
        "producer", "country", "contact_email", "net_sales", "share",
    }  # fmt: skip


def test_payroll_is_a_table():
    """The report that nobody is granted has something to hide."""
    rows = table(SMALL.payroll_csv().body)
    assert len(rows) == 11
    assert set(rows[0]) == {"employee_no", "given_name", "store_id", "salary"}
