"""How a checkout starts: locks, the Makefile, the script that checks what lands."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "locks").glob("*.txt"))
REQUIREMENT = re.compile(
    r"([a-z0-9][a-z0-9-]*)==(\S+)(?: ; python_\S+ < \S+)?((?: --hash=sha256:[0-9a-f]{64})+)"
)


def requirements(lock: Path) -> dict[str, str]:
    """The pinned versions; fails where a line is anything but a pin with its hashes."""
    text = lock.read_text("ascii").replace("\\\n", " ")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    found = [REQUIREMENT.fullmatch(line) for line in lines]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if not match]
    return {match[1]: match[2] for match in found}


def test_there_are_locks():
    """The proxy, its development, its build and the peers each have a lock."""
    assert [lock.stem for lock in LOCKS] == ["build", "dev", "peers", "runtime"]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_locks_hold_pins_with_hashes_and_no_address(lock):
    """Every line is a pinned version with hashes; no registry, no option, no place of a machine."""
    assert requirements(lock)
    assert "://" not in lock.read_text()


def test_locks_agree_and_hold_what_the_project_asks_for():
    """Tests run with the very versions that are deployed, and no direct dependency is missing."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    runtime, dev = (requirements(ROOT / "locks" / f"{name}.txt") for name in ("runtime", "dev"))
    assert runtime.items() <= dev.items()
    wanted = (
        (runtime, project["project"]["dependencies"]),
        (dev, project["project"]["optional-dependencies"]["dev"]),
        (requirements(ROOT / "locks" / "build.txt"), project["build-system"]["requires"]),
    )
    for lock, asked in wanted:
        names = {re.match(r"[\w.-]+", line)[0].lower().replace(".", "-") for line in asked}
        assert names <= lock.keys()


@pytest.mark.parametrize(
    "target",
    ["setup", "run", "test", "prove", "bench", "lint", "format", "peers", "lock", "clean", "help"],
)
def test_make_knows_its_targets(target):
    """Each documented target exists, and what it would do can be shown without doing it."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    shown = subprocess.run(
        [make, "--dry-run", "--always-make", target],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr


@pytest.mark.parametrize("script", [".ci/run"])
def test_scripts_are_executable_and_parse(script):
    """The script can be run as it is, and its shell finds no fault in it."""
    assert (ROOT / script).stat().st_mode & 0o111
    subprocess.run(["bash", "-n", script], cwd=ROOT, check=True)


def test_secrets_and_what_is_made_are_never_committed():
    """Git ignores what the demo and the virtual environments put into a checkout."""
    for path in (".demo/kek", "certs/dev/server.key", ".venv/x", ".venv-peers/x"):
        ignored = subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT, check=False)
        assert ignored.returncode == 0, path
