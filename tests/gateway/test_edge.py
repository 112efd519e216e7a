"""The edge on raw sockets: what HTTP/1.1 does not allow, and what is asked after an answer."""

from __future__ import annotations

import re

import pytest

from tests.harness import sales, wire
from tests.harness.proxy import Proxy
from tests.harness.store import Page, Store

PATH = "/sales/daily.csv"
LONG = sales.as_csv(sales.rows(40_000))


def answers(raw: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/[0-9.]+ (\d{3}) ", raw)]


def refused(proxy: Proxy, store: Store, request: str, status: int, cause: str) -> None:
    """One recorded refusal, and nothing else: the connection is closed, the store not asked."""
    raw = wire.exchange(proxy.url, request.encode("latin-1"))
    assert answers(raw) == [status]
    answer = wire.parse(raw)
    (event,) = [event for event in proxy.events() if event.access == answer.event]
    assert (event.step, event.status, event.cause) == ("refusal", status, cause)
    assert not store.asked


@pytest.mark.threat("B14")
@pytest.mark.parametrize("version", ["0.9", "1.0", "2.0"])
@pytest.mark.parametrize("keep_alive", ["", "Connection: keep-alive\r\n"])
def test_another_version_is_refused(proxy, store, fields, version, keep_alive):
    """A14: HTTP/1.0 has no chunks, so a cut answer would look whole; what is no HTTP/1.x is not served."""
    store.pages[PATH] = Page(LONG)
    request = f"GET {PATH} HTTP/{version}\r\n{keep_alive}{fields}\r\n"
    refused(proxy, store, request, 400, "http-version")


def test_a_health_check_may_be_of_http_1_0(proxy):
    """Load balancers ask in HTTP/1.0 whether the proxy is there."""
    assert answers(wire.exchange(proxy.url, b"GET /-/ready HTTP/1.0\r\n\r\n")) == [200]


@pytest.mark.threat("A8")
@pytest.mark.parametrize(
    "host",
    [
        "a b",
        "x/y",
        "user@x",
        "x:80:80",
        "[::1",
        "x,y",
        "x\x7f",
        "é",
        "",
        "....",
        ":",
        ":80",
        "a:999999",
    ],
)
def test_a_host_that_is_none_is_refused(proxy, store, fields, host):
    """A8: a Host field that is no host is refused."""
    request = f"GET {PATH} HTTP/1.1\r\n{fields.replace('Host: localhost', f'Host: {host}')}\r\n"
    raw = wire.exchange(proxy.url, request.encode("latin-1"))
    assert answers(raw) == [400] and not store.asked


@pytest.mark.threat("A8")
@pytest.mark.parametrize(
    "hosts", ["", "Host: localhost\r\nHost: y\r\n", "Host: localhost\r\nhost: x\r\n"]
)
def test_no_host_or_two_are_refused(proxy, store, fields, hosts):
    """A8: a request without a Host field, or with two, is refused (RFC 9112 §3.2)."""
    request = (
        f"GET {PATH} HTTP/1.1\r\n{fields.replace(f'Host: localhost{chr(13)}{chr(10)}', hosts)}\r\n"
    )
    refused(proxy, store, request, 400, "framing")


@pytest.mark.threat("B15")
@pytest.mark.parametrize(
    "body",
    ["0\r\n\r\n", "0\r\nAuthorization: Bearer x\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n", ""],
)
def test_a_chunked_read_is_refused_whether_its_body_is_empty_or_not(proxy, store, fields, body):
    """B15: a transfer coding on a read is refused, whenever its chunks come in."""
    request = f"GET {PATH} HTTP/1.1\r\n{fields}Transfer-Encoding: chunked\r\n\r\n{body}"
    refused(proxy, store, request, 413, "body-on-a-read")


@pytest.mark.threat("B16")
def test_a_token_in_a_trailer_is_none(proxy, store, fields):
    """B16: what a trailer says authorises nothing."""
    host, token = fields.splitlines()
    request = (
        f"GET {PATH} HTTP/1.1\r\n{host}\r\nTransfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n"
        f"0\r\n{token}\r\n\r\n"
    )
    refused(proxy, store, request, 413, "body-on-a-read")


def test_an_expected_body_is_never_asked_for(proxy, store, fields):
    """`Expect: 100-continue` gets its refusal at once, and no 100."""
    request = f"GET {PATH} HTTP/1.1\r\n{fields}Expect: 100-continue\r\nContent-Length: 9\r\n\r\n"
    refused(proxy, store, request, 413, "body-on-a-read")


@pytest.mark.threat("A12")
@pytest.mark.parametrize("protocol", ["websocket", "h2c", "TLS/1.0"])
@pytest.mark.parametrize("behind", ["", "garbage\r\n\r\n", "second"])
@pytest.mark.parametrize("path", [PATH, "/-/live", "/-/ready", "/-/reveal"])
def test_nothing_is_upgraded(proxy, store, fields, protocol, behind, path):
    """A12: an upgrade gets no 101 but one plain answer, and what stands behind it is not read."""
    second = f"GET {PATH} HTTP/1.1\r\n{fields}\r\n" if behind == "second" else behind
    request = f"GET {path} HTTP/1.1\r\n{fields}Connection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
    raw = wire.exchange(proxy.url, (request + second).encode())
    assert len(answers(raw)) == 1
    assert answers(raw)[0] in ((405,) if path == "/-/reveal" else (200, 400))
    assert len(store.asked) <= 1


@pytest.mark.threat("A11")
@pytest.mark.parametrize("closing", ["", "Connection: close\r\n"])
@pytest.mark.parametrize(
    "target", ["evil.example:443", PATH, "/sales/secret.csv", "/-/live", "/-/ready"]
)
def test_connect_opens_no_tunnel(proxy, store, fields, target, closing):
    """A11: CONNECT is refused, and what is sent behind it is not taken for a request of this proxy."""
    behind = f"GET {PATH} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n"
    request = f"CONNECT {target} HTTP/1.1\r\n{fields}{closing}\r\n{behind}"
    raw = wire.exchange(proxy.url, request.encode())
    assert answers(raw)[0] in (400, 404, 405) and len(answers(raw)) == 1
    assert not store.asked


@pytest.mark.threat("A11", "B14")
@pytest.mark.parametrize("path", ["/-/live", "/-/ready"])
@pytest.mark.parametrize(
    ("method", "version", "more"),
    [
        *((method, "1.1", "") for method in ("POST", "PUT", "DELETE", "TRACE", "OPTIONS")),
        ("GET", "1.1", "Content-Length: 3\r\n\r\nabc"), ("GET", "1.1", "Transfer-Encoding: chunked\r\n\r\n0"),
        ("GET", "0.9", ""), ("GET", "2.0", ""), ("GET", "1.1", "bad host"),
    ],
)  # fmt: skip
def test_what_is_more_than_a_health_check_is_a_request_like_any_other(
    proxy, store, path, method, version, more
):
    """A11, B14: it needs a token, is held to what HTTP/1.1 allows, and is on record."""
    host, more = ("a b", "") if more == "bad host" else ("localhost", more)
    request = (
        f"{method} {path} HTTP/{version}\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n\r\n"
    )
    raw = wire.exchange(proxy.url, request.encode())
    assert answers(raw)[0] in (400, 401, 404, 405, 413) and len(answers(raw)) == 1
    (event,) = [each for each in proxy.events() if each.access == wire.parse(raw).event]
    assert event.step == "refusal"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_health_check_is_no_access(proxy, method):
    """It is answered without a token, and is on record no more than the server's start."""
    before = len(proxy.events())
    for path in ("/-/live", "/-/ready"):
        assert proxy.get(path, method=method).status == 200
    assert len(proxy.events()) == before


@pytest.mark.threat("A9", "A10")
def test_fields_that_other_proxies_believe_have_no_effect(proxy, store, fields):
    """A9, A10: no field but the known ones changes an answer or goes to the store."""
    more = "".join(
        f"{name}: /sales/secret.csv\r\n"
        for name in ("X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override", "X-Forwarded-Uri",
                     "X-Forwarded-For", "X-Forwarded-Client-Cert", "X_User", "Forwarded", "Cookie",
                     "Accept-Encoding", "Via", "If-None-Match", "If-Modified-Since", "Range", "TE")
    )  # fmt: skip
    plain, strange = (
        wire.parse(
            wire.exchange(
                proxy.url,
                f"GET {PATH} HTTP/1.1\r\n{fields}{each}Connection: close\r\n\r\n".encode(),
            )
        )
        for each in ("", more)
    )
    assert plain.status == 200 and plain.seen() == strange.seen()
    first, second = store.asked
    assert first == second


@pytest.mark.threat("G60")
def test_forbidden_and_unknown_are_one_on_a_kept_connection(proxy, store, fields):
    """G60: in status, fields, body and what becomes of the connection, they are the same."""
    seen = []
    for target in (
        "/sales/secret.csv",
        "/sales/none.csv",
        "/sales/secret.csv?x=%41&x",
        "/none?x=1",
    ):
        for method in ("GET", "HEAD", "POST", "DELETE"):
            request = f"{method} {target} HTTP/1.1\r\n{fields}Accept: image/png\r\n\r\n"
            after = f"GET {PATH} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n"
            raw = wire.exchange(proxy.url, (request + after).encode())
            assert answers(raw) == [404, 200]
            head = raw.partition(b"\r\n\r\n")[0]
            head = re.sub(rb"(Counterfoil-Event|Date): [^\r]*", b"", head)
            seen.append((method == "HEAD", head))
    assert len(set(seen)) <= 2
    assert len({head for _, head in seen}) == 1


@pytest.mark.threat("B18")
def test_each_pipelined_request_has_its_answer_and_its_event(proxy, store, fields):
    """B18: a hundred requests at once are answered in their order, each with its own record."""
    targets = [PATH, "/sales/none.csv"] * 50
    requests = [f"GET {target} HTTP/1.1\r\n{fields}\r\n" for target in targets]
    last = f"GET {PATH} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n"
    before = len(proxy.events())
    raw = wire.exchange(proxy.url, ("".join(requests) + last).encode())
    assert answers(raw) == [200, 404] * 50 + [200]
    assert len(set(re.findall(rb"Counterfoil-Event: (\w+)", raw))) == 101
    assert len(proxy.events()) == before + 101
