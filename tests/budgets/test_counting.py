"""Windows and counters against a naive recount of all that was charged."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.alarms.volumes import FLOOR, usual
from proxy.budgets.counters import Begun, BudgetsUnavailable, Charge, Over, Spent, Unknown
from proxy.budgets.embedded import Embedded
from proxy.policy.limits import Per

INSTANTS = st.integers(0, 4_102_444_800)


@given(INSTANTS, st.sampled_from(Per))
def test_a_window_is_what_a_calendar_says(now, per):
    """Minutes, hours and days as the clock has them in UTC; weeks begin on Monday's midnight."""
    at = datetime.fromtimestamp(now, UTC)
    start = at.replace(second=0)
    if per is not Per.MINUTE:
        start = start.replace(minute=0)
    if per in (Per.DAY, Per.WEEK):
        start = start.replace(hour=0)
    if per is Per.WEEK:
        start -= timedelta(days=at.weekday())
    window = per.window(now)
    assert window == (start.timestamp(), start.timestamp() + per.seconds)
    assert window.start <= now < window.end


@given(st.floats(0, 4e9), st.sampled_from(Per))
def test_windows_neither_overlap_nor_leave_a_gap(now, per):
    window = per.window(now)
    assert per.window(window.end) == (window.end, window.end + per.seconds)
    assert per.window(window.end - 0.001) == window == per.window(window.start)


COUNTERS = {"m": Per.MINUTE, "h": Per.HOUR, "d": Per.DAY, "w": Per.WEEK}
SUBJECTS = ("alice", "bob")
charges = st.dictionaries(
    st.sampled_from(sorted(COUNTERS)),
    st.tuples(st.integers(1, 30), st.none() | st.integers(1, 100)),
    min_size=1,
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("charge"), st.sampled_from(SUBJECTS), charges),
        st.tuples(st.just("check"), st.sampled_from(SUBJECTS), charges),
        st.tuples(st.just("pass"), st.sampled_from([1, 20, 59, 60, 1800, 3600, 40_000, 86_400, 400_000])),
        # A time in which the counters were not charged, and more was released: the log knows it all.
        st.tuples(st.just("gap"), st.sampled_from(SUBJECTS), st.integers(0, 30)),
        st.tuples(st.just("restart")),
    ),
    max_size=40,
)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(st.integers(1_700_000_000, 1_700_700_000), steps)
def test_what_is_spent_is_what_a_recount_says(start, done):
    """Whatever happens in between, a charge is taken exactly where a recount of all releases has room."""
    asyncio.run(recounted(start, done))


async def recounted(start, done):
    now = [float(start)]
    released: list[tuple[str, str, float, int]] = []  # subject, counter, when, how much

    def since(subject, counter, begin):
        return sum(n for s, c, at, n in released if (s, c) == (subject, counter) and at >= begin)

    counters = Embedded(None, clock=lambda: now[0])
    await counters.declare(COUNTERS)
    for step in done:
        match step:
            case ("pass", seconds):
                now[0] += seconds
            case ("gap", subject, amount):
                released += [(subject, each, now[0], amount) for each in COUNTERS]
                now[0] += 0.5
                await counters.declare(COUNTERS)
            case ("restart",):
                await counters.close()
                counters = Embedded(None, clock=lambda: now[0])
                await counters.declare(COUNTERS)
            case ("charge" | "check" as what, subject, wanted):
                asked = [
                    Charge(counter=each, per=COUNTERS[each], amount=amount, most=most)
                    for each, (amount, most) in wanted.items()
                ]
                found = await counters.charge(subject, asked, keep=what == "charge")
                if isinstance(found, Unknown):
                    await counters.begin(
                        subject,
                        [
                            Begun(
                                begin=each,
                                per=COUNTERS[each.counter],
                                amount=since(subject, each.counter, each.start),
                            )
                            for each in found.begin
                        ],
                    )
                    found = await counters.charge(subject, asked, keep=what == "charge")
                totals = {
                    each.counter: since(subject, each.counter, each.per.window(now[0]).start)
                    for each in asked
                }
                fits = all(
                    each.most is None or totals[each.counter] + each.amount <= each.most
                    for each in asked
                )
                if fits:
                    assert isinstance(found, Spent)
                    assert found.amounts == {
                        each.counter: (totals[each.counter], totals[each.counter] + each.amount)
                        for each in asked
                    }
                    if what == "charge":
                        released += [(subject, e.counter, now[0], e.amount) for e in asked]
                else:
                    assert isinstance(found, Over)
                    assert found.window == COUNTERS[found.counter].window(now[0])
    await counters.close()


