"""A zip package (ECMA-376 part 2, PKWARE's APPNOTE) that a store sent: looked at before it is unpacked.

Of the central directory everything is checked; of the parts those alone are unpacked that are asked for,
piece by piece, up to the size that they declare, which has to be true. Nothing but `zlib` ever sees what
they hold before their size is known to be within the limits.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Final

from proxy.formats.base import Limits, refused

_PARTS: Final = 4_096
"""Most parts of a package."""
_PIECE: Final = 1 << 18
_ENCRYPTED: Final = 0x41
"""Flags of an entry: encrypted, strongly encrypted."""
_LOCAL: Final = struct.Struct("<4s2xHH16xHH")
"""Of a local header: signature, flags, method; lengths of name and extra field at its end."""
PACKAGE: Final = b"PK\3\4"
"""How packages begin: with the local header of their first part."""
COMPOUND: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""How OLE compound files begin: the binary formats of old, and packages that are encrypted as a whole."""
_END: Final = 22
"""Bytes of a package's last record, without its comment."""
_EVIDENCE: Final = 1 << 20
"""Below it a package is not judged by its ratio: little files compress as they like."""


class Package:
    """The parts of a package, by name; raises SourceRefused for one that is not to be trusted."""

    def __init__(self, file: IO[bytes], limits: Limits) -> None:
        file.seek(0)
        if file.read(len(COMPOUND)) == COMPOUND:
            raise refused("package-encrypted")
        self._file = file
        self._left = limits.sheet_bytes
        self._ratio = limits.sheet_ratio
        entries = _entries(file)
        if len(entries) > _PARTS:
            raise refused("package-too-many-parts")
        if any(each.header_offset < 0 for each in entries):
            raise refused("package-malformed")
        if any(each.flag_bits & _ENCRYPTED for each in entries):
            raise refused("package-encrypted")
        if any(
            each.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for each in entries
        ):
            raise refused("package-method")
        # Names of parts are compared without regard to case (part 2, §7.2.3.4).
        self._parts = {each.filename.lower(): each for each in entries}
        if len(self._parts) != len(entries):
            raise refused("package-part-twice")

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._parts

    def read(self, name: str) -> bytes:
        """All of a part; only for those that are small."""
        return b"".join(self.pieces(name))

    def pieces(self, name: str) -> Iterator[bytes]:
        """A part, piece by piece; with those before it no more than the limit."""
        entry = self._parts.get(name.lower())
        if entry is None:
            raise refused("package-malformed")
        if entry.file_size > self._left:
            raise refused("sheet-too-large")
        self._left -= entry.file_size
        if entry.file_size > max(_EVIDENCE, entry.compress_size * self._ratio):
            raise refused("package-ratio")
        size, check = 0, 0
        for piece in self._unpacked(entry):
            size += len(piece)
            if size > entry.file_size:
                raise refused("package-malformed")
            check = zlib.crc32(piece, check)
            yield piece
        if size != entry.file_size or check != entry.CRC:
            raise refused("package-malformed")

    def _unpacked(self, entry: zipfile.ZipInfo) -> Iterator[bytes]:
        at, left = self._start(entry), entry.compress_size
        stored = entry.compress_type == zipfile.ZIP_STORED
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        while left:
            self._file.seek(at)
            packed = self._file.read(min(left, _PIECE))
            if not packed:
                raise refused("package-malformed")
            at += len(packed)
            left -= len(packed)
            if stored:
                yield packed
                continue
            while packed:
                yield _inflated(inflate, packed)
                packed = inflate.unconsumed_tail
            if inflate.unused_data or (inflate.eof and left):
                raise refused("package-malformed")
        if not stored and not inflate.eof:
            raise refused("package-malformed")

    def _start(self, entry: zipfile.ZipInfo) -> int:
        """Where a part's bytes begin: after its local header, which has to say the same."""
        self._file.seek(entry.header_offset)
        head = self._file.read(_LOCAL.size)
        if len(head) == _LOCAL.size:
            signature, flags, method, name, extra = _LOCAL.unpack(head)
            if signature == PACKAGE and not flags & _ENCRYPTED and method == entry.compress_type:
                return entry.header_offset + _LOCAL.size + int(name) + int(extra)
        raise refused("package-malformed")


def _entries(file: IO[bytes]) -> list[zipfile.ZipInfo]:
    """The central directory; an error of zipfile's may hold names, and is not kept."""
    try:
        with zipfile.ZipFile(file) as found:
            # zipfile looks for the end, wherever it is; here nothing comes after it.
            file.seek(-_END - len(found.comment), io.SEEK_END)
            if file.read(4) == b"PK\5\6":
                return found.infolist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, struct.error):
        pass
    raise refused("package-malformed")


def _inflated(inflate: zlib._Decompress, packed: bytes) -> bytes:
    try:
        return inflate.decompress(packed, _PIECE)
    except zlib.error:
        pass
    raise refused("package-malformed")
