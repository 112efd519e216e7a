"""What may not be inferred (PROMISE 1) from an order, a page or a total: checks like grants.py's."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Mapping, Sequence
from decimal import Decimal

from tests.promises.grants import FORMATS, Check, Stage, path_of, rows_of, sam
from tests.promises.vault import OPEN_RULES, REPORTS, Record, disguised, foreign, visible, written

PAGED = REPORTS.replace(
    "      page: {type: integer}\n",
    """\
      limit: {by: limit, most: 20000}
      offset: {by: offset, most: 20000}
      sort: {by: order, fields: [flag, store], direction: minus}
""",
    1,
)
ORDERED = PAGED.replace("    key: [id]\n", "    key: [id]\n    ordered_by: [amount, pin]\n", 1)

_LEAST = 5
COUNTED = REPORTS.replace(
    REPORTS[REPORTS.index("    parameters:\n") : REPORTS.index("    fields:\n")], "", 1
)
COUNTED_RULES = """\
p,  tool:app,   vault/*,     act,  true, allow
p,  role:owner, vault/items, read, true, allow
p2, role:owner, vault/items, true, id|store|flag, clear
p2, role:owner, vault/items, true, amount,        suppress(5, by='store'|'flag')
g,  group:owners, role:owner
"""


@functools.cache
def _records(count: int, seed: int, foreigners: int, *, ordered: bool) -> Sequence[Record]:
    """One of many tables of which sam sees the same rows, in the order of what he may not see."""
    chance = random.Random(seed)
    records = [disguised(visible(n), chance) for n in range(count)]
    for _ in range(foreigners):
        records.insert(chance.randrange(len(records) + 1), foreign(chance))
    if ordered:
        records.sort(key=lambda record: (record["amount"] or "", record["pin"] or ""))
    return records


def _alike(at: Stage, queries: Mapping[str, int], *, count: int, ordered: bool, what: str) -> None:
    for format_ in FORMATS:
        seen: dict[str, set[object]] = {query: set() for query in queries}
        for seed, foreigners in enumerate((0, 40, 5_000)):
            body = written(_records(count, seed, foreigners, ordered=ordered), format_)
            at.serve(path_of(format_), body, format_, pieces=(0, 70_000, 1_300)[seed])
            for query, rows in queries.items():
                answer = at.ask(path_of(format_) + query, sam(at))
                assert len(rows_of(answer, format_)) == rows, f"{what}: {query} has not {rows} rows"
                seen[query].add(answer.seen())
        for query, answers in seen.items():
            assert len(answers) == 1, f"{what} of {format_}{query} tells of what is hidden"


def pages_do_not_depend_on_what_is_hidden(at: Stage) -> None:
    """PROMISE 1 (inference): a page has the requester's own rows, however many others lie between them."""
    at.policy(PAGED, OPEN_RULES)
    queries = {"?limit=10": 10, "?limit=10&offset=95": 10, "?offset=490": 10, "?offset=500": 0}
    _alike(at, queries, count=500, ordered=False, what="a page")
    _alike(at, {"?limit=5000&offset=100": 5000}, count=6_000, ordered=False, what="a long page")


def orders_do_not_depend_on_what_is_hidden(at: Stage) -> None:
    """PROMISE 1 (inference): rows that a store orders by hidden fields come in an order of their own."""
    at.policy(ORDERED, OPEN_RULES)
    queries = {
        "": 300,
        "?limit=7&offset=13": 7,
        "?sort=-flag,store": 300,
        "?sort=store&limit=40": 40,
    }
    _alike(at, queries, count=300, ordered=True, what="the order")
    _alike(at, {"": 6_000}, count=6_000, ordered=True, what="a long answer's order")


def small_groups_do_not_follow_from_totals(at: Stage) -> None:
    """PROMISE 1 (inference): of `suppress`, no group of fewer rows than stated is given, and none is all that
    the given ones leave of a known total; in sources with groups of all sizes.
    """
    at.policy(COUNTED, COUNTED_RULES)
    for seed, format_ in itertools.product(range(6), FORMATS):
        chance = random.Random(seed)
        sizes = {
            (store, f"{store}{n}"): chance.choice([1, 4, 5, 6, 30])
            for store in "abcd"
            for n in range(chance.randint(1, 5))
        }
        groups = [group for group, size in sizes.items() for _ in range(size)]
        chance.shuffle(groups)
        records = [
            {**visible(n), "store": store, "flag": flag} for n, (store, flag) in enumerate(groups)
        ]
        at.serve(path_of(format_), written(records, format_), format_)
        rows = rows_of(at.ask(path_of(format_), sam(at)), format_)
        assert len(rows) == len(records)
        given = {(row["store"], row["flag"]) for row in rows if row["amount"]}
        for row, record in zip(rows, records, strict=True):
            shown = (row["store"], row["flag"]) in given
            amount = Decimal(str(row["amount"] or 0))
            assert amount == (Decimal(record["amount"] or 0) if shown else 0), "another amount"
        assert given, "nothing is given at all"
        assert all(sizes[group] >= _LEAST for group in given), (
            f"a small group is given in {format_}"
        )
        for around in ("", *"abcd"):
            inside = {group for group in sizes if group[0] == around or not around}
            hidden = inside - given
            if any(sizes[group] < _LEAST for group in hidden) and hidden != inside:
                rows_hidden = sum(sizes[group] for group in hidden)
                enough = len(hidden) > 1 and rows_hidden >= _LEAST
                assert enough, f"a small group follows from a total in {format_}"


CHECKS: Mapping[str, Check] = {
    check.__name__: check
    for check in (
        pages_do_not_depend_on_what_is_hidden,
        orders_do_not_depend_on_what_is_hidden,
        small_groups_do_not_follow_from_totals,
    )
}
