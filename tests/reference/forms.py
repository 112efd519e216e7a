"""The forms of a cell as data: their text, the order of preference, and what they give."""

from __future__ import annotations

import decimal
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from typing import Any

from tests.reference.conditions import parsed

DIGITS, CAPITALS, SMALL = "0123456789", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"
SEPARATORS = " !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
ORDER = (
    "clear", "suppress", "round", "bucket", "truncate", "shift", "partial", "tokenise", "pseudonym", "encrypt",
    "constant", "redact",
)  # fmt: skip
"""Most preferred first."""
ACCEPTS = {
    "round": ("integer", "decimal"),
    "bucket": ("integer", "decimal", "date"),
    "truncate": ("date", "datetime"),
    "shift": ("date", "datetime"),
    "partial": ("text", "integer", "date"),
    "tokenise": ("text", "integer"),
}
"""Types that a form takes, where not all."""


@dataclass(frozen=True)
class Form:
    """`Form('round', ('100',))`, `Form('partial', (1, 2, '*'))`, `Form('constant', ('n/a', True))`;
    `Form('bucket', ('0', '100', lower))`, `Form('truncate', ('week',))`, `Form('shift', (30, 'key'))`;
    `Form('suppress', (2, ('region', 'city')))`.
    """

    name: str
    arguments: tuple[Any, ...] = ()

    def __str__(self) -> str:
        match self.name, self.arguments:
            case "suppress", (least, by):
                return f"suppress({least}, by={'|'.join(map(_quoted, by))})"
            case "round", (step,):
                return f"round({step})"
            case "bucket", (*edges, lower):
                written = "|".join(map(_quoted, edges) if self.of_days else edges)
                return f"bucket({written}, as='lower')" if lower else f"bucket({written})"
            case "truncate", (unit,):
                return f"truncate({_quoted(unit)})"
            case "shift", (days, per):
                return f"shift(days={days}, per={_quoted(per)})"
            case "partial", (first, last, mask):
                return f"partial(first={first}, last={last}, with={_quoted(mask)})"
            case "pseudonym", (domain, per):
                given = [f"{n}={_quoted(v)}" for n, v in (("domain", domain), ("per", per)) if v]
                return f"pseudonym({', '.join(given)})" if given else "pseudonym"
            case "tokenise", (alphabet, domain):
                given = [f"alphabet={_quoted(alphabet)}"]
                given += [f"domain={_quoted(domain)}"] if domain else []
                return f"tokenise({', '.join(given)})"
            case "constant", (text, quoted):
                return f"constant({_quoted(text) if quoted else text})"
            case name, ():
                return name
        raise AssertionError(self)

    @property
    def of_days(self) -> bool:
        """Of a bucket: whether its edges are days."""
        return "-" in self.arguments[0][1:]

    def takes(self, type_: str) -> bool:
        if self.name == "bucket" and self.of_days != (type_ == "date"):
            return False
        if self.name == "truncate" and self.arguments[0] in ("day", "hour") and type_ == "date":
            return False
        return type_ in ACCEPTS.get(self.name, (type_,))

    def gives(self, type_: str) -> str | None:
        """The type of what is given; None where it never is anything."""
        match self.name, self.arguments:
            case "clear" | "suppress", _:
                return type_
            case "round", (step,):
                return "decimal" if "." in step else type_
            case "bucket", (*edges, lower):
                of_integers = "decimal" if "." in "".join(edges) else "integer"
                return (of_integers if type_ == "integer" else type_) if lower else "text"
            case (("truncate" | "shift"), _):
                return type_
            case "constant", (text, quoted):
                of_type = parsed(text, type_) is not None
                return type_ if of_type and quoted != (type_ in ("integer", "decimal")) else "text"
            case "tokenise", (alphabet, _) if alphabet in ("pattern", "digits"):
                return type_
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
        case "suppress", how:
            fineness: tuple[Any, ...] = how
        case "round", (step,):
            fineness = (Fraction(step),)
        case "bucket", (*edges, lower):
            fineness = (-len(edges), not lower, *edges)
        case "truncate", (unit,):
            fineness = (("hour", "day", "week", "month", "quarter", "year").index(unit),)
        case "shift", _:
            fineness = form.arguments
        case "partial", (first, last, mask):
            fineness = (-(first + last), -first, mask)
        case "constant", (text, quoted):
            fineness = (quoted, text)
        case "tokenise", (alphabet, domain):
            fineness = (alphabet, domain or "")
        case "pseudonym", (domain, per):
            fineness = (domain or "", per or "")
        case _:
            fineness = ()
    return (order.index(form.name), fineness)


