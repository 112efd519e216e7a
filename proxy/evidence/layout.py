r"""Which rows an answer holds, and in which forms each is given: small enough to be kept for every access.

What is kept of a row are the values of the fields by which it can be found (`Report.found_by`): of an open
class as they are, of any other as a keyed digest, so that one that is known can be looked for, and none be
read. Whoever keeps evidence for years must be able to read it without us; hence nothing but lengths, JSON
and zlib:

    evidence  = { piece }                   each behind its length: 4 bytes, big-endian
    piece     = 00 document | 01 zlib       of some rows, in the order of the answer (RFC 1950)
    document  = head numbers                the head is JSON, behind its length
    numbers   = for each column, and then for the forms, one number a row: which of its values, or forms.
                Little-endian, of `width` bytes, each as its difference to the one before. Width 0: none are
                written. There is one value for all rows, or one for each, in their order

    {"rows":3,"key":"9f86d081","columns":[
      {"field":"date","type":"date","width":0,"values":["=2026-03-04"]},
      {"field":"sku","type":"text","width":0,"values":["=SKU-0001","=SKU-0002",null]},
      {"field":"buyer","type":"text","width":1,"values":["#d27ca50db83de1ae","#8f434346648f6b96"]}],
     "forms":[{"clear":["date","sku"],"round(100)":["net_sales"]}],"width":0}

A value is `=` and itself, `#` and the beginning of its digest, or null where the store gives none.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec

from proxy.keys import Keyring, Mac
from proxy.values import Type, scalar

LENGTH: Final = 4
PLAIN, DEFLATED = b"\0", b"\1"
ITSELF, DIGEST = "=", "#"
WIDTHS: Final = (0, 1, 2, 4)
_DIGITS: Final = 16
"""Of a digest: by chance one row in 2**64 would be told of that was not given."""

INLINE: Final = 1 << 11
"""Bytes of evidence that a record itself holds; more of it is an attachment."""
MOST: Final = 1 << 22
"""Bytes of one attachment, unless a piece alone has more."""
_NAME: Final = "sha256:"


class NotEvidence(ValueError):
    """Bytes that are no evidence; nothing of them is told."""


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A field of the rows, as the head has it."""

    field: str
    type: Type
    width: int
    values: list[str | None]


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What stands before the numbers."""

    rows: int
    key: str
    """The id of the master key of its digests."""
    columns: list[Column]
    forms: list[msgspec.Raw]
    """Of each: form -> fields."""
    width: int


def digest_of(mac: Mac, text: str, type_: Type) -> str | None:
    """What is kept of a value that is not told; equal values have one. None where it is no value."""
    value = scalar(text, type_)
    if value is None:
        return None
    written = text if type_ is Type.TEXT else str(value)
    return DIGEST + mac.hexdigest(written.encode("utf-8", "surrogatepass"))[:_DIGITS]


def mac_of(keyring: Keyring, report: str, field: str, *, key_id: str | None = None) -> Mac:
    """What makes the digests of a field's values; under the naming key unless one is named."""
    return keyring.mac("audit-evidence", report, field, key_id=key_id)


def pieces(evidence: bytes) -> Iterator[bytes]:
    """The pieces without their lengths; raises NotEvidence."""
    at = 0
    while at < len(evidence):
        start = at + LENGTH
        at = start + int.from_bytes(evidence[at:start], "big")
        if at > len(evidence) or start > len(evidence):
            raise NotEvidence("it is cut off")
        yield evidence[start:at]


# ── how it is kept ──


class Attachment(NamedTuple):
    """Bytes that a record names; they are durable before it is."""

    digest: str
    """SHA-256, in 64 hex digits."""
    content: bytes


def kept(evidence: bytes) -> tuple[tuple[str, ...], tuple[Attachment, ...]]:
    """What a record says of its evidence, and the attachments that it names.

    Where it is little, the record itself holds it, in base64.
    """
    if not evidence:
        return (), ()
    if len(evidence) <= INLINE:
        return (binascii.b2a_base64(evidence, newline=False).decode(),), ()
    attachments = tuple([
        Attachment(sha256(content).hexdigest(), content) for content in _divided(evidence)
    ])  # fmt: skip
    return tuple([_NAME + each.digest for each in attachments]), attachments


def _divided(evidence: bytes) -> Iterator[bytes]:
    """The evidence in attachments of whole pieces."""
    start = end = 0
    for piece in pieces(evidence) if len(evidence) > MOST else ():
        if end > start and end + LENGTH + len(piece) - start > MOST:
            yield evidence[start:end]
            start = end
        end += LENGTH + len(piece)
    yield evidence[start:]


def named(statement: str) -> str | None:
    """The digest of the attachment that a record's statement names; None where it is evidence itself."""
    return statement.removeprefix(_NAME) if statement.startswith(_NAME) else None


def inline(statement: str) -> bytes:
    """The evidence that a record's statement is; raises NotEvidence."""
    try:
        return base64.b64decode(statement, validate=True)
    except (binascii.Error, ValueError):
        raise NotEvidence("it is not base64") from None
