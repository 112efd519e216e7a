"""Names of files that look like those of a policy and are none: which file is meant.

Slips that nobody makes on purpose, and no more: `Lockdown.csv`, `lockdowns.csv`, `lock-down.csv`,
`tests.yml`, `polciy.csv`. Whatever a careful author may keep beside is none: `policy-2025.csv`,
`policy.old.csv`, `policyb.csv`, `texts.yaml`. Files that start with a dot and editors' backups
(`policy.csv~`, `#policy.csv#`, `.policy.csv.swp`) are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from typing import Final

_KINDS: Final = {".csv": ".csv", ".yaml": ".yaml", ".yml": ".yaml", ".conf": ".conf"}
"""The ends of policy files' names, and of what people call so."""
_BETWEEN: Final = str.maketrans("", "", "-_ ")
_LONG: Final = 8
"""Letters of a name from which on one other letter makes no other word."""


def looks_like_one(name: str) -> bool:
    """Whether a file of this name would be taken for one of the policy's."""
    return not name.startswith((".", "#")) and PurePath(name).suffix.lower() in _KINDS


def meant(name: str, known: Iterable[str]) -> str:
    """Which of the `known` names a name that is none of them is written for; '' where for none."""
    path = PurePath(name)
    kind, stem = _KINDS.get(path.suffix.lower()), _plain(path.stem)
    for each in known:
        right = PurePath(each)
        if right.suffix == kind and _is_slip(stem, _plain(right.stem)):
            return each
    return ""


def _plain(stem: str) -> str:
    """Without case, with nothing between its words, of one rather than of many."""
    text = stem.lower().translate(_BETWEEN)
    return f"{text[:-3]}y" if text.endswith("ies") else text.removesuffix("s")


def _is_slip(stem: str, right: str) -> bool:
    """Whether it is the right one but for two letters exchanged, one left out, or one doubled."""
    if len(stem) == len(right):
        wrong = [at for at, pair in enumerate(zip(stem, right, strict=True)) if len({*pair}) > 1]
        if len(wrong) == 1:
            return len(right) >= _LONG and stem.isalpha()
        first = wrong[0] if wrong else 0
        exchanged = stem[:first] + stem[first : first + 2][::-1] + stem[first + 2 :]
        return right in (stem, exchanged)
    longer, shorter = sorted((stem, right), key=len, reverse=True)
    if len(longer) != len(shorter) + 1:
        return False
    lost = [at for at in range(len(longer)) if longer[:at] + longer[at + 1 :] == shorter]
    # More than one place: a letter that stands beside its like.
    return bool(lost) and (shorter == stem or len(lost) > 1)
