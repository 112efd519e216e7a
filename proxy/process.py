"""What a process that serves sets up for itself before anything else: memory, core dumps, messages."""

from __future__ import annotations

import ctypes
import logging
import sys
from contextlib import suppress
from typing import NoReturn

import pyarrow as pa

from proxy import cores, messages
from proxy.errors import CounterfoilError
from proxy.settings import Logging

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""mallopt(3), from glibc's malloc.h."""


def prepare() -> None:
    """Once, at the start."""
    cores.forbid()
    _do_without_pandas()
    _keep_freed_memory()
    handler = logging.StreamHandler()
    handler.setFormatter(messages.Text())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for noisy in ("asyncio", "aiohttp", "casbin"):
        # Their messages echo requests and values; what matters of them is in the access log.
        logging.getLogger(noisy).setLevel(logging.CRITICAL)


def speak(settings: Logging, *, name: str = "") -> None:
    """Say what is said from now on as the settings have it; `name`: which of several processes it is."""
    root = logging.getLogger()
    root.setLevel(settings.level.upper())
    for handler in root.handlers:
        handler.setFormatter((messages.Json if settings.format == "json" else messages.Text)(name))


def failed(why: CounterfoilError) -> NoReturn:
    """End the process, and say why in the form of all that it says."""
    if any(isinstance(each.formatter, messages.Json) for each in logging.getLogger().handlers):
        logging.getLogger("counterfoil").critical("%s", why)
    else:
        sys.stderr.write(f"counterfoil: {why}\n")
    sys.exit(1)


class _NoPandas:
    """A finder of modules (importlib.abc.MetaPathFinder) that says of pandas that there is none."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name=name)


def _do_without_pandas() -> None:
    """Spend no memory on it: pyarrow imports it wherever it is installed, and nothing here needs it.

    36 MiB. It looks once, with the first array that it makes, so no module may make one while it is imported.
    """
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.array(())
    finally:
        sys.meta_path.remove(finder)


def _keep_freed_memory() -> None:
    """Have blocks of a report re-used rather than returned and fetched anew, page by page.

    A sixth of the processor's time for filtered CSV. What is kept is bounded by what is held at once.
    """
    with suppress(OSError, AttributeError):  # another C library than glibc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 8 << 20)
        mallopt(_M_TRIM_THRESHOLD, 32 << 20)
        mallopt(_M_ARENA_MAX, 1)  # what one thread freed, the next one takes
