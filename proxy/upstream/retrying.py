"""Whether and when a store is asked once more, where nothing of an answer has come yet.

Only what is no answer of the store is tried again: no connection, or an error from behind a gateway. It
takes no longer than one request may, and no store is kept from getting well by it: of the requests under
way only some are second ones.
"""

from __future__ import annotations

import random
import ssl
from typing import Final

import aiohttp

from proxy.upstream.exchange import Answer
from proxy.upstream.resolving import RefusedAddress

AWAY: Final = frozenset({502, 503, 504})
"""What somebody before the store says, or the store of itself: it is not there now."""
_FIRST: Final = 0.1
_SHARE: Final = 5
_SOME: Final = 2


def worth(outcome: Answer | BaseException) -> bool:
    """Whether the same request may well succeed in a moment."""
    match outcome:
        case Answer():
            return outcome.status in AWAY and "Retry-After" not in outcome.headers
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return False
        case aiohttp.ClientConnectorError():
            return not isinstance(outcome.os_error, RefusedAddress | ssl.SSLError)
        case aiohttp.ConnectionTimeoutError():
            return True
        case _:
            return False


def pause(attempt: int) -> float:
    """Seconds before the next one, `attempt` counted from 0: doubled each time, spread by half."""
    return _FIRST * 2.0**attempt * (1 - random.random() / 2)  # noqa: S311 - no secret is made of it


def affordable(retrying: int, running: int) -> bool:
    """Whether one more may be tried again, beside those that are, of those that are under way."""
    return retrying < max(_SOME, running // _SHARE)
