"""What monitoring reads: true to the log, bounded, and nothing of a requester's or a report's content."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from prometheus_client.parser import text_string_to_metric_families

from proxy.gateway.tally import NO_REPORT
from proxy.metrics import listener
from proxy.metrics.table import TABLE
from tests.gateway.reloading import Stream, soon
from tests.harness import sales, wire
from tests.harness.background import Background
from tests.harness.pki import LOCAL, SERVER, Authority, trusting
from tests.harness.provider import Provider
from tests.harness.proxy import stage
from tests.harness.store import Page
from tests.identity.material import key, public

TOKEN = "s" * 32
SETTINGS = "metrics: {port: 0, token: 'env:SCRAPE_TOKEN'}\n"
CSV = "/sales/daily.csv"


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setenv("SCRAPE_TOKEN", TOKEN)
    with stage(tmp_path, reports=sales.REPORTS, rules=sales.RULES, settings=SETTINGS) as running:
        yield running


def scrape(proxy, token=TOKEN, **more):
    url, slash, path = proxy.app.metrics_url.rpartition("/")
    return wire.get(url, slash + path, token=token, **more)


def metrics(proxy):
    """Sample -> value, as Prometheus would read them: `name{label=value}`, labels by name."""
    answer = scrape(proxy)
    assert answer.status == 200 and answer.whole
    found = {}
    for family in text_string_to_metric_families(answer.body.decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            key = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert key not in found
            found[key] = sample.value
    return found


def alice(proxy):
    return proxy.issuer.token("alice", groups=("analysts",))


def decisions(report, reason=""):
    decision = "deny" if reason else "permit"
    return f"counterfoil_decisions_total{{decision={decision},reason={reason},report={report}}}"


def test_they_are_under_the_certificate_in_force_whatever_its_key(tmp_path, monkeypatch):
    """As requests are: of one with a key of another kind nobody is shown the one before any longer."""
    monkeypatch.setenv("SCRAPE_TOKEN", TOKEN)
    authority = Authority()
    listen = authority.listening(tmp_path)
    with stage(
        tmp_path / "home",
        reports=sales.REPORTS,
        rules=sales.RULES,
        settings=SETTINGS,
        listen=listen,
    ) as (_, proxy):
        for kind in (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey):
            leaf = authority.issue(*LOCAL, usage=SERVER, kind=kind)
            leaf.write(tmp_path, "server")
            assert proxy.reload()
            for url in (proxy.url, proxy.app.metrics_url):
                with wire.connect(url, trusting(authority)) as sock:
                    assert sock.getpeercert(binary_form=True) == leaf.der


def test_each_metric_of_the_table_is_told_in_a_form_that_prometheus_reads(world):
    """Names are unique and as Prometheus wants them; each has its help and its type."""
    _, proxy = world
    answer = scrape(proxy)
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = {f.name: f for f in text_string_to_metric_families(answer.body.decode())}
    for row in TABLE:
        assert re.fullmatch(r"counterfoil_[a-z_]+[a-z]", row.name)
        assert row.name.endswith("_total") == (row.kind == "counter")
        family = families[row.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (row.kind, row.help)
        assert all(set(row.labels) <= set(sample.labels) for sample in family.samples)
    assert len({row.name for row in TABLE}) == len(TABLE)
    assert families["process_cpu_seconds"].samples


def test_what_is_counted_is_what_is_on_record(world):
    """Decisions, answers, rows and bytes by report are the sums of the access log's events."""
    store, proxy = world
    store.pages[CSV] = Page(sales.as_csv(sales.rows(30)))
    token = alice(proxy)
    for _ in range(3):
        assert proxy.get(CSV, token=token).status == 200
    assert proxy.get("/sales/secret.csv", token=token).status == 404
    assert proxy.get("/sales/nothing.csv", token=token).status == 404
    assert proxy.get(f"{CSV}?least=1", token=token).status == 403
    assert proxy.get(CSV).status == 401
    Stream(store, proxy).end()
    store.pages[CSV] = Page(b"", status=500)
    assert proxy.get(CSV, token=token).status == 502
    told = metrics(proxy)
    assert told[decisions("sales/daily")] == 4
    assert told[decisions("sales/daily", "parameter-forbidden")] == 1
    assert told[decisions("sales/daily", "store-unavailable")] == 1
    assert told[decisions("sales/secret", "not-found")] == 1
    assert told[decisions(NO_REPORT, "not-found")] == 1
    assert told[decisions(NO_REPORT, "unauthenticated")] == 1
    ended = [event for event in proxy.events() if event.ended]
    for what in ("rows", "bytes"):
        recorded = sum(getattr(event, what) for event in ended)
        assert told[f"counterfoil_released_{what}_total{{report=sales/daily}}"] == recorded > 0
    assert told["counterfoil_answers_total{ended=whole,report=sales/daily}"] == len(ended) == 4
    assert told["counterfoil_log_events_total"] == len(proxy.events())
    assert told["counterfoil_log_commit_seconds_bucket{le=+Inf}"] >= len(ended)
    assert told["counterfoil_log_healthy"] == 1 and told["counterfoil_unrecorded_total"] == 0


