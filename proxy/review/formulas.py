"""Formulas of z3, and formulas of formulas: all of them, some, none."""

from __future__ import annotations

from typing import Any, Final

import z3

Formula = Any
"""A Boolean expression of z3, which ships no types."""

TRUE: Final[Formula] = z3.BoolVal(val=True)
FALSE: Final[Formula] = z3.BoolVal(val=False)


def every(*formulas: Formula) -> Formula:
    """All of them."""
    return z3.And(*formulas) if formulas else TRUE


def some(*formulas: Formula) -> Formula:
    """One of them at least."""
    return z3.Or(*formulas) if formulas else FALSE


def no(*formulas: Formula) -> Formula:
    """None of them."""
    return z3.Not(some(*formulas))


def one_at_most(*formulas: Formula) -> Formula:
    """No two of them."""
    return z3.AtMost(*formulas, 1) if len(formulas) > 1 else TRUE
