"""What a doctor says of stores: whether they answer, and whether they take what the proxy presents."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import time

import pytest
from aiohttp import web

from proxy.doctor import CHECKS, State
from tests.doctor.homes import add, edit_reports, found, told
from tests.harness import pki, sales
from tests.harness.guarded import Guarded
from tests.harness.process import ROOT
from tests.harness.store import Page

TOKEN = "s3cret-canary"
OAUTH = "oauth: {{token_url: '{url}', client: c, secret: 'env:SECRET', loopback: true}}"


def said(home, **environment: str) -> list[tuple[State, str]]:
    return [(each.state, each.text) for each in told(home, "stores", **environment)]


def test_a_store_is_shown_its_credential_and_nothing_else_and_follows_nobody(home, store):
    """At its root, at first without it; a redirect is an answer, a clock that is off is told."""
    edit_reports(home, "credential: 'env:STORE_TOKEN'")
    store.pages["/"] = Page(
        status=302,
        headers={"Location": f"{store.url}/elsewhere", "Date": "Thu, 01 Jan 2026 00:00:00 GMT"},
    )
    everything = found(home, STORE_TOKEN=TOKEN)
    assert ("stores", "ok", "it answers (302 at its root)") in everything
    assert any(
        at == "clocks" and how == "warn" and "behind ours" in text for at, how, text in everything
    )
    (first, bare), (second, presented) = store.asked
    assert first == second == "/"
    assert {*bare} == {"host", "accept", "accept-encoding"}
    assert presented == {**bare, "authorization": f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    ("status", "state", "words"),
    [
        (401, State.FAIL, "it refuses the credential that it is shown (401 at its root)"),
        (403, State.WARN, "the credential that it is shown opens not even its root (403)"),
    ],
)
def test_a_store_that_refuses_its_credential_is_told(home, store, status, state, words):
    """401 and 403, to who presents it, with what to do and without the credential."""
    edit_reports(home, "credential: 'env:STORE_TOKEN'")
    store.pages["/"] = Page(status=status)
    (one,) = told(home, "stores", STORE_TOKEN=TOKEN)
    assert (one.state, one.text) == (state, words)
    assert one.fix and TOKEN not in f"{one}"


def test_a_store_that_asks_for_a_credential_where_none_is_named_is_told(home, store):
    """401 to who presents nothing."""
    store.pages["/"] = Page(status=401)
    ((state, text),) = said(home)
    assert state is State.WARN and "names none" in text


def test_a_credential_that_cannot_be_read_leaves_its_store_asked_without(home, store):
    """A variable that is not set is told by `policies`; here, that nothing was tried."""
    edit_reports(home, "credential: 'env:STORE_TOKEN'")
    store.pages["/"] = Page(status=401)
    ((state, text),) = said(home)
    assert state is State.WARN and "neither a credential nor certificates were tried" in text
    assert all("authorization" not in headers for _, headers in store.asked)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("[/bin/false]", "its credential cannot be had: the command `t` ends with status 1"),
        ("[/no/such/program]", "the command `t` does not run: No such file or directory"),
        ("[/bin/echo, a b]", "it is empty or has characters that no secret has"),
        ("[/bin/sleep, '60'], timeout_seconds: 1", "the command `t` takes over 1 seconds"),
    ],
)
def test_a_command_that_gives_no_credential_is_told(home, store, run, words):
    """It is run as for a request, for a bounded time; what is wrong, and what to do."""
    add(home, f"commands: {{t: {{run: {run}}}}}")
    edit_reports(home, "credential: 'command:t'")
    store.pages["/"] = Page(status=401)
    began = time.monotonic()
    (one,) = told(home, "stores", PATH="/usr/bin:/bin")
    assert time.monotonic() - began < 20
    assert one.state is State.FAIL and words in one.text
    assert "commands.t" in one.fix


def test_what_the_proxy_would_log_of_it_is_told_once(home):
    """As a row of the table; nothing of it is on stderr."""
    add(home, "commands: {t: {run: [/bin/false]}}")
    edit_reports(home, "credential: 'command:t'")
    words = [sys.executable, "-m", "proxy", "doctor", "--json", "-c", str(home.settings)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, check=False, timeout=60)
    assert done.returncode == State.FAIL and b"`t` ends with status 1" in done.stdout
    assert not done.stderr


def test_what_a_command_prints_is_presented_and_not_told(home, store):
    """The store sees it, nobody else."""
    add(home, f"commands: {{t: {{run: [/bin/echo, {TOKEN}]}}}}")
    edit_reports(home, "credential: 'command:t'")
    assert said(home) == [(State.OK, "it answers (404 at its root)")]
    assert store.asked[-1][1]["authorization"] == f"Bearer {TOKEN}"


def test_a_store_is_known_by_the_authority_that_the_catalogue_names(home, background):
    """And by no other: as for a request."""
    authority = pki.Authority()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf = authority.issue(*pki.LOCAL, usage=pki.SERVER)
    context.load_cert_chain(*leaf.write(home.folder, "store"))

    async def nothing(_: web.BaseRequest, __: bytes) -> web.Response:
        return web.Response(status=404)

    with Guarded(background, nothing, tls=context) as store:
        (home.policies / "ca.pem").write_bytes(authority.pem)
        home.write("reports.yaml", sales.REPORTS.replace("{store}", store.url))
        edit_reports(home, "tls: {authority: ca.pem}")
        assert said(home) == [(State.OK, "it answers (404 at its root)")]
        (home.policies / "ca.pem").write_bytes(pki.Authority().pem)
        ((state, text),) = said(home)
    assert state is State.FAIL and "its certificate is not one that is trusted here" in text


def test_a_token_endpoint_that_does_not_answer_is_told(home):
    """A port that nobody listens at; the client's secret is not told."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        url = f"http://127.0.0.1:{held.getsockname()[1]}/token"
    edit_reports(home, OAUTH.format(url=url))
    (one,) = told(home, "stores", SECRET=TOKEN)
    assert one.state is State.FAIL
    assert "the token endpoint cannot be reached" in one.text and "refused" in one.text
    assert "token_url" in one.fix and TOKEN not in f"{one}"


