"""The forms of a cell as data: their text, the order of preference, and what they give."""

from __future__ import annotations

import decimal
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from tests.reference.conditions import parsed

ORDER = ("clear", "round", "partial", "pseudonym", "encrypt", "constant", "redact")
"""Most preferred first."""
ACCEPTS = {
    "round": ("integer", "decimal"),
    "partial": ("text", "integer", "date"),
}
"""Types that a form takes, where not all."""


@dataclass(frozen=True)
class Form:
    """`Form('round', ('100',))`, `Form('partial', (1, 2, '*'))`, `Form('constant', ('n/a', True))`."""

    name: str
    arguments: tuple[Any, ...] = ()

    def __str__(self) -> str:
        match self.name, self.arguments:
            case "round", (step,):
                return f"round({step})"
            case "partial", (first, last, mask):
                return f"partial(first={first}, last={last}, with={_quoted(mask)})"
            case "pseudonym", (domain, per):
                given = [f"{n}={_quoted(v)}" for n, v in (("domain", domain), ("per", per)) if v]
                return f"pseudonym({', '.join(given)})" if given else "pseudonym"
            case "constant", (text, quoted):
                return f"constant({_quoted(text) if quoted else text})"
            case name, ():
                return name
        raise AssertionError(self)

    def takes(self, type_: str) -> bool:
        return type_ in ACCEPTS.get(self.name, (type_,))

    def gives(self, type_: str) -> str | None:
        """The type of what is given; None where it never is anything."""
        match self.name, self.arguments:
            case "clear", _:
                return type_
            case "round", (step,):
                return "decimal" if "." in step else type_
            case "constant", (text, quoted):
                of_type = parsed(text, type_) is not None
                return type_ if of_type and quoted != (type_ in ("integer", "decimal")) else "text"
            case "redact", _:
                return None
        return "text"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def preference(form: Form, prefer: tuple[str, ...]) -> tuple[Any, ...]:
    """Sorts preferred forms first: by name in the order above, in which the names of `prefer` change
    places among themselves; then finer before coarser.
    """
    order = list(ORDER)
    places = sorted(order.index(name) for name in prefer)
    for place, name in zip(places, prefer, strict=True):
        order[place] = name
    match form.name, form.arguments:
        case "round", (step,):
            fineness: tuple[Any, ...] = (Fraction(step),)
        case "partial", (first, last, mask):
            fineness = (-(first + last), -first, mask)
        case "constant", (text, quoted):
            fineness = (quoted, text)
        case "pseudonym", (domain, per):
            fineness = (domain or "", per or "")
        case _:
            fineness = ()
    return (order.index(form.name), fineness)


def treated(form: Form, text: str | None, type_: str) -> tuple[str, str | None]:
    """What a form makes of the plain text of a cell: (kind, text), where kind is `text`, or stands
    for what only the keys can tell: `pseudonym`, `encrypt`. Text None: no value.
    """
    if form.name == "constant":
        return ("text", form.arguments[0])
    if form.name == "redact" or parsed(text, type_) is None:
        return ("text", None)
    assert text is not None
    match form.name, form.arguments:
        case "round", (step,):
            return ("text", rounded(parsed(text, type_), step))
        case "partial", (first, last, mask):
            if len(text) <= first + last:
                return ("text", mask * 3)
            return ("text", text[:first] + mask * 3 + text[len(text) - last :])
        case "pseudonym" | "encrypt" as kind, _:
            return (kind, text)
    raise AssertionError(form)


def rounded(value: Fraction, step: str) -> str | None:
    """The nearest multiple, ties to the even one, in decimals of 300 digits: exact for ours."""
    with decimal.localcontext(prec=300):
        n = decimal.Decimal(step)
        exact = decimal.Decimal(value.numerator) / decimal.Decimal(value.denominator)
        multiple = (exact / n).to_integral_value(decimal.ROUND_HALF_EVEN) * n
        if abs(multiple) >= 10**36:
            return None
        digits = len(step.partition(".")[2])
        text = f"{multiple:.{digits}f}"
        return text.removeprefix("-") if not multiple else text
