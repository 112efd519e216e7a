"""Trees, proofs and tiles against the definition in RFC 6962, written down once more and naively."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.audit import merkle, tiles
from proxy.audit.tiles import Edge, Folder, FolderNodes

SIZES = st.integers(1, 80) | st.sampled_from([255, 256, 257, 511, 512, 513, 700])


def naive_root(entries: list[bytes]) -> bytes:
    """MTH of RFC 6962 §2.1, to the letter."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = 1
    while 2 * k < len(entries):
        k *= 2
    both = naive_root(entries[:k]) + naive_root(entries[k:])
    return hashlib.sha256(b"\x01" + both).digest()


def entries_of(size: int) -> list[bytes]:
    return [b"entry %d" % number for number in range(size)]


def nodes_of(entries: list[bytes]) -> merkle.Nodes:
    levels = [merkle.leaf_hashes(entries)]
    while len(levels[-1]) > 1:
        levels.append(merkle.level_above(levels[-1]))
    return lambda level, index: levels[level][index]


def write_tiles(folder: Path, entries: list[bytes], edge: Edge) -> None:
    """Write the files of a log that grows by `entries`, whole tiles of entries left out."""
    found = [
        (tiles.hashes_path(level, number), data)
        for level, number, data in edge.extend(merkle.leaf_hashes(entries))
    ]
    found += [
        (tiles.hashes_path(level, number, width), data)
        for level, number, width, data in edge.partial()
    ]
    for name, data in found:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def test_published_vector() -> None:
    """The hash of the leaf `L123456` is the one that is published for RFC 6962's hashing."""
    expected = "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56"
    assert merkle.leaf_hash(b"L123456").hex() == expected
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert merkle.root(0, nodes_of([b"x"])).hex() == empty


@given(SIZES)
def test_root_is_that_of_the_definition(size: int) -> None:
    """The root of any number of leaves is the one that RFC 6962 defines, by nodes and by an edge."""
    entries = entries_of(size)
    edge = Edge()
    whole = [*edge.extend(merkle.leaf_hashes(entries))]
    assert len(whole) == size // tiles.WIDTH
    assert merkle.root(size, nodes_of(entries)) == naive_root(entries) == edge.root
    assert edge.size == size


@given(SIZES, st.data())
def test_inclusion(size: int, data: st.DataObject) -> None:
    """Each leaf is proved in, and no proof shows another leaf, place, size or root."""
    index = data.draw(st.integers(0, size - 1))
    entries = entries_of(size)
    leaf, tree = merkle.leaf_hash(entries[index]), naive_root(entries)
    proof = merkle.inclusion_proof(index, size, nodes_of(entries))
    assert merkle.included(proof, index, size, leaf, tree)
    assert not merkle.included(proof, index, size, merkle.leaf_hash(b"another"), tree)
    assert not merkle.included([*proof, leaf], index, size, leaf, tree)
    assert not merkle.included(proof, index, size, leaf, leaf[::-1])
    if proof:
        assert not merkle.included(proof[:-1], index, size, leaf, tree)
        at = data.draw(st.integers(0, len(proof) - 1))
        bent = [*proof]
        bent[at] = bytes([bent[at][0] ^ 1]) + bent[at][1:]
        assert not merkle.included(bent, index, size, leaf, tree)
    other = data.draw(st.integers(0, size - 1))
    if other != index:
        assert not merkle.included(proof, other, size, leaf, tree)


@given(SIZES, st.data())
def test_consistency(size: int, data: st.DataObject) -> None:
    """Each earlier tree is proved to begin the later one, and no tree of another history is."""
    old = data.draw(st.integers(1, size))
    entries = entries_of(size)
    before, after = naive_root(entries[:old]), naive_root(entries)
    proof = merkle.consistency_proof(old, size, nodes_of(entries))
    assert merkle.consistent(proof, old, size, before, after)
    forked = naive_root([*entries[: old - 1], b"rewritten"])
    assert not merkle.consistent(proof, old, size, forked, after)
    rewritten = naive_root([b"rewritten", *entries[1:]])
    assert not merkle.consistent(proof, old, size, before, rewritten)
    if proof:
        assert not merkle.consistent(proof[:-1], old, size, before, after)
    assert not merkle.consistent([*proof, before], old, size, before, after)


@given(st.integers(0, 10**12))
def test_numbers_of_tiles_read_back(number: int) -> None:
    """A tile's path has one number, and each number one path."""
    path = tiles.numbered(number)
    assert int(path.replace("x", "").replace("/", "")) == number
    assert all(len(group.removeprefix("x")) == 3 for group in path.split("/"))


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_bundles_read_back(entries: list[bytes]) -> None:
    """Entries are those that a file holds, and a file cut within one is refused."""
    data = tiles.bundle(entries)
    assert tiles.unbundled(data) == entries
    if entries:
        with pytest.raises(ValueError, match="within one"):
            tiles.unbundled(data[:-1] if entries[-1] else data[:-2] + b"\x01\x00")


@pytest.mark.parametrize("steps", [[1], [256], [255, 1, 1], [300, 400], [700, 65536 - 700, 3]])
def test_tiles_hold_the_tree(tmp_path: Path, steps: list[int]) -> None:
    """Tiles that were written while the log grew give each node, and an edge to go on from."""
    entries = entries_of(sum(steps))
    edge, size = Edge(), 0
    for step in steps:
        write_tiles(tmp_path, entries[size : size + step], edge)
        size += step
        folder = Folder(tmp_path)
        again = Edge.of(folder, size)
        assert again.root == edge.root == merkle.root(size, FolderNodes(folder, size))
        edge = again
    nodes = FolderNodes(Folder(tmp_path), size)
    for index in {0, size // 2, size - 1}:
        proof = merkle.inclusion_proof(index, size, nodes)
        assert merkle.included(proof, index, size, merkle.leaf_hash(entries[index]), edge.root)
    with pytest.raises(tiles.Missing):
        Folder(tmp_path).hashes(0, size, size + 300 * 256)
