"""An event as a record of OCSF 1.8, which a SIEM takes without a parser of its own. Pure.

Read in the schema that schema.ocsf.io exports for version 1.8.0: the classes 6005 Datastore Activity, 3004
Entity Management and 6002 Application Lifecycle, each with the profile `security_control`. One event is one
record; `metadata.uid` is the same each time that it is made, so a receiver can drop what it has got already.
`PLACES` says where each field of an event is found; what has no place of its own is in `unmapped`, whole.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from proxy import __version__
from proxy.access import AccessEvent
from proxy.audit.accesses import Leaf
from proxy.audit.ocsf_outcomes import (
    DATASTORE,
    ENTITY,
    KEYRING,
    LIFECYCLE,
    SEVERITIES,
    STATUSES,
    Activity,
    activity,
    grades,
    outcome,
)

VERSION: Final = "1.8.0"
PROFILE: Final = "security_control"

_CATEGORIES: Final = {6: "Application Activity", 3: "Identity & Access Management"}

Record = dict[str, Any]


_METHODS: Final = frozenset(
    {"OPTIONS", "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "CONNECT", "PATCH"}
)
_MOST_INTEGER: Final = 2**31 - 1
"""`integer_t` has 32 bits where receivers keep it in typed columns; `unmapped` has what is larger."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_PRODUCT: Final = {"name": "Counterfoil", "vendor_name": "Counterfoil", "version": __version__}

PLACES: Final = {
    "v": "`metadata.log_version`",
    "access": "`metadata.correlation_uid`; with `part` `metadata.uid`",
    "step": "`metadata.event_code`",
    "part": "`metadata.uid`, after the access's id",
    "at": "`time` (milliseconds since the epoch); exact in `metadata.original_time`",
    "subject": "`actor.user.uid`; its name in `actor.user.name`, with `--names` alone",
    "groups": "`actor.user.groups`",
    "tool": "`actor.app_name`",
    "certificate": "`unmapped.certificate`",
    "address": "`src_endpoint.ip`",
    "method": "`http_request.http_method`; one that the schema has not, `unmapped.method`",
    "path": "`http_request.url.path`",
    "report": "`table.uid`; of an event about the policy `unmapped.report`",
    "format": "`unmapped.format`",
    "action": "`activity_id`; its word in `unmapped.action`",
    "purpose": "`unmapped.purpose`",
    "decision": "`action_id`, `disposition_id`, `authorizations.decision`",
    "reason": "`status_code`, `disposition_id`",
    "cause": "`status_detail`",
    "status": "`http_response.code`",
    "span": "`unmapped.span`",
    "policy": "`policy.uid`; of a new policy `entity_result.uid`",
    "previous": "`entity.uid`",
    "commit": "`unmapped.commit`",
    "lines": "`authorizations.policy.name`; of a refused policy `unmapped.lines`",
    "parameters": "`unmapped.parameters`; of an access to a report `http_request.args` too",
    "fields": "`unmapped.fields`: field, form, cells",
    "unrevealed": "`unmapped.unrevealed`",
    "keys": "`unmapped.keys`",
    "evidence": "`unmapped.evidence`: which rows, or the digests of the attachments that say so",
    "rows": "`unmapped.rows`",
    "bytes": "`http_response.body_length`, and `unmapped.bytes`",
    "digest": "`unmapped.digest`",
    "ended": "`unmapped.ended`, and `disposition_id`",
    "micros": "`duration` (milliseconds); exact in `unmapped.micros`",
    "count": "`count` of a burst; else `unmapped.count`",
    "log": "`unmapped.log`",
}
"""Field of an event -> where it is found, for the documentation."""
_UNMAPPED: Final = (
    "format", "action", "purpose", "span", "commit", "parameters", "fields", "unrevealed", "keys", "evidence",
    "rows", "bytes", "digest", "ended", "micros", "log", "certificate",
)  # fmt: skip
_ASKED: Final = ("subject", "groups", "tool", "address", "method", "path", "status")
"""What class 6002 has no place for; no event of its steps has any of it."""


def record(leaf: Leaf, event: AccessEvent, *, name: str = "") -> Record:
    """The record of the event that `leaf` holds; `name`: the subject's, where that is wanted."""
    about = activity(event)
    status, severity = grades(event)
    category = about.class_uid // 1000
    made: Record = {
        "activity_id": about.id,
        "activity_name": about.name,
        "category_uid": category,
        "category_name": _CATEGORIES[category],
        "class_uid": about.class_uid,
        "class_name": about.class_name,
        "type_uid": about.class_uid * 100 + about.id,
        "type_name": f"{about.class_name}: {'Other' if about.id == 99 else about.name}",
        "time": _milliseconds(event.at),
        "severity_id": severity,
        "severity": SEVERITIES[severity],
        "status_id": status,
        "status": STATUSES[status],
        **outcome(event)._asdict(),
        "is_alert": severity >= SEVERITIES.index("Medium"),
        "metadata": _metadata(leaf, event),
    }
    own = {DATASTORE: _datastore, ENTITY: _policy, LIFECYCLE: _lifecycle}[about.class_uid]
    made |= own(event)
    if about.class_uid != LIFECYCLE:
        made |= _asked(event, name)
    if event.reason:
        made["status_code"] = event.reason
    if event.cause:
        made["status_detail"] = event.cause
    if event.micros:
        made["duration"] = event.micros // 1000
    if event.policy:
        made["policy"] = {"name": "policies", "uid": event.policy}
    if event.decision:
        lines = event.lines or ("",)
        made["authorizations"] = [_authorization(event.decision, line) for line in lines]
    made["raw_data_hash"] = {
        "algorithm_id": 3, "algorithm": "SHA-256", "value": hashlib.sha256(leaf.entry).hexdigest(),
    }  # fmt: skip
    made["raw_data_size"] = len(leaf.entry)
    if unmapped := {each: value for each in _left(event, about) if (value := getattr(event, each))}:
        made["unmapped"] = unmapped
    return made


