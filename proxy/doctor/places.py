"""Files and folders: who may change them, and whether what must last can last there."""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from shlex import quote
from typing import Final

from proxy.audit.store import Files, explain, journal
from proxy.doctor.finding import Finding, Patient, State
from proxy.doctor.named import exposed
from proxy.errors import CounterfoilError

_LITTLE: Final = 64 << 20
_SOME: Final = 1 << 30
"""Free bytes below which the access log is about to fail, or should be looked at."""
_PASSING: Final = ("tmpfs", "ramfs")
_REMOTE: Final = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs")
"""File systems whose locks and shared memory SQLite's write-ahead log cannot trust (sqlite.org/wal.html)."""


async def files(patient: Patient) -> Iterable[Finding]:
    """Who may read and change what decides and what is recorded, and whether a log can be there."""
    return list(_files(patient))


async def settings_file(file: Path) -> Iterable[Finding]:
    """The same of counterfoil.yaml alone."""
    return list(_changed_by_others(file))


def _files(patient: Patient) -> Iterator[Finding]:
    config, settings = patient.config, patient.config.settings
    policies = config.path(settings.policies)
    seen = [patient.file, policies]
    with suppress(OSError):  # that it may not be read is told of the folder itself
        seen += sorted(policies.iterdir())
    for path in seen:
        yield from _changed_by_others(path)
    yield from exposed(config, seen)
    log = Files.at(config.path(settings.log))
    for path in (log.leaves, log.index, log.names):
        yield from _read_by_others(path, "what it holds is not for others")
    yield from _folder(log.leaves.parent)
    spool = tempfile.gettempdir() if settings.spool is None else str(config.path(settings.spool))
    yield from _spool(Path(spool), settings.limits.spools_bytes)


def _changed_by_others(path: Path) -> Iterator[Finding]:
    """A warning where anybody may change what decides; a fault where it cannot be read."""
    try:
        mode = path.stat().st_mode
    except OSError as exc:
        yield _fault(path, f"cannot be looked at: {exc.strerror}", "let the proxy read it")
        return
    if not os.access(path, os.R_OK | (os.X_OK if stat.S_ISDIR(mode) else 0)):
        yield _fault(
            path, "may not be read by this user", "run as the proxy's user, or let it read"
        )
    elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return  # it is no file to whoever reads it, and a device's mode is the system's
    elif mode & stat.S_IWOTH and not (stat.S_ISDIR(mode) and mode & stat.S_ISVTX):
        yield Finding(
            check="files",
            what=str(path),
            state=State.FAIL,
            text="anybody on this machine may change what decides",
            fix="take that away",
            command=f"chmod o-w {quote(str(path))}",
        )


def _read_by_others(path: Path, why: str) -> Iterator[Finding]:
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # it is made at the start, or told of by `access log`
    if stat.S_ISREG(mode) and mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield Finding(
            check="files",
            what=str(path),
            state=State.WARN,
            text=f"is open to others: {why}",
            fix="make it the proxy's own",
            command=f"chmod 600 {quote(str(path))}",
        )


def _folder(folder: Path) -> Iterator[Finding]:
    """Whether an access log can be written there, synced, and grow."""
    scratch: Path | None = None
    try:
        # A name that no log has: what is there is not opened for writing.
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=".doctor-", suffix=".db")
        os.close(descriptor)
        scratch = Path(name)
        with closing(sqlite3.connect(scratch, isolation_level=None)) as database:
            journal(database, "FULL")
            database.execute("CREATE TABLE synced (number INTEGER)")
            database.execute("INSERT INTO synced VALUES (1)")
        free = os.statvfs(folder)
    except sqlite3.Error as exc:
        yield _fault(folder, explain(exc, folder), "put the log on a local disk that is not full")
        return
    except CounterfoilError as exc:
        yield _fault(folder, str(exc), "put the log on a local disk")
        return
    except OSError as exc:
        text = f"nothing can be written there: {exc.strerror}"
        yield _fault(
            folder, text, "give the folder to the proxy's user, and have it mounted writable"
        )
        return
    finally:
        if scratch is not None:
            for end in ("", "-wal", "-shm"):
                scratch.with_name(scratch.name + end).unlink(missing_ok=True)
    kind = _kind(folder)
    left = free.f_bavail * free.f_frsize
    if kind in _PASSING:
        text = f"is in memory ({kind}): the access log goes with the machine's next start"
        yield _fault(folder, text, "put the log on a disk")
    elif kind in _REMOTE:
        text = f"is on another machine ({kind}), where a write-ahead log may be damaged"
        yield _fault(
            folder, text, "put the log on a local disk, and `retain` its checkpoints elsewhere"
        )
    elif left < _SOME:
        yield Finding(
            check="files",
            what=str(folder),
            state=State.FAIL if left < _LITTLE else State.WARN,
            text=f"{left >> 20} MiB are free; without room for the log nothing is released",
            fix="make room; `counterfoil log prune` removes entries that need not be kept",
            command=f"df -h {quote(str(folder))}",
        )
    else:
        text = f"takes a log that lasts; {left >> 20} MiB are free"
        yield Finding(check="files", what=str(folder), state=State.OK, text=text)


def _spool(folder: Path, most: int) -> Iterator[Finding]:
    try:
        with tempfile.TemporaryFile(dir=folder):
            free = os.statvfs(folder)
    except OSError as exc:
        text = f"nothing can be put aside there: {exc.strerror}"
        yield _fault(folder, text, "let the proxy write there, or name another `spool`")
        return
    left = free.f_bavail * free.f_frsize
    kind = _kind(folder)
    if kind in _PASSING:
        text = f"is in memory ({kind}), and `limits.spools_bytes` is {most >> 20} MiB"
        fix = "name a folder on a disk as `spool`, or lower `limits.spools_bytes`"
    elif left < most:
        text = f"{left >> 20} MiB are free, and `limits.spools_bytes` is {most >> 20} MiB"
        fix = "make room, name another `spool`, or lower `limits.spools_bytes`"
    else:
        text = f"takes what is put aside; {left >> 20} MiB are free"
        yield Finding(check="files", what=str(folder), state=State.OK, text=text)
        return
    yield Finding(check="files", what=str(folder), state=State.WARN, text=text, fix=fix)


def _kind(folder: Path) -> str:
    """The kind of the file system that a folder is on (proc_pid_mountinfo(5)); '' where that is not told."""
    device = os.stat(folder).st_dev  # noqa: PTH116 - the number alone
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    for line in lines.splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2:3] == [number]:
            return after.split()[0]
    return ""


def _fault(path: Path, text: str, fix: str) -> Finding:
    return Finding(check="files", what=str(path), state=State.FAIL, text=text, fix=fix)
