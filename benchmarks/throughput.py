"""Large reports end to end: input MB/s as a ratio to our own passthrough, in one interleaved run."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator

from benchmarks.drain import drain
from benchmarks.figures import Figure, interleaved, ratio
from benchmarks.stage import stage

ROUNDS = 5
REPEAT = 12
CSV, JSON, NDJSON = (f"/sales/store-daily.{name}" for name in ("csv", "json", "ndjson"))


def run() -> Iterator[Figure]:
    """Filtered CSV (a tenth of the stores), masked CSV and masked JSON (all rows, no encryption)."""
    with stage(repeat=REPEAT) as at:
        size = {path: drain(at.passthrough, path)[1] for path in (CSV, JSON)}

        def rate(url: str, path: str, token: str | None = None) -> Callable[[], float]:
            return lambda: size[path] / 1e6 / drain(url, path, token)[0]

        drain(at.proxy, CSV, at.owner), drain(at.proxy, JSON, at.analyst)
        measured = interleaved(
            {
                "passthrough-csv": rate(at.passthrough, CSV),
                "filtered-csv": rate(at.proxy, CSV, at.owner),
                "masked-csv": rate(at.proxy, CSV, at.analyst),
                "passthrough-json": rate(at.passthrough, JSON),
                "filtered-json": rate(at.proxy, JSON, at.owner),
                "masked-json": rate(at.proxy, JSON, at.analyst),
            },
            rounds=ROUNDS,
        )
    for name, rates in measured.items():
        yield Figure(name=name, value=statistics.median(rates), unit="MB/s")
    for name, base, bar in (
        ("filtered-csv", "passthrough-csv", 0.5),
        ("masked-csv", "passthrough-csv", 0.25),
        ("filtered-json", "passthrough-json", None),
        ("masked-json", "passthrough-json", 0.15),
    ):
        yield Figure(
            name=f"{name}-ratio", value=ratio(measured[name], measured[base]), unit="×", bar=bar
        )
