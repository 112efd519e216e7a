"""A lockdown lasts until a command lifts it, whatever becomes of its file.

No manifest and no commit covers `lockdown.csv`, for the server writes it. So its lines that are in force
are held against every folder that is to follow: one that has lost a line is refused, like a file that is
cut off. Lines may move to another file: there they are the author's, who may also end them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from pathlib import Path
from typing import Final

from proxy.audit import Asked, Reader
from proxy.errors import CounterfoilError, Fault
from proxy.policy import granting
from proxy.policy.granting import LOCKDOWN_FILE
from proxy.policy.source import RULE_FILES
from proxy.policy.syntax import read
from proxy.snapshot import version_of
from proxy.versions import Versions

_CHANGES: Final = ("change", "not-changed")
"""The outcomes of changes that were put on record; `not-changed` where what followed failed."""
_MOST_CHANGES: Final = 1_000_000
_SHOW: Final = f"`counterfoil policy show current --file {LOCKDOWN_FILE}`"


def lost(locked: str, files: Mapping[str, bytes], *, lifted: AbstractSet[str]) -> Iterator[Fault]:
    """A fault for each block of `locked`, the lockdown.csv in force, of which `files` lack a line.

    `lifted` are the ids of blocks that a command took out.
    """
    found = files.get(LOCKDOWN_FILE, b"").decode(errors="replace")
    if locked == found:
        return
    here = Counter(rule for name in RULE_FILES for rule in _rules(name, files.get(name, b"")))
    whole = granting.parts(found)
    # Two lockdowns may have the same lines; those of one that is there do not stand for the other.
    for part in sorted(granting.parts(locked), key=lambda part: part not in whole):
        rules = Counter(_rules(LOCKDOWN_FILE, part.encode()))
        gone = rules - here
        here -= rules
        block = next(granting.blocks(part), None)
        if gone and block is None:
            message = f"is in force, and gone from the file: `{', '.join(next(iter(gone)))}`"
            hint = f"put it back, from {_SHOW}; to end it, move it to policy.csv first"
            yield Fault(file=LOCKDOWN_FILE, message=message, hint=hint)
        elif gone and block is not None and block.id not in lifted:
            message = f"the lockdown of `{block.report}` is in force, and gone from the file"
            hint = (
                f"lift it: `counterfoil lockdown --lift {block.id}`; or put it back, from {_SHOW}"
            )
            yield Fault(file=LOCKDOWN_FILE, message=message, hint=hint)


def left(log: Path, versions: Versions, files: Mapping[str, bytes]) -> tuple[str, set[str]]:
    """The lockdown.csv of the version that was last in force, by the access log, and what was lifted since.

    `files` are those that are to follow. Raises CounterfoilError where it cannot be told.
    """
    with Reader(log) as reader:
        (last,) = reader.query(Asked(outcome="policy-loaded"), limit=1) or (None,)
        if last is None or last.policy == version_of(files):
            return "", set()
        since = datetime.fromisoformat(last.started)
        changes = [
            change
            for outcome in _CHANGES
            for change in reader.query(Asked(outcome=outcome, since=since), limit=_MOST_CHANGES)
        ]
    try:
        before = versions.files(last.policy)
    except CounterfoilError as exc:
        raise CounterfoilError(f"a lockdown may be in force, which cannot be told: {exc}") from exc
    ended = {change.parameters.get("ends", "") for change in changes}
    return before.get(LOCKDOWN_FILE, b"").decode(), ended


def lifted(log: Path, ids: AbstractSet[str]) -> set[str]:
    """Those of the lockdowns that a command ended, whichever process was asked; by the access log."""
    with Reader(log) as reader:
        return {
            id_
            for id_ in ids
            for outcome in _CHANGES
            if reader.query(Asked(outcome=outcome, parameters=(("ends", (id_,)),)), limit=1)
        }


def _rules(name: str, content: bytes) -> list[tuple[str, ...]]:
    return [record.cells for record in read(name, content)[0]]
