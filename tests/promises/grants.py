"""What PROMISE 1 (no cell without a grant) means on the wire: checks that raise AssertionError.

Each takes a running stage, a real store and the real proxy in front of it, so that the tests of the
promise and the tests of these tests (mutants.py) run the very same ones.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import logging
import random
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.harness import aside, wire
from tests.harness.proxy import Proxy, stage
from tests.harness.store import Page, Store
from tests.promises.vault import (
    FIELDS,
    MINE,
    NEEDLES,
    OPEN_RULES,
    REPORTS,
    RULES,
    disguise,
    disguised,
    hidden,
    path_of,
    visible,
    written,
)
from tests.reference import documents, product
from tests.reference.evaluator import evaluate
from tests.reference.nouns import World
from tests.reference.worlds import Maker, policy_text, reports_text, world_of

TYPES = {"csv": "text/csv", "json": "application/json", "ndjson": "application/x-ndjson"}
FORMATS = ("csv", "json")


class Stage:
    """A store and a proxy whose policy and pages a check sets."""

    def __init__(self, store: Store, proxy: Proxy) -> None:
        self.store, self.proxy = store, proxy

    def policy(self, reports: str, rules: str) -> None:
        """Put it in force, where it is not."""
        home = self.proxy.home
        wanted = {"reports.yaml": reports.replace("{store}", self.store.url), "policy.csv": rules}
        if any(self.proxy.app.policy.text(name) != text for name, text in wanted.items()):
            for name, text in wanted.items():
                home.write(name, text)
            assert self.proxy.reload(), "the policy was not taken"

    def serve(self, path: str, body: bytes, format_: str, **more: Any) -> None:
        self.store.pages[path] = Page(body, content_type=TYPES[format_], **more)

    def token(self, user: str, *groups: str, **claims: Any) -> str:
        return self.proxy.issuer.token(user, groups=groups, **claims)

    def ask(self, target: str, token: str | None, **more: Any) -> wire.Answer:
        return self.proxy.get(target, token=token, **more)

    def files(self) -> bytes:
        """Everything that the proxy has written: the access log with all that lies beside it."""
        return aside.content(self.proxy.home.folder.glob("access.db*"))


@contextlib.contextmanager
def raised(folder: Path) -> Iterator[Stage]:
    with stage(folder, reports=REPORTS, rules=RULES) as (store, proxy):
        subjects = (proxy.home.policies / "subjects.yaml").read_text()
        # Some requesters have no tool, which an access token to the letter always names.
        proxy.home.write("subjects.yaml", f"{subjects}    token_type: jwt\n")
        assert proxy.reload()
        yield Stage(store, proxy)


def sam(at: Stage, **claims: Any) -> str:
    return at.token("sam", "owners", stores=list(MINE), **claims)


def rows_of(answer: wire.Answer, format_: str) -> list[dict[str, Any]]:
    """The records of an answer, by the readers of the standard library."""
    assert answer.status == 200 and answer.whole, answer.status
    if format_ == "json":
        return json.loads(answer.body)
    if format_ == "ndjson":
        return [json.loads(line) for line in answer.body.decode().split("\n")[:-1]]
    return list(csv.DictReader(io.StringIO(answer.body.decode(), newline="")))


# ── the canary oracle ─────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def listening() -> Iterator[Callable[[], str]]:
    """Everything that the process logs meanwhile, at the lowest level, of every library."""
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield said.getvalue
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


def has_no_canary(what: bytes, where: str) -> None:
    # Random digits: pseudonyms and events' ids, fractions of a second, keys and hashes in base64.
    what = re.sub(rb"[0-9a-f]{26,}|(?<=:[0-9]{2})\.[0-9]{6}Z|[A-Za-z0-9+/]{43}=", b"", what)
    for needle in NEEDLES:
        assert needle not in what, f"{needle!r} in {where}"


def canaries_stay_hidden(at: Stage) -> None:
    """PROMISE 1 (no cell without a grant): of 200 rows, sam gets his 120 in the forms that he is granted,
    and no canary in head, body, logs or the access log's files; in CSV and in JSON.
    """
    at.policy(REPORTS, RULES)
    records = [visible(n) if n % 5 < 3 else hidden(n) for n in range(200)]
    for format_ in FORMATS:
        at.serve(path_of(format_), written(records, format_), format_)
        with listening() as said:
            answer = at.ask(path_of(format_), sam(at))
        rows = rows_of(answer, format_)
        has_no_canary(answer.raw, f"the {format_} answer")
        has_no_canary(said().encode(), "the process's logs")
        has_no_canary(at.files(), "the access log's files")
        assert [row["id"] for row in rows] == [f"i{n}" for n in range(200) if n % 5 < 3]
        assert not {"pin", "born"} & rows[0].keys()
        for row in rows:
            n = int(row["id"][1:])
            assert row["card"] == f"***{n:04d}"
            assert str(row["amount"]) == f"{5 + n % 3}000000000"
            assert row["fixed"] == "n/a" and not row["gone"]
            open_ = n % 5 != 0 and n % 3 != 0
            assert (row["note"] or None) == (f'a "note", {n}\nof two lines' if open_ else None)
        for name in ("name", "mail", "plate"):
            assert len({row[name] for row in rows}) == len(rows)


def nested_and_stray_canaries_stay_hidden(at: Stage) -> None:
    """PROMISE 1: what a store puts into a granted field but is no value of it (an object, an array), or
    gives twice as wide, does not leave; nor do undeclared members and columns.
    """
    at.policy(REPORTS, RULES)
    plain = written([visible(1)], "json").decode()
    nested = plain.replace('"store"', '"extra":"canary","Store":31337,"store"').replace(
        '"i1"', '{"canary":[31337,"1843-01-01"]}'
    )
    at.serve(path_of("json"), nested.encode(), "json")
    answer = at.ask(path_of("json"), sam(at))
    has_no_canary(answer.raw, "the json answer")
    assert rows_of(answer, "json")[0]["id"] is None
    bare = at.ask(path_of("json"), sam(at)).body
    for envelope in (
        b'{"total":31337,"data":{"canary":"1843-01-01","rows":%s},"pages":[31337]}',
        b'{ "data" : {"rows":%s , "sum":{"rows":[{"id":"canary"}]}}}',
    ):
        at.serve("/vault/wrapped.json", envelope % nested.encode(), "json")
        answer = at.ask("/vault/wrapped.json", sam(at))
        has_no_canary(answer.raw, "the json answer")
        assert _veiled(answer.body) == _veiled(b'{"data":{"rows":' + bare + b"}}")
    names = (*FIELDS[:3], "extra", *FIELDS[3:], "Store")
    wide = [{**visible(n), "extra": "canary", "Store": "31337"} for n in range(1, 4)]
    at.serve(path_of("csv"), written(wide, "csv", names), "csv")
    answer = at.ask(path_of("csv"), sam(at))
    has_no_canary(answer.raw, "the csv answer")
    assert [row["id"] for row in rows_of(answer, "csv")] == ["i1", "i2", "i3"]


def errors_hold_no_canary(at: Stage) -> None:
    """PROMISE 1: whatever is wrong with the store's answer, neither the refusal nor any log repeats it."""
    at.policy(REPORTS, RULES)
    good = [visible(n) for n in range(1, 6)]
    texts = {format_: written([*good, hidden(9)], format_) for format_ in FORMATS}
    head, _, rest = texts["csv"].partition(b"\n")
    faults: list[tuple[str, Page]] = []

    def fault(format_: str, body: bytes, **more: Any) -> None:
        faults.append((format_, Page(body, **{"content_type": TYPES[format_], **more})))

    fault("csv", rest)
    fault("csv", texts["csv"] + b"canary,31337\n")
    fault("csv", texts["csv"] + b'canary "quoted" 31337' + b"," * 11 + b"\n")
    fault("csv", texts["csv"] + b'"canary never closed')
    fault("csv", texts["csv"] + b"canary\xff31337" + b"," * 11 + b"\n")
    fault("csv", head.replace(b"id,", b"canary,") + b"\n" + rest)
    fault("csv", texts["csv"], cut_after=len(texts["csv"]) - 40)
    fault("json", texts["json"][:-1])
    fault("json", texts["json"][:-1] + b',{"id":"canary","id":"31337"}]')
    fault("json", texts["json"][:-1] + b',{"id":canary}]')
    fault("json", texts["json"][:-1] + b',["canary",31337]]')
    fault("json", b'{"canary":' + texts["json"] + b"}")
    fault("json", texts["json"][:-1] + b',{"id":"\\ud800canary"}]')
    fault("json", texts["json"][:-1] + b',{"id":1e99999,"name":"canary"}]')
    for format_ in FORMATS:
        fault(format_, texts[format_], status=500)
        fault(format_, texts[format_], status=404)
        fault(format_, texts[format_], content_type="text/html; canary=31337")
        fault(format_, texts[format_], headers={"Content-Encoding": "canary"})
        fault(format_, texts[format_], status=302, headers={"Location": "/canary?31337"})
    for format_, page in faults:
        at.store.pages[path_of(format_)] = page
        with listening() as said:
            answer = at.ask(path_of(format_), sam(at))
        assert answer.status == 502, (format_, answer.status, page)
        has_no_canary(answer.raw, "the refusal")
        has_no_canary(said().encode(), "the process's logs")
    has_no_canary(at.files(), "the access log's files")
    # Where the fault comes after some blocks have left, the answer is cut and holds no canary either.
    many = written([visible(n) for n in range(1, 12_000)], "csv")
    at.store.pages[path_of("csv")] = Page(many + b"canary,31337\n")
    with listening() as said:
        answer = at.ask(path_of("csv"), sam(at))
    assert answer.status == 200 and not answer.whole and answer.body
    has_no_canary(answer.raw, "the answer that was cut")
    has_no_canary(said().encode(), "the process's logs")


