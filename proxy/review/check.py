"""What is wrong with a folder of policies, and what is odd about it: faults and warnings.

A fault keeps the policy from being taken. A warning does not: the line means what it says, but
hardly what its writer thinks. Of the lines that the server itself writes nobody is warned: while a
lockdown lasts, every line is undone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from proxy.errors import Fault, Faulty
from proxy.review.lint import LINT
from proxy.review.specification import as_written, failures, malformed
from proxy.review.written import Written
from proxy.snapshot import Snapshot, snapshot_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Warned:
    """One oddity, with the slug of its kind in `LINT`."""

    kind: str
    fault: Fault


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """What a folder's files say: a snapshot, or faults; warnings where its tests alone are at fault too."""

    snapshot: Snapshot | None
    faults: tuple[Fault, ...] = ()
    warnings: tuple[Warned, ...] = ()


def check(files: Mapping[str, bytes], *, beside: Iterable[str] = ()) -> Checked:
    """Read the policy files' contents as the server would, without keys and credentials.

    `beside` are the names of other files in the folder that look like a policy's.
    """
    try:
        snapshot = snapshot_of(files)
    except Faulty as exc:
        return Checked(snapshot=None, faults=tuple(sorted({*exc.faults, *malformed(files)})))
    # The server takes no policy that its own tests.yaml contradicts: neither may a check.
    try:
        missed = failures(snapshot, files)
    except Faulty as exc:
        missed = list(exc.faults)
    try:
        written = Written(as_written(snapshot, files), files, beside)
    except Faulty:  # the server's own lines alone make it a policy
        written = Written(snapshot, files, beside)
    warnings = [
        Warned(kind=kind, fault=fault) for kind, row in LINT.items() for fault in row.look(written)
    ]
    return Checked(
        snapshot=None if missed else snapshot,
        faults=tuple(sorted(missed)),
        warnings=tuple(sorted(warnings, key=lambda each: (each.fault, each.kind))),
    )
