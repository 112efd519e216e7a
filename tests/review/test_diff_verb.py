"""`counterfoil policy diff`, as an admin types it, over the demo's own policies."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import proxy.demo
from proxy.cli import main
from proxy.policy.rules import MODEL

DEMO = Path(proxy.demo.__file__).parent / "policies"
CONTRACTOR = """
p,  role:contractor, sales/store-daily, read, true, allow
p2, role:contractor, sales/store-daily, row.city == 'Ames', * except @confidential|@personal, clear
g,  group:contractors, role:contractor
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The demo's policies, in the current folder and in git's."""
    shutil.copytree(DEMO, tmp_path / "policies")
    (tmp_path / "policies" / "model.conf").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "as it was"]):
        git = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.com", *words]
        subprocess.run(git, check=True)
    return tmp_path / "policies"


def told(*words):
    """Exit status, changes, and what is printed."""
    done = CliRunner().invoke(main, ["policy", "diff", *words, "--json"], catch_exceptions=False)
    shown = CliRunner().invoke(main, ["policy", "diff", *words], catch_exceptions=False)
    assert done.exit_code == shown.exit_code
    return done.exit_code, json.loads(done.stdout)["changes"], shown.stdout


def edit(folder, name, old, new):
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))


def test_nothing_is_the_same(folder):
    """Comments, order and spaces give nobody anything; the status is 0."""
    text = (folder / "policy.csv").read_text()
    (folder / "policy.csv").write_text("# a note\n" + text.replace(", true,", ",  true ,"))
    status, changes, shown = told("HEAD")
    assert (status, changes) == (0, [])
    assert "nobody gains or loses anything" in shown


def test_a_new_role_is_told_once_with_a_row(folder):
    """A role's gain is one sentence, who has it by the role is named beside it, and a row shows it."""
    with (folder / "policy.csv").open("a") as file:
        file.write(CONTRACTOR)
    status, (change,), shown = told("HEAD", "policies")
    assert status == 1
    assert change["principal"] == "role:contractor"
    assert change["members"] == ["group:contractors"]
    assert change["kind"] == "gains rows"
    assert change["witness"] == [["city", "'Ames'"]]
    assert "gross_margin" not in change["fields"]
    assert "where row.city == 'Ames'" in shown
    assert "such as city = 'Ames'" in shown


def test_the_other_way_round_it_is_a_loss(folder):
    """What was given and no more is: a loss, at the same row."""
    with (folder / "policy.csv").open("a") as file:
        file.write(CONTRACTOR)
    shutil.copytree(folder, folder.parent / "wider")
    _, (change,), _ = told("wider", str(as_committed(folder)))
    assert (change["kind"], change["was"], change["now"]) == ("loses rows", "clear", "absent")


def as_committed(folder):
    """The policies as they were committed, in a folder of their own."""
    old = folder.parent / "old"
    shutil.copytree(DEMO, old)
    (old / "model.conf").write_text(MODEL)
    return old


def test_a_person_s_line_counts(folder):
    """One more store in people.csv: that user gains that store's rows, and nobody else anything."""
    text = (folder / "people.csv").read_text()
    line = next(line for line in text.splitlines() if "user:sam" in line)
    stores = line.split(",")[1].strip()
    edit(folder, "people.csv", stores, f"{stores}|9999")
    edit(
        folder,
        "policy.csv",
        "g,  group:store-owners,",
        "g,  user:sam,  role:store-owner\ng,  group:store-owners,",
    )
    status, changes, _ = told("HEAD")
    assert status == 1
    assert {c["principal"] for c in changes} == {"user:sam"}
    old = as_committed(folder)
    edit(
        old,
        "policy.csv",
        "g,  group:store-owners,",
        "g,  user:sam,  role:store-owner\ng,  group:store-owners,",
    )
    _, (change,), _ = told("old", "policies")
    assert (change["principal"], change["kind"]) == ("user:sam", "gains rows")
    assert ["store_id", "'9999'"] in change["witness"]


TEMPS = """
g,  group:temps, role:temp
p2, role:temp, sales/*, true, net_sales|@internal, deny
"""


