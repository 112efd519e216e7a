"""Files that are there whole or not at all, and stay there when the power goes."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


def write(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Put `content` at `path`, in one step, in place of what is there; raises OSError.

    `mode` None: that of the file in its place, else 0600. A link is followed, and stays. What is no file, a
    device or a pipe, is not taken away.
    """
    path = Path(os.path.realpath(path))
    try:
        found = path.stat().st_mode
    except FileNotFoundError:
        found = stat.S_IFREG | PRIVATE_FILE
    if not stat.S_ISREG(found):
        number = errno.EISDIR if stat.S_ISDIR(found) else errno.EINVAL
        raise OSError(number, "not a file", str(path))
    if mode is None:
        mode = found & 0o777
    put(path, content, mode=mode)
    sync_folder(path.parent)


def put(path: Path, content: bytes, *, mode: int) -> None:
    """Put `content` at `path`, whole; its name is durable once the caller has synced the folder.

    Raises OSError.
    """
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        _fill(descriptor, content, mode)
        os.replace(scratch, path)  # noqa: PTH105 - a Path is made for nothing
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise


def write_new(path: Path, content: bytes, *, mode: int = PRIVATE_FILE) -> None:
    """Put `content` at `path`, in one step, where there is nothing, a link neither.

    Raises OSError: FileExistsError where there is something, which stays as it is.
    """
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        _fill(descriptor, content, mode)
        os.link(scratch, path)  # unlike a rename, a link never replaces what is there
    finally:
        Path(scratch).unlink()
    sync_folder(path.parent)


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make `folder` with these files, in one step, readable by its owner alone.

    Nothing happens where it is there already. Raises OSError.
    """
    if folder.is_dir():
        return
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        for name, content in files.items():
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            _fill(os.open(scratch / name, flags, PRIVATE_FILE), content, PRIVATE_FILE)
        sync_folder(scratch)
        scratch.rename(folder)
    except BaseException:
        for left in scratch.iterdir() if scratch.is_dir() else ():
            left.unlink()
        if scratch.is_dir():
            scratch.rmdir()
        if folder.is_dir():  # somebody else was as fast
            return
        raise
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` as durable as what they name; raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fill(descriptor: int, content: bytes, mode: int) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
