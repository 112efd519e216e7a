"""`policy replay`: accesses of a log decided again, from the log's file to what would be different."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvloop

from benchmarks.figures import Figure
from benchmarks.stage import REPORTS
from proxy.access import AccessEvent, new_access_id, timestamp
from proxy.audit import AccessLog, Reader
from proxy.keys import Keyring
from proxy.policy.rules import MODEL
from proxy.review.replay import Replay
from proxy.snapshot import snapshot_of, version_of

ACCESSES = 60_000
PEOPLE = 500
RULES = """\
p,  tool:app,     sales/*, act,  true, allow
p,  role:owner,   sales/*, read, env.purpose in ['', 'audit'], allow
p2, role:owner,   sales/*, row.store_id in sub.stores, * except net_sales, clear
p2, role:owner,   sales/*, row.store_id in sub.stores, net_sales, round(100)
g,  group:owners, role:owner
"""
SUBJECTS = """\
issuers:
  - issuer: https://id.example.com
    prefix: ""
    audience: [counterfoil]
    keys: {url: "https://id.example.com/jwks.json"}
    groups: {claim: groups}
    attributes:
      stores: {type: text, many: true, source: people}
"""


def _files(rules: str) -> dict[str, bytes]:
    people = "".join(f"user:u{n}, {n}|{n + 1}\n" for n in range(PEOPLE))
    own = "".join(f"p,  user:v{n}, sales/*, read, true, allow\n" for n in range(1_000))
    return {
        "model.conf": MODEL.encode(),
        "policy.csv": (rules + own).encode(),
        "people.csv": f"subject, stores\n{people}".encode(),
        "reports.yaml": REPORTS.replace("{store}", "http://127.0.0.1:1").encode(),
        "subjects.yaml": SUBJECTS.encode(),
    }


def _event(number: int, version: str) -> AccessEvent:
    person = number % PEOPLE
    return AccessEvent(
        access=new_access_id(),
        step="complete",
        at=timestamp(time.time()),
        subject=f"{person:032x}",
        groups=("group:owners",),
        tool="tool:app",
        address=f"10.0.{number % 7}.{number % 251}",
        method="GET",
        report="sales/store-daily",
        format="csv",
        action="read",
        decision="permit",
        status=200,
        policy=version,
        lines=("policy.csv:1", "policy.csv:2"),
        parameters={"from": f"2026-01-{number % 28 + 1:02d}", "store_id": str(number % 997)},
        fields={f"field_{column}": {"clear": 12} for column in range(11)},
        rows=12,
        bytes=2048,
        digest="b" * 64,
        ended="whole",
        micros=1234,
    )


async def _write(path: Path, version: str) -> None:
    log = await AccessLog.open(path, keyring=Keyring.generate())
    numbers = iter(range(ACCESSES))

    async def appender() -> None:
        for number in numbers:
            await log.append(_event(number, version), principal=f"user:u{number % PEOPLE}")

    await asyncio.gather(*(appender() for _ in range(64)))
    await log.close()


def run() -> Iterator[Figure]:
    """Whose lines changed, and lines that look at the time too: those are decided one by one."""
    timed = RULES.replace("env.purpose in ['', 'audit']", "env.now < time('2100-01-01T00:00')")
    then = _files(RULES)
    kept = {version_of(then): snapshot_of(then)}
    since = datetime.now(UTC) - timedelta(days=7)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "access.db"
        uvloop.run(_write(path, version_of(then)))
        for name, rules, then_of in (
            ("replay", RULES.replace("round(100)", "round(1000)"), kept.get),
            ("replay-by-time", timed, kept.get),
            ("replay-unkept", RULES, {}.get),
        ):
            candidate = snapshot_of(_files(rules))
            rates = []
            for _ in range(5):
                with Reader(path) as reader:
                    started = time.perf_counter()
                    work = Replay(candidate, then=then_of, names=reader.principal)
                    work.add(reader.past(since=since, until=None))
                    found = work.result()
                    rates.append(ACCESSES / (time.perf_counter() - started))
                assert found.accesses == ACCESSES
                assert bool(found.tallies) != (name == "replay-by-time")
            yield Figure(name=name, value=statistics.median(rates), unit="accesses/s", bar=20_000)
