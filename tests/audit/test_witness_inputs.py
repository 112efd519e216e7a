"""Whatever is sent to a witness: an answer, never an exception; and never a signature under what does not go on."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.audit import merkle
from proxy.audit.checkpoint import Note
from proxy.audit.proof import NotProved, Proof
from proxy.audit.witness import Pushed
from tests.audit.test_retaining import ENTRIES, nodes, signed, witness

GOOD = bytes(
    Pushed(
        old=10,
        proof=tuple(merkle.consistency_proof(10, 20, nodes(ENTRIES[:20]))),
        note=signed(ENTRIES[:20]),
    )
)
PIECES = (
    b"old ", b"\n", b"\n\n", b"0", b"-1", b"9" * 19, b"9" * 5000, b"\xff", "٣".encode(), "—".encode(),
    b" ", b"=", b"A" * 44, b"\xe2\x80\xa8", b"index ", b"c2sp.org/tlog-proof@v1", b"counterfoil/registry",
)  # fmt: skip


@st.composite
def bent(draw: st.DrawFn) -> bytes:
    """A good body with some of it cut out, doubled or replaced; or something made of its parts alone."""
    body = draw(st.sampled_from([GOOD, bytes(Proof(index=3, hashes=(b"x" * 32,), note=GOOD)), b""]))
    for _ in range(draw(st.integers(1, 4))):
        start, end = sorted((draw(st.integers(0, len(body))), draw(st.integers(0, len(body)))))
        piece = draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=3)))
        put_in = draw(st.sampled_from([b"", piece, body[start:end] * 2, body[start:end] + piece]))
        body = body[:start] + put_in + body[end if draw(st.booleans()) else start :]
    return body


@given(bent())
def test_anything_has_an_answer(tmp_path_factory: pytest.TempPathFactory, body: bytes) -> None:
    """Bent bodies are answered; what is signed goes on from what was, as the note that was given says."""
    known = witness(tmp_path_factory.mktemp("witness"))
    first = bytes(Pushed(old=0, proof=(), note=signed(ENTRIES[:10])))
    assert known.add_checkpoint(first).status == 200
    answer = known.add_checkpoint(body)
    assert answer.status in (200, 400, 403, 404, 409, 422)
    if answer.status == 200:
        checkpoint = Note.parse(Pushed.parse(body).note).checkpoint
        assert checkpoint.root == merkle.root(checkpoint.size, nodes(ENTRIES[: checkpoint.size]))
    assert known.add_log(body).status in (400, 409)
    with contextlib.suppress(NotProved):
        Proof.parse(body)


def test_of_many_at_once_one_history_is_signed(tmp_path: Path) -> None:
    """Two histories that are pushed at once, again and again: what is signed is of one of them."""
    known = witness(tmp_path)
    other = [b"other", *ENTRIES[1:]]

    def push(number: int) -> tuple[int, bool, int]:
        size, alien = number // 2 + 1, bool(number % 2)
        entries = (other if alien else ENTRIES)[:size]
        old = known.seen("counterfoil/registry")
        proof = merkle.consistency_proof(old, size, nodes(entries)) if 0 < old <= size else []
        body = bytes(Pushed(old=old, proof=tuple(proof), note=signed(entries)))
        return known.add_checkpoint(body).status, alien, size

    with ThreadPoolExecutor(8) as executor:
        done = list(executor.map(push, range(100)))
    assert len({alien for status, alien, _ in done if status == 200}) == 1
    again = witness(tmp_path)
    assert again.seen("counterfoil/registry") == max(
        size for status, _, size in done if status == 200
    )
