"""Reading: accesses are their records merged, none is missed, and names can be erased."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.access import AccessEvent, encode, timestamp
from proxy.audit import OUTCOMES, Asked, Reader
from proxy.audit import log as log_module
from proxy.audit.follower import Follower
from proxy.audit.log import leaves as exact
from proxy.audit.merging import COLUMNS
from proxy.audit.names import Names
from proxy.audit.postgres.mirror import Mirror
from proxy.audit.projection import Projection, differing, rebuild
from proxy.audit.store import Files
from proxy.errors import LogUnavailable
from tests.audit.records import (
    DATABASES,
    HOSTILE,
    event,
    events,
    leaves,
    opened,
    records,
    until,
    write,
)

SAMPLES = settings(max_examples=40)
START = datetime.fromtimestamp(1.8e9, UTC)
HOUR = timedelta(hours=1)


def naive(sequence: list[AccessEvent]) -> list[dict[str, object]]:
    """Records merged access by access, newest access first: written from the documentation alone."""
    rows: dict[str, dict[str, object]] = {}
    for one in sequence:
        said = msgspec.json.decode(encode(one).replace(b"\\u0000", "␀".encode()))
        row = rows.setdefault(one.access, {"access": one.access, "started": one.at, "records": 0})
        row["records"] += 1
        row["outcome"] = {
            "intent": "open", "progress": "open", "refusal": "refused", "burst": "refused",
            "unresolved": "unresolved", "opened": "opened", "policy-loaded": "policy-loaded",
            "policy-refused": "policy-refused", "keys-loaded": "keys-loaded",
            "keys-refused": "keys-refused", "change": "change",
        }.get(one.step, one.ended or "whole")  # fmt: skip
        row["at"] = one.at
        for name in ("rows", "bytes"):
            now = said.pop(name, 0)
            row[name] = max(row.get(name, 0), now) if one.step == "progress" else now
        for name in ("v", "access", "step", "part", "at", "ended", "log"):
            said.pop(name, None)
        row |= said
    return [row for row in reversed(rows.values()) if row["outcome"] != "opened"]


def shown(reader: Reader, **asked: object) -> list[dict[str, object]]:
    """What a query gives, without defaults and without places."""
    found = msgspec.json.decode(msgspec.json.encode(reader.query(Asked(**asked), limit=1000)))
    for one in found:
        del one["log"], one["index"]
        one.setdefault("rows", 0)
        one.setdefault("bytes", 0)
    return found


def projected(files: Files, most: int) -> None:
    """An index that has got `most` leaves."""
    with contextlib.closing(Projection(files)) as projection:
        if most:
            projection.step(most)


def rows_of(files: Files) -> list[list[tuple[object, ...]]]:
    """All that the index says, whichever numbers its shapes have."""
    told = (
        f"SELECT {COLUMNS} FROM access ORDER BY access",
        """SELECT field, form, forms FROM form JOIN shape ON shape = id
           WHERE id IN (SELECT shape FROM access)""",
        """SELECT term, first, p.rows, report, tool, decision, reason, cause, outcome, action, purpose, size,
             forms
           FROM posting AS p JOIN shape ON shape = id""",
        "SELECT * FROM tally",
    )
    with contextlib.closing(sqlite3.connect(files.index)) as connection:
        return [connection.execute(statement).fetchall() for statement in told]


@SAMPLES
@given(sequence=st.lists(records(), max_size=14), behind=st.integers(0, 15))
def test_merged_rows_equal_a_naive_fold_however_far_the_index_is_behind(
    tmp_path_factory, sequence, behind
):
    path = tmp_path_factory.mktemp("log") / "access.db"
    files = write(path, sequence[:5], sequence[5:])
    expected = naive(events(path))
    with Reader(path) as reader:  # without any index
        assert shown(reader) == expected
    projected(files, behind)
    with Reader(path) as reader:
        assert reader.lag == max(0, len(leaves(path)) - behind)
        assert shown(reader) == expected
    projected(files, 1000)
    with Reader(path) as reader:
        assert reader.lag == 0
        assert shown(reader) == expected


@settings(max_examples=3)
@given(sequence=st.lists(records(), min_size=30, max_size=40))
def test_rows_of_a_copy_equal_a_naive_fold_of_what_the_database_holds(
    tmp_path_factory, postgres, sequence
):
    path = tmp_path_factory.mktemp("log") / "access.db"
    DATABASES[path] = postgres.new()
    files = write(path, sequence)
    with contextlib.closing(Mirror(files, DATABASES[path])) as mirror:
        mirror.catch_up()
    expected = naive(events(path))
    projected(files, 12)
    with Reader(path) as reader:
        assert shown(reader) == expected
    del DATABASES[path]


@SAMPLES
@given(data=st.data(), sequence=st.lists(records(), max_size=14), behind=st.integers(0, 15))
def test_a_query_gives_the_newest_accesses_that_fit_all_that_is_asked(
    tmp_path_factory, data, sequence, behind
):
    path = tmp_path_factory.mktemp("log") / "access.db"
    projected(write(path, sequence), behind)
    moment = st.sampled_from(
        [datetime.fromtimestamp(1.8e9, UTC) + timedelta(seconds=s) for s in range(11)]
    )
    asked = data.draw(
        st.fixed_dictionaries(
            {},
            optional={
                "subject": st.sampled_from(["s1", "s2", "s3", "user:alice"]),
                "group": st.sampled_from(["a", "B", HOSTILE, "x"]),
                "parameters": st.dictionaries(
                    st.sampled_from(["a", "B", HOSTILE]),
                    st.lists(st.sampled_from(["", "a", "B", HOSTILE]), max_size=2).map(tuple),
                    max_size=2,
                ).map(lambda named: tuple(named.items())),
                "field": st.sampled_from(["a", "B", HOSTILE]),
                "treatment": st.sampled_from(["clear", "round", "round(100)", "a", "", HOSTILE]),
                "purpose": st.sampled_from(["audit", "hmac:12", "hmac:13", "hmac:", HOSTILE]),
                "rows_over": st.sampled_from([0, 8, 9, 10, 99, 100, 2**52]),
                "policy": st.sampled_from(["ab", "abc0", "f", "'"]),
                "report": st.sampled_from(["sales/*", "sales", "sales/é'\"", "hr/*", "x/*", "'"]),
                "tool": st.sampled_from(["bi", "tool:bi", "a"]),
                "action": st.sampled_from(["read", "reveal", "grant"]),
                "since": moment,
                "until": moment,
                "outcome": st.sampled_from([*sorted(OUTCOMES - {"opened"}), "permit", "deny",
                                            "not-found", "no-allow-line", "x"]),
            },
        )
    )  # fmt: skip

    def cut(name: str) -> bool:
        return name[:1] == "+" and name[1:2] in tuple("0123456789")

    def given(field: str, form: str) -> bool:
        named, treatment = asked.get("field"), asked.get("treatment")
        return (not named or field == named or cut(field)) and (
            not treatment
            or form == treatment
            or form.startswith(f"{treatment}(")
            or (cut(field) and form == "")
        )

    def fits(row: dict[str, object]) -> bool:
        report, tool = asked.get("report"), asked.get("tool")
        prefix = report[:-1] if report and report.endswith("/*") else None
        outcome = asked.get("outcome")
        return all([
            "subject" not in asked or row.get("subject") == asked["subject"],
            prefix is None or str(row.get("report", "")).startswith(prefix),
            report is None or prefix is not None or row.get("report") == report,
            tool is None or row.get("tool") in (tool, f"tool:{tool}"),
            "group" not in asked or any(
                group in (asked["group"], f"group:{asked['group']}") or cut(group)
                for group in row.get("groups", ())),
            all(row.get("parameters", {}).get(name) in values
                for name, values in asked.get("parameters", ())),
            not (asked.get("field") or asked.get("treatment")) or any(
                given(field, form) for field, forms in row.get("fields", {}).items() for form in forms),
            "purpose" not in asked or row.get("purpose") == asked["purpose"],
            "action" not in asked or row.get("action") == asked["action"],
            "rows_over" not in asked or row["rows"] > asked["rows_over"],
            "policy" not in asked or row.get("policy", "").startswith(asked["policy"]),
            "since" not in asked or row["at"] >= timestamp(asked["since"].timestamp()),
            "until" not in asked or row["started"] < timestamp(asked["until"].timestamp()),
            outcome is None or outcome in (
                row["outcome"], row.get("decision"), row.get("reason"), row.get("cause")),
        ])  # fmt: skip

    expected = [row for row in naive(events(path)) if fits(row)]
    limit = data.draw(st.integers(1, 4))
    with Reader(path) as reader:
        assert shown(reader, **asked) == expected
        newest = [one.access for one in reader.query(Asked(**asked), limit=limit)]
    assert newest == [row["access"] for row in expected[:limit]]


@pytest.fixture(scope="module")
def long(tmp_path_factory) -> tuple[Path, list[AccessEvent]]:
    """Some thousand accesses of few shapes, in an index that has all of them but some: lists of many pages."""
    path = tmp_path_factory.mktemp("long") / "access.db"
    given = [
        event(
            "complete" if number % 7 else "refusal", f"{number:04x}", 1.8e9 + number * 60,
            subject=f"s{number % 2}", groups=(f"group:{number % 3}", "group:all"), report=f"r{number % 5}",
            parameters={"store": str(number % 11)}, decision="permit" if number % 7 else "deny",
            fields={"net": {"clear" if number % 4 else "round(10)": 1}}, rows=number % 1000,
            policy=f"{number // 700:x}" * 64,
        )
        for number in range(3000)
    ]  # fmt: skip
    projected(write(path, given), 2950)
    return path, given


@pytest.mark.parametrize(
    ("asked", "fits"),
    [
        (Asked(), lambda _: True),
        (Asked(subject="s1"), lambda n: n % 2 == 1),
        (Asked(group="all"), lambda _: True),
        (Asked(group="2", subject="s0"), lambda n: n % 3 == 2 and n % 2 == 0),
        (Asked(parameters=(("store", ("3", "4", "x")),)), lambda n: n % 11 in (3, 4)),
        (Asked(parameters=(("store", ("3",)), ("store", ("4",)))), lambda _: False),
        (Asked(field="net", treatment="round"), lambda n: n % 4 == 0),
        (Asked(rows_over=949, report="r4"), lambda n: n % 1000 > 949 and n % 5 == 4),
        (Asked(rows_over=99, group="1"), lambda n: n % 1000 > 99 and n % 3 == 1),
        (Asked(policy="2", outcome="deny"), lambda n: n // 700 == 2 and n % 7 == 0),
        (Asked(since=START + HOUR * 10, until=START + HOUR * 30), lambda n: 600 <= n < 1800),
        (Asked(until=START + HOUR, group="all"), lambda n: n < 60),
    ],
)  # fmt: skip
def test_long_lists_are_read_from_their_newest_ends_to_their_oldest(long, asked, fits):
    """Page after page, of several lists together, none twice and none left out; and as many as are wanted."""
    path, given = long
    expected = [one.access for number, one in enumerate(given) if fits(number)][::-1]
    with Reader(path) as reader:
        assert [one.access for one in reader.query(asked, limit=5000)] == expected
        assert [one.access for one in reader.query(asked, limit=77)] == expected[:77]


@SAMPLES
@given(sequence=st.lists(records(), max_size=14), behind=st.integers(0, 15))
def test_a_rebuilt_index_equals_the_one_that_followed(tmp_path_factory, sequence, behind):
    files = write(tmp_path_factory.mktemp("log") / "access.db", sequence)
    with contextlib.closing(Projection(files)) as projection:
        while projection.step(max(1, behind))[0]:
            pass
    assert differing(files) is None
    followed = rows_of(files)
    rebuild(files)
    assert [sorted(set(part), key=repr) for part in rows_of(files)] == [
        sorted(set(part), key=repr) for part in followed
    ]
    assert differing(files) is None


@pytest.mark.parametrize(
    "tampered",
    [
        "UPDATE shape SET report = 'x'",
        "UPDATE access SET shape = shape + 1000 WHERE first = (SELECT max(first) FROM access)",
        "DELETE FROM form WHERE field = 'net'",
        "INSERT INTO form VALUES ('more', 'clear', 1)",
        "DELETE FROM posting WHERE term = 'sx'",
        "UPDATE posting SET rows = rows + 1 WHERE term = ''",
        "INSERT INTO posting VALUES ('sy', 1, 1, 1)",
        "DELETE FROM hour",
        "UPDATE hour SET greatest = greatest - 1",
        "UPDATE version SET least = least + 1",
        "UPDATE tally SET rows = rows - 1 WHERE kind = 'subject' AND unit = 10",
        "DELETE FROM tally WHERE kind = 'reason'",
        "INSERT INTO tally VALUES ('report', 13, '2026-01-01T00', 'more', 1, 1, 1)",
    ],
)
def test_side_tables_that_say_otherwise_than_their_accesses_are_found(tmp_path, tampered):
    """What hides an access from a query, shows one that is none, or counts otherwise."""
    files = write(
        tmp_path / "access.db",
        [
            event("complete", "0a", subject="x", groups=("group:g",), report="r", decision="permit",
                  fields={"net": {"clear": 2}}, rows=2, policy="ab"),
            event("refusal", "0b", subject="x", decision="deny", reason="not-found"),
        ],
    )  # fmt: skip
    projected(files, 1000)
    assert differing(files) is None
    with contextlib.closing(sqlite3.connect(files.index)) as index:
        assert index.execute(tampered).rowcount > 0
        index.commit()
    assert differing(files) not in (None, "")


@SAMPLES
@given(
    sequence=st.lists(records(counts=st.integers(0, 2**40)), max_size=14),
    behind=st.integers(0, 15),
    bounds=st.tuples(*[st.none() | st.integers(-2, 12).map(lambda hours: HOUR * hours)] * 2),
)
def test_what_is_counted_equals_a_naive_count(tmp_path_factory, sequence, behind, bounds):
    """However far the index is behind: by hour, report, subject and reason, of whole hours."""
    spread = [
        msgspec.structs.replace(one, at=timestamp(1.8e9 + number * 2000))
        for number, one in enumerate(sequence)
    ]
    path = tmp_path_factory.mktemp("log") / "access.db"
    projected(write(path, spread), behind)
    since, until = (None if hours is None else START + hours for hours in bounds)
    accesses = [
        row for row in naive(events(path))
        if row.get("decision")
        and (since is None or row["started"][:13] >= timestamp(since.timestamp())[:13])
        and (until is None or row["started"][:13] <= timestamp(until.timestamp() - 1)[:13])
    ]  # fmt: skip

    def number(row: dict[str, object]) -> int:
        return max(1, row.get("count", 1)) if row["outcome"] == "refused" else 1

    def tallied(name) -> dict[str, tuple[int, int]]:
        counted: dict[str, tuple[int, int]] = {}
        for row in filter(name, accesses):
            accesses_, rows = counted.get(name(row), (0, 0))
            counted[name(row)] = accesses_ + number(row), rows + row["rows"]
        return counted

    with Reader(path) as reader:
        found = reader.stats(since=since, until=until or START + HOUR * 30, top=1000)
    assert found.unit == "hour"
    assert {one.name: (one.permitted + one.refused, one.rows) for one in found.bins} == tallied(
        lambda row: row["started"][:13]
    )
    for kind, name in (("reports", "report"), ("subjects", "subject"), ("reasons", "reason")):
        counts = {one.name: (one.accesses, one.rows) for one in getattr(found, kind)}
        assert counts == tallied(lambda row, name=name: row.get(name, ""))
        rows = [one.rows for one in getattr(found, kind)]
        assert rows == sorted(rows, reverse=True)


@given(record=records(), more=st.from_type(AccessEvent))
def test_stored_bytes_are_canonical(record, more):
    """Sorted ASCII keys of members, no floats, no nulls, no blanks outside of strings, UTF-8."""
    for one in (record, more):
        try:
            entry = encode(one)
        except UnicodeEncodeError:
            continue  # a lone surrogate: the log refuses it

        def members(pairs):
            assert [name for name, _ in pairs] == sorted({name for name, _ in pairs})
            return dict(pairs)

        def none(text):
            raise AssertionError(text)

        value = json.loads(entry, object_pairs_hook=members, parse_float=none, parse_constant=none)
        assert None not in value.values()
        assert all(name.isascii() for name in value)
        again = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        assert json.loads(again) == json.loads(entry)
        assert b"\n" not in entry and b"\r" not in entry


async def test_a_query_beside_the_writer_never_misses_a_receipted_event(path):
    async with opened(path) as log:
        with Reader(path) as kept:
            for number in range(30):
                given = event("intent" if number % 2 else "complete", rows=number + 1)
                await log.append(given)
                await asyncio.to_thread(log.up_to_date)
                with Reader(path) as reader:
                    assert reader.query(limit=1)[0].access == given.access
                assert kept.query(limit=1)[0].rows == number + 1
                assert kept.last(1)[0].entry == encode(given)


async def test_exact_leaves_come_back_in_the_order_of_commits(path):
    given = [event(path=HOSTILE, subject=f"s{number}") for number in range(5)]
    async with opened(path) as log:
        for one in given:
            await log.append(one)
    assert list(exact(path))[1:] == [encode(one) for one in given]
    with Reader(path) as reader:
        assert [leaf.entry for leaf in reader.last(2)] == [encode(one) for one in given[-2:]]
        third = reader.last(3)[0]
        assert [leaf.entry for leaf in reader.since(third.number)] == [
            encode(one) for one in given[-2:]
        ]
        assert (third.log, third.index) == ("counterfoil/1", 3)


def test_a_burst_is_left_alone_until_it_is_over_or_far_ahead(tmp_path):
    """The projection does not compete with many accesses for the processor, nor falls ever further behind."""
    follower = Follower(Files.at(tmp_path / "access.db"), keeps=lambda: True, written=lambda: 0)
    assert not follower._stands_back(0)
    assert follower._stands_back(1000)
    assert not follower._stands_back(1010)
    assert not follower._stands_back(5010)
    follower.number = 5010
    assert follower._stands_back(6010)
    assert follower.lag == 1000


async def test_the_projection_follows_and_closing_leaves_no_lag(tmp_path):
    path = tmp_path / "access.db"
    async with opened(path) as log:
        for _ in range(10):
            await log.append(event())
        assert 0 <= log.lag <= 11
    assert log.lag == 0
    with Reader(path) as reader:
        assert reader.lag == 0
        assert len(reader.query()) == 10


@pytest.mark.parametrize("ruin", [b"no database", b"SQLite format 3\0" + b"\xff" * 5000, b""])
async def test_a_ruined_index_hinders_nobody_and_is_made_anew(tmp_path, ruin):
    path = tmp_path / "access.db"
    files = write(path, [event("complete", f"{number}") for number in range(5)])
    files.index.write_bytes(ruin)
    with Reader(path) as reader:
        assert len(reader.query()) == 5
    async with opened(path) as log:
        await log.append(event("complete", "5"))
    assert log.projection_failure == ""
    with Reader(path) as reader:
        assert reader.lag == 0
        assert len(reader.query()) == 6


async def test_the_index_of_another_log_is_not_believed(tmp_path):
    path = tmp_path / "access.db"
    files = write(path, [event(subject="ours") for _ in range(5)])
    other = write(tmp_path / "other.db", [event(subject="theirs") for _ in range(5)])
    projected(other, 1000)
    other.index.rename(files.index)
    with Reader(path) as reader:
        assert {one.subject for one in reader.query()} == {"ours"}
    async with opened(path):
        pass
    with Reader(path) as reader:
        assert reader.lag == 0
        assert {one.subject for one in reader.query()} == {"ours"}


async def test_names_are_found_and_can_be_erased_without_a_trace_or_a_changed_leaf(tmp_path):
    path = tmp_path / "access.db"
    async with opened(path) as log:
        for number in range(40):
            who = "alice-the-analyst" if number % 2 else f"user-{number}"
            await log.append(event(subject=f"id-of-{who}"), principal=f"user:{who}")
        await log.append(event(subject="older-id"), principal="user:alice-the-analyst")
    with Reader(path) as reader:
        assert len(reader.query(Asked(subject="user:alice-the-analyst"))) == 21
        assert {one.principal for one in reader.query(Asked(subject="older-id"))} == {
            "user:alice-the-analyst"
        }
    before = leaves(path)
    files = Files.at(path)
    with contextlib.closing(Names(files.names)) as names:
        assert names.erase("user:alice-the-analyst") == 2
        for file in filter(Path.is_file, tmp_path.rglob("*")):
            assert b"user:alice-the-analyst" not in file.read_bytes(), file
    assert leaves(path) == before
    with Reader(path) as reader:
        assert reader.query(Asked(subject="user:alice-the-analyst")) == []
        assert len(reader.query(Asked(subject="id-of-alice-the-analyst"))) == 20
        assert {
            one.principal for one in reader.query(Asked(subject="id-of-alice-the-analyst"))
        } == {""}
        assert reader.query(Asked(subject="id-of-user-2"))[0].principal == "user:user-2"


async def test_whoever_asks_again_is_known_again(file, monkeypatch):
    """A name that was erased while a server runs is learnt anew from it, in a while."""
    monkeypatch.setattr(log_module, "_KNOWN_FOR", 0.0)
    names = Files.at(file).names

    def known() -> bool:
        with Reader(file) as reader:
            return reader.subjects("user:alice") == ("a1",)

    async with opened(file) as log:
        await log.append(event(subject="a1"), principal="user:alice")
        await until(known)
        directory = Names(names)
        directory.erase("user:alice")
        directory.close()
        assert not known()
        await log.append(event(subject="a1"), principal="user:alice")
        await until(known)


def test_a_log_that_is_missing_or_no_log_is_a_clear_fault(tmp_path):
    with pytest.raises(LogUnavailable, match="there is no access log at"):
        Reader(tmp_path / "none.db")
    (tmp_path / "text.db").write_text("no database" * 1000)
    with pytest.raises(LogUnavailable, match="is not a database"):
        Reader(tmp_path / "text.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "pets.db")) as other:
        other.execute("CREATE TABLE pets (name)")
    with pytest.raises(LogUnavailable, match="is not an access log"):
        Reader(tmp_path / "pets.db")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["pets.db", "text.db"]


@pytest.mark.parametrize("year", [1, 24, 999, 1969])
def test_a_time_before_all_records_is_before_them(tmp_path, year):
    """Years that are written with fewer digits too, whole or not, with the index and without."""
    path = tmp_path / "access.db"
    write(path, [event(decision="permit", rows=1)])
    early = datetime(year, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    for _ in range(2):
        with Reader(path) as reader:
            assert len(reader.query(Asked(since=early))) == 1
            assert not reader.query(Asked(until=early))
            assert reader.stats(since=early).bins and not reader.stats(until=early).bins
        rebuild(Files.at(path))


@given(st.integers(0, 999_999))
@SAMPLES
def test_times_are_compared_to_the_microsecond(tmp_path_factory, micros):
    """However an instant is kept on its way: an access is begun before the next one, and not before its own."""
    path = tmp_path_factory.mktemp("log") / "access.db"
    begun = START.replace(microsecond=micros)
    at = begun.isoformat(timespec="microseconds").replace("+00:00", "Z")
    write(path, [AccessEvent(access="0a", step="complete", at=at)])
    with Reader(path) as reader:
        assert reader.query(Asked(since=begun)) and not reader.query(Asked(until=begun))
        step = timedelta(microseconds=1)
        assert reader.query(Asked(until=begun + step)) and not reader.query(
            Asked(since=begun + step)
        )
