"""The decoders that are fuzzed: a format is added by a row of its documents.

A seed is a well-formed document; what a store might send instead is made of it by `damaged`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from proxy.formats import Limits
from proxy.report import Charset, Dialect, FormatName

FIELDS: Final = ("a", "b", "é")
_TABLE = 'a,b,é\n1,"x, y",\n-0.5,"q""q\n",true\n"",é\U0001d11e,=1\n'
_RECORDS = (
    '{"a":1,"b":"x, y","é":null}',
    '{"a":-0.50e1,"b":"q\\"\\u00e9\\ud834\\udd1e","é":true}',
    '{"b":{"a":[1,"}"]},"h":[{}],"a":""}',
    "{}",
)
_EVEN = [f'{{"a":{n},"b":"x{n}","é":null}}' for n in range(80)]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A decoder, and what it is fed."""

    name: str
    dialect: Dialect
    seeds: Sequence[bytes]
    tokens: Sequence[bytes]
    """What is put in here and there, beside bytes by chance."""
    limits: Limits = field(default_factory=lambda: Limits(record_bytes=2_000, depth=8))


def _csv(name: str, **rest: object) -> Target:
    of = Dialect(format=FormatName.CSV, **rest)  # type: ignore[arg-type]
    codec = "utf-16" if of.charset is Charset.UTF_16 else of.charset.value
    seeds = [_TABLE, _TABLE.replace("\n", "\r\n"), "a,b,é\n" + "1,x,\n" * 90]
    if of.charset in (Charset.UTF_8, Charset.UTF_16_BE):
        seeds.append("\ufeff" + _TABLE)
    texts = [seed.replace(",", of.delimiter) for seed in seeds]
    return Target(
        name=name,
        dialect=of,
        seeds=[text.encode(codec, "replace") for text in texts],
        tokens=[b'"', b'""', b"\n", b"\r\n", b"\r", of.delimiter.encode(), b"\0", b"\xef\xbb\xbf", b"\xff\xfe"],
    )  # fmt: skip


_JSON_TOKENS: Final = (
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\r\n", b" ", b"null", b"1e999", b"0", b"-",
    b'"a":', b'"\\u0061":1', b"\\ud800", b"\xef\xbb\xbf", b"\xc3", b"\x00", b"},{", b'{"a":1}',
)  # fmt: skip

TARGETS: Final[Sequence[Target]] = (
    _csv("csv"),
    _csv("csv;", delimiter=";"),
    _csv("csv latin-1", charset=Charset.LATIN_1),
    _csv("csv windows-1252", charset=Charset.WINDOWS_1252),
    _csv("csv utf-16", charset=Charset.UTF_16),
    _csv("csv utf-16-be", charset=Charset.UTF_16_BE),
    Target(
        name="json",
        dialect=Dialect(format=FormatName.JSON),
        seeds=[f"[{','.join(each)}]".encode() for each in (_RECORDS, _EVEN, ())],
        tokens=_JSON_TOKENS,
    ),
    Target(
        name="json envelope",
        dialect=Dialect(format=FormatName.JSON, rows_at=("data", "rows")),
        seeds=[
            f'{{"n":{{"rows":[1]}},"data":{{"x":"]","rows":[{", ".join(each)}]}},"m":[]}}'.encode()
            for each in (_RECORDS, _EVEN, ())
        ],
        tokens=_JSON_TOKENS,
    ),
    Target(
        name="ndjson",
        dialect=Dialect(format=FormatName.NDJSON),
        seeds=["".join(f"{r}\n" for r in each).encode() for each in (_RECORDS, _EVEN)],
        tokens=_JSON_TOKENS,
    ),
)


def damaged(target: Target, chance: random.Random) -> bytes:
    """A seed with some of its bytes lost, changed, doubled, moved, or others put in."""
    document = bytearray(chance.choice(target.seeds))
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3, 8))):
        at = chance.randrange(len(document) + 1)
        size = chance.choice((1, 1, 2, 3, 8, 40))
        match chance.randrange(6):
            case 0:
                del document[at : at + size]
            case 1:
                document[at : at + size] = chance.randbytes(size)
            case 2:
                document[at:at] = chance.choice(target.tokens)
            case 3:
                document[at : at + 1] = chance.choice(target.tokens)
            case 4:
                document[at:at] = document[at : at + size]
            case _:
                other = chance.choice(target.seeds)
                start = chance.randrange(len(other) + 1)
                document[at:at] = other[start : start + size]
    return bytes(document)
