"""A report with something to hide, its policy, and documents of it that differ where nobody may look.

Of its rows, sam owns some; in those, some fields are his in clear, some in another form, some not at all.
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Sequence

REPORTS = """\
stores:
  main: {url: "{store}", loopback: true}
purposes: [audit]
reports:
  vault/items:
    title: Items
    store: main
    key: [id]
    variants:
      - {path: /vault/items.csv, format: csv}
      - {path: /vault/items.json, format: json}
      - {path: /vault/wrapped.json, format: json, rows_at: [data, rows]}
    parameters:
      id: {type: text, field: id}
      name: {type: text, field: name}
      least: {type: decimal, field: amount, operator: ge}
      pin: {type: integer, field: pin}
      page: {type: integer}
    fields:
      id: {type: text, class: public}
      store: {type: text, class: public}
      flag: {type: text, class: public}
      name: {type: text, class: internal}
      card: {type: text, class: confidential}
      amount: {type: decimal, class: confidential}
      pin: {type: integer, class: confidential}
      born: {type: date, class: personal}
      mail: {type: text, class: personal}
      note: {type: text, class: internal}
      gone: {type: text, class: confidential}
      fixed: {type: text, class: confidential}
      plate: {type: text, class: confidential}
  vault/refused:
    title: Denied by a line
    store: main
    variants: [{path: /vault/refused.csv, format: csv, source: /vault/items.csv}]
    parameters: {id: {type: text, field: id}}
    fields: {id: {type: text, class: public}}
  vault/secret:
    title: Nobody is granted this
    store: main
    variants: [{path: /vault/secret.csv, format: csv, source: /vault/items.csv}]
    parameters: {id: {type: text, field: id}}
    fields: {id: {type: text, class: public}}
"""
RULES = """\
p,  tool:app,   vault/*,       act,  true, allow
p,  role:owner, vault/items,   read, true, allow
p,  role:owner, vault/refused, read, true, allow
p,  anyone,     vault/refused, read, true, deny
p2, role:owner, vault/refused, true, *, clear
p2, role:owner, vault/items, row.store in sub.stores, id|store|flag|note, clear
p2, role:owner, vault/items, row.store in sub.stores, name,   pseudonym
p2, role:owner, vault/items, row.store in sub.stores, card,   partial(last=4)
p2, role:owner, vault/items, row.store in sub.stores, amount, round(1000000)
p2, role:owner, vault/items, row.store in sub.stores, mail,   encrypt
p2, role:owner, vault/items, row.store in sub.stores, gone,   redact
p2, role:owner, vault/items, row.store in sub.stores, fixed,  constant('n/a')
p2, role:owner, vault/items, row.store in sub.stores, plate,  tokenise
p2, role:owner, vault/items, row.flag == 'secret', note, deny
g,  group:owners, role:owner
"""
FIELDS = (
    "id",
    "store",
    "flag",
    "name",
    "card",
    "amount",
    "pin",
    "born",
    "mail",
    "note",
    "gone",
    "fixed",
    "plate",
)
NUMBERS = ("amount", "pin")
NEEDLES = (b"canary", b"31337", b"1843-")
"""What every canary holds: texts, numbers, dates."""
MINE = ("1", "2")
"""The stores of sam."""

Record = dict[str, str | None]


def visible(n: int) -> Record:
    """A row of sam's, whose hidden cells are canaries. Every third note is hidden by a `deny`; every
    fifth flag is missing, so that the `deny`'s condition is unknown.
    """
    flag = None if n % 5 == 0 else "secret" if n % 3 == 0 else "open"
    hidden = flag != "open"
    return {
        "id": f"i{n}",
        "store": MINE[n % 2],
        "flag": flag,
        "name": f"canary-name-{n}",
        "card": f"canary-card-{n:04d}",
        "amount": f"{5 + n % 3}000131337.{n % 100:02d}",
        "pin": f"31337{n:08d}",
        "born": f"1843-{n % 12 + 1:02d}-{n % 28 + 1:02d}",
        "mail": f"canary-{n}@mail.example",
        "note": f"canary-note-{n}" if hidden else f'a "note", {n}\nof two lines',
        "gone": f"canary-gone-{n}",
        "fixed": f"canary-fixed-{n}",
        "plate": f"canary-plate-{n:04d}",
    }


def hidden(n: int) -> Record:
    """A row of somebody else's store, or of none (unknown): all of it canaries."""
    return {
        **visible(n),
        "id": f"canary-id-{n}",
        "store": None if n % 4 == 0 else f"canary-store-{n}",
        "flag": f"canary-flag-{n}",
        "note": f"canary-note-{n}",
    }


def written(records: Sequence[Record], format_: str, names: Sequence[str] = FIELDS) -> bytes:
    if format_ == "csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([record.get(name) or "" for name in names] for record in records)
        return text.getvalue().encode()

    def token(name: str, value: str | None) -> str:
        return value if name in NUMBERS and value else json.dumps(value, ensure_ascii=False)

    rows = ("{" + ",".join([f'"{n}":{token(n, r.get(n))}' for n in names]) + "}" for r in records)
    if format_ == "ndjson":
        return "".join(f"{row}\n" for row in rows).encode()
    return ("[" + ",".join(rows) + "]").encode()


def path_of(format_: str) -> str:
    return f"/vault/items.{format_}"


# ── disguises: other documents of which sam sees the same ──

OPEN_RULES = "".join(line for line in RULES.splitlines(keepends=True) if "encrypt" not in line)
"""The same without encryption, whose randomness would differ between any two answers."""
_NOISE = "".join(random.Random(0).choices('canary,"\n é', k=100_000))


def disguised(record: Record, chance: random.Random) -> Record:
    """The same row to sam: other values, of other lengths, in all that he may not see."""

    def noise(most: int = 40) -> str:
        start = chance.randrange(len(_NOISE))
        return _NOISE[start : start + chance.randrange(most)]

    other = dict(record)
    assert record["card"] is not None and record["amount"] is not None
    other["card"] = noise() + "12345" + record["card"][-4:]
    other["amount"] = (
        record["amount"][:4] + f"{chance.randrange(400_000):06d}" + "." + "7" * chance.randint(1, 9)
    )
    other["pin"] = str(chance.randrange(10 ** chance.randint(1, 15)))
    other["born"] = chance.choice([None, "2001-01-01", "not a date"])
    other["mail"], other["gone"], other["fixed"] = noise(), chance.choice([None, noise()]), noise()
    if record["flag"] != "open":
        other["note"] = chance.choice([None, noise(200)])
    return other


def foreign(chance: random.Random) -> Record:
    """A row of another store or of none, of any length."""
    row = disguised(hidden(chance.randrange(10**6)), chance)
    row["note"] = "x" * chance.choice([0, 3, 300])
    return row


def disguise(count: int, format_: str, seed: int, foreigners: int) -> bytes:
    """One of many documents of which sam sees the same `count` rows."""
    chance = random.Random(seed)
    records = [disguised(visible(n), chance) for n in range(count)]
    for _ in range(foreigners):
        records.insert(chance.randrange(len(records) + 1), foreign(chance))
    names = list(FIELDS)
    if format_ != "csv":
        chance.shuffle(names)
    for extra in chance.sample(["x1", "x2", "canary"], chance.randint(0, 3)):
        names.insert(chance.randrange(len(names) + 1), extra)
        for record in records:
            record[extra] = "y" * chance.randrange(30)
    return written(records, format_, names)