def add(folder, text):
    with (folder / "policy.csv").open("a") as file:
        file.write(text)


def test_a_deny_on_a_role_that_allows_nothing_is_told_with_each_role_that_does(folder):
    """It takes from those alone who hold another role too: these are named, with what they lose."""
    add(folder, TEMPS)
    status, changes, shown = told("HEAD")
    assert status == 1
    assert {c["kind"] for c in changes} == {"loses"}
    assert {c["principal"] for c in changes} == {"role:temp"}
    assert {tuple(c["also"]) for c in changes} == {
        ("role:analyst",), ("role:investigator",), ("role:store-owner",),
    }  # fmt: skip
    assert all(c["members"] == ["group:temps"] for c in changes)
    of_analysts = [c for c in changes if c["also"] == ["role:analyst"]]
    assert ("round(100)", ["net_sales"]) in [(c["was"], c["fields"]) for c in of_analysts]
    assert "role:temp (so group:temps) on sales/" in shown
    assert "together with role:analyst or role:investigator" in shown
    assert "nobody" not in shown


def told_of(changes):
    """Who it is told of what they read, and what it is to them."""
    return {(c["principal"], c["kind"]) for c in changes if c["action"] == "read"}


@pytest.mark.parametrize(
    "line",
    ["p, role:blocked, sales/*, read, true, deny", "p, tool:demo-cli, sales/*, read, true, deny",
     "p, role:blocked, sales/*, act, true, deny", "p2, tool:demo-cli, sales/*, true, *, deny"],
)  # fmt: skip
def test_a_deny_is_told_both_ways(folder, line):
    """Of a role, or of a tool through which users ask: put in it is a loss, taken out it is a gain."""
    add(folder, f"{line}\n")
    principal = line.split(", ")[1]
    status, changes, _ = told("HEAD")
    assert status == 1
    assert told_of(changes) == {(principal, "loses rows")}
    status, changes, _ = told(str(folder), str(as_committed(folder)))
    assert status == 1
    assert told_of(changes) == {(principal, "gains rows")}


def test_cells_without_access_are_told_with_the_role_that_has_it(folder):
    """A role of `p2` lines alone gives something to those who may read by another one."""
    add(folder, "p2, role:margins, sales/store-daily, true, gross_margin, clear\n")
    _, changes, _ = told("HEAD")
    assert {(c["principal"], *c["also"], c["kind"]) for c in changes} == {
        ("role:margins", "role:analyst", "gains"),
        ("role:margins", "role:store-owner", "gains rows"),
    }


def test_a_person_whose_groups_the_token_gives_is_told_with_the_role_that_reads_its_line(folder):
    """As the demo's own sam: two more stores are two more stores' rows."""
    edit(folder, "people.csv", "2191|2192", "2191|2192|2001|2002")
    status, (change,), shown = told("HEAD")
    assert status == 1
    assert (change["principal"], change["also"]) == ("user:sam", ["role:store-owner"])
    assert change["kind"] == "gains rows"
    assert change["person"] == "sub.stores now with '2001', '2002'"
    ((name, store),) = change["witness"]
    assert (name, store) in {("store_id", "'2001'"), ("store_id", "'2002'")}
    assert "user:sam (sub.stores now with '2001', '2002') on sales/store-daily" in shown
    assert "clear together with role:store-owner where row.store_id in sub.stores\n" in shown


def test_a_person_s_line_that_ends_later_is_told_for_the_time_between(folder):
    """`valid-until` is a condition on the time; one that is past both then and now is nobody's matter."""
    old = as_committed(folder)
    line = "subject, stores, valid-until\nuser:sam, 2191|2192, {}\n"
    (old / "people.csv").write_text(line.format("2046-12-31"))
    (folder / "people.csv").write_text(line.format("2056-12-31"))
    status, (change,), _ = told("old", "policies")
    assert status == 1
    assert (change["principal"], change["kind"]) == ("user:sam", "gains rows")
    assert change["when"] == (
        "env.now >= time('2047-01-01T00:00:00Z') and env.now < time('2057-01-01T00:00:00Z')"
    )
    (old / "people.csv").write_text(line.format("2016-12-31"))
    (folder / "people.csv").write_text(line.format("2019-12-31"))
    assert told("old", "policies")[:2] == (0, [])


