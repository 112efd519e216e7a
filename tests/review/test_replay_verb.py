"""`counterfoil policy replay`, as an admin types it, over the log of a real proxy."""

from __future__ import annotations

import json
import shutil

import pytest
from click.testing import CliRunner

from proxy.cli import main
from tests.gateway.test_control import ask
from tests.harness import aside, sales
from tests.harness.proxy import stage
from tests.harness.store import Page
from tests.review.governing import GRANT, LOCKDOWN, governed

CSV, JSON = "/sales/daily.csv", "/sales/daily.json"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A proxy that alice, olga and nobody asked in several ways; its log is complete."""
    folder = tmp_path_factory.mktemp("replay")
    with stage(folder, reports=sales.REPORTS, rules=sales.RULES) as (store, proxy):
        store.pages[CSV] = Page(sales.as_csv(sales.rows(30)))
        store.pages[JSON] = Page(sales.as_json(sales.rows(30)), content_type="application/json")
        alice = proxy.issuer.token("alice", groups=("analysts",))
        olga = proxy.issuer.token("olga", groups=("owners",), stores=["1"])
        nobody = proxy.issuer.token("nobody")
        asked = [
            (CSV, alice, 200), (CSV, alice, 200), (JSON, alice, 200), (f"{CSV}?from=2026-01-02", alice, 200),
            (f"{CSV}?least=5", alice, 403), ("/sales/audited.csv", alice, 403), (CSV, olga, 200),
            (CSV, nobody, 404), ("/sales/new.csv", alice, 404), (CSV, None, 401),
        ]  # fmt: skip
        for target, token, status in asked:
            assert proxy.get(target, token=token).status == status
        yield proxy.home


def replayed(world, tmp_path, *change, **files):
    """Exit status and what was found, with one text of policy.csv changed and files written."""
    new = tmp_path / "new"
    shutil.copytree(world.policies, new)
    if change:
        old, other = change
        text = (new / "policy.csv").read_text()
        assert old in text
        (new / "policy.csv").write_text(text.replace(old, other))
    for name, text in files.items():
        (new / f"{name}.yaml").write_text(text)
    words = ["policy", "replay", str(new), "-c", str(world.settings), "--since", "1h"]
    found = CliRunner().invoke(main, [*words, "--json"], catch_exceptions=False)
    shown = CliRunner().invoke(main, words, catch_exceptions=False)
    assert shown.exit_code == found.exit_code
    return found.exit_code, json.loads(found.stdout), shown.stdout


def differences(found):
    return {(d["principal"], d["kind"], d["report"], d["accesses"]) for d in found["differences"]}


def test_the_policy_in_force_changes_nothing(world, tmp_path):
    """Exit status 0: every access as before, and what no policy decides is counted apart."""
    status, found, shown = replayed(world, tmp_path)
    assert (status, found["differences"], found["unkept"]) == (0, [], 0)
    assert (found["accesses"], found["unchanged"], found["skipped"]) == (
        10,
        9,
        {"unauthenticated": 1},
    )
    assert "9 accesses as before" in shown


def test_another_form_is_told_field_by_field(world, tmp_path):
    """Exit status 1: whose cells would have another form, and which form they had."""
    status, found, shown = replayed(world, tmp_path, "round(100)", "round(1000)")
    assert status == 1
    assert differences(found) == {("user:alice", "changed", "sales/daily", 4)}
    (only,) = found["differences"]
    assert only["fields"] == [
        {"field": "net_sales", "then": ["round(100)"], "now": ["round(1000)"]}
    ]
    assert "net_sales  round(100) → round(1000)" in shown


def test_who_would_be_refused_and_who_allowed(world, tmp_path):
    """A lost grant, a new one, a parameter on a field that is now clear or hidden, and a purpose that is not asked for any more."""
    status, found, _ = replayed(
        world, tmp_path,
        "g,  group:analysts, role:analyst",
        "g,  group:owners, role:analyst\np, user:nobody, sales/daily, read, true, allow\n"
        "p2, user:nobody, sales/daily, true, date, clear",
    )  # fmt: skip
    assert status == 1
    assert differences(found) == {
        ("user:alice", "refused", "sales/daily", 4),
        ("user:olga", "changed", "sales/daily", 1),
        ("user:nobody", "allowed", "sales/daily", 1),
    }


def test_a_parameter_is_decided_too(world, tmp_path):
    """What a request selected on is refused or allowed as the candidate has the field clear or not."""
    _, found, _ = replayed(world, tmp_path, "true, net_sales, round(100)", "true, net_sales, clear")
    assert ("user:alice", "allowed", "sales/daily", 1) in differences(found)


@pytest.fixture(scope="module")
def ordered(tmp_path_factory):
    """A proxy that was asked for orders, one of which is by a field that is not clear."""
    sort = "parameters:\n      sort: {by: order, fields: [date, units, net_sales]}\n"
    reports = sales.REPORTS.replace("parameters:\n", sort, 1)
    folder = tmp_path_factory.mktemp("orders")
    with stage(folder, reports=reports, rules=sales.RULES) as (store, proxy):
        store.pages[CSV] = Page(sales.as_csv(sales.rows(30)))
        alice = proxy.issuer.token("alice", groups=("analysts",))
        for value, status in (("date", 200), ("date,units", 200), ("net_sales", 403)):
            assert proxy.get(f"{CSV}?sort={value}", token=alice).status == status
    return proxy.home  # only now the directory of names has followed


def test_an_order_is_decided_by_the_fields_that_it_named(ordered, tmp_path):
    """A field that becomes clear allows the order by it alone; one that becomes hidden, or none of the
    order's any more, refuses those that named it.
    """
    status, found, _ = replayed(ordered, tmp_path / "a")
    assert (status, found["differences"]) == (0, [])
    clear = ("true, net_sales, round(100)", "true, net_sales, clear")
    _, found, _ = replayed(ordered, tmp_path / "b", *clear)
    assert ("user:alice", "allowed", "sales/daily", 1) in differences(found)
    hidden = (
        "g,  group:analysts",
        "p2, role:analyst, sales/*, true, units, deny\ng,  group:analysts",
    )
    _, found, _ = replayed(ordered, tmp_path / "c", *hidden)
    assert ("user:alice", "refused", "sales/daily", 1) in differences(found)
    reports = (ordered.policies / "reports.yaml").read_text().replace("[date, units, ", "[date, ")
    _, found, _ = replayed(ordered, tmp_path / "d", reports=reports)
    assert differences(found) == {("user:alice", "refused", "sales/daily", 1)}
    assert "bad-parameter: parameter-value" in json.dumps(found)


@pytest.fixture(scope="module")
def queried(tmp_path_factory):
    """A proxy that was asked with parameters and purposes, some of them none that it knows."""
    limit = "parameters:\n      limit: {by: limit, most: 5}\n"
    reports = sales.REPORTS.replace("parameters:\n", limit, 1)
    folder = tmp_path_factory.mktemp("queries")
    with stage(folder, reports=reports, rules=sales.RULES) as (store, proxy):
        store.pages[CSV] = Page(sales.as_csv(sales.rows(30)))
        alice = proxy.issuer.token("alice", groups=("analysts",))
        olga = proxy.issuer.token("olga", groups=("owners",), stores=["1"])
        nobody = proxy.issuer.token("nobody")
        for query, token, status in (
            ("limit=2", alice, 200), ("from=2026-01-02", alice, 200), ("least=5", olga, 200),
            ("foo=1", alice, 400), ("from=noon", alice, 400), ("from", alice, 400), ("limit=2", nobody, 404),
        ):  # fmt: skip
            assert proxy.get(f"{CSV}?{query}", token=token).status == status
        stated = proxy.get(CSV, token=alice, headers={"Counterfoil-Purpose": "fun"})
        assert stated.status == 400
    return proxy.home


@pytest.mark.parametrize(
    ("old", "new", "expected", "why"),
    [
        ("title: Daily", "title: Daily", set(), ""),
        ("most: 5", "most: 2", {("user:alice", "undecided", 2)}, "depends on its parameters"),
        ("most: 5", "most: 1", {("user:alice", "refused", 1), ("user:alice", "undecided", 2)}, "bad-parameter: parameter-value"),
        ("      from:", "      foo: {type: integer}\n      from:", {("user:alice", "undecided", 2)}, "which the log does not hold"),
        ("least: {type: decimal", "least: {type: integer", {("user:olga", "undecided", 1), ("user:alice", "undecided", 2)}, "depends on the value of `least`"),
        ("purposes: [", "purposes: [fun, ", {("user:alice", "undecided", 1)}, "depends on the purpose that it stated"),
        ("field: date, operator: ge", "field: date, operator: ge, required: true",
         {("user:alice", "refused", 1), ("user:olga", "refused", 1), ("user:alice", "undecided", 2)}, "parameter-missing"),
    ],
)  # fmt: skip
def test_parameters_and_purposes_are_decided_by_the_candidates_catalogue(
    queried, tmp_path, old, new, expected, why
):
    """What a value is refused for now, what is missing, and what cannot be told as no value is on record."""
    text = (queried.policies / "reports.yaml").read_text()
    assert old in text
    status, found, shown = replayed(queried, tmp_path, reports=text.replace(old, new, 1))
    assert status == (1 if expected else 0)
    assert {(who, kind, count) for who, kind, _, count in differences(found)} == expected
    assert why in shown and not found["skipped"]


def test_a_malformed_request_of_who_would_be_refused_anyway_is_as_before(queried, tmp_path):
    """Whatever its parameters and its purpose were: who holds no grant is refused."""
    text = (queried.policies / "reports.yaml").read_text()
    text = text.replace("purposes: [", "purposes: [fun, ").replace("most: 5", "most: 6")
    change = ("g,  group:analysts", "g,  group:others")
    _, found, _ = replayed(queried, tmp_path, *change, reports=text)
    assert differences(found) == {("user:alice", "refused", "sales/daily", 2)}


@pytest.fixture(scope="module", name="governed")
def _governed(tmp_path_factory):
    """A proxy on which ada granted and revoked, locked and lifted, and others were refused that."""
    with governed(tmp_path_factory.mktemp("governed")) as (proxy, ada, nora):
        for kind, body in (("grants", GRANT), ("lockdowns", LOCKDOWN)):
            made = ask(proxy, "POST", f"/-/{kind}", body, by=ada)
            assert made.status == 201
            assert ask(proxy, "DELETE", f"/-/{kind}/{made.event}", by=nora).status == 404
            assert ask(proxy, "DELETE", f"/-/{kind}/{made.event}", by=ada).status == 200
        nowhere = LOCKDOWN | {"reports": "other/*"}
        assert ask(proxy, "POST", "/-/lockdowns", nowhere, by=ada).status == 404
    return proxy.home


def test_grants_and_lockdowns_are_as_before_under_the_same_lines(governed, tmp_path):
    """An attribute of the admin's token that is not on record raises nothing; what named no report is told apart."""
    status, found, shown = replayed(governed, tmp_path)
    assert (status, found["differences"]) == (0, [])
    assert (found["unchanged"], found["skipped"]) == (6, {"not-found": 1})
    assert "6 accesses as before" in shown


