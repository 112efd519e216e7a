"""Folders of policies that somebody or something damaged, and what must be true of whatever still loads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from hypothesis import strategies as st

from proxy.policy.rules import MODEL
from proxy.snapshot import Snapshot
from tests.faults.examples import BASE

GRANTS = b"""\
# 0123456789abcdef0123456789abcdef  grant of role:analyst on sales/daily to user:lea until 2096-01-01T00:00:00Z
# by user:ada at 2026-11-24T13:00:00Z: covers for bob
p,  user:'lea', sales/daily, read, env.now < time('2096-01-01T00:00:00Z'), allow
p2, user:'lea', sales/daily, env.now < time('2096-01-01T00:00:00Z'), date|units, clear
"""
LOCKDOWN = b"""\
# fedcba9876543210fedcba9876543210  lockdown of sales/daily
# by user:ada at 2026-11-24T13:00:00Z: a leak
p,  anyone, sales/daily, read, true, deny
p,  anyone, sales/daily, reveal, true, deny
"""
"""Against what the folder's tests.yaml expects."""
RULES = ("policy.csv", "grants.csv", "lockdown.csv")
FOLDER: Mapping[str, bytes] = {
    **{path.name: path.read_bytes() for path in sorted(BASE.iterdir())},
    "model.conf": MODEL.encode(),
    "grants.csv": GRANTS,
    "lockdown.csv": LOCKDOWN,
}

LOOKALIKES = str.maketrans("aceiopxydsgj", "асеіорхуԁѕɡј")
"""Letters as another script has them."""
_PUT = [
    b"", b",", b"\n", b"\r", b"\r\n", b"\t", b" ", b"'", b'"', b"(", b")", b"[", b"]", b"|", b"*", b"#",
    b" # for now", b":", b"-", b"{", b"}", b"&a ", b"*a", b"!!str ", b"<<: ", b"---\n", b"%YAML 1.1\n",
    b"p", b"g", b"deny", b"allow", b"Deny", b"true", b"false", b"null", b"0", b"1e9", b"@", b"/", b"../",
    b"user:", b"role:", b"anyone", b"\x00", b"\x07", b"\x1b[2J", b"\x80", b"\xff", b"\xc0\xaf", b"\xed\xa0\x80",
    "\ufeff".encode(), "\u00a0".encode(), "\u200b".encode(), "\u202e".encode(), "\u2028".encode(),
    "\u0085".encode(), "\u0301".encode(), "é".encode(), "\U0001d41a".encode(), b"\\n", b"\\u202e",
    b"x" * (1 << 20), b"(" * 300, b"[" * 300, b"- " * 300, b"eval('1')", b"row.__class__", b"(a+)+$",
]  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, bytes]:
    """The folder with one to three kinds of damage; files may be gone."""
    files = dict(FOLDER)
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(sorted(files)))
        content = draw(damage_to(files[name], files))
        if content is None:
            del files[name]
        else:
            files[name] = content
        if not files:
            break
    return files


@st.composite
def damage_to(draw: st.DrawFn, content: bytes, files: Mapping[str, bytes]) -> bytes | None:
    """The content, damaged in one way; None: the file is gone."""
    at = draw(st.integers(0, len(content)))
    lines = content.splitlines(keepends=True) or [b""]
    line = draw(st.integers(0, len(lines) - 1))
    match draw(st.integers(0, 13)):
        case 0:
            return content[:at]
        case 1 | 2 | 3:
            return content[:at] + draw(st.sampled_from(_PUT)) + content[at:]
        case 4 | 5:
            gone = draw(st.integers(1, 8))
            return content[:at] + draw(st.sampled_from(_PUT)) + content[at + gone :]
        case 6:
            return b"".join([*lines[:line], *lines[line + 1 :]])
        case 7:
            return b"".join([*lines[: line + 1], *lines[line:]])
        case 8:
            return content[:at] + content[at : at + 1].swapcase() + content[at + 1 :]
        case 9:
            letters = content[at : at + 1].decode("utf-8", "replace").translate(LOOKALIKES)
            return content[:at] + letters.encode() + content[at + 1 :]
        case 10:
            other = lines[draw(st.integers(0, len(lines) - 1))]
            return b"".join([*lines[:line], other, *lines[line + 1 :]])
        case 11:
            put = draw(st.sampled_from([*_PUT, b"# ", b"  # ", b"\t#", "＃ ".encode()]))
            return b"".join([*lines[:line], put, *lines[line:]])
        case 12:
            return draw(
                st.sampled_from(
                    [
                        b"\xef\xbb\xbf" + content,
                        content.replace(b"\n", b"\r\n"),
                        content.replace(b"\n", b"\r"),
                        content.replace(b" ", b"\t"),
                        content.replace(b"'", b'"'),
                        content.replace(b"\n", b" # x\n"),
                        content.upper(),
                        content.decode("utf-8", "replace").encode("utf-16"),
                        content[::-1],
                        b"",
                        files[draw(st.sampled_from(sorted(files)))],
                        None,
                    ]
                )
            )
        case _:
            return draw(st.binary(max_size=200))


