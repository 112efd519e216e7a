"""`python -m benchmarks [NAME …]`: one line a figure, exit 1 where one falls short."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping

from benchmarks import (
    access_log,
    attack,
    decisions,
    evidence,
    leak,
    memory,
    parquet,
    query,
    refusals,
    reload,
    replay,
    rivals,
    small,
    throughput,
    treatments,
    verify,
    xlsx,
)
from benchmarks.figures import Figure

BENCHMARKS: Mapping[str, Callable[[], Iterable[Figure]]] = {
    "throughput": throughput.run,
    "small": small.run,
    "decisions": decisions.run,
    "treatments": treatments.run,
    "memory": memory.run,
    "leak": leak.run,
    "attack": attack.run,
    "parquet": parquet.run,
    "access-log": access_log.run,
    "query": query.run,
    "verify": verify.run,
    "evidence": evidence.run,
    "replay": replay.run,
    "reload": reload.run,
    "refusals": refusals.run,
    "xlsx": xlsx.run,
    "rivals": rivals.run,
}


def main() -> None:
    """Run what is named, or everything."""
    names = sys.argv[1:] or list(BENCHMARKS)
    if unknown := set(names) - set(BENCHMARKS):
        sys.exit(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    short = False
    for name in names:
        for figure in BENCHMARKS[name]():
            print(figure, flush=True)
            short = short or not figure.ok
    sys.exit(1 if short else 0)


if __name__ == "__main__":
    main()