def test_who_could_not_grant_or_lock_down_any_more_and_who_could(governed, tmp_path):
    """Each is told with what it was about: the report of a grant, the pattern of a lockdown."""
    refused = ("sales/*, lockdown, true, allow", "sales/daily, lockdown, true, allow")
    _, found, _ = replayed(governed, tmp_path / "a", *refused)
    assert differences(found) == {("user:ada", "refused", "sales/*", 2)}
    (only,) = found["differences"]
    assert only["why"] == "not-found: no-allow-line"
    allowed = ("p, group:admins, sales/*, grant, sub.level", "p, anyone, sales/*, grant, 5")
    _, found, _ = replayed(governed, tmp_path / "b", *allowed)
    assert differences(found) == {("user:nora", "allowed", "sales/daily", 1)}


def test_a_purpose_is_decided_too(world, tmp_path):
    """An access that lacked its purpose would be allowed where none is asked for."""
    _, found, _ = replayed(world, tmp_path, "env.purpose in ['audit']", "true")
    assert differences(found) == {("user:alice", "allowed", "sales/audited", 1)}


def test_a_report_that_the_candidate_catalogues_is_found_by_its_path(world, tmp_path):
    """An unknown path that the candidate makes a report is decided by its lines."""
    text = (
        (world.policies / "reports.yaml").read_text().replace("/sales/secret.csv", "/sales/new.csv")
    )
    new = "p2, role:analyst, sales/*, true, *, clear\np, role:analyst, sales/secret, read, true, allow\n"
    _, found, _ = replayed(
        world, tmp_path, "g,  group:analysts", f"{new}g,  group:analysts", reports=text
    )
    assert ("user:alice", "allowed", "sales/secret", 1) in differences(found)