# ── what still loads is all of what was written ──


def accounted_for(files: Mapping[str, bytes], snapshot: Snapshot) -> None:
    """Each line and each key is in the snapshot, as what it reads as; this code shares no parser."""
    for name in RULES:
        rules(name, files.get(name, b""), snapshot)
    people(files.get("people.csv", b""), snapshot)
    catalogue(_plain(files["reports.yaml"]), snapshot)
    subjects(_plain(files["subjects.yaml"]), snapshot)


def written(data: bytes) -> list[tuple[int, str]]:
    """The lines of a CSV file that are neither blank nor a comment, with their numbers."""
    lines = data.decode("utf-8").split("\n")
    assert lines.pop() == ""
    return [
        (number, line.strip(" \t\r"))
        for number, line in enumerate(lines, 1)
        if line.strip(" \t\r") and not line.startswith("#")
    ]


def rules(file: str, data: bytes, snapshot: Snapshot) -> None:
    policy, lines = snapshot.policy, written(data)
    access = {rule.line.line: rule for rule in policy.access if rule.line.file == file}
    rows = {rule.line.line: rule for rule in policy.cells if rule.line.file == file}
    kinds = {number: line.partition(",")[0].rstrip(" \t") for number, line in lines}
    assert set(kinds.values()) <= {"p", "p2", "g", "g2"}
    assert access.keys() == {number for number, kind in kinds.items() if kind == "p"}
    assert rows.keys() == {number for number, kind in kinds.items() if kind == "p2"}
    for number, line in lines:
        kind, who, what, *more = [text.strip(" \t") for text in line.split(",")]
        last = line.rpartition(",")[2].strip(" \t")
        plain = "'" not in who + what
        match kind:
            case "p":
                rule = access[number]
                assert rule.effect == last  # in these very letters, or it is a fault
                assert not plain or (rule.principal, rule.report, rule.action) == (
                    who,
                    what,
                    more[0],
                )
            case "p2":
                row = rows[number]
                assert (row.treatment is None) == (last == "deny")
                assert not plain or (row.principal, row.report) == (who, what)
            case "g" if plain:
                assert what in policy.roles(who)
            case "g2" if plain:
                assert what in policy._sets.closure([who])


def people(data: bytes, snapshot: Snapshot) -> None:
    lines = written(data)[1:] if data else []
    subjects = [line.partition(",")[0].strip(" \t") for _, line in lines]
    known = snapshot.identities.people
    assert len(known) == len(subjects)
    assert {subject for subject in subjects if "'" not in subject} <= known.keys()


def catalogue(said: Any, snapshot: Snapshot) -> None:
    found = snapshot.catalogue
    assert found.reports.keys() == (said["reports"] or {}).keys()
    assert set(found.purposes) == set(said.get("purposes") or ())
    for name, report in found.reports.items():
        entry = said["reports"][name]
        assert {(f.name, f.type, f.class_) for f in report.fields.values()} == {
            (field, each["type"], each["class"]) for field, each in entry["fields"].items()
        }
        assert {(v.path, v.stored.format) for v in report.variants} == {
            (each["path"], each["format"]) for each in entry["variants"]
        }
        assert report.parameters.keys() == (entry.get("parameters") or {}).keys()
        assert list(report.key) == (entry.get("key") or [])


def subjects(said: Any, snapshot: Snapshot) -> None:
    realms = snapshot.identities.realms
    assert [realm.prefix for realm in realms] == [each["prefix"] for each in said["issuers"]]
    assert [set(realm.attributes) for realm in realms] == [
        set(each.get("attributes") or ()) for each in said["issuers"]
    ]


def _plain(data: bytes) -> Any:
    """A YAML file as another parser reads it: texts, lists and mappings."""
    text = data.decode("utf-8")
    try:
        return yaml.load(text, Loader=_Once)
    except yaml.scanner.ScannerError:  # it takes no tab between words, as YAML does
        return yaml.load(text.replace("\t", " "), Loader=_Once)


class _Once(yaml.BaseLoader):
    """Knows no key twice: of two values of one key, the one that is read would hide the other."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(keys) == len(set(keys))
        return super().construct_mapping(node, deep)
