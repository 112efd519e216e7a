"""What git says of a policy folder: the commit whose files they are, and who wrote it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy import worktree
from proxy.worktree import Commit, head_of

CONTENTS = st.dictionaries(
    st.sampled_from(["policy.csv", "reports.yaml", "grants.csv"]),
    st.binary(max_size=30),
    min_size=1,
)


def git(folder: Path, *words: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=Ada \x1b[31mL", "-c", "user.email=ada@example.com", *words],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip


def committed(folder: Path, files: dict[str, bytes]) -> Commit:
    if not (folder / ".git").exists():
        git(folder, "init", "-q")
    below = folder / "policies"
    below.mkdir(exist_ok=True)
    for name, content in files.items():
        (below / name).write_bytes(content)
    git(folder, "add", "-f", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", "x", "--no-gpg-sign")
    commit = head_of(below)
    assert commit is not None
    return commit


@given(files=CONTENTS, now=CONTENTS)
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_a_file_differs_unless_its_bytes_are_the_commit_s(tmp_path_factory, files, now):
    """Every byte counts, a file too many and a file too few count as well, and nothing else does."""
    commit = committed(tmp_path_factory.mktemp("g"), files)
    for name in ("policy.csv", "reports.yaml", "grants.csv"):
        assert commit.differs(name, now.get(name)) == (now.get(name) != files.get(name))


def test_the_author_is_the_last_who_changed_the_folder(tmp_path):
    """A commit elsewhere does not make its author the policy's; no control character is passed on."""
    committed(tmp_path, {"policy.csv": b"p\n"})
    (tmp_path / "other").write_text("x")
    git(tmp_path, "add", "other")
    subprocess.run(
        ["git", "-c", "user.name=Eve", "-c", "user.email=eve@x", "commit", "-q", "-m", "y"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    found = head_of(tmp_path / "policies")
    assert found is not None and found.author == "Ada [31mL <ada@example.com>"


@pytest.mark.parametrize("harm", ["no repository", "no commit", "no git", "hangs"])
def test_where_git_knows_nothing_there_is_no_commit(tmp_path, monkeypatch, harm):
    """No git, no repository, an empty one, and a git that never ends: nothing is known, soon."""
    if harm != "no repository":
        git(tmp_path, "init", "-q")
    if harm in ("no git", "hangs"):
        git(tmp_path, "commit", "-q", "--allow-empty", "-m", "x", "--no-gpg-sign")
        tools = tmp_path / "bin"
        tools.mkdir()
        if harm == "hangs":
            (tools / "git").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
            (tools / "git").chmod(0o755)
        monkeypatch.setenv("PATH", str(tools))
        monkeypatch.setattr(worktree, "SECONDS", 0.2)
    assert head_of(tmp_path) is None


def test_nothing_that_a_repository_configures_is_run(tmp_path):
    """A repository's own hooks and monitors stay unrun."""
    committed(tmp_path, {"policy.csv": b"p\n"})
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    for key in ("core.fsmonitor", "core.pager", "gpg.program", "diff.external", "core.sshCommand"):
        git(tmp_path, "config", key, str(trap))
    git(tmp_path, "config", "log.showSignature", "true")
    assert head_of(tmp_path / "policies") is not None
    assert not (tmp_path / "sprung").exists()
