"""Grants and lockdowns over real sockets: decided, on record, in force when answered, and for a time."""

from __future__ import annotations

import json
import time

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.cli import main
from proxy.errors import LogUnavailable
from tests.gateway.changing import RULES, ask, lift_all, token
from tests.gateway.reloading import Stream, follows, in_force, soon, status
from tests.harness import sales, wire
from tests.harness.proxy import stage
from tests.harness.store import Page

PATH = "/sales/daily.csv"
ASKED = {
    "subject": "user:nora", "report": "sales/daily", "role": "role:analyst", "seconds": 3600,
    "reason": "covers for\nbob \u202e",
}  # fmt: skip


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with stage(tmp_path_factory.mktemp("w"), reports=sales.REPORTS, rules=RULES) as both:
        both[0].pages[PATH] = Page(sales.as_csv(sales.rows(50)))
        yield both


@pytest.fixture
def world(running):
    """Without grants and lockdowns."""
    _, proxy = running
    lift_all(proxy)
    (proxy.home.policies / "grants.csv").unlink(missing_ok=True)
    assert proxy.reload()
    return running


def event(proxy, answer: wire.Answer):
    (found,) = [one for one in proxy.events() if one.access == answer.event]
    return found


def test_a_grant_is_the_role_s_view_until_it_ends(world):
    """Who asks right after the answer sees byte for byte what a member of the role sees; revoked, nothing."""
    _, proxy = world
    nora, alice = token(proxy, "nora"), token(proxy, "alice", "analysts")
    assert proxy.get(PATH, token=nora).status == 404
    made = ask(proxy, "POST", "/-/grants", ASKED)
    assert made.status == 201
    said = json.loads(made.body)
    assert said["policy"] == in_force(proxy) and said["id"] == made.event
    given_, wanted = proxy.get(PATH, token=nora), proxy.get(PATH, token=alice)
    assert given_.status == 200 and given_.body == wanted.body
    ended = ask(proxy, "DELETE", f"/-/grants/{said['id']}")
    assert ended.status == 200 and proxy.get(PATH, token=nora).status == 404
    assert (proxy.home.policies / "grants.csv").read_text() == ""
    assert proxy.get(PATH, token=alice).status == 200


@pytest.mark.parametrize(
    ("stores", "people", "warned"),
    [
        ("claim: stores, type: text, many: true", "", "which the subject's token must hold."),
        ("type: text, many: true, source: people", "user:sam, 3", "which people.csv does not give the subject."),
        ("type: text, many: true, source: people", "user:nora, 3", ""),
        ("claim: stores, type: text, many: true, source: claim-else-people", "user:nora, 3", ""),
    ],
)  # fmt: skip
def test_what_the_grantee_lacks_for_a_role_is_said(tmp_path, monkeypatch, stores, people, warned):
    """A role whose lines read an attribute that people.csv does not give may give nothing; who grants is told."""
    with stage(tmp_path, reports=sales.REPORTS, rules=RULES) as (_, proxy):
        path = proxy.home.policies / "subjects.yaml"
        text = path.read_text().replace("claim: stores, type: text, many: true", stores)
        if people:
            proxy.home.write("people.csv", f"subject, stores\n{people}\n")
        path.write_text(text)
        assert proxy.reload()
        monkeypatch.setenv("COUNTERFOIL_URL", proxy.url)
        monkeypatch.setenv("COUNTERFOIL_TOKEN", token(proxy))
        words = [
            "grant",
            "nora",
            "sales/daily",
            "--as",
            "role:owner",
            "--for",
            "2h",
            "--reason",
            "x",
        ]
        result = CliRunner().invoke(main, words, catch_exceptions=False)
        assert result.exit_code == 0
        told = f"warning: The role's lines read `sub.stores`, {warned}\n" if warned else ""
        assert result.stderr == told
        words[4] = "role:analyst"
        assert CliRunner().invoke(main, words, catch_exceptions=False).stderr == ""


