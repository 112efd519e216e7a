"""One way for all tests of treatments to apply one to a column of plain texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import polars as pl
import pytest
from hypothesis import strategies as st

from proxy.batch import PLAIN, Batch
from proxy.few import Few
from proxy.keys import Keyring, MasterKey
from proxy.texts import plain
from proxy.treatments import Site, Treatment, parse
from proxy.values import Type

Texts = Sequence[str | None]

PERSON = "C-17"
"""What other fields hold that a treatment looks at, unless told otherwise."""

KEYRING = Keyring([MasterKey(id="k1", created="", state="active", secret=bytes(range(32)))])

INSTANTS = st.builds(
    lambda at, separator, offset: at.isoformat(separator, "auto") + offset,
    st.datetimes(),
    st.sampled_from("T "),
    st.sampled_from(["", "Z", "+02:00", "-11:30", "+23:59"]),
)
"""Instants as documents write them."""


def apply(
    treatment: str | Treatment,
    texts: Texts,
    type_: Type = Type.TEXT,
    *,
    key: Mapping[str, Texts] | None = None,
    others: Mapping[str, Texts] | None = None,
    few: bool = False,
    **place: object,
) -> list[str | None]:
    """Treat `texts` as a batch with one field `f`, key fields beside it, and others that it looks at.

    In columns of a `few` cells, or of polars.
    """
    key = key or {}
    if isinstance(treatment, str):
        treatment = parse(treatment)
    looked_at = dict.fromkeys(treatment.needs - key.keys(), [PERSON] * len(texts))
    columns = {"f": texts, **key, **looked_at, **(others or {})}
    types = {"f": type_, **dict.fromkeys(columns.keys() - {"f"}, Type.TEXT)}
    place = {"stated": frozenset(key) - {"f"}, "types": types, **place}
    batch = Batch(
        {
            name: Few(cells) if few else pl.Series(name, cells, dtype=pl.String)
            for name, cells in columns.items()
        },
        height=len(texts),
        lexis=PLAIN,
        types=types,
        few=few,
    )
    given = plain(treatment.bind(site(type_, key=tuple(key), **place))(batch))
    if few:
        return given.to_list()
    assert given.dtype == pl.String
    assert len(given) == len(texts)
    return given.to_list()


class Types(dict[str, Type]):
    """Field `f` has one type, every other is text."""

    def __init__(self, type_: Type) -> None:
        super().__init__(f=type_)

    def __missing__(self, name: str) -> Type:
        return Type.TEXT


def site(type_: Type = Type.TEXT, **place: object) -> Site:
    """Describe field `f` of report `sales`, for `user:alice`, unless told otherwise."""
    usual = {
        "report": "sales",
        "field": "f",
        "key": (),
        "purpose": "",
        "subject": "user:alice",
        "keyring": KEYRING,
        "types": Types(type_),
    }
    return Site(**{**usual, "type": type_, **place})


@pytest.fixture(scope="session", name="apply")
def _apply() -> Callable[..., list[str | None]]:
    return apply


@pytest.fixture(scope="session", name="site")
def _site() -> Callable[..., Site]:
    return site
