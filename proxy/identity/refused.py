"""Why a token is not accepted."""

from __future__ import annotations


class Refused(Exception):
    """The token is not accepted; `cause` is a fixed slug, never a part of the token."""

    def __init__(self, cause: str) -> None:
        self.cause = cause
        super().__init__(cause)


class Unavailable(Refused):
    """Whether it is good cannot be told now: that is no fault of who presents it."""
