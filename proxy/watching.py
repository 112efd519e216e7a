"""When files change: told at once by the system where it can, and noticed within a second where not.

The system's word (watchfiles) only says when to look. What counts is what a path leads to: through
links (a Kubernetes ConfigMap flips one, `..data`), on network file systems, in folders that are taken
away and put back, all of which that word may miss.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Final

import watchfiles

_LOOK_SECONDS: Final = 1.0
"""The longest time between two looks."""
_QUIET_SECONDS: Final = 0.05
_MOST_SECONDS: Final = 1.0
"""Changes are told when there was none for so long, or when the first is so old."""

Look = Mapping[Path, tuple[int, ...] | None]
"""What each path led to, at one time."""


async def look(paths: Iterable[Path]) -> Look:
    """What each of the paths leads to now."""
    names = tuple(paths)
    return await asyncio.to_thread(lambda: {path: _mark(path) for path in names})


async def changes(
    paths: Callable[[], Iterable[Path]], *, seen: Look, due: Callable[[], bool], told: bool = True
) -> AsyncIterator[None]:
    """Tell each time that what the `paths` lead to is not what was `seen`, and when `due` says so.

    `told` False: the system is not asked to tell of changes, for it tells of all in the folder. That is for
    files that lie beside others which change all the time; they are looked at each second.
    """
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it tells of each change by name
    while True:
        now = await _settled(paths, seen)
        if now != seen or due():
            seen = now
            yield
        folders = _folders(paths()) if told else frozenset()
        async with aclosing(_stirs(folders)) as stirs:
            async for _ in stirs:
                now = await _settled(paths, seen)
                if now != seen or due():
                    seen = now
                    yield
                if told and _folders(paths()) != folders:
                    break


async def _settled(paths: Callable[[], Iterable[Path]], seen: Look) -> Look:
    """What there is, once it stays as it is for a moment."""
    now, since = await look(paths()), time.monotonic()
    while now != seen and time.monotonic() - since < _MOST_SECONDS:
        await asyncio.sleep(_QUIET_SECONDS)
        before, now = now, await look(paths())
        if now == before:
            break
    return now


def _mark(path: Path) -> tuple[int, ...] | None:
    """What changes when a file does; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns


def _folders(paths: Iterable[Path]) -> frozenset[tuple[str, int]]:
    """The folders of the paths, and of what they lead to, each with its number on the disk."""
    found = set()
    for path in paths:
        for folder in (path.parent, Path(os.path.realpath(path)).parent):
            try:
                found.add((os.fspath(folder), folder.stat().st_ino))
            except OSError:
                continue
    return frozenset(found)


async def _stirs(folders: frozenset[tuple[str, int]]) -> AsyncGenerator[None, None]:
    """Something may have happened in one of the folders, or some time has gone by."""
    names = sorted(name for name, _ in folders)
    while not names:
        await asyncio.sleep(_LOOK_SECONDS)
        yield
    try:
        told = watchfiles.awatch(
            *names,
            watch_filter=None,
            debounce=100,
            step=20,
            rust_timeout=int(_LOOK_SECONDS * 1000),
            yield_on_timeout=True,
            recursive=False,
        )
        async with aclosing(told):
            async for _ in told:
                yield
    except (OSError, RuntimeError):  # too many watches, a folder that went
        await asyncio.sleep(_LOOK_SECONDS)
        yield