def test_what_hangs_on_a_claim_is_said_to(world, tmp_path):
    """A new condition on an attribute that the token gave cannot be told, and is not guessed."""
    status, found, shown = replayed(
        world, tmp_path, "p,  role:owner,   sales/daily,   read, true", "p,  role:owner,   sales/daily,   read, sub.level > 3"
    )  # fmt: skip
    assert status == 1
    assert differences(found) == {("user:olga", "undecided", "sales/daily", 1)}
    assert "depends on sub.level, which the log does not hold" in shown


@pytest.mark.parametrize("broken", ["p, nonsense\n", ""])
def test_a_faulty_candidate_ends_with_2(world, tmp_path, broken):
    """Exit status 2, with each fault in its place, and no traceback."""
    (tmp_path / "policy.csv").write_text(broken)
    for name in ("model.conf", "reports.yaml", "subjects.yaml"):
        shutil.copy(world.policies / name, tmp_path / name)
    words = ["policy", "replay", str(tmp_path), "-c", str(world.settings)]
    found = CliRunner().invoke(main, words, catch_exceptions=False)
    assert found.exit_code == 2
    assert "policy.csv" in found.stdout


def test_a_log_that_is_not_there_ends_with_2(world, tmp_path):
    """Exit status 2, and said so."""
    words = ["policy", "replay", str(world.policies), "--log", str(tmp_path / "none.db")]
    found = CliRunner().invoke(main, words, catch_exceptions=False)
    assert found.exit_code == 2
    assert "no access log" in found.stderr


def test_an_erased_name_is_not_guessed(world, tmp_path):
    """Where the directory has no name any more, a user's own lines cannot be applied, and that is said."""
    copied = tmp_path / "log"
    copied.mkdir()
    for path in world.folder.glob("access*"):
        if path.is_file() and "names" not in path.name:
            (copied / path.name).write_bytes(aside.content([path]))
    words = ["policy", "replay", str(world.policies), "--log", str(copied / "access.db"), "--json"]
    found = json.loads(CliRunner().invoke(main, words, catch_exceptions=False).stdout)
    assert {d["kind"] for d in found["differences"]} == {"undecided"}
    assert sum(d["accesses"] for d in found["differences"]) == 9
