"""`policy explain`: the decision that a request would meet, with every line that counted or nearly did."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from proxy.cli import main
from proxy.plan import Permit
from proxy.review.explain import Said, explain
from tests.reference.product import asked
from tests.reference.worlds import world_of
from tests.review.test_check import GOOD, REPORTS, SUBJECTS, folder

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@settings(max_examples=60)
@given(st.integers(0, 5_000))
def test_the_explanation_is_of_the_decision_that_is_made(seed):
    """The fields that are said to be given are those of the plan, and a permit has a line that applied."""
    decided, subject, report, context = asked(world_of(seed), NOW)
    found = explain(decided, subject=subject, report=report, context=context)
    applied = [each for each in found.lines if each.said is Said.APPLIED]
    if not isinstance(found.decision, Permit):
        assert not found.fields
        return
    assert any(each.effect == "allow" and each.action == "read" for each in applied)
    assert not any(each.effect == "deny" and each.action == "read" for each in applied)
    assert {str(line) for line in found.decision.lines} <= {str(each.line) for each in applied}
    given_ = {column.field.name for column in found.decision.plan.columns if column.choices}
    assert {each.field for each in found.fields if not each.why_absent} == given_
    by_place = {row.line: row.rows[report.id] for row in decided.cells if report.id in row.rows}
    for form in (form for seen in found.fields for form in seen.forms):
        bound = by_place[form.lines[0]].bind(context)
        if form.form == "deny" and bound is None:
            assert form.where.startswith("every row: ")
        elif bound is None or isinstance(bound, bool):
            assert form.where.startswith("every row" if bound else "no row: ")
    for column in found.decision.plan.columns:
        [seen] = [each for each in found.fields if each.field == column.field.name]
        said = [form.form for form in seen.forms if not form.why_not and form.form != "deny"]
        assert said == [str(choice.treatment) for choice in column.choices]


def invoke(*words: str):
    result = CliRunner().invoke(main, ["policy", "explain", *words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


def test_a_permit_says_each_fields_form_and_its_line(tmp_path):
    """What is given, in which rows and by which line; what is absent, and to whom it is granted."""
    rules = GOOD + "p2, role:auditor, sales/*, row.region == 'North', net, round(100)\n"
    where = folder(tmp_path, rules)
    result = invoke("alice", "GET", "/sales/daily.csv", "--group", "analysts", "--policies", where)
    assert result.exit_code == 0
    assert "permitted: user:alice reads sales/daily" in result.output
    assert "granted to role:auditor" in result.output
    told = json.loads(
        invoke("alice", "GET", "/sales/daily.csv", "--group", "analysts", "--policies", where, "--json").output
    )  # fmt: skip
    forms = {each["field"]: [form["form"] for form in each["forms"]] for each in told["fields"]}
    assert forms == {"region": ["clear"], "paid": [], "net": []}
    assert told["fields"][0]["forms"][0]["lines"] == ["policy.csv:2"]


@pytest.mark.parametrize(
    ("at", "form", "why_not"),
    [
        ("2026-03-01T11:59Z", "round(100)", ""),
        ("2026-03-01T12:00Z", "round(100)", "its condition is false at this time, in every row"),
    ],
)
def test_a_line_whose_time_is_over_is_said_to_be(tmp_path, at, form, why_not):
    """What a grant gave is told after its end too, and that it counts no more."""
    rules = "p2, user:alice, sales/*, env.now < time('2026-03-01T12:00'), net, round(100)\n"
    where = folder(tmp_path, GOOD + rules)
    words = ["alice", "GET", "/sales/daily.csv", "--group", "analysts", "--policies", where]
    told = json.loads(invoke(*words, "--as-of", at, "--json").output)
    (net,) = [each for each in told["fields"] if each["field"] == "net"]
    assert [(each["form"], each["why_not"]) for each in net["forms"]] == [(form, why_not)]


HELD = (
    GOOD
    + """\