def test_a_grant_ends_by_itself(world):
    """At its time the grant is over, with nobody there to revoke it; the next write tidies it away."""
    _, proxy = world
    nora = token(proxy, "nora")
    made = ask(proxy, "POST", "/-/grants", ASKED)
    path = proxy.home.policies / "grants.csv"
    until = json.loads(made.body)["until"]
    soon_over = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
    path.write_text(path.read_text().replace(until, soon_over))
    assert follows(proxy) and proxy.get(PATH, token=nora).status == 200
    assert soon(lambda: proxy.get(PATH, token=nora).status == 404)
    ask(proxy, "POST", "/-/grants", ASKED | {"subject": "user:other"})
    assert made.event not in path.read_text() and "user:'other'" in path.read_text()


@pytest.mark.parametrize("ended", [False, True])
def test_a_grant_that_is_over_keeps_no_catalogue_back(world, ended):
    """A field that only an ended grant names may go; one that stands is named with the way to end it."""
    _, proxy = world
    role = ASKED | {"subject": "user:alice", "role": "role:mailer"}
    made = ask(proxy, "POST", "/-/grants", role)
    if ended:
        path = proxy.home.policies / "grants.csv"
        until = json.loads(made.body)["until"]
        path.write_text(path.read_text().replace(until, "2026-01-01T00:00:00Z"))
        assert follows(proxy)
    text = (proxy.home.policies / "reports.yaml").read_text()
    field = "      buyer_email: {type: text, class: personal}\n"
    assert field in text
    rules = (proxy.home.policies / "policy.csv").read_text()
    try:
        proxy.home.write("reports.yaml", text.replace(field, ""))
        proxy.home.write("policy.csv", rules.replace("buyer_email", "units"))
        assert proxy.reload() == ended
        if not ended:
            (fault,) = proxy.app.policy.refused.faults
            assert (fault.file, fault.message[:22]) == ("grants.csv", "unknown field `buyer_e")
            assert fault.hint.endswith(f"or end the grant: `counterfoil revoke {made.event}`")
    finally:
        proxy.home.write("reports.yaml", text)
        proxy.home.write("policy.csv", rules)
        assert proxy.reload()


def test_who_had_something_before_a_grant_has_just_that_after_it(world):
    """With no command and no change of a file the answer is that of before, columns and all, when the time is over."""
    _, proxy = world
    alice = token(proxy, "alice", "analysts")
    before = proxy.get(PATH, token=alice)
    made = ask(proxy, "POST", "/-/grants", ASKED | {"subject": "user:alice", "role": "role:mailer"})
    assert made.status == 201
    path = proxy.home.policies / "grants.csv"
    until = json.loads(made.body)["until"]
    soon_over = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
    path.write_text(path.read_text().replace(until, soon_over))
    assert follows(proxy) and proxy.get(PATH, token=alice).body != before.body
    assert soon(lambda: proxy.get(PATH, token=alice).body == before.body)
    assert soon_over in path.read_text()


def test_a_lockdown_refuses_everybody_until_it_is_lifted(world):
    """A lockdown stops who had access, at once, and its end gives it back; reasons and ids are in the file."""
    _, proxy = world
    alice = token(proxy, "alice", "analysts")
    made = ask(proxy, "POST", "/-/lockdowns", {"reports": "sales/*", "reason": "leak"})
    assert made.status == 201 and proxy.get(PATH, token=alice).status == 404
    text = (proxy.home.policies / "lockdown.csv").read_text()
    assert made.event in text and "user:ada" in text and ": leak\n" in text
    assert ask(proxy, "DELETE", f"/-/lockdowns/{made.event}").status == 200
    assert proxy.get(PATH, token=alice).status == 200


def test_each_change_is_on_record_before_it_is_in_force(world):
    """Who, what, for whom (by an opaque id), until when and why; then the load that it led to."""
    _, proxy = world
    made = ask(proxy, "POST", "/-/grants", ASKED)
    events = proxy.events()
    at = next(n for n, one in enumerate(events) if one.access == made.event)
    change, load = events[at], events[at + 1]
    assert (change.step, change.action, change.report) == ("change", "grant", "sales/daily")
    assert (change.decision, change.parameters["role"]) == ("permit", "role:analyst")
    assert change.parameters["reason"] == "covers for bob" and "nora" not in str(change.parameters)
    assert (load.step, load.policy, load.previous) == (
        "policy-loaded",
        in_force(proxy),
        change.policy,
    )


