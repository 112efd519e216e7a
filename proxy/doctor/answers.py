"""What is told of a peer that was asked: why there is no answer, and what its clock says of ours."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from typing import Final

import aiohttp

from proxy.doctor.finding import Finding, State

SECONDS: Final = 6.0
"""How long one is waited for."""
AT_ONCE: Final = 16
"""How many are asked at the same time."""
REACH: Final = "see to its name, route, port and certificate"
"""What to do where one cannot be reached."""
_SLACK: Final = 2.0
"""Seconds by which a Date header may be off with nothing wrong: it has whole ones, and takes a while."""


def cause(exc: BaseException | None) -> str:
    """What the system or TLS says of a connection that there is not."""
    match exc:
        case aiohttp.ClientConnectorCertificateError():
            return "its certificate is not one that is trusted here for its name"
        case aiohttp.ClientConnectorSSLError():
            return "it does not speak TLS as it should"
        case aiohttp.ClientConnectorError(os_error=failure):
            number = failure.errno or 0  # a resolver's are negative
            return os.strerror(number) if number > 0 else failure.strerror or str(failure)
        case TimeoutError():
            return "no answer in time"
        case None:
            return "no answer"
        case _:
            return type(exc).__name__


def ahead(date: str | None) -> Iterable[float]:
    """How many seconds a peer's clock (RFC 9110 §6.6.1) is ahead of ours; nothing where it does not say."""
    if date is not None:
        try:
            yield parsedate_to_datetime(date).timestamp() + 0.5 - time.time()
        except (ValueError, TypeError, OverflowError):
            return


def clocks_of(what: str, dates: list[float], skew: float | None) -> list[Finding]:
    """What a peer's clock says of ours; `skew` is what tokens of an issuer may be off by."""
    if not dates:
        return []
    apart = min(dates, key=abs)
    state = State.OK
    if skew is not None and abs(apart) > skew + _SLACK:
        state = State.FAIL
    elif abs(apart) > _SLACK + (5.0 if skew is None else skew / 2):
        state = State.WARN
    if state is State.OK:
        return [Finding(check="clocks", what=what, state=state, text="its clock and ours agree")]
    text = f"its clock is {abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} ours"
    if state is State.FAIL:
        text += f", and `skew` is {skew:g} s: fresh tokens are refused, or old ones taken"
    fix = "keep both by the network's time; see first which of them is wrong"
    command = "timedatectl timesync-status"
    return [Finding(check="clocks", what=what, state=state, text=text, fix=fix, command=command)]


def unknown(check: str, file: str) -> Finding:
    """What is told where the file that names the peers is at fault."""
    text = f"nobody was asked, for `{file}` is at fault"
    return Finding(check=check, what=file, state=State.FAIL, text=text, fix="see `policies`")
