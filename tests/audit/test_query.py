"""Reading: accesses are their records merged, none is missed, and names can be erased."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.access import AccessEvent, encode, timestamp
from proxy.audit import OUTCOMES, Reader
from proxy.audit.follower import Follower
from proxy.audit.log import leaves as exact
from proxy.audit.names import Names
from proxy.audit.projection import Projection, rebuild
from proxy.audit.store import Files, place_of
from proxy.errors import LogUnavailable
from tests.audit.records import HOSTILE, event, events, leaves, opened, records, write

SAMPLES = settings(max_examples=40)


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
            "policy-refused": "policy-refused", "change": "change",
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
    found = msgspec.json.decode(msgspec.json.encode(reader.query(limit=1000, **asked)))
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


def rows_of(files: Files) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(files.index)) as connection:
        return connection.execute("SELECT * FROM access ORDER BY access").fetchall()


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
                "report": st.sampled_from(["sales/*", "sales", "sales/é'\"", "hr/*", "x/*", "'"]),
                "tool": st.sampled_from(["bi", "tool:bi", "a"]),
                "since": moment,
                "until": moment,
                "outcome": st.sampled_from([*sorted(OUTCOMES - {"opened"}), "permit", "deny",
                                            "not-found", "no-allow-line", "x"]),
            },
        )
    )  # fmt: skip

    def fits(row: dict[str, object]) -> bool:
        report, tool = asked.get("report"), asked.get("tool")
        prefix = report[:-1] if report and report.endswith("/*") else None
        outcome = asked.get("outcome")
        return all([
            "subject" not in asked or row.get("subject") == asked["subject"],
            prefix is None or str(row.get("report", "")).startswith(prefix),
            report is None or prefix is not None or row.get("report") == report,
            tool is None or row.get("tool") in (tool, f"tool:{tool}"),
            "since" not in asked or row["at"] >= timestamp(asked["since"].timestamp()),
            "until" not in asked or row["started"] < timestamp(asked["until"].timestamp()),
            outcome is None or outcome in (
                row["outcome"], row.get("decision"), row.get("reason"), row.get("cause")),
        ])  # fmt: skip

    expected = [row for row in naive(events(path)) if fits(row)]
    limit = data.draw(st.integers(1, 4))
    with Reader(path) as reader:
        assert shown(reader, **asked) == expected
        newest = [one.access for one in reader.query(limit=limit, **asked)]
    assert newest == [row["access"] for row in expected[:limit]]


@SAMPLES
@given(sequence=st.lists(records(), max_size=14), behind=st.integers(0, 15))
def test_a_rebuilt_index_equals_the_one_that_followed(tmp_path_factory, sequence, behind):
    files = write(tmp_path_factory.mktemp("log") / "access.db", sequence)
    with contextlib.closing(Projection(files)) as projection:
        while projection.step(max(1, behind))[0]:
            pass
    followed = rows_of(files)
    rebuild(files)
    assert rows_of(files) == followed


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


async def test_a_query_beside_the_writer_never_misses_a_receipted_event(tmp_path):
    path = tmp_path / "access.db"
    async with opened(path) as log:
        with Reader(path) as kept:
            for number in range(30):
                given = event("intent" if number % 2 else "complete", rows=number + 1)
                await log.append(given)
                with Reader(path) as reader:
                    assert reader.query(limit=1)[0].access == given.access
                assert kept.query(limit=1)[0].rows == number + 1
                assert kept.last(1)[0].entry == encode(given)


async def test_exact_leaves_come_back_in_the_order_of_commits(tmp_path):
    path = tmp_path / "access.db"
    given = [event(path=HOSTILE, subject=f"s{number}") for number in range(5)]
    async with opened(path) as log:
        for one in given:
            await log.append(one)
    assert list(exact(path))[1:] == [encode(one) for one in given]
    with Reader(path) as reader:
        assert [leaf.entry for leaf in reader.last(2)] == [encode(one) for one in given[-2:]]
        third = reader.last(3)[0]
        assert [leaf.entry for leaf in reader.since(third.place)] == [
            encode(one) for one in given[-2:]
        ]
        assert (third.log, third.index) == ("counterfoil/1", 3)


def test_a_burst_is_left_alone_until_it_is_over_or_far_ahead(tmp_path):
    """The projection does not compete with many accesses for the processor, nor falls ever further behind."""
    size = 0
    follower = Follower(Files.at(tmp_path / "access.db"), 1, size=lambda: size)
    assert not follower._stands_back()
    size += 1000
    assert follower._stands_back()
    size += 10
    assert not follower._stands_back()
    size += 4000
    assert not follower._stands_back()
    follower.place = place_of(1, size - 1)
    size += 1000
    assert (follower.lag, follower._stands_back()) == (1000, True)


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
        assert len(reader.query(subject="user:alice-the-analyst")) == 21
        assert {one.principal for one in reader.query(subject="older-id")} == {
            "user:alice-the-analyst"
        }
    before = leaves(path)
    files = Files.at(path)
    with contextlib.closing(Names(files.names)) as names:
        assert names.erase("user:alice-the-analyst") == 2
        for file in tmp_path.glob("access*"):
            assert b"user:alice-the-analyst" not in file.read_bytes(), file
    assert leaves(path) == before
    with Reader(path) as reader:
        assert reader.query(subject="user:alice-the-analyst") == []
        assert len(reader.query(subject="id-of-alice-the-analyst")) == 20
        assert {one.principal for one in reader.query(subject="id-of-alice-the-analyst")} == {""}
        assert reader.query(subject="id-of-user-2")[0].principal == "user:user-2"


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
