"""people.csv: groups and attributes by subject, or all faults at once, each in its place."""

from __future__ import annotations

import math
from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import Faulty
from proxy.policy.people import read_people
from proxy.subject import AttributeType, Person, Realm, Source
from proxy.values import Type


def realm(prefix="", others=(), groups=Source.CLAIM_AND_PEOPLE, **attributes):
    return Realm(prefix=prefix, others=others, groups=groups, attributes=attributes)


TEXTS = AttributeType(type=Type.TEXT, many=True)
REALMS = (
    realm(
        others=("ext/",),
        stores=(TEXTS, Source.PEOPLE),
        region=(AttributeType(type=Type.TEXT), Source.CLAIM_ELSE_PEOPLE),
        share=(AttributeType(type=Type.DECIMAL), Source.PEOPLE_ELSE_CLAIM),
        badge=(AttributeType(type=Type.TEXT), Source.CLAIM),
    ),
    realm("ext/", groups=None, stores=(TEXTS, Source.CLAIM)),
)
HEADER = "subject, groups, stores, region, share, valid-until\n"


def people(text, realms=REALMS):
    return read_people(text.encode(), realms)


def faults(text, realms=REALMS):
    with pytest.raises(Faulty) as caught:
        people(text, realms)
    return [str(fault) for fault in caught.value.faults]


def test_a_line_gives_typed_values_in_its_columns():
    """Cells are typed as declared; an empty one says nothing; quotes take what would separate."""
    text = """\
user:sam, , 2191 | 2192, , ,
user:'pat, jr', group:a|group:'b|c', '1,2'|'O''Brien (x)', Öst, 12.50, 2026-12-31
# nobody
tool:bi, , , , , 2026-12-24T18:00:00+01:00
"""
    assert people(HEADER + text) == {
        "user:sam": Person(attributes={"stores": ("2191", "2192")}),
        "user:pat, jr": Person(
            groups=("group:a", "group:b|c"),
            attributes={
                "stores": ("1,2", "O'Brien (x)"),
                "region": "Öst",
                "share": Fraction(25, 2),
            },
            until=1798761600.0,
        ),
        "tool:bi": Person(attributes={}, until=1798131600.0),
    }


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("sam, , , , ,", "1: `sam` is not a principal"),
        ("role:owner, , , , ,", "1: `role:owner` is not a subject"),
        ("group:owners, , , , ,", "1: `group:owners` is not a subject"),
        ("anyone, , , , ,", "1: `anyone` is not a subject"),
        (", , , , ,", "1: the subject is missing"),
        ("user:pe\u0301, , , , ,", "1: `user:pe\u0301` is not in Unicode's composed form"),
        ("user:sam, , , ,", "16: 5 cells under 6 columns"),
        ("user:sam, , , , , ,", "20: 7 cells under 6 columns"),
        ("user:sam, owners, , , ,", "11: `owners` is not a group (write `group:owners`)"),
        ("user:sam, role:owner, , , ,", "11: `role:owner` is not a group (roles come from"),
        ("user:sam, group:a|group:a, , , ,", "19: stands twice"),
        ("user:sam, group:a|, , , ,", "19: a value is missing"),
        ("user:sam, , |1, , ,", "13: a value is missing"),
        ("user:sam, , 1|2|1, , ,", "17: stands twice"),
        ("user:sam, , *, , ,", "13: `*` stands for nothing here"),
        ("user:sam, , 1|O'Brien', , ,", "13: `'` stands within quotes alone"),
        ('user:sam, , "1", , ,', '13: `"` stands within quotes alone'),
        ("user:sam, , 1 # his, , ,", "14: `#` stands within quotes alone"),
        ("user:sam, , , North|South, ,", "21: the attribute has one value"),
        ("user:sam, , , , a lot,", "17: `a lot` is no decimal (such as `12.50`)"),
        ("user:sam, , , , , soon", "19: `soon` is neither an instant nor a day"),
        ("user:sam, , , , , 2026-02-30", "19: `2026-02-30` is neither an instant nor a day"),
        ("user:sam, , , , , 2026-12-24T18:00", "35: the offset from UTC is missing"),
        ("user:ext/bob, , 1, , ,", "17: subjects.yaml does not take `stores` of `user:ext/bob`"),
        ("user:ext/bob, group:a, , , ,", "15: subjects.yaml does not take `groups` of"),
        ("user:ext/bob, , , North, ,", "19: subjects.yaml does not take `region` of"),
    ],
)
def test_each_fault_has_its_place(line, fault):
    """What a line may not hold is told with its column, and nothing is made of the file."""
    (found,) = faults(f"{HEADER}{line}\n")
    at, _, rest = fault.partition(":")
    if "'" in line and "1|O" in line:
        at = str(line.index("'") + 1)
    assert found.startswith(f"people.csv:2:{at}:{rest}")


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ("stores, subject, groups, region, share", "1:1: the first column is not `subject`"),
        ("user:sam, , 1, , ", "1:1: the first column is not `subject`"),
        ("subject, groups, stores, region", "1:1: no column `share`, which subjects.yaml takes"),
        ("subject, groups, stores, region, share, stores", "1:41: column `stores` stands twice"),
        ("subject, groups, stores, region, share, badge", "1:41: subjects.yaml does not take `badge`"),
        ("subject, groups, stores, region, share, shop", "1:41: unknown column `shop`"),
        ("subject, groups, stores, region, share, valid_until", "1:41: unknown column `valid_until` (did you mean `valid-until`?"),
    ],
)  # fmt: skip
def test_a_header_names_each_column_that_is_taken_from_here_and_no_other(header, fault):
    """A lost, doubled, unknown or undeclared column is a fault: none is missing or ignored silently."""
    assert any(found.startswith(f"people.csv:{fault}") for found in faults(f"{header}\n"))