# ── two runs ──────────────────────────────────────────────────────────────────────────────────────


def _veiled(body: bytes) -> bytes:
    """The body with every ciphertext blotted out, to the byte."""
    return re.sub(rb"cf1\.[\w.-]+", lambda found: b"#" * len(found[0]), body)


def interference(
    at: Stage, format_: str, count: int, foreigners: Sequence[int], *, coding: str = "identity"
) -> wire.Answer:
    """PROMISE 1 (non-interference): answers to documents that differ only in what sam may not see are
    equal in every byte, head and frames included.
    """
    accept = {"Accept-Encoding": coding}
    at.policy(REPORTS, OPEN_RULES)
    first: wire.Answer | None = None
    for seed, many in enumerate(foreigners):
        body = disguise(count, format_, seed, many)
        at.serve(path_of(format_), body, format_, pieces=(0, 70_000, 1_300)[seed % 3])
        answer = at.ask(path_of(format_), sam(at), headers=accept)
        assert answer.status == 200 and answer.whole
        first = first or answer
        assert answer.seen() == first.seen(), f"{count} rows among {many} others"
    assert first is not None
    return first


def small_answers_do_not_depend_on_what_is_hidden(at: Stage) -> None:
    """Also none, one or a few rows, among none to thousands of hidden ones."""
    for format_ in FORMATS:
        for count in (0, 1, 30):
            answer = interference(at, format_, count, (0, 1, 90, 3_000))
            assert not answer.chunks and len(rows_of(answer, format_)) == count


