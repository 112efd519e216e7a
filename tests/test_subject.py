"""Who asks: what a subject can be, and what it cannot."""

from __future__ import annotations

import pytest

from proxy.subject import Subject


def test_a_subject_without_attributes_has_none():
    """Attributes may be left out; what stands for none cannot be written to."""
    subject = Subject(user="user:alice", expires=0.0)
    assert dict(subject.attributes) == {}
    with pytest.raises(TypeError):
        subject.attributes["stores"] = ("2191",)


@pytest.mark.parametrize(
    "names",
    [
        {"user": None},
        {"user": "role:analyst"},
        {"user": "alice"},
        {"user": None, "tool": "user:alice"},
        {"user": "user:alice", "groups": ("role:analyst",)},
    ],
)
def test_a_subject_names_typed_principals_and_never_a_role(names):
    """A subject that is nobody, or whose names are of another kind, cannot be made."""
    with pytest.raises(ValueError, match=r"subject is|starts with"):
        Subject(expires=0.0, **names)
