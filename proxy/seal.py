"""Which state of a policy folder may be taken: as it was sealed, or as a commit has it.

`policies/.lock`, written by `counterfoil policy seal`, is the manifest; `sha256sum -c .lock` reads it:

    9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08  policy.csv

Where one is required, a folder that was copied by half is never taken: every file that is read must be
the one that was sealed, and none may be missing. The files that the server itself writes (`grants.csv`,
`lockdown.csv`) are not part of it: who changed them, and why, is in the access log.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

from proxy import durable
from proxy.documents import read_file
from proxy.errors import Fault, Faulty
from proxy.identity import Identities
from proxy.snapshot import FILES, read_folder
from proxy.worktree import Commit

LOCK: Final = ".lock"
MustBe = Literal["sealed", "committed"]
OWN: Final = ("grants.csv", "lockdown.csv")
"""What the server writes itself."""

_LINE: Final = re.compile(r"([0-9a-f]{64}) [ *](\S.*)\Z")
_MOST_BYTES: Final = 1 << 20
_SEAL_AGAIN: Final = "if it is what it should be, seal the folder: `counterfoil policy seal`"


def seal(folder: Path) -> tuple[str, ...]:
    """Write the manifest of the folder as it is, in one step; gives the names that it lists.

    Raises Faulty where the folder cannot be read or subjects.yaml is wrong, and OSError.
    """
    files = read_folder(folder)
    identities = Identities.load(files["subjects.yaml"], file="subjects.yaml", folder=folder)
    sealed = {**_ours(files), **_within(folder, identities.files)}
    lines = [f"{_digest(content)}  {name}\n" for name, content in sorted(sealed.items())]
    durable.write(folder / LOCK, "".join(lines).encode(), mode=0o644)
    return tuple(sorted(sealed))


def unlike(
    must_be: MustBe | None,
    folder: Path,
    files: Mapping[str, bytes],
    commit: Commit | None,
    *,
    keys: bool = False,
) -> list[Fault]:
    """Why the files may not be taken, whatever they say; `keys`: they are key files, else policy files."""
    match must_be:
        case "sealed":
            return unsealed(folder, files, keys=keys)
        case "committed":
            return uncommitted(folder, files, commit, keys=keys)
        case None:
            return []


def unsealed(folder: Path, files: Mapping[str, bytes], *, keys: bool = False) -> list[Fault]:
    """What of the policy files, or else of the `keys`, is not as the folder's manifest has it.

    Key files count as far as they are in the folder.
    """
    try:
        manifest = _manifest(folder)
    except Faulty as exc:
        return list(exc.faults)
    expected = {name: digest for name, digest in manifest.items() if (name in FILES) is not keys}
    return list(_differing(expected, _within(folder, files) if keys else _ours(files)))


def uncommitted(
    folder: Path, files: Mapping[str, bytes], commit: Commit | None, *, keys: bool = False
) -> list[Fault]:
    """What of the policy files, or else of the `keys`, is not as the folder's commit has it."""
    if commit is None:
        hint = "check a repository out here, and have `git` in PATH"
        return [Fault(file=str(folder), message="git knows no commit of this folder", hint=hint)]
    ours = _within(folder, files) if keys else _ours(files)
    expected = () if keys else set(FILES) & commit.blobs.keys() - set(OWN)
    return [
        _uncommitted(name)
        for name in sorted({*ours, *expected})
        if commit.differs(name, ours.get(name))
    ]


def _uncommitted(name: str) -> Fault:
    return Fault(
        file=name, message="is not as the commit has it", hint="commit it, or take the change back"
    )


def _manifest(folder: Path) -> Mapping[str, str]:
    """Name -> digest; raises Faulty."""
    try:
        text = read_file(folder / LOCK, most=_MOST_BYTES).decode()
    except OSError as exc:
        message = f"the manifest cannot be read: {exc.strerror}"
        raise Faulty(
            [Fault(file=LOCK, message=message, hint="make one: `counterfoil policy seal`")]
        ) from exc
    except UnicodeDecodeError:
        raise Faulty([Fault(file=LOCK, message="is not UTF-8", hint=_SEAL_AGAIN)]) from None
    found: dict[str, str] = {}
    faults = []
    for number, line in enumerate(text.splitlines(), 1):
        matched = _LINE.match(line)
        if matched is None or matched[2] in found:
            what = "is listed twice" if matched else "is no digest with a name"
            faults.append(Fault(file=LOCK, line=number, message=what, hint=_SEAL_AGAIN))
        else:
            found[matched[2]] = matched[1]
    if not text.endswith("\n"):
        faults.append(Fault(file=LOCK, message="is cut off, or empty", hint=_SEAL_AGAIN))
    if faults:
        raise Faulty(faults)
    return found


def _differing(expected: Mapping[str, str], files: Mapping[str, bytes]) -> Iterator[Fault]:
    for name in sorted({*expected, *files}):
        if name not in files:
            yield Fault(file=name, message="is sealed and missing", hint=_SEAL_AGAIN)
        elif name not in expected:
            yield Fault(file=name, message="is not sealed", hint=_SEAL_AGAIN)
        elif _digest(files[name]) != expected[name]:
            yield Fault(file=name, message="is not as it was sealed", hint=_SEAL_AGAIN)


def _ours(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if name not in OWN}


def _within(folder: Path, keys: Mapping[str, bytes]) -> dict[str, bytes]:
    """The key files below the folder, by their names from it."""
    within = {}
    for name, content in keys.items():
        relative = os.path.relpath(folder / name, folder)
        if not relative.startswith(".."):
            within[relative] = content
    return within


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
