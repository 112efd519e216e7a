"""`encrypt`: a cell that only the proxy can open again (AES-256-GCM-SIV, RFC 8452).

Every cell has a random nonce, so that equal values do not look equal, and is bound to its report, field,
key and row: moved anywhere else it does not open (`sealed.py` has its text). Its row is known by those of
the report's key fields that whoever is given the cell is given in clear as well, for whoever asks for the
value has to state them.

`encrypt(deterministic='field')` makes equal values of a field look equal, on purpose: the nonce is made
of the value by HMAC-SHA-256, as in a synthetic IV (RFC 8452 is such a mode, and safe under nonces that
repeat). Such a cell is bound to no row and carries nothing of one, and its key is the one that names, so
that it stays what it is when the sealing key changes. No value stays no value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice, repeat
from typing import ClassVar, Final

from proxy.batch import Batch
from proxy.errors import ValueRefused
from proxy.few import Cells, like
from proxy.keys import Aead
from proxy.treatments import sealed
from proxy.treatments.base import (
    BadArgument,
    Literal,
    Operation,
    Parameter,
    Site,
    Treatment,
)
from proxy.treatments.columns import of_type
from proxy.treatments.sealed import Cause, Opened, Unopened
from proxy.values import Type

_FIELD: Final = "field"
_AT_ONCE: Final = 1024
"""Cells that are sealed and written together, so that what is made in between fits a processor's caches."""


def _text(literal: Literal) -> str:
    if not literal.quoted:
        raise ValueError("a text in quotes")
    return literal.text


@dataclass(frozen=True, kw_only=True)
class Encrypt(Treatment):
    """The cell, sealed; the proxy alone gives it back."""

    name: ClassVar[str] = "encrypt"
    summary: ClassVar[str] = (
        "Sealed with AES-256-GCM-SIV and bound to its report, field and row; a length tells only "
        "its class (32, 64, 128 … bytes)."
    )
    tells: ClassVar[str] = (
        "Whether there is a value, and the class of its length in bytes of UTF-8: up to 30, 62, 126, and "
        "so on. Not which cells are equal, today's and tomorrow's neither, but with `deterministic='field'`: "
        "then how often each value of the field occurs."
    )
    use: ClassVar[str] = (
        "Where the value has to come back later for somebody who may see it: a `reveal` line says who, and "
        "in which rows; each time is on record."
    )
    avoid: ClassVar[str] = (
        "Where nobody will need the value back: whoever gets hold of the keyring can open it, and what "
        "`redact` leaves out nobody can. To group or join by it, give `pseudonym`, which no line turns back."
    )
    shown: ClassVar[tuple[tuple[str, Type, str], ...]] = (
        ("encrypt", Type.TEXT, "ada@example.com"),
        ("encrypt", Type.DECIMAL, "18.09"),
        ("encrypt(deterministic='field')", Type.TEXT, "ada@example.com"),
    )
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            name="deterministic",
            attribute="deterministic_in",
            read=_text,
            summary="`'field'`: equal values of a report's field look equal, and are bound to no row",
        ),
    )
    accepts: ClassVar[frozenset[Type]] = frozenset(Type)
    output: ClassVar[str] = "text"
    rank: ClassVar[int] = 40
    deterministic: ClassVar[bool] = False
    reversible: ClassVar[bool] = True
    idempotent: ClassVar[bool] = False
    unchanged: ClassVar[str] = "never"

    deterministic_in: str | None = None

    def __post_init__(self) -> None:
        if self.deterministic_in not in (None, _FIELD):
            message = "`deterministic` can only be `'field'`"
            raise BadArgument("deterministic", message, "write that, or leave it out")

    @property
    def repeats(self) -> bool:
        """Whether equal values are sealed alike."""
        return self.deterministic_in is not None

    @property
    def carries(self) -> bool:
        """Whether a cell belongs to its row, and takes along what tells who may have it back."""
        return self.deterministic_in is None

    @property
    def fineness(self) -> tuple[int, ...]:
        """Deterministic before random: it tells more, for it tells what is equal."""
        return (0,) if self.repeats else (1,)

    def __str__(self) -> str:
        return f"encrypt(deterministic='{_FIELD}')" if self.repeats else "encrypt"

    def gives(self, type_: Type) -> Type:  # noqa: ARG002 - of any type
        """Give text."""
        return Type.TEXT

    def bind(self, site: Site) -> Operation:
        """Give the sealed cells; null stays null."""
        return _deterministic(site) if self.repeats else _random(site)


