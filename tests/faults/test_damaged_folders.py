"""Policy files with damage of every kind are told of, or are read whole; nothing in between."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings

from proxy.cli import main
from proxy.errors import Faulty
from proxy.review.specification import failures
from proxy.snapshot import FILES, read_folder, snapshot_of, version_of
from tests.faults import damage
from tests.faults.damage import FOLDER, LOOKALIKES, damaged
from tests.harness.issuer import Issuer

ENVIRONMENT = {"STORE_TOKEN": "s3cret"}
GOOD = version_of(FOLDER)
NAMES = {"analyst", "auditor", "analysts", "auditors", "audit", "figures"}
"""What may be written in any letters: it then names something else."""


class Bench:
    """A folder on disk that is damaged again and again, and what became of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: Counter[str] = Counter()
        self._written: dict[str, bytes] = {}
        (folder / "jwks.json").write_text(Issuer().jwks)

    def write(self, files: dict[str, bytes]) -> None:
        for name in self._written.keys() - files.keys():
            (self.folder / name).unlink()
        for name, content in files.items():
            if self._written.get(name) != content:
                (self.folder / name).write_bytes(content)
        self._written = files

    def look(self, files: dict[str, bytes]) -> None:
        """Hold the server's reading, and the command's, to what they promise of any bytes."""
        self.write(files)
        try:
            read = read_folder(self.folder)
            snapshot = snapshot_of(read, folder=self.folder, environment=ENVIRONMENT)
            missed = failures(snapshot, read)
        except Faulty as exc:
            self.told(exc, files)
            self.seen["refused"] += 1
            return
        assert read == files
        assert (snapshot.version == GOOD) == (files == FOLDER)
        damage.accounted_for(files, snapshot)
        self.seen["contradicted by its tests" if missed else "taken"] += 1

    def told(self, exc: Faulty, files: dict[str, bytes]) -> None:
        """Every fault is one line, with a file and a place in it."""
        assert exc.faults
        for fault in exc.faults:
            assert fault.file in FILES and fault.message
            assert str(fault).isprintable()
            lines = files.get(fault.file, b"").split(b"\n")
            assert 0 <= fault.line <= len(lines) + 1
            assert (fault.line == 0) == (fault.column == 0)
            if 0 < fault.line <= len(lines):
                assert fault.column <= len(lines[fault.line - 1]) + 1

    def command(self, files: dict[str, bytes]) -> None:
        """`policy check` says what the server says, and never falls over."""
        before = self.seen["taken"]
        self.look(files)
        result = CliRunner().invoke(main, ["policy", "check", str(self.folder)])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert "Traceback" not in result.output
        assert result.exit_code == (0 if self.seen["taken"] > before else 2), result.output
        assert ("error: " in result.output) == (result.exit_code == 2)


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    return Bench(tmp_path_factory.mktemp("damaged"))


def test_the_folder_without_damage_is_taken(bench):
    """What is damaged below is a policy before."""
    bench.command(dict(FOLDER))
    assert bench.seen["taken"]


@settings(max_examples=250)
@given(damaged())
def test_a_damaged_folder_is_told_of_or_read_whole(bench, files):
    """PROMISE 3, D32 to D34: faults with their places, or a policy in which each line and key is; no third."""
    bench.look(files)


@settings(max_examples=40)
@given(damaged())
def test_check_says_what_the_server_would_do(bench, files):
    """The command's exit status is the server's decision, without a traceback."""
    bench.command(files)


VERBS = (
    ("test", "{}"), ("fmt", "{}", "--check"), ("seal", "{}"), ("diff", "{}", "{}"),
    ("explain", "alice", "GET", "/sales/daily.csv", "--group", "analysts", "--policies", "{}"),
)  # fmt: skip


@settings(max_examples=15)
@given(damaged())
def test_no_verb_falls_over_a_damaged_folder(bench, files):
    """Whatever a folder holds, each verb that reads one says so in words."""
    bench.write(files)
    for verb in VERBS:
        words = [word.replace("{}", str(bench.folder)) for word in verb]
        result = CliRunner().invoke(main, ["policy", *words])
        assert result.exception is None or isinstance(result.exception, SystemExit), verb
    (bench.folder / ".lock").unlink(missing_ok=True)


def cuts(content: bytes, step: int) -> list[int]:
    """Where a file may end: before and behind each line end, and here and there between."""
    ends = [at for at, byte in enumerate(content) if byte == ord("\n")]
    near = {at + beside for at in ends for beside in (0, 1)}
    return sorted({*near, *range(0, len(content), step)} - {len(content)})


def cut_anywhere(bench: Bench, step: int) -> None:
    for name, content in FOLDER.items():
        for end in cuts(content, step):
            bench.look({**FOLDER, name: content[:end]})


def test_a_file_that_is_cut_off_is_told_of_or_is_exactly_what_is_left(bench):
    """D34: what a cut file still says is read whole, under another version; half a line is never read."""
    cut_anywhere(bench, 100)


@pytest.mark.prove
def test_a_file_that_is_cut_off_at_any_byte_is_told_of_or_is_exactly_what_is_left(bench):
    """As above, at every byte."""
    cut_anywhere(bench, 1)


@pytest.mark.parametrize("changed", [str.swapcase, lambda letter: letter.translate(LOOKALIKES)])
def test_a_letter_in_another_case_or_script_is_never_taken_for_itself(bench, changed):
    """D33: a word of the language is a fault in other letters, and a name is the name of somebody else."""
    text = FOLDER["policy.csv"].decode()
    words = [(found.start(), found[0]) for found in re.finditer(r"[a-z]+[a-z0-9_]*", text)]
    for at, word in words:
        other = changed(word[0])
        if other == word[0] or text[text.rfind("\n", 0, at) + 1] == "#":
            continue
        before = bench.seen["refused"]
        damaged = text[:at] + other + text[at + 1 :]
        bench.look({**FOLDER, "policy.csv": damaged.encode()})
        assert word in NAMES or bench.seen["refused"] > before, f"{other}{word[1:]}"


@pytest.mark.prove
def test_many_damaged_folders_are_told_of_or_read_whole(tmp_path, capsys):
    """As above, 20,000 times; the figures are printed."""
    bench = Bench(tmp_path)

    @settings(max_examples=20_000)
    @given(damaged())
    def look(files):
        bench.look(files)

    look()
    executions = sum(bench.seen.values())
    with capsys.disabled():
        print(f"\n{executions} damaged folders, 0 crashes: {dict(bench.seen)}")
    assert executions >= 20_000 and min(bench.seen.values()) > 100
