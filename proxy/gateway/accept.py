"""Content negotiation: which of the forms that are offered `Accept` prefers (RFC 9110 §12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from aiohttp import hdrs, web

_WEIGHT: Final = re.compile(r"q\s*=\s*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\Z")


def preferred(request: web.BaseRequest, media_types: Sequence[str]) -> int | None:
    """Which of the media types is preferred: the first of those that weigh most; None where none is taken.

    A request without preferences takes all alike.
    """
    stated = request.headers.getall(hdrs.ACCEPT, ())
    if not stated:
        return 0
    ranges = _ranges(",".join(stated))
    weights = [_weight(ranges, each.partition(";")[0]) for each in media_types]
    most = max(weights)
    return weights.index(most) if most else None


def _ranges(stated: str) -> list[tuple[str, float]]:
    """Each media range with its weight; what is no weight counts as none being given."""
    found = []
    for item in stated.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        weights = [matched[1] for each in parameters if (matched := _WEIGHT.match(each))]
        found.append((name, float(weights[0]) if weights else 1.0))
    return found


def _weight(ranges: Sequence[tuple[str, float]], media_type: str) -> float:
    """The weight of a media type: the most specific range decides; of two alike, the greater one."""
    for near in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
        weights = [weight for name, weight in ranges if name == near]
        if weights:
            return max(weights)
    return 0.0
