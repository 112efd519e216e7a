"""Each attack has a test that says so."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.threats import LINES

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
    """A, B, C, E and G: every line is held by a test, and no test names a line that there is not."""
    assert marked() <= LINES.keys()
    assert {line for line in LINES if line[0] in "ABCEG"} <= marked()