def test_all_faults_come_at_once():
    """Faults of characters, of the header and of each line are told together."""
    found = faults("subject, groups, stores, region, shar\nuser:sam\nuser:\x00\nuser:sam, , , , 1")
    assert [fault.partition(": ")[0] for fault in found] == [
        "people.csv:1:1",
        "people.csv:1:34",
        "people.csv:2:9",
        "people.csv:3:6",
        "people.csv:4:18",
    ]


def test_a_subject_has_one_line():
    """Two lines about one subject are a fault, however they are written."""
    (found,) = faults(f"{HEADER}user:sam, , 1, , ,\nuser:'sam', , 2, , ,\n")
    assert found.startswith("people.csv:3:1: `user:sam` has a line already, line 2")


def test_the_file_must_be_there_where_something_is_taken_from_it():
    """A lost file is a fault, for a deny may hang on what it says; where nothing is taken, it is none."""
    with pytest.raises(Faulty, match=r"people\.csv: is missing: subjects\.yaml takes `groups`"):
        read_people(None, REALMS)
    assert read_people(None, (realm(groups=Source.CLAIM),)) == {}
    with pytest.raises(Faulty, match="has no header"):
        people("# nothing\n")


def test_a_subject_that_no_issuer_has_is_a_fault():
    """A line about a name outside every issuer's prefix would never mean anything."""
    only = (realm("corp/", groups=None, stores=(TEXTS, Source.PEOPLE)),)
    (found,) = faults("subject, stores\nuser:sam, 1\n", only)
    assert (
        found
        == "people.csv:2:1: `user:sam` is no issuer's subject (their names begin with `corp/`)"
    )


def test_a_line_that_ended_long_ago_is_no_fault():
    """The past is not an error, not even the first second of 1970: such a line has just ended."""
    text = "user:sam, , , , , {}\n"
    for when, until in [("1970-01-01T00:00:00Z", 0.0), ("9999-12-31", 253402300800.0)]:
        assert people(HEADER + text.format(when))["user:sam"].until == until
    assert people(HEADER + text.format(""))["user:sam"].until == math.inf


values = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)


@given(st.lists(values, min_size=1, max_size=5, unique=True))
def test_every_text_can_be_written_in_quotes(texts):
    """Values in quotes are read back to the character."""
    cell = "|".join("'" + text.replace("'", "''") + "'" for text in texts)
    assert people(f"{HEADER}user:sam, , {cell}, , ,\n")["user:sam"].attributes["stores"] == tuple(
        texts
    )


@given(st.text(max_size=200))
def test_whatever_is_written_is_understood_whole_or_is_a_fault(text):
    """No text makes anything but people or faults with their places."""
    with suppress(Faulty):
        assert len(people(HEADER + text)) <= text.count("\n") + 1
