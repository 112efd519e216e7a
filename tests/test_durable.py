"""Files written in one step: whole or not at all."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import durable


@given(before=st.one_of(st.none(), st.binary(max_size=50)), after=st.binary(max_size=50))
def test_what_is_written_is_what_is_read(tmp_path_factory, before, after):
    """A file holds what was written last, nothing else is left in its folder, and it is private."""
    folder = tmp_path_factory.mktemp("f")
    path = folder / "grants.csv"
    if before is not None:
        durable.write(path, before)
    durable.write(path, after)
    assert path.read_bytes() == after
    assert [p.name for p in folder.iterdir()] == ["grants.csv"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_keeps_its_mode_and_a_link_stays_one(tmp_path):
    """What others may do with a file does not change with its content, and a link still leads to it."""
    path, link = tmp_path / "real", tmp_path / "link"
    path.write_text("old")
    path.chmod(0o644)
    link.symlink_to(path)
    durable.write(link, b"new")
    assert link.is_symlink() and path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_write_that_fails_changes_nothing(tmp_path, monkeypatch):
    """Where the disk fails at any step, the old content stays and nothing is left beside it."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    for step in ("fsync", "fchmod"):

        def failing(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, step, failing)
            with pytest.raises(OSError, match="No space"):
                durable.write(path, b"new")
            with pytest.raises(OSError, match="No space"):
                durable.write_folder(tmp_path / "folder", {"a": b"1", "b": b"2"})
        assert path.read_bytes() == b"old"
        assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_folder_is_made_once(tmp_path):
    """A folder that is there is left as it is."""
    folder = tmp_path / "v"
    durable.write_folder(folder, {"a": b"1"})
    durable.write_folder(folder, {"a": b"2", "b": b"3"})
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {"a": b"1"}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "a").stat().st_mode & 0o777 == 0o600


def test_what_is_no_file_stays(tmp_path):
    """A pipe, a device or a folder in the place of a file is told, and not taken away."""
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link, tmp_path):
        with pytest.raises(OSError, match="not a file"):
            durable.write(path, b"new")
    assert pipe.is_fifo() and sorted(p.name for p in tmp_path.iterdir()) == ["link", "pipe"]
