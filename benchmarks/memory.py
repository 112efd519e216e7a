"""Reports of 1 GB through the proxy: the peak of its resident memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks import parquet
from benchmarks.drain import drain
from benchmarks.figures import Figure
from benchmarks.stage import stage
from benchmarks.throughput import CSV, JSON, NDJSON


def peak(pid: int) -> float:
    """The process's peak resident set, in MiB (Linux: VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmHWM")


def run() -> Iterator[Figure]:
    """Masked, in each format, of at least 1 GB; a small report's peak beside it."""
    for name, path in (("csv", CSV), ("json", JSON), ("ndjson", NDJSON)):
        for size, repeat in (("16MB", 1), ("1GB", 64 if path == CSV else 32)):
            with stage(repeat=repeat) as at:
                _, total = drain(at.passthrough, path)
                drain(at.proxy, path, at.analyst)
                if repeat > 1 and total < 1e9:
                    raise RuntimeError(f"only {total} bytes")
                yield Figure(
                    name=f"peak-rss-{name}-{size}",
                    value=peak(at.pid),
                    unit="MiB",
                    bar=300,
                    better="less",
                )
    for size, groups in (("16MB", 2), ("1GB", 96)):
        with parquet.stage(groups=groups) as stored:
            for token in (stored.owner, stored.analyst):
                drain(stored.proxy, parquet.ITEMS, token)
            if groups > 2 and stored.size < 1e9:
                raise RuntimeError(f"only {stored.size} bytes")
            yield Figure(
                name=f"peak-rss-parquet-{size}",
                value=peak(stored.pid),
                unit="MiB",
                bar=300,
                better="less",
            )