def test_a_person_s_line_that_is_the_same_is_nobody_s_news(folder):
    """What a role gains is told there, also where people.csv gives somebody its group for a time."""
    edit(
        folder,
        "subjects.yaml",
        "groups: {claim: groups}",
        "groups: {claim: groups, source: claim-and-people}",
    )
    line = (
        "subject, groups, stores, valid-until\nuser:sam, group:sales-analysts, 2191, 2056-12-31\n"
    )
    (folder / "people.csv").write_text(line)
    shutil.copytree(folder, folder.parent / "before")
    add(folder, "p2, role:analyst, sales/producers, true, share, clear\n")
    _, (change,), _ = told("before", "policies")
    assert (change["principal"], change["also"], change["when"]) == ("role:analyst", [], "true")
    assert change["members"] == ["group:sales-analysts", "user:sam"]


def test_roles_that_change_places_are_told(folder):
    """One holds the other in the old version, the other way round in the new one: none hides both."""
    add(folder, "g, role:a, role:b\n")
    shutil.copytree(folder, folder.parent / "before")
    edit(folder, "policy.csv", "g, role:a, role:b\n", "g, role:b, role:a\n")
    role = "role:a, sales/producers"
    add(folder, f"p, {role}, read, true, allow\np2, {role}, true, share, clear\n")
    _, changes, _ = told("before", "policies")
    (alone,) = [each for each in changes if not each["also"]]
    assert {alone["principal"], *alone["members"]} == {"role:a", "role:b"}


def test_what_cannot_be_compared_is_said(folder):
    """A text of which the solver knows nothing: who hangs on it is named, and the status is 1."""
    role = "role:odd, sales/store-daily"
    add(
        folder, f"p, {role}, read, true, allow\np2, {role}, row.city == '\U000e0041', city, clear\n"
    )
    shutil.copytree(folder, folder.parent / "odd")
    add(folder, TEMPS)
    done = CliRunner().invoke(main, ["policy", "diff", "odd", "policies"], catch_exceptions=False)
    assert done.exit_code == 1
    said = "some roles and groups together, read on sales/store-daily (city)"
    assert done.stdout.endswith(f"not compared\n  {said}\n")
    assert "nobody" not in done.stdout


