"""Texts that a spreadsheet takes for formulas (CWE-1236), and the `'` that makes it take them for texts.

They begin with `=`, `+`, `-` or `@`, full-width ones too, or with a tab or a line end, after which some
spreadsheets look on. A number in a column of numbers is none.
"""

from __future__ import annotations

import re
from typing import Final

from proxy.values import Type

FORMULA: Final = "^[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
NUMBER: Final = r"^[+-][0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$"
_BEGINS: Final = re.compile(FORMULA)
_IS_NUMBER: Final = re.compile(NUMBER.replace("$", r"\Z"))


def neutral(text: str, type_: Type) -> str:
    """The text as a spreadsheet takes it for one."""
    if not _BEGINS.match(text) or (type_.is_number and _IS_NUMBER.match(text)):
        return text
    return f"'{text}"