def encrypted_answers_differ_in_ciphertexts_alone(at: Stage) -> None:
    """PROMISE 1 (non-interference): where cells are encrypted, values of one class of lengths give answers
    that are equal but for the ciphertexts' own bytes; and no two ciphertexts are equal.
    """
    at.policy(REPORTS, RULES)
    for format_ in FORMATS:
        seen = set()
        for seed in range(3):
            chance = random.Random(seed)
            records = [disguised(visible(n), chance) for n in range(200)]
            for record in records:
                record["mail"] = "x" * chance.randint(1, 30)
            at.serve(path_of(format_), written(records, format_), format_)
            answer = at.ask(path_of(format_), sam(at))
            ciphertexts = [row["mail"] for row in rows_of(answer, format_)]
            assert len(set(ciphertexts)) == len(ciphertexts) == 200
            veiled = dataclasses.replace(answer, body=_veiled(answer.body))
            seen.add(repr(veiled.seen()))
        assert len(seen) == 1, format_


def long_answers_do_not_depend_on_what_is_hidden(at: Stage, count: int = 14_000) -> None:
    """Also answers of many blocks, where hidden rows move the boundaries of the store's."""
    for format_ in FORMATS:
        answer = interference(at, format_, count, (0, 9_000))
        assert len(answer.chunks) > 3 and len(rows_of(answer, format_)) == count


# ── any policy, any rows ──────────────────────────────────────────────────────────────────────────


