#!/usr/bin/env python3
"""Checks the evidence in this folder with nothing but Python (3.9 or later) and its standard library.

    python3 check.py                          everything, by the registry's key in keys/registry.vkey
    python3 check.py --vkey KEY               … by the key that you kept, and not by this folder's word
    python3 check.py --rows ACCESS            the rows that an access gave, as CSV, as its evidence has them

Each record must be in its log (C2SP tlog-proof: RFC 6962 hashes, an Ed25519 signature), each log must be
named by the registry, and each attachment must have the digest that its record names. Exits with 1 at the
first thing that does not fit.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import itertools
import json
import os
import sys
import zlib
from pathlib import Path
from typing import Any, Iterator, NoReturn, Optional, Sequence, Tuple

# ── Ed25519, as RFC 8032 §5.1 has it ──

Point = Tuple[int, int, int, int]
Key = Tuple[str, bytes, bytes]
"""A log's name, the number by which signatures name its key, and the key."""

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def add(one: Point, other: Point) -> Point:
    """The sum of two points (§5.1.4)."""
    a = (one[1] - one[0]) * (other[1] - other[0]) % P
    b = (one[1] + one[0]) * (other[1] + other[0]) % P
    c = 2 * one[3] * other[3] * D % P
    d = 2 * one[2] * other[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(number: int, point: Point) -> Point:
    """So many times the point."""
    product = (0, 1, 1, 0)
    while number:
        if number & 1:
            product = add(product, point)
        point = add(point, point)
        number >>= 1
    return product


def x_of(y: int, sign: int) -> Optional[int]:
    """The x of a point (§5.1.3)."""
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    if not square:
        return None if sign else 0
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if (x * x - square) % P:
        return None
    return P - x if x & 1 != sign else x


def point_of(data: bytes) -> Optional[Point]:
    """The point that 32 bytes write."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    x = x_of(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE_X = x_of(BASE_Y, 0) or 0
BASE: Point = (BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P)


def is_signature(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the holder of the public key has signed the message (§5.1.7)."""
    if len(public) != 32 or len(signature) != 64:
        return False
    key, nonce = point_of(public), point_of(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if key is None or nonce is None or s >= ORDER:
        return False
    digest = hashlib.sha512(signature[:32] + public + message).digest()
    left = times(s, BASE)
    right = add(nonce, times(int.from_bytes(digest, "little") % ORDER, key))
    return (
        not (left[0] * right[2] - right[0] * left[2]) % P
        and not (left[1] * right[2] - right[1] * left[2]) % P
    )


# ── signed notes and the tree (C2SP signed-note, tlog-checkpoint; RFC 6962 §2.1) ──


def fail(text: str) -> NoReturn:
    """Say what does not fit, and end."""
    sys.exit("NOT PROVED: " + text)


def key_of(text: str) -> Key:
    """The key that `name+number+base64` writes."""
    name, digits, data = text.strip().split("+", 2)
    raw, number = base64.b64decode(data), bytes.fromhex(digits)
    if raw[:1] != b"\1" or hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4] != number:
        fail(name + ": its key is malformed")
    return name, number, raw[1:]


SEEN: dict[tuple[bytes, Key], tuple[int, bytes]] = {}


def checkpoint_of(note: bytes, key: Key, what: str) -> tuple[int, bytes]:
    """The size and the root that the key's owner has signed."""
    if (note, key) not in SEEN:
        SEEN[note, key] = read_checkpoint(note, key, what)
    return SEEN[note, key]


def read_checkpoint(note: bytes, key: Key, what: str) -> tuple[int, bytes]:
    """The same, looked at anew."""
    name, number, public = key
    text, found, signatures = note.partition(b"\n\n")
    text += b"\n"
    if not found:
        fail(what + ": no signature")
    for line in signatures.decode().split("\n"):
        if line.startswith("\u2014 " + name + " "):
            data = base64.b64decode(line.split(" ")[2])
            if data[:4] == number and is_signature(public, data[4:], text):
                origin, size, root = text.decode().split("\n")[:3]
                if origin != name:
                    fail(what + ": it is about another log")
                return int(size), base64.b64decode(root)
    fail(what + ": the signature is not that of " + name)


def leaf_hash(entry: bytes) -> bytes:
    """Of an entry."""
    return hashlib.sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Of what is below."""
    return hashlib.sha256(b"\1" + left + right).digest()


def root_of(entries: Sequence[bytes]) -> bytes:
    """The root of a tree over all its entries."""
    if len(entries) < 2:
        return leaf_hash(entries[0]) if entries else hashlib.sha256().digest()
    middle = 1 << (len(entries) - 1).bit_length() - 1
    return node_hash(root_of(entries[:middle]), root_of(entries[middle:]))


def is_included(entry: bytes, index: int, size: int, hashes: Sequence[bytes], root: bytes) -> bool:
    """Whether the hashes lead from the entry to the root (RFC 9162 §2.1.3.2)."""
    if index >= size:
        return False
    here, last, found = index, size - 1, leaf_hash(entry)
    for each in hashes:
        if not last:
            return False
        if here & 1 or here == last:
            found = node_hash(each, found)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            found = node_hash(found, each)
        here, last = here >> 1, last >> 1
    return not last and found == root


# ── evidence of rows ──


def behind_lengths(data: bytes) -> Iterator[bytes]:
    """What stands behind each length."""
    at = 0
    while at < len(data):
        start = at + 4
        at = start + int.from_bytes(data[at:start], "big")
        if at > len(data):
            fail("evidence is cut off")
        yield data[start:at]


def numbers_of(document: bytes, at: int, width: int, rows: int, count: int) -> list[int]:
    """Which of so many each row has."""
    if not width:
        return [0] * rows if count == 1 else list(range(rows))
    parts = (document[at + width * n : at + width * (n + 1)] for n in range(rows))
    steps = (int.from_bytes(part, "little") for part in parts)
    return list(itertools.accumulate(steps, lambda a, b: (a + b) % (1 << 8 * width)))


def rows_of(evidence: bytes) -> Iterator[tuple[dict[str, Optional[str]], dict[str, str]]]:
    """For each row: field -> what is kept of its value, and field -> the form in which it was given."""
    for piece in behind_lengths(evidence):
        document = zlib.decompress(piece[1:]) if piece[:1] == b"\1" else piece[1:]
        at = 4 + int.from_bytes(document[:4], "big")
        head = json.loads(document[4:at])
        rows, columns = head["rows"], []
        for column in head["columns"]:
            values = column["values"]
            numbers = numbers_of(document, at, column["width"], rows, len(values))
            columns.append((column["field"], values, numbers))
            at += column["width"] * rows
        shapes = [
            {field: form for form, fields in shape.items() for field in fields}
            for shape in head["forms"]
        ]
        forms = numbers_of(document, at, head["width"], rows, len(shapes))
        for row in range(rows):
            kept = {field: values[numbers[row]] for field, values, numbers in columns}
            yield kept, shapes[forms[row]]


def evidence_of(record: dict[str, Any]) -> Iterator[bytes]:
    """The evidence that a record holds or names."""
    for statement in record.get("evidence", []):
        if not statement.startswith("sha256:"):
            yield base64.b64decode(statement)
            continue
        digest = statement[len("sha256:") :]
        path = Path("attachments", digest)
        if not digest.isalnum() or not path.is_file():
            fail("attachment " + digest + " is missing")
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            fail("attachment " + digest + " was altered")
        yield content


# ── what is checked ──


def keys(vkey: Optional[str]) -> dict[str, Key]:
    """The logs that the registry names, with their keys."""
    registry = key_of(vkey or Path("keys/registry.vkey").read_text())
    size, root = checkpoint_of(Path("registry/checkpoint").read_bytes(), registry, "the registry")
    entries = [Path("registry", str(n) + ".json").read_bytes() for n in range(size)]
    if root_of(entries) != root:
        fail("the registry's entries are not those that were signed")
    opened = [e for e in map(json.loads, entries) if e["event"] == "opened"]
    print("ok   the registry names", len(opened), "logs, signed by", registry[0])
    return {e["log"]: key_of(e["key"]) for e in opened}


def check_record(path: Path, logs: dict[str, Key]) -> tuple[str, dict[str, Any]]:
    """A record and the log that it is in, once that is known."""
    entry, proof = path.read_bytes(), path.with_suffix(".tlog-proof").read_bytes()
    head, _, note = proof.partition(b"\n\n")
    lines = head.decode().split("\n")
    if lines[0] != "c2sp.org/tlog-proof@v1" or not lines[1].startswith("index "):
        fail(path.name + ": its proof is none")
    log = note.split(b"\n")[0].decode()
    if log not in logs:
        fail(path.name + ": the registry does not name the log " + log)
    size, root = checkpoint_of(note, logs[log], path.name)
    hashes = [base64.b64decode(line) for line in lines[2:]]
    if not is_included(entry, int(lines[1].split(" ")[1]), size, hashes, root):
        fail(path.name + " is not in the log " + log)
    return log, json.loads(entry)


def check_pruned(path: Path, logs: dict[str, Key]) -> str:
    """The log of which a record says that entries were pruned."""
    _, record = check_record(path, logs)
    if record["step"] != "prune":
        fail(path.name + ": it is no record of pruning")
    return str(record["parameters"]["log"])


def told() -> set[str]:
    """The accesses that the table tells of."""
    csv.field_size_limit(1 << 30)  # of very many fields all are in one cell
    with Path("exposure.csv").open(newline="", encoding="utf-8") as file:
        return {row["access"] for row in csv.DictReader(file)}


def records() -> dict[str, list[Path]]:
    """The records of each access, in their order."""
    found: dict[str, list[tuple[int, Path]]] = {}
    for path in Path("records").glob("*.json"):
        access, _, number = path.stem.rpartition("-")
        found.setdefault(access, []).append((int(number), path))
    return {access: [path for _, path in sorted(paths)] for access, paths in sorted(found.items())}


def check(vkey: Optional[str]) -> None:
    """All that is here."""
    logs, accesses = keys(vkey), records()
    if told() != set(accesses):
        fail("there are other accesses in records/ than exposure.csv tells of")
    proofs = {path.stem for path in Path("records").glob("*.tlog-proof")}
    if proofs != {path.stem for paths in accesses.values() for path in paths}:
        fail("a record is missing, or its proof")
    pruned = {check_pruned(path, logs) for path in Path("pruned").glob("*.json")}
    cut = 0
    for access, paths in accesses.items():
        known = 0
        found = [check_record(path, logs) for path in paths]
        said = [record for _, record in found]
        before = said[0].get("part", 0)
        if before:  # these were in the log of the first that is here, or in the one that it closes
            if said[0].get("log", found[0][0]) not in pruned:
                fail(access + ": a record of it is missing")
            print("cut ", access, "records that were pruned before those that are here:", before)
            cut += 1
        for record in said:
            if record["access"] != access:
                fail(access + ": a record of another access")
            if record.get("part", 0) != before + said.index(record):
                fail(access + ": a record of it is missing")
            known += sum(1 for evidence in evidence_of(record) for _ in rows_of(evidence))
        rows = max(record.get("rows", 0) for record in said)
        print(
            "ok  ", access, "records:", len(said), " rows on record:", rows, " in evidence:", known
        )
    print("PROVED:", len(accesses), "accesses are in the log as they are here")
    if cut:
        print("Of", cut, "of them the log has the end alone: the beginning was pruned from it.")


def neutral(text: str) -> str:
    """A text as a spreadsheet takes it for one, and not for a formula."""
    return "'" + text if text[:1] in tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20") else text


def shown(value: Optional[str]) -> str:
    """What is kept of a value."""
    return "" if value is None else neutral(value[1:] if value[:1] == "=" else value)


def rows_given(access: str) -> Iterator[tuple[dict[str, Optional[str]], dict[str, str]]]:
    """The rows of all evidence of an access."""
    for path in records().get(access) or fail("there is no such access here"):
        for evidence in evidence_of(json.loads(path.read_bytes())):
            yield from rows_of(evidence)


def print_rows(access: str) -> None:
    """The rows that an access gave. Not of each of them the same fields may be kept."""
    names: dict[str, None] = {}
    for kept, _ in rows_given(access):
        names.update(dict.fromkeys(kept))
    out = csv.writer(sys.stdout)
    out.writerow([*map(neutral, names), "given"])
    for kept, forms in rows_given(access):
        given = "; ".join(field + " " + form for field, form in sorted(forms.items()))
        out.writerow([*(shown(kept.get(name)) for name in names), neutral(given)])


def main() -> None:
    """Do what is asked."""
    parser = argparse.ArgumentParser(description="Checks the evidence in this folder.")
    parser.add_argument("--vkey", help="the registry's verifier key, as you kept it")
    parser.add_argument("--rows", metavar="ACCESS", help="print the rows that an access gave")
    asked = parser.parse_args()
    try:
        if asked.rows:
            print_rows(asked.rows)
        else:
            check(asked.vkey)
        sys.stdout.flush()
    except BrokenPipeError:  # nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        fail(str(error.filename) + ": " + str(error.strerror))
    except Exception as error:  # noqa: BLE001 - whoever forged it may have put anything anywhere
        fail("what is here is malformed: " + type(error).__name__ + ", " + str(error)[:200])


if __name__ == "__main__":
    main()
