r"""A request target as the client wrote it -> a path and a query: strictly, once.

Origin-form alone (RFC 9112 §3.2.1) in the characters of RFC 3986 §3.3 and §3.4. What another parser
could read in another way is malformed: dot segments, empty segments, `;` and `\`, an escape of a
delimiter or a control character, bytes that are not UTF-8. Nothing is normalised.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

from proxy.errors import CounterfoilError

MOST: Final = 8192
"""Characters of a target."""

_TARGET = re.compile(
    r"(/(?:[A-Za-z0-9\-._~!$&'()*+,=:@/]++|%[0-9A-Fa-f]{2})*+)"
    r"(?:\?((?:[A-Za-z0-9\-._~!$&'()*+,=:@/?;\[\]]++|%[0-9A-Fa-f]{2})*+))?\Z"
)
_CONTROLS: Final = "\x00-\x1f\x7f-\x9f\u2028\u2029"
CONTROL: Final = re.compile(f"[{_CONTROLS}]")
_DELIMITER = re.compile(rf"[/\\;?#{_CONTROLS}]")


class MalformedTarget(CounterfoilError):
    """No target that a client of reports sends; `cause` is a fixed slug, never input."""

    def __init__(self, cause: str) -> None:
        self.cause = cause
        super().__init__(cause)


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A target's two parts, as written; the path starts with `/`."""

    path: str
    query: str


def parse_target(raw: str) -> Target:
    """The parts of `raw`; raises MalformedTarget."""
    if len(raw) > MOST:
        raise MalformedTarget("target-too-long")
    matched = _TARGET.match(raw)
    if matched is None:
        raise MalformedTarget("target-syntax" if raw.startswith("/") else "target-form")
    path, query = matched.groups()
    if "//" in path:
        raise MalformedTarget("target-empty-segment")
    for segment in path.split("/") if "%" in path or "/." in path else ():
        decoded = decode_once(segment)
        if decoded is None:
            raise MalformedTarget("target-encoding")
        if decoded in (".", ".."):
            raise MalformedTarget("target-dot-segment")
        if decoded is not segment and _DELIMITER.search(decoded):
            raise MalformedTarget("target-escaped-delimiter")
    return Target(path=path, query=query or "")


def decode_once(text: str) -> str | None:
    """`text` with its escapes decoded, once, as UTF-8; None where it is not UTF-8."""
    if "%" not in text:
        return text
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        return None


def is_safe_segment(value: str) -> bool:
    """Whether `value`, escaped as one segment of a path, is one segment to every reader.

    A value with `%` could be decoded twice by a careless store, so it is none.
    """
    return value not in ("", ".", "..") and "%" not in value and _DELIMITER.search(value) is None