@given(st.lists(st.sampled_from("abcdef"), max_size=30), st.integers(1, 5))
def test_different_reports_are_counted_once_each(reports, most):
    async def count():
        counters = Embedded(None, clock=lambda: 1e9)
        await counters.declare(["r"])
        seen: set[str] = set()
        for report in reports:
            charge = Charge(counter="r", per=Per.WEEK, amount=1, report=report, most=most)
            found = await counters.charge("alice", [charge])
            if isinstance(found, Unknown):
                (begin,) = found.begin
                await counters.begin("alice", [Begun(begin=begin, per=Per.WEEK, amount=0)])
                found = await counters.charge("alice", [charge])
            assert isinstance(found, Spent) == (len(seen | {report}) <= most)
            if isinstance(found, Spent):
                seen.add(report)
        await counters.close()

    asyncio.run(count())


def test_two_processes_share_one_file(tmp_path):
    """What one charges the other one finds, a name is claimed by one of them, and a broken file is made anew."""

    async def share():
        path = tmp_path / "budgets"
        one, other = Embedded(path), Embedded(path)
        charge = Charge(counter="c", per=Per.WEEK, amount=6, most=10)
        for each in (one, other):
            await each.declare(["c"])
        found = await one.charge("alice", [charge])
        assert isinstance(found, Unknown)
        await one.begin("alice", [Begun(begin=found.begin[0], per=Per.WEEK, amount=0)])
        assert isinstance(await one.charge("alice", [charge]), Spent)
        assert isinstance(await other.charge("alice", [charge]), Over)
        assert [await one.claim("x", 60), await other.claim("x", 60)] == [True, False]
        await one.close()
        await other.close()
        path.write_bytes(b"no database" * 1000)
        again = Embedded(path)
        await again.declare(["c"])
        assert isinstance(await again.charge("alice", [charge]), Unknown)
        await again.close()

    asyncio.run(share())


def test_a_clock_that_steps_back_silences_nothing():
    """What was claimed by a clock that was ahead counts no longer than the time that it was claimed for."""

    async def claim():
        now = [1e9 + 365 * 86_400]
        counters = Embedded(None, clock=lambda: now[0])
        assert await counters.claim("x", 60)
        now[0] = 1e9
        assert [await counters.claim("x", 60) for _ in range(2)] == [True, False]
        now[0] += 60
        assert await counters.claim("x", 60)
        await counters.close()

    asyncio.run(claim())


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(Per), st.integers(1, 10**6), st.booleans())
def test_a_clock_that_steps_back_gives_nobody_a_new_budget(per, ahead, restarts):
    """Whatever was forgotten while it was ahead, what the log has of the window is spent again."""

    async def step(folder: Path):
        start = per.window(1_700_000_000).start
        now = [float(start - per.seconds)]
        counters = Embedded(folder / "budgets", clock=lambda: now[0])
        await counters.declare(["c"])
        released = 0

        async def charge():
            nonlocal released
            each = Charge(counter="c", per=per, amount=6, most=10)
            found = await counters.charge("alice", [each])
            if isinstance(found, Unknown):
                begun = Begun(begin=found.begin[0], per=per, amount=released)
                await counters.begin("alice", [begun])
                found = await counters.charge("alice", [each])
            released += 6 * isinstance(found, Spent)
            return found

        now[0] = start + per.seconds - 1
        assert isinstance(await charge(), Spent)
        now[0] += ahead
        bob = Charge(counter="c", per=per, amount=1)
        if isinstance(found := await counters.charge("bob", [bob]), Unknown):
            await counters.begin("bob", [Begun(begin=found.begin[0], per=per, amount=0)])
            await counters.charge("bob", [bob])
        now[0] = start + per.seconds - 1
        if restarts:
            await counters.close()
            counters = Embedded(folder / "budgets", clock=lambda: now[0])
        assert isinstance(await charge(), Over)
        await counters.close()

    with TemporaryDirectory() as folder:
        asyncio.run(step(Path(folder)))


def test_a_place_where_nothing_can_be_counted_is_named(tmp_path):
    """Whoever starts the server is told which file it is."""
    (tmp_path / "budgets").mkdir()
    with pytest.raises(BudgetsUnavailable, match=f"{tmp_path}/budgets cannot be opened: "):
        Embedded(tmp_path / "budgets")


@given(st.lists(st.integers(0, 10**6), max_size=28), st.integers(0, 27))
def test_what_is_usual_is_robust(history, at):
    """It is above every habit's median, silent for the new, and one wild day moves it little."""
    most = usual(history)
    days = sorted(filter(None, history))
    assert (most is None) == (len(days) < 5)
    if most is not None:
        assert most >= max(FLOOR, days[len(days) // 2 - (len(days) % 2 == 0)])
    steady = [2_000] * 20
    wild = [*steady[:at], 10**9, *steady[at:]][:20]
    assert usual(wild) == usual(steady) == 4_400