def test_other_issuers_are_not_compared_and_said_to_be_others(folder):
    """subjects.yaml says who is who: only notes in it change nothing."""
    text = (folder / "subjects.yaml").read_text()
    (folder / "subjects.yaml").write_text(f"# a note\n{text}")
    assert told("HEAD")[0] == 0
    edit(folder, "subjects.yaml", "audience: [counterfoil]", "audience: [another]")
    status, changes, shown = told("HEAD")
    assert (status, changes) == (1, [])
    assert "not compared\n  subjects.yaml" in shown
    assert "nobody" not in shown


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("daily.csv, format: csv", "daily.csv, format: csv, source: /finance/payroll.csv",
         "sales/store-daily: /sales/store-daily.csv reads /finance/payroll.csv instead of /sales/store-daily.csv"),
        ("http://127.0.0.1:8701", "http://127.0.0.1:8702",
         "store demo: url is http://127.0.0.1:8702 instead of http://127.0.0.1:8701"),
        ("file:../store-token", "file:../other-token",
         "store demo: credential is file:../other-token instead of file:../store-token"),
        ('credential: "file:../store-token"', "basic: {user: proxy, password: 'env:P'}, limits: {retries: 0}",
         "store demo: limits is {retries: 0} instead of nothing"),
        ("      - {path: /sales/store-daily.json, format: json}\n", "",
         "sales/store-daily: /sales/store-daily.json is no more"),
        ("    key: [employee_no]\n    variants:\n",
         "    key: [employee_no]\n    variants:\n      - {path: /pay.json, format: json, source: /p}\n",
         "finance/payroll: /pay.json is new, from /p"),
        ("rows_at: [data, rows]", "rows_at: [data, rows], members: {licence: none}",
         "sales/producers: /sales/producers.json: members is {licence: none} instead of nothing"),
        ("finance/payroll:\n", "finance/wages:\n", "finance/payroll: is no more"),
        ("finance/payroll:\n", "finance/wages:\n", "finance/wages: is new, at /finance/payroll.csv"),
        ("      from:", "      sku: {type: text, field: sku}\n      from:",
         "sales/store-daily: the parameter sku is new"),
        ("      from: {type: date, field: date, operator: ge}\n", "",
         "sales/store-daily: the parameter from is no more"),
        ("field: date, operator: ge", "field: date, operator: le",
         "sales/store-daily: the parameter from: operator is le instead of ge"),
        ("[reconcile, audit]", "[reconcile]", "purpose audit: is no more"),
        ("[reconcile, audit]", "[reconcile, audit, tax]", "purpose tax: is new"),
        ("    ordered_by: [date, store_id] #", "    #",
         "sales/store-daily: ordered_by is nothing instead of [date, store_id]"),
        ("salary: {type: decimal", "salary: {type: text",
         "finance/payroll: the field salary: type is text instead of decimal"),
        ("salary: {type: decimal, class: personal}", "salary: {type: decimal, class: public}",
         "finance/payroll: the field salary: class is public instead of personal"),
        ("      salary: {type: decimal, class: personal}\n", "",
         "finance/payroll: the field salary is no more"),
        ("      employee_no: {type: text, class: personal}\n      given_name: {type: text, class: personal}\n",
         "      given_name: {type: text, class: personal}\n      employee_no: {type: text, class: personal}\n",
         "finance/payroll: its fields are in another order"),
    ],
)  # fmt: skip
def test_what_the_catalogue_declares_otherwise_is_told(folder, before, after, said):
    """Where a report comes from, under which paths, by what it can be asked for: the status is 1."""
    edit(folder, "reports.yaml", before, after)
    done = CliRunner().invoke(main, ["policy", "diff", "HEAD", "--json"], catch_exceptions=False)
    declared = json.loads(done.stdout)["catalogue"]
    status, _, shown = told("HEAD")
    assert status == done.exit_code == 1
    assert said in [f"{each['about']}: {each['what']}" for each in declared]
    assert f"reports.yaml\n  {declared[0]['about']}: {declared[0]['what']}\n" in shown
    assert "nobody" not in shown


def test_what_the_catalogue_only_writes_otherwise_is_no_change(folder):
    """A source that is the path, a note, the order of reports: the status is 0."""
    edit(
        folder,
        "reports.yaml",
        "daily.csv, format: csv",
        "daily.csv, format: csv, source: /sales/store-daily.csv",
    )
    edit(
        folder,
        "reports.yaml",
        "purposes: [reconcile, audit]",
        "purposes: [audit, reconcile] # a note",
    )
    assert told("HEAD")[:2] == (0, [])


def test_another_form_and_another_right(folder):
    """A coarser form is told as one, a right to act or grant as a right."""
    edit(folder, "policy.csv", "net_sales, round(100)", "net_sales, round(1000)")
    edit(
        folder,
        "policy.csv",
        "sales/*,           grant, true",
        "sales/*,           grant, env.method == 'GET'",
    )
    _, changes, shown = told("HEAD")
    assert {(c["principal"], c["kind"], c["action"]) for c in changes} == {
        ("role:analyst", "sees otherwise", "read"),
        ("role:admin", "loses", "grant"),
    }
    assert "net_sales round(1000) instead of round(100)" in shown


def lines_of(shown):
    """The sentences that are printed, without their headings and witnesses."""
    return [line[2:] for line in shown.splitlines() if re.match("  [^ ]", line)]


ANALYST = (
    "with date, store_id, city, postal_code, sku, product_name, producer, units clear, "
    "store_name pseudonym, net_sales round(100) on sales/store-daily, "
    "and with net_sales round(100), producer, country clear on sales/producers"
)


