"""Parameters of reports.yaml: what each kind accepts, what the store is told, which fields it looks at."""

from __future__ import annotations

from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.catalogue import BadParameter, Catalogue, canonical, parse_target
from proxy.errors import Faulty
from proxy.report import Ordering

TEXT = """\
stores:
  s: {url: "https://reports.example.com"}
reports:
  sales/daily:
    title: Daily
    store: s
    variants:
      - {path: /daily.csv, format: csv}
      - {path: "/by/{sort}", format: csv, source: "/by/{sort}"}
    parameters:
      find: {type: text, fields: [name, city], operator: contains}
      starts: {type: text, field: city, operator: starts}
      days: {type: date, field: date, operator: in}
      some: {type: integer, field: units, operator: in, allowed: ["1", "2"]}
      sort: {by: order, fields: [date, units, net], direction: minus, spelling: {net: netSales}}
      order: {by: order, fields: [date, net], direction: dot}
      orderby: {by: order, fields: [date, net], direction: blank}
      _sort: {by: order, fields: [date]}
      per: {by: group, fields: [date, city], spelling: {date: day}}
      limit: {by: limit, most: 100}
      offset: {by: offset, most: 5000}
    fields:
      date: {type: date, class: public}
      name: {type: text, class: personal}
      city: {type: text, class: public}
      units: {type: integer, class: internal}
      net: {type: decimal, class: confidential}
"""


def catalogue(text: str = TEXT) -> Catalogue:
    return Catalogue.load(text.encode(), file="r.yaml", environment={}, folder=None)


REPORT = catalogue().reports["sales/daily"]


def ask(query: str):
    return catalogue().ask(parse_target(f"/daily.csv?{query}"), by="user:a")


@pytest.mark.parametrize(
    ("query", "target"),
    [
        ("find=a%25b", "/daily.csv?find=a%25b"),
        ("days=2026-01-02,2026-01-03", "/daily.csv?days=2026-01-02%2C2026-01-03"),
        ("some=+2,01", None),
        ("some=%2B2,01", "/daily.csv?some=2%2C1"),
        ("sort=date,-netSales", "/daily.csv?sort=date%2C-netSales"),
        ("order=net.desc,date.asc", "/daily.csv?order=net.desc%2Cdate.asc"),
        ("orderby=net+desc", "/daily.csv?orderby=net%20desc"),
        ("_sort=date", "/daily.csv?_sort=date"),
        ("per=city,day", "/daily.csv?per=city%2Cday"),
        ("limit=100&offset=0007&_sort=date", "/daily.csv?_sort=date"),
        ("limit=1", "/daily.csv"),
    ],
)
def test_the_store_is_told_what_is_its_matter_in_its_own_words(query, target):
    """Filters, orders and groups go on in canonical form; a page does not."""
    if target is None:
        with pytest.raises(BadParameter):
            ask(query)
    else:
        assert ask(query).target == target


@pytest.mark.parametrize(
    "query",
    [
        "sort=", "sort=net", "sort=-", "sort=--date", "sort=date,", "sort=,date", "sort=date,date",
        "sort=date,-date", "sort=Date", "sort=date.desc", "sort=name", "sort=%20date", "sort=date%3Bunits",
        "order=-date", "order=date.DESC", "order=date.", "order=date.asc.desc", "orderby=date++desc",
        "_sort=-date", "_sort=net", "per=date", "per=-city", "per=city+desc", "days=", "days=2026-01-02,",
        "days=2026-01-02;2026-01-03", "some=1,3", "limit=0", "limit=101", "limit=-1", "limit=%2B1",
        "limit=1.0", "limit=1e1", "limit=%D9%A1", "limit=", "offset=5001", "offset=-1", "offset=99999999999999999999",
    ],
)  # fmt: skip
def test_what_is_not_declared_to_the_letter_is_refused(query):
    """An unknown field, a direction written in another way, a field twice, a number over the most."""
    with pytest.raises(BadParameter):
        ask(query)


