"""The shape of reports.yaml, as types; the documentation of its keys is generated from them."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from proxy.report import By, Charset, Direction, FormatName, Formulas, Operator
from proxy.values import Type

Positive = Annotated[int, msgspec.Meta(ge=1)]
CLASSES: Final = ("public", "internal", "confidential", "personal")


class BasicEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A store's `basic`: a user and a password that the proxy presents to it (RFC 7617)."""

    user: Annotated[str, msgspec.Meta(examples=["counterfoil"])]
    """Its user there."""
    password: Annotated[str, msgspec.Meta(examples=["env:STORE_PASSWORD"])]
    """`env:NAME`, `file:PATH` or `command:NAME`."""


class TlsEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`tls`: how a store, or a token endpoint, is known, and the proxy by it.

    Files are named from the folder of policies, and followed when they change.
    """

    authority: str | None = None
    """PEM file with the certificates of the only authorities that count; left out, those of the system."""
    certificate: str | None = None
    """PEM file with the certificate that the proxy presents, and those between it and its authority."""
    key: str | None = None
    """PEM file with its private key, without a pass phrase."""


class OAuthEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A store's `oauth`: the proxy asks for tokens in its own name (RFC 6749 §4.4, client credentials).

    One is asked for before the one before ends, by one request for all; while that fails, the old one serves
    to its end, and then reports of the store are 502.
    """

    token_url: Annotated[str, msgspec.Meta(examples=["https://id.example.com/oauth2/token"])]
    """The token endpoint: `https://…`, or plain http on this machine, with `loopback`."""
    client: Annotated[str, msgspec.Meta(examples=["counterfoil"])]
    """The id by which the proxy is registered there."""
    secret: Annotated[str, msgspec.Meta(examples=["env:STORE_CLIENT_SECRET"])]
    """`env:NAME`, `file:PATH` or `command:NAME`: its secret, read anew for each token."""
    authentication: Literal["basic", "form"] = "basic"
    """Whether client and secret go into `Authorization` or into the form (`client_secret_post`)."""
    scope: str = ""
    """What the token is to be for, as the endpoint has it; names are parted by blanks."""
    audience: str = ""
    """The same, where the endpoint wants it so."""
    resource: str = ""
    """The same, by RFC 8707."""
    loopback: bool = False
    """Whether the endpoint may be on this machine."""
    tls: TlsEntry = TlsEntry()
    """How the endpoint is known, and the proxy by it."""


class StoreLimitsEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A store's `limits`: what is otherwise for it than `stores` of counterfoil.yaml says.

    What each means in full is said there.
    """

    connect_seconds: Positive | None = None
    """To connect."""
    first_byte_seconds: Positive | None = None
    """Until the head of an answer is there, and between two reads."""
    total_seconds: Positive | None = None
    """For a whole answer."""
    connections: Positive | None = None
    """Most requests at once, divided among `workers` as what is said there is."""
    retries: Annotated[int, msgspec.Meta(ge=0, le=5)] | None = None
    """How often a request is sent again of which nothing has come yet."""
    failures: Positive | None = None
    """After how many failures in a row it is left alone."""
    suspend_seconds: Positive | None = None
    """For how long at first."""


class StoreEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of `stores`."""

    url: Annotated[str, msgspec.Meta(examples=["https://reports.example.com"])]
    """`http(s)://host[:port][/base]`."""
    loopback: bool = False
    """Whether the store may be on this machine."""
    credential: str | None = None
    """`env:NAME`, `file:PATH` or `command:NAME` (see `commands`): the token that the proxy presents to the
    store (RFC 6750)."""
    basic: BasicEntry | None = None
    """Or a user and a password."""
    oauth: OAuthEntry | None = None
    """Or a token that the proxy asks for itself."""
    tls: TlsEntry = TlsEntry()
    """How the store is known, and the proxy by it (mTLS); beside any of these."""
    limits: StoreLimitsEntry = StoreLimitsEntry()
    """How long it is waited for, and how often it is asked."""
    audience: tuple[str, ...] = ()
    """The audiences (`aud`) of which a token must have one to open the store's reports; what is named here,
    or at a report, opens nothing else. Left out: any that is named nowhere in this file."""
    compression: bool = False
    """Whether the store is asked to compress its answers (zstd or gzip): where the network between is slow,
    not where it is fast. What it compresses unasked is taken all the same."""


class VariantEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of a report's `variants`."""

    path: Annotated[str, msgspec.Meta(examples=["/sales/daily.csv"])]
    """The path at the proxy; a whole segment may be a `{parameter}`."""
    format: FormatName
    """In what format the store gives it, and the requester gets it."""
    also: tuple[FormatName, ...] = ()
    """Other formats in which the requester may get it, made from the same document: at the path with the
    extension of the other format (`/sales/daily.parquet`) where the path ends with that of its own, else at
    the path itself, by `Accept`."""
    source: str | None = None
    """The path at the store, and a fixed query where it needs one; left out, it is the path."""
    rows_at: tuple[str, ...] = ()
    """JSON: the members that lead to the array of records; left out, it is the document."""
    members: dict[str, str | int | bool] = {}
    """JSON: constants that the answer has beside its rows, where `rows_at` leads to these. Nothing of what
    the store puts there is ever given."""
    delimiter: str = ","
    """CSV: what stands between the cells, in the store's document and in the answer. What is made of another
    format has commas."""
    charset: Charset = Charset.UTF_8
    """CSV: how the store writes characters. A document that is not in it is refused, and so is one whose
    `Content-Type` names another charset. With utf-16 a byte order mark tells the order of bytes. Answers are
    in UTF-8."""
    formulas: Formulas = Formulas.KEEP
    """CSV answers: whether a cell or column name that a spreadsheet takes for a formula stays as it is, or
    gets a `'` in front (`neutralise`): what begins with `=`, `+`, `-` or `@`, also full-width, with a tab or
    a line end. A number in a column of numbers stays."""
    sheet: str | None = None
    """XLSX: the sheet's name, in the store's workbook and in the answer. Left out, it is the first sheet that
    is not hidden; in the answer, `report`."""


class ParameterEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of a report's `parameters`."""

    by: By = By.FILTER
    """What is done by it. The store filters, orders or groups its rows; limit and offset cut a page out
    of the requester's own rows, which is done here."""
    type: Type | None = None
    """Filter: what its value must be (**required**)."""
    field: str | None = None
    """Filter: the field by which the store selects; left out, it selects by none."""
    fields: tuple[str, ...] = ()
    """Filter: several fields that it looks at. Order and group: the fields that its value may name
    (**required**), one or more, joined by commas."""
    operator: Operator = Operator.EQ
    """Filter: how the field compares with the value in the rows that the store gives. The value of `in` is a
    list, joined by commas; `starts` and `contains` are for text."""
    allowed: tuple[str, ...] = ()
    """Filter: the only values that are allowed."""
    direction: Direction | None = None
    """Order: how its value may say the direction: `-date` (minus), `date.desc` and `date.asc` (dot),
    `date desc` and `date asc` (blank); left out, it names fields alone."""
    spelling: dict[str, str] = {}
    """Order and group: by field, what the request and the store call it where that is not its name."""
    most: Positive | None = None
    """Limit and offset: the largest value that is allowed (**required**)."""
    required: bool = False
    """Whether a request without it is refused."""


class FieldEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of a report's `fields`."""

    type: Type
    """What its cells hold."""
    class_: Annotated[str, msgspec.Meta(examples=["internal"])] = msgspec.field(name="class")
    """One of `classes`: policy lines name all fields of a class as `@class`."""
    scale: Annotated[int, msgspec.Meta(ge=0, le=18)] | None = None
    """Decimals: how many digits they have after the point, where a format has to know it beforehand
    (parquet, arrow); left out, as many as the store declares, or 9. A value with more is refused."""


class ReportEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of `reports`."""

    title: Annotated[str, msgspec.Meta(examples=["Daily sales"])]
    """What people call it."""
    store: Annotated[str, msgspec.Meta(examples=["sales"])]
    """One of `stores`: where it comes from."""
    variants: tuple[VariantEntry, ...]
    """Under which paths and in which formats it is served."""
    fields: dict[str, FieldEntry]
    """In the order in which they are given."""
    parameters: dict[str, ParameterEntry] = {}
    """By name: what a path or a query may hold; everything else is refused."""
    audience: tuple[str, ...] = ()
    """The audiences of which a token must have one to open the report; left out, those of its store."""
    key: tuple[str, ...] = ()
    """The fields that identify a row. Encrypted cells are bound to them: without a key, to no row. The access
    log keeps them of each row that is given, so that it can be asked who was given it."""
    found_by: tuple[str, ...] = ()
    """Further fields, beside the key's, by whose values the access log is to tell who was given a row. Of a
    class that is not `public` or `internal` it keeps keyed digests."""
    ordered_by: tuple[str, ...] = ()
    """The fields on which the order depends in which the store gives the rows, ties included. For whoever
    does not see each of them clear in every row, rows are sorted anew."""
    prefer: tuple[str, ...] = ()
    """Of forms that have no order between them (`round`, `partial`, `tokenise`, `pseudonym`), the most
    preferred first."""
    shape: Literal["stable"] | None = None
    """`stable`: columns that are not granted are given as nulls."""


class CatalogueFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of `reports.yaml`."""

    stores: dict[str, StoreEntry]
    """By name: where reports come from."""
    reports: dict[str, ReportEntry]
    """By id, such as `sales/store-daily`: what can be asked for."""
    purposes: tuple[str, ...] = ()
    """What a requester may state in `Counterfoil-Purpose`."""
    classes: tuple[str, ...] = CLASSES
    """The classes that a field may have."""
