"""What cannot be so in subjects.yaml, beside what its types say: of each issuer, and of the tools.

A name must tell whose it is, so prefixes and names are one issuer's or tool's; an attribute has one type
and one source.
"""

from __future__ import annotations

import re

from proxy.documents import Document
from proxy.errors import Fault
from proxy.identity.entries import AttributeEntry, GroupsEntry, SubjectsFile
from proxy.identity.tools import held, is_name, is_tool
from proxy.subject import COLUMNS, Realm, Source

_PREFIX = re.compile(r"(?:[A-Za-z0-9._-]{1,64}/)*\Z")
_ATTRIBUTE = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")


def issuer_faults(document: Document[SubjectsFile], number: int) -> list[Fault]:
    """What is wrong with issuer `number`, by itself and beside those before it."""
    entries = document.value.issuers
    entry, earlier = entries[number], entries[:number]
    here = ("issuers", number)
    faults = []
    if any(each.issuer == entry.issuer for each in earlier):
        faults.append(
            document.fault(
                f"the issuer `{entry.issuer}` is named twice",
                *here,
                "issuer",
                hint="write what counts for it in one place",
            )
        )
    if not _PREFIX.match(entry.prefix):
        faults.append(
            document.fault(
                f"`{entry.prefix}` is not a prefix",
                *here,
                "prefix",
                hint="empty, or such as `partner/`",
            )
        )
    if any(each.prefix == entry.prefix for each in earlier):
        faults.append(
            document.fault(
                f"two issuers share the prefix `{entry.prefix}`"
                if entry.prefix
                else "two issuers have no prefix",
                *here,
                "prefix",
                hint="a name must tell whose it is: give each a prefix of its own",
            )
        )
    if entry.groups is not None:
        faults += _source_faults(document, entry.groups, *here, "groups")
    for name, attribute in entry.attributes.items():
        at = (*here, "attributes", name)
        faults += _source_faults(document, attribute, *at)
        if attribute.source is Source.CLAIM_AND_PEOPLE:
            faults.append(
                document.fault(
                    "an attribute comes from one place: only groups add up",
                    *at,
                    "source",
                    hint="write `claim-else-people` or `people-else-claim`",
                )
            )
        if attribute.source.reads_people and name in COLUMNS:
            faults.append(
                document.fault(
                    f"people.csv has a column `{name}` of its own",
                    *at,
                    key=True,
                    hint="name the attribute in another way",
                )
            )
        if not _ATTRIBUTE.match(name):
            faults.append(
                document.fault(
                    f"`{name}` is not an attribute's name",
                    *at,
                    key=True,
                    hint="such as `cost_centre`",
                )
            )
        for each in earlier:
            other = each.attributes.get(name)
            if other and (other.type, other.many) != (attribute.type, attribute.many):
                faults.append(
                    document.fault(
                        f"`{name}` has another type at another issuer",
                        *at,
                        "type",
                        hint="a condition reads it as one type: write the same `type` and `many`",
                    )
                )
                break
    return faults


def tool_faults(document: Document[SubjectsFile], realms: tuple[Realm, ...]) -> list[Fault]:
    """What is wrong with `tools`."""
    faults = []
    seen: set[str] = set()
    for number, entry in enumerate(document.value.tools):
        here = ("tools", number)
        names = [("tool", entry.tool), *(("passes_on", name) for name in entry.passes_on)]
        for key, name in names:
            if not is_tool(name) or not held(name, realms):
                hint = "a client's name as tokens have it, after its issuer's `prefix`"
                faults.append(document.fault(f"`{name}` is not a tool", *here, key, hint=hint))
        if any(each.tool == entry.tool for each in document.value.tools[:number]):
            hint = "write what counts for it in one place"
            faults.append(
                document.fault(f"the tool `{entry.tool}` is named twice", *here, "tool", hint=hint)
            )
        for place, name in enumerate(entry.certificates):
            at = (*here, "certificates", place)
            if not is_name(name):
                hint = "such as `URI:spiffe://example.com/bi` or, in small letters, `DNS:bi.example.com`"
                faults.append(
                    document.fault(f"`{name}` is not a certificate's name", *at, hint=hint)
                )
            elif name in seen:
                hint = "a name must tell whose it is: leave it to one of them"
                faults.append(
                    document.fault(
                        f"the certificate's name `{name}` is there twice", *at, hint=hint
                    )
                )
            seen.add(name)
    return faults


def _source_faults(
    document: Document[SubjectsFile], entry: GroupsEntry | AttributeEntry, *at: str | int
) -> list[Fault]:
    """A fault unless the claim is named exactly where it counts."""
    if entry.source.reads_claim and entry.claim is None:
        hint = "name the claim, or write `source: people`"
        return [document.fault("missing key `claim`", *at, hint=hint)]
    if not entry.source.reads_claim and entry.claim is not None:
        return [
            document.fault(
                f"the claim counts for nothing with `source: {entry.source}`",
                *at,
                "claim",
                hint="leave it out, or say which counts first: `claim-else-people`,"
                " `people-else-claim`",
            )
        ]
    return []
