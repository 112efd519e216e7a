"""The Merkle tree over a log's entries (RFC 6962 §2, as RFC 9162 §2.1 has it): roots and proofs.

    leaf      SHA-256(00 ‖ entry)                 node      SHA-256(01 ‖ left ‖ right)

A tree of n leaves is a left tree of the greatest power of two below n, and a right one of the rest.
Complete subtrees never change once they are there: node (level, index) covers the leaves from
index·2^level on, 2^level of them. A proof is a list of hashes of such nodes, or of trees at the right
edge made of them. All functions are pure; whoever has the nodes gives them as `Nodes`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final

HASH_BYTES: Final = 32
EMPTY: Final = hashlib.sha256(b"").digest()
"""The root of a tree without leaves."""

Nodes = Callable[[int, int], bytes]
"""(level, index) -> the hash of that complete subtree."""

_sha256 = hashlib.sha256


def leaf_hash(entry: bytes) -> bytes:
    """The hash of a leaf."""
    return _sha256(b"\x00" + entry).digest()


def leaf_hashes(entries: Iterable[bytes]) -> list[bytes]:
    """The hash of each of many leaves."""
    return [_sha256(b"\x00" + entry).digest() for entry in entries]


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node over two others."""
    return _sha256(b"\x01" + left + right).digest()


def level_above(hashes: Sequence[bytes]) -> list[bytes]:
    """The nodes over each two of some hashes of one level; the last of an odd number has none."""
    whole = len(hashes) & ~1
    pairs = zip(hashes[0:whole:2], hashes[1:whole:2], strict=True)
    return [_sha256(b"\x01" + left + right).digest() for left, right in pairs]


def subtree_root(hashes: Sequence[bytes]) -> bytes:
    """The node over hashes of one level, whose number is a power of two."""
    level = list(hashes)
    while len(level) > 1:
        level = level_above(level)
    return level[0]


def _complete(start: int, end: int) -> list[tuple[int, int]]:
    """The complete subtrees (level, index) that the leaves [start, end) are made of, from the left.

    `start` is a multiple of the greatest power of two that is not above end - start.
    """
    parts = []
    while start < end:
        level = (end - start).bit_length() - 1
        parts.append((level, start >> level))
        start += 1 << level
    return parts


def edge(size: int) -> list[tuple[int, int]]:
    """The complete subtrees (level, index) that a tree of `size` leaves is made of, from the left."""
    return _complete(0, size)


def _root(start: int, end: int, nodes: Nodes) -> bytes:
    """The root of the tree over the leaves [start, end), one at least."""
    hashes = [nodes(level, index) for level, index in _complete(start, end)]
    root = hashes.pop()
    while hashes:
        root = node_hash(hashes.pop(), root)
    return root


def root(size: int, nodes: Nodes) -> bytes:
    """The root of a tree of `size` leaves."""
    return _root(0, size, nodes) if size else EMPTY


def inclusion_proof(index: int, size: int, nodes: Nodes) -> list[bytes]:
    """The hashes that prove leaf `index` in a tree of `size` (RFC 9162 §2.1.3.1).

    Raises ValueError where there is no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError("there is no such leaf in the tree")
    proof = []
    start, end = 0, size
    while end - start > 1:
        middle = start + (1 << (end - start - 1).bit_length() - 1)
        if index < middle:
            proof.append(_root(middle, end, nodes))
            end = middle
        else:
            proof.append(_root(start, middle, nodes))
            start = middle
    proof.reverse()
    return proof


def included(proof: Sequence[bytes], index: int, size: int, leaf: bytes, tree: bytes) -> bool:
    """Whether the proof shows the leaf of that hash at `index` of the tree (RFC 9162 §2.1.3.2)."""
    if not 0 <= index < size:
        return False
    first, last, found = index, size - 1, leaf
    for each in proof:
        if last == 0:
            return False
        if first & 1 or first == last:
            found = node_hash(each, found)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            found = node_hash(found, each)
        first, last = first >> 1, last >> 1
    return last == 0 and found == tree


def consistency_proof(old: int, size: int, nodes: Nodes) -> list[bytes]:
    """The hashes that prove a tree of `old` leaves to be the beginning of one of `size` (§2.1.4.1).

    Raises ValueError unless 0 < old <= size.
    """
    if not 0 < old <= size:
        raise ValueError("an earlier tree has a leaf at least, and no more than the later one")
    proof = []
    start, end, whole = 0, size, True
    while old != end:
        middle = start + (1 << (end - start - 1).bit_length() - 1)
        if old <= middle:
            proof.append(_root(middle, end, nodes))
            end = middle
        else:
            proof.append(_root(start, middle, nodes))
            start, whole = middle, False
    if not whole:
        proof.append(_root(start, end, nodes))
    proof.reverse()
    return proof


def consistent(
    proof: Sequence[bytes], old: int, size: int, old_root: bytes, new_root: bytes
) -> bool:
    """Whether the proof shows the tree of `old` leaves to begin the one of `size` (§2.1.4.2)."""
    if not 0 <= old <= size:
        return False
    if old in (0, size):
        return not proof and (old_root == (EMPTY if not old else new_root))
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    first, last = old - 1, size - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    before = after = path[0]
    for each in path[1:]:
        if last == 0:
            return False
        if first & 1 or first == last:
            before, after = node_hash(each, before), node_hash(each, after)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            after = node_hash(after, each)
        first, last = first >> 1, last >> 1
    return last == 0 and before == old_root and after == new_root