def _random(site: Site) -> Operation:
    aead = _aead(site, site.keyring.sealing)
    names = tuple(name for name in site.key if name in site.stated and name != site.field)
    how = sealed.mask(site.key, names)
    head = f"{sealed.VERSION}.{aead.key_id}.{how}"
    place = sealed.place(aead.key_id, site.report, site.field, how, names)
    pack = sealed.packer(site.type, {name: site.types[name] for name in site.carried})

    def encrypted(batch: Batch) -> Cells:
        values = of_type(batch.values(site.field), site.type)
        cells = values.to_list()
        whole = None not in cells

        def beside(field: str) -> list[str | None]:
            column: list[str | None] = batch.values(field).to_list()
            if whole:
                return column
            return [part for part, text in zip(column, cells, strict=True) if text is not None]

        texts = cells if whole else [text for text in cells if text is not None]
        columns, before = [], place
        for name in names:
            column, type_ = beside(name), site.types[name]
            parts = {text: before + sealed.part(text, type_) for text in set(column)}
            columns.append(map(parts.__getitem__, column))
            before = b""
        places = map(b"".join, zip(*columns, strict=True)) if columns else repeat(place, len(texts))
        plain = pack(texts, [beside(name) for name in site.carried])
        given: list[str] = []
        while some := [*islice(plain, _AT_ONCE)]:
            given += sealed.written(head, aead.seal(some, [*islice(places, _AT_ONCE)]))
        if whole:
            return like(values, given)
        each = iter(given)
        return like(values, [None if text is None else next(each) for text in cells])

    return encrypted


def _deterministic(site: Site) -> Operation:
    key_id = site.keyring.naming
    aead = _aead(site, key_id, deterministic=True)
    nonces = site.keyring.mac("encrypt-nonce", site.report, site.field, key_id=key_id)
    head = f"{sealed.VERSION}.{key_id}.{sealed.DETERMINISTIC}"
    place = sealed.place(key_id, site.report, site.field, sealed.DETERMINISTIC, ())
    pack = sealed.packer(site.type, {})

    def encrypted(batch: Batch) -> Cells:
        values = of_type(batch.values(site.field), site.type)
        cells = values.to_list()
        texts = [text for text in dict.fromkeys(cells) if text is not None]
        alike = aead.seal_alike([*pack(texts, ())], [place] * len(texts), nonces)
        given: dict[str | None, str] = dict(zip(texts, sealed.written(head, alike), strict=True))
        return like(values, [*map(given.get, cells)])

    return encrypted


def opened(cell: str, site: Site, row: Mapping[str, str | None]) -> Opened:
    """What is sealed in `cell`, of a row whose key fields are stated to have these values.

    Only those are looked at to which the cell says that it is bound. Raises Unopened where it is malformed
    or altered, or was sealed for another place or key.
    """
    key_id, how, secret = sealed.read(cell)
    if key_id not in site.keyring.ids:
        raise Unopened(Cause.NO_KEY)
    names = sealed.bound(site.key, how)
    aead = _aead(site, key_id, deterministic=how == sealed.DETERMINISTIC)
    place = sealed.place(key_id, site.report, site.field, how, names)
    place += b"".join(sealed.part(row.get(name), site.types[name]) for name in names)
    try:
        type_, text, carried = sealed.unpacked(aead.open(secret, place))
    except ValueRefused:
        raise Unopened(Cause.ALTERED) from None
    return Opened(text=text, type=type_, carried=carried, bound=frozenset(names), key_id=key_id)


def _aead(site: Site, key_id: str, *, deterministic: bool = False) -> Aead:
    purpose = "encrypt-alike" if deterministic else "encrypt"
    return site.keyring.aead(purpose, site.report, site.field, key_id=key_id)
