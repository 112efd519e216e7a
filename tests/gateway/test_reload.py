"""What a new policy does to what runs: nothing is torn, and nothing old comes back."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from proxy import reload as reload_module
from proxy import snapshot as snapshot_module
from proxy.cli import main
from tests.gateway.reloading import PATH, Stream, soon
from tests.harness import sales
from tests.harness.issuer import Issuer
from tests.harness.proxy import stage
from tests.harness.store import Page


@pytest.fixture
def world(tmp_path):
    with stage(tmp_path, reports=sales.REPORTS, rules=sales.RULES) as running:
        yield running


def test_a_stream_goes_on_under_an_equal_plan_and_both_policies_are_on_record(world):
    """D39: the same plan under a new policy goes on; its records name the policy that was asked."""
    store, proxy = world
    stream = Stream(store, proxy)
    before = proxy.app.gateway.snapshot.version
    proxy.home.write("policy.csv", "# moved down by a line\n" + sales.RULES)
    assert proxy.reload()
    answer, records = stream.end()
    assert answer.whole and records[-1].ended == "whole"
    after = proxy.app.gateway.snapshot.version
    assert [records[0].policy, records[-1].policy] == [before, after]
    assert before != after
    moved = [f"policy.csv:{int(line.partition(':')[2]) + 1}" for line in records[0].lines]
    assert list(records[-1].lines) == moved


@pytest.mark.parametrize(
    "change",
    [
        ("policy.csv", lambda text: text.replace("round(100)", "round(1000)")),
        ("policy.csv", lambda text: text + "p, user:alice, sales/daily, read, true, deny\n"),
        ("policy.csv", lambda text: text + "p2, user:alice, sales/daily, true, units, deny\n"),
        ("policy.csv", lambda text: text.replace("p,  tool:app,     sales/*,", "p, tool:b, sales/*,")),
        ("reports.yaml", lambda text: text.replace("Daily sales", "Weekly sales")),
        ("subjects.yaml", lambda text: text.replace("audience: [counterfoil]", "audience: [other]")),
        ("subjects.yaml", lambda text: text.replace("claim: groups", "claim: memberOf")),
        ("jwks.json", lambda _: Issuer().jwks),
    ],
)  # fmt: skip
def test_a_stream_is_cut_when_its_permit_stands_no_longer(world, change):
    """D39: another plan, a lost grant, an issuer or a key trusted no longer cut what runs."""
    store, proxy = world
    stream = Stream(store, proxy)
    name, changed = change
    path = proxy.home.policies / name
    text = path.read_text()
    assert changed(text) != text
    proxy.home.write(name, changed(text))
    assert proxy.reload()
    answer, records = stream.end()
    assert answer.status == 200 and not answer.whole
    assert (records[-1].step, records[-1].ended) == ("outcome", "policy-changed")
    assert records[-1].bytes >= len(answer.body)
    assert records[-1].policy == proxy.app.gateway.snapshot.version


FROM_PEOPLE = """\
    groups: {claim: groups, source: claim-and-people}
    attributes:
      stores: {type: text, many: true, source: people}
      region: {type: text, source: people}
