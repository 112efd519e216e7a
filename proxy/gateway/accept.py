"""Content negotiation: which of what is offered a request prefers (RFC 9110 §12.5).

`Accept` chooses among the forms of a report, `Accept-Encoding` among the content codings.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from aiohttp import hdrs, web

from proxy.codings import GZIP, IDENTITY, OFFERED
from proxy.formats import FORMATS
from proxy.plan import Decision, Deny, Permit
from proxy.reasons import Reason
from proxy.report import Dialect, Variant

_WEIGHT: Final = re.compile(r"q\s*=\s*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\Z")

_LEAST: Final = 1e-4
"""Less than any weight that can be written."""


def preferred(request: web.BaseRequest, media_types: Sequence[str]) -> int | None:
    """Which of the media types is preferred: the first of those that weigh most; None where none is taken.

    A request without preferences takes all alike.
    """
    stated = ",".join(request.headers.getall(hdrs.ACCEPT, ()))
    if not stated.strip(" \t,"):
        return 0
    ranges = _ranges(stated)
    weights = [_weight(ranges, each.partition(";")[0]) for each in media_types]
    most = max(weights)
    return weights.index(most) if most else None


def negotiated(request: web.BaseRequest, variant: Variant, decision: Decision) -> Dialect | Deny:
    """How the answer is to be written, of what is offered and can hold what is granted."""
    mixed = decision.plan.mixed if isinstance(decision, Permit) else frozenset()
    if not mixed and hdrs.ACCEPT not in request.headers:
        return variant.offers[0]
    offers = [each for each in variant.offers if not (mixed and FORMATS[each.format].typed)]
    if not offers:
        detail = f"Not in one type for you: {', '.join(sorted(mixed))}."
        return Deny(reason=Reason.NOT_ACCEPTABLE, cause="mixed-types", detail=detail)
    number = preferred(request, [FORMATS[each.format].media_type for each in offers])
    if number is None:
        offered = ", ".join(FORMATS[each.format].media_type.partition(";")[0] for each in offers)
        detail = f"Offered here: {offered}."
        return Deny(reason=Reason.NOT_ACCEPTABLE, cause="accept", detail=detail)
    return offers[number]


def codings(request: web.BaseRequest) -> tuple[str, ...]:
    """The content codings that are accepted, most preferred first; the better one of two that weigh alike.

    Where nobody asks for one, it is none: `identity`. That is accepted unless it is said that it is not, but
    comes after all that are named.
    """
    stated = request.headers.getall(hdrs.ACCEPT_ENCODING, ())
    return _accepted(",".join(stated)) if stated else (IDENTITY,)


@lru_cache(128)  # a client says the same each time
def _accepted(stated: str) -> tuple[str, ...]:
    weights: dict[str, float] = {}
    for name, weight in _ranges(stated):
        name = GZIP if name == "x-gzip" else name  # noqa: PLW2901 - its older name
        weights[name] = max(weight, weights.get(name, 0.0))
    others = weights.get("*")
    weighed = {name: weights.get(name, others or 0.0) for name in OFFERED}
    if IDENTITY not in weights and others is None:
        weighed[IDENTITY] = _LEAST
    accepted = [name for name in OFFERED if weighed[name]]
    return tuple(sorted(accepted, key=lambda name: -weighed[name]))


def _ranges(stated: str) -> list[tuple[str, float]]:
    """Each range with its weight; what is no weight counts as none being given."""
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