def test_an_answer_under_way_is_told_and_a_stream_that_is_cut(world):
    """Running answers are counted while they run; one that a new policy cuts says so."""
    store, proxy = world
    stream = Stream(store, proxy)
    assert metrics(proxy)["counterfoil_answers_running"] == 1
    proxy.home.write("policy.csv", sales.RULES.replace("round(100)", "round(1000)"))
    assert proxy.reload()
    stream.end()
    assert soon(lambda: metrics(proxy)["counterfoil_answers_running"] == 0)
    cut = "counterfoil_answers_total{ended=policy-changed,report=sales/daily}"
    assert metrics(proxy)[cut] == 1


def test_refusals_that_share_a_record_are_counted_each(world):
    """Nobody fills the log from outside, and still each attempt is seen."""
    _, proxy = world
    raw = f"GET {CSV} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * 99
    last = f"GET {CSV} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    assert wire.exchange(proxy.url, raw + last).count(b"HTTP/1.1 401") == 100
    assert metrics(proxy)[decisions(NO_REPORT, "unauthenticated")] == 100
    assert sum(event.step == "refusal" for event in proxy.events()) < 100


def test_no_metric_has_anything_that_a_requester_or_a_store_chose(world):
    """H70: subjects, tools, paths, purposes, values and names of fields are no labels; series are bounded."""
    store, proxy = world
    store.pages[CSV] = Page(sales.as_csv(sales.rows(5)))
    proxy.get(CSV, token=alice(proxy))
    proxy.get("/x", token=alice(proxy))
    before = set(metrics(proxy))
    for n in range(30):
        fields = (*sales.FIELDS, f"canary{n}")
        store.pages[CSV] = Page(sales.as_csv([(*row, "canary") for row in sales.rows(5)], fields))
        headers = {"Counterfoil-Purpose": f"canary{n}", "User-Agent": f"canary{n}"}
        token = proxy.issuer.token(f"canary{n}", groups=("analysts",), tool=f"canary{n}")
        proxy.get(f"/canary{n}", token=token)
        proxy.get(CSV, token=token, headers=headers)
        proxy.get(f"{CSV}?canary{n}=1", token=alice(proxy))
        proxy.get(CSV, token=alice(proxy), method=f"CANARY{n}")
        proxy.get(CSV, token=alice(proxy))
    after = set(metrics(proxy))
    assert len(after - before) < 10, sorted(after - before)
    assert b"canary" not in scrape(proxy).body.lower()


def test_the_policy_in_force_and_what_became_of_the_folder_is_told(world):
    """PROMISE 3: a refused policy is told by its cause until it is mended; each reading is counted."""
    _, proxy = world
    versions = [proxy.app.gateway.snapshot.version]
    assert metrics(proxy)[f"counterfoil_policy_info{{version={versions[0]}}}"] == 1
    proxy.home.write("policy.csv", sales.RULES + "nonsense\n")
    assert not proxy.reload()
    told = metrics(proxy)
    assert told["counterfoil_policy_refused{cause=faulty}"] == 1
    assert told["counterfoil_policy_refused{cause=not-kept}"] == 0
    assert told[f"counterfoil_policy_info{{version={versions[0]}}}"] == 1
    refused = told["counterfoil_policy_reloads_total{outcome=refused}"]
    proxy.home.write("policy.csv", sales.RULES + "# 2\n")
    assert proxy.reload()
    told = metrics(proxy)
    assert told["counterfoil_policy_refused{cause=faulty}"] == 0
    infos = [name for name in told if name.startswith("counterfoil_policy_info")]
    assert infos == [f"counterfoil_policy_info{{version={proxy.app.gateway.snapshot.version}}}"]
    assert told["counterfoil_policy_reloads_total{outcome=refused}"] >= refused >= 1
    assert told["counterfoil_policy_reloads_total{outcome=taken}"] == 1
    assert told["counterfoil_policy_in_force_timestamp_seconds"] == proxy.app.policy.since


