"""Events as records of OCSF 1.8: each is one of the schema, whole, and on one line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qs

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.access import AccessEvent, Step, encode
from proxy.audit import Leaf, ocsf, ocsf_outcomes
from proxy.reasons import Reason
from tests.audit.records import HOSTILE, event, records
from tests.harness.ocsf import Schema
from tests.peers.valkey import PEERS

FILE = Path(__file__).parents[1] / "vectors/ocsf-1.8.0.txt"
TABLE = Schema.table(FILE)
PACKED = "lib/python*/site-packages/ocsf_json_schema/ocsf/1.8.0.json"
"""What schema.ocsf.io/1.8.0/export/v2/schema gives, in a package of `make peers`."""
PAGE = (Path(__file__).parents[2] / "docs/auditing.md").read_text("utf-8")


@pytest.fixture(scope="module", params=["our table", "the published schema"])
def schema(request: pytest.FixtureRequest) -> Schema:
    """What records are held against."""
    if request.param == "our table":
        return TABLE
    file = next(PEERS.glob(PACKED), None)
    if file is None:
        pytest.skip("the published schema of OCSF is not here: make peers")
    return Schema.exported(file)


def of(one: AccessEvent, *, index: int = 7, name: str = "") -> dict[str, Any]:
    """The record of an event, as a receiver reads it."""
    leaf = Leaf(number=index + 1, log="counterfoil/1", index=index, entry=encode(one))
    line = ocsf.line(ocsf.record(leaf, one, name=name))
    assert re.fullmatch(rb"[\x20-\x7e]+", line)
    return json.loads(line)


@st.composite
def any_events(draw: st.DrawFn) -> AccessEvent:
    """Any record of any step, with all that such a record may hold."""
    words = st.sampled_from(["", "a", HOSTILE])
    return msgspec.structs.replace(
        draw(records()),
        step=draw(st.sampled_from(get_args(Step))),
        at=draw(st.datetimes().map(lambda at: f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond:06d}Z".rjust(27, "0"))),
        address=draw(st.sampled_from(["", "10.0.0.1", "::1", "fe80::1%eth0", "unix", HOSTILE])),
        method=draw(st.sampled_from(["", "GET", "HEAD", "POST", "PURGE", HOSTILE])),
        action=draw(st.sampled_from(["", "read", "reveal", "grant", "lockdown", "act", "sing"])),
        format=draw(words), purpose=draw(words), policy=draw(words), previous=draw(words),
        commit=draw(words), digest=draw(words), log=draw(words),
        keys=tuple(draw(st.lists(words, max_size=2))),
        evidence=tuple(draw(st.lists(words, max_size=2))),
        unrevealed=draw(st.dictionaries(words, st.integers(1, 9), max_size=1)),
        reason=draw(st.sampled_from(["", *(reason.slug for reason in Reason)])),
    )  # fmt: skip


@given(
    one=any_events(),
    index=st.integers(0, 2**40 - 1),
    name=st.sampled_from(["", "user:alice", HOSTILE]),
)
def test_each_event_is_a_record_of_the_schema(
    schema: Schema, one: AccessEvent, index: int, name: str
) -> None:
    """Required attributes, types, enumerations and their words: there is no fault to find."""
    assert schema.faults(of(one, index=index, name=name)) == []


def test_our_table_is_a_part_of_the_schema(schema: Schema) -> None:
    """What its lines say of attributes is what the schema says, and nothing that is required is left out."""
    used = {owner: set(names) for owner, names in TABLE.attributes.items()}
    written = [each for each in FILE.read_text("utf-8").splitlines() if not each.startswith("#")]
    assert [*schema.lines(used)] == written


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda made: made.pop("time"), ".time is missing"),
        (lambda made: made.pop("actor"), ".actor is missing"),
        (lambda made: made["actor"].clear(), ".actor has none of"),
        (lambda made: made.pop("table"), " has none of"),
        (lambda made: made.update(table=[made["table"]]), ".table is a list"),
        (lambda made: made["metadata"].pop("version"), ".metadata.version is missing"),
        (lambda made: made.update(time="1"), ".time is no timestamp_t"),
        (lambda made: made.update(action_id=5), ".action_id has a value"),
        (lambda made: made.update(action="Denied"), ".action is not the word"),
        (lambda made: made["metadata"].pop("profiles"), ".action_id is not of the schema"),
        (lambda made: made.update(rows=1), ".rows is not of the schema"),
        (lambda made: made.update(class_uid=1), "class_uid is of no class"),
    ],
)
def test_the_table_finds_faults(spoil: Any, fault: str) -> None:
    """A record that lacks something, or has something else, is not one of the schema."""
    made = of(event(report="sales/daily", decision="permit", action="read"))
    assert TABLE.faults(made) == []
    spoil(made)
    assert any(fault in each for each in TABLE.faults(made))


@given(any_events())
def test_all_of_an_event_is_in_its_record(one: AccessEvent) -> None:
    """Each value of the event is found whole where the documentation says."""
    made = of(one)
    rest = made.get("unmapped", {})
    metadata, user = made["metadata"], made.get("actor", {}).get("user", {})
    found = {name: rest[name] for name in AccessEvent.__struct_fields__ if name in rest}
    found |= {
        "v": int(metadata["log_version"]),
        "access": metadata["correlation_uid"],
        "part": int(metadata["uid"].removeprefix(f"{one.access}-")),
        "step": metadata["event_code"],
        "at": metadata["original_time"],
        "decision": made.get("authorizations", [{"decision": ""}])[0]["decision"],
        "reason": made.get("status_code", ""),
        "cause": made.get("status_detail", ""),
        "policy": made.get("policy", {}).get("uid", ""),
    }  # fmt: skip
    if user:
        found["subject"] = user["uid"]
        found["groups"] = [each["name"] for each in user.get("groups", [])]
    if one.tool and "actor" in made:
        found["tool"] = made["actor"]["app_name"]
    if one.decision:
        lines = [each.get("policy") for each in made["authorizations"]]
        found["lines"] = [line["name"] for line in lines if line]
    if made["class_uid"] != 6002:
        source = made["src_endpoint"]
        found["address"] = source.get("ip", source.get("name", ""))
        found["path"] = made.get("http_request", {}).get("url", {}).get("path", "")
        found["status"] = made.get("http_response", {}).get("code", 0)
        found.setdefault("method", made.get("http_request", {}).get("http_method", ""))
        asked = parse_qs(made.get("http_request", {}).get("args", ""), keep_blank_values=True)
        given = one.parameters if one.method and one.report else {}
        assert asked == {name: [value] for name, value in given.items()}
    if made["class_uid"] == 6005:
        found["report"] = made.get("table", {}).get("uid", "")
    if one.step == "burst" and made.get("count"):
        found["count"] = made["count"]
    if made["class_uid"] == 3004:
        found.setdefault("previous", made["entity"].get("uid", ""))
    said = json.loads(encode(one))
    assert {name: value for name, value in said.items() if found.get(name) != value} == {}


def test_the_documentation_says_where() -> None:
    """docs/auditing.md has the table of fields and their places, each field once."""
    assert [*ocsf.PLACES] == [*AccessEvent.__struct_fields__]
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", PAGE, re.MULTILINE)
    assert {name: place for name, place in rows if name in ocsf.PLACES} == ocsf.PLACES


@pytest.mark.parametrize("reason", Reason)
def test_each_reason_has_its_disposition(reason: Reason) -> None:
    """No refusal is `Blocked` for want of a row, and none is anything but denied and failed."""
    made = of(event("refusal", decision="deny", reason=reason.slug))
    assert reason in ocsf_outcomes.REASONS
    assert (made["action_id"], made["status_id"]) == (2, 2)


def test_each_step_is_an_access_or_has_its_activity() -> None:
    """No step is told by an action that its records do not have."""
    accesses = {"complete", "intent", "progress", "outcome", "refusal", "unresolved"}
    assert {*get_args(Step)} == accesses | ocsf_outcomes.STEPS.keys()
    assert accesses.isdisjoint(ocsf_outcomes.STEPS)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        ({"fields": {"units": {"clear": 3}}}, (1, 1, 1)),
        ({"fields": {"units": {"clear": 3}, "net": {"round(100)": 3}}}, (4, 99, 1)),
        ({"fields": {"net": {"clear": 1, "redact": 2}}, "ended": "whole"}, (4, 99, 1)),
        ({"fields": {"+900": {"": 70}}}, (4, 99, 1)),
        ({"ended": "client-gone"}, (1, 1, 2)),
        ({"ended": "policy-changed"}, (1, 24, 2)),
        ({"fields": {"net": {"redact": 2}}, "ended": "store-failed"}, (4, 27, 2)),
        ({"step": "unresolved", "fields": {"net": {"redact": 2}}}, (4, 99, 0)),
        ({"step": "refusal", "decision": "deny", "reason": "not-found"}, (2, 26, 2)),
        ({"step": "burst", "decision": "deny", "count": 9}, (2, 2, 2)),
    ],
)
def test_what_was_done_is_allowed_modified_or_denied(
    one: dict[str, Any], expected: tuple[int, int, int]
) -> None:
    """Action, disposition and status; what went out before an answer broke off is never told as denied."""
    made = of(event(**{"report": "sales/daily", "action": "read", "decision": "permit", **one}))
    assert (made["action_id"], made["disposition_id"], made["status_id"]) == expected


@pytest.mark.parametrize(
    ("step", "action", "class_uid", "activity"),
    [
        ("complete", "read", 6005, (1, "Read")),
        ("intent", "reveal", 6005, (10, "Decrypt")),
        ("refusal", "", 6005, (0, "Unknown")),
        ("refusal", "grant", 3004, (3, "Update")),
        ("complete", "sing", 6005, (99, "sing")),
        ("change", "lockdown", 3004, (3, "Update")),
        ("policy-loaded", "", 3004, (3, "Update")),
        ("keys-loaded", "", 3004, (3, "Update")),
        ("opened", "", 6002, (3, "Start")),
        ("alive", "", 6002, (99, "Alive")),
        ("drift", "", 6005, (99, "Drift")),
        ("prune", "", 6002, (99, "Prune")),
        ("hold", "", 6002, (99, "Hold")),
        ("operated", "log query", 6002, (99, "Operated")),
    ],
)
def test_what_an_event_is_about(
    step: str, action: str, class_uid: int, activity: tuple[int, str]
) -> None:
    """Accesses are datastore activities, changes of the policy and the log's own life are not."""
    made = of(event(step, action=action))
    assert (made["class_uid"], made["activity_id"], made["activity_name"]) == (class_uid, *activity)
    assert made["type_uid"] == class_uid * 100 + activity[0]


def test_records_of_one_access_are_told_apart_and_belong_together() -> None:
    """`metadata.uid` is of one record alone and always the same, `correlation_uid` of the access."""
    parts = [
        event(step, "0a", part=part) for part, step in enumerate(("intent", "progress", "outcome"))
    ]
    made = [of(one)["metadata"] for one in parts]
    assert [each["uid"] for each in made] == ["0a-0", "0a-1", "0a-2"]
    assert {each["correlation_uid"] for each in made} == {"0a"}
    assert made == [of(one)["metadata"] for one in parts]


def test_the_time_is_in_whole_milliseconds() -> None:
    """Milliseconds since the epoch, without rounding up; the microseconds are beside them."""
    made = of(AccessEvent(access="0a", step="complete", at="2026-11-23T22:58:40.123999Z"))
    assert made["time"] == 1795474720123
    assert made["metadata"]["original_time"] == "2026-11-23T22:58:40.123999Z"
