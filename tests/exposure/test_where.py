"""A condition over what is kept of rows never says that a row is not one of those asked for when it is."""

from __future__ import annotations

import itertools
import operator
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.batch import PLAIN, Batch
from proxy.evidence.reading import read
from proxy.evidence.witness import Shapes, Witness
from proxy.exposure.where import FALSE, TRUE, UNKNOWN, Where
from proxy.few import Few
from proxy.keys import Keyring
from proxy.policy.conditions import BadCondition
from proxy.report import Field, Report, Store
from proxy.values import Type
from tests.reference.conditions import parsed

KEYRING = Keyring.generate()
TYPES = {"a": Type.TEXT, "b": Type.TEXT, "n": Type.DECIMAL, "m": Type.INTEGER}
CLASSES = {"a": "public", "b": "personal", "n": "confidential", "m": "internal"}
REPORT = Report(
    id="r",
    title="r",
    store=Store(name="s", url="http://s"),
    fields={f: Field(name=f, type=t, class_=CLASSES[f]) for f, t in TYPES.items()},
    variants=(),
    parameters={},
    found_by=tuple(TYPES),
)
TEXTS, NUMBERS = ("x", "y", "it''s"), ("1", "2.5", "1.0", "-3")


def noted(rows):
    columns = {f: Few([row[f] for row in rows]) for f in TYPES}
    batch = Batch(columns, height=len(rows), lexis=PLAIN, types=TYPES, few=True)
    (found,) = read(Witness.of(REPORT, KEYRING).piece(batch, Shapes(((("clear", ("a",)),),), None)))
    return found


# ── a naive evaluator of such conditions, over what the rows really are ──


def value(row, field):
    return parsed(row[field], str(TYPES[field]))


def literal(text):
    return text[1:-1].replace("''", "'") if text.startswith("'") else Fraction(text)


@st.composite
def atoms(draw):
    """A condition's text, and what it means."""
    field = draw(st.sampled_from(sorted(TYPES)))
    text = TYPES[field] is Type.TEXT
    of = st.sampled_from([f"'{each}'" for each in TEXTS] if text else NUMBERS)
    kind = draw(st.sampled_from(["==", "!=", "<", ">=", "in", "not in", "present", "starts"]))
    if kind == "present":
        return f"present({field})", lambda row: value(row, field) is not None
    if kind in ("in", "not in"):
        many = draw(st.lists(of, min_size=1, max_size=3))
        known = [literal(each) for each in many]

        def member(row):
            found = value(row, field)
            return None if found is None else (found in known) is (kind == "in")

        return f"{field} {kind} [{', '.join(many)}]", member
    one = draw(of)
    if kind == "starts" and text:
        return (
            f"starts({field}, {one})",
            lambda row: (
                None if value(row, field) is None else value(row, field).startswith(literal(one))
            ),
        )
    relation = {
        "==": operator.eq,
        "!=": operator.ne,
        "<": operator.lt,
        ">=": operator.ge,
        "starts": operator.gt,
    }[kind]
    written = ">" if kind == "starts" else kind
    return (
        f"{field} {written} {one}",
        lambda row: (
            None if value(row, field) is None else relation(value(row, field), literal(one))
        ),
    )


def joined(pair):
    (one, means), (other, also), word = pair

    def meaning(row):
        truths = {means(row), also(row)}
        decisive = word == "or"
        return decisive if decisive in truths else None if None in truths else not decisive

    return f"({one}) {word} ({other})", meaning


def negated(one):
    text, means = one
    return f"not ({text})", lambda row: None if means(row) is None else not means(row)


CONDITIONS = st.recursive(
    atoms(),
    lambda inner: (
        st.tuples(inner, inner, st.sampled_from(["and", "or"])).map(joined) | inner.map(negated)
    ),
    max_leaves=5,
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            f: st.none()
            | st.sampled_from(
                [*("x", "y", "it's", "xy")]
                if t is Type.TEXT
                else ["1", "1.0", "2.50", "-3", "7", "n/a"]
            )
            for f, t in TYPES.items()
        }
    ),
    min_size=1,
    max_size=12,
)


@given(CONDITIONS, ROWS, st.sampled_from(["at hand", "none", "another"]))
def test_a_truth_that_is_told_is_the_truth(condition, rows, keys):
    """What is told of a row is so, with the keyring and without; and with it, equality is always told."""
    text, means = condition
    keyring = {"at hand": KEYRING, "none": None, "another": Keyring.generate()}[keys]
    truths = Where(text).truths(noted(rows), "r", keyring)
    for truth, row in zip(truths, rows, strict=True):
        really = means(row)
        assert (truth == TRUE) <= (really is True)
        assert (truth == FALSE) <= (really is False)
        exact = keys == "at hand" and not any(w in text for w in ("<", ">", "starts"))
        open_alone = not any(f"{f} " in text or f"({f}" in text for f in ("b", "n"))
        if exact or open_alone:
            assert truth == (UNKNOWN if really is None else TRUE if really else FALSE)


def test_names_may_stand_alone():
    """They are fields; words in texts, functions and numbers stay what they are."""
    text = "store_id in ['row in store', '42'] and starts(city, 'a''b') or not row.x == 1e0" + ""
    with pytest.raises(BadCondition):
        Where(text)
    assert (
        Where(
            "store_id in ['row in store', '42'] and starts(city, 'a''b') or row['net sales'] > 1"
        ).text
        == "row.store_id in ['row in store', '42'] and starts(row.city, 'a''b') or row['net sales'] > 1"
    )


@pytest.mark.parametrize(
    "text", ["sub.stores == 'a'", "env.purpose == ''", "", "store_id =", "a in"]
)
def test_what_is_no_condition_on_rows_is_refused(text):
    """With what is wrong, and where."""
    with pytest.raises(BadCondition):
        Where(text)


def test_a_field_that_is_not_kept_is_unknown():
    """Neither told as given nor left out; and so is one of another type than the condition takes."""
    rows = [{"a": "x", "b": "y", "n": "1", "m": "2"}]
    for text, truth in itertools.product(
        ("city == 'x'", "not (city == 'x')", "n == 'x'"), (UNKNOWN,)
    ):
        assert Where(text).truths(noted(rows), "r", KEYRING).tolist() == [truth]
    where = Where("n == 'x'")
    where.truths(noted(rows), "r", KEYRING)
    assert "r" in where.faults
