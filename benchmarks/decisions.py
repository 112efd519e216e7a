"""Decision and plan, warm and cold, with 10, 1,000 and 100,000 rules."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.figures import Figure, interleaved, ratio
from benchmarks.stage import REPORTS
from proxy.catalogue import Catalogue
from proxy.plan import Context, Permit
from proxy.policy.decide import decide as policy_decide
from proxy.policy.index import Policy
from proxy.policy.rules import MODEL
from proxy.policy.source import load
from proxy.report import Report
from proxy.subject import AttributeType, Subject
from proxy.values import Type

CALLS = 2000
COLD = 15
"""How many users' first decisions are measured."""
RULES = """\
p,  tool:app,     sales/*, act,  true, allow
p,  role:owner,   sales/*, read, env.purpose in ['', 'audit'], allow
p2, role:owner,   sales/*, row.store_id in sub.stores, *, clear
p2, role:owner,   sales/*, true, net_sales|gross_margin, round(100)
g,  group:owners, role:owner
"""


def _policy(rules: int) -> tuple[Policy, Catalogue]:
    catalogue = Catalogue.load(
        REPORTS.replace("{store}", "http://127.0.0.1:1").encode(),
        file="reports.yaml",
        environment={"BENCH_STORE_TOKEN": "x"},
        folder=Path(),
    )
    lines = [RULES]
    for n in range(max(0, rules - RULES.count("\n")) // 2):
        lines.append(f"p,  user:u{n}, sales/*, read, true, allow\n")
        lines.append(f"p2, user:u{n}, sales/*, row.store_id == '{n}', @public, clear\n")
    files = {
        "model.conf": MODEL.encode(),
        "policy.csv": "".join(lines).encode(),
    }
    return (
        load(
            files,
            reports=catalogue.reports,
            classes=catalogue.classes,
            purposes=catalogue.purposes,
            attributes={"stores": AttributeType(type=Type.TEXT, many=True)},
            version="0" * 64,
        ),
        catalogue,
    )


def _cold(policy: Policy, report: Report, subject: Subject, context: Context, user: int) -> float:
    """The first decision about a user, who has lines of its own where there are many (ms)."""
    subject = dataclasses.replace(subject, user=f"user:u{user}")
    started = time.perf_counter()
    assert isinstance(
        policy_decide(policy, subject=subject, report=report, context=context), Permit
    )
    return (time.perf_counter() - started) * 1e3


def run() -> Iterator[Figure]:
    """Median of single calls; each size measured in turn."""
    now = datetime.now(UTC)
    context = Context(
        attributes={"stores": ("2001", "2002")}, now=now, date=now.date(), ip="127.0.0.1",
        purpose="", tool="app", action="read", method="GET",
    )  # fmt: skip
    subject = Subject(
        user="user:sam", groups=("group:owners",), tool="tool:app", expires=now.timestamp() + 3600
    )
    works = {}
    for rules in (10, 1_000, 100_000):
        started = time.perf_counter()
        loaded, catalogue = _policy(rules)
        yield Figure(name=f"load-{rules}-rules", value=time.perf_counter() - started, unit="s")
        report = catalogue.reports["sales/store-daily"]

        def decide(loaded: Policy = loaded, report: Report = report) -> float:
            started = time.perf_counter()
            for _ in range(CALLS):
                decision = policy_decide(loaded, subject=subject, report=report, context=context)
            assert isinstance(decision, Permit)
            return (time.perf_counter() - started) / CALLS * 1e6

        cold = [_cold(loaded, report, subject, context, user) for user in range(COLD)]
        yield Figure(
            name=f"decision-cold-{rules}-rules",
            value=statistics.median(cold),
            unit="ms",
            bar=5 if rules == 100_000 else None,
            better="less",
        )
        works[rules] = decide
    measured = interleaved({str(n): work for n, work in works.items()}, rounds=15)
    for rules in works:
        yield Figure(
            name=f"decision-warm-{rules}-rules",
            value=statistics.median(measured[str(rules)]),
            unit="µs",
            bar=10 if rules == 100_000 else None,
            better="less",
        )
    yield Figure(
        name="decision-warm-100000-to-10",
        value=ratio(measured["100000"], measured["10"]),
        unit="×",
        bar=1.5,
        better="less",
    )
