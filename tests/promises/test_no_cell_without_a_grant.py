"""PROMISE 1 (no cell without a grant), over real sockets: canaries, two runs, any policy and any rows."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from tests.harness.process import Served
from tests.promises import grants, inference
from tests.promises.grants import FORMATS, raised
from tests.reference.worlds import SEEDS

CHECKS = {**grants.CHECKS, **inference.CHECKS}


@pytest.fixture(scope="module")
def at(tmp_path_factory):
    with raised(tmp_path_factory.mktemp("grants") / "home") as stage:
        yield stage


@pytest.mark.parametrize("name", CHECKS)
def test_promise(at, name):
    """Each check of grants.py and inference.py holds."""
    CHECKS[name](at)


def test_the_check_of_canaries_sees_them_where_they_are(at):
    """Under a policy that grants everything, the oracle finds every kind of canary in the answer."""
    everything = grants.RULES + "p2, role:owner, vault/items, true, *, clear\n"
    at.policy(
        grants.REPORTS, everything.replace("row.flag == 'secret', note, deny", "false, note, deny")
    )
    for format_ in FORMATS:
        at.serve(
            grants.path_of(format_),
            grants.written([grants.visible(1), grants.hidden(2)], format_),
            format_,
        )
        answer = at.ask(grants.path_of(format_), grants.sam(at))
        assert all(needle in answer.body for needle in grants.NEEDLES)


@pytest.mark.threat("G59")
@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize(("count", "chunked"), [(30, False), (8_000, True)])
def test_coded_answers_do_not_depend_on_what_is_hidden(at, coding, format_, count, chunked):
    """PROMISE 1 (non-interference): nor do the bytes and the frames that a content coding makes."""
    answer = grants.interference(at, format_, count, (0, 4_000), coding=coding)
    assert answer.headers["content-encoding"] == coding and bool(answer.chunks) == chunked


@settings(max_examples=50)
@given(SEEDS)
@pytest.mark.threat("G59")
def test_any_policy_over_any_rows_gives_what_the_reference_gives_and_no_more(at, seed):
    """PROMISE 1: random policies and data, end to end, against the reference and against disguises."""
    grants.any_policy_gives_what_the_reference_gives(at, [seed])


@pytest.mark.prove
@settings(max_examples=3000)
@given(SEEDS)
def test_many_policies_over_many_rows_give_what_the_reference_gives(at, seed):
    """As above, many times."""
    grants.any_policy_gives_what_the_reference_gives(at, [seed])


@pytest.mark.prove
@pytest.mark.parametrize("count", [3_000, 4_000, 60_000])
def test_longer_answers_do_not_depend_on_what_is_hidden(at, count):
    """PROMISE 1 (non-interference) at other sizes."""
    for format_ in FORMATS:
        grants.interference(at, format_, count, (0, 500, 20_000))


def test_a_process_of_its_own_prints_and_keeps_no_canary(at, tmp_path):
    """PROMISE 1: what `counterfoil serve` prints, and every file that it leaves, holds no canary."""
    from tests.harness.proxy import Home

    home = Home(tmp_path / "home", reports=grants.REPORTS, rules=grants.RULES, store=at.store.url)
    token = home.issuer.token("sam", groups=("owners",), stores=list(grants.MINE))
    records = [grants.visible(n) if n % 2 else grants.hidden(n) for n in range(60)]
    with Served(home, PYTHONASYNCIODEBUG="1") as served:
        for format_ in FORMATS:
            body = grants.written(records, format_)
            at.serve(grants.path_of(format_), body, format_)
            answer = served.get(grants.path_of(format_), token=token)
            assert len(grants.rows_of(answer, format_)) == 30
            grants.has_no_canary(answer.raw, "the answer")
            at.serve(grants.path_of(format_), body[:-30] + b'"canary', format_)
            refused = served.get(grants.path_of(format_), token=token)
            assert refused.status == 502
            grants.has_no_canary(refused.raw, "the refusal")
    grants.has_no_canary(served.output.encode(), "what the process printed")
    for path in (tmp_path / "home").rglob("*"):
        if path.is_file() and path.parent.name != "policies":
            grants.has_no_canary(path.read_bytes(), path.name)
