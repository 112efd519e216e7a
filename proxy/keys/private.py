"""Reads files that hold keys: none that others may touch, or put another one in the place of."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from proxy.errors import KeyringError

MADE_ONCE: Final = "`counterfoil keys init` makes it, once"
_MOST_BYTES: Final = 1 << 20


def read_private(path: Path, what: str, *, hint: str = "", group: bool = False) -> bytes:
    """The bytes of a regular file that nobody but its owner may touch; `hint`: what if it is missing.

    `group`: its group may read it, as a file seems to be that one more user may read (acl(5)).
    Checked on the open file, so that the file which is checked is the one that is read. Raises
    KeyringError, which names the file and never what it holds.
    """
    try:
        # Non-blocking: a FIFO in the file's place must not hang the start.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        hint = f" ({hint})" if hint and isinstance(error, FileNotFoundError) else ""
        raise KeyringError(f"the {what} {path} cannot be read: {error.strerror}{hint}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KeyringError(f"the {what} {path} is not a regular file")
        allowed = stat.S_IRGRP if group else 0
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO) & ~allowed:
            raise KeyringError(f"the {what} {path} is open to others: set its mode to 0600")
        _check_folder(path, what)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise KeyringError(f"the {what} {path} cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(content) > _MOST_BYTES:
        raise KeyringError(f"the {what} {path} is too large")
    return content


def _check_folder(path: Path, what: str) -> None:
    """Raise KeyringError where everybody may put another file in this one's place."""
    for folder in {path.parent, Path(os.path.realpath(path)).parent}:
        mode = folder.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise KeyringError(
                f"everybody may write to the folder {folder}, and put another {what} there:"
                " take that away (chmod o-w)"
            )
