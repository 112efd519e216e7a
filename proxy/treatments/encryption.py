"""`encrypt`: a cell that only the proxy can open again (AES-256-GCM-SIV, RFC 8452).

    cf1.5f3a90c1.q83vEjRWeJCrze8S…        version . key id . base64url(nonce ‖ ciphertext ‖ tag)

Every cell has a random nonce, so that equal values do not look equal. Associated data bind the
ciphertext to its report, field, row and key id: moved anywhere else it does not open. "Row" is the
report's key fields but for the encrypted field itself, which the reader does not have yet; a report
without a key binds to report and field alone. Plaintexts are padded (ISO/IEC 7816-4: 0x80, zeros)
to 32 bytes or the next doubling, so that a length tells its class and no more. No value stays no
value.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from proxy.batch import Batch
from proxy.errors import ValueRefused
from proxy.few import Cells, like
from proxy.keys import Aead, prefixed, text_bytes
from proxy.treatments.base import Operation, Site, Treatment
from proxy.treatments.columns import of_type
from proxy.values import Type

_VERSION: Final = "cf1"
_CELL: Final = re.compile(rf"{_VERSION}\.([a-z0-9-]{{1,32}})\.([A-Za-z0-9_-]+)\Z")
_SMALLEST: Final = 32
_NO_VALUE: Final = prefixed(b"")
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")


@dataclass(frozen=True, kw_only=True)
class Encrypt(Treatment):
    """The cell, sealed; the proxy alone gives it back."""

    name: ClassVar[str] = "encrypt"
    summary: ClassVar[str] = (
        "Sealed with AES-256-GCM-SIV and bound to its report, field and row; a length tells only "
        "its class (32, 64, 128 … bytes)."
    )
    accepts: ClassVar[frozenset[Type]] = frozenset(Type)
    output: ClassVar[str] = "text"
    rank: ClassVar[int] = 40
    deterministic: ClassVar[bool] = False
    reversible: ClassVar[bool] = True

    def __str__(self) -> str:
        return "encrypt"

    def gives(self, type_: Type) -> Type:  # noqa: ARG002 - of any type
        """Give text."""
        return Type.TEXT

    def bind(self, site: Site) -> Operation:
        """Give the sealed cells; null stays null."""
        aead = _aead(site, None)
        head = f"{_VERSION}.{aead.key_id}."
        place = _place(site, aead.key_id)
        key = _row_fields(site)

        def encrypted(batch: Batch) -> Cells:
            values = of_type(batch.values(site.field), site.type)
            cells = values.to_list()
            texts = [text for text in cells if text is not None]
            columns = [
                [
                    part
                    for part, text in zip(batch.values(field).to_list(), cells, strict=True)
                    if text is not None
                ]
                for field in key
            ]
            rows = zip(*(map(_part, column) for column in columns), strict=True)
            places = [place + b"".join(row) for row in rows] if key else [place] * len(texts)
            sealed = aead.seal([_padded(text.encode()) for text in texts], places)
            written = iter(_written(sealed))
            return like(values, [None if text is None else head + next(written) for text in cells])

        return encrypted


def decrypt(cell: str, site: Site, row: Mapping[str, str | None]) -> str:
    """The plain text of `cell`, found at `site` in the row whose key fields have these values.

    Raises ValueRefused where the cell is malformed, altered, or was sealed for another place or
    key.
    """
    matched = _CELL.match(cell)
    if matched is None:
        raise ValueRefused("the cell is not an encrypted one")
    key_id, written = matched.groups()
    if key_id not in site.keyring.ids:
        raise ValueRefused("the cell was encrypted under a key that this keyring does not hold")
    try:
        sealed = base64.urlsafe_b64decode(written + "=" * (-len(written) % 4))
    except binascii.Error:
        raise ValueRefused("the cell is not an encrypted one") from None
    if _written([sealed]) != [written]:  # spare bits of the last character: one value, one writing
        raise ValueRefused("the cell is not an encrypted one")
    place = _place(site, key_id) + b"".join(_part(row.get(name)) for name in _row_fields(site))
    return _unpadded(_aead(site, key_id).open(sealed, place)).decode()


def _aead(site: Site, key_id: str | None) -> Aead:
    return site.keyring.aead("encrypt", site.report, site.field, key_id=key_id)


def _row_fields(site: Site) -> tuple[str, ...]:
    return tuple(field for field in site.key if field != site.field)


def _place(site: Site, key_id: str) -> bytes:
    """What the associated data of all cells of a column begin with."""
    names = (_VERSION, key_id, site.report, site.field, *_row_fields(site))
    parts = tuple(map(text_bytes, names))
    return len(parts).to_bytes(4, "big") + prefixed(*parts)


def _part(value: str | None) -> bytes:
    """A key field's value behind its length; no value differs from an empty one."""
    if value is None:
        return _NO_VALUE
    written = b"=" + text_bytes(value)
    return len(written).to_bytes(4, "big") + written


def _padded(plaintext: bytes) -> bytes:
    size = max(_SMALLEST, 1 << len(plaintext).bit_length())
    return (plaintext + b"\x80").ljust(size, b"\0")


def _unpadded(plaintext: bytes) -> bytes:
    return plaintext.rstrip(b"\0")[:-1]


def _written(sealed: Iterable[bytes]) -> list[str]:
    """Base64url without padding (RFC 4648 §5), in one pass over all."""
    lines = b"\n".join([binascii.b2a_base64(each, newline=False) for each in sealed])
    return lines.translate(_URL_SAFE, b"=").decode().split("\n")
