"""Where a manifest or a commit is required, a folder that is not whole is never in force."""

from __future__ import annotations

import shutil
import subprocess

from proxy.seal import LOCK, seal
from tests.gateway.reloading import follows, in_force, loads, soon
from tests.harness import sales
from tests.harness.background import Background
from tests.harness.issuer import Issuer
from tests.harness.proxy import Home, running

MORE = "p, user:nora, sales/daily, read, true, allow\np2, user:nora, sales/daily, true, *, clear\n"


def made(folder, settings: str) -> Home:
    return Home(
        folder,
        reports=sales.REPORTS,
        rules=sales.RULES,
        store="http://127.0.0.1:1",
        settings=settings,
    )


def test_a_folder_that_is_copied_by_half_is_not_taken(tmp_path):
    """D34, D35: file by file, in any order, the new version is in force when the last is there, not before."""
    home = made(tmp_path / "a", "policies_must_be: sealed\n")
    seal(home.policies)
    background = Background()
    try:
        with running(home, background) as proxy:
            first = in_force(proxy)
            new = tmp_path / "new"
            shutil.copytree(home.policies, new)
            (new / "policy.csv").write_text(sales.RULES + MORE)
            (new / "reports.yaml").write_text((new / "reports.yaml").read_text() + "# more\n")
            (new / "jwks.json").write_text(Issuer().jwks)
            seal(new)
            names = ["reports.yaml", "policy.csv", LOCK, "jwks.json"]
            for name in names[:-1]:
                shutil.copy(new / name, home.policies / name)
                assert not proxy.reload()
                assert in_force(proxy) == first
                assert loads(proxy)[-1].cause == "not-sealed"
            shutil.copy(new / names[-1], home.policies / names[-1])
            assert follows(proxy) and in_force(proxy) != first
            (home.policies / "lockdown.csv").write_text("p, anyone, sales/*, read, true, deny\n")
            assert follows(proxy)
            assert soon(lambda: proxy.app.policy.refused is None)
    finally:
        background.close()


def test_only_what_is_committed_is_taken(tmp_path):
    """A changed file waits for its commit; what the server writes itself does not."""
    home = made(tmp_path / "a", "policies_must_be: committed\n")

    def git(*words: str) -> None:
        identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
        subprocess.run(
            ["git", *identity, *words], cwd=home.policies, check=True, capture_output=True
        )

    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "x", "--no-gpg-sign")
    background = Background()
    try:
        with running(home, background) as proxy:
            first = in_force(proxy)
            home.write("policy.csv", sales.RULES + MORE)
            assert soon(lambda: loads(proxy)[-1].cause == "not-committed")
            assert loads(proxy)[-1].lines == ("policy.csv",) and in_force(proxy) == first
            git("commit", "-q", "-a", "-m", "y", "--no-gpg-sign")
            assert follows(proxy) and len(loads(proxy)[-1].commit) == 40
            home.write("lockdown.csv", "p, anyone, sales/*, read, true, deny\n")
            assert follows(proxy) and loads(proxy)[-1].commit
            home.write("jwks.json", Issuer().jwks)
            assert soon(lambda: loads(proxy)[-1].lines == ("jwks.json",))
    finally:
        background.close()
