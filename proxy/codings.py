"""Content codings (RFC 9110 §8.4): a store's coded answer -> its bytes, an answer's blocks -> coded blocks.

PROMISE 4 (bounded memory): what comes of a few coded bytes may be enormous. It is given in steps, and
refused beyond a ratio. A decoder holds a window: gzip and deflate 32 KiB, zstd at most 8 MiB (RFC 9659),
br at most 16 MiB (RFC 7932; its large windows are no part of the coding).

PROMISE 1, framing: a block's coded bytes are a function of the answer's bytes up to its end. Each block is
flushed, so that whoever has it has its rows.
"""

from __future__ import annotations

import sys
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import brotli

from proxy.errors import SourceRefused

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CAUSES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "content-coding": "the answer has an unknown content coding, or several",
        "coded-too-long": "the answer is over the byte limit before it is decoded",
        "coding-malformed": "the answer is not what its content coding says, or more follows it",
        "coding-members": "the content coding has too many members that hold next to nothing",
        "coding-ratio": "the answer is too many times as large as its content coding",
        "coding-truncated": "the content coding ends before it is complete",
    }
)
"""Why a store's coded answer is refused: slug -> message for the operator."""

IDENTITY: Final = "identity"
GZIP: Final = "gzip"
ZSTD: Final = "zstd"
OFFERED: Final = (ZSTD, GZIP, IDENTITY)
"""What an answer may have, most preferred first."""

_SLICE: Final = 4 << 10
"""Coded bytes that are decoded at once: what comes of them is held against one limit."""
_STEP: Final = 128 << 10
"""Decoded bytes of one step; br may give twice as much."""
_FREE: Final = 1 << 20
"""Decoded bytes for which no ratio counts."""
_FREE_MEMBERS: Final = 1024
_LEAST_MEMBER: Final = 4 << 10
"""Beyond the free ones, decoded bytes of a member on an average: each costs as much as some KiB."""
_ZSTD_WINDOW: Final = 23
"""As a power of two."""


