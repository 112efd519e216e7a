"""Everything that decides, as of one policy version, from one reading of the folder of policies.

PROMISE 3 (all or nothing): a snapshot is made whole or not at all, and never changed.
"""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

from proxy.catalogue import Catalogue
from proxy.errors import Fault, Faulty
from proxy.filenames import looks_like_one, meant
from proxy.identity import Identities
from proxy.policy import granting
from proxy.policy.granting import GRANTS_FILE
from proxy.policy.index import Policy
from proxy.policy.limits import LIMITS_FILE, Limits, read_limits
from proxy.policy.people import PEOPLE_FILE, read_people
from proxy.policy.source import load as load_policy
from proxy.policy.source import written

_NEEDED: Final = ("model.conf", "policy.csv", "reports.yaml", "subjects.yaml")
TESTS_FILE: Final = "tests.yaml"
_OPTIONAL: Final = ("grants.csv", "lockdown.csv", "people.csv", LIMITS_FILE, TESTS_FILE)
FILES: Final = (*_NEEDED, *_OPTIONAL)
"""The names that are looked for in the folder."""
_SETTINGS: Final = "counterfoil.yaml"
"""What may lie beside them, and is not the policy's."""
_MOST_BYTES: Final = 64 << 20
_READINGS: Final = 5
"""How often a folder is read that changes meanwhile."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """Everything that decides, as of one policy version; a request takes one and keeps it."""

    version: str
    catalogue: Catalogue
    identities: Identities
    policy: Policy
    limits: Limits


def read_folder(folder: Path) -> dict[str, bytes]:
    """The policy files of one state of the folder, by name.

    Raises Faulty with all that is missing, unreadable or unexpected; and where the folder, or what its
    links lead to, changes each time that it is read.
    """
    for _ in range(_READINGS):
        before = _state(folder)
        try:
            files = _read_folder(folder)
        except Faulty:
            if _state(folder) == before:
                raise
        else:
            if _state(folder) == before:
                return files
    raise Faulty([Fault(file=str(folder), message="changes again and again while it is read")])


def _state(folder: Path) -> tuple[object, ...]:
    """What tells one state of the folder from another: where each name leads, and since when."""
    found: list[object] = []
    for name in FILES:
        try:
            at = (folder / name).stat()
        except OSError as exc:
            found.append(exc.errno)
        else:
            found.append((at.st_dev, at.st_ino, at.st_size, at.st_mtime_ns))
    return (*found, *misnamed(folder))


def unread(folder: Path) -> tuple[str, ...]:
    """The names in the folder that look like a policy file's, and lead to none that is read."""
    try:
        paths = sorted(folder.iterdir())
    except OSError:  # nobody may list it; what is read is asked for by name
        return ()
    return tuple(
        os.fsencode(path.name).decode(errors="replace")
        for path in paths
        if path.name not in (*FILES, _SETTINGS) and looks_like_one(path.name) and not _is_read(path)
    )


def misnamed(folder: Path) -> Mapping[str, str]:
    """Of those the ones that are nearly a policy file's, each with the name that is meant."""
    return {name: right for name in unread(folder) if (right := meant(name, FILES))}


def _is_read(path: Path) -> bool:
    """Whether it is a policy file by another name: by a link, or where names have no case."""
    try:
        return path.is_dir() or any(
            other.exists() and path.samefile(other) for other in map(path.with_name, FILES)
        )
    except OSError:
        return False


def _read_folder(folder: Path) -> dict[str, bytes]:
    if not _is_folder(folder):
        why = "not a folder" if folder.exists() else "no such folder"
        hint = "name the folder that policy.csv is in"
        raise Faulty([Fault(file=str(folder), message=f"cannot be read: {why}", hint=hint)])
    files: dict[str, bytes] = {}
    faults: list[Fault] = []
    for name in FILES:
        path = folder / name
        try:
            if name not in _NEEDED and not _is_there(path):
                continue
            if not path.is_file():
                raise OSError(None, "not a file" if path.exists() else "no such file")
            if path.stat().st_size > _MOST_BYTES:
                raise OSError(None, f"larger than {_MOST_BYTES} bytes")
            files[name] = path.read_bytes()
        except OSError as exc:
            hint = "put a file in its place that the proxy may read"
            if name in _NEEDED and exc.errno is None and not path.exists():
                hint = "each folder of policies has one"
            faults.append(Fault(file=name, message=f"cannot be read: {exc.strerror}", hint=hint))
    faults += [
        Fault(
            file=name,
            message=f"`{name}` is not read, and has nearly the name of a file that is",
            hint=f"did you mean `{right}`? rename it, or take it out of the folder",
        )
        for name, right in misnamed(folder).items()
    ]
    if faults:
        raise Faulty(faults)
    return files


def _is_folder(path: Path) -> bool:
    """Whether it is a folder, or nobody may look: then each of its files says so."""
    try:
        return path.is_dir()
    except OSError:
        return True