def treated(form: Form, text: str | None, type_: str, *, shown: bool) -> tuple[str, str | None]:
    """What a form makes of the plain text of a cell: (kind, text), where kind is `text`, or stands
    for what only the keys can tell: `tokenise`, `pseudonym`, `encrypt`, `shift`. Text None: no value.
    `shown`: whether the row is in a group that may be given.
    """
    if form.name == "constant":
        return ("text", form.arguments[0])
    if form.name == "redact" or parsed(text, type_) is None:
        return ("text", None)
    assert text is not None
    match form.name, form.arguments:
        case "suppress", _:
            return ("text", text if shown else None)
        case "round", (step,):
            return ("text", rounded(parsed(text, type_), step))
        case "partial", (first, last, mask):
            if len(text) <= first + last:
                return ("text", mask * 3)
            return ("text", text[:first] + mask * 3 + text[len(text) - last :])
        case "tokenise", (alphabet, _):
            text = str(int(text)) if type_ == "integer" else text
            found = places(text, alphabet, first_digit=form.gives(type_) == "integer")
            kept = found is not None and math.prod(map(len, found)) >= 10**6
            return ("tokenise", text) if kept else ("text", None)
        case "bucket", (*edges, lower):
            return ("text", bucketed(parsed(text, type_), edges, type_, lower=lower))
        case "truncate", (unit,):
            return ("text", truncated(text, unit, type_))
        case "pseudonym" | "encrypt" | "shift" as kind, _:
            return (kind, text)
    raise AssertionError(form)


def places(text: str, alphabet: str, *, first_digit: bool) -> list[str] | None:
    """What may stand in each place of a token of the text; None where it has none."""
    kinds = {
        "pattern": (DIGITS, CAPITALS, SMALL),
        "digits": (DIGITS,),
        "upper": (DIGITS + CAPITALS,),
        "lower": (DIGITS + SMALL,),
        "alphanumeric": (DIGITS + CAPITALS + SMALL,),
    }[alphabet]
    found = []
    for character in text:
        kind = next((each for each in kinds if character in each), None)
        if kind is None and (character not in SEPARATORS):
            return None
        if first_digit and not any(map(str.isdigit, found)) and character in DIGITS:
            kind = DIGITS[1:]
        found.append(kind or character)
    return found if len(text) <= 128 else None


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


def bucketed(value: Any, edges: list[str], type_: str, *, lower: bool) -> str | None:
    """The interval that holds the value: one edge after the other is tried."""
    of_edges = "date" if type_ == "date" else "decimal"
    below = [edge for edge in edges if parsed(edge, of_edges) <= value]
    above = [edge for edge in edges if parsed(edge, of_edges) > value]
    if lower:
        return below[-1] if below else None
    if not below:
        return f"<{above[0]}"
    return f"[{below[-1]}, {above[0]})" if above else f">={below[-1]}"


def truncated(text: str, unit: str, type_: str) -> str:
    """The last day, on or before this one, on which such a period begins; counted down day by day."""
    value = parsed(text, type_)
    day = value if type_ == "date" else value.date()
    begins: Callable[[date], bool] = {
        "year": lambda at: (at.month, at.day) == (1, 1),
        "quarter": lambda at: at.month in (1, 4, 7, 10) and at.day == 1,
        "month": lambda at: at.day == 1,
        "week": lambda at: at.isoweekday() == 1,
        "day": bool,
        "hour": bool,
    }[unit]
    while not begins(day):
        day -= timedelta(days=1)
    if type_ == "date":
        return day.isoformat()
    zone = "Z" if re.search(r"(Z|[+-][0-9]{2}:[0-9]{2})$", text[10:]) else ""
    return f"{day.isoformat()}T{value.hour if unit == 'hour' else 0:02}:00:00{zone}"