def world_is_as_the_reference_says(at: Stage, world: World, format_: str) -> wire.Answer:
    """PROMISE 1: the answer over the wire is what the naive evaluator gives, cell for cell."""
    at.policy(reports_text(world.reports, at.store.url), policy_text(world.rules))
    path = f"/{world.report.id}.{format_}"
    at.serve(path, product.document(world, format_), format_)
    asked = world.requester
    assert asked.user is not None
    claims = {name: list(v) if isinstance(v, tuple) else v for name, v in asked.attributes}
    answer = at.ask(
        path,
        at.proxy.issuer.token(
            asked.user.removeprefix("user:"),
            groups=tuple(group.removeprefix("group:") for group in asked.groups),
            tool=asked.tool.removeprefix("tool:") if asked.tool else None,
            **claims,
        ),
        headers={"Counterfoil-Purpose": asked.purpose} if asked.purpose else {},
    )
    meant = expected(world, format_)
    if meant is None:
        assert answer.status in (403, 404), "permitted though it is denied"
    else:
        assert answer.status == 200 and answer.whole, f"{answer.status} though it is permitted"
        product.compare(answer.body, meant, format_, world, None)
    return answer


def expected(world: World, format_: str) -> Any:
    sources = documents.sources(world.report, world.rows, format_)
    return evaluate(world.rules, world.report, world.requester, sources, datetime.now(UTC))


def disguised_world(world: World, seed: int, format_: str) -> World | None:
    """A world of which the requester is to see the same, and whose rows are others; None: none found."""
    maker = Maker(random.Random(seed))
    before = expected(world, format_)
    rows = list(world.rows)
    for _ in range(12):
        other = list(rows)
        place = maker.chance.randrange(len(rows) + 1)
        if maker.seldom(3) or place == len(rows):
            other.insert(place, maker.row(world.report))
        elif maker.seldom(4):
            del other[place]
        else:
            field = maker.one(world.report.fields)
            other[place] = {**other[place], field.name: maker.datum(field.type)}
        after = expected(dataclasses.replace(world, rows=tuple(other)), format_)
        if (before and before.released) == (after and after.released):
            rows = other
    changed = dataclasses.replace(world, rows=tuple(rows))
    return None if changed == world else changed


def any_policy_gives_what_the_reference_gives(at: Stage, seeds: Sequence[int] = range(40)) -> None:
    """PROMISE 1, on random policies and rows: what leaves is the reference's; and it stays, byte for byte,
    when rows and cells change that the requester may not see.
    """
    for seed in seeds:
        world = world_of(seed, alone=False)
        for format_ in FORMATS:
            first = world_is_as_the_reference_says(at, world, format_)
            other = disguised_world(world, seed + 1, format_)
            if other is not None:
                second = world_is_as_the_reference_says(at, other, format_)
                if not any(line.form and line.form.name == "encrypt" for line in world.rules.cells):
                    assert second.seen() == first.seen(), "what is hidden shows"


# ── requesters and refusals ───────────────────────────────────────────────────────────────────────

MANY_STORES = [{**visible(n), "store": str(n % 10)} for n in range(400)]


def each_gets_own_rows(at: Stage) -> None:
    """PROMISE 1: users of one role but different `stores`, in turn and all at once, get exactly theirs:
    a plan is a template and holds no requester's value.
    """
    at.policy(REPORTS, RULES)
    owners = {"sam": ["1", "2"], "kim": ["3"], "lee": [], "pat": ["4", "5", "6"]}
    tokens = {name: at.token(name, "owners", stores=stores) for name, stores in owners.items()}
    tokens["nan"] = at.token("nan", "owners")
    for format_ in FORMATS:
        at.serve(path_of(format_), written(MANY_STORES, format_), format_)

    def check(name: str, format_: str) -> None:
        rows = rows_of(at.ask(path_of(format_), tokens[name]), format_)
        own = [row["id"] for row in MANY_STORES if row["store"] in owners.get(name, [])]
        assert [row["id"] for row in rows] == own, name

    turns = [(name, format_) for _ in range(3) for name in tokens for format_ in FORMATS]
    for name, format_ in turns:
        check(name, format_)
    random.Random(0).shuffle(turns)
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(check, name, format_) for name, format_ in turns]:
            done.result()


def ranges_are_of_own_rows(at: Stage) -> None:
    """PROMISE 1: a view that is kept for its ranges is kept for one user with one set of attributes."""
    at.policy(
        REPORTS, RULES.replace("mail,   encrypt", "mail,   redact")
    )  # else there are no ranges
    owners = {"kim": ["3"], "pat": ["4", "5"], "sam": ["1", "2"], "sam, moved": ["7"]}
    for format_ in FORMATS:
        at.serve(path_of(format_), written(MANY_STORES, format_), format_)
        for fields in ({"Range": "bytes=0-"}, {}) * 2:
            for name, stores in owners.items():
                token = at.token(name.partition(",")[0], "owners", stores=stores)
                answer = at.ask(path_of(format_), token, headers=fields)
                assert answer.status == (206 if fields else 200)
                rows = rows_of(dataclasses.replace(answer, status=200), format_)
                own = [row["id"] for row in MANY_STORES if row["store"] in stores]
                assert [row["id"] for row in rows] == own, f"not the rows of {name}"


