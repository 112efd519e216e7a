"""What two versions limit otherwise, in words."""

from __future__ import annotations

from proxy.policy.limits import LIMITS_FILE, Limit, Limits
from proxy.review.catalogues import Declared


def limited_otherwise(old: Limits, new: Limits) -> tuple[Declared, ...]:
    """Limits that are new, no more, or of another amount."""
    was, now = ({_key(each): each for each in limits.all} for limits in (old, new))
    found = []
    for key in [*was, *(key for key in now if key not in was)]:
        before, after = was.get(key), now.get(key)
        if before is not None and after is not None and before.most != after.most:
            found.append(f"{_who(after)} {after}, and not {before.most}")
        elif before is None and after is not None:
            found.append(f"{_who(after)} {after}: this is new")
        elif after is None and before is not None:
            found.append(f"{_who(before)} {before}: this is no more")
    return tuple(Declared(about=LIMITS_FILE, what=what) for what in found)


def _key(limit: Limit) -> tuple[str, ...]:
    return (limit.who, limit.reports, limit.what, limit.counter.per)


def _who(limit: Limit) -> str:
    return f"{limit.who} may be given of {limit.reports}"
