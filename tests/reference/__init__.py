"""The meaning of a policy a second time, cell by cell, slowly and plainly, from DESIGN.md §4 alone.

It shares no code with what it judges: nothing of proxy.policy, proxy.plan, proxy.transform,
proxy.treatments, proxy.values or proxy.formats.

nouns.py        a world: reports, lines, a requester, rows
conditions.py   conditions as data: their text, and their truth for a row (Kleene)
forms.py        treatments as data: their text, their order of preference, what they give
groups.py       rows -> which of them are in groups that may be given (`suppress`)
evaluator.py    world -> permit or not; columns; and for each row and column what is given
documents.py    rows -> the CSV and JSON that a store sends; an answer's bytes -> cells
worlds.py       random worlds
smaller.py      a failing world made as small as it can be
product.py      the real thing, driven the same way, to be compared
"""
