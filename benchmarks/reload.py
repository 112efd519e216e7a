"""Policies that are replaced under requests: how long it takes, and whom it keeps waiting.

A client in a process of its own asks all the time (`prober.py`). Policies that differ in what it is
given are put in place by one rename, and taken as in production: the folder is watched. Times with
and without reloads alternate, so that the machine's own moods fall on both alike; the delay that is
judged is the median over the rounds of the slowest answer, with reloads less without.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.prober import Answer, asking, percentile, worst
from benchmarks.stage import RULES, stage

ROUNDS = 5
SECONDS = 4.0
"""Of each time with reloads, and of each without."""
EVERY = 0.5
"""Seconds between two policies of 1,000 rules: taken within half that time."""


def _policy(rules: int, rounded: int) -> str:
    lines = [RULES.replace("round(100)", f"round({rounded})")]
    for n in range((rules - RULES.count("\n")) // 2):
        lines.append(f"p,  user:u{n}, sales/*, read, true, allow\n")
        lines.append(f"p2, user:u{n}, sales/*, row.store_id == '{n}', @public, clear\n")
    return "".join(lines)


class _Policies:
    """Two policies of so many rules, put in place in turn."""

    def __init__(self, folder: Path, rules: int) -> None:
        self._folder = folder
        self._texts = [_policy(rules, rounded).encode() for rounded in (100, 1000)]
        self._next = 0

    def put(self) -> float:
        """Put the next one in place; when that was."""
        new = self._folder / "policy.new"
        new.write_bytes(self._texts[self._next])
        self._next = 1 - self._next
        new.replace(self._folder / "policies" / "policy.csv")
        return time.monotonic()


Span = tuple[float, float]


def _rest(seconds: float) -> Span:
    since = time.monotonic()
    time.sleep(seconds)
    return since, time.monotonic()


def _small(folder: Path) -> Iterator[tuple[Span, Span]]:
    """The times of each round, with and without reloads of 1,000 rules."""
    policies = _Policies(folder, 1_000)
    for _ in range(ROUNDS):
        since = time.monotonic()
        while time.monotonic() < since + SECONDS:
            policies.put()
            time.sleep(EVERY)
        alternating = since, time.monotonic()
        time.sleep(EVERY)
        yield alternating, _rest(SECONDS)


def _in_force(answers: Sequence[Answer], put: float) -> float:
    """When the first answer came that another policy gave than those before `put`."""
    before = next(a.body for a in reversed(answers) if a.asked + a.took < put)
    return next(a.asked + a.took for a in answers if a.asked > put and a.body != before)


def _delays(
    name: str, answers: Sequence[Answer], rounds: Sequence[tuple[Span, Span]], bar: float
) -> Iterator[Figure]:
    """What the reloads of these rounds, each with its time without, cost requests."""
    slowest = [(worst(answers, *busy), worst(answers, *idle)) for busy, idle in rounds]
    with_, without = (statistics.median(side) for side in zip(*slowest, strict=True))
    yield Figure(
        name=f"{name}-worst-extra", value=with_ - without, unit="ms", bar=bar, better="less"
    )
    busy, idle = zip(*rounds, strict=True)
    for what, spans in (("with", busy), ("without", idle)):
        for place in (0.5, 0.999, 1.0):
            label = "worst" if place == 1.0 else f"p{place * 100:g}"
            value = percentile(answers, spans, place)
            yield Figure(name=f"{name}-{label}-{what}", value=value, unit="ms")


def run() -> Iterator[Figure]:
    """The delay of requests by reloads of 1,000 and of 100,000 rules, and how long the latter take."""
    with stage() as at:
        folder = at.folder
        with asking(at.proxy, at.analyst) as answers:
            time.sleep(1)
            small = list(_small(folder))
        yield from _delays("reload-1000", answers, small, 50)

        policies, big, puts = _Policies(folder, 100_000), [], []
        with asking(at.proxy, at.analyst) as answers:
            time.sleep(1)
            policies.put()
            time.sleep(SECONDS + 2)  # from 1,000 rules to 100,000: told of by nobody
            for _ in range(ROUNDS):
                puts.append(policies.put())
                big.append((_rest(SECONDS), _rest(SECONDS)))
        took = [_in_force(answers, put) - put for put in puts]
        yield Figure(
            name="reload-100000", value=statistics.median(took), unit="s", bar=2, better="less"
        )
        yield Figure(name="reload-100000-slowest", value=max(took), unit="s")
        yield from _delays("reload-100000", answers, big, 50)
