"""What git knows of a policy folder: whose commit the files are, to the byte.

Files are held against the commit's objects by content, as they were read: what git's index, its
filters or the clock of a file system say does not count. Nothing that the repository configures is
run, nothing is fetched, and nobody waits longer than `SECONDS`.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.errors import CounterfoilError

SECONDS: Final = 5.0
_MOST: Final = 16 << 20
_HASHES: Final = {40: "sha1", 64: "sha256"}
"""Digits of an object's name -> how it is made."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Commit:
    """The commit that a folder of policies is checked out at."""

    id: str
    author: str
    """Who wrote the last commit that changed something in the folder: `Ada Lovelace <ada@…>`."""
    blobs: Mapping[str, str]
    """The names of the folder's files, from it -> the names of their contents."""

    def differs(self, name: str, content: bytes | None) -> bool:
        """Whether a file of the folder is another one, or there (None: not there) unlike here."""
        blob = self.blobs.get(name)
        if blob is None or content is None:
            return not (blob is None and content is None)
        digest = hashlib.new(_HASHES.get(len(blob), "sha1"), usedforsecurity=False)
        digest.update(b"blob %d\0" % len(content))
        digest.update(content)
        return digest.hexdigest() != blob


def head_of(folder: Path) -> Commit | None:
    """The commit at which `folder` is checked out; None where git knows of none."""
    try:
        id_ = _git(folder, "rev-parse", "--verify", "HEAD^{commit}").strip()
        tree = _git(folder, "ls-tree", "-r", "-z", id_, "./")
        author = _git(
            folder, "log", "-1", "--no-show-signature", "--format=%an <%ae>", id_, "--", "."
        )
    except (OSError, subprocess.SubprocessError):
        return None
    blobs = {}
    for entry in tree.rstrip("\0").split("\0"):
        kind, _, name = entry.partition("\t")
        words = kind.split(" ")
        if len(words) == 3 and words[1] == "blob":
            blobs[name] = words[2]
    return Commit(id=id_, author=_one_line(author), blobs=blobs)


def marks_of(folder: Path) -> tuple[Path, ...]:
    """The files that change when the work tree's commit does; none where git knows no folder."""
    try:
        place = Path(_git(folder, "rev-parse", "--absolute-git-dir").strip())
    except (OSError, subprocess.SubprocessError):
        return ()
    return (place / "HEAD", place / "index", place / "logs" / "HEAD")


def files_at(folder: Path, revision: str, names: Iterable[str]) -> dict[str, bytes]:
    """Those of the named files that the folder had at a revision; raises CounterfoilError."""
    inside = folder.is_dir()
    at, place = (folder, "./") if inside else (Path(), f"./{folder.as_posix().strip('/')}/")
    try:
        id_ = _git(
            at, "rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}"
        ).strip()
        listed = _git(at, "ls-tree", "--name-only", "-z", id_, place).split("\0")
        present = {path.rpartition("/")[2] for path in listed}
        found = {
            name: _git_bytes(at, "cat-file", "blob", f"{id_}:{place}{name}")
            for name in names
            if name in present
        }
    except (OSError, subprocess.SubprocessError) as exc:
        message = f"`{revision}` is no folder here, and no revision that git knows of"
        raise CounterfoilError(message) from exc
    if not found:
        raise CounterfoilError(f"`{folder}` held no policy files at `{revision}`")
    return found


def _git(folder: Path, *words: str) -> str:
    return _git_bytes(folder, *words).decode("utf-8", "replace")


def _git_bytes(folder: Path, *words: str) -> bytes:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(  # noqa: S603 - fixed words, and a commit's name from git itself
        ["git", "-C", os.fspath(folder), "-c", "core.fsmonitor=false", *words],  # noqa: S607 - as PATH has it
        env=kept
        | {
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "LC_ALL": "C.UTF-8",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=SECONDS,
        check=True,
    )
    if len(done.stdout) > _MOST:
        raise subprocess.SubprocessError
    return done.stdout


def _one_line(text: str) -> str:
    return "".join(c for c in text if c.isprintable()).strip()[:200]
