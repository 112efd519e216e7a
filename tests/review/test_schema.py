"""`policy schema`: every YAML file has a JSON Schema that says what its type says."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from proxy.cli import main
from proxy.cli.policy.schema import SCHEMAS


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_names_the_members_of_its_type_and_takes_no_others(name):
    """The printed schema has each member of the type, described, and refuses unknown ones."""
    result = CliRunner().invoke(main, ["policy", "schema", name])
    schema = json.loads(result.output)
    root = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    assert set(root["properties"]) == set(SCHEMAS[name].__struct_encode_fields__)
    assert root["additionalProperties"] is False


def test_all_are_written_with_the_line_that_uses_them(tmp_path):
    """One file for each, in a folder that is made, and for each the line that an editor looks for."""
    new = tmp_path / "editor" / "schemas"
    result = CliRunner().invoke(main, ["policy", "schema", "--write", str(new)])
    assert {path.name for path in new.iterdir()} == {f"{n}.schema.json" for n in SCHEMAS}
    for name in SCHEMAS:
        assert f"# yaml-language-server: $schema=./{name}.schema.json" in result.output
    assert CliRunner().invoke(main, ["policy", "schema"]).exit_code == 2


def test_where_nothing_can_be_written_is_told_without_a_traceback(tmp_path):
    """A sentence, and no status of success."""
    (tmp_path / "file").write_text("")
    where = str(tmp_path / "file" / "schemas")
    result = CliRunner().invoke(main, ["policy", "schema", "--write", where])
    assert result.exit_code != 0 and "cannot be written to: Not a directory" in result.output
