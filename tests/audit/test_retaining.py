"""Checkpoints out of the operator's reach: a folder, an endpoint, and a witness that is a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from proxy.audit import merkle, registry, tiles
from proxy.audit.checkpoint import WITNESS, Checkpoint, Note, VerifierKey
from proxy.audit.findings import Grade
from proxy.audit.publish import Publisher
from proxy.audit.retaining import (
    FolderSink,
    Newest,
    NotRetained,
    Retaining,
    Sink,
    UrlSink,
    WitnessSink,
)
from proxy.audit.sources import Leaves
from proxy.audit.store import Files, place_of
from proxy.audit.verify import Verifier
from proxy.audit.witness import Pushed, Witness
from proxy.cli import main
from proxy.keys import Keyring, is_signature
from tests.audit.records import KEYRING, event, opened, until
from tests.audit.test_publish import NOW, forced, written

ENTRIES = [b"entry %d" % number for number in range(300)]


def nodes(entries: list[bytes]) -> merkle.Nodes:
    levels = [merkle.leaf_hashes(entries)]
    while len(levels[-1]) > 1:
        levels.append(merkle.level_above(levels[-1]))
    return lambda level, index: levels[level][index]


def signed(entries: list[bytes], *, by: str = "counterfoil/registry") -> bytes:
    signer = KEYRING.signer("test", by)
    key = VerifierKey(name=by, public=signer.public)
    root = merkle.root(len(entries), nodes(entries))
    return Checkpoint(origin=by, size=len(entries), root=root).signed(key, signer.sign)


def witness(folder: Path, clock: float = 1.8e9) -> Witness:
    folder.mkdir(exist_ok=True)
    registry = KEYRING.signer("test", "counterfoil/registry")
    own = KEYRING.signer("test", "witness")
    return Witness(
        folder,
        VerifierKey(name="counterfoil/registry", public=registry.public),
        VerifierKey(name="witness", public=own.public, kind=WITNESS),
        own.sign,
        clock=lambda: clock,
    )


def push(known: Witness, old: int, entries: list[bytes], note: bytes = b"") -> int:
    proof = merkle.consistency_proof(old, len(entries), nodes(entries)) if old else []
    made = bytes(Pushed(old=old, proof=tuple(proof), note=note or signed(entries)))
    return known.add_checkpoint(made).status


@given(st.lists(st.integers(1, 300), min_size=1, max_size=6, unique=True).map(sorted))
def test_a_witness_signs_what_goes_on(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    """Each state that goes on from the last one is signed, with the time; and is remembered over a restart."""
    folder = tmp_path_factory.mktemp("witness")
    old = 0
    for size in sizes:
        known = witness(folder)
        assert known.seen("counterfoil/registry") == old
        proof = merkle.consistency_proof(old, size, nodes(ENTRIES[:size])) if old else []
        note = signed(ENTRIES[:size])
        answer = known.add_checkpoint(bytes(Pushed(old=old, proof=tuple(proof), note=note)))
        assert answer.status == 200
        assert Note.parse(note + answer.body).signed_by([known.key], is_signature) == {"witness"}
        old = size


def test_a_witness_refuses_all_else(tmp_path: Path) -> None:
    """Another history, another key, an unknown log, an old size that is wrong: none is signed."""
    known = witness(tmp_path)
    assert push(known, 0, ENTRIES[:10]) == 200
    rewritten = [b"rewritten", *ENTRIES[1:20]]
    assert push(known, 10, rewritten) == 422
    assert push(known, 10, [b"rewritten", *ENTRIES[1:10]]) == 409  # as large, and another
    assert push(known, 5, ENTRIES[:20]) == 409
    assert push(known, 0, ENTRIES[:20]) == 409
    assert push(known, 10, ENTRIES[:20], signed(ENTRIES[:20], by="counterfoil/1")) == 404
    forged = signed(ENTRIES[:20]).replace(b" ", b" A", 1)
    assert push(known, 10, ENTRIES[:20], forged) in (400, 403)
    other = Keyring.generate().signer("test", "counterfoil/registry")
    key = VerifierKey(name="counterfoil/registry", public=other.public)
    root = merkle.root(20, nodes(ENTRIES[:20]))
    alien = Checkpoint(origin=key.name, size=20, root=root).signed(key, other.sign)
    assert push(known, 10, ENTRIES[:20], alien) == 403
    assert known.add_checkpoint(b"old 11\n\n" + signed(ENTRIES[:10])).status == 400
    for body in (b"", b"old 010\n\n", b"old 10\nx\n\n", b"old 10\n\nhello"):
        assert known.add_checkpoint(body).status == 400
    assert known.add_log(b"hello").status == 400
    assert push(known, 10, ENTRIES[:20]) == 200


def test_a_witness_keeps_what_it_can_read_again(tmp_path: Path) -> None:
    """Lines that anybody adds to a checkpoint are not kept: it starts again, and what it keeps verifies."""
    known = witness(tmp_path)
    strangers = "".join(f"— stranger-{n} AAAAAAAA\n" for n in range(99)).encode()
    assert push(known, 0, ENTRIES[:10], signed(ENTRIES[:10]) + strangers) == 200
    again = witness(tmp_path)
    assert again.seen("counterfoil/registry") == 10
    (kept,) = tmp_path.glob("*.checkpoint")
    note = Note.parse(kept.read_bytes())
    assert [name for name, *_ in note.signatures] == ["counterfoil/registry", "witness"]
    assert note.signed_by([known.key], is_signature) == {"witness"}
    assert push(again, 10, ENTRIES[:20]) == 200


async def test_what_is_wrong_with_one_log_keeps_no_other_back(tmp_path: Path) -> None:
    """A file in its place that is no checkpoint, or published files that prove nothing, are told of."""
    path, kept = tmp_path / "access.db", tmp_path / "kept"
    await written(path, 3, 3, 3)
    place = kept / "counterfoil-1" / f"{4:019d}"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"")
    retaining = Retaining(Files.at(path), [FolderSink(kept, every=0.01)])
    await retaining.round()
    assert str(place) in retaining.failures[str(kept)] and place.read_bytes() == b""
    assert {each.name for each in kept.iterdir()} == {
        "counterfoil-registry", "counterfoil-1", "counterfoil-2", "counterfoil-3",
    }  # fmt: skip


def test_a_witness_tells_of_a_certificate_that_is_none(tmp_path: Path) -> None:
    pem = tmp_path / "tls.pem"
    pem.write_text("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n")
    public = KEYRING.signer("test", "counterfoil/registry").public
    key = str(VerifierKey(name="counterfoil/registry", public=public))
    words = ("--state", tmp_path / "state", "--certificate", pem, "--key", pem)
    ran = CliRunner().invoke(main, ["log", "witness", "--vkey", key, *map(str, words)])
    assert ran.exit_code == 1 and "--certificate or --key cannot be loaded" in ran.output


async def test_a_folder_keeps_what_it_was_given_first(tmp_path: Path) -> None:
    """Another checkpoint of as many entries never takes the place of one that was retained."""
    first = signed(ENTRIES[:10])
    mount = tmp_path / "mount"
    mount.mkdir()
    folder = tiles.Folder(tmp_path)
    await FolderSink(mount, every=0).give(Newest(Note.parse(first), first, folder))
    await FolderSink(mount, every=0).give(
        Newest(Note.parse(first), first, folder)
    )  # as after a restart
    other = signed([b"rewritten", *ENTRIES[1:10]])
    with pytest.raises(NotRetained, match="another checkpoint"):
        await FolderSink(mount, every=0).give(Newest(Note.parse(other), other, folder))
    (kept,) = (each for each in mount.rglob("*") if each.is_file())
    assert kept.read_bytes() == first


@contextlib.contextmanager
def witnessed(folder: Path, key: str) -> Iterator[tuple[str, str]]:
    """`counterfoil log witness`: its address and its key."""
    process = subprocess.Popen(
        [sys.executable, "-m", "proxy", "log", "witness", "--vkey", key, "--state", folder, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        said = process.stdout.readline() + process.stdout.readline()
        found = re.search(r"on (\S+)\nits key: (\S+)\n", said)
        assert found is not None, said
        yield found[1], found[2]
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


def test_two_witnesses_never_remember_in_one_folder(tmp_path: Path) -> None:
    """Each would sign what goes on from its own memory: two histories."""
    public = KEYRING.signer("test", "counterfoil/registry").public
    key = str(VerifierKey(name="counterfoil/registry", public=public))
    state = tmp_path / "state"
    words = ["log", "witness", "--vkey", key, "--state", str(state), "--port", "0"]
    with witnessed(state, key):
        command = [sys.executable, "-m", "proxy", *words]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert ran.returncode == 1 and "another witness remembers in it" in ran.stderr
    with witnessed(state, key):
        pass


def key_of(path: Path) -> str:
    with contextlib.closing(Leaves(Files.at(path))) as leaves:
        return leaves.key()


async def test_a_real_witness_signs_logs_as_they_come_and_catches_a_rewriter(
    tmp_path: Path,
) -> None:
    """It learns of new logs by the registry's proof, and never signs the history that replaces another."""
    path, folder = tmp_path / "access.db", tmp_path / "auditor"
    await written(path, 30)
    with witnessed(folder, key_of(path)) as (url, key):
        own = VerifierKey.parse(key)
        async with aiohttp.ClientSession() as session:
            sink = WitnessSink(session, url, key=own, every=0)
            retaining = Retaining(Files.at(path), [sink])
            await retaining.round()
            assert retaining.failures == {}
            await written(path, 3)
            again = Retaining(Files.at(path), [WitnessSink(session, url, key=own, every=0)])
            await again.round()
            assert again.failures == {}
            cosigned = registry.folder_of(Files.at(path), 2) / f"checkpoint.{own.id.hex()}"
            note = Note.parse(cosigned.read_bytes())
            assert note.signed_by([own], is_signature) == {own.name}
            assert note.checkpoint.size == 4

            shutil.rmtree(Files.at(path).tiles)
            with forced(path) as database:
                database.execute(
                    "UPDATE leaf SET entry = x'7b7d' WHERE place = ?", (place_of(1, 3),)
                )
                database.execute("DELETE FROM registry WHERE number IN (1, 3)")
                database.execute("UPDATE registry SET number = 1 WHERE number = 2")
                database.execute("UPDATE log SET final = NULL")
            publisher = Publisher(Files.at(path), lambda: KEYRING, epoch=2)
            assert publisher.round() == ""
            publisher.close()
            liar = Retaining(Files.at(path), [WitnessSink(session, url, key=own, every=0)])
            await liar.round()
            assert "refuses" in liar.failures[url]
    kept = [each.read_bytes() for each in folder.glob("*.checkpoint")]
    assert len(kept) == 3
    with contextlib.closing(Leaves(Files.at(path))) as leaves:
        key = VerifierKey.parse(leaves.key())
        found = Verifier(leaves, Files.at(path).tiles, key=key, retained=kept, now=NOW).run()
    assert found.grade is Grade.CONTRADICTED


