"""Traces over real sockets: a receiver of OTLP reads where the time of an access went, and nothing that it held."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from proxy.errors import CounterfoilError
from proxy.gateway.tracing import ATTRIBUTES, STEPS, Trace
from proxy.traces import exporting
from tests.gateway.reloading import soon
from tests.gateway.sealing import RULES, reveal, sealed
from tests.harness import sales, wire
from tests.harness.proxy import stage
from tests.harness.receivers import HttpServer
from tests.harness.store import Page

CSV = "/sales/daily.csv"
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
"""The example of W3C Trace Context §3.2.2."""


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    for name in ("_EVERY", "_FIRST_SECONDS"):
        monkeypatch.setattr(exporting, name, 0.02)


@contextmanager
def world(folder, receiver, more="", *, settings="", rules=sales.RULES):
    (folder / "token").write_text("trace-token\n")
    traces = f'traces: {{endpoint: "http://127.0.0.1:{receiver.port}/v1/traces", token: "file:token"{more}}}\n'
    with stage(folder, reports=sales.REPORTS, rules=rules, settings=traces + settings) as running:
        store, proxy = running
        store.pages[CSV] = Page(sales.as_csv(sales.rows(10)))
        yield store, proxy


def ask(proxy, target=CSV, *, who="alice", **headers):
    return proxy.get(target, token=proxy.issuer.token(who, groups=("analysts",)), headers=headers)


def spans(receiver) -> list[Span]:
    found = []
    for body in list(receiver.bodies):
        request = ExportTraceServiceRequest.FromString(body)
        found += [s for r in request.resource_spans for e in r.scope_spans for s in e.spans]
    return found


def said(span: Span) -> dict[str, str | int]:
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes
    }


def roots(receiver, count: int = 1) -> list[Span]:
    """The spans of so many accesses, once they are there."""

    def there():
        return [span for span in spans(receiver) if span.kind == Span.SPAN_KIND_SERVER]

    assert soon(lambda: len(there()) >= count)
    assert len(there()) == count
    return there()


def steps(receiver, root: Span) -> list[Span]:
    return [span for span in spans(receiver) if span.parent_span_id == root.span_id]


def test_an_access_is_a_span_and_its_steps_are_all_of_it(tmp_path):
    """One after the other, without a gap; the store is asked in the step that fetches; no name is told."""
    with HttpServer() as receiver, world(tmp_path, receiver) as (store, proxy):
        answer = ask(proxy)
        (root,) = roots(receiver)
        made = steps(receiver, root)
        assert [each.name for each in made] == list(STEPS)
        ends = [root.start_time_unix_nano, *(each.end_time_unix_nano for each in made)]
        assert [each.start_time_unix_nano for each in made] == ends[:-1] == sorted(ends[:-1])
        assert ends[-1] == root.end_time_unix_nano
        fetch = made[2]
        assert fetch.kind == Span.SPAN_KIND_CLIENT and said(fetch) == {"counterfoil.store": "main"}
        asked = f"00-{root.trace_id.hex()}-{fetch.span_id.hex()}-01"
        assert store.asked[-1][1]["traceparent"] == asked
        (event,) = (e for e in proxy.events() if e.access == answer.event)
        assert (root.name, root.parent_span_id) == ("read sales/daily", b"")
        assert said(root) == {
            "http.request.method": "GET", "http.response.status_code": 200, "counterfoil.event": answer.event,
            "counterfoil.subject": event.subject, "counterfoil.action": "read", "counterfoil.report": "sales/daily",
            "counterfoil.decision": "permit", "counterfoil.ended": "whole", "counterfoil.rows": 10,
            "counterfoil.bytes": len(answer.body),
        }  # fmt: skip
        assert receiver.targets[0] == "/v1/traces"
        assert receiver.requests[0]["authorization"] == "Bearer trace-token"
        assert receiver.requests[0]["content-type"] == "application/x-protobuf"


def test_a_long_answer_goes_from_step_to_step(tmp_path):
    """Its blocks are recorded and released in turn, and its last record is what is said of it."""
    with HttpServer() as receiver, world(tmp_path, receiver) as (store, proxy):
        store.pages[CSV] = Page(sales.as_csv(sales.rows(40_000)))
        answer = ask(proxy, **{"Accept-Encoding": "identity"})
        (root,) = roots(receiver)
        names = [each.name for each in steps(receiver, root)]
        assert names[:6] == list(STEPS) and names[-2:] == ["record", "release"]
        assert names.count("record") == sum(e.access == answer.event for e in proxy.events()) >= 2
        assert said(root)["counterfoil.rows"] == 40_000
        assert said(root)["counterfoil.bytes"] == len(answer.body)


def test_what_is_refused_says_why(tmp_path):
    """Without a report that is not there; 5xx are errors; also what aiohttp could not read."""
    with HttpServer() as receiver, world(tmp_path, receiver) as (store, proxy):
        store.pages[CSV] = Page(status=500)
        answers = [ask(proxy), ask(proxy, "/sales/secret.csv"), ask(proxy, "/none"), proxy.get(CSV)]
        with wire.connect(proxy.url) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nA : b\r\n\r\n")
            answers.append(wire.parse(wire.rest(sock)))
        found = {said(root)["counterfoil.event"]: root for root in roots(receiver, 5)}
        told = [said(found[answer.event]) for answer in answers]
        assert [each["http.response.status_code"] for each in told] == [502, 404, 404, 401, 400]
        assert [each.get("counterfoil.report") for each in told] == [
            "sales/daily", "sales/secret", None, None, None,
        ]  # fmt: skip
        by_event = {event.access: event for event in proxy.events()}
        for answer, each in zip(answers, told, strict=True):
            known = by_event[answer.event]
            assert known.step == "burst" or each["counterfoil.reason"] == known.reason != ""
        assert [said(found[a.event]).get("error.type") is not None for a in answers] == [
            True, False, False, False, False,
        ]  # fmt: skip
        assert found[answers[0].event].status.code == 2 and found[answers[1].event].status.code == 0


def test_no_byte_of_what_was_asked_or_given_is_sent(tmp_path):
    """No cell, token, name, parameter, path or header: of reads, reveals, refusals and what is no HTTP."""
    canary = "canary-that-nobody-may-read"
    rules = RULES + "p, group:officers, sales/daily, read, true, allow\n"
    with HttpServer() as receiver, world(tmp_path, receiver, rules=rules) as (store, proxy):
        rows = [(*row[:5], f"{canary}{n}") for n, row in enumerate(sales.rows(10))]
        store.pages[CSV] = Page(sales.as_csv(rows), headers={"X-Of-The-Store": canary})
        token = proxy.issuer.token(canary, groups=("analysts", canary))
        answers = []
        for target in (
            CSV,
            f"{CSV}?from={canary}",
            f"{CSV}?{canary}=1",
            f"/{canary}",
            f"{CSV}?region={canary}",
        ):
            for shown in (token, canary, None):
                more = {
                    "Counterfoil-Purpose": canary,
                    "traceparent": canary,
                    "tracestate": f"a={canary}",
                }
                answers.append(proxy.get(target, token=shown, headers=more))
        answers += [
            proxy.get(CSV, token=token),
            proxy.get(CSV, token=token, method=canary.upper().replace("-", "")),
        ]
        cells = sealed(proxy)
        answers.append(reveal(proxy, cells))
        with wire.connect(proxy.url) as sock:
            sock.sendall(
                f"GET /{canary} HTTP/1.1\r\nHost: localhost\r\n{canary} : b\r\n\r\n".encode()
            )
            answers.append(wire.parse(wire.rest(sock)))
        assert {200, 401, 404, 400} <= {each.status for each in answers}
        roots(receiver, len(answers) + 1)
        sent = b"".join(receiver.bodies)
        hidden = [
            canary,
            "canary",
            "alice",
            "buyers.example",
            "cf1.",
            *token.split("."),
            "North",
            "analysts",
        ]
        for text in hidden:
            assert text.encode() not in sent and text.upper().encode() not in sent
        for span in spans(receiver):
            assert said(span).keys() <= ATTRIBUTES.keys()
            assert span.name in STEPS or span.name.split(" ")[0] in ("read", "reveal", "request")
            assert not span.events and not span.links and not span.trace_state


NO_PARENTS = (
    [PARENT, PARENT], [PARENT.upper()], [PARENT + "-00"], ["ff" + PARENT[2:]], [""],
    ["00-" + "0" * 32 + "-00f067aa0ba902b7-01"], ["00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01"],
)  # fmt: skip


@pytest.mark.parametrize(
    ("trusted", "parents", "others"),
    [
        ("['::1', 127.0.0.0/8]", ([PARENT],), NO_PARENTS),
        ("[10.0.0.0/8]", (), ([PARENT],)),
        ("[]", (), ([PARENT],)),
    ],
)
def test_a_trace_goes_on_where_its_client_is_trusted(tmp_path, trusted, parents, others):
    """By a `traceparent` that is well-formed and comes once; everybody else's is as if it were not there."""
    with (
        HttpServer() as receiver,
        world(tmp_path, receiver, f", trusted: {trusted}") as (store, proxy),
    ):
        token = proxy.issuer.token("alice", groups=("analysts",))
        shown = {}
        for given in (*parents, *others):
            lines = "".join(f"traceparent: {each}\r\n" for each in given)
            with wire.connect(proxy.url) as sock:
                sock.sendall(
                    f"GET {CSV} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}"
                    f"Authorization: Bearer {token}\r\n\r\n".encode()
                )
                answer = wire.parse(wire.rest(sock))
            assert answer.status == 200
            shown[answer.event] = given, store.asked[-1][1]["traceparent"].split("-")[1]
        for root in roots(receiver, len(shown)):
            given, asked = shown[str(said(root)["counterfoil.event"])]
            trace, parent = root.trace_id.hex(), root.parent_span_id.hex()
            assert asked == trace
            if given in parents:
                assert (trace, parent) == tuple(PARENT.split("-")[1:3])
            else:
                assert trace != PARENT.split("-")[1] and parent == ""


