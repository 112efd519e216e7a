"""How fast `counterfoil log verify` looks at a log: its entries, and the tiles, roots and signatures."""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.figures import Figure, interleaved
from benchmarks.query import WRITTEN, project, write
from proxy.audit.checkpoint import VerifierKey
from proxy.audit.findings import Grade
from proxy.audit.looking import MOST_PROCESSES
from proxy.audit.projection import differing
from proxy.audit.publish import Publisher
from proxy.audit.sources import Bundles, Leaves
from proxy.audit.store import Files
from proxy.audit.verify import Verifier
from proxy.keys import Keyring

ROUNDS = 3
ENTRIES = 1_000_000
LEAST = 200_000
"""Entries a second."""


def run() -> Iterator[Figure]:
    """The database with its published tiles, and the published files alone; beside them the index."""
    with tempfile.TemporaryDirectory(prefix="counterfoil-bench-") as folder:
        files = Files.at(Path(folder) / "access.db")
        keyring = Keyring.generate()
        write(files, keyring, ENTRIES)
        with contextlib.closing(Publisher(files, lambda: keyring, epoch=1)) as publisher:
            fault = publisher.round()
            assert not fault, fault
        with contextlib.closing(Leaves(files)) as leaves:
            key = VerifierKey.parse(leaves.key())
            yield from _rates("verify-log", leaves, files.tiles, key)
        yield from _rates("verify-tiles", Bundles(files.tiles), files.tiles, key)
    with tempfile.TemporaryDirectory(prefix="counterfoil-bench-") as folder:
        files = Files.at(Path(folder) / "access.db")
        write(files, Keyring.generate(), WRITTEN)
        project(files)
        begun = time.perf_counter()
        wrong = differing(files)
        assert not wrong, wrong
        took = time.perf_counter() - begun
        yield Figure(name="verify-index", value=WRITTEN / took, unit="accesses/s")


def _rates(name: str, source: Leaves | Bundles, tiles: Path, key: VerifierKey) -> Iterator[Figure]:
    """As the command does it, and in one process, as the server does it beside its work."""
    processes = min(os.cpu_count() or 1, MOST_PROCESSES)
    many = interleaved(
        {
            name: lambda: _rate(source, tiles, key, processes),
            f"{name}-alone": lambda: _rate(source, tiles, key, 1),
        },
        rounds=ROUNDS,
    )
    for each, rates in many.items():
        bar = LEAST if each == name else None
        yield Figure(name=each, value=statistics.median(rates), unit="entries/s", bar=bar)


def _rate(source: Leaves | Bundles, tiles: Path, key: VerifierKey, processes: int) -> float:
    begun = time.perf_counter()
    found = Verifier(source, tiles, key=key, now=datetime.now(UTC), processes=processes).run()
    took = time.perf_counter() - begun
    assert found.grade < Grade.INVALID, found.findings
    return found.entries / took
