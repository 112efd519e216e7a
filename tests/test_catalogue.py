"""reports.yaml, and the way from a request target to the store's target."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.catalogue import (
    BadParameter,
    Catalogue,
    MalformedTarget,
    parse_target,
    read_parameters,
    store_target,
)
from proxy.credentials import Bearer, Secret
from proxy.errors import Faulty
from proxy.report import FormatName, Operator
from proxy.values import Type

TEXT = """\
stores:
  demo:
    url: http://127.0.0.1:8701/base/
    loopback: true
    credential: env:DEMO_STORE_TOKEN
purposes: [reconcile, audit]
reports:
  sales/store-daily:
    title: Daily sales by store
    store: demo
    key: [date, store_id]
    prefer: [pseudonym, partial]
    shape: stable
    variants:
      - {path: /sales/store-daily.csv, format: csv}
      - {path: /sales/store-daily.json, format: json, source: "/api/daily?_stream=on&_x=a%20b", rows_at: [data, rows]}
      - {path: "/sales/{region}/daily.csv", format: csv, source: "/by/{region}/all", delimiter: ";"}
      - {path: "/stores/{store_id}", format: json, source: /one}
    parameters:
      from:     {type: date, field: date, operator: ge}
      store_id: {type: integer, field: store_id}
      region:   {type: text}
      kind:     {type: text, allowed: [a, b c]}
      least:    {type: decimal, field: net_sales}
      since:    {type: datetime}
      open:     {type: boolean}
    fields:
      date:      {type: date, class: public}
      store_id:  {type: integer, class: public}
      net_sales: {type: decimal, class: confidential}
  sales/needs:
    title: A required parameter in the source
    store: demo
    variants:
      - {path: /needs.csv, format: csv, source: "/needs/{year}"}
    parameters:
      year: {type: text, required: true}
    fields:
      a b: {type: text, class: personal}
