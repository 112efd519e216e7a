"""What `counterfoil doctor` looks at: all that the proxy needs, read and asked by the proxy's own code.

Each check runs in a thread of its own, beside the others and for a bounded time, so that neither a disk
nor a peer that hangs keeps the rest from being told. Nothing is changed but for a scratch file in the
log's folder and one in the spool's, which are removed.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from proxy import config, cores
from proxy.doctor import afar, certificates, history, machine, places, settings, shared, stores
from proxy.doctor.finding import Check, Finding, Patient, State
from proxy.errors import CounterfoilError, Faulty, where

__all__ = ["CHECKS", "SECONDS", "Finding", "State", "examine", "hanging"]

CHECKS: Final[Mapping[str, Check]] = {
    "configuration": settings.configuration,
    "policies": settings.policies,
    "keyring": settings.keyring,
    "certificates": certificates.certificates,
    "files": places.files,
    "access log": history.access_log,
    "shared": shared.shared,
    "retain": afar.retained,
    "receivers": afar.receivers,
    "identity providers": afar.identity_providers,
    "stores": stores.stores,
    "clocks": machine.clock,
    "open files": machine.open_files,
    "memory": machine.memory,
    "core dumps": machine.core_dumps,
}
"""By name, in the order in which they are told."""
Looking = Callable[[], Coroutine[Any, Any, Iterable[Finding]]]
_WITHOUT_SETTINGS: Final[Mapping[str, Callable[[Path], Coroutine[Any, Any, Iterable[Finding]]]]] = {
    "files": places.settings_file,
    "clocks": machine.clock,
    "core dumps": machine.core_dumps,
}
"""What is looked at even where counterfoil.yaml, which each is given, is at fault."""
SECONDS: Final = 60.0
"""How long all of them may take together, and before them the reading of the files."""

_LOGGER: Final = logging.getLogger("counterfoil")
T = TypeVar("T")


class _Thread(threading.Thread):
    """Runs a function; one that hangs is left behind, and keeps nobody waiting."""

    def __init__(self, work: Callable[[], T]) -> None:
        super().__init__(daemon=True)
        self._work: Callable[[], object] = work
        self.result: object = None
        self.failure: Exception | None = None

    def run(self) -> None:
        """Keep what it gives, or why there is nothing."""
        try:
            self.result = self._work()
        except Exception as exc:  # noqa: BLE001 - told as a finding
            self.failure = exc


def examine(
    file: Path, environment: Mapping[str, str], *, seconds: float = SECONDS
) -> list[Finding]:
    """All that is found, in the order of CHECKS; never raises. `file` is counterfoil.yaml."""
    cores.forbid()  # keys are read
    if not _LOGGER.hasHandlers():
        _LOGGER.addHandler(logging.NullHandler())  # what parts of the proxy log is told as findings
    made: list[Patient] = []

    def read() -> None:
        found = config.load(file, environment)
        catalogue, identities = settings.declared(found)
        made.append(Patient(file=file, config=found, catalogue=catalogue, identities=identities))

    reading = _Thread(read)
    reading.start()
    reading.join(seconds)
    if made:
        (patient,) = made
        found = _looked_at(
            {name: partial(check, patient) for name, check in CHECKS.items()}, seconds
        )
    else:
        found = [*_unread(file, reading), *_not_looked_at()]
        alone = {name: partial(check, file) for name, check in _WITHOUT_SETTINGS.items()}
        found += _looked_at(alone, seconds)
    return sorted(found, key=lambda each: [*CHECKS].index(each.check))


def _looked_at(checks: Mapping[str, Looking], seconds: float) -> list[Finding]:
    """What they find, each in a thread of its own, within so many seconds together."""

    def run(look: Looking) -> Callable[[], Iterable[Finding]]:
        return lambda: list(asyncio.run(look()))

    threads = {name: _Thread(run(look)) for name, look in checks.items()}
    for thread in threads.values():
        thread.start()
    ends = time.monotonic() + seconds
    found: list[Finding] = []
    for name, thread in threads.items():
        thread.join(max(0.0, ends - time.monotonic()))
        found += _told(name, thread, seconds)
    return found


def hanging() -> bool:
    """Whether a check that was begun has not come to its end."""
    return any(isinstance(each, _Thread) for each in threading.enumerate())


def _told(name: str, thread: _Thread, seconds: float) -> Iterable[Finding]:
    match thread.failure:
        case None if isinstance(thread.result, list):
            return thread.result
        case None:
            text = f"could not be looked at within {seconds:g} s"
        case CounterfoilError() as exc:
            text = str(exc)
        case exc:
            text = f"could not be looked at: {where(exc)}"
    fix = "see what hangs: a disk, a name server, a peer" if thread.failure is None else ""
    return [Finding(check=name, what=name, state=State.FAIL, text=text, fix=fix)]


def _unread(file: Path, reading: _Thread) -> Iterable[Finding]:
    """Why there are no settings: every fault."""
    if isinstance(reading.failure, Faulty):
        return [Finding.of("configuration", fault) for fault in reading.failure.faults]
    return [
        Finding(
            check="configuration",
            what=str(file),
            state=State.FAIL,
            text="cannot be read" if reading.failure else "could not be read in time",
            fix="see `counterfoil doctor --help`",
        )
    ]


def _not_looked_at() -> Iterable[Finding]:
    """What depends on the settings; of the files, that is all but the settings' own."""
    return [
        Finding(
            check=name,
            what=name,
            state=State.WARN,
            text="not looked at: the settings are at fault",
            fix="see `configuration`",
        )
        for name in CHECKS
        if name == "files" or name not in ("configuration", *_WITHOUT_SETTINGS)
    ]