def refused(cause: str) -> SourceRefused:
    """The refusal for one of `CAUSES`."""
    return SourceRefused(cause, CAUSES[cause])


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a coded answer may at most be."""

    bytes: int = 8 << 30
    """As it comes."""
    ratio: int = 200
    """How many times as large what comes of it may be, beyond its first MiB."""


# ── from stores ──


class _Member(ABC):
    """A part of a coded answer that stands by itself; gzip and zstd may have several."""

    @property
    @abstractmethod
    def ended(self) -> bool:
        """Whether it is complete."""

    @property
    def rest(self) -> bytes:
        """What follows it, once it has ended."""
        return b""

    @abstractmethod
    def step(self, data: bytes) -> bytes:
        """The next bytes, a step at most: b"" where more is needed. Raises an error of its library.

        `data` is empty until a step has given nothing.
        """


class _Inflated(_Member):
    """gzip (RFC 1952) and zlib (RFC 1950), with their checksums; raw deflate (RFC 1951) has none."""

    def __init__(self, wbits: int) -> None:
        self._inner = zlib.decompressobj(wbits)

    @property
    def ended(self) -> bool:
        return self._inner.eof

    @property
    def rest(self) -> bytes:
        return self._inner.unused_data

    def step(self, data: bytes) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, _STEP)


class _Deflate(_Member):
    """`deflate` is zlib; some servers send raw deflate by that name, and browsers take it.

    The two are told apart by the first two bytes: raw deflate would need to begin with a stored block whose
    padding is not zero to look like zlib.
    """

    def __init__(self) -> None:
        self._head = b""
        self._inner: _Inflated | None = None

    @property
    def ended(self) -> bool:
        return self._inner is not None and self._inner.ended

    @property
    def rest(self) -> bytes:
        return self._inner.rest if self._inner is not None else b""

    def step(self, data: bytes) -> bytes:
        if self._inner is None:
            self._head += data
            if len(self._head) < 2:
                return b""
            wrapped = self._head[0] & 0x8F == 8 and int.from_bytes(self._head[:2], "big") % 31 == 0
            self._inner = _Inflated(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)
            data = self._head
        return self._inner.step(data)


class _Brotli(_Member):
    """br (RFC 7932), which has no checksum; it fails by itself where something follows."""

    def __init__(self) -> None:
        self._inner = brotli.Decompressor()

    @property
    def ended(self) -> bool:
        return bool(self._inner.is_finished())

    def step(self, data: bytes) -> bytes:
        return bytes(self._inner.process(data, output_buffer_limit=_STEP))


class _Zstd(_Member):
    """A zstd frame (RFC 8878), a skippable one too; its checksum is held against it where it has one."""

    def __init__(self) -> None:
        window: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW}
        self._inner = zstd.ZstdDecompressor(options=window)

    @property
    def ended(self) -> bool:
        return self._inner.eof

    @property
    def rest(self) -> bytes:
        return self._inner.unused_data

    def step(self, data: bytes) -> bytes:
        return self._inner.decompress(data, _STEP)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    """One row of the table of codings that a store may use."""

    open: Callable[[], _Member]
    many: bool = False
    """Whether members may follow each other: RFC 1952 §2.2, RFC 8878 §3."""


def _gzip() -> _Member:
    return _Inflated(zlib.MAX_WBITS | 16)


_TABLE: Final[Mapping[str, _Row]] = MappingProxyType(
    {
        GZIP: _Row(open=_gzip, many=True),
        "x-gzip": _Row(open=_gzip, many=True),
        "deflate": _Row(open=_Deflate),
        "br": _Row(open=_Brotli),
        ZSTD: _Row(open=_Zstd, many=True),
    }
)
_ERRORS: Final = (zlib.error, brotli.error, zstd.ZstdError)


class Decoding:
    """One coded answer -> its bytes. A failed one stays failed."""

    def __init__(self, coding: str, limits: Limits) -> None:
        self._row = _TABLE[coding]
        self._limits = limits
        self._member: _Member | None = None
        self._members = 0
        self._taken = 0
        """Coded bytes."""
        self._given = 0
        self._failure: SourceRefused | None = None

    @classmethod
    def of(cls, stated: list[str], limits: Limits) -> Decoding | None:
        """What the `Content-Encoding` fields of an answer ask for, None for nothing; raises SourceRefused."""
        coding = stated[0].strip(" \t").lower() if stated else IDENTITY
        if len(stated) > 1 or coding not in (IDENTITY, *_TABLE):
            raise refused("content-coding")
        return None if coding == IDENTITY else cls(coding, limits)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What `data`, itself cut anywhere, gives, some 100 KiB at once; raises SourceRefused.

        All of it is to be taken before more is fed.
        """
        self._check()
        try:
            start = 0
            while start < len(data):
                end = min(len(data), start + _SLICE - self._taken % _SLICE)
                self._taken += end - start
                if self._taken > self._limits.bytes:
                    raise refused("coded-too-long")
                yield from self._decoded(data[start:end])
                start = end
        except SourceRefused as failure:
            self._failure = failure
            raise

    def finish(self) -> None:
        """The answer has ended; raises SourceRefused where its coding has not."""
        self._check()
        if self._member is not None or not self._members:
            self._failure = refused("coding-truncated")
            raise self._failure

    def _check(self) -> None:
        if self._failure is not None:
            raise refused(self._failure.cause)

    def _decoded(self, data: bytes) -> Iterator[bytes]:
        # However the bytes came: the end of the slice that they are in.
        slices = -(-self._taken // _SLICE)
        most = max(_FREE, slices * _SLICE * self._limits.ratio)
        while data:
            member = self._member or self._open()
            while out := _stepped(member, data):
                self._given += len(out)
                if self._given > most:
                    raise refused("coding-ratio")
                yield out
                if member.ended:
                    break
                data = b""
            if not member.ended:
                return
            self._member, data = None, member.rest

    def _open(self) -> _Member:
        if self._members and not self._row.many:
            raise refused("coding-malformed")
        self._members += 1
        if self._members > _FREE_MEMBERS + self._given // _LEAST_MEMBER:
            raise refused("coding-members")
        self._member = self._row.open()
        return self._member


def _stepped(member: _Member, data: bytes) -> bytes:
    """A step; the library's error is not kept, for what was decoded hangs on it."""
    with suppress(*_ERRORS):
        return member.step(data)
    raise refused("coding-malformed")


# ── answers ──

_WORTHWHILE: Final = 1 << 10
"""Bytes of the answer below which a coding saves nothing that counts."""
_GZIP_LEVEL: Final = 3
_ZSTD_OPTIONS: Final[Mapping[int, int]] = MappingProxyType(
    {
        zstd.CompressionParameter.compression_level: 3,
        zstd.CompressionParameter.window_log: 20,
        zstd.CompressionParameter.checksum_flag: 1,
    }
)


class Coding:
    """An answer's blocks -> coded blocks, in order; what is coded alike is alike, byte for byte."""

    def __init__(self, coding: str, *, always: bool = False) -> None:
        """`always`: also where it is not worthwhile, for whoever does not take the answer as it is."""
        self.coding = coding
        """What the answer has; known for good with the first block."""
        self.always = always
        self._begun: _Begun | None = None

    @classmethod
    def of(cls, accepted: Sequence[str], *, compressed: bool) -> Coding | None:
        """What is to be done to an answer for whoever accepts these codings, most preferred first.

        What is `compressed` already is left as it is, if that is accepted.
        """
        plain = IDENTITY in accepted
        if accepted[0] == IDENTITY or (compressed and plain):
            return None
        return cls(accepted[0], always=not plain)

    def block(self, data: bytes, *, last: bool) -> bytes:
        """The next block, coded: whoever has it can decode all of it. An only block is coded in one go."""
        if self._begun is None and last:
            if len(data) < _WORTHWHILE and not self.always:
                self.coding = IDENTITY
            return _whole(self.coding, data)
        if self._begun is None:
            self._begun = _GzipBegun() if self.coding == GZIP else _ZstdBegun()
        return self._begun.block(data, last=last)


def _whole(coding: str, data: bytes) -> bytes:
    match coding:
        case "gzip":
            return zlib.compress(data, _GZIP_LEVEL, zlib.MAX_WBITS | 16)  # its header has no time
        case "zstd":
            return zstd.compress(data, options=dict(_ZSTD_OPTIONS))
        case _:
            return data


class _Begun(ABC):
    """A coding in the middle of an answer."""

    @abstractmethod
    def block(self, data: bytes, *, last: bool) -> bytes: ...


class _GzipBegun(_Begun):
    def __init__(self) -> None:
        self._inner = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS | 16)

    def block(self, data: bytes, *, last: bool) -> bytes:
        coded = self._inner.compress(data)
        return coded + self._inner.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)


class _ZstdBegun(_Begun):
    def __init__(self) -> None:
        self._inner = zstd.ZstdCompressor(options=dict(_ZSTD_OPTIONS))

    def block(self, data: bytes, *, last: bool) -> bytes:
        if last:
            return self._inner.compress(data, self._inner.FLUSH_FRAME)
        return self._inner.compress(data, self._inner.FLUSH_BLOCK)
