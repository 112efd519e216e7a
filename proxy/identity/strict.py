"""JSON objects and base64url as a token may hold them: in one reading only, or not at all."""

from __future__ import annotations

import binascii
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, NoReturn


class Malformed(Exception):
    """What was given is not in the form that its standard prescribes."""


class Real:
    """A JSON number with a fraction or an exponent, as written: its exact value is in its text."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


_ALPHABET = re.compile(r"[A-Za-z0-9_-]+\Z")


def decode_base64url(text: str) -> bytes:
    """The bytes of unpadded base64url (RFC 7515 §2) in its one canonical form; raises Malformed."""
    if _ALPHABET.match(text) is None:
        raise Malformed("not base64url")
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise Malformed("not base64url") from None
    if urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
        raise Malformed("not canonical base64url")
    return raw


def parse_object(raw: bytes) -> dict[str, Any]:
    """The JSON object (RFC 8259) that `raw` writes, with numbers exact; raises Malformed.

    Refused: a member named twice (RFC 7519 §4), NaN and infinities, any encoding but UTF-8, numbers
    of thousands of digits, and whatever is nested deeper than the interpreter can follow.
    """
    try:
        value = _DECODER.decode(raw.decode())
    except (ValueError, RecursionError):
        raise Malformed("not a JSON object") from None
    if not isinstance(value, dict):
        raise Malformed("not a JSON object")
    return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is named twice")
    return members


def _no_constant(_: str) -> NoReturn:
    raise ValueError("not a number of JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_members, parse_float=Real, parse_constant=_no_constant
)
