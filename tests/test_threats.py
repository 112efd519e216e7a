"""Each attack has a test that says so."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.threats import LINES, main, wrong

HERE = Path(__file__).parent


def marked() -> set[str]:
    """The lines that the source of some test names in `pytest.mark.threat(…)`."""
    return {
        argument.value
        for path in HERE.rglob("test_*.py")
        if "mark.threat(" in (text := path.read_text("utf-8"))
        for call in ast.walk(ast.parse(text))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "threat"
        for argument in call.args
        if isinstance(argument, ast.Constant)
    }


def test_no_attack_is_without_a_test():
    """A, B, C, E, G and H: every line is held by a test, and no test names a line that there is not."""
    assert {line[0] for line in LINES} == set("ABCEGH")
    assert wrong(dict.fromkeys(marked(), 1)) == []


@pytest.mark.parametrize(
    ("marks", "status", "said"),
    [
        (LINES.keys(), 0, None),
        (LINES.keys() - {"H65"}, 1, f"H65 is held by no test: {LINES['H65']}"),
        (LINES.keys() | {"Z1"}, 1, "Z1 is named by a test, and is no line"),
    ],
)
def test_a_line_without_a_test_fails_make_threats_and_is_named(
    monkeypatch, capsys, marks, status, said
):
    """`make threats` exits with 1 where a line has no test, or a test no line, and says which."""

    def collect(_, plugins):
        plugins[0].found.update(marks)
        return pytest.ExitCode.OK

    monkeypatch.setattr(pytest, "main", collect)
    assert main() == status
    assert said is None or said in capsys.readouterr().out.splitlines()
