"""`counterfoil policy explain --event ID`, over the log of a real proxy."""

from __future__ import annotations

import json
import time

import pytest
from click.testing import CliRunner

from proxy.audit import Reader
from proxy.cli import main
from tests.gateway.reloading import Stream
from tests.gateway.test_control import ask
from tests.harness import sales
from tests.harness.proxy import stage
from tests.harness.store import Page
from tests.review.governing import GRANT, LOCKDOWN, RULES, governed

CSV = "/sales/daily.csv"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A proxy that was asked, and whose folder has another policy since."""
    folder = tmp_path_factory.mktemp("event")
    sort = "parameters:\n      sort: {by: order, fields: [date, net_sales], direction: minus}\n"
    reports = sales.REPORTS.replace("parameters:\n", sort, 1)
    with stage(folder, reports=reports, rules=sales.RULES) as (store, proxy):
        store.pages[CSV] = Page(sales.as_csv(sales.rows(3)))
        tokens = {
            "alice": proxy.issuer.token("alice", groups=("analysts",)),
            "olga": proxy.issuer.token("olga", groups=("owners",), stores=["1"]),
            "nobody": proxy.issuer.token("nobody"),
        }
        events = {who: proxy.get(CSV, token=token).event for who, token in tokens.items()}
        events["stranger"] = proxy.get(CSV, token=None).event
        events["astray"] = proxy.get("/no/such", token=tokens["alice"]).event
        stated = proxy.get(CSV, token=tokens["alice"], headers={"Counterfoil-Purpose": "fun"})
        events["stated"] = stated.event
        queries = {"sorter": "sort=date,-net_sales", "filterer": "least=1234.5", "odd": "foo=1"}
        for name, query in queries.items():
            events[name] = proxy.get(f"{CSV}?{query}", token=tokens["alice"]).event
        path = proxy.home.policies / "policy.csv"
        path.write_text("p, role:nobody, sales/daily, read, true, allow\n")
        yield proxy.home, events


def explained(world, who, *words):
    home, events = world
    words = ("policy", "explain", "--event", events.get(who, who), "-c", str(home.settings), *words)
    shown = CliRunner().invoke(main, words)
    done = CliRunner().invoke(main, [*words, "--json"])
    assert shown.exit_code == done.exit_code
    return done.exit_code, json.loads(done.stdout) if done.stdout[:1] == "{" else {}, shown.output


def test_it_is_decided_by_the_policy_of_then(world):
    """The folder has changed since; what is explained is what was in force, from the kept version."""
    status, found, shown = explained(world, "alice")
    assert status == 0
    assert (found["subject"], found["decision"]) == ("user:alice", "permit")
    assert found["event"]["decision"] == "permit"
    assert "group:analysts" in found["groups"]
    assert any(line["said"] == "applied" for line in found["lines"])
    assert "permitted" in shown


def test_a_refused_one_can_hand_its_id_to_the_admin(world):
    """The id is enough to see which lines would have let it in."""
    status, found, shown = explained(world, "nobody")
    assert status == 1
    assert found["cause"] == found["event"]["cause"] == "no-allow-line"
    assert "role:analyst" in shown


def test_what_the_log_does_not_hold_is_said(world):
    """Attributes of the token are unknown, and named; --attribute gives them."""
    _, found, shown = explained(world, "olga")
    assert "stores" in found["event"]["unknown"]
    assert "not on record" in shown
    _, found, shown = explained(world, "olga", "--attribute", "stores=1")
    assert "stores" not in found["event"]["unknown"]
    assert "not on record" not in shown


@pytest.mark.parametrize(("who", "parameter"), [("sorter", "sort"), ("filterer", "least")])
def test_a_refused_parameter_is_named_with_its_field_and_line(world, who, parameter):
    """Of an order by what it named, of a filter though its value is on record as a digest alone."""
    status, found, shown = explained(world, who)
    assert (status, found["status"], found["cause"]) == (1, 403, "hidden-field")
    assert (
        f"(403): {parameter} looks at net_sales, which is given as round(100) (policy.csv:6)"
        in shown
    )


@pytest.mark.parametrize(
    ("who", "cause"), [("odd", "parameter-unknown"), ("stated", "unknown-purpose")]
)
def test_a_request_that_was_refused_is_no_permit(world, who, cause):
    """What is answered is on record: 400, though the lines permit it."""
    status, found, shown = explained(world, who)
    assert (status, found["decision"], found["status"], found["cause"]) == (1, "deny", 400, cause)
    assert f"refused: user:alice reads sales/daily through tool:app (400, cause {cause})" in shown
    assert any(line["said"] == "applied" for line in found["lines"])


@pytest.mark.parametrize(
    ("who", "said", "answered"),
    [("stranger", "was not known", 401), ("astray", "refused before", 404)],
)
def test_what_no_line_decided_is_said(world, who, said, answered):
    """No token, no report: a sentence, or an object, and the exit status of a refusal."""
    status, found, shown = explained(world, who)
    assert (status, found["decision"], found["status"]) == (1, "deny", answered)
    assert said in shown


@pytest.mark.parametrize(
    ("id_", "said"),
    [("0" * 32, "no access of that id"), ("../x", "32 hexadecimal"), ("A" * 32, "32 hexadecimal")],
)
def test_an_event_that_is_not_there_is_no_denial(world, id_, said):
    """Exit status 2, a sentence, and no traceback."""
    status, found, shown = explained(world, id_)
    assert (status, found) == (2, {})
    assert said in shown and "Traceback" not in shown


def test_it_takes_nothing_beside_the_id(world):
    """What is on record is not said again on the command line."""
    assert explained(world, "alice", "--group", "x")[0] == 2


@pytest.fixture(scope="module", name="governed")
def _governed(tmp_path_factory):
    """A proxy on which ada may grant and lock down, and nora lock down one report of three."""
    folder = tmp_path_factory.mktemp("governed")
    one = "p, user:nora, sales/daily, lockdown, true, allow\n"
    with governed(folder, one) as (proxy, ada, nora):
        asked = {
            "grant": ("POST", "/-/grants", GRANT, ada),
            "own": ("POST", "/-/grants", GRANT | {"subject": "user:ada"}, ada),
            "forbidden": ("POST", "/-/lockdowns", LOCKDOWN, nora),
            "lockdown": ("POST", "/-/lockdowns", LOCKDOWN, ada),
        }
        events = {name: ask(proxy, *words, by=by).event for name, (*words, by) in asked.items()}
        end = f"/-/lockdowns/{events['lockdown']}"
        events["lift"] = ask(proxy, "DELETE", end, by=ada).event
    return proxy.home, events


@pytest.mark.parametrize(
    ("what", "about"),
    [
        ("grant", "grant on sales/daily"),
        ("lockdown", "lockdown on sales/*"),
        ("lift", "lockdown on sales/*"),
    ],
)
def test_a_grant_and_a_lockdown_are_told_with_their_action(governed, what, about):
    """What gives no cells is permitted by its lines alone, on all reports that it is about."""
    status, found, shown = explained(governed, what, "--attribute", "level=5")
    assert status == 0
    assert (found["action"], found["decision"], found["status"]) == (
        about.split()[0],
        "permit",
        200,
    )
    assert f"permitted: user:ada: {about}" in shown
    assert any(line["said"] == "applied" for line in found["lines"])


def test_the_answer_of_then_is_told_and_not_one_of_now(governed):
    """A permit that hung on an attribute of the token stays one; a refusal for another reason is one."""
    status, found, shown = explained(governed, "grant")
    assert (status, found["decision"], found["event"]["anew"]) == (0, "permit", "deny")
    assert "with what is known here it would be denied" in shown and "sub.level" in shown
    status, found, shown = explained(governed, "own", "--attribute", "level=5")
    assert (status, found["status"], found["cause"]) == (1, 409, "own-grant")
    assert "refused: user:ada: grant on sales/daily" in shown


def test_a_lockdown_of_several_reports_says_which_one_refuses_it(governed):
    """The line about another report applied, and was not enough."""
    status, found, shown = explained(governed, "forbidden")
    assert (status, found["refused_on"]) == (1, "sales/secret")
    assert "denied: user:nora: lockdown on sales/* through tool:app" in shown
    assert "(404, cause no-allow-line on sales/secret)" in shown
    assert [line["said"] for line in found["lines"] if line["principal"] == "user:nora"] == [
        "applied"
    ]


def test_what_the_token_did_not_decide_cannot_be_named_for_it(tmp_path):
    """An attribute that people.csv gave is known as it was; another value for it is refused."""
    with stage(tmp_path, reports=sales.REPORTS, rules=sales.RULES) as (_, proxy):
        subjects = (proxy.home.policies / "subjects.yaml").read_text()
        proxy.home.write("subjects.yaml", subjects.replace("claim: level,", "source: people,"))
        proxy.home.write("people.csv", "subject, level\nuser:alice, 5\n")
        assert proxy.reload()
        alice = proxy.issuer.token("alice", groups=("analysts",))
        events = {"alice": proxy.get(CSV, token=alice).event}
    status, _, shown = explained((proxy.home, events), "alice", "--attribute", "level=7")
    assert status == 2 and "came from people.csv" in shown


@pytest.fixture
def streaming(tmp_path):
    """A proxy that streams, with an admin who may lock down."""
    with stage(tmp_path, reports=sales.REPORTS, rules=sales.RULES + RULES) as (store, proxy):
        yield store, proxy


def test_an_answer_that_ran_on_is_explained_by_the_policy_that_decided_it(streaming):
    """Its lines are those of its first record; the version under which it ended is said beside."""
    store, proxy = streaming
    stream = Stream(store, proxy)
    before = proxy.app.gateway.snapshot.version
    proxy.home.write("policy.csv", "# moved down by a line\n" + sales.RULES + RULES)
    assert proxy.reload()
    answer, records = stream.end()
    status, found, shown = explained((proxy.home, {}), answer.event)
    assert (status, found["event"]["policy"]) == (0, before)
    applied = [each["line"] for each in found["lines"] if each["said"] == "applied"]
    assert set(applied) <= set(records[0].lines)
    after = proxy.app.gateway.snapshot.version
    assert (found["event"]["end"]["outcome"], found["event"]["end"]["policy"]) == ("whole", after)
    assert f"policy {before[:12]}, on record: permit" in shown
    assert f"under policy {after[:12]}: whole" in shown and "cut" not in shown
    with Reader(proxy.home.folder / "access.db") as reader:  # as `policy replay` looks at it
        (past,) = reader.past(since=None, until=None)
    assert past.policy == before


@pytest.mark.parametrize(
    ("change", "lines", "why"),
    [
        (
            lambda text: text + "p, user:alice, sales/daily, read, true, deny\n",
            ["policy.csv:12"],
            "denied by policy.csv:12",
        ),
        (
            lambda text: text.replace("round(100)", "round(1000)"),
            ["policy.csv:6"],
            "net_sales was round(100) (policy.csv:6), and is round(1000) (policy.csv:6)",
        ),
        (
            lambda text: text.replace("g,  group:analysts,", "g,  group:others,"),
            ["policy.csv:2"],
            "it was permitted no longer by policy.csv:2, nor by another line",
        ),
    ],
)
def test_what_cut_an_answer_is_named(streaming, change, lines, why):
    """The line that denies, gives another form, or allowed it and does so no longer; it stays a permit."""
    store, proxy = streaming
    stream = Stream(store, proxy)
    before = proxy.app.gateway.snapshot.version
    text = (proxy.home.policies / "policy.csv").read_text()
    assert change(text) != text
    proxy.home.write("policy.csv", change(text))
    assert proxy.reload()
    answer, _ = stream.end()
    status, found, shown = explained((proxy.home, {}), answer.event)
    assert (status, found["decision"], found["event"]["anew"]) == (0, "permit", "permit")
    assert found["event"]["policy"] == before != found["event"]["end"]["policy"]
    assert found["event"]["end"]["outcome"] == "policy-changed"
    assert (found["event"]["end"]["cut_by"], found["event"]["end"]["why"]) == (lines, why)
    assert f"what cut it: {why}" in shown
    words = [
        "log",
        "query",
        "--explain",
        "--outcome",
        "policy-changed",
        "-c",
        str(proxy.home.settings),
    ]
    told = CliRunner().invoke(main, words).stdout
    assert answer.event in told and f"    what cut it: {why}" in told


def test_a_lockdown_that_cut_an_answer_is_named_with_who_and_why(streaming):
    """Its id, its reports, who asked for it and the reason stand beside the line."""
    store, proxy = streaming
    stream = Stream(store, proxy)
    ada = proxy.issuer.token("ada", groups=("admins",), level=5)
    lock = {"reports": "sales/*", "reason": "leak"}
    event = ask(proxy, "POST", "/-/lockdowns", lock, by=ada).event
    answer, _ = stream.end()
    _, found, shown = explained((proxy.home, {}), answer.event)
    assert found["event"]["end"]["cut_by"] == ["lockdown.csv:3"]
    assert f"denied by lockdown.csv:3; {event}  lockdown of sales/* by user:ada at" in shown
    assert ": leak" in shown


def test_a_token_that_ended_is_no_lines_doing(streaming):
    """Where each line gives what it gave, the token was at its end."""
    store, proxy = streaming
    stream = Stream(store, proxy, lifetime=1.5 - 30)  # an issuer's clock may differ by 30 seconds
    time.sleep(2)
    answer, _ = stream.end()
    _, found, shown = explained((proxy.home, {}), answer.event)
    assert (found["event"]["end"]["outcome"], found["event"]["end"]["cut_by"]) == ("expired", [])
    assert "what cut it: no line: its token was at its end" in shown
