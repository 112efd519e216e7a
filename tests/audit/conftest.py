"""Where an access log is: in a file of its own, or in a database of which the file is a copy."""

from __future__ import annotations

import pytest

from tests.audit.records import DATABASES


@pytest.fixture
def file(tmp_path):
    """In a folder that is made, with letters that a URI escapes."""
    return tmp_path / "audit log?" / "access.db"


@pytest.fixture(params=["sqlite", "postgres"])
def path(request, file):
    """The same is asked of both."""
    if request.param == "sqlite":
        yield file
        return
    DATABASES[file] = request.getfixturevalue("postgres").new()
    yield file
    del DATABASES[file]