def test_what_cannot_be_recorded_is_not_written(world, monkeypatch):
    """PROMISE 2: without a record of the change there is no change, in the file neither."""
    _, proxy = world
    before, log = in_force(proxy), proxy.app.policy._log

    async def append(*_: object, **__: object) -> object:
        raise LogUnavailable("full")

    monkeypatch.setattr(log, "append", append)
    assert ask(proxy, "POST", "/-/grants", ASKED).status == 503
    assert not (proxy.home.policies / "grants.csv").exists() and in_force(proxy) == before


def test_who_may_not_learns_nothing(world):
    """Forbidden and unknown look alike, to the byte but for the event's id; each is on record."""
    _, proxy = world
    known = ask(
        proxy,
        "POST",
        "/-/lockdowns",
        {"reports": "sales/daily", "reason": "x"},
        by=token(proxy, "dora"),
    ).event
    answers = []
    for path, body in [
        ("/-/grants", ASKED),
        ("/-/grants", ASKED | {"report": "sales/none"}),
        ("/-/grants", ASKED | {"role": "role:none"}),
        ("/-/lockdowns", {"reports": "sales/daily", "reason": "x"}),
        ("/-/lockdowns", {"reports": "set:none", "reason": "x"}),
        (f"/-/lockdowns/{known}", None),
        (f"/-/lockdowns/{'0' * 32}", None),
        ("/-/other", {}),
    ]:
        method = "POST" if body is not None else "DELETE"
        answer = ask(proxy, method, path, body, by=token(proxy, "mallory"))
        answers.append((answer.status, answer.body.replace(answer.event.encode(), b"")))
        assert event(proxy, answer).step == "refusal"
    assert len(set(answers)) == 1 and answers[0][0] == 404
    assert ask(proxy, "POST", "/-/grants", ASKED, by=None).status == 401


def test_every_report_of_a_pattern_must_be_permitted(world):
    """Who may lock one report down may not lock down its neighbours with it."""
    _, proxy = world
    dora = token(proxy, "dora")
    assert (
        ask(proxy, "POST", "/-/lockdowns", {"reports": "sales/*", "reason": "x"}, by=dora).status
        == 404
    )
    assert (
        ask(
            proxy, "POST", "/-/lockdowns", {"reports": "sales/daily", "reason": "x"}, by=dora
        ).status
        == 201
    )


@pytest.mark.parametrize(
    ("change", "status", "cause"),
    [
        ({"subject": "user:ada"}, 409, "own-grant"),
        ({"subject": "tool:app"}, 409, "own-grant"),
        ({"subject": "role:admin"}, 400, "not-a-grantee"),
        ({"subject": "group:analysts"}, 400, "not-a-grantee"),
        ({"subject": "anyone"}, 400, "not-a-grantee"),
        ({"subject": "user:a\nb"}, 400, "not-a-name"),
        ({"role": "user:alice"}, 400, "not-a-name"),
        ({"role": "role:nobody"}, 409, "nothing-to-grant"),
        ({"report": "sales/secret"}, 409, "nothing-to-grant"),
        ({"report": "sales/*"}, 404, "not-one-report"),
        ({"seconds": 59}, 400, "not-the-type"),
        ({"seconds": "3600"}, 400, "not-the-type"),
        ({"reason": ""}, 400, "not-the-type"),
        ({"reason": " \n"}, 400, "not-the-type"),
        ({"forever": True}, 400, "not-the-type"),
    ],
)  # fmt: skip
def test_what_may_not_be_granted_is_said(world, change, status, cause):
    """No role, group or oneself is granted anything, nor a role that gives nothing; the file stays as it is."""
    _, proxy = world
    answer = ask(proxy, "POST", "/-/grants", ASKED | change)
    assert answer.status == status and event(proxy, answer).cause == cause
    assert not (proxy.home.policies / "grants.csv").exists()