def _is_there(path: Path) -> bool:
    """Whether there is something of that name, a broken link too; raises OSError where nobody may look."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _all_read(files: Mapping[str, bytes]) -> None:
    """Raise Faulty unless a file is there for each name that is needed, and none that is not read."""
    faults = [
        Fault(file=name, message="is missing", hint="each folder of policies has one")
        for name in _NEEDED
        if name not in files
    ]
    known = (*_NEEDED, *_OPTIONAL)
    faults += [
        Fault(file=name, message="is not a policy file", hint="take it out")
        for name in files
        if name not in known
    ]
    if faults:
        raise Faulty(faults)


def version_of(files: Mapping[str, bytes]) -> str:
    """The policy version: SHA-256 (hex) over the names and contents of all policy files."""
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        for part in (name.encode(), content):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
    return digest.hexdigest()


def load_snapshot(
    folder: Path, environment: Mapping[str, str], previous: Snapshot | None = None
) -> Snapshot:
    """Everything that decides, from one reading of the folder; raises Faulty with all faults.

    `previous` hands on the keys that were fetched from identity providers.
    """
    return snapshot_of(
        read_folder(folder), folder=folder, environment=environment, previous=previous
    )


def snapshot_of(
    files: Mapping[str, bytes],
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
    previous: Snapshot | None = None,
    commands: frozenset[str] = frozenset(),
    closed: frozenset[Path] = frozenset(),
) -> Snapshot:
    """Everything that decides, from the policy files' contents; raises Faulty with all faults.

    Without `folder`, keys and credentials that the files refer to are not looked for: the snapshot
    decides as it would, which is all that a review needs, but knows no token and opens no store.
    """
    with _uncollected():
        return _snapshot_of(files, folder, environment, previous, commands, closed)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Make objects that stay, without garbage collections that look through them again and again.

    Nor may the first collection afterwards, which would stop every request meanwhile: so they are put
    out of its sight. What is frozen is still freed with its last reference: a policy has no circles.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _snapshot_of(
    files: Mapping[str, bytes],
    folder: Path | None,
    environment: Mapping[str, str],
    previous: Snapshot | None,
    commands: frozenset[str],
    closed: frozenset[Path],
) -> Snapshot:
    _all_read(files)
    version = version_of(files)
    faults: list[Fault] = []
    catalogue = identities = None
    try:
        identities = Identities.load(
            files["subjects.yaml"],
            file="subjects.yaml",
            folder=folder,
            environment=environment,
            previous=previous.identities if previous else None,
            closed=closed,
        )
    except Faulty as exc:
        faults.extend(exc.faults)
    try:
        catalogue = Catalogue.load(
            files["reports.yaml"],
            file="reports.yaml",
            environment=environment,
            folder=folder,
            audiences=identities.audiences if identities is not None else None,
            commands=commands,
            closed=closed,
        )
    except Faulty as exc:
        faults.extend(exc.faults)
    try:
        if identities is not None:
            people = read_people(files.get(PEOPLE_FILE), identities.realms)
            identities = identities.knowing(people)
    except Faulty as exc:
        faults.extend(exc.faults)
    if catalogue is None or identities is None:
        raise Faulty([*faults, *written(files)])
    policy = previous.policy if previous is not None and previous.version == version else None
    try:
        # The same version: only keys or credentials are others.
        policy = policy or _policy(files, catalogue, identities, version)
    except Faulty as exc:
        faults.extend(exc.faults)
    if policy is None or faults:
        raise Faulty(faults)
    return Snapshot(
        version=version,
        catalogue=catalogue,
        identities=identities,
        policy=policy,
        limits=read_limits(
            files, policy=policy, reports=catalogue.reports, classes=catalogue.classes
        ),
    )


def with_rules(previous: Snapshot, files: Mapping[str, bytes]) -> Snapshot:
    """A snapshot of `files`, of which no more than policy lines are others; raises Faulty."""
    version = version_of(files)
    with _uncollected():
        policy = _policy(files, previous.catalogue, previous.identities, version)
    return dataclasses.replace(previous, version=version, policy=policy)


def _policy(
    files: Mapping[str, bytes], catalogue: Catalogue, identities: Identities, version: str
) -> Policy:
    """The policy that the files write; raises Faulty.

    What was granted until a time that is over is no reason to refuse a catalogue that has gone on.
    """

    def load(content: Mapping[str, bytes]) -> Policy:
        return load_policy(
            content,
            reports=catalogue.reports,
            classes=catalogue.classes,
            purposes=catalogue.purposes,
            attributes=identities.attributes,
            version=version,
        )

    try:
        return load(files)
    except Faulty as exc:
        if not any(fault.file == GRANTS_FILE for fault in exc.faults):
            raise
        faulty = exc
    grants = files[GRANTS_FILE].decode(errors="replace")
    standing = granting.without_ended(grants, now=datetime.now(UTC))
    if standing != grants:
        try:
            return load({**files, GRANTS_FILE: standing.encode()})
        except Faulty as exc:
            faulty = exc
    raise Faulty([_with_way_out(fault, standing) for fault in faulty.faults])


def _with_way_out(fault: Fault, grants: str) -> Fault:
    """A fault of a grant that stands also says how the grant is ended."""
    block = granting.block_at(grants, fault.line) if fault.file == GRANTS_FILE else None
    if block is None:
        return fault
    hint = f"{fault.hint}; or end the grant: `counterfoil revoke {block.id}`".removeprefix("; or ")
    return dataclasses.replace(fault, hint=hint)