def test_what_is_no_http_is_refused_where_clients_are_trusted_too(tmp_path):
    """Of what cannot be read no field says a trace: it is 400, and on record."""
    with (
        HttpServer() as receiver,
        world(tmp_path, receiver, ", trusted: [127.0.0.1]") as (_, proxy),
    ):
        answer = wire.parse(wire.exchange(proxy.url, b"NOT HTTP\r\n\r\n"))
        assert answer.status == 400
        assert [each.cause for each in proxy.events() if each.access == answer.event] == ["framing"]


def test_a_trusted_client_says_what_is_not_traced(tmp_path):
    """One that is not sampled is not; and of all others, one in so many."""
    with (
        HttpServer() as receiver,
        world(tmp_path, receiver, ", trusted: [127.0.0.1], one_in: 1000000000") as (store, proxy),
    ):
        assert ask(proxy, traceparent=PARENT[:-2] + "00").status == 200
        assert ask(proxy).status == 200
        assert all("traceparent" not in headers for _, headers in store.asked)
        assert ask(proxy, traceparent=PARENT).status == 200
        assert roots(receiver)[0].trace_id.hex() == PARENT.split("-")[1]


def test_without_traces_a_client_s_context_goes_nowhere(tmp_path):
    with stage(tmp_path, reports=sales.REPORTS, rules=sales.RULES) as (store, proxy):
        store.pages[CSV] = Page(sales.as_csv(sales.rows(10)))
        assert ask(proxy, traceparent=PARENT, tracestate="a=b").status == 200
        assert not {"traceparent", "tracestate"} & store.asked[-1][1].keys()