"""
ENVIRONMENT = {"DEMO_STORE_TOKEN": "s3cret-token"}


def catalogue(text: str = TEXT, folder: Path | None = Path()) -> Catalogue:
    return Catalogue.load(text.encode(), file="r.yaml", environment=ENVIRONMENT, folder=folder)


def faults(text: str, *, folder: Path | None = Path(), environment: object = ENVIRONMENT) -> str:
    with pytest.raises(Faulty) as caught:
        Catalogue.load(text.encode(), file="r.yaml", environment=environment, folder=folder)  # type: ignore[arg-type]
    return str(caught.value)


CATALOGUE = catalogue()


def ask(raw: str) -> str | None:
    target = parse_target(raw)
    route = CATALOGUE.route(target.path)
    return None if route is None else store_target(route, read_parameters(route, target.query))


# ── the file ──


def test_a_catalogue_holds_what_the_file_declares():
    assert CATALOGUE.purposes == {"reconcile", "audit"}
    assert CATALOGUE.classes == {"public", "internal", "confidential", "personal"}
    report = CATALOGUE.reports["sales/store-daily"]
    assert report.store is CATALOGUE.stores["demo"]
    assert report.store.url == "http://127.0.0.1:8701/base"
    assert report.store.credential == Bearer(
        token=Secret(kind="env", place="DEMO_STORE_TOKEN", value="s3cret-token")
    )
    assert list(report.fields) == ["date", "store_id", "net_sales"]
    assert report.fields["net_sales"].class_ == "confidential"
    assert report.key == ("date", "store_id")
    assert report.prefer == ("pseudonym", "partial")
    assert report.stable
    assert report.parameters["from"].operator is Operator.GE
    assert report.parameters["from"].type is Type.DATE
    first, second, third, _ = report.variants
    assert first.source == first.path
    assert second.stored.format is FormatName.JSON
    assert second.stored.rows_at == ("data", "rows")
    assert third.stored.delimiter == ";"
    assert all(variant.offers == (variant.stored,) for variant in report.variants)


def test_a_credential_is_in_no_repr():
    assert "s3cret" not in repr(CATALOGUE) + repr(CATALOGUE.stores) + repr(CATALOGUE.reports)


def test_a_credential_comes_from_a_file_beside_the_catalogue(tmp_path):
    (tmp_path / "token").write_text("abc\n")
    text = TEXT.replace("env:DEMO_STORE_TOKEN", "file:token")
    assert catalogue(text, tmp_path).stores["demo"].credential == Bearer(
        token=Secret(kind="file", place=str(tmp_path / "token"), value="abc")
    )


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("env:NONE", "the environment variable `NONE` is not set"),
        ("hunter2hunter2", "a credential is written as `env:NAME`, `file:PATH` or `command:NAME`"),
        ("command:none", "counterfoil.yaml has no command `none`"),
        ("'env:'", "a credential is written as"),
        ("env:EMPTY", "the credential is empty or has characters that no token has"),
        ("env:LINES", "the credential is empty or has characters that no token has"),
        ("file:none", "the credential's file cannot be read: no such file"),
        ("file:.", "the credential's file cannot be read: not a file"),
        ("file:big", "the credential's file cannot be read: larger than 8192 bytes"),
        ("file:blank", "the credential is empty or has characters that no token has"),
    ],
)
def test_a_credential_that_cannot_be_taken_is_a_fault_that_does_not_show_it(
    tmp_path, reference, message
):
    (tmp_path / "big").write_text("x" * 9000)
    (tmp_path / "blank").write_text("hunter2 hunter2")
    found = faults(
        TEXT.replace("env:DEMO_STORE_TOKEN", reference),
        folder=tmp_path,
        environment={"EMPTY": "", "LINES": "hunter2\nX-Evil: 1"},
    )
    assert message in found
    assert "r.yaml:5:17" in found
    assert "hunter2" not in found


def test_all_faults_of_a_catalogue_come_at_once():
    text = TEXT
    for old, new in [
        ("http://127.0.0.1", "http://169.254.169.254"),
        ("[reconcile, audit]", "[reconcile, reconcile, Audit]"),
        ("store: demo\n    key: [date, store_id]", "store: demos\n    key: [dat, date, date]"),
        ("prefer: [pseudonym, partial]", "prefer: [pseudonyms, redact, clear]"),
        ("format: csv}", "format: csv, rows_at: [a]}"),
        ("class: public}", "class: publik}"),
        ("field: net_sales}", "field: net_sale}"),
        ("allowed: [a, b c]", 'allowed: [a, "b\\n"]'),
        ("sales/needs:", "Sales/needs:"),
        ("title: A required", "title: ' ' # A required"),
        ("type: text, required: true", "type: text"),
        ("      a b: {", "      '@a': {"),
    ]:
        assert old in text
        text = text.replace(old, new, 1)
    found = faults(text)
    for message in [
        "r.yaml:3:10: an address of a cloud's metadata service is no store",
        "r.yaml:6:23: `reconcile` is named twice",
        "r.yaml:6:34: `Audit` is not a name",
        "r.yaml:10:12: unknown store `demos` (did you mean `demo`?)",
        "r.yaml:11:11: unknown field `dat` (did you mean `date`?)",
        "r.yaml:11:22: `date` is named twice",
        "r.yaml:12:14: unknown treatment `pseudonyms` (did you mean `pseudonym`?)",
        "r.yaml:12:26: `redact` has its place in the order of preference",
        "r.yaml:12:34: `clear` has its place in the order of preference",
        "`rows_at` is for the format json",
        "unknown class `publik` (did you mean `public`?)",
        "unknown field `net_sale` (did you mean `net_sales`?)",
        "not a value of type text",
        "r.yaml:31:3: `Sales/needs` is not a report id",
        "the title is empty",
        "parameter `year` may be missing from a request",
        "`@a` is not a field name",
    ]:
        assert message in found
    assert len(found.splitlines()) == 17


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("sales.csv", "a path starts with `/`"),
        ("/a//b", "no empty segment"),
        ("/a/", "no empty segment"),
        ("/", "no empty segment"),
        ("/a/../b", "dot segments"),
        ("/a/./b", "dot segments"),
        ("/a b", "a segment is letters"),
        ("/é", "a segment is letters"),
        ("/a%20b", "a segment is letters"),
        ("/a;b", "a segment is letters"),
        ("/x{region}", "a segment is letters"),
        ("/a" * 100_000, "a path has at most 512 characters"),
        ("/{region}.csv", "a segment is letters"),
        ("/{nobody}", "undeclared parameter `nobody`"),
        ("/{region}/{region}", "stands in the path twice"),
        ("/-/live", "paths below `/-/` are the proxy's own"),
        ("/-", "paths below `/-/` are the proxy's own"),
    ],
)
def test_a_path_is_strict(path, message):
    assert message in faults(TEXT.replace("path: /sales/store-daily.csv", f"path: '{path}'"))
    if not path.startswith("/-"):
        assert message in faults(TEXT.replace("source: /one", f"source: '{path}'"))


@pytest.mark.parametrize(
    "query", ["", "a", "a=b&", "a=b;c=d", "=b", "a=b c", "a=%zz", "a=b#c", "é=1"]
)
def test_a_source_has_no_query_but_pairs(query):
    assert "`name=value` pairs" in faults(TEXT.replace("source: /one", f"source: '/one?{query}'"))


def test_a_parameter_may_not_change_what_a_source_fixes():
    assert "parameter `open` is fixed" in faults(
        TEXT.replace("source: /one", "source: '/one?open=true'")
    )


@pytest.mark.parametrize(
    ("path", "collides"),
    [
        ("/sales/store-daily.csv", True),
        ("/stores/12", True),
        ("/stores/twelve", False),
        ("/stores/{region}", True),
        ("/sales/north/daily.csv", True),
        ("/sales/{store_id}/daily.csv", True),
        ("/sales/north/daily.json", False),
        ("/sales/{store_id}/{region}", True),
        ("/sales/store-daily.csv/x", False),
    ],
)
def test_no_target_may_match_two_paths(path, collides):
    entry = f"      - {{path: '{path}', format: csv, source: /x}}\n    parameters:"
    text = TEXT.replace("    parameters:", entry, 1)
    if collides:
        assert "can match the same target" in faults(text)
    else:
        catalogue(text)


@pytest.mark.parametrize(
    "url",
    ["ftp://a", "//a", "http:///x", "http://u@a", "http://u:p@a", "http://a?x", "http://a#x",
     "http://a/../b", "http://a//b", "http://a:0", "http://a:70000", "http://a b", "http://é",
     "http://[::1", "http://2130706433", "http://0x7f000001", "http://127.1", "http://0177.0.0.1",
     "http://a..b", "http://[::]", "http://0.0.0.0", "http://169.254.1.1", "http://[fe80::1]",
     "http://[::ffff:169.254.169.254]", "http://[64:ff9b::a9fe:a9fe]", "http://[fd00:ec2::254]",
     "http://224.0.0.1", "http://255.255.255.255", "http://100.100.100.200", "http://a\\b",
     "http://127.0.0.1.", "http://1.2.3.0x4"],
)  # fmt: skip
def test_a_store_that_is_nowhere_or_where_none_may_be_is_a_fault(url):
    assert "r.yaml:3:10: " in faults(TEXT.replace("http://127.0.0.1:8701/base/", f"'{url}'"))


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1", "http://127.9.9.9:1", "http://[::1]:1", "https://localhost/x",
     "http://a.LOCALHOST", "http://[::ffff:127.0.0.1]"],
)  # fmt: skip
def test_a_store_on_this_machine_must_be_allowed_by_name(url):
    text = TEXT.replace("http://127.0.0.1:8701/base/", f"'{url}'")
    catalogue(text)
    assert "needs `loopback: true`" in faults(text.replace("loopback: true", "loopback: false"))


@pytest.mark.parametrize(
    "url", ["http://reports", "https://a-b.example.com:8443/x/y", "http://10.0.0.7"]
)
def test_other_stores_need_no_leave(url):
    text = TEXT.replace("http://127.0.0.1:8701/base/", url).replace("    loopback: true\n", "")
    assert catalogue(text).stores["demo"].url == url


# ── targets ──


@pytest.mark.parametrize(
    "raw",
    ["", "*", "x", "http://evil/sales/store-daily.csv", "//sales/store-daily.csv", "/a//b", "/a//",
     "/sales/../x", "/./x", "/x/..", "/x/.", "/%2e%2e/x", "/.%2e/x", "/%2E/x", "/x\\y", "/x%5Cy",
     "/x%5cy", "/x%2Fy", "/x%2fy", "/..;a=b/", "/x;v=1", "/x%3Bv=1", "/x%00", "/%zz", "/%", "/%2",
     "/%ff", "/%c0%af", "/%e0%80%af", "/%ed%a0%80", "/%3Fa=1", "/x#f", "/x%23", "/x y", "/x\ty",
     "/x\r\n", "/é", "/x\udcff", "/x%0a", "/x%7f", "/x%c2%85", "/x?a=é", "/x?a=%zz", "/x?a#b",
     "/x?a b", "/x?a\x00", "/" + "a" * 8192, "/x|y", "/x<", '/x"', "/{region}", "/x?a=%"],
)  # fmt: skip
def test_what_two_parsers_could_read_in_two_ways_is_malformed(raw):
    with pytest.raises(MalformedTarget) as caught:
        parse_target(raw)
    assert re.fullmatch("target-[a-z-]+", str(caught.value))


@pytest.mark.parametrize(
    "raw",
    ["/", "/sales", "/sales/", "/sales/store-daily.csv/", "/SALES/store-daily.csv", "/-/live",
     "/sales/store-daily.csv%20", "/%73ales/store-daily.csv", "/sales/store%2Ddaily.csv",
     "/%252e%252e/x", "/sales/%252F/daily.csv", "/sales/%252e%252e/daily.csv", "/stores/x",
     "/stores/1.5", "/stores/%EF%BC%91", "/sales/store-dai%EF%BD%8Cy.csv"],
)  # fmt: skip
def test_a_well_formed_target_that_no_path_matches_has_no_route(raw):
    assert ask(raw) is None


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        ("/sales/store-daily.csv", "/sales/store-daily.csv"),
        ("/sales/store-daily.csv?", "/sales/store-daily.csv"),
        ("/sales/store-daily.json", "/api/daily?_stream=on&_x=a%20b"),
        ("/sales/store-daily.json?from=2026-01-0%32", "/api/daily?_stream=on&_x=a%20b&from=2026-01-02"),
        ("/sales/%C3%96st/daily.csv", "/by/%C3%96st/all"),
        ("/sales/a%20b/daily.csv?store_id=007", "/by/a%20b/all?store_id=7"),
        ("/sales/a&b=c/daily.csv", "/by/a%26b%3Dc/all"),
        ("/stores/+12", "/one?store_id=12"),
        ("/stores/12?kind=b+c", "/one?store_id=12&kind=b%20c"),
        ("/stores/12?kind=b%20c&from=2026-01-02", "/one?from=2026-01-02&store_id=12&kind=b%20c"),
        ("/stores/12?least=01.50", "/one?store_id=12&least=1.5"),
        ("/stores/12?least=-0.0", "/one?store_id=12&least=0"),
        ("/stores/12?least=-1.5e-3", "/one?store_id=12&least=-0.0015"),
        ("/stores/12?least=1e3", "/one?store_id=12&least=1000"),
        ("/stores/12?open=true", "/one?store_id=12&open=true"),
        ("/stores/12?since=2026-01-02T03:04%2B01:00", "/one?store_id=12&since=2026-01-02T02%3A04%3A00Z"),
        ("/stores/12?region=..%2F..%3Fx", "/one?store_id=12&region=..%2F..%3Fx"),
        ("/needs.csv?year=2026", "/needs/2026"),
    ],
)  # fmt: skip
def test_the_stores_target_is_written_anew_from_typed_values(raw, wanted):
    assert ask(raw) == wanted


@pytest.mark.parametrize(
    ("query", "cause"),
    [
        ("x=1", "unknown"), ("FROM=2026-01-01", "unknown"), ("fr%6Fm=2026-01-01", "unknown"),
        ("from[]=2026-01-01", "unknown"), ("from=2026-01-01&from=2026-01-01", "repeated"),
        ("from=2026-01-01;kind=a", "syntax"), ("from", "syntax"), ("=1", "syntax"), ("&", "syntax"),
        ("from=2026-01-01&", "syntax"), ("&from=2026-01-01", "syntax"), ("kind=a?b", "value"),
        ("from=", "value"), ("from=2026-02-30", "value"), ("from=2026-01-01%00", "value"),
        ("store_id=1.0", "value"), ("store_id=%EF%BC%91", "value"), ("store_id=+1", "value"),
        ("kind=c", "value"), ("kind=", "value"), ("kind=A", "value"), ("open=1", "value"),
        ("region=%0a", "value"), ("region=%ff", "encoding"), ("region=%C0%AF", "encoding"),
        ("region=" + "a" * 1025, "value"), ("least=NaN", "value"), ("least=1e40", "value"),
    ],
)  # fmt: skip
def test_a_query_is_declared_parameters_each_once_and_of_its_type_or_refused(query, cause):
    route = CATALOGUE.route("/sales/store-daily.csv")
    with pytest.raises(BadParameter) as caught:
        read_parameters(route, query)
    assert caught.value.cause == f"parameter-{cause}"


def test_a_parameter_of_the_path_is_not_repeated_in_the_query():
    route = CATALOGUE.route("/stores/12")
    with pytest.raises(BadParameter) as caught:
        read_parameters(route, "store_id=13")
    assert caught.value.cause == "parameter-repeated"


@pytest.mark.parametrize(
    ("query", "cause"),
    [("", "missing"), ("year=..", "value"), ("year=a%2Fb", "value"), ("year=.", "value"),
     ("year=", "value"), ("year=%252e", "value"), ("year=a%3Bb", "value"), ("year=a%5Cb", "value")],
)  # fmt: skip
def test_a_value_that_goes_into_the_stores_path_is_one_segment_of_it(query, cause):
    route = CATALOGUE.route("/needs.csv")
    with pytest.raises(BadParameter) as caught:
        read_parameters(route, query)
    assert caught.value.cause == f"parameter-{cause}"


LITERAL = {
    "/sales/store-daily.csv": "/sales/store-daily.csv",
    "/sales/store-daily.json": "/api/daily",
}
FRAGMENTS = st.sampled_from(
    ["/", "//", "/sales", "/store-daily", ".csv", ".json", "/stores", "/12", "/daily.csv", "/north",
     "..", "/..", "/.", "%2e", "%2F", "%5C", "%25", "%00", "%3F", "%23", "%ff", "%C3%96", "%20", "+",
     ";", "?", "&", "=", "#", "\\", "from=2026-01-01", "store_id=7", "region=a", "kind=a", "x=1",
     "[]", "a", "é", "\x00", " ", "\n", "http://evil", "@", ":80"]
)  # fmt: skip
TARGETS = st.one_of(
    st.lists(FRAGMENTS, max_size=12).map("".join),
    st.tuples(st.sampled_from(sorted(LITERAL)), st.lists(FRAGMENTS, max_size=6)).map(
        lambda both: both[0] + "?" + "".join(both[1])
    ),
    st.text(max_size=40).map("/".__add__),
    st.text(min_size=1, max_size=12).map(lambda text: f"/sales/{quote(text)}/daily.csv"),
    st.text(max_size=12).map(lambda text: f"/sales/store-daily.csv?region={quote(text)}"),
)


@settings(max_examples=2000)
@given(TARGETS)
@example("/sales/store-daily.csv?region=a%26store_id=9")
def test_whatever_a_client_sends_the_store_sees_a_catalogued_path_or_nothing(raw):
    try:
        asked = ask(raw)
    except (MalformedTarget, BadParameter):
        return
    if asked is None:
        return
    path, _, query = asked.partition("?")
    literal = LITERAL.get(raw.partition("?")[0])
    if literal is not None:
        assert path == literal
    else:
        assert path == "/one" or re.fullmatch(r"/by/[A-Za-z0-9._~%-]+/all", path)
        assert not {"..", "."} & {unquote(part) for part in path.split("/")}
        assert unquote(path).count("/") == path.count("/")
    pairs = [pair.split("=") for pair in query.split("&")] if query else []
    declared = set(CATALOGUE.reports["sales/store-daily"].parameters)
    assert all(len(pair) == 2 and pair[0] in {*declared, "_stream", "_x"} for pair in pairs)
    assert len({name for name, _ in pairs}) == len(pairs)
    assert re.fullmatch(r"[A-Za-z0-9._~%/?&=-]*", asked)


@given(st.text(min_size=1, max_size=30))
def test_a_value_reaches_the_store_as_the_value_that_the_client_meant(text):
    try:
        asked = ask(f"/sales/store-daily.csv?region={quote(text, safe='')}")
    except (BadParameter, MalformedTarget):
        assert re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", text)
        return
    assert unquote(asked.partition("region=")[2], errors="strict") == text


@given(st.recursive(st.text(max_size=8) | st.integers() | st.none() | st.booleans(),
                    lambda inner: st.lists(inner, max_size=3)
                    | st.dictionaries(st.sampled_from(["stores", "reports", "demo", "url", "fields", "path",
                                                       "variants", "format", "title", "store", "a"]),
                                      inner, max_size=4), max_leaves=12))  # fmt: skip
def test_any_document_is_a_catalogue_or_faulty_and_nothing_else(tree):
    with suppress(Faulty):
        Catalogue.load(msgspec.json.encode(tree), file="r", environment={}, folder=None)
