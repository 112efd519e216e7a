"""A Go program on the code of Go's checksum database verifies what we publish."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from proxy.audit.sources import Leaves
from proxy.audit.store import Files
from tests.audit.records import event, opened

SOURCES = Path("/usr/share/gocode")
"""Where Debian puts golang-golang-x-mod-dev."""


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, built."""
    go = shutil.which("go")
    if go is None or not (SOURCES / "src/golang.org/x/mod/sumdb/tlog").is_dir():
        pytest.skip(
            "no Go, or no golang.org/x/mod: apt-get install golang-go golang-golang-x-mod-dev"
        )
    folder = tmp_path_factory.mktemp("go")
    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOPATH": str(SOURCES),
        "GOCACHE": str(folder / "cache"),
        "GOFLAGS": "",
    }
    source = Path(__file__).with_name("verify.go")
    program = folder / "verify"
    subprocess.run([go, "build", "-o", program, source], check=True, env=environment)
    return program


def verified(verifier: Path, path: Path) -> subprocess.CompletedProcess[str]:
    files = Files.at(path)
    with contextlib.closing(Leaves(files)) as leaves:
        key = leaves.key()
    return subprocess.run([verifier, files.tiles, key], capture_output=True, text=True, check=False)


async def test_go_verifies_our_logs(verifier: Path, tmp_path: Path) -> None:
    """Tiles, entries, checkpoints and the registry of three runs are whole for another's code; a flip is not."""
    path = tmp_path / "access.db"
    for size in (3, 600, 0):
        async with opened(path) as log:
            for _ in range(size):
                await log.append(event())
    ran = verified(verifier, path)
    assert ran.stderr == ""
    assert ran.stdout.split("\n") == [
        "counterfoil/registry 6", "counterfoil/1 4", "counterfoil/2 601", "counterfoil/3 1", "",
    ]  # fmt: skip
    bundle = Files.at(path).tiles / "2/tile/entries/001"
    data = bytearray(bundle.read_bytes())
    data[20] ^= 1
    bundle.write_bytes(data)
    ran = verified(verifier, path)
    assert ran.returncode == 1
    assert "counterfoil/2, entry 256" in ran.stderr
