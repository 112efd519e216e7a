"""How fast `counterfoil log verify` looks at a log: its entries, and the tiles, roots and signatures."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.query import EVENTS, write
from proxy.audit.checkpoint import VerifierKey
from proxy.audit.findings import Grade
from proxy.audit.projection import differing
from proxy.audit.publish import Publisher
from proxy.audit.sources import Bundles, Leaves
from proxy.audit.store import Files
from proxy.audit.verify import Verifier
from proxy.keys import Keyring

ROUNDS = 3
LEAST = 200_000
"""Entries a second."""


def run() -> Iterator[Figure]:
    """The database with its published tiles, and the published files alone; beside them the index."""
    with tempfile.TemporaryDirectory(prefix="counterfoil-bench-") as folder:
        files = Files.at(Path(folder) / "access.db")
        keyring = Keyring.generate()
        write(files, keyring)
        with contextlib.closing(Publisher(files, lambda: keyring, epoch=1)) as publisher:
            fault = publisher.round()
            assert not fault, fault
        with contextlib.closing(Leaves(files)) as leaves:
            key = VerifierKey.parse(leaves.key())
            rates = [_rate(leaves, files.tiles, key) for _ in range(ROUNDS)]
        yield Figure(name="verify-log", value=statistics.median(rates), unit="entries/s", bar=LEAST)
        rates = [_rate(Bundles(files.tiles), files.tiles, key) for _ in range(ROUNDS)]
        yield Figure(
            name="verify-tiles", value=statistics.median(rates), unit="entries/s", bar=LEAST
        )
        begun = time.perf_counter()
        wrong = differing(files)
        assert not wrong, wrong
        took = time.perf_counter() - begun
        yield Figure(name="verify-index", value=min(EVENTS, 100_000) / took, unit="accesses/s")


def _rate(source: Leaves | Bundles, tiles: Path, key: VerifierKey) -> float:
    begun = time.perf_counter()
    found = Verifier(source, tiles, key=key, now=datetime.now(UTC)).run()
    took = time.perf_counter() - begun
    assert found.grade < Grade.INVALID, found.findings
    return found.entries / took
