"""A small catalogue and its requesters: what the policy's tests decide about."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from proxy.errors import Fault, Faulty
from proxy.plan import Context
from proxy.policy import rules, source
from proxy.policy.index import Policy
from proxy.report import Field, Report, Store
from proxy.subject import AttributeType, Subject
from proxy.values import Type, Value

STORE = Store(name="reports", url="http://127.0.0.1:1")
CLASSES = ("public", "internal", "confidential", "personal")
PURPOSES = ("audit", "reconcile")
ATTRIBUTES = {
    "stores": AttributeType(type=Type.INTEGER, many=True),
    "region": AttributeType(type=Type.TEXT),
}
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
EXPIRES = NOW.timestamp() + 3_600


def report(
    id_: str, *fields: tuple[str, Type, str], prefer: tuple[str, ...] = (), stable: bool = False
) -> Report:
    """A report of (name, type, class) fields."""
    return Report(
        id=id_,
        title=id_,
        store=STORE,
        fields={
            name: Field(name=name, type=type_, class_=class_) for name, type_, class_ in fields
        },
        variants=(),
        parameters={},
        prefer=prefer,
        stable=stable,
    )


DAILY = report(
    "sales/daily",
    ("date", Type.DATE, "public"),
    ("store_id", Type.INTEGER, "public"),
    ("store name", Type.TEXT, "internal"),
    ("net_sales", Type.DECIMAL, "confidential"),
    ("margin", Type.DECIMAL, "confidential"),
    ("email", Type.TEXT, "personal"),
)
WEEKLY = report(
    "sales/eu/weekly",
    ("week", Type.DATE, "public"),
    ("region", Type.TEXT, "public"),
    ("net_sales", Type.DECIMAL, "confidential"),
)
STAFF = report(
    "staff",
    ("name", Type.TEXT, "personal"),
    ("salary", Type.INTEGER, "confidential"),
    ("since", Type.DATE, "internal"),
)
SECRET = report("sales-secret", ("x", Type.TEXT, "public"))
REPORTS: Mapping[str, Report] = {r.id: r for r in (DAILY, WEEKLY, STAFF, SECRET)}


def load(text: str | bytes, *, reports: Mapping[str, Report] = REPORTS, **more: bytes) -> Policy:
    """The policy of one policy.csv, with the shipped model."""
    data = text.encode() if isinstance(text, str) else text
    return source.load(
        {"model.conf": rules.MODEL.encode(), "policy.csv": data}
        | {f"{name}.csv": content for name, content in more.items()},
        reports=reports,
        classes=CLASSES,
        attributes=ATTRIBUTES,
        purposes=PURPOSES,
        version="0" * 64,
    )


def faults(text: str | bytes, **more: bytes) -> tuple[Fault, ...]:
    """Everything wrong with a policy.csv; () where nothing is."""
    try:
        load(text, **more)
    except Faulty as error:
        return error.faults
    return ()


def subject(
    user: str | None = None,
    *groups: str,
    tool: str | None = None,
    attributes: Mapping[str, Value] | None = None,
) -> Subject:
    """A requester."""
    return Subject(
        user=user, groups=groups, tool=tool, attributes=attributes or {}, expires=EXPIRES
    )


def context(
    who: Subject,
    *,
    purpose: str = "",
    now: datetime = NOW,
    action: str = "read",
    ip: str = "10.0.0.1",
) -> Context:
    """The context of a request."""
    return Context(
        attributes=who.attributes,
        now=now,
        date=now.date(),
        ip=ip,
        purpose=purpose,
        tool=(who.tool or "").removeprefix("tool:"),
        action=action,
        method="GET",
    )
