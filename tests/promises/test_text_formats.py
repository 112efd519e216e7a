"""PROMISE 1 (no cell without a grant) in each text format, as the store gives it and as another."""

from __future__ import annotations

import itertools

import pytest

from tests.promises.grants import has_no_canary, listening, raised, rows_of, sam
from tests.promises.vault import OPEN_RULES, REPORTS, RULES, disguise, hidden, visible, written

FORMATS = ("csv", "json", "ndjson")
_BEFORE, _, _AFTER = REPORTS.partition("    variants:\n")
CONVERTED = f"""{_BEFORE}    variants:
      - {{path: /vault/of-csv.csv, format: csv, also: [json, ndjson], formulas: neutralise}}
      - {{path: /vault/of-json.json, format: json, also: [csv, ndjson], formulas: neutralise}}
      - {{path: /vault/of-ndjson.ndjson, format: ndjson, also: [csv, json]}}
{_AFTER}"""
"""The same fields; the variants above stand before those that are there already."""
PAIRS = [*itertools.product(FORMATS, FORMATS)]


@pytest.fixture(scope="module")
def at(tmp_path_factory):
    with raised(tmp_path_factory.mktemp("formats") / "home") as stage:
        yield stage


def asked(at, stored: str, taken: str, document: bytes, **more):
    at.serve(f"/vault/of-{stored}.{stored}", document, stored, **more)
    return at.ask(f"/vault/of-{stored}.{taken}", sam(at))


@pytest.mark.parametrize(("stored", "taken"), PAIRS)
def test_no_canary_leaves_in_any_format(at, stored, taken):
    """Head, body, logs and the access log's files hold none; the rows are the requester's own."""
    at.policy(CONVERTED, RULES)
    records = [visible(n) if n % 5 < 3 else hidden(n) for n in range(200)]
    with listening() as said:
        answer = asked(at, stored, taken, written(records, stored))
    rows = rows_of(answer, taken)
    assert [row["id"] for row in rows] == [f"i{n}" for n in range(200) if n % 5 < 3]
    has_no_canary(answer.raw, "the answer")
    has_no_canary(said().encode(), "the process's logs")
    has_no_canary(at.files(), "the access log's files")


@pytest.mark.threat("G59")
@pytest.mark.parametrize(("stored", "taken"), PAIRS)
def test_what_is_hidden_has_no_influence_on_one_byte(at, stored, taken):
    """Answers to documents that differ only in what is hidden are equal, head and frames included."""
    at.policy(CONVERTED, OPEN_RULES)
    for count, foreigners in ((0, (0, 900)), (30, (0, 1, 90, 900))):
        seen = set()
        for seed, many in enumerate(foreigners):
            pieces = (0, 70_000, 1_300)[seed % 3]
            answer = asked(at, stored, taken, disguise(count, stored, seed, many), pieces=pieces)
            assert len(rows_of(answer, taken)) == count
            seen.add(answer.seen())
        assert len(seen) == 1


@pytest.mark.threat("G59")
@pytest.mark.parametrize(
    ("stored", "taken"), [("ndjson", "ndjson"), ("ndjson", "csv"), ("csv", "ndjson")]
)
def test_what_is_hidden_moves_no_block_of_a_long_answer(at, stored, taken):
    """Blocks are of the answer's own bytes, whatever lies between the rows in the store's document."""
    at.policy(CONVERTED, OPEN_RULES)
    seen = set()
    for seed, many in enumerate((0, 3_000)):
        answer = asked(at, stored, taken, disguise(8_000, stored, seed, many))
        assert len(answer.chunks) > 2
        seen.add(answer.seen())
    assert len(seen) == 1
