"""The decoders of Arrow and Parquet against hostile documents: damaged at random places, many times.

`make prove ARGS=tests/fuzz/test_arrow.py` prints how many documents were tried and what became of them.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest

from proxy.formats import Limits
from tests.formats.test_typed_documents import DOCUMENTS, outcome

COUNT = 20_000
EDGES = (0, 1, 2, 4, 8, 0x10, 0x15, 0x7F, 0x80, 0xFE, 0xFF)


def damaged(body: bytes, chance: random.Random) -> bytes:
    """The document with some bytes set, moved, cut out or put in twice."""
    other = bytearray(body)
    for _ in range(chance.randint(1, 5)):
        place = chance.randrange(len(other))
        match chance.randrange(6):
            case 0 | 1 | 2:
                other[place] = (
                    chance.choice(EDGES) if chance.random() < 0.7 else chance.randrange(256)
                )
            case 3:
                width = chance.choice((4, 8))
                other[place : place + width] = (
                    chance.choice((-1, 0, 1 << 30, 1 << 31, 7)) & (1 << 8 * width) - 1
                ).to_bytes(width, "little")
            case 4:
                del other[place : place + chance.randint(1, 16)]
            case _:
                other[place:place] = other[place : place + chance.randint(1, 64)]
        if not other:
            return b""
    return bytes(other)


@pytest.mark.prove
@pytest.mark.parametrize("name", DOCUMENTS)
def test_hostile_documents_are_read_or_refused(name):
    """No crash, no hang, no other error, and no error that holds data."""
    format_, body = DOCUMENTS[name]
    found: Counter[str] = Counter()
    chance = random.Random(f"{name} 1")
    for _ in range(COUNT):
        result = outcome(format_, [damaged(body, chance)], limits=Limits(row_group_bytes=1 << 20))
        found[result if isinstance(result, str) else "read"] += 1
    print(
        f"\n{name}: {COUNT} documents:",
        ", ".join(f"{cause} {n}" for cause, n in found.most_common()),
    )
    assert len(found) > 2