def test_drift_is_told_until_the_catalogue_declares_it(world):
    """How many fields of which report, each kind by itself; nothing once the catalogue is mended."""
    store, proxy = world
    fields = (*sales.FIELDS, "salary")
    store.pages[CSV] = Page(sales.as_csv([(*row, "x") for row in sales.rows(5)], fields))
    assert proxy.get(CSV, token=alice(proxy)).status == 200
    drift = "counterfoil_drift_fields{{kind={}-field,report=sales/daily}}".format
    told = metrics(proxy)
    assert (told[drift("undeclared")], told[drift("vanished")]) == (1, 0)
    text = (proxy.home.policies / "reports.yaml").read_text()
    declared = "      salary: {type: text, class: personal}\n  sales/secret:"
    proxy.home.write("reports.yaml", text.replace("  sales/secret:", declared))
    assert proxy.reload()
    assert drift("undeclared") not in metrics(proxy)


def test_a_log_that_fails_is_told_while_nothing_else_is(world):
    """What watches does not depend on what it watches: no record can be made, and the metrics say so."""
    store, proxy = world
    store.pages[CSV] = Page(sales.as_csv(sales.rows(5)))
    log = proxy.home.folder / "access.db"
    log.rename(proxy.home.folder / "stolen.db")
    assert proxy.get(CSV, token=alice(proxy)).status == 503
    told = metrics(proxy)
    assert (told["counterfoil_log_healthy"], told["counterfoil_unrecorded_total"]) == (0, 1)
    assert decisions("sales/daily") not in told


