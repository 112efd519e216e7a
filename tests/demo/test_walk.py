"""The commands of the README and of docs/policies.md, pasted in their order beside a running demo."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.demo.running import ROOT, Running, demo

PAGE = (ROOT / "docs" / "policies.md").read_text()
README = (ROOT / "README.md").read_text()
BIN = Path(sys.executable).parent
END = "-- end of what this command prints --"
TELL_FAILURES = """set -o pipefail; trap 'echo "failed: $BASH_COMMAND ($?)"' ERR"""

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def steps():
    """Each command of the page with what it is said to print."""
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            heredoc = re.search(r"<<'(\w+)'$", command)
            if heredoc:
                body, _, printed = printed.partition(f"\n{heredoc[1]}\n")
                command += f"\n{body}\n{heredoc[1]}"
            yield command, printed


def matches(expected: str, printed: str) -> bool:
    """Whether it is printed; a line of `…` is any lines, `…` in a line is any text."""
    pattern = ""
    for line in expected.rstrip("\n").split("\n"):
        text = (
            r"(?:.*\n)*?"
            if line == "…"
            else ".*?".join(map(re.escape, line.split("…"))) + r"[ ]*\n"
        )
        pattern += text
    return re.fullmatch(pattern, printed.rstrip("\n") + "\n") is not None


def paste(running: Running, commands: list[str]) -> list[str]:
    """What each of the commands prints, in one shell."""
    script = "".join(f"{command}\necho '{END}'\n" for command in commands)
    done = subprocess.run(
        ["bash"],
        input=script.replace("127.0.0.1:8443", f"127.0.0.1:{running.ports[0]}"),
        cwd=running.folder,
        env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    *printed, after = done.stdout.split(f"{END}\n")
    assert not after, done.stdout
    return printed


@needs_curl
def test_the_walk_goes_as_it_is_written(tmp_path):
    """Every command of the page prints what the page shows, in one shell, from first to last."""
    expected = list(steps())
    with demo(tmp_path, "--rows", "5000") as running:
        printed = paste(running, [command for command, _ in expected])
    for (command, said), found in zip(expected, printed, strict=True):
        assert matches(said, found), f"$ {command}\n{found}"


@needs_curl
def test_the_readme_s_blocks_work_as_they_are_pasted(tmp_path):
    """Each block of the README does what its words say, in one shell, and no command fails."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    activate = tmp_path / ".venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.write_text(f"PATH='{BIN}':$PATH\n")
    with demo(tmp_path) as running:
        printed = paste(running, [TELL_FAILURES, *blocks])
    failed = re.findall(r"^failed: (.*)$", "".join(printed), re.MULTILINE)
    assert failed == [  # but for statuses that are an answer: somebody gains, somebody was denied
        "counterfoil policy diff .demo/policies .demo/draft (1)",
        "counterfoil policy explain --event $event -c .demo/counterfoil.yaml (1)",
        "counterfoil reveal sales/store-daily buyer_email day.csv --purpose audit > returned.csv (1)",
    ]
    _, asked, log, review, taken, history, admin, revealed, keys = printed
    views = dict(re.findall(r"^── (\w+)\n(.*?)(?=^── |\Z)", asked, re.DOTALL | re.MULTILINE))
    assert list(views) == ["alice", "sam", "erin", "nora"]
    assert "gross_margin" in views["sam"] and "licence_no" not in views["alice"]
    assert '"status":404' in views["nora"]
    assert "user:nora" in log and "user:alice" in log
    assert re.match(r"[1-9]\d* accesses by 3 subjects: ", log.splitlines()[-1])
    assert "4 of 4 tests hold" in review and "gains licence_no pseudonym" in review
    assert "(the same)" in taken and "licence_no" in taken
    assert "denied: user:nora" in history
    assert "lifted" in admin
    assert re.search(r"^[1-9]\d* revealed, [1-9]\d* not revealed$", revealed, re.MULTILINE)
    rows = [line for line in revealed.splitlines() if "@buyers.example" in line]
    assert len(rows) == 3 and all(re.search(r",-\d+,", row) for row in rows)
    sealing, naming = re.findall(r"^(\w{8})  .*?(?:seals|names)", keys, re.MULTILINE)[:2]
    assert f"in force  {sealing} seals, {naming} names" in keys