def _left(event: AccessEvent, about: Activity) -> Iterator[str]:
    """The fields that have no place of their own in the record of `event`."""
    yield from _UNMAPPED
    if about.class_uid == LIFECYCLE:
        yield from _ASKED
    elif event.method not in _METHODS:
        yield "method"
    if not event.subject:
        yield "groups"
    if event.step != "burst" or about.class_uid != DATASTORE:
        yield "count"
    if not event.decision:
        yield "lines"
    if about.class_uid != DATASTORE:
        yield "report"
    if about.class_uid != ENTITY or event.step in KEYRING:
        yield "previous"


_ENCODER: Final = msgspec.json.Encoder()
_BEYOND: Final = re.compile("[^\x00-\x7e]")


def line(made: Record) -> bytes:
    """A record as one line of printable ASCII, without its end: whatever it holds, it stays one record."""
    data = _ENCODER.encode(made)
    if data.isascii() and b"\x7f" not in data:
        return data
    return _BEYOND.sub(_escaped, data.decode()).encode()


def _escaped(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _milliseconds(at: str) -> int:
    return (datetime.fromisoformat(at) - _EPOCH) // _MILLISECOND


def _metadata(leaf: Leaf, event: AccessEvent) -> Record:
    said: Record = {
        "version": VERSION,
        "profiles": [PROFILE],
        "product": _PRODUCT,
        "uid": f"{event.access}-{event.part}",
        "correlation_uid": event.access,
        "log_name": leaf.log,
        "log_provider": "Counterfoil",
        "log_version": str(event.v),
        "event_code": event.step,
        "original_time": event.at,
    }
    if leaf.index <= _MOST_INTEGER:
        said["sequence"] = leaf.index
    return said


def _actor(event: AccessEvent, name: str) -> Record:
    actor: Record = {}
    if event.subject:
        user: Record = {"uid": event.subject}
        if name:
            user["name"] = name
        if event.groups:
            user["groups"] = [{"name": group} for group in event.groups]
        actor["user"] = user
    if event.tool:
        actor["app_name"] = event.tool
    if not actor:  # the schema requires somebody
        actor["app_name"] = "unauthenticated" if event.address else "counterfoil"
    return actor


def _source(address: str) -> Record:
    if not address:
        return {"svc_name": "counterfoil"}
    return {"ip" if _is_ip(address) else "name": address}


@lru_cache(maxsize=4096)
def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return len(address) <= 40


def _datastore(event: AccessEvent) -> Record:
    """What is of class 6005 alone: the report, or all of them where none is known."""
    made: Record = {}
    if event.report:
        made |= {
            "type_id": 3,
            "type": "Table",
            "table": {"uid": event.report, "name": event.report},
        }
    else:
        whole = {"name": "counterfoil", "type_id": 99, "type": "Reports"}
        made |= {"type_id": 1, "type": "Database", "database": whole}
    if event.count and event.step == "burst":
        made["count"] = event.count
    return made


def _asked(event: AccessEvent, name: str) -> Record:
    """By whom, from where and how it was asked for, and how it was answered."""
    made: Record = {"actor": _actor(event, name), "src_endpoint": _source(event.address)}
    request: Record = {}
    if event.method in _METHODS:
        request["http_method"] = event.method
    if event.path:
        request["url"] = {"path": event.path}
    if event.parameters and event.method and event.report:
        request["args"] = urlencode(event.parameters)
    if request:
        made["http_request"] = request
    if event.status:
        made["http_response"] = {"code": event.status}
        if event.bytes <= _MOST_INTEGER:
            made["http_response"]["body_length"] = event.bytes
    return made


def _policy(event: AccessEvent) -> Record:
    """What is of class 3004 alone: the policy before and the one after, or the keyring."""
    if event.step in KEYRING:
        return {"entity": {"type_id": 99, "type": "Keyring", "name": "keyring"}}
    entity = {"type_id": 5, "type": "Policy", "name": "policies"}
    before = event.previous or event.policy
    made: Record = {"entity": {**entity, "uid": before} if before else entity}
    if event.step == "policy-loaded":
        made["entity_result"] = {**entity, "uid": event.policy}
    return made


def _lifecycle(event: AccessEvent) -> Record:  # noqa: ARG001 - called as what makes the other classes is
    return {"app": _PRODUCT}


def _authorization(decision: str, line: str) -> Record:
    return {"decision": decision} | ({"policy": {"name": line}} if line else {})