"""
ALICE = "subject, groups, stores, region, valid-until\nuser:alice, , 0|1|2|3|4|5|6|7|8, North,\n"


@pytest.fixture
def peopled(world):
    """The same with attributes of people.csv: alice has all stores but one."""
    _, proxy = world
    text = (proxy.home.policies / "subjects.yaml").read_text()
    proxy.home.write("subjects.yaml", text[: text.index("    groups:")] + FROM_PEOPLE)
    proxy.home.write("people.csv", ALICE)
    assert proxy.reload()
    return world


@pytest.mark.parametrize(
    ("change", "groups", "ended"),
    [
        (lambda text: text.replace("|8", ""), ("owners",), "policy-changed"),
        (lambda text: text.replace("|8", "|8|9"), ("owners",), "policy-changed"),
        (lambda text: text.replace("user:alice", "user:bob"), ("owners",), "policy-changed"),
        (lambda text: text.replace(", ,", ", group:owners,", 1), ("analysts",), "policy-changed"),
        (lambda text: text.replace("North,", "North, 2026-01-01"), ("owners",), "policy-changed"),
        (lambda text: text.replace("North,", "South, 2096-01-01"), ("owners",), "whole"),
        (lambda text: text.replace("|8", ""), ("analysts",), "whole"),
        (lambda text: text.replace(", ,", ", group:guests,", 1), ("owners",), "whole"),
        (lambda text: text + "user:bob, , 7, ,\n", ("owners",), "whole"),
    ],
)
def test_another_line_of_people_cuts_or_goes_on_as_the_plan_has_it(peopled, change, groups, ended):
    """D39: a stream whose plan, or an attribute that its plan reads, changed is cut; another one goes on."""
    store, proxy = peopled
    stream = Stream(store, proxy, groups)
    before = proxy.app.gateway.snapshot.version
    changed = change(ALICE)
    assert changed != ALICE
    proxy.home.write("people.csv", changed)
    assert proxy.reload()
    answer, records = stream.end()
    assert answer.whole == (ended == "whole")
    assert records[-1].ended == ended
    after = proxy.app.gateway.snapshot.version
    assert before != after
    assert [records[0].policy, records[-1].policy] == [before, after]


@pytest.mark.parametrize(("groups", "ended"), [(("owners",), "expired"), (("analysts",), "whole")])
def test_a_stream_outlives_its_line_only_where_the_line_means_nothing_to_it(peopled, groups, ended):
    """D39: at valid-until the permit is looked at again, and what the line gave is cut, without a reload."""
    store, proxy = peopled
    ends = datetime.now(UTC) + timedelta(seconds=1.5)
    proxy.home.write("people.csv", ALICE.replace("North,", f"North, {ends.isoformat()}"))
    assert proxy.reload()
    stream = Stream(store, proxy, groups)
    while datetime.now(UTC) <= ends:
        threading.Event().wait(0.05)
    answer, records = stream.end()
    assert (records[-1].ended, answer.whole) == (ended, ended == "whole")


def test_a_stream_ends_with_its_token(world):
    """D39: when the token expires, what runs is cut at the next block, and the next request is refused."""
    store, proxy = world
    lifetime = 2 - 30  # an issuer's clock may differ by 30 seconds
    token = proxy.issuer.token("alice", groups=("analysts",), lifetime=lifetime)
    stream = Stream(store, proxy, lifetime=lifetime)
    assert proxy.get("/sales/none.csv", token=token).status == 404
    assert soon(lambda: proxy.get("/sales/none.csv", token=token).status == 401)
    answer, records = stream.end()
    assert (answer.status, answer.whole, records[-1].ended) == (200, False, "expired")


def test_a_broken_people_file_keeps_the_last_good_policy(peopled):
    """PROMISE 3: a fault in people.csv, or its loss, changes nothing that is in force."""
    _, proxy = peopled
    before = proxy.app.gateway.snapshot
    for text in (
        "",
        "subject, stores\n",
        ALICE + "user:alice, , 9, ,\n",
        ALICE.replace("1|", "1||"),
    ):
        proxy.home.write("people.csv", text)
        assert not proxy.reload()
    (proxy.home.policies / "people.csv").unlink()
    assert not proxy.reload()
    assert proxy.app.gateway.snapshot is before


def test_a_policy_that_was_replaced_is_freed(world):
    """Reloads leave nothing behind: the old policy and its lines go, and wait for no garbage collection."""
    store, proxy = world
    store.pages[PATH] = Page(sales.as_csv(sales.rows(20)))
    token = proxy.issuer.token("alice", groups=("analysts",))
    assert proxy.get(PATH, token=token).status == 200
    old = weakref.ref(proxy.app.gateway.snapshot.policy)
    line = weakref.ref(old().access[0].when.meaning)
    proxy.home.write("policy.csv", "# moved down by a line\n" + sales.RULES)
    assert proxy.reload()
    assert soon(lambda: old() is None and line() is None)


def test_a_policy_that_fails_its_own_tests_is_not_taken(world):
    """tests.yaml is run before a policy is taken: one miss, and the last good one stays in force."""
    _, proxy = world
    holds = "tests:\n  - {as: bob, on: sales/daily, denied: true}\n"
    proxy.home.write("tests.yaml", holds)
    assert proxy.reload()
    good = proxy.app.gateway.snapshot.version
    proxy.home.write("tests.yaml", holds.replace("true", "false"))
    assert not proxy.reload()
    assert proxy.app.gateway.snapshot.version == good
    assert "is denied" in str(proxy.app.policy.refused.why)
    proxy.home.write("tests.yaml", holds)
    assert proxy.reload() and proxy.app.policy.refused is None


GRANTED = """\
p,  user:bob, sales/daily, read, true, allow
p2, user:bob, sales/daily, true, @public, clear
"""


@pytest.mark.parametrize(
    ("own", "content"),
    [("grants.csv", GRANTED), ("lockdown.csv", "p, anyone, sales/*, read, true, deny\n")],
)
def test_grants_and_lockdowns_do_not_count_for_the_tests_whoever_runs_them(world, own, content):
    """The server, `policy check` and `policy test` agree, where tests.yaml is against such a line and where not."""
    _, proxy = world
    alice = "as: alice, groups: [analysts], tool: app, on: sales/daily"
    holds = f"tests: [{{as: bob, tool: app, on: sales/daily, denied: true}}, {{{alice}}}]\n"
    proxy.home.write("tests.yaml", holds)
    proxy.home.write(own, content)
    assert proxy.reload() and said_by_the_verbs(proxy) == (0, 0)
    # The same line is against the tests where an author wrote it.
    proxy.home.write("policy.csv", sales.RULES + content)
    assert not proxy.reload() and said_by_the_verbs(proxy) == (2, 1)


def said_by_the_verbs(proxy) -> tuple[int, int]:
    """The exit status of `policy check` and `policy test`."""
    check, test = (
        CliRunner().invoke(main, ["policy", verb, str(proxy.home.policies)]).exit_code
        for verb in ("check", "test")
    )
    return check, test


def test_an_older_reading_never_follows_a_newer_one(world, monkeypatch):
    """PROMISE 3: of two reloads at once, the one that read later is the one that stays."""
    _, proxy = world
    first, second = threading.Event(), threading.Event()
    real = reload_module.snapshot_of

    def slow_at_first(*arguments, **more):
        snapshot = real(*arguments, **more)
        if not first.is_set():
            first.set()
            second.wait(1)
        else:
            second.set()
        return snapshot

    monkeypatch.setattr(reload_module, "snapshot_of", slow_at_first)

    async def both() -> None:
        older = asyncio.create_task(proxy.app.reload())
        while not first.is_set():  # noqa: ASYNC110 - it is set by a thread
            await asyncio.sleep(0.01)
        proxy.home.write("policy.csv", sales.RULES + "# newer\n")
        newer = asyncio.create_task(proxy.app.reload())
        assert await older
        assert await newer

    proxy._background.run(both())
    files = snapshot_module.read_folder(proxy.home.policies)
    assert proxy.app.gateway.snapshot.version == snapshot_module.version_of(files)


def test_a_reload_that_fails_in_an_unforeseen_way_says_so(world, monkeypatch, caplog):
    """PROMISE 3: whatever a reload raises is said, without its message, and the old policy stays."""
    _, proxy = world
    before = proxy.app.gateway.snapshot

    def broken(*_, **__):
        raise RuntimeError("canary")

    monkeypatch.setattr(reload_module, "snapshot_of", broken)
    assert not proxy.reload()
    assert proxy.app.gateway.snapshot is before
    assert "policy not taken" in caplog.text and "canary" not in caplog.text


@pytest.mark.parametrize("cut", range(0, len(sales.RULES), 23))
def test_a_file_cut_anywhere_is_taken_whole_or_not_at_all(cut, whole_world):
    """D34: after a reload of a truncated file the version in force is that of the files, or the old one."""
    _, proxy = whole_world
    before = proxy.app.gateway.snapshot
    proxy.home.write("policy.csv", sales.RULES[:cut])
    taken = proxy.reload()
    after = proxy.app.gateway.snapshot
    files = snapshot_module.read_folder(proxy.home.policies)
    assert after.version == (snapshot_module.version_of(files) if taken else before.version)
    assert taken or after is before


@pytest.fixture(scope="module")
def whole_world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    with stage(folder, reports=sales.REPORTS, rules=sales.RULES) as running:
        yield running


@pytest.mark.parametrize("what", ["directory", "fifo", "loop", "nothing", "empty", "binary"])
@pytest.mark.parametrize("name", ["policy.csv", "reports.yaml", "subjects.yaml", "model.conf"])
def test_what_is_no_policy_file_leaves_the_old_policy(whole_world, what, name):
    """D35: a directory, a FIFO, a link to itself, nothing at all: refused, said, and nothing changes."""
    _, proxy = whole_world
    proxy.home.write("policy.csv", sales.RULES)
    before = proxy.app.gateway.snapshot
    path = proxy.home.policies / name
    content = path.read_bytes()
    path.unlink()
    match what:
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "loop":
            path.symlink_to(name)
        case "empty":
            path.write_bytes(b"")
        case "binary":
            path.write_bytes(bytes(range(256)))
    try:
        assert not proxy.reload()
        assert proxy.app.gateway.snapshot is before
    finally:
        path.rmdir() if what == "directory" else path.unlink(missing_ok=True)
        path.write_bytes(content)