@pytest.mark.parametrize("path", ["/-/grants", "/-/lockdowns"])
@pytest.mark.parametrize("member", ["more", "reason", "subject"])
def test_a_body_that_is_nested_too_deep_is_none(world, path, member):
    """Deeper than anything is read: 400 as for any other that is not of the type, not a fault of the proxy's."""
    _, proxy = world
    raw = f'{{"{member}":{"[" * 3000}{"]" * 3000}}}'.encode()
    answer = ask(proxy, "POST", path, raw=raw)
    assert answer.status == 400 and event(proxy, answer).cause == "not-the-type"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seconds": 0}, "`seconds` is a whole number from 60 to 31622400."),
        ({"seconds": 10**11}, "`seconds` is a whole number from 60 to 31622400."),
        ({"reason": " "}, "`reason` is a text of 1 to 500 characters."),
        ({"reason": "x" * 501}, "`reason` is a text of 1 to 500 characters."),
        ({"role": 1, "subject": None}, "`subject` is a user or a tool: `user:…` or `tool:…`. `role` is a role: `role:…`."),
        ({"more": 1}, "Its members are subject, report, role, seconds, reason, and no others."),
    ],
)  # fmt: skip
def test_which_member_is_wrong_is_said(world, change, told):
    """Each that is wrong, and what it may be; nothing of what was sent."""
    answer = ask(world[1], "POST", "/-/grants", ASKED | change)
    assert answer.status == 400 and json.loads(answer.body)["detail"].startswith(told)


BODIES = st.one_of(
    st.binary(max_size=60),
    st.recursive(st.none() | st.booleans() | st.text(max_size=9), lambda c: st.lists(c) | st.dictionaries(st.text(max_size=9), c), max_leaves=5).map(lambda v: json.dumps(v).encode()),
)  # fmt: skip


@given(body=BODIES)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_body_does_anything_but_a_whole_one(world, body):
    """Whatever else is sent is 400, on record, and repeats nothing of it."""
    _, proxy = world
    answer = ask(
        proxy,
        "POST",
        "/-/grants",
        raw=body,
        Content_Type="application/json",
        Content_Length=str(len(body)),
    )
    assert answer.status == 400 and event(proxy, answer).step == "refusal"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content_Length": "1000000000"}, 413),
        ({"Transfer_Encoding": "chunked"}, 400),
        ({"Content_Type": "text/plain"}, 400),
    ],
)
def test_a_body_is_json_of_a_known_small_length(world, headers, status):
    """Nothing is read of a body that is too long, of unknown length, or of another kind."""
    _, proxy = world
    answer = ask(proxy, "POST", "/-/grants", ASKED, **headers)
    assert answer.status in (status, 413)
    assert not (proxy.home.policies / "grants.csv").exists()


def test_only_their_own_methods_are_answered(world):
    """GET does nothing here, POST nothing to what has an id; each is told which method there is."""
    _, proxy = world
    for method, path, allowed in [
        ("GET", "/-/grants", "POST"), ("PUT", "/-/lockdowns", "POST"), ("POST", f"/-/grants/{'0' * 32}", "DELETE"),
    ]:  # fmt: skip
        answer = ask(proxy, method, path)
        assert answer.status == 405 and answer.headers["allow"] == allowed


def test_a_lockdown_needs_no_good_folder(world):
    """While the folder holds a broken draft, what is in force can be locked down all the same."""
    _, proxy = world
    alice = token(proxy, "alice", "analysts")
    proxy.home.write("policy.csv", RULES + "nonsense\n")
    try:
        assert soon(lambda: proxy.app.policy.refused)
        assert b'"policy":"stale"' in proxy.get("/-/ready").body
        assert (
            ask(proxy, "POST", "/-/lockdowns", {"reports": "sales/daily", "reason": "x"}).status
            == 201
        )
        assert proxy.get(PATH, token=alice).status == 404
        code, said = status(proxy)
        assert code == 1 and f"the first at policy.csv:{RULES.count(chr(10)) + 1};" in said
    finally:
        proxy.home.write("policy.csv", RULES)
    assert follows(proxy) and proxy.get(PATH, token=alice).status == 404
    assert soon(lambda: status(proxy)[0] == 0)


def test_a_file_that_was_changed_by_hand_is_not_overwritten(world):
    """What somebody wrote into grants.csv and is not in force is neither lost nor put in force unseen."""
    _, proxy = world
    (proxy.home.policies / "grants.csv").write_text("nonsense\n")
    answer = ask(proxy, "POST", "/-/grants", ASKED)
    assert answer.status == 409 and b"by hand" in answer.body
    assert (proxy.home.policies / "grants.csv").read_text() == "nonsense\n"