@pytest.mark.parametrize(
    ("name", "value", "fields"),
    [
        ("find", "x", {"name", "city"}), ("days", "2026-01-02", {"date"}), ("sort", "-netSales", {"net"}),
        ("sort", "date,netSales", {"date", "net"}), ("per", "day,city", {"date", "city"}), ("limit", "7", set()),
    ],
)  # fmt: skip
def test_a_value_uses_the_fields_that_it_names_or_those_of_the_filter(name, value, fields):
    """`uses` is what a requester must see in clear."""
    assert REPORT.parameters[name].uses(value) == fields


def test_an_order_is_read_as_it_is_written():
    """The fields in their order, each with its direction."""
    assert REPORT.parameters["order"].orderings("net.desc,date.asc") == (
        Ordering("net", descending=True),
        Ordering("date"),
    )


WORDS = st.sampled_from(
    ["date", "units", "net", "netSales", "name", "-", "--", ".desc", " asc", "", "DATE", "\x00"]
)


@given(
    st.lists(st.tuples(st.sampled_from(["", "-"]), WORDS).map("".join), max_size=4).map(",".join)
)
def test_whatever_order_is_asked_for_each_of_its_words_is_a_declared_one(text):
    """A value that is taken names declared fields alone, each once, and reaches the store unchanged."""
    parameter = REPORT.parameters["sort"]
    taken = canonical(parameter, text)
    plain = [word.removeprefix("-") for word in text.split(",")]
    good = set(plain) <= {"date", "units", "netSales"} and len(set(plain)) == len(plain)
    assert (taken is not None) == good
    if taken is not None:
        assert unquote(ask(f"sort={quote(taken)}").target) == f"/daily.csv?sort={text}"
        assert len(parameter.uses(taken)) == len(plain)


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [
        ("{by: limit, most: 100}", "{by: limit}", "20:14: missing key `most`"),
        ("{by: limit, most: 100}", "{by: limit, most: 0}", "the number is less than 1"),
        ("{by: offset, most: 5000}", "{by: limit, most: 5000}", "`limit` is `by: limit` already"),
        ("{by: limit, most: 100}", "{by: limit, most: 1, field: net}", "`field` is not for a parameter `by: limit`"),
        ("{by: order, fields: [date]}", "{by: order}", "missing key `fields`"),
        ("{by: order, fields: [date]}", "{by: order, field: date}", "`field` is not for a parameter `by: order`"),
        ("{by: order, fields: [date]}", "{by: order, fields: [dat]}", "unknown field `dat` (did you mean `date`?)"),
        ("{by: order, fields: [date]}", "{by: order, fields: [date, date]}", "`date` is named twice"),
        ("{by: order, fields: [date]}", "{by: orders, fields: [date]}", "expected one of `filter`, `order`"),
        ("{by: order, fields: [date]}", "{by: order, type: text, fields: [date]}", "`type` is not for"),
        ("spelling: {net: netSales}", "spelling: {name: x}", "`name` is not one of its `fields`"),
        ("spelling: {net: netSales}", "spelling: {net: 'a,b'}", "not a word"),
        ("spelling: {net: netSales}", "spelling: {net: -date}", "`-date` could also mean `date`"),
        ("fields: [date, city], spelling", "fields: [date, city], direction: dot, spelling", "`direction` is not for"),
        ("{type: text, field: city, operator: starts}", "{type: date, field: date, operator: starts}",
         "`starts` is for values of type text"),
        ("{type: text, field: city, operator: starts}", "{type: text, field: city, fields: [name]}",
         "`field` and `fields` are one too many"),
        ("{type: text, field: city, operator: starts}", "{field: city}", "missing key `type`"),
        ('allowed: ["1", "2"]', 'allowed: ["1", "x"]', "not a value of type integer"),
        ('path: "/by/{sort}"', 'path: "/by/{sort}/{limit}"', "`limit` cuts out a page"),
    ],
)  # fmt: skip
def test_a_parameter_that_means_nothing_is_a_fault(was, becomes, message):
    """Each key belongs to its kind, each word has one meaning, each page a largest size."""
    assert was in TEXT
    with pytest.raises(Faulty) as caught:
        catalogue(TEXT.replace(was, becomes, 1))
    assert message in str(caught.value)