def test_a_receiver_that_fails_is_asked_again_and_keeps_nobody_waiting(tmp_path):
    """503, then no answer, then taken: each trace once; what it refuses otherwise is lost and counted."""
    said_ = iter([503, None, 429, 204, 302, 400])
    with (
        HttpServer(lambda *_: next(said_, 204)) as receiver,
        world(tmp_path, receiver) as (_, proxy),
    ):
        assert ask(proxy).status == 200
        roots(receiver)
        assert len(receiver.requests) == 4
        for _ in range(2):
            before = len(receiver.requests)
            assert ask(proxy).status == 200
            assert soon(lambda before=before: len(receiver.requests) > before)
        assert soon(
            lambda: (
                b"counterfoil_traces_dropped_total 2.0"
                in proxy._background.run(proxy.app.exposed())
            )
        )
        assert ask(proxy).status == 200
        roots(receiver, 2)


def test_without_the_extra_the_start_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "proxy.traces.otlp", None)
    with (
        HttpServer() as receiver,
        pytest.raises(CounterfoilError, match=r"pip install 'counterfoil\[otel\]'"),
        world(tmp_path, receiver),
    ):
        pass


def test_a_trace_that_is_over_takes_nothing_down(tmp_path):
    """A view that others wait for may still be made; nor has a trace ever more than so many steps."""
    trace = Trace(bytes(16), b"", "GET")
    for _ in range(100):
        trace.enter("record")
        trace.enter("release")
    assert len(trace.steps) == 64 and trace.said["counterfoil.more_steps"] == 137
    assert trace.fetch("main") == ""
    trace = Trace(bytes(16), b"", "GET")
    trace.finish(200)
    assert trace.fetch("main") == "" and len(trace.steps) == 1 and trace.steps[0].said == {}


def test_what_waits_when_the_server_stops_is_sent(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "_EVERY", 3600)
    with HttpServer() as receiver:
        with world(tmp_path, receiver) as (_, proxy):
            for _ in range(3):
                assert ask(proxy).status == 200
            assert not receiver.requests
        roots(receiver, 3)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (
            "{endpoint: 'http://collector.example/v1/traces'}",
            "`endpoint` is not encrypted on its way",
        ),
        ("{endpoint: 'ftp://x'}", "`endpoint` is no address"),
        ("{endpoint: 'https://x/v1', token: plain}", "`token` names no source"),
        (
            "{endpoint: 'https://x/v1', trusted: [somewhere]}",
            "`somewhere` is no address or network",
        ),
        ("{endpoint: 'https://x/v1', one_in: 0}", "less than 1"),
        ("{one_in: 2}", "`endpoint`"),
    ],
)
def test_faults_of_the_settings_have_their_place(tmp_path, line, fault):
    from proxy import config
    from proxy.errors import Faulty

    file = tmp_path / "counterfoil.yaml"
    file.write_text(
        "policies: p\nlog: a.db\nkeyring: {file: k.json, key_encryption_key: 'env:K'}\n"
        f"traces: {line}\n"
    )
    with pytest.raises(Faulty, match=r"counterfoil\.yaml:4:") as caught:
        config.load(file, {})
    assert fault in json.dumps(str(caught.value), ensure_ascii=False)
