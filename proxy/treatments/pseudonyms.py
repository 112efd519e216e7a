"""`pseudonym(domain=, per=)`: one stand-in for each value, by HMAC-SHA-256 (RFC 2104).

A pseudonym is keyed per report, field and purpose, so that two extracts do not join by it; a named
`domain` is shared wherever it is named, and joins are then what the admin stated. `per='subject'`
gives each recipient pseudonyms of its own. It is taken over the plain text of the value: `7` and
`07` are two.

    pf3a90c1be07d5a2216cc04b97e   `p`, so that no spreadsheet reads a number, and 104 bits in hex

Pseudonyms keep equality, hence frequencies: over a few known values (a Boolean, a region) they hide
little. They are made under the key of the keyring that names: they change when another one does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from proxy.treatments import domains
from proxy.treatments.base import (
    BadArgument,
    Literal,
    Operation,
    Parameter,
    Site,
    Treatment,
    quoted,
)
from proxy.treatments.columns import of_type, per_distinct
from proxy.values import Type

LENGTH: Final = 27
_BYTES: Final = 13


@dataclass(frozen=True, kw_only=True)
class Pseudonym(Treatment):
    """A keyed stand-in: equal values have equal ones, and nobody without the key can make them."""

    name: ClassVar[str] = "pseudonym"
    summary: ClassVar[str] = (
        "A stand-in of fixed length, equal for equal values: keyed per report, field and purpose, "
        "or per named domain."
    )
    parameters: ClassVar[tuple[Parameter, ...]] = (
        domains.parameter("fields and reports that name it share their pseudonyms"),
        Parameter(
            name="per",
            attribute="per",
            read=quoted,
            summary="`'subject'`: each recipient has pseudonyms of its own",
        ),
    )
    accepts: ClassVar[frozenset[Type]] = frozenset(Type)
    output: ClassVar[str] = "text"
    rank: ClassVar[int] = 30
    deterministic: ClassVar[bool] = True
    reversible: ClassVar[bool] = False
    idempotent: ClassVar[bool] = False
    unchanged: ClassVar[str] = "never"
    tells: ClassVar[str] = (
        "Which cells are equal as they are written (`7` and `07` are two), hence how often each value "
        "occurs, and in a shared domain that across reports. Without the key nobody can compute a pseudonym "
        "or undo one. But whoever knows how often values occur, or can have a value of their choice put into "
        "the source, finds out whose it is: of a field with few values it hides little."
    )
    use: ClassVar[str] = (
        "To count, group and join by a person or a thing without knowing which one it is."
    )
    avoid: ClassVar[str] = (
        "For fields of few values or of known frequencies, such as a region or a year of birth; where "
        "nobody has to group by the field, `encrypt` and `redact` tell less."
    )
    shown: ClassVar[tuple[tuple[str, Type, str], ...]] = (
        ("pseudonym", Type.TEXT, "ada@example.com"),
        ("pseudonym(domain='people')", Type.TEXT, "ada@example.com"),
        ("pseudonym(per='subject')", Type.TEXT, "ada@example.com"),
        ("pseudonym", Type.INTEGER, "7"),
    )
    per_value: ClassVar[bool] = True

    domain: str | None = None
    per: str | None = None

    def __post_init__(self) -> None:
        domains.check(self.domain)
        if self.per not in (None, "subject"):
            raise BadArgument("per", "`per` can only be `'subject'`", "write that, or leave it out")

    @property
    def per_recipient(self) -> bool:
        """Whether each recipient has pseudonyms of its own."""
        return self.per is not None

    @property
    def fineness(self) -> tuple[object, ...]:
        """By name; one pseudonym is no finer than another."""
        return (self.domain or "", self.per or "")

    def __str__(self) -> str:
        given = [] if self.domain is None else [f"domain={Literal(self.domain, quoted=True)}"]
        given += [] if self.per is None else [f"per={Literal(self.per, quoted=True)}"]
        return f"pseudonym({', '.join(given)})" if given else "pseudonym"

    def gives(self, type_: Type) -> Type:  # noqa: ARG002 - of any type
        """Give text."""
        return Type.TEXT

    def bind(self, site: Site) -> Operation:
        """Give the pseudonyms under this site's key."""
        labels = domains.labels(self.domain, site)
        if self.per is not None:
            labels += ("subject", site.subject)
        digest = site.keyring.mac("pseudonym", *labels).digest

        def one(text: str) -> str:
            return "p" + digest(text.encode())[:_BYTES].hex()

        return lambda batch: per_distinct(of_type(batch.values(site.field), site.type), one)
