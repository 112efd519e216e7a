"""The kept versions of the policy: what was kept is what is given back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import CounterfoilError
from proxy.policy.rules import MODEL
from proxy.snapshot import load_snapshot, snapshot_of, version_of
from proxy.versions import NoSuchVersion, Versions
from tests.harness import sales
from tests.harness.proxy import Home

NAMES = ("model.conf", "policy.csv", "reports.yaml", "subjects.yaml", "grants.csv")
FOLDERS = st.lists(st.dictionaries(st.sampled_from(NAMES), st.binary(max_size=20)), max_size=5)


@given(folders=FOLDERS)
def test_each_version_is_given_back_to_the_byte(tmp_path_factory, folders):
    """Whatever was kept is found by its whole hash, and by what of it tells it from the others."""
    versions = Versions.beside(tmp_path_factory.mktemp("v") / "access.db")
    for files in folders:
        versions.keep(version_of(files), files)
        versions.keep(version_of(files), files)
    assert set(versions.all()) == {version_of(files) for files in folders}
    for files in folders:
        version = version_of(files)
        assert versions.files(version) == files
        alike = [v for v in versions.all() if v[:4] == version[:4]]
        if len(alike) == 1:
            assert versions.find(version[:4]) == version


@pytest.mark.parametrize("name", ["", "abc", "../etc", "0000", "f" * 65, "DEAD", "g" * 8])
def test_a_version_that_is_not_kept_is_named(tmp_path, name):
    """No text but the beginning of a kept hash leads to a file."""
    versions = Versions(tmp_path / "v")
    assert versions.all() == ()
    with pytest.raises(NoSuchVersion):
        versions.files(name)


def test_two_versions_that_begin_alike_are_told_apart(tmp_path):
    """A beginning that fits more than one version is refused."""
    versions = Versions(tmp_path)
    for digit in "12":
        (tmp_path / ("abcd" + digit * 60)).mkdir()
    with pytest.raises(NoSuchVersion, match="2 versions"):
        versions.find("abcd")
    assert versions.find("abcd1") == "abcd" + "1" * 60


@pytest.mark.parametrize("harm", ["changed", "gone", "added"])
def test_a_version_that_was_changed_is_not_given(tmp_path, harm):
    """What is read back is held against the hash."""
    versions = Versions(tmp_path)
    files = {"policy.csv": b"p\n", "model.conf": b"m\n"}
    version = version_of(files)
    versions.keep(version, files)
    match harm:
        case "changed":
            (tmp_path / version / "policy.csv").write_bytes(b"q\n")
        case "gone":
            (tmp_path / version / "policy.csv").unlink()
        case "added":
            (tmp_path / version / "grants.csv").write_bytes(b"")
    with pytest.raises(CounterfoilError, match="not what was kept"):
        versions.files(version)


def test_a_kept_version_decides_without_keys_and_credentials(tmp_path):
    """From files in memory comes the snapshot of that version, with no folder to look into."""
    home = Home(
        tmp_path / "home", reports=sales.REPORTS, rules=sales.RULES, store="http://127.0.0.1:1"
    )
    home.write("store-token", "s3cret")
    text = (home.policies / "reports.yaml").read_text()
    home.write(
        "reports.yaml",
        text.replace("loopback: true", "loopback: true, credential: 'file:store-token'"),
    )
    live = load_snapshot(home.policies, {})
    files = {name: (home.policies / name).read_bytes() for name in NAMES[:-1]}
    assert files["model.conf"].decode() == MODEL
    kept = snapshot_of(files)
    assert kept.version == live.version == version_of(files)
    assert kept.catalogue.reports.keys() == live.catalogue.reports.keys()
    assert live.catalogue.files == {"store-token"} and live.identities.files.keys() == {"jwks.json"}
    assert all(store.credential is None for store in kept.catalogue.stores.values())
    assert kept.identities.files == {}
