"""nginx in front, as the documentation says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.harness import sales, wire
from tests.harness.proxy import stage
from tests.harness.store import Page
from tests.peers.nginx import MISSING, nginx

PATH = "/sales/daily.csv"
LISTEN = ", names: [reports.example.com], balancers: {addresses: [127.0.0.1], forwarded_for: true}"
DOCS = Path(__file__).parents[2] / "docs/configuration.md"


@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_it_passes_on_what_the_documentation_has_it_pass_on(tmp_path):
    """Requests of the host that is listed are answered, whole; those of another one are 421."""
    (location,) = re.findall(r"```nginx\n(.*?)```", DOCS.read_text(), re.DOTALL)
    (tmp_path / "nginx").mkdir()
    with stage(tmp_path / "home", reports=sales.REPORTS, rules=sales.RULES, listen=LISTEN) as (
        store,
        proxy,
    ):
        store.pages[PATH] = Page(sales.as_csv(sales.rows(40_000)))
        alice = proxy.issuer.token("alice", groups=("analysts",))
        direct = proxy.get(PATH, token=alice, headers={"Host": "reports.example.com"})
        block = location.replace("https://10.0.0.7:8443", proxy.url)
        more = "; " + block.replace("{", "{{").replace("}", "}}") + "set $nothing 0"
        with nginx(tmp_path / "nginx", more=more) as url:
            for host, status in (("reports.example.com", 200), ("evil.example", 421)):
                answer = wire.get(url, PATH, token=alice, headers={"Host": host})
                assert answer.status == status and answer.whole
                (event, *_) = [each for each in proxy.events() if each.access == answer.event]
                assert event.address == "127.0.0.1"
                if status == 200:
                    assert answer.body == direct.body