def a_forbidden_report_looks_unknown(at: Stage) -> None:
    """PROMISE 1: a report that is denied, or that nobody is granted, answers as one that does not exist,
    in status, head and body but for the event's id, however it is asked.
    """
    at.policy(REPORTS, RULES)
    at.serve(path_of("csv"), written([visible(1)], "csv"), "csv")
    token, outsider = sam(at), at.token("eve")
    ways: list[dict[str, Any]] = [
        {},
        *({"method": method} for method in ("HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")),
        {"headers": {"Accept": "application/json"}},
        {"headers": {"Accept": "text/csv;q=0"}},
        {"headers": {"Counterfoil-Purpose": "audit"}},
        {"headers": {"Counterfoil-Purpose": "no-such-purpose"}},
        {"headers": {"Range": "bytes=0-1", "If-None-Match": "*"}},
    ]
    asked = len(at.store.asked)
    for query in ("", "?id=1", "?id=1&id=2", "?nothing=1", "?id", "?pin=31337"):
        for way in ways:
            unknown = at.ask(f"/vault/unknown.csv{query}", token, **way)
            assert unknown.status == 404
            for path in ("/vault/secret.csv", "/vault/refused.csv"):
                answer = at.ask(f"{path}{query}", token, **way)
                assert answer.seen() == unknown.seen(), (path, query, way)
            answer = at.ask(f"/vault/items.csv{query}", outsider, **way)
            assert answer.seen() == unknown.seen(), (query, way)
    assert len(at.store.asked) == asked, "the store was asked"


def parameters_do_not_reach_behind_the_plan(at: Stage) -> None:
    """PROMISE 1 (inference): a parameter on a field that the requester does not see in clear is refused
    and never reaches the store; on one that it does, it passes.
    """
    at.policy(REPORTS, RULES)
    at.serve(path_of("csv"), written([visible(1)], "csv"), "csv")
    asked = len(at.store.asked)
    for query in ("least=5000131337", "pin=31337", "name=x", "id=i1&pin=31337"):
        answer = at.ask(f"{path_of('csv')}?{query}", sam(at))
        assert answer.status == 403, query
    assert len(at.store.asked) == asked, "the store was asked"
    assert at.ask(f"{path_of('csv')}?id=i1&page=2", sam(at)).status == 200
    assert at.store.asked[-1][0] == f"{path_of('csv')}?id=i1&page=2"
    has_no_canary(at.files(), "the access log's files")


# ── and the promise beside it ─────────────────────────────────────────────────────────────────────


def nothing_leaves_while_the_log_is_locked(at: Stage) -> None:
    """PROMISE 2 (no record, no data): while another connection holds the log, an answer is 503 without
    a byte of data, and what is answered is on record.
    """
    at.policy(REPORTS, RULES)
    at.serve(path_of("csv"), written([visible(n) for n in range(3)], "csv"), "csv")
    assert at.ask(path_of("csv"), sam(at)).status == 200
    other = sqlite3.connect(at.proxy.home.folder / "access.db", isolation_level=None, timeout=30)
    try:
        other.execute("BEGIN EXCLUSIVE")
        answer = at.ask(path_of("csv"), sam(at))
        other.execute("ROLLBACK")
    finally:
        other.close()
    assert answer.status == 503 and b"i1" not in answer.body, "answered without a record"
    answer = at.ask(path_of("csv"), sam(at))
    assert answer.status == 200
    assert answer.event in {event.access for event in at.proxy.events()}


Check = Callable[[Stage], None]
CHECKS: Mapping[str, Check] = {
    check.__name__: check
    for check in (
        canaries_stay_hidden,
        nested_and_stray_canaries_stay_hidden,
        errors_hold_no_canary,
        small_answers_do_not_depend_on_what_is_hidden,
        encrypted_answers_differ_in_ciphertexts_alone,
        long_answers_do_not_depend_on_what_is_hidden,
        each_gets_own_rows,
        ranges_are_of_own_rows,
        a_forbidden_report_looks_unknown,
        parameters_do_not_reach_behind_the_plan,
        nothing_leaves_while_the_log_is_locked,
    )
}
