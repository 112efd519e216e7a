"""What is found in an access log: in its own file, and in those that are published of it.

That one of them is damaged is a finding, too.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from proxy.audit.checkpoint import VerifierKey
from proxy.audit.findings import Grade, Verified
from proxy.audit.sources import Bundles, Leaves
from proxy.audit.store import Files, damaged, explain
from proxy.audit.verify import Verifier, Watch
from proxy.errors import LogUnavailable

_LOOKS: Final = 3
"""At a log that is pruned meanwhile."""
_STILL: Final = 2.0
"""Seconds without a change after which pruning has ended …"""
_LONGEST: Final = 600.0
"""… or is waited for no more."""
Begun = Callable[[int], Watch]
"""Told of how many entries there are to look at, it gives who is told of those that were."""


def of_log(
    files: Files,
    key: VerifierKey | None,
    retained: Sequence[bytes],
    *,
    processes: int = 1,
    begun: Begun = lambda _: lambda _: None,
) -> Verified:
    """Look at the log at `files`, and at what is published of it.

    Without the registry's verifier `key` the log's own word is taken. Raises LogUnavailable: there is no
    log, or it cannot be read.
    """

    def look() -> Verified:
        with closing(Leaves(files)) as leaves:
            if leaves.altered:
                return invalid(files.leaves, "its tables are not those of an access log")
            try:
                known = key or VerifierKey.parse(leaves.key())
            except ValueError as error:
                return invalid(files.leaves, f"its own verifier key is none: {error}")
            looks = 1
            while True:
                gone = leaves.gone
                found = _verified(leaves, files.tiles, known, retained, processes, begun)
                if found.grade < Grade.INVALID or leaves.gone == gone or looks == _LOOKS:
                    return found
                _await_the_end_of_pruning(leaves)  # what went meanwhile was looked for in vain
                looks += 1

    return looked_at(files.leaves, look)


def _await_the_end_of_pruning(leaves: Leaves) -> None:
    until, gone = time.monotonic() + _LONGEST, -1
    while gone != leaves.gone and time.monotonic() < until:
        gone = leaves.gone
        time.sleep(_STILL)


def of_tiles(
    tiles: Path, key: VerifierKey, retained: Sequence[bytes], *, processes: int, begun: Begun
) -> Verified:
    """Look at published files alone."""
    return _verified(Bundles(tiles), tiles, key, retained, processes, begun)


def _verified(
    source: Leaves | Bundles,
    tiles: Path,
    key: VerifierKey,
    retained: Sequence[bytes],
    processes: int,
    begun: Begun,
) -> Verified:
    return Verifier(
        source,
        tiles,
        key=key,
        retained=retained,
        watch=begun(sum(source.size(epoch, 0) for epoch in source.epochs())),
        now=datetime.now(UTC),
        processes=processes,
    ).run()


def looked_at(path: Path, look: Callable[[], Verified]) -> Verified:
    """What is found in a database; that it is damaged is a finding. Raises LogUnavailable."""
    try:
        return look()
    except sqlite3.Error as error:
        if not damaged(error):
            raise LogUnavailable(explain(error, path)) from None
        return invalid(path, explain(error, path))


def invalid(path: Path, text: str) -> Verified:
    """That a file is not what it should be."""
    found = Verified()
    found.add(Grade.INVALID, path.name, text)
    return found
