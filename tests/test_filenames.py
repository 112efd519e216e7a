"""Which file of a policy a misnamed one is meant to be."""

from __future__ import annotations

import pytest

from proxy.filenames import looks_like_one, meant
from proxy.snapshot import FILES, misnamed, read_folder


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("Lockdown.csv", "lockdown.csv"), ("LOCKDOWN.CSV", "lockdown.csv"), ("lockdowns.csv", "lockdown.csv"),
        ("lock-down.csv", "lockdown.csv"), ("lockdwon.csv", "lockdown.csv"), ("lokdown.csv", "lockdown.csv"),
        ("lockdovn.csv", "lockdown.csv"), ("lockdoown.csv", "lockdown.csv"), ("policies.csv", "policy.csv"),
        ("polciy.csv", "policy.csv"), ("grant.csv", "grants.csv"), ("Limits.yml", "limits.yaml"),
        ("tests.yml", "tests.yaml"), ("test.yaml", "tests.yaml"), ("report.yaml", "reports.yaml"),
        ("subject.yml", "subjects.yaml"), ("models.conf", "model.conf"), ("peolpe.csv", "people.csv"),
    ],
)  # fmt: skip
def test_a_slip_is_known_for_the_file_that_is_meant(name, right):
    """Case, plural, the other end of YAML, and letters exchanged, left out or doubled."""
    assert looks_like_one(name)
    assert meant(name, FILES) == right


@pytest.mark.parametrize(
    "name",
    [
        "policy-2025.csv", "policy2.csv", "policy.old.csv", "policyb.csv", "policy copy.csv", "old-policy.csv",
        "people-export.csv", "lockdown1.csv", "texts.yaml", "rests.yaml", "policy.yaml", "people.yaml",
        "lockdown_test.csv", "nginx.conf", "docker-compose.yml", "counterfoil.yaml", "staff.csv", "s.csv",
    ],
)  # fmt: skip
def test_what_a_careful_author_may_keep_is_no_slip(name):
    """Copies with their own names, other words, and what other programs read."""
    assert looks_like_one(name)
    assert meant(name, FILES) == ""


@pytest.mark.parametrize(
    "name",
    [
        ".policy.csv",
        ".policy.csv.swp",
        "policy.csv~",
        "#policy.csv#",
        "policy.csv.bak",
        "jwks.json",
    ],
)
def test_what_editors_leave_looks_like_none(name):
    """Nor do hidden files, and files of other kinds."""
    assert not looks_like_one(name)


def test_a_link_to_a_file_that_is_read_is_that_file(tmp_path):
    """As where names have no case, `Lockdown.csv` is read: it is not misnamed."""
    (tmp_path / "policy.csv").write_text("")
    (tmp_path / "policies.csv").symlink_to("policy.csv")
    assert misnamed(tmp_path) == {}
    (tmp_path / "policies.csv").unlink()
    (tmp_path / "policies.csv").write_text("")
    assert misnamed(tmp_path) == {"policies.csv": "policy.csv"}


def test_a_folder_that_may_not_be_listed_is_read_all_the_same(tmp_path, monkeypatch):
    """What is read is asked for by its name."""

    def refused(self):
        raise PermissionError

    monkeypatch.setattr(type(tmp_path), "iterdir", refused)
    for name in ("model.conf", "policy.csv", "reports.yaml", "subjects.yaml"):
        (tmp_path / name).write_text("")
    assert len(read_folder(tmp_path)) == 4