async def test_folders_and_urls_take_checkpoints(tmp_path: Path) -> None:
    """What they were given verifies the log later; a place that fails is told of, and tried again."""
    path = tmp_path / "access.db"
    taken: list[tuple[str | None, bytes]] = []
    status = 503

    async def take(request: web.BaseRequest) -> web.Response:
        taken.append((request.headers.get("Authorization"), await request.read()))
        return web.Response(status=status)

    runner = web.ServerRunner(web.Server(take))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/keep"  # type: ignore[union-attr]
    mount = tmp_path / "mount"
    async with aiohttp.ClientSession() as session:
        sinks: list[Sink] = [
            FolderSink(mount, every=0),
            UrlSink(session, url, token="kept-secret", every=0),
        ]
        async with opened(path) as log:
            await log.append(event())
            await until(lambda: log.unpublished == 0)
            retaining = Retaining(Files.at(path), sinks)
            await retaining.round()
            assert set(retaining.failures) == {str(mount), url}
            assert "kept-secret" not in str(retaining.failures)
            mount.mkdir()
            status = 204
            await retaining.round()
            assert retaining.failures == {}
            count = len(taken)
            await retaining.round()
            assert len(taken) == count  # nothing is new
    await runner.cleanup()
    await written(path, 2)
    files = [each.read_bytes() for each in mount.rglob("*") if each.is_file()]
    assert {each for _, each in taken} == {*files}
    assert {who for who, _ in taken} == {"Bearer kept-secret"}
    with contextlib.closing(Leaves(Files.at(path))) as leaves:
        key = VerifierKey.parse(leaves.key())
        found = Verifier(leaves, Files.at(path).tiles, key=key, retained=files, now=NOW).run()
    assert found.findings == []
    assert tiles.CHECKPOINT not in {each.name for each in mount.rglob("*")}


async def test_a_log_that_ends_after_newer_ones_is_given_to_its_last_checkpoint(
    tmp_path: Path,
) -> None:
    """Each log goes on being retained as long as its process writes, and once more when it has ended."""
    path, mount = tmp_path / "access.db", tmp_path / "mount"
    mount.mkdir()
    retaining = Retaining(Files.at(path), [FolderSink(mount, every=0)])

    def given() -> int:
        return max(int(each.name) for each in (mount / "counterfoil-1").iterdir())

    async with opened(path) as older:
        async with opened(path) as newer:
            await until(lambda: newer.unpublished == older.unpublished == 0)
            await retaining.round()
            await older.append(event())
            await until(lambda: older.unpublished == 0)
            await retaining.round()
            assert given() == 2
        await older.append(event())
    await retaining.round()
    assert given() == 3
    assert retaining._done == {"1", "2"}
