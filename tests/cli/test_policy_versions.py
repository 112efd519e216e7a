"""`counterfoil policy show` and `policy status`, as an admin types them, beside a running server."""

from __future__ import annotations

import json
import time

import pytest
from click.testing import CliRunner

from proxy.cli import main
from proxy.snapshot import read_folder
from tests.harness import sales
from tests.harness.proxy import stage


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    """Three versions were in force, the first one twice; then a faulty one was refused."""
    with stage(tmp_path_factory.mktemp("w"), reports=sales.REPORTS, rules=sales.RULES) as (
        _,
        proxy,
    ):
        first = proxy.app.policy.snapshot.version
        versions = [first]
        for more in ("# 2\n", "", "# 3 é\n"):
            proxy.home.write("policy.csv", sales.RULES + more)
            assert proxy.reload()
            versions.append(proxy.app.policy.snapshot.version)
        proxy.versions = versions
        yield proxy


def run(proxy, *words: str) -> tuple[int, str]:
    settings = str(proxy.home.settings)
    result = CliRunner().invoke(main, ["policy", *words, "-c", settings], catch_exceptions=False)
    return result.exit_code, result.output


def test_the_versions_are_listed_with_their_times(proxy):
    """Each time that a version was in force is a line, oldest first, and ends when the next begins."""
    status, output = run(proxy, "show", "--json")
    lines = [json.loads(line) for line in output.splitlines()]
    assert status == 0 and [line["version"] for line in lines] == proxy.versions
    assert [line["until"] for line in lines] == [*(line["since"] for line in lines[1:]), ""]
    status, output = run(proxy, "show")
    assert [line.split()[0] for line in output.splitlines()[1:]] == [v[:12] for v in proxy.versions]


def test_a_version_is_shown_to_the_byte(proxy):
    """Any beginning that fits one version alone gives its files as they were."""
    files = read_folder(proxy.home.policies)
    for name in ("current", proxy.versions[-1], proxy.versions[-1][:8]):
        assert run(proxy, "show", name, "--file", "policy.csv") == (0, files["policy.csv"].decode())
    status, output = run(proxy, "show", "current", "--json")
    assert status == 0
    assert json.loads(output)["files"] == {name: data.decode() for name, data in files.items()}
    status, output = run(proxy, "show", "current")
    assert all(name in output and data.decode() in output for name, data in files.items())


@pytest.mark.parametrize("words", [("0000",), ("x",), ("current", "--file", "other.csv")])
def test_what_is_not_kept_is_said(proxy, words):
    """No traceback: one line that says what there is not, and status 1."""
    status, output = run(proxy, "show", *words)
    assert status == 1 and output.startswith("counterfoil: ") and output.count("\n") == 1


def test_status_says_why_the_folder_s_policy_is_not_in_force(proxy):
    """In force: 0. Refused: 1, with the place of the first fault."""
    status, output = run(proxy, "status")
    assert status == 0 and proxy.versions[-1] in output
    good = (proxy.home.policies / "policy.csv").read_text()
    proxy.home.write("policy.csv", good + "nonsense\n")
    assert not proxy.reload()
    line = good.count("\n") + 1
    status, output = run(proxy, "status")
    assert status == 1 and f"faults: 1, the first at policy.csv:{line}" in output
    status, output = run(proxy, "status", "--json")
    said = json.loads(output)
    assert status == 1 and said["stale"] and said["in_force"]["version"] == proxy.versions[-1]
    assert said["refused"]["cause"] == "faulty"
    proxy.home.write("policy.csv", good)
    time.sleep(0.01)
    assert proxy.reload()
    assert run(proxy, "status")[0] == 0


def test_the_log_shows_what_became_of_a_policy(proxy):
    """`log tail` and `log query` show loads and refusals beside the accesses."""
    result = CliRunner().invoke(main, ["log", "tail", "-c", str(proxy.home.settings)])
    one, two = proxy.versions[:2]
    assert f"policy {two[:12]} after {one[:12]}" in result.output
    words = ["log", "query", "-c", str(proxy.home.settings), "--outcome", "policy-loaded"]
    result = CliRunner().invoke(main, words)
    loads = [event for event in proxy.events() if event.step == "policy-loaded"]
    assert result.output.count("policy-loaded") == len(loads) >= len(proxy.versions)
