"""Where each token is good for one request, none is good for two (THREATS C 30)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.identity import Identities
from proxy.identity.refused import Refused, Unavailable
from proxy.identity.single_use import Spending, Spent, digest_of
from proxy.plan import Deny
from proxy.reasons import Reason
from proxy.subject import Subject
from tests.identity.material import NOW, claims, jwks, key, public, token

TEXT = """\
issuers:
  - {issuer: "https://id.example.com", prefix: "", audience: [counterfoil], keys: {file: jwks.json}, single_use: 3}
"""


@pytest.fixture
def load(tmp_path):
    (tmp_path / "jwks.json").write_bytes(jwks(public(key("EC"), kid="k")))

    def load(previous: Identities | None = None) -> Identities:
        return Identities.load(TEXT.encode(), file="s.yaml", folder=tmp_path, previous=previous)

    return load


def bearer(jti: object, **more) -> str:
    return f"Bearer {token(claims(jti=jti, **more))}"


async def cause(ids: Identities, presented: str, now: float = NOW, by: object = None) -> str:
    found = await ids.verify(presented, now, by=by or object())
    assert isinstance(found, Deny)
    assert (found.reason is Reason.IDENTITY) == (found.cause == "too-many-tokens")
    return found.cause


async def test_a_token_is_good_for_the_request_that_presents_it_first(load):
    ids, one, presented = load(), object(), bearer("1")
    assert isinstance(await ids.verify(presented, NOW, by=one), Subject)
    assert isinstance(await ids.verify(presented, NOW, by=one), Subject), "decided anew"
    assert await cause(ids, presented) == "token-replayed"
    # Another signature of the same token is the same token.
    assert await cause(ids, bearer("1", groups=[])) == "token-replayed"
    assert await cause(load(previous=ids), presented) == "token-replayed", "after a reload"


async def test_other_processes_are_told_once_and_what_they_say_counts(load):
    """A token that another process has taken is refused here; a request that asks again is not told of again."""
    ids, one, told = load(), object(), []

    async def elsewhere(spending: Spending) -> None:
        told.append((spending.issuer, spending.digest, spending.until, spending.most))
        if len(told) > 1:
            raise Refused("token-replayed")

    for _ in range(2):
        found = await ids.verify(bearer("1"), NOW, by=one, elsewhere=elsewhere)
        assert isinstance(found, Subject)
    assert told == [("https://id.example.com", digest_of("1"), found.expires, 3)]
    again = await ids.verify(bearer("2"), NOW, by=one, elsewhere=elsewhere)
    assert isinstance(again, Deny) and again.cause == "token-replayed"


async def test_a_token_without_an_id_is_good_for_none(load):
    ids = load()
    assert await cause(ids, bearer(None)) == "missing-claim"
    assert await cause(ids, bearer("")) == "missing-claim"


async def test_no_token_is_forgotten_before_it_expires(load):
    ids = load()
    for number in range(3):
        presented = bearer(str(number), exp=int(NOW) + 10 * (number + 1))
        assert isinstance(await ids.verify(presented, NOW, by=object()), Subject)
    assert await cause(ids, bearer("more")) == "too-many-tokens"
    assert await cause(ids, bearer("0")) == "token-replayed"
    # The first has expired, with the skew of 30 seconds: there is room for one.
    assert isinstance(await ids.verify(bearer("more"), NOW + 40, by=object()), Subject)
    assert await cause(ids, bearer("1"), NOW + 40) == "token-replayed"
    assert await cause(ids, bearer("yet-more"), NOW + 40) == "too-many-tokens"


async def test_what_is_refused_for_another_reason_is_not_spent(load):
    ids = load()
    assert await cause(ids, bearer("1", aud="other")) == "wrong-audience"
    assert await cause(ids, bearer("1", exp=int(NOW) - 31)) == "token-expired"
    assert isinstance(await ids.verify(bearer("1"), NOW, by=object()), Subject)


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.integers(1, 20), st.integers(0, 9)), max_size=60
    )
)
def test_it_is_a_set_of_what_has_not_expired(steps):
    """Against a dictionary: good once until it expires, refused when full, never more than may be."""
    spent, model, now = Spent(), {}, 0.0
    for jti, lasting, waits in steps:
        now += waits
        model = {name: until for name, until in model.items() if until > now}
        wanted = "token-replayed" if jti in model else "too-many-tokens" if len(model) == 3 else ""
        if not wanted:
            model[jti] = now + lasting
        try:
            taken = Spending(
                issuer="i", digest=digest_of(jti), until=now + lasting, now=now, most=3
            )
            assert spent.spend(taken, by=object())
            found = ""
        except Unavailable as exc:
            found = exc.cause
        except Refused as exc:
            found = exc.cause
        assert found == wanted
        assert len(spent._by) == len(spent._ending) == len(model)
