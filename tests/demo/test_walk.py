"""The walk of docs/policies.md: its commands, in order, over a running demo, print what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.demo.running import ROOT, demo

PAGE = (ROOT / "docs" / "policies.md").read_text()
END = "-- end of what this command prints --"


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


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_walk_goes_as_it_is_written(tmp_path):
    """Every command of the page prints what the page shows, in one shell, from first to last."""
    with demo(tmp_path, "--rows", "5000") as running:
        script = "".join(f"{command}\necho '{END}'\n" for command, _ in steps())
        done = subprocess.run(
            ["bash"],
            input=script.replace("127.0.0.1:8443", f"127.0.0.1:{running.ports[0]}"),
            cwd=tmp_path,
            env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
    printed = done.stdout.split(f"{END}\n")
    expected = list(steps())
    assert len(printed) == len(expected) + 1
    for (command, said), found in zip(expected, printed, strict=False):
        assert matches(said, found), f"$ {command}\n{found}"
