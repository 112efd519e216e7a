"""Accesses of which a part is not told any more: none of them is left out of who may have received which rows."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import shutil
import sqlite3
from pathlib import Path

import msgspec
from click.testing import CliRunner

from proxy.access import AccessEvent
from proxy.audit import Asked, Reader
from proxy.audit.store import Files
from proxy.cli import main
from proxy.exposure.search import Exposed, Question, Search
from proxy.exposure.where import Where
from tests.audit.records import event, opened, write
from tests.audit.test_publish import written

GIVEN = {"access": "0a", "subject": "s1", "report": "shop/days", "decision": "permit"}
FORMS = {"net": {"clear": 10}}


def evidence(shop: str, rows: int) -> bytes:
    """Of some rows of one shop, as the layout has it."""
    column = {"field": "shop", "type": "text", "width": 0, "values": [f"={shop}"]}
    head = msgspec.json.encode(
        {"rows": rows, "key": "k", "columns": [column], "forms": [{"clear": ["net"]}], "width": 0}
    )
    piece = b"\0" + len(head).to_bytes(4, "big") + head
    return len(piece).to_bytes(4, "big") + piece


def exposed(path: Path, condition: str, *fields: str) -> list[Exposed]:
    with Reader(path) as reader:
        search = Search(reader, Question(where=Where(condition), fields=frozenset(fields)), None)
        return list(search.found(Asked(outcome="permit")))


def named(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def kept(path: Path, content: bytes) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        digest = hashlib.sha256(content).digest()
        database.execute("INSERT INTO attachment VALUES (?, ?)", (digest, content))
        database.commit()


def test_rows_whose_evidence_is_gone_beside_rows_that_never_went_out(tmp_path: Path) -> None:
    """What evidence there is of rows that were announced says nothing of those whose evidence is missing."""
    lost, there = evidence("S1", 10), evidence("S2", 10)
    records = [
        event("intent", rows=10, fields=FORMS, evidence=(named(lost),), **GIVEN),
        event("progress", rows=20, fields=FORMS, evidence=(named(there),), part=1, **GIVEN),
        event("outcome", rows=10, fields=FORMS, ended="client-gone", part=2, **GIVEN),
    ]
    path = tmp_path / "access.db"
    write(path, records)
    kept(path, there)
    (found,) = exposed(path, "shop == 'S1'")
    assert found.possible == 10 and "missing" in found.wrong
    kept(path, lost)
    (found,) = exposed(path, "shop == 'S1'")
    assert (found.rows, found.possible) == (10, 0)


async def test_no_bundle_is_made_that_could_not_be_checked(tmp_path: Path) -> None:
    """The registry's checkpoint must name each log that a record is in: it may have been published just before."""
    path, out = tmp_path / "access.db", tmp_path / "out.zip"
    tiles, before = Files.at(path).tiles, tmp_path / "before"
    await written(path, 1)
    shutil.copytree(tiles / "registry", before)
    async with opened(path) as log:
        await log.append(event(rows=1, fields=FORMS, **GIVEN))
    words = ["log", "exposure", "--log", str(path), "--bundle", str(out)]
    shutil.move(tiles / "registry", tmp_path / "after")
    shutil.copytree(before, tiles / "registry")
    ran = CliRunner().invoke(main, words)
    assert ran.exit_code == 1 and "try again in a second" in ran.stderr and not out.exists()
    shutil.rmtree(tiles / "registry")
    shutil.move(tmp_path / "after", tiles / "registry")
    assert CliRunner().invoke(main, words).exit_code == 0


def test_evidence_of_more_rows_than_there_can_be(tmp_path: Path) -> None:
    """It is told that it is none, whatever room its rows would take."""
    path = tmp_path / "access.db"
    large = base64.b64encode(evidence("S2", 1 << 50)).decode()
    write(path, [event(rows=7, fields=FORMS, evidence=(large,), **GIVEN)])
    (found,) = exposed(path, "shop == 'S1'")
    assert found.possible == 7 and "cannot be read" in found.wrong


def test_rows_of_which_no_field_is_told(tmp_path: Path) -> None:
    """A record that was too long for its fields, of an access that was pruned but for its end."""
    path = tmp_path / "access.db"
    write(path, [AccessEvent(step="unresolved", at="2026-11-29T00:00:00.000000Z", rows=7, **GIVEN)])
    for fields in ((), ("net",)):
        (found,) = exposed(path, "shop == 'S1'", *fields)
        assert (found.certainty, found.possible) == ("possible", 7)