p2, role:analyst, sales/*, row.region in sub.stores and env.purpose == '', net, clear
p2, role:analyst, sales/*, env.now < time('2020-01-01T00:00Z'), paid, clear
p2, role:other,   sales/*, true, paid, clear
"""
)


def peopled(tmp_path, rules):
    """A folder whose subjects have attributes."""
    where = folder(tmp_path, rules)
    stores = "    attributes:\n      stores: {claim: stores, type: text, many: true}\n"
    level = "      level: {claim: level, type: integer}\n"
    (tmp_path / "subjects.yaml").write_text(SUBJECTS + stores + level)
    return ("alice", "GET", "/sales/daily.csv", "--group", "analysts", "--policies", where)


@pytest.mark.parametrize(
    ("attributes", "where"),
    [
        ((), "no row: sub.stores is unknown"),
        (("--attribute", "stores=2191|2192"), "rows whose region is one of 2191, 2192"),
        (("--attribute", "stores=North"), "rows whose region is North"),
    ],
)
def test_rows_are_told_in_words_of_the_request(tmp_path, attributes, where):
    """What is left of a condition once attributes and context are known, its text beside; or why none."""
    words = peopled(tmp_path, HELD)
    told = json.loads(invoke(*words, *attributes, "--json").output)
    (net,) = [each for each in told["fields"] if each["field"] == "net"]
    text = "row.region in sub.stores and env.purpose == ''"
    assert [(each["where"], each["rows"]) for each in net["forms"]] == [(where, text)]
    shown = invoke(*words, *attributes).output
    assert where in shown and text in shown


def test_own_lines_come_first_with_why_they_give_nothing(tmp_path):
    """A line of its own whose time is over is told, and only others are said to be granted the field."""
    words = peopled(tmp_path, HELD)
    told = json.loads(invoke(*words, "--json").output)
    (paid,) = [each for each in told["fields"] if each["field"] == "paid"]
    assert paid["absent"] == (
        "clear is not given: its condition is false at this time, in every row (policy.csv:5);"
        " it is granted to role:other"
    )
    shown = invoke(*words).output
    assert paid["absent"] in shown and "env.now < time('2020-01-01T00:00Z')" in shown


def test_which_part_of_a_condition_failed_is_said(tmp_path):
    """Of a conjunction the false parts, else the unknown ones; of a denial that it counted for one."""
    rules = """\
p, role:analyst, sales/*, read, env.purpose == 'audit' and sub.level > 3, allow
p, role:analyst, sales/*, read, env.purpose == '' and sub.level > 3, allow
p, role:analyst, sales/*, read, env.purpose == '' and sub.level > 8, deny
"""
    told = json.loads(invoke(*peopled(tmp_path, GOOD + rules), "--json").output)
    assert [(each["said"], each["why"]) for each in told["lines"]] == [
        ("applied", ""),
        ("condition false", "`env.purpose == 'audit'` is false: env.purpose is ''"),
        ("condition unknown", "sub.level is unknown"),
        ("applied", "a deny counts where its condition is unknown: sub.level is unknown"),
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("bob", "GET", "/sales/daily.csv"), "about somebody else"),
        (("bob", "GET", "/sales/none.csv"), "no report is catalogued"),
        (("alice", "POST", "/sales/daily.csv", "--group", "analysts"), "405"),
    ],
)
def test_a_denial_says_why(tmp_path, words, said):
    """Nobody's line, no report, no such method: exit status 1 and the reason."""
    result = invoke(*words, "--policies", folder(tmp_path, GOOD))
    assert result.exit_code == 1 and said in result.output


def test_of_many_lines_that_did_nothing_some_are_shown(tmp_path):
    """People are told how many more there are, programs have them all; what counted is never left out."""
    rules = "".join(f"p, user:u{n}, sales/*, read, true, allow\n" for n in range(25))
    rules += "p, user:bob, sales/*, read, true, allow\n" * 25
    words = ("bob", "GET", "/sales/daily.csv", "--policies", folder(tmp_path, GOOD + rules))
    shown = invoke(*words).output
    assert shown.count("policy.csv") >= 45 and shown.count("applied") == 25
    others = shown.count("about somebody else") - 1
    told = json.loads(invoke(*words, "--json").output)["lines"]
    assert others == 20
    assert f"and {sum(each['said'] == 'about somebody else' for each in told) - 20} more" in shown


@pytest.mark.parametrize(
    "words",
    [("alice", "GET", "../x"), ("alice", "GET", "/x", "--as-of", "noon"),
     ("alice", "GET", "/x", "--attribute", "shoe=9"), ("alice", "GET", "/x", "--purpose", "fun")],
)  # fmt: skip
def test_what_cannot_be_asked_is_told_without_a_traceback(tmp_path, words):
    """A malformed path, time, attribute or purpose is one message, and exit status 2: it is no denial."""
    result = invoke(*words, "--policies", folder(tmp_path, GOOD))
    assert result.exit_code == 2 and result.stderr.startswith("counterfoil: ")


AUDITED = GOOD + "p, role:auditor, sales/*, read, env.purpose in ['audit'], allow\np2, role:auditor, sales/*, true, region, clear\n"  # fmt: skip


@pytest.mark.parametrize(
    ("words", "status", "cause", "headline"),
    [
        (("analysts", "GET", ""), 200, "", "permitted: user:alice reads sales/daily"),
        (("analysts", "HEAD", ""), 200, "", "permitted: user:alice reads sales/daily"),
        (("analysts", "POST", ""), 405, "method", "refused: user:alice reads sales/daily (405, cause method)"),
        (("analysts", "GET", "?foo=1"), 400, "parameter-unknown", "refused: "),
        (("others", "POST", "?foo=1"), 404, "no-allow-line", "denied: "),
        (("auditors", "GET", ""), 403, "purpose-required", "denied: "),
        (("auditors", "POST", "?foo=1"), 405, "method", "denied: "),
        (("auditors", "GET", "?foo=1"), 400, "parameter-unknown", "denied: "),
    ],
)  # fmt: skip
def test_it_says_what_the_proxy_would_answer(tmp_path, words, status, cause, headline):
    """Headline, JSON and exit status are those of the request, not of the lines alone; in the order of the proxy."""
    group, method, query = words
    where = folder(tmp_path, AUDITED + "g, group:auditors, role:auditor\n")
    reports = (tmp_path / "reports.yaml").read_text()
    (tmp_path / "reports.yaml").write_text(f"purposes: [audit]\n{reports}")
    asked = ("alice", method, f"/sales/daily.csv{query}", "--group", group, "--policies", where)
    shown, told = invoke(*asked), invoke(*asked, "--json")
    assert shown.exit_code == told.exit_code == (0 if status == 200 else 1)
    document = json.loads(told.output)
    decision = "permit" if status == 200 else "deny"
    assert (document["decision"], document["status"], document["cause"]) == (
        decision,
        status,
        cause,
    )
    assert shown.output.startswith(headline)


def test_an_unknown_report_is_json_too(tmp_path):
    """A program gets one object, with the paths that there are."""
    words = ("alice", "GET", "/nope", "--policies", folder(tmp_path, GOOD), "--json")
    result = invoke(*words)
    document = json.loads(result.output)
    assert (result.exit_code, document["decision"], document["status"]) == (1, "deny", 404)
    assert (document["cause"], document["paths"]) == ("unknown-report", ["/sales/daily.csv"])


PARAMETERS = (
    GOOD
    + """\
p2, role:analyst, sales/*, true, net, round(100)
p2, group:north, sales/*, row.region == 'North', region|net, clear
p,  group:north, sales/*, read, true, allow
p2, group:some, sales/*, true, region, clear
p2, group:some, sales/*, row.region == 'North', net, clear
p,  group:some, sales/*, read, true, allow
p2, group:half, sales/*, true, region|paid|net, clear
p2, group:half, sales/*, row.paid, net, deny
p,  group:half, sales/*, read, true, allow
"""
)


@pytest.mark.parametrize(
    ("group", "query", "status", "said"),
    [
        ("analysts", "sort=region", 0, ""),
        (
            "analysts",
            "sort=net",
            1,
            "(403): sort looks at net, which is given as round(100) (policy.csv:4)",
        ),
        ("analysts", "least=5", 1, "(403): least looks at net, which is given as round(100)"),
        (
            "analysts",
            "sort=paid",
            1,
            "(400): `sort` is one or more of region, with `,` between; parameters of this report: least, sort, region",
        ),
        ("analysts", "x=1", 1, "(400): parameter-unknown"),
        ("north", "sort=net", 0, ""),
        (
            "some",
            "sort=net",
            1,
            "clear only where row.region == 'North', and other rows are given too",
        ),
        ("half", "least=5", 1, "which is hidden where row.paid (policy.csv:11)"),
    ],
)
def test_it_says_why_a_parameter_is_refused(tmp_path, group, query, status, said):
    """The field that it looks at, the form in which it is given instead, or the rows, and the line."""
    where = folder(tmp_path, PARAMETERS)
    words = ("alice", "GET", f"/sales/daily.csv?{query}", "--group", group, "--policies", where)
    shown, told = invoke(*words), invoke(*words, "--json")
    assert shown.exit_code == told.exit_code == status
    assert said in shown.output
    refused = json.loads(told.output).get("refused")
    assert (refused is None) == (status == 0)
    assert refused is None or f"({refused['status']}): {refused['why']}" in shown.output


def test_it_says_of_each_parameter_who_may_use_it(tmp_path):
    """Without a query too: what may be used, what is refused whatever it says, and what with some fields."""
    where = folder(tmp_path, PARAMETERS)
    pages = "parameters:\n      limit: {by: limit, most: 500}\n      q: {type: text}\n"
    (tmp_path / "reports.yaml").write_text(REPORTS.replace("parameters:\n", pages))
    words = ("alice", "GET", "/sales/daily.csv", "--group", "analysts", "--policies", where)
    told = json.loads(invoke(*words, "--json").output)["parameters"]
    assert {each["parameter"]: (each["never"], [h["field"] for h in each["hidden"]]) for each in told} == {
        "limit": (False, []), "q": (False, []), "least": (True, ["net"]), "sort": (False, ["net"]),
        "region": (False, []),
    }  # fmt: skip
    assert {each["parameter"]: each["most"] for each in told if each["most"]} == {"limit": 500}
    shown = invoke(*words).output
    assert "may be used, up to 500" in shown
    assert "refused: net, given as round(100) (policy.csv:4)" in shown
    assert "refused with net, given as round(100) (policy.csv:4)" in shown
    assert "may be used" in shown


@pytest.mark.parametrize(("group", "hidden"), [("analysts", ["net"]), ("north", [])])
def test_it_says_that_rows_are_sorted_anew_and_for_which_field(tmp_path, group, hidden):
    """Where the catalogue says that the store's order depends on a field that is not clear."""
    where = folder(tmp_path, PARAMETERS)
    ordered = REPORTS.replace("    store: s\n", "    store: s\n    ordered_by: [region, net]\n")
    (tmp_path / "reports.yaml").write_text(ordered)
    words = ("alice", "GET", "/sales/daily.csv", "--group", group, "--policies", where)
    assert json.loads(invoke(*words, "--json").output)["sorted_for"] == hidden
    assert ("the store orders them by net" in invoke(*words).output) == bool(hidden)


def test_what_is_typed_is_shown_as_it_is(tmp_path):
    """Names of groups, users and tools are no markup, no emoji and no second line."""
    where = folder(tmp_path, GOOD)
    words = (
        "GET",
        "/sales/daily.csv",
        "--group",
        "[/b]",
        "--group",
        "[red]x:smile:",
        "--policies",
        where,
    )
    result = invoke("a\n:smile:[/b]", *words, "--tool", "[bold]t")
    assert result.exit_code == 1
    assert r"user:a\n:smile:[/b] reads sales/daily through tool:[bold]t" in result.output
    assert "groups: group:[/b], group:[red]x:smile:" in result.output


@pytest.mark.parametrize("width", [60, 80])
def test_a_narrow_terminal_cuts_nothing_off(tmp_path, width, monkeypatch):
    """Each line's place stands there whole, and each word of a condition, on however many lines."""
    monkeypatch.setattr(Console, "is_terminal", True)
    monkeypatch.setenv("COLUMNS", str(width))
    filler = "".join(
        f"p, user:someone-else-{number}, sales/*, read, true, allow\n" for number in range(120)
    )
    rules = (
        GOOD
        + filler
        + "p, role:analyst, sales/*, read, env.purpose in ['audit', 'reconcile'], deny\n"
        "p2, role:analyst, sales/*, row.region == 'Donaudampfschifffahrtsgesellschaft', net, clear\n"
    )
    where = folder(tmp_path, rules)
    result = invoke("alice", "GET", "/sales/daily.csv", "--group", "analysts", "--policies", where)
    text = re.sub(r"\x1b\[[0-9;]*m", "", result.output)
    assert "policy.csv:124" in text and "policy.csv:125" in text and "…" not in text


PEOPLE = (
    SUBJECTS.replace("{claim: groups}", "{claim: groups, source: people-else-claim}")
    + """\
    attributes:
      stores: {type: text, many: true, source: people}
      region: {claim: region, type: text, source: people-else-claim}
      level: {claim: level, type: integer}
"""
)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--attribute", "stores=2001"), "`stores`: not what the token of user:sam says counts, but people.csv"),
        (("--attribute", "region=South"), "`region`: not what"),
        (("--group", "other", "--attribute", "stores=1"), "`stores`, its groups: not what"),
        (("--attribute", "level=1", "--attribute", "level=2"), "`level` is named twice"),
        (("--ip", "foo"), "`foo` is not an address"),
    ],
)  # fmt: skip
def test_what_would_not_count_is_not_left_out_in_silence(tmp_path, words, said):
    """An attribute or group that people.csv decides, a second value, an address that is none: exit status 2."""
    where = folder(tmp_path, GOOD)
    (tmp_path / "subjects.yaml").write_text(PEOPLE)
    (tmp_path / "people.csv").write_text(
        "subject, groups, stores, region\nuser:sam, group:mine, 1|2, 'North'\n"
    )
    asked = ("GET", "/sales/daily.csv", "--policies", where)
    result = invoke("sam", *asked, *words)
    assert result.exit_code == 2 and said in result.stderr
    told = json.loads(invoke("sam", *asked, "--attribute", "level=1", "--json").output)
    assert told["groups"] == ["group:mine"]
    assert invoke("zoe", *asked, "--attribute", "region=South", "--group", "x").exit_code == 1


@pytest.mark.parametrize("subject", ["role:analyst", "group:x", "set:s", "anyone", ""])
def test_who_is_no_subject_is_told_so(tmp_path, subject):
    """A role or a group asks for nothing; a user of that name is written out."""
    asked = ("GET", "/sales/daily.csv", "--policies", folder(tmp_path, GOOD))
    result = invoke(subject, *asked)
    assert result.exit_code == 2 and "name a user or a tool" in result.stderr
    assert invoke(f"user:{subject or 'x'}", *asked).exit_code == 1
    assert invoke("tool:bi", *asked, "--tool", "other").exit_code == 2
