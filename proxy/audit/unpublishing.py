"""What was taken away from the access log goes from the published files, too."""

from __future__ import annotations

import sqlite3
from typing import Final

from proxy import durable
from proxy.audit import attached
from proxy.audit.registry import folder_of
from proxy.audit.store import Files, epoch_and_index
from proxy.audit.tiles import WIDTH, entries_path

_MARK: Final = ".unpublished"
"""Holds how much had been taken away when the files were last looked through."""


def unpublish(files: Files, connection: sqlite3.Connection) -> None:
    """Remove the files of all entries and attachments that are gone; hashes of entries stay.

    `connection` is one to the leaves, in autocommit. Raises OSError or sqlite3.Error.
    """
    (gone,) = connection.execute("SELECT gone FROM this").fetchone()
    folders = set()
    for (place,) in connection.execute("SELECT place FROM pruned ORDER BY place"):
        epoch, first = epoch_and_index(place)
        whole = folder_of(files, epoch) / entries_path(first // WIDTH)
        partial = whole.with_name(whole.name + ".p")
        # Whoever was killed while publishing it may have left it under another name.
        for each in (whole, *whole.parent.glob(f".{whole.name}.*"), *partial.glob("*")):
            if each.is_file():
                each.unlink(missing_ok=True)
                folders.add(each.parent)
    for folder in folders:
        durable.sync_folder(folder)
    attached.unpublish(files.tiles, connection)
    if files.tiles.is_dir():
        durable.write(files.tiles / _MARK, str(gone).encode(), mode=durable.PRIVATE_FILE)


def unpublish_anew(files: Files, connection: sqlite3.Connection) -> None:
    """The same, where anything was taken away since it was done for the last time."""
    (gone,) = connection.execute("SELECT gone FROM this").fetchone()
    try:
        done = (files.tiles / _MARK).read_bytes()
    except OSError:
        done = b"0"
    if done != str(gone).encode():
        unpublish(files, connection)
