"""Every version of the policy that was ever in force, kept by its hash, beside the access log.

    access-policies/                 of the log access.db; only its owner may look into it
      3f9a…64 hexadecimal digits/    the policy version
        model.conf policy.csv …      the files, to the byte

A version is kept before it is put in force, so one that is here was in force unless the process died
between the two: when it was, and who wrote it, is in the access log (`policy-loaded`). What is read
back is held against the hash that it is kept under.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from proxy import durable
from proxy.audit import Asked, Reader
from proxy.errors import CounterfoilError
from proxy.snapshot import version_of

_VERSION: Final = re.compile(r"[0-9a-f]{64}\Z")
_MOST_LOADS: Final = 1_000_000
_PREFIX: Final = re.compile(r"[0-9a-f]{4,64}\Z")


class NoSuchVersion(CounterfoilError):
    """No kept version has that hash, or more than one begins with it."""


class Versions:
    """The kept versions of one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def beside(cls, log: Path) -> Versions:
        """Those of the access log in the file `log`."""
        return cls(log.with_name(f"{log.stem}-policies"))

    def keep(self, version: str, files: Mapping[str, bytes]) -> None:
        """Keep `files`, whose version it is, durably; raises OSError."""
        self._folder.mkdir(mode=durable.PRIVATE_FOLDER, parents=True, exist_ok=True)
        durable.write_folder(self._folder / version, files)

    def all(self) -> tuple[str, ...]:
        """The hashes of all that are kept, sorted."""
        try:
            return tuple(sorted(p.name for p in self._folder.iterdir() if _VERSION.match(p.name)))
        except FileNotFoundError:
            return ()

    def find(self, prefix: str) -> str:
        """The one version whose hash begins with `prefix`; raises NoSuchVersion."""
        if not _PREFIX.match(prefix):
            raise NoSuchVersion("a version is named by the first 4 to 64 digits of its hash")
        found = [version for version in self.all() if version.startswith(prefix)]
        match found:
            case [version]:
                return version
            case []:
                raise NoSuchVersion(f"no version of the policy that begins with {prefix} is kept")
            case _:
                raise NoSuchVersion(f"{len(found)} versions begin with {prefix}: give more digits")

    def files(self, version: str) -> Mapping[str, bytes]:
        """The policy files of the version that `version` names or begins, by name.

        Raises NoSuchVersion, and CounterfoilError where they are not what was kept.
        """
        version = self.find(version)
        try:
            files = {path.name: path.read_bytes() for path in (self._folder / version).iterdir()}
        except OSError as exc:
            raise CounterfoilError(
                f"version {version[:12]} of the policy cannot be read: {exc.strerror}"
            ) from exc
        if version_of(files) != version:
            raise CounterfoilError(f"version {version[:12]} of the policy is not what was kept")
        return files


@dataclass(frozen=True, kw_only=True, slots=True)
class Reign:
    """A time for which one version was in force."""

    version: str
    since: str
    """RFC 3339, UTC: when it was put on record, and right after in force."""
    until: str
    """When the next one was; '' for the last one of the log."""
    author: str
    """Who wrote it, where git knows and the directory has not forgotten; else ''."""
    commit: str


def reigns(reader: Reader) -> list[Reign]:
    """Every time that a version was in force, by the access log, oldest first.

    What a restart, or another key or credential, loaded again without a change is one time. While no
    server ran nothing was in force: the log's `opened` records tell when one was started.
    """
    found: list[Reign] = []
    until = ""
    for load in reader.query(Asked(outcome="policy-loaded"), limit=_MOST_LOADS):
        if found and found[-1].version == load.policy:
            found[-1] = replace(found[-1], since=load.started)
        else:
            author = load.principal.removeprefix("author:")
            found.append(
                Reign(
                    version=load.policy,
                    since=load.started,
                    until=until,
                    author=author,
                    commit=load.commit,
                )
            )
        until = load.started
    return found[::-1]
