"""What a doctor says of those who are sent alarms and traces: whether they can be reached."""

from __future__ import annotations

import socket
import ssl

import pytest
from aiohttp import web

from proxy.doctor import State
from tests.doctor.homes import add, told
from tests.harness import pki
from tests.harness.guarded import Guarded
from tests.harness.proxy import Home
from tests.harness.store import Page

TOKEN = "canary-token-of-32-characters-or-more"
SETTINGS = {
    "alarms.webhook": "alarms: {{webhook: '{url}', token: 'env:TOKEN', secret: 'env:TOKEN'}}",
    "traces.endpoint": "traces: {{endpoint: '{url}', token: 'env:TOKEN'}}",
}


def state(home: Home, what: str) -> tuple[State, str]:
    (one,) = told(home, "receivers", TOKEN=TOKEN)
    assert one.what == what and bool(one.fix) is (one.state is not State.OK)
    return one.state, one.text


@pytest.mark.parametrize("what", SETTINGS)
def test_one_that_is_not_there_is_told(home, what):
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        url = f"http://127.0.0.1:{held.getsockname()[1]}/"
    add(home, SETTINGS[what].format(url=url))
    assert state(home, what) == (State.FAIL, "cannot be reached: Connection refused")


@pytest.mark.parametrize("what", SETTINGS)
def test_one_without_the_tls_that_it_is_said_to_have_is_told(home, store, what):
    """A port that speaks plain HTTP."""
    add(home, SETTINGS[what].format(url=store.url.replace("http:", "https:")))
    found, text = state(home, what)
    assert found is State.FAIL and "does not speak TLS" in text


def test_one_whose_certificate_is_not_trusted_is_told(home, background, tmp_path):
    """Of an authority that nobody here knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf = pki.Authority().issue(*pki.LOCAL, usage=pki.SERVER)
    context.load_cert_chain(*leaf.write(tmp_path, "receiver"))

    async def nothing(request: web.BaseRequest, body: bytes) -> web.Response:
        raise AssertionError((request, body))

    with Guarded(background, nothing, tls=context) as receiver:
        add(home, SETTINGS["alarms.webhook"].format(url=receiver.url))
        found, text = state(home, "alarms.webhook")
    assert found is State.FAIL and "its certificate is not one that is trusted here" in text


def test_one_that_says_nothing_keeps_nobody(home):
    """It takes the connection and never answers: told within some seconds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        add(home, SETTINGS["traces.endpoint"].format(url=url))
        assert state(home, "traces.endpoint") == (
            State.FAIL,
            "cannot be reached: no answer in time",
        )


@pytest.mark.parametrize("what", SETTINGS)
def test_one_that_answers_is_sent_nothing_and_no_token(home, store, what):
    """Whatever it answers but 5xx: it is for POST, which a doctor does not send."""
    add(home, SETTINGS[what].format(url=f"{store.url}/take"))
    store.pages["/take"] = Page(status=405)
    assert state(home, what) == (State.OK, "it answers (405)")
    store.pages["/take"] = Page(status=503)
    assert state(home, what) == (State.WARN, "it answers 503")
    store.pages["/take"] = Page(status=308, headers={"Location": f"{store.url}/moved"})
    assert state(home, what) == (State.WARN, "it answers 308, and no redirect is followed")
    asked = [each for each in store.asked if each[0] != "/"]
    assert [target for target, _ in asked] == ["/take"] * 3
    assert all("authorization" not in headers for _, headers in asked)
    assert all("content-type" not in headers for _, headers in asked)
