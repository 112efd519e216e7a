"""The manifest of a policy folder: a folder that is not whole is told file by file."""

from __future__ import annotations

import subprocess

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.cli import main
from proxy.seal import LOCK, OWN, seal, unsealed
from proxy.snapshot import read_folder
from tests.harness import sales
from tests.harness.proxy import Home

NAMES = ("model.conf", "policy.csv", "reports.yaml", "subjects.yaml")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = Home(
        tmp_path_factory.mktemp("h") / "home",
        reports=sales.REPORTS,
        rules=sales.RULES,
        store="http://127.0.0.1:1",
    )
    seal(home.policies)
    return home


@given(changed=st.sets(st.sampled_from(NAMES)), more=st.binary(min_size=1, max_size=9))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_exactly_the_files_that_are_not_as_sealed_are_told(home, changed, more):
    """Whatever is changed, each changed file is a fault and no other one is."""
    files = read_folder(home.policies)
    found = unsealed(home.policies, {n: c + more if n in changed else c for n, c in files.items()})
    assert {fault.file for fault in found} == changed
    found = unsealed(home.policies, {n: c for n, c in files.items() if n not in changed})
    assert {fault.file for fault in found} == changed
    assert [f.file for f in unsealed(home.policies, files | {"people.csv": more})] == ["people.csv"]
    assert unsealed(home.policies, files | dict.fromkeys(OWN, more)) == []


def test_a_sealed_file_that_is_cut_off_anywhere_is_told(home):
    """D34: no part of a sealed file is taken for all of it, wherever it ends; a lost deny is noticed."""
    files = read_folder(home.policies)
    for name, content in files.items():
        for end in range(0, len(content), 5):
            found = unsealed(home.policies, {**files, name: content[:end]})
            assert [fault.file for fault in found] == [name]


def test_the_manifest_is_what_sha256sum_checks(home):
    """Anybody can hold the folder against it, with a tool that everybody has."""
    done = subprocess.run(
        ["sha256sum", "-c", "--strict", LOCK], cwd=home.policies, check=True, capture_output=True
    )
    assert done.stdout.decode().split() == [
        "jwks.json:",
        "OK",
        "model.conf:",
        "OK",
        "policy.csv:",
        "OK",
        "reports.yaml:",
        "OK",
        "subjects.yaml:",
        "OK",
    ]


@pytest.mark.parametrize(
    "text", ["", "x\n", "0" * 64 + "  policy.csv", "é\n", "0" * 63 + "  policy.csv\n"]
)
def test_a_manifest_that_is_none_seals_nothing(home, tmp_path, text):
    """A manifest that is cut off or no manifest is a fault of its own."""
    (tmp_path / LOCK).write_text(text)
    assert {fault.file for fault in unsealed(tmp_path, read_folder(home.policies))} == {LOCK}
    (tmp_path / LOCK).unlink()
    (fault,) = unsealed(tmp_path, read_folder(home.policies))
    assert "no such file" in fault.message and "policy seal" in fault.hint


def test_the_verb_writes_it(home, tmp_path):
    """`counterfoil policy seal DIR` makes the manifest anew, and says what it lists."""
    (home.policies / LOCK).unlink()
    result = CliRunner().invoke(main, ["policy", "seal", str(home.policies)])
    assert result.exit_code == 0 and "policy.csv" in result.output
    assert unsealed(home.policies, read_folder(home.policies)) == []
    result = CliRunner().invoke(main, ["policy", "seal", str(tmp_path)])
    assert result.exit_code == 2 and "Traceback" not in result.output