def test_a_token_endpoint_is_asked_and_its_token_presented(home, store):
    """As for a request; one that answers an error is told with its code."""
    edit_reports(home, OAUTH.format(url=f"{store.url}/token"))
    store.pages["/token"] = Page(
        body=json.dumps({"access_token": "fresh", "token_type": "Bearer"}).encode(),
        content_type="application/json",
    )
    assert said(home, SECRET=TOKEN) == [(State.OK, "it answers (404 at its root)")]
    assert store.asked[-1][1]["authorization"] == "Bearer fresh"
    store.pages["/token"] = Page(
        status=401, body=b'{"error": "invalid_client"}', content_type="application/json"
    )
    ((state, text),) = said(home, SECRET=TOKEN)
    assert state is State.FAIL and "the token endpoint answers 401 (invalid_client)" in text


def test_a_store_that_says_nothing_keeps_nobody(home):
    """It takes the connection and never answers: told within its deadline."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        home.write("reports.yaml", sales.REPORTS.replace("{store}", url))
        add(home, "stores: {first_byte_seconds: 1}")
        said = found(home)
    assert any(at == "stores" and "did not answer in time" in text for at, _, text in said)
    assert {at for at, _, _ in said} == {*CHECKS}


def test_a_store_without_the_tls_that_it_is_said_to_have_is_told(home, store):
    """A port that answers in plain HTTP."""
    home.write(
        "reports.yaml", sales.REPORTS.replace("{store}", store.url.replace("http:", "https:"))
    )
    assert any(at == "stores" and "does not speak TLS" in text for at, _, text in found(home))
    assert not store.asked
