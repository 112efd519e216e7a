"""One way for all tests of treatments to apply one to a column of plain texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import polars as pl
import pytest

from proxy.batch import PLAIN, Batch
from proxy.keys import Keyring, MasterKey
from proxy.texts import plain
from proxy.treatments import Site, Treatment, parse
from proxy.values import Type

Texts = Sequence[str | None]

KEYRING = Keyring([MasterKey(id="k1", created="", state="active", secret=bytes(range(32)))])


def apply(
    treatment: str | Treatment,
    texts: Texts,
    type_: Type = Type.TEXT,
    *,
    key: Mapping[str, Texts] | None = None,
    **place: object,
) -> list[str | None]:
    """Treat `texts` as a batch with one field `f`, and key fields beside it."""
    key = key or {}
    columns = {"f": texts, **key}
    batch = Batch(
        {name: pl.Series(name, cells, dtype=pl.String) for name, cells in columns.items()},
        height=len(texts),
        lexis=PLAIN,
        types={"f": type_, **dict.fromkeys(key.keys() - {"f"}, Type.TEXT)},
    )
    if isinstance(treatment, str):
        treatment = parse(treatment)
    given = plain(treatment.bind(site(type_, key=tuple(key), **place))(batch))
    assert given.dtype == pl.String
    assert len(given) == len(texts)
    return given.to_list()


def site(type_: Type = Type.TEXT, **place: object) -> Site:
    """Describe field `f` of report `sales`, for `user:alice`, unless told otherwise."""
    usual = {
        "report": "sales",
        "field": "f",
        "key": (),
        "purpose": "",
        "subject": "user:alice",
        "keyring": KEYRING,
    }
    return Site(**{**usual, "type": type_, **place})


@pytest.fixture(scope="session", name="apply")
def _apply() -> Callable[..., list[str | None]]:
    return apply


@pytest.fixture(scope="session", name="site")
def _site() -> Callable[..., Site]:
    return site