def test_the_verbs_do_it(world, monkeypatch):
    """`counterfoil grant`, `revoke` and `lockdown`, as an admin types them."""
    _, proxy = world
    monkeypatch.setenv("COUNTERFOIL_URL", proxy.url)
    monkeypatch.setenv("COUNTERFOIL_TOKEN", token(proxy))

    def run(*words: str) -> str:
        result = CliRunner().invoke(main, list(words), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output.split()[0]

    nora = token(proxy, "nora")
    made = run(
        "grant", "nora", "sales/daily", "--as", "role:analyst", "--for", "2h", "--reason", "x"
    )
    assert proxy.get(PATH, token=nora).status == 200
    locked = run("lockdown", "sales/*", "--reason", "leak")
    assert proxy.get(PATH, token=nora).status == 404
    assert run("lockdown", "--lift", locked) == locked and proxy.get(PATH, token=nora).status == 200
    assert run("revoke", made) == made and proxy.get(PATH, token=nora).status == 404
    grant = ["grant", "ada", "sales/daily", "--as", "role:analyst", "--for", "2h", "--reason", "x"]
    for words, told in (
        (["revoke", made], f"there is no grant {made}, or it is not yours to end"),
        (["lockdown", "--lift", made], f"there is no lockdown {made}, or it is not yours to end"),
        (["revoke", "x"], "32 hexadecimal digits"),
        (["lockdown"], "give REPORTS and --reason, or --lift ID"),
        (["lockdown", "sales/*", "--reason", ""], "a reason has 1 to 500 characters"),
        (grant, "Nobody grants anything to themself"),
        ([*grant[:-1], " "], "a reason has 1 to 500 characters"),
        ([*grant, "--for", "0h"], "a grant lasts from 1m to 366d"),
        ([*grant, "--for", "99999w"], "a grant lasts from 1m to 366d"),
    ):
        result = CliRunner().invoke(main, words)
        assert result.exit_code != 0 and told in result.output and "Traceback" not in result.output


@pytest.mark.parametrize(
    "subject", ["group:analysts", "role:analyst", "set:all", "anyone", "", " ", "user:", "tool: "]
)
def test_a_grant_is_for_a_user_or_a_tool(subject):
    """What names many, or nobody, is refused before anything is asked, and never taken for a user's name."""
    words = [
        "grant",
        subject,
        "sales/daily",
        "--as",
        "role:analyst",
        "--for",
        "2h",
        "--reason",
        "x",
    ]
    words += ["--url", "http://127.0.0.1:1", "--token", "x"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2 and "a grant is for a user or a tool" in result.output


@pytest.mark.parametrize("end", ["lockdown", "revoke", "time", "somebody else's grant"])
def test_a_stream_is_cut_when_its_grant_is_gone_and_goes_on_when_not(tmp_path, end):
    """D39: what runs by a grant ends with it at the next block; what nothing has changed for goes on."""
    rules = RULES.replace("group:analysts, role:analyst", "group:nobody, role:analyst")
    with stage(tmp_path, reports=sales.REPORTS, rules=rules) as (store, proxy):
        made = ask(proxy, "POST", "/-/grants", ASKED | {"subject": "user:alice"})
        assert made.status == 201
        if end == "time":
            path = proxy.home.policies / "grants.csv"
            over = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3))
            path.write_text(path.read_text().replace(json.loads(made.body)["until"], over))
            assert follows(proxy)
        stream = Stream(store, proxy)
        match end:
            case "lockdown":
                answer = ask(proxy, "POST", "/-/lockdowns", {"reports": "sales/*", "reason": "x"})
                assert answer.status == 201
            case "revoke":
                assert ask(proxy, "DELETE", f"/-/grants/{made.event}").status == 200
            case "time":
                time.sleep(3.5)
            case _:
                assert ask(proxy, "POST", "/-/grants", ASKED).status == 201
        answer, records = stream.end()
        assert answer.status == 200
        assert answer.whole == (end == "somebody else's grant")
        ended = "whole" if answer.whole else "expired" if end == "time" else "policy-changed"
        assert records[-1].ended == ended