def test_a_role_that_is_called_otherwise_is_one_loss_and_one_gain(folder):
    """All its fields, forms and reports are one sentence each."""
    edit(folder, "policy.csv", "role:analyst", "role:reader")
    shown = told("HEAD")[2]
    assert lines_of(shown) == [f"loses rows {ANALYST}", f"gains rows {ANALYST}"]


def test_the_condition_of_access_is_in_the_sentence(folder):
    """What is lost but for some purposes is kept for these; who holds another role too loses that as well."""
    add(folder, "p, role:analyst, sales/*, read, not (env.purpose in ['audit']), deny\n")
    shown = told("HEAD")[2]
    kept = "and keeps it when env.purpose in ['audit']"
    assert lines_of(shown) == [
        f"loses rows {ANALYST}, {kept}",
        f"loses rows together with role:investigator, {kept}",
        f"loses rows together with role:store-owner where row.store_id in sub.stores, {kept}",
    ]


def test_a_time_that_ends_later_is_told_with_both_ends(folder):
    """A gain under a condition on the time, which was another before."""
    clerk = "p, role:clerk, sales/producers, read, env.now < time('{}-01-01T00:00:00Z'), allow\n"
    clerk += "p2, role:clerk, sales/producers, true, producer, clear\n"
    add(folder, clerk.format(2047))
    shutil.copytree(folder, folder.parent / "before")
    edit(folder, "policy.csv", "time('2047", "time('2057")
    (said,) = lines_of(told("before", "policies")[2])
    assert said == (
        "gains rows with producer clear when env.now < time('2057-01-01T00:00:00Z'), "
        "and had it when env.now < time('2047-01-01T00:00:00Z')"
    )


def test_what_a_tool_may_not_do_any_more_is_told_with_those_for_whom_it_asks(folder):
    """One deny, one sentence for all roles that lose every row by it, and one for those that have some."""
    add(folder, "p, tool:demo-cli, sales/*, read, true, deny\n")
    (all_of_them, some) = sorted(lines_of(told("HEAD")[2]), key=len)
    assert set(re.findall("role:[a-z-]+", all_of_them)) == {"role:analyst", "role:investigator"}
    assert some == "loses rows for role:store-owner where row.store_id in sub.stores"


def test_who_is_unlike_others_only_through_a_tool_is_told_with_it(folder):
    """A deny on `act` of a role: its holders lose what they ask for through tools."""
    add(folder, "p, role:blocked, sales/*, act, true, deny\n")
    said = lines_of(told("HEAD")[2])
    assert (
        "loses rows together with role:analyst or role:investigator through tool:demo-cli" in said
    )


def test_broken_policies_are_told_with_their_lines(folder):
    """A fault in either is shown as `check` shows it; the status is 2."""
    edit(folder, "policy.csv", "row.store_id in sub.stores", "row.store_id in sub.shops")
    done = CliRunner().invoke(main, ["policy", "diff", "HEAD"])
    assert done.exit_code == 2
    assert "policy.csv:" in done.output


@pytest.mark.parametrize("revision", ["no-such", "HEAD~7", "HEAD:nowhere", "--output=x"])
def test_what_is_no_revision_is_said(folder, revision):
    """Neither a folder nor a revision, or one without policies: a sentence and 2."""
    done = CliRunner().invoke(main, ["policy", "diff", "--", revision])
    assert done.exit_code == 2
    assert done.output.startswith("counterfoil: ")


def test_a_revision_may_name_its_folder(folder):
    """REV:FOLDER is the folder then, where it is not here any more too."""
    shutil.move(folder, folder.parent / "moved")
    assert told("HEAD:policies", "moved")[0] == 0


def test_without_the_solver_it_says_what_to_install(folder, monkeypatch):
    """The extra is named; nothing else of the command line needs it."""
    monkeypatch.setitem(sys.modules, "proxy.review.difference", None)
    done = CliRunner().invoke(main, ["policy", "diff", "HEAD"])
    assert done.exit_code == 2
    assert "counterfoil[review]" in done.output
