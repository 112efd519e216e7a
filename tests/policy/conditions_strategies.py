"""Random well-typed conditions, and random rows and contexts for them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from functools import cache

import polars as pl
from hypothesis import strategies as st

from proxy.batch import PLAIN, Batch
from proxy.plan import Context
from proxy.policy.conditions import Scope
from proxy.policy.conditions.tree import (
    And,
    Arithmetic,
    Call,
    Comparison,
    Constant,
    Items,
    Membership,
    Name,
    Negation,
    Not,
    Number,
    Or,
    Text,
)
from proxy.subject import AttributeType
from proxy.values import Type

FIELDS = {
    "city": Type.TEXT,
    "Store's Name": Type.TEXT,
    "units": Type.INTEGER,
    "returned": Type.INTEGER,
    "sales": Type.DECIMAL,
    "margin": Type.DECIMAL,
    "open": Type.BOOLEAN,
    "day": Type.DATE,
    "due": Type.DATE,
    "at": Type.DATETIME,
    "until": Type.DATETIME,
}
ELSEWHERE = {"region": Type.TEXT, "weight": Type.DECIMAL, "born": Type.DATE, "sold": Type.BOOLEAN}
ATTRIBUTES = {
    f"{type_}{'s' if many else ''}": AttributeType(type=type_, many=many)
    for type_ in Type
    for many in (False, True)
}
ROWS = Scope(fields=FIELDS, elsewhere=ELSEWHERE, attributes=ATTRIBUTES)
WHEN = Scope(fields=None, elsewhere={}, attributes=ATTRIBUTES)

MIDNIGHT = datetime(2024, 2, 29, tzinfo=UTC)
TICK = timedelta(microseconds=1)

# ---------------------------------------------------------------- texts of cells

_WORDS = (
    "",
    " ",
    "a",
    "A",
    "b",
    "ab",
    "Ab",
    "'",
    "it's",
    "é",
    "e\u0301",
    "ẞ",
    "İ",
    "\U0001f600",
    "\uffff",
    "\n",
    "~",
)
_NUMBERS = (
    "0", "-0", "+0", "1", "01", "+1", "1.0", "1.5", "-1.5", "2", "3", "10", "1e1", "1E-1", "0.1", ".5", "5.", " 1",
    "1_0", "NaN", "inf", "-", "", "n/a", "١", "999999999999999999", "1000000000000000000", "-1000000000000000000",
    "99999999999999999.999999999999999999", "100000000000000000.5", "0.000000000000000000000001",
    "0.0000000000000000001", "9" * 36, "9" * 37, "1e35", "1e36", "1e-36", "1e-37", "3" * 20, "1\n",
)  # fmt: skip
_DAYS = (
    "2024-02-28", "2024-02-29", "2024-03-01", "2023-02-29", "1900-02-29", "2000-02-29", "0000-02-29", "0000-01-01",
    "0001-01-01", "9999-12-31", "2024-2-29", "+024-02-29", "2024-02-29 ", "2024-02-29\n", "20240229", "2024-13-01",
    "2024-04-31", "", "today", "２０２４-02-29",
)  # fmt: skip
_TIMES = (
    "2024-02-28T23:59:59Z", "2024-02-28 23:59:59", "2024-02-29T00:00", "2024-02-29T00:00:00", "2024-02-29T00:00:00Z",
    "2024-02-29T00:00:00.000001", "2024-02-29T00:00:00.5Z", "2024-02-29T01:00:00+01:00", "2024-02-28T23:00:00-01:00",
    "2024-02-29T24:00:00", "2024-02-29T23:59:60", "2024-02-29t00:00:00", "2024-02-30T00:00:00", "2024-02-29T00:00:00z",
    "2024-02-29", "9999-12-31T23:59:59", "9999-12-31T23:59:59.999999", "0001-01-01T00:00:00",
    "0001-01-01T00:00:00+01:00", "0000-01-01T00:00:00", "", "never", "2024-03-01 00:00:00Z\n",
)  # fmt: skip
_POOLS = {
    Type.TEXT: _WORDS,
    Type.INTEGER: _NUMBERS,
    Type.DECIMAL: _NUMBERS,
    Type.BOOLEAN: ("true", "false", "True", "TRUE", "1", "", "true ", "yes"),
    Type.DATE: _DAYS,
    Type.DATETIME: _TIMES,
}
_CHARACTERS = st.characters(exclude_categories=["Cs"])


def _written(type_):
    """Texts that are values of the type, most of them in the plainest form."""
    match type_:
        case Type.TEXT:
            return st.text(_CHARACTERS, max_size=6)
        case Type.INTEGER:
            return st.integers(-(10**19), 10**19).map(str)
        case Type.DECIMAL:
            return st.from_regex(
                r"[+-]?[0-9]{1,19}(\.[0-9]{1,19})?", fullmatch=True, alphabet="+-.0123456789"
            )
        case Type.BOOLEAN:
            return st.sampled_from(("true", "false"))
        case Type.DATE:
            return st.dates().map(date.isoformat)
        case Type.DATETIME:
            return st.datetimes().map(lambda at: at.isoformat(sep="T", timespec="seconds"))


@cache
def cells(type_):
    """Cells of a column that is declared with `type_`, and need not keep to it."""
    any_text = st.sampled_from(_POOLS[type_])
    return st.one_of(
        st.none(), any_text, any_text, _written(type_), st.text(_CHARACTERS, max_size=4)
    )


def all_texts(type_):
    """Every text that was thought of for a type."""
    return _POOLS[type_]


def row_lists(fields=tuple(FIELDS), max_size=6):
    """Rows as lists of tuples, in the order of `fields`."""
    return st.lists(
        st.tuples(*(cells(FIELDS[name]) for name in fields)), min_size=1, max_size=max_size
    )


def batch(rows, fields=tuple(FIELDS)):
    """A batch of rows."""
    columns = {
        name: pl.Series(name, [row[i] for row in rows], dtype=pl.String)
        for i, name in enumerate(fields)
    }
    return Batch(columns, height=len(rows), lexis=PLAIN, types=FIELDS)


# ---------------------------------------------------------------- contexts

INSTANTS = st.one_of(
    st.builds(
        lambda days, ticks: MIDNIGHT + timedelta(days=days) + ticks * TICK,
        st.integers(-3, 3),
        st.integers(-2, 2),
    ),
    st.datetimes(timezones=st.just(UTC)),
)
_VALUES = {
    Type.TEXT: st.one_of(st.sampled_from(_WORDS), st.text(_CHARACTERS, max_size=4)),
    Type.INTEGER: st.one_of(
        st.integers(-3, 12), st.integers(), st.sampled_from((10**18, 10**36, -(10**72)))
    ),
    Type.DECIMAL: st.one_of(
        st.integers(-3, 12),
        st.fractions(min_value=-5, max_value=5, max_denominator=12),
        st.sampled_from(
            (Fraction(1, 10**20), Fraction(10**40, 3), Fraction(10**17, 10), Fraction(1, 10**36))
        ),
    ),
    Type.BOOLEAN: st.booleans(),
    Type.DATE: st.one_of(st.dates(date(2024, 2, 27), date(2024, 3, 2)), st.dates()),
    Type.DATETIME: INSTANTS,
}
_WRONG = st.sampled_from(
    (
        True,
        1,
        1.0,
        float("nan"),
        "1",
        "\ud800",
        None,
        date(2024, 2, 29),
        MIDNIGHT.replace(tzinfo=None),
        MIDNIGHT,
        (),
        ["a"],
        b"a",
    )
)


def values(type_):
    """Values of a type, as an attribute holds them."""
    return _VALUES[type_]


_MISSING = object()


def _attribute(declared):
    """Mostly what was declared; now and then something else, or nothing."""
    right, wrong = _VALUES[declared.type], _WRONG
    if declared.many:
        right = st.lists(right, max_size=4).map(tuple)
        wrong = st.one_of(st.lists(_WRONG, max_size=2).map(tuple), _WRONG)
    return st.integers(0, 9).flatmap(
        lambda n: right if n < 8 else wrong if n < 9 else st.just(_MISSING)
    )


_HELD = st.fixed_dictionaries(
    {name: _attribute(declared) for name, declared in ATTRIBUTES.items()}
).map(lambda held: {name: value for name, value in held.items() if value is not _MISSING})


ADDRESSES = st.sampled_from(
    ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1", "11.0.0.1", "", "10.1.2", "010.1.2.3", "\ud800")
)
_TEXTS = st.sampled_from(("", "a", "audit", "ab", "\ud800"))
CONTEXTS = st.builds(
    lambda attributes, now, ip, texts: Context(
        attributes=attributes,
        now=now,
        date=now.date(),
        ip=ip,
        purpose=texts[0],
        tool=texts[1],
        action=texts[2],
        method=texts[3],
    ),
    _HELD,
    INSTANTS,
    ADDRESSES,
    st.tuples(_TEXTS, _TEXTS, _TEXTS, _TEXTS),
)

_NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
CONTEXT = Context(
    attributes={"texts": ("42", "77"), "text": "north", "integer": 3},
    now=_NOON,
    date=_NOON.date(),
    ip="10.1.2.3",
    purpose="audit",
    tool="",
    action="read",
    method="GET",
)
"""One context, for examples."""

# ---------------------------------------------------------------- trees


class Trees:
    """Well-typed trees over one scope, of bounded depth."""

    def __init__(self, scope):
        self.scope = scope
        self.made = {}

    def of(self, kind, depth):
        """Trees that give `kind`: a type of fields (decimal for all numbers), or `days`."""
        if (kind, depth) not in self.made:
            leaves = self.leaves(kind)
            deeper = getattr(self, kind)(depth - 1) if depth else []
            self.made[kind, depth] = st.one_of(*leaves, *deeper)
        return self.made[kind, depth]

    def conditions(self, depth=3):
        return self.of("boolean", depth)

    def names(self, kind):
        kinds = {Type.INTEGER: "decimal"}
        of_row = self.scope.fields or {}
        found = [
            Name("row", name) for name, type_ in of_row.items() if kinds.get(type_, type_) == kind
        ] * 3
        found += [
            Name("row", name) for name, type_ in self.scope.elsewhere.items() if type_ == kind
        ]
        found += [
            Name("sub", name)
            for name, declared in self.scope.attributes.items()
            if not declared.many and kinds.get(declared.type, declared.type) == kind
        ]
        environment = {
            "text": ("ip", "purpose", "tool", "action", "method"),
            "date": ("date",),
            "datetime": ("now",),
        }
        found += [Name("env", name) for name in environment.get(kind, ())]
        return st.sampled_from(found)

    def leaves(self, kind):
        match kind:
            case "text":
                literal = st.one_of(
                    st.sampled_from([w for w in _WORDS if w != "\n"]), st.text("ab'é", max_size=3)
                )
                return [literal.map(Text), self.names(kind), self.names(kind)]
            case "decimal":
                numbers = st.one_of(
                    st.integers(0, 12),
                    st.sampled_from(
                        (Fraction(1, 2), Fraction(1, 10**36), 10**18, 10**36 - 1, Fraction(3, 10))
                    ),
                )
                return [numbers.map(Number), self.names(kind), self.names(kind)]
            case "boolean":
                return [st.booleans().map(Constant), self.names(kind)]
            case "date":
                literal = st.dates(date(2024, 2, 27), date(2024, 3, 2)).map(date.isoformat)
                return [literal.map(lambda text: Call("date", (Text(text),))), self.names(kind)]
            case "datetime":
                literal = st.one_of(INSTANTS.map(datetime.isoformat), st.just("2024-02-29T00:00"))
                return [
                    literal.map(lambda text: Call("time", (Text(text),))),
                    self.names(kind),
                    self.names(kind),
                ]
            case "days":
                counts = st.one_of(st.integers(0, 3), st.sampled_from((3_000_000, 10**9, 10**30)))
                return [counts.map(lambda count: Call("days", (Number(count),)))]
        raise AssertionError(kind)

    def text(self, depth):
        inner = self.of("text", depth)
        return [st.builds(lambda f, a: Call(f, (a,)), st.sampled_from(("lower", "upper")), inner)]

    def decimal(self, depth):
        inner, day = self.of("decimal", depth), self.of("date", depth)
        return [
            inner.map(Negation),
            st.builds(Arithmetic, st.sampled_from("+-*/"), inner, inner),
            st.builds(Arithmetic, st.just("-"), day, day),
            self.of("text", depth).map(lambda a: Call("length", (a,))),
        ]

    def days(self, depth):
        return [self.of("decimal", depth).map(lambda a: Call("days", (a,))).filter(_whole)]

    def date(self, depth):
        return [
            st.builds(
                Arithmetic, st.sampled_from("+-"), self.of("date", depth), self.of("days", depth)
            )
        ]

    def datetime(self, depth):
        return [
            st.builds(
                Arithmetic,
                st.sampled_from("+-"),
                self.of("datetime", depth),
                self.of("days", depth),
            )
        ]

    def boolean(self, depth):
        inner, text = self.of("boolean", depth), self.of("text", depth)
        terms = st.lists(inner, min_size=2, max_size=3)
        kinds = ("text", "decimal", "date", "datetime")
        networks = st.sampled_from(("10.0.0.0/8", "10.1.2.3", "0.0.0.0/0", "2001:db8::/32", "::/0"))
        compared = [
            st.builds(
                Comparison,
                st.sampled_from(("==", "!=", "<", "<=", ">", ">=")),
                self.of(k, depth),
                self.of(k, depth),
            )
            for k in kinds
        ]
        among = [self.membership(k, depth) for k in (*kinds, "boolean")]
        return [
            inner.map(Not),
            terms.map(lambda t: joined(And, t)),
            terms.map(lambda t: joined(Or, t)),
            *compared,
            *among,
            st.builds(Comparison, st.sampled_from(("==", "!=")), inner, inner),
            st.builds(
                lambda f, a, b: Call(f, (a, b)),
                st.sampled_from(("starts", "ends", "contains")),
                text,
                text,
            ),
            st.builds(
                lambda a, n: Call("ip_in", (a, Text(n))),
                st.one_of(st.just(Name("env", "ip")), text),
                networks,
            ),
            st.one_of(*(self.of(k, depth) for k in kinds), inner, self.lists()).map(
                lambda a: Call("present", (a,))
            ),
        ]

    def lists(self):
        return st.sampled_from(
            [Name("sub", n) for n, declared in self.scope.attributes.items() if declared.many]
        )

    def membership(self, kind, depth):
        types = {"decimal": ("integers", "decimals")}.get(kind, (f"{kind}s",))
        items = st.lists(self.of(kind, depth), min_size=1, max_size=3).map(
            lambda i: Items(tuple(i))
        )
        listed = st.sampled_from([Name("sub", name) for name in types])
        return st.builds(Membership, self.of(kind, depth), st.one_of(items, listed), st.booleans())


def _whole(call):
    """A constant that is no whole number of days is a fault, not a condition."""
    return not isinstance(call.arguments[0], Number) or call.arguments[0].value.denominator == 1


def joined(kind, terms):
    """`and` and `or` are flat, as the parser makes them."""
    return kind(
        tuple(
            inner for term in terms for inner in (term.terms if isinstance(term, kind) else (term,))
        )
    )


OF_ROWS = Trees(ROWS)
OF_WHEN = Trees(WHEN)


def _clocked():
    """Conditions without a row in which some comparison reads the clock."""
    moments, days = OF_WHEN.of("datetime", 2), OF_WHEN.of("date", 2)
    relations = st.sampled_from(("==", "!=", "<", "<=", ">", ">="))
    moved = st.builds(
        Arithmetic, st.sampled_from("+-"), st.just(Name("env", "now")), OF_WHEN.of("days", 2)
    )
    now = st.one_of(st.just(Name("env", "now")), moved)
    read = st.one_of(
        st.builds(Comparison, relations, now, moments),
        st.builds(Comparison, relations, moments, now),
        st.builds(Comparison, relations, st.just(Name("env", "date")), days),
        st.builds(Membership, now, st.just(Name("sub", "datetimes")), st.booleans()),
        st.builds(
            Membership,
            moments,
            st.lists(now, min_size=1, max_size=2).map(lambda i: Items(tuple(i))),
            st.booleans(),
        ),
        moved.map(lambda a: Call("present", (a,))),
    )
    mixed = st.builds(
        joined,
        st.sampled_from((And, Or)),
        st.tuples(read, OF_WHEN.conditions(2), read),
    )
    return st.one_of(read, read.map(Not), mixed)


CLOCKED = _clocked()
