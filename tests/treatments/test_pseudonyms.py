"""`pseudonym`: equality is kept where it is stated, and nowhere else."""

from __future__ import annotations

import gc
import hmac
import re
import tracemalloc

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.batch import PLAIN, Batch
from proxy.keys import Keyring
from proxy.treatments import parse
from proxy.treatments.pseudonyms import LENGTH
from proxy.values import Type

TEXTS = st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=12), max_size=12)
FORM = re.compile(rf"p[0-9a-f]{{{LENGTH - 1}}}\Z")


@given(TEXTS)
def test_equal_values_have_equal_pseudonyms(apply, texts):
    """Pseudonyms are equal exactly where values are, within a column and from request to request."""
    given_ = apply("pseudonym", texts)
    assert len(set(given_)) == len(set(texts))
    assert dict(zip(texts, given_, strict=True)) == dict(
        zip(texts[::-1], apply("pseudonym", texts[::-1]), strict=True)
    )


@given(TEXTS, TEXTS)
def test_form_tells_nothing(apply, texts, others):
    """Every pseudonym has one form and one length, whatever the value."""
    for pseudonym in apply("pseudonym", texts + others):
        assert FORM.match(pseudonym)


@pytest.mark.threat("G61")
@pytest.mark.parametrize("changed", ["report", "purpose", "keyring"])
def test_no_join_unless_stated(apply, changed):
    """Another report, purpose or keyring gives other pseudonyms; another subject the same."""
    values = ["alice", "bob"]
    usual = apply("pseudonym", values)
    place = {changed: Keyring.generate() if changed == "keyring" else "g"}
    assert not set(usual) & set(apply("pseudonym", values, **place))
    assert apply("pseudonym", values, subject="user:bob") == usual


@pytest.mark.threat("G61")
def test_fields_do_not_join(site):
    """Two fields of one report with the same value have different pseudonyms."""
    cells = {name: pl.Series(name, ["alice"]) for name in ("f", "g")}
    types = dict.fromkeys(cells, Type.TEXT)
    batch = Batch(cells, height=1, lexis=PLAIN, types=types)
    one, other = (parse("pseudonym").bind(site(field=name))(batch)[0] for name in cells)
    assert one != other


@pytest.mark.threat("G61")
def test_a_named_domain_joins(apply):
    """A shared domain gives equal pseudonyms across reports and purposes, but another domain does not."""
    values = ["alice", "bob"]
    shared = apply("pseudonym(domain='people')", values)
    elsewhere = apply("pseudonym(domain='people')", values, report="other", purpose="audit")
    assert elsewhere == shared
    assert not set(shared) & set(apply("pseudonym(domain='stores')", values))
    assert not set(shared) & set(apply("pseudonym", values))


@pytest.mark.parametrize("treatment", ["pseudonym", "pseudonym(domain='people')"])
def test_per_subject(apply, treatment):
    """`per='subject'` gives each recipient its own, the same one each time."""
    per = treatment.removesuffix(")") + (", " if "(" in treatment else "(") + "per='subject')"
    values = ["alice", "bob"]
    mine, again = apply(per, values), apply(per, values)
    theirs = apply(per, values, subject="user:bob")
    assert mine == again
    assert not set(mine) & set(theirs)
    assert not set(mine) & set(apply(treatment, values))


def test_labels_are_told_apart(apply):
    """A purpose or report that ends where another begins does not give the same key."""
    one = apply("pseudonym", ["v"], report="ab", purpose="c")
    other = apply("pseudonym", ["v"], report="a", purpose="bc")
    assert one != other
    one = apply("pseudonym(domain='d')", ["v"], subject="s")
    other = apply("pseudonym(domain='d', per='subject')", ["v"], subject="")
    assert one != other


def test_it_is_hmac(apply, site):
    """A pseudonym is HMAC-SHA-256 of the value under the derived key, cut to 104 bits."""
    key = site().keyring.derive("pseudonym", "field", "sales", "", "f")
    expected = "p" + hmac.digest(key, "Käse".encode(), "sha256").hex()[:26]
    assert apply("pseudonym", ["Käse"]) == [expected]


def test_many_distinct_values(apply):
    """More values than are remembered keep their pseudonyms, before and after."""
    values = [str(n) for n in range(70_000)]
    given_ = apply("pseudonym", values)
    assert len(set(given_)) == len(values)
    assert apply("pseudonym", values[:10]) == given_[:10]


def test_what_is_remembered_does_not_grow_with_the_values(site):
    """Between two blocks no long value is held, however many there were."""
    pseudonyms = parse("pseudonym").bind(site())

    def block(start):
        cells = pl.Series("f", [f"{n}-" + "x" * 20_000 for n in range(start, start + 300)])
        return Batch({"f": cells}, height=300, lexis=PLAIN, types={"f": Type.TEXT})

    pseudonyms(block(0))
    tracemalloc.start()
    try:
        pseudonyms(block(1_000))
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()


def test_text_decides(apply):
    """Equality is of the text: 7 and 07 are two; what is no integer has none."""
    seven, padded, none = apply("pseudonym", ["7", "07", "x"], Type.INTEGER)
    assert seven != padded
    assert none is None