@pytest.mark.parametrize(
    "headers",
    [
        {}, {"Authorization": "Bearer "}, {"Authorization": f"Bearer {TOKEN}s"}, {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"}, {"Authorization": f"Bearer {TOKEN[:-1]}\xe9"},
        {"Authorization": f"Bearer {TOKEN}\r\nAuthorization: Bearer {TOKEN}"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/metrics", "/", "/canary", "/debug"])
def test_without_the_token_nothing_is_told(world, headers, path):
    """H74: 401 on every path, no metric, nothing kept by a cache, nothing echoed."""
    _, proxy = world
    url = proxy.app.metrics_url.rpartition("/")[0]
    answer = wire.get(url, path, headers=headers)
    assert (answer.status, answer.body) == (401, b"")
    assert answer.headers["cache-control"] == "no-store"
    assert "aiohttp" not in answer.raw.decode().lower()


def test_only_metrics_are_there_and_only_there(world):
    """With the token too: one path, one method. A requester's token opens nothing, nor does the front."""
    _, proxy = world
    url = proxy.app.metrics_url.rpartition("/")[0]
    assert wire.get(url, CSV, token=TOKEN).status == 404
    assert wire.get(url, "/-/ready", token=TOKEN).status == 404
    assert scrape(proxy, method="POST").status == 405
    assert scrape(proxy).headers["cache-control"] == "no-store"
    assert scrape(proxy, alice(proxy)).status == 401
    for path in ("/metrics", "/-/metrics"):
        assert proxy.get(path, token=TOKEN).status == 401
        assert b"counterfoil_" not in proxy.get(path, token=alice(proxy)).body
    events = [event for event in proxy.events() if event.path in ("/metrics", "/-/metrics")]
    assert events and all(event.decision == "deny" for event in events)


@pytest.mark.parametrize(
    "raw",
    [
        b"canary\r\n\r\n",
        b"GET /metrics\x01canary HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ],
)
def test_what_is_no_request_is_not_echoed(world, raw):
    """H70: what cannot be read is refused, and not repeated."""
    _, proxy = world
    answer = wire.exchange(proxy.app.metrics_url.rpartition("/")[0], raw)
    assert answer.partition(b"\r\n")[0].split()[1] == b"400" and b"canary" not in answer
    assert b"aiohttp" not in answer.lower()


def held(stack, port, count, *, source="127.0.0.1"):
    """Connections on which nothing is said."""
    made = [
        stack.enter_context(
            socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(source, 0))
        )
        for _ in range(count)
    ]
    for sock in made:
        sock.settimeout(0.01)
    return made


@pytest.mark.parametrize("encrypted", [False, True])
def test_connections_that_ask_nothing_take_no_room(tmp_path, monkeypatch, encrypted):
    """Of one address 16 are kept, in all 64, before TLS too; there is room again once they have gone."""
    monkeypatch.setenv("SCRAPE_TOKEN", TOKEN)
    monkeypatch.setattr(listener, "_UNKNOWN_SECONDS", 600.0)
    authority = Authority()
    listen = authority.listening(tmp_path) if encrypted else ""
    with stage(
        tmp_path / "home",
        reports=sales.REPORTS,
        rules=sales.RULES,
        settings=SETTINGS,
        listen=listen,
    ) as (_, proxy):
        ca = trusting(authority) if encrypted else None
        port = urlsplit(proxy.app.metrics_url).port
        with contextlib.ExitStack() as stack:
            socks = held(stack, port, 20)
            assert soon(lambda: sum(map(over, socks)) == 4)
            for last in range(2, 6):  # others find room all the same, until there is none
                socks += held(stack, port, 16, source=f"127.0.0.{last}")
            assert soon(lambda: sum(map(over, socks)) == 20)
        assert soon(lambda: scrape_or_none(proxy, ca) == 200)
        told = scrape(proxy, ca=ca).body.decode()
        for cause, least in (("too-many", 16), ("too-many-of-address", 4)):
            name = f'counterfoil_metrics_connections_refused_total{{cause="{cause}"}}'
            assert float(told.partition(f"\n{name} ")[2].split()[0]) >= least


def test_who_shows_no_token_is_let_go(world, monkeypatch, caplog):
    """A connection that says nothing ends, and one whose token is wrong; one that showed it does not."""
    _, proxy = world
    port = urlsplit(proxy.app.metrics_url).port
    known = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(known), contextlib.ExitStack() as stack:
        for token, status in ((TOKEN, 200), ("t" * 32, 401), (TOKEN, 200)):
            known.request("GET", "/metrics", headers={"Authorization": f"Bearer {token}"})
            answer = known.getresponse()
            assert answer.read().startswith(b"#") == (status == 200) == (known.sock is not None)
            assert answer.status == status
        monkeypatch.setattr(listener, "_UNKNOWN_SECONDS", 0.2)
        (silent,) = held(stack, port, 1)
        assert soon(lambda: over(silent))
        kept = known.sock
        known.request("GET", "/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
        assert known.getresponse().status == 200 and known.sock is kept
    assert "did not show the token of `metrics` in time" in caplog.text
    assert "asked for the metrics without their token" in caplog.text
    told = metrics(proxy)
    refused = "counterfoil_metrics_connections_refused_total{{cause={}}}".format
    assert (told[refused("wrong-token")], told[refused("no-token")]) == (1, 1)
    assert {name for name in told if name.startswith(refused("").partition("{")[0])} == {
        refused(cause) for cause in listener._CAUSES
    }


def over(sock):
    """Whether the other side has ended it."""
    try:
        return sock.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def scrape_or_none(proxy, ca):
    with contextlib.suppress(ConnectionError, IndexError, ssl.SSLError):
        return scrape(proxy, ca=ca).status


def test_without_settings_there_are_no_metrics(tmp_path):
    """Nothing listens that nobody asked for."""
    with stage(tmp_path, reports=sales.REPORTS, rules=sales.RULES) as (_, proxy):
        assert proxy.app.metrics_url == ""


def test_requests_to_issuers_are_told_by_issuer_and_by_nothing_that_a_token_says(world):
    """What a thousand tokens name makes no label; where keys are and whether they come, the operator sees."""
    _, proxy = world
    background = Background()
    provider = Provider(background)
    try:
        tenant = provider.tenant("ours", public(key("EC"), kid="k"))
        provider.tenant("gone").down = True
        issuers = [
            f'  - {{issuer: "{provider.url}/{name}", prefix: {name}/, audience: [counterfoil]}}\n'
            for name in ("ours", "gone")
        ]
        before = (proxy.home.policies / "subjects.yaml").read_text()
        proxy.home.write("subjects.yaml", before + "".join(issuers))
        assert proxy.reload()
        for number in range(20):
            answer = proxy.get(CSV, token=tenant.token(f"user-{number}", kid=f"kid-{number}"))
            assert answer.status == 401
        assert proxy.get(CSV, token=provider.tenants["gone"].token()).status == 503
        found = {
            name: value
            for name, value in metrics(proxy).items()
            if name.startswith("counterfoil_issuer_")
        }
        at = f"issuer={provider.url}"
        counted, had = (
            "counterfoil_issuer_requests_total",
            "counterfoil_issuer_keys_timestamp_seconds",
        )
        assert found.pop(f"{had}{{{at}/ours}}") > 0
        assert found == {
            f"{had}{{{at}/gone}}": 0,
            f"{counted}{{{at}/ours,outcome=good,what=discovery}}": 1,
            f"{counted}{{{at}/ours,outcome=good,what=keys}}": 1,
            f"{counted}{{{at}/gone,outcome=failed,what=discovery}}": 1,
        }
    finally:
        provider.close()
        background.close()
