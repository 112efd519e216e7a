"""A text in a declared charset -> UTF-8, strictly, whatever pieces it comes in.

latin-1 is ISO-8859-1, of which each byte is a character; windows-1252 leaves five bytes without one. With
utf-16 the byte order mark says in which order bytes are and has to be there; with utf-16-le and utf-16-be
it may be. A mark stays, as that of UTF-8 does, for the decoder to take.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from proxy.formats.base import refused
from proxy.report import Charset

_CODECS: Final[Mapping[Charset, str]] = MappingProxyType(
    {
        Charset.LATIN_1: "iso-8859-1",
        Charset.WINDOWS_1252: "windows-1252",
        Charset.UTF_16_LE: "utf-16-le",
        Charset.UTF_16_BE: "utf-16-be",
    }
)
_MARKS: Final[Mapping[bytes, Charset]] = MappingProxyType(
    {codecs.BOM_UTF16_LE: Charset.UTF_16_LE, codecs.BOM_UTF16_BE: Charset.UTF_16_BE}
)


class Transcoder:
    """Pieces in, pieces of UTF-8 out; raises SourceRefused."""

    def __init__(self, charset: Charset) -> None:
        self._charset = charset
        self._mark = b""
        self._decoder: codecs.IncrementalDecoder | None = None
        if charset in _CODECS:
            self._decoder = codecs.getincrementaldecoder(_CODECS[charset])("strict")

    def feed(self, block: bytes, *, final: bool = False) -> bytes:
        """The characters that `block` completes; UTF-8 passes as it is, for the decoder to judge."""
        if self._charset is Charset.UTF_8:
            return block
        if self._decoder is None:
            block = self._mark + block
            if len(block) < 2 and not final:
                self._mark = block
                return b""
            order = _MARKS.get(block[:2])
            if order is None:
                raise refused("not-in-charset")
            self._decoder = codecs.getincrementaldecoder(_CODECS[order])("strict")
        try:
            return self._decoder.decode(block, final).encode()
        except UnicodeDecodeError:
            pass
        raise refused("not-in-charset")  # outside the handler: the codec's own error holds the text
