"""Content negotiation: whether `Accept` admits what would be given (RFC 9110 §12.5.1)."""

from __future__ import annotations

import re
from typing import Final

from aiohttp import hdrs, web

_UNWANTED: Final = re.compile(r"q\s*=\s*0(\.0{0,3})?\Z")
"""The weight that says `not acceptable`."""


def acceptable(request: web.BaseRequest, media_type: str) -> bool:
    """Whether the request takes that media type; one without preferences takes all."""
    stated = request.headers.getall(hdrs.ACCEPT, ())
    if not stated:
        return True
    essence = media_type.partition(";")[0]
    ranges = ("*/*", f"{essence.partition('/')[0]}/*", essence)
    nearest, acceptable = -1, True
    for item in ",".join(stated).split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        if name in ranges and (near := ranges.index(name)) >= nearest:  # the most specific decides
            wanted = not any(map(_UNWANTED.match, parameters))
            acceptable = wanted or (acceptable and near == nearest)
            nearest = near
    return acceptable and nearest >= 0
