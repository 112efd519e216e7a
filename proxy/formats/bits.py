"""Which bytes of a block are what, 64 to a word: separators outside quotes, without a look at each byte.

A mask has one bit for each byte, the first byte in the lowest bit of the first word. Finding a byte,
shifting a mask and telling what stands between quotes then cost a fraction of a nanosecond a byte
(Langdale and Lemire, "Parsing Gigabytes of JSON per Second", VLDB Journal 28, 2019, §3.1, with the
carry-less product written as a running exclusive or).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.uint64]
"""Bits beyond the last byte are 0."""
Offsets = npt.NDArray[np.intp]
"""Ascending offsets into a block."""

_ONE: Final = np.uint64(1)
_TOP: Final = np.uint64(63)
_STEPS: Final = tuple(np.uint64(1 << step) for step in range(6))
_WORD: Final = 64
_SPARSE: Final = 2
"""Bits a word up to which it pays to go from one to the next, rather than to look at each byte."""


def pack(truths: npt.NDArray[np.bool_]) -> Mask:
    """The mask of a truth for each byte."""
    words = np.zeros(-(-len(truths) // _WORD), np.uint64)
    packed = np.packbits(truths, bitorder="little")
    words.view(np.uint8)[: len(packed)] = packed
    return words


def where(data: Bytes, byte: int) -> Mask:
    """The mask of the bytes that are `byte`."""
    return pack(data == byte)


def offsets(mask: Mask) -> Offsets:
    """The offsets of the bits that are set."""
    if count(mask) <= _SPARSE * len(mask):
        return _by_words(mask)
    return np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little").view(np.bool_))


def _by_words(mask: Mask) -> Offsets:
    words = np.flatnonzero(mask)
    left = mask[words]
    ones = np.bitwise_count(left).astype(np.intp)
    found: Offsets = np.empty(int(ones.sum()), np.intp)
    at = np.cumsum(ones) - ones
    first = words << 6
    while len(left):
        lowest = left & (np.uint64(0) - left)
        found[at] = first + np.bitwise_count(lowest - _ONE)
        left ^= lowest
        more = np.flatnonzero(left)
        left, first, at = left[more], first[more], at[more] + 1
    return found


def count(mask: Mask) -> int:
    """How many bits are set."""
    return int(np.bitwise_count(mask).sum(dtype=np.intp))


def counts_before(mask: Mask, places: Offsets) -> Offsets:
    """For each of `places`, offsets of bytes, how many bits are set before it."""
    ones = np.bitwise_count(mask)
    before = np.cumsum(ones, dtype=np.intp)
    before -= ones
    word = places >> 6
    below = (_ONE << (places & 63).astype(np.uint64)) - _ONE
    counts: Offsets = before[word] + np.bitwise_count(mask[word] & below)
    return counts


def next_set(mask: Mask, places: Offsets) -> Offsets:
    """For each of `places`, the offset of the first bit that is set there or after it; there is one."""
    word = places >> 6
    left = mask[word] & ~((_ONE << (places & 63).astype(np.uint64)) - _ONE)
    if len(empty := np.flatnonzero(left == 0)):
        filled = np.flatnonzero(mask)
        word[empty] = filled[np.searchsorted(filled, word[empty] + 1)]
        left[empty] = mask[word[empty]]
    lowest = left & (np.uint64(0) - left)
    found: Offsets = (word << 6) + np.bitwise_count(lowest - _ONE)
    return found


def between(quotes: Mask) -> Mask:
    """What stands between quotes that open and close by turns: each opening one and what follows it.

    The closing quote itself is not in it.
    """
    inside = quotes.copy()
    for step in _STEPS:
        inside ^= inside << step
    odd = inside >> _TOP
    # A word that begins inside is the complement of what it is alone.
    begins = np.bitwise_xor.accumulate(odd) ^ odd
    inside ^= np.uint64(0) - begins
    return inside


def longest(ends: Offsets) -> int:
    """The length of the longest record of those that end at `ends`, the first one beginning at 0."""
    if not len(ends):
        return 0
    lengths = ends[1:] - ends[:-1]
    return max(int(ends[0]), int(lengths.max(initial=0)))
