"""The kernels say what a plain loop says, and touch nothing but what they are given."""

from __future__ import annotations

import ctypes
import json
import mmap
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import kernels
from proxy.kernels import Alike
from proxy.kernels import few as few_cells
from proxy.kernels.libraries import libraries

_LIBC = ctypes.CDLL(None, use_errno=True)
_NOTHING = 0  # neither read nor written: PROT_NONE
_LIBC.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


@contextmanager
def fenced(size: int) -> Iterator[tuple[int, memoryview]]:
    """The address of `size` bytes that end where the page after them cannot be read or written."""
    pages = -(-size // mmap.PAGESIZE) + 1
    held = mmap.mmap(-1, pages * mmap.PAGESIZE)
    base = ctypes.addressof(view := ctypes.c_char.from_buffer(held))
    last = base + (pages - 1) * mmap.PAGESIZE
    assert _LIBC.mprotect(last, mmap.PAGESIZE, _NOTHING) == 0
    try:
        begin = (pages - 1) * mmap.PAGESIZE - size
        yield base + begin, memoryview(held)[begin : begin + size]
    finally:
        assert _LIBC.mprotect(last, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE) == 0
        del view  # the mapping goes with its last view


@pytest.fixture(autouse=True, scope="module", params=libraries())
def library(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test holds for each library that this machine can run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "_FREE", kernels.loaded(ctypes.CDLL, request.param))
        patch.setattr(kernels, "_HELD", kernels.loaded(ctypes.PyDLL, request.param))
        yield


def _is_utf8(text: bytes) -> bool:
    """As Python's own decoder has it."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


# ── CSV ──


@dataclass
class Read:
    """What a loop over the bytes finds of complete records."""

    fault: int = kernels.WELL_FORMED
    separators: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    quoted: bool = False
    needless: bool = False
    returns: bool = False


def read(text: bytes, delimiter: int) -> Read:
    """RFC 4180 byte by byte."""
    quote, feed, back = b'"\n\r'
    inside, places, found = False, [], Read()
    separators: list[int] = []
    alone = None
    for at, byte in enumerate(text):
        before = text[at - 1] if at else feed
        after = text[at + 1] if at + 1 < len(text) else None
        if byte == quote:
            found.quoted = True
            inside = not inside
            if inside and before not in (feed, delimiter, quote):
                return Read(fault=kernels.QUOTES_MALFORMED)
            if not inside and after not in (None, quote, delimiter, feed, back):
                return Read(fault=kernels.QUOTES_MALFORMED)
        elif not inside and byte == back:
            if after == feed:
                found.returns = True
            elif alone is None:
                alone = at
        elif not inside and byte in (feed, delimiter):
            separators.append(at)
            if byte == feed:
                places.append(len(separators))
    found.separators = tuple(separators[: places[-1]]) if places else ()
    found.ends = tuple(separators[place - 1] for place in places)
    if alone is not None and found.ends and alone < found.ends[-1]:
        found.fault = kernels.RETURN_ALONE
    found.needless = any(_needless(text, delimiter))
    return found


def _needless(text: bytes, delimiter: int) -> Iterator[bool]:
    """For each quote that opens a field, whether the text up to the one that closes it is plain."""
    inside = False
    for at, byte in enumerate(text):
        if byte != ord('"'):
            continue
        inside = not inside
        if inside and not (at and text[at - 1] == ord('"')):
            close = text.find(b'"', at + 1)
            content = text[at + 1 : close] if close >= 0 else b""
            plain = content and not {*content} & {*b"\r\n", delimiter}
            yield bool(plain and text[close + 1 : close + 2] != b'"')


PIECES = [
    b'"',
    b'""',
    b"\n",
    b"\r\n",
    b"\r",
    b",",
    b";",
    b"a",
    b"bc",
    "é".encode(),
    b"\xc3",
    b"\0",
    b'"x"',
    b'"x,y"',
]
CSV = st.lists(st.sampled_from(PIECES) | st.integers(1, 140).map(lambda n: b"z" * n), max_size=60)


@given(CSV.map(b"".join), st.sampled_from(b",;\t"), st.integers(0, 4), st.data())
def test_a_scan_of_csv_finds_what_a_loop_finds(text, delimiter, width, data):
    """Separators, records, widths, quotes, faults: at every size, whatever stands after the block."""
    expected = read(text, delimiter)
    room = data.draw(st.integers(0, len(text)))
    found = kernels.CsvFound()
    with fenced(len(text)) as (at, held), fenced(4 * room) as (places, out):
        held[:] = text
        kernels._FREE.csv_scan(
            ctypes.cast(at, ctypes.c_char_p),
            len(text),
            delimiter,
            width,
            room,
            places,
            ctypes.byref(found),
        )
        separators = np.frombuffer(bytes(out), np.uint32).tolist()
        del held, out
    if found.fault == kernels._NO_ROOM:
        assert room < sum(text.count(byte) for byte in (delimiter, b"\n"))
        found, places_found = kernels.csv_scan(text, delimiter, width)
        separators = places_found.tolist()
    assert found.fault == expected.fault
    if expected.fault:
        return
    assert tuple(separators[: found.separators]) == expected.separators
    ends = expected.ends
    counts = [expected.separators.index(end) + 1 for end in ends]
    widths = [one - other for one, other in zip(counts, [0, *counts], strict=False)]
    assert found.records == len(ends)
    assert found.cut == (ends[-1] + 1 if ends else 0)
    assert found.longest == max((a - b for a, b in zip(ends, (-1, *ends), strict=False)), default=0)
    assert found.width == (widths[0] if widths else 0)
    assert found.alike == all(each == (width or widths[0]) for each in widths)
    assert found.quoted == expected.quoted
    assert found.needless == expected.needless
    assert found.returns == expected.returns
    assert found.utf8 == _is_utf8(text[: found.cut])
    assert found.nul == (b"\0" in text[: found.cut])


@given(CSV.map(b"".join))
def test_a_cut_is_the_last_line_feed_after_an_even_number_of_quotes(text):
    """Whether quotes are well-formed or not; and nothing after the block is looked at."""
    ends = [at for at in range(len(text)) if text[at] == 10 and text[:at].count(b'"') % 2 == 0]
    with fenced(len(text)) as (at, held):
        held[:] = text
        found = kernels._FREE.csv_cut(ctypes.cast(at, ctypes.c_char_p), len(text))
        del held
    assert found == (ends[-1] + 1 if ends else 0)


# ── JSON ──

VALUES = st.none() | st.booleans() | st.integers() | st.text()
TOKENS = st.one_of(
    VALUES.map(json.dumps),
    st.text().map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.decimals(allow_nan=False, allow_infinity=False, places=2).map(str),
    st.sampled_from([
        "01", "1.", ".5", "-", "+1", "1e5", "1E-2", "0.0", "-0", "tru", "nul", "True", '"\\x"', '"\\u12"', '"\\ud800"',
        '"\\uD83D\\uDE00"', '"\\u00e9"', '"\\/"', '"\t"', '"\x7f"', "[]", "{}", '"' + "w" * 70 + '\\n"', "12345678901234567890",
    ]),
)  # fmt: skip
ALIKE = st.builds(
    Alike,
    leads=st.integers(1, 3).flatmap(
        lambda n: st.tuples(
            st.sampled_from([b'{"a":', b'{ "a" : ']),
            *[st.just(f',"f{at}":'.encode()) for at in range(1, n)],
            st.sampled_from([b"}", b"\n}"]),
        )
    ),
    between=st.sampled_from([b",", b",\n", b"\n"]),
)


def _reads(token: str, longest: int) -> bool:
    """Whether a token is a string without escaped surrogates, a number without exponent, or a word."""
    try:
        value = json.loads(token, parse_constant=lambda _: {})
    except ValueError:
        return False
    if isinstance(value, str):
        escapes = token.replace("\\\\", "").lower().split("\\u")[1:]
        return not any(each[:1] == "d" and each[1:2] > "7" for each in escapes)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "e" not in token.lower() and len(token) <= longest
    return value is None or isinstance(value, bool)


@given(ALIKE, st.data())
def test_records_that_are_written_alike_are_found_up_to_the_first_that_is_not(alike, data):
    """Each value from its first to its last byte; what is not strict JSON, or cut off, ends them."""
    records = data.draw(
        st.lists(st.lists(TOKENS, min_size=alike.members, max_size=alike.members), max_size=6)
    )
    before = b"  " * data.draw(st.integers(0, 2))
    block, expected, longest, stopped = before, [], 40, False
    for number, record in enumerate(records):
        block += alike.between if number else b""
        places = []
        for lead, token in zip(alike.leads, record, strict=False):
            block += lead
            places.append((len(block), len(block) + len(token.encode())))
            block += token.encode()
        block += alike.leads[-1]
        stopped = stopped or not all(_reads(token, longest) for token in record)
        if not stopped:
            expected.append((places, len(block)))
    whole = len(block)
    cut = data.draw(st.just(whole) | st.integers(len(before), whole))
    block = block[:cut]
    expected = [each for each in expected if each[1] <= cut]
    found, starts, ends = _json(block, len(before), alike, longest)
    assert found.records == len(expected)
    assert found.cut == (expected[-1][1] if expected else len(before))
    assert [
        [*map(tuple, each)]
        for each in np.stack((starts, ends), axis=-1).transpose(1, 0, 2).tolist()
    ] == [places for places, _ in expected]
    if not stopped:
        assert found.ended == kernels.INCOMPLETE
    elif cut == whole:
        assert found.ended == kernels.DIFFERENT
    values = b"".join(block[a:b] for places, _ in expected for a, b in places)
    assert not found.records or found.ascii == values.isascii()


def _json(block: bytes, start: int, alike: Alike, longest: int) -> Any:
    """The kernel on pages without neighbours."""
    found = kernels.JsonFound()
    lead_ends = np.cumsum([len(lead) for lead in alike.leads], dtype=np.uint32)
    room = (len(block) - start) // alike.least + 2
    size = 4 * room * alike.members
    with (
        fenced(len(block)) as (at, held),
        fenced(size) as (starts, one),
        fenced(size) as (ends, other),
    ):
        held[:] = block
        kernels._FREE.json_alike(
            ctypes.cast(at, ctypes.c_char_p), len(block), start, b"".join(alike.leads), lead_ends.ctypes.data,
            alike.members, alike.between, len(alike.between), longest, room, starts, ends, ctypes.byref(found),
        )  # fmt: skip
        places = [
            np.frombuffer(bytes(each), np.uint32).reshape(-1, room)[:, : found.records]
            for each in (one, other)
        ]
        del held, one, other
    again, *same = kernels.json_alike(block, start, alike, longest_number=longest)
    assert (again.records, again.cut, again.ended) == (found.records, found.cut, found.ended)
    assert all(np.array_equal(a, b) for a, b in zip(places, same, strict=True))
    return found, *places


NAMES = ["a", "b", "é", "two words", "", 'q"', "c\\\\d"]
NAME = st.sampled_from(NAMES) | st.text(max_size=2)
BLANK = st.sampled_from(["", "", "", " ", "\t", "\r", "\n"])


@st.composite
def few(draw) -> bytes:
    """Records with the same members, as an array or as lines, with now and then something else in them."""
    names = draw(st.lists(NAME, max_size=4, unique=True))
    written = [json.dumps(name, ensure_ascii=draw(st.booleans())) for name in names]
    records = []
    for _ in range(draw(st.integers(0, 4) | st.just(64) | st.just(65))):
        tokens = [draw(TOKENS if draw(st.integers(0, 9)) == 0 else PLAIN) for _ in names]
        members = [f"{name}{draw(BLANK)}:{draw(BLANK)}{token}"
                   for name, token in zip(written, tokens, strict=True)]  # fmt: skip
        if draw(st.integers(0, 19)) == 0:
            members = draw(st.permutations([*members, *members[:1]]))
        records.append(f"{{{draw(BLANK)}{','.join(members)}{draw(BLANK)}}}")
    if draw(st.booleans()):
        return "".join(f"{draw(BLANK)}{record}{draw(BLANK)}\n" for record in records).encode()
    return f"{draw(BLANK)}[{','.join(records)}{draw(BLANK)}]{draw(BLANK)}".encode()


PLAIN = VALUES.map(json.dumps) | st.sampled_from(["1.50", "-0", '"é"'])


def _flat(document: bytes, lines: bool, number: int) -> list[dict[str, str]] | None:
    """Name -> token for each record, by Python's own reader; None where it is no such document."""
    try:
        text = document.decode()
        if lines and not text.endswith("\n"):
            return None
        whole = text.split("\n")[:-1] if lines else [text]
        records: list[Any] = []
        for each in whole:
            if lines and any(blank in each for blank in "\v\f"):
                return None
            read = json.loads(
                each,
                object_pairs_hook=Pairs,
                parse_float=Token,
                parse_int=Token,
                parse_constant=list,
            )
            records += [read] if lines else read
        if not records or not all(isinstance(record, Pairs) and record for record in records):
            return None
        names = [name for name, _ in records[0]]
        if not all([name for name, _ in record] == names for record in records):
            return None
        if len(set(names)) < len(names) or not 0 < len(records) <= 64:
            return None
        tokens = [token for record in records for token in _tokens(record)]
    except (ValueError, TypeError):
        return None
    if any("e" in t.lower() or len(t) > number for t in tokens if isinstance(t, Token)):
        return None
    return [dict(record) for record in records]


class Pairs(list[Any]):
    """The members of an object."""

    __slots__ = ()


class Token(str):
    """A number as it is written."""

    __slots__ = ()


def _tokens(record: list[Any]) -> list[Any]:
    if any(isinstance(value, list) for _, value in record):
        raise TypeError
    return [value for _, value in record]


@settings(max_examples=400)
@given(
    few() | TOKENS.map(str.encode),
    st.lists(NAME, max_size=4, unique=True),
    st.booleans(),
    st.data(),
)
def test_a_few_flat_records_are_read_or_left_alone(document, wanted, lines, data):
    """What it says is what Python's own reader says; nothing is read or written beyond what it is given."""
    if document and data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(document) - 1))
        byte = data.draw(st.sampled_from([*b'"\\{}[],: \n0eE-.n\x00\x1f\x7f\xc3\xff']))
        document = document[:at] + bytes([byte]) + document[at + 1 :]
    others = [name for name in NAMES if name not in wanted]
    names = few_cells.Names(wanted, others, members=3, number=40, lines=lines)
    room = data.draw(st.integers(0, len(document)) | st.just(len(document))) + few_cells._FEW.size
    with fenced(len(document)) as (at, held), fenced(room) as (out, written):
        held[:] = document
        end = kernels._FREE.json_few(
            ctypes.cast(at, ctypes.c_char_p),
            len(document),
            names.address,
            ctypes.cast(out, ctypes.c_char_p),
            room,
        )
        assert end <= room
        found = bytes(written[:end])
        del held, written
    same = few_cells.json_few(document, names)
    assert same is not None or not end
    expected = _flat(document, lines, 40)
    if same is None:
        return
    assert expected is not None
    if end:
        assert found[few_cells._FEW.size :].endswith(same.names)
    assert same.records == len(expected)
    there = [name for number, name in enumerate(wanted) if same.there >> number & 1]
    assert there == [name for name in wanted if name in expected[0]]
    values = [json.loads(each, parse_int=Token, parse_float=Token) for each in same.values[:-1]]
    assert values == [record[name] for name in there for record in expected]
    assert [*map(json.loads, same.names.splitlines())] == [*expected[0]]
    assert same.others == len(expected[0].keys() - {*wanted, *others})
    nulls = [name for number, name in enumerate(wanted) if same.nulls >> number & 1]
    assert nulls == [name for name in there if any(record[name] is None for record in expected)]


def test_plain_records_are_read():
    """Neither white space nor order, names that are not asked for or characters of any kind are in the way."""
    document = '[ {"é" : "𝄞", "x":-1.50,"a":null},\n{"é":"\\u00e9","x":0,"a":true} ]'.encode()
    for text, lines in ((document, False), (document[2:-2].replace(b",\n", b"\n") + b"\n", True)):
        found = few_cells.json_few(
            text, few_cells.Names(["a", "é"], [], members=3, number=5, lines=lines)
        )
        assert found == few_cells.FewJson(
            2, ["null", "true", '"𝄞"', '"\\u00e9"', ""], 3, 1, 1, '"é"\n"x"\n"a"\n'.encode()
        )


# ── UTF-8 ──


@given(
    st.lists(
        st.binary(max_size=5) | st.text(max_size=4).map(str.encode) | st.integers(1, 90).map(bytes)
    )
)
def test_utf_8_is_what_pythons_own_decoder_takes(parts):
    """Well-formed or not; and nothing after the text is looked at."""
    text = b"".join(parts)
    with fenced(len(text)) as (at, held):
        held[:] = text
        found = bool(kernels._FREE.utf8_well_formed(ctypes.cast(at, ctypes.c_char_p), len(text)))
        del held
    assert found == _is_utf8(text) == kernels.is_utf8(text)


@pytest.mark.parametrize("first", range(0x80, 0x100))
def test_every_sequence_of_up_to_three_bytes_is_judged_as_pythons_own_decoder_does(first):
    """Each beginning with each second byte, cut off, completed, and followed by ASCII."""
    for second in range(0x100):
        for tail in (b"", b"\x80", b"\x80\x80", b"a", b"\x80a", b"\xbf\xbf\xbf"):
            text = bytes([first, second]) + tail
            assert kernels.is_utf8(text) == _is_utf8(text)


@pytest.mark.parametrize("character", ["é", "€", "𝄞"])
@pytest.mark.parametrize("cut", [0, 1])
def test_a_character_across_words_and_at_the_end_is_judged_as_a_whole(character, cut):
    """Wherever it begins about the bounds of words, whole or short of its last byte."""
    encoded = character.encode()
    for before in range(134):
        for after in (b"", b"z", b"z" * 130):
            text = b"a" * before + encoded[: len(encoded) - cut] + after
            with fenced(len(text)) as (at, held):
                held[:] = text
                found = kernels._FREE.utf8_well_formed(ctypes.cast(at, ctypes.c_char_p), len(text))
                del held
            assert bool(found) == (not cut)


# ── Pieces and numbers ──


def _fenced_part(stack: ExitStack, text: bytes) -> tuple[int, int]:
    at, held = stack.enter_context(fenced(len(text)))
    held[:] = text
    held.release()
    return at, len(text)


@given(st.lists(st.binary(max_size=70), min_size=1, max_size=8), st.data())
def test_what_is_woven_is_each_records_pieces_in_turn(texts, data):
    """Of every kind and length; nothing is read beyond a part's data, nor written beyond the room there is."""
    height = len(texts)
    blob = b"".join(texts)
    places = np.cumsum([0, *map(len, texts)]).astype(np.int64)
    place = st.integers(0, len(blob))
    codes = data.draw(st.lists(st.integers(0, height - 1), min_size=height, max_size=height))
    bounds = [
        sorted(pair)
        for pair in data.draw(st.lists(st.tuples(place, place), min_size=height, max_size=height))
    ]
    starts, ends = np.array(bounds, np.uint32).reshape(-1, 2).T.copy()
    numbers = np.array(codes, np.uint32)
    kinds = data.draw(
        st.lists(st.sampled_from(["same", "spans", "texts", "coded"]), min_size=1, max_size=5)
    )
    expected = b"".join(
        {
            "same": blob,
            "spans": blob[bounds[row][0] : bounds[row][1]],
            "texts": texts[row],
            "coded": texts[codes[row]],
        }[kind]
        for row in range(height)
        for kind in kinds
    )
    array = np.frombuffer(blob, np.uint8)
    make = {
        "same": lambda: kernels.same(blob),
        "spans": lambda: kernels.spans(array, starts, ends),
        "texts": lambda: kernels.texts(array, places),
        "coded": lambda: kernels.coded(array, places, numbers),
    }
    parts = [make[kind]() for kind in kinds]
    assert kernels.weave(parts, height) == expected
    with ExitStack() as stack:
        at, size = _fenced_part(stack, blob)
        described = kernels._described(parts, height)
        described[:, 0], described[:, 1] = at, size
        out, written = stack.enter_context(fenced(len(expected)))
        kernels._FREE.weave(
            described.ctypes.data,
            len(parts),
            height,
            ctypes.cast(out, ctypes.c_char_p),
            len(expected),
        )
        assert bytes(written) == expected
        written.release()


@pytest.mark.parametrize(
    "part",
    [
        kernels.spans(np.zeros(3, np.uint8), np.array([0]), np.array([4])),
        kernels.spans(np.zeros(3, np.uint8), np.array([2]), np.array([1])),
        kernels.texts(np.zeros(3, np.uint8), np.array([0, 4])),
        kernels.texts(np.zeros(3, np.uint8), np.array([-1, 1])),
        kernels.coded(np.zeros(3, np.uint8), np.array([0, 3]), np.array([1])),
        kernels.coded(np.zeros(3, np.uint8), np.array([3, 9]), np.array([0])),
    ],
)
def test_a_piece_that_is_not_in_its_data_is_not_woven(part):
    """Whatever the caller says, memory that is not the part's is not read."""
    with pytest.raises(IndexError):
        kernels.weave([kernels.same(b"a"), part], 1)


TEXTS = st.lists(
    st.sampled_from([b"", b"a", b"b", b"aaaaaaaa", b"aaaaaaab", b"x" * 16, b"x" * 17, b"x" * 33])
    | st.binary(max_size=40),
    max_size=40,
)


@given(TEXTS, st.data())
def test_pieces_are_cut_out_and_equal_ones_have_one_number(texts, data):
    """In the order of the first of each; nothing is read beyond the data, nor written beyond the room there is."""
    blob = b"".join(texts)
    bounds = np.cumsum([0, *map(len, texts)]).astype(np.uint32)
    order = data.draw(st.permutations(range(len(texts))))
    starts, ends = bounds[:-1][order].copy(), bounds[1:][order].copy()
    texts = [texts[place] for place in order]
    distinct = [*dict.fromkeys(texts)]
    most = data.draw(st.integers(0, len(texts) + 1))
    with ExitStack() as stack:
        at, size = _fenced_part(stack, blob)
        room, places = stack.enter_context(fenced(8 * (len(texts) + 1)))
        out, written = stack.enter_context(fenced(size))
        here, there = starts.ctypes.data, ends.ctypes.data
        assert kernels._FREE.spans_size(size, here, there, len(texts), room) == size
        kernels._FREE.cut_spans(at, size, here, there, len(texts), out, size)
        assert bytes(written) == b"".join(texts)
        assert np.frombuffer(bytes(places), np.int64).tolist() == [
            *accumulate(map(len, texts), initial=0)
        ]
        table = np.zeros(1 << (2 * most).bit_length(), np.uint64)
        codes, numbers = stack.enter_context(fenced(4 * len(texts)))
        firsts, rows = stack.enter_context(fenced(4 * most))
        known = kernels._FREE.number_spans(
            at, size, here, there, len(texts), most, table.ctypes.data, len(table), codes, firsts,
            stack.enter_context(fenced(24 * most))[0],
        )  # fmt: skip
        found = np.frombuffer(bytes(numbers), np.uint32), np.frombuffer(bytes(rows), np.uint32)
        for each in (places, written, numbers, rows):
            each.release()
    array = np.frombuffer(blob, np.uint8)
    again = kernels.numbered(array, (starts, ends), most)
    if known == kernels._NOWHERE:
        assert len(distinct) > most
        assert again is None
        return
    assert known == len(distinct)
    assert found[0].tolist() == [distinct.index(text) for text in texts]
    assert found[1][:known].tolist() == [texts.index(text) for text in distinct]
    assert again is not None
    assert [each.tolist() for each in again] == [found[0].tolist(), found[1][:known].tolist()]
    offsets, cut = kernels.cut(array, (starts, ends))
    assert cut.tobytes() == b"".join(texts)
    assert offsets.tolist() == [*accumulate(map(len, texts), initial=0)]


@pytest.mark.parametrize(("starts", "ends"), [([0], [4]), ([2], [1]), ([-1], [1]), ([0], [-1])])
def test_pieces_beyond_their_data_are_not_cut(starts, ends):
    """Whatever the caller says, memory that is not the data's is not read."""
    data, span = np.zeros(3, np.uint8), (np.array(starts), np.array(ends))
    with pytest.raises(IndexError):
        kernels.cut(data, span)
    with pytest.raises(IndexError):
        kernels.numbered(data, span, 1)
    with pytest.raises(IndexError):
        kernels.numbered(data, (np.zeros(2, np.uint32), np.ones(1, np.uint32)), 1)


def test_texts_that_fall_on_one_slot_are_given_up_in_time():
    """A store that knows how texts are numbered cannot make a block take the square of its time."""
    slots = 1 << 17
    texts = [number.to_bytes(4, "big") for number in range(3000)]
    data = np.frombuffer(b"".join(texts), np.uint8)
    starts = np.arange(0, 4 * len(texts), 4, dtype=np.uint32)
    table = np.full(slots, 1 << 32 | 1, np.uint64)  # as if each slot were another text's
    codes, firsts = np.empty(len(texts), np.uint32), np.zeros(len(texts), np.uint32)
    ends, begins = starts + np.uint32(4), np.zeros((len(texts), 3), np.uint64)
    known = kernels._FREE.number_spans(
        data.ctypes.data, len(data), starts.ctypes.data, ends.ctypes.data, len(texts), len(texts),
        table.ctypes.data, slots, codes.ctypes.data, firsts.ctypes.data,
        begins.ctypes.data,
    )  # fmt: skip
    assert known == kernels._NOWHERE


@given(
    st.lists(
        st.from_regex(rb"-?[0-9]{0,13}(\.[0-9]{0,5})?", fullmatch=True)
        | st.text("01.-e", max_size=4).map(str.encode),
        min_size=1,
        max_size=5,
    ),
    st.booleans(),
)
def test_short_numbers_are_exact_and_all_others_are_none(texts, decimal):
    """12 digits, a point and 4; one text that is anything else, and there is no answer."""
    blob = b"".join(texts)
    places = np.cumsum([0, *map(len, texts)]).astype(np.int64)
    form = rb"-?[0-9]{1,12}(\.[0-9]{1,4})?" if decimal else rb"-?[0-9]{1,12}"
    short = all(not text or re.fullmatch(form, text) for text in texts)
    expected = [int(Decimal((text or b"0").decode()) * 10_000) for text in texts] if short else None
    numbers = np.zeros(len(texts), np.int64)
    with fenced(len(blob)) as (at, held):
        held[:] = blob
        found = kernels._FREE.short_numbers(
            at, len(blob), places.ctypes.data, len(texts), decimal, numbers.ctypes.data
        )
        held.release()
    assert bool(found) == short
    assert not short or numbers.tolist() == expected
    again = kernels.short_numbers(np.frombuffer(blob, np.uint8), places, decimal=decimal)
    assert (None if again is None else again.tolist()) == expected


ROUNDED = st.one_of(
    st.decimals(-(10**12) + 1, 10**12 - 1, places=4).map(lambda d: f"{d:f}"),
    st.integers(-(10**12) + 1, 10**12 - 1).map(str),
    st.integers(-400, 400).map(lambda n: f"{Decimal(n) / 8:f}"),
    st.sampled_from(["-0", "-0.4", "0.5", "1.5", "-2.5", "007"]),
)


@settings(max_examples=300)
@given(
    st.lists(
        ROUNDED | st.sampled_from(["", "x", "1.", "1\n2", "+1", "1e2", '"1"', "1" * 13, "1.00000"]),
        max_size=6,
    )
    | st.lists(ROUNDED, min_size=1, max_size=6),
    st.integers(1, 10**12) | st.integers(1, 200),
    st.integers(0, 4),
    st.booleans(),
)
def test_short_numbers_are_rounded_exactly_and_all_others_are_none(texts, units, digits, decimal):
    """To the nearest multiple, ties to the even one; nothing is read or written beyond what it is given."""
    form = "-?[0-9]{1,12}(\\.[0-9]{1,4})?" if decimal else "-?[0-9]{1,12}"
    short = bool(texts) and all(re.fullmatch(form, text) for text in texts)
    expected = None
    if short:
        counts = [round(Fraction(text) * 10**digits / units) for text in texts]
        expected = [f"{Decimal(n * units).scaleb(-digits):.{digits}f}" for n in counts]
        expected = [
            text.removeprefix("-") if not n else text
            for n, text in zip(counts, expected, strict=True)
        ]
    assert few_cells.rounded(texts, decimal=decimal, units=units, digits=digits) == expected
    data = "".join(f"{text}\n" for text in texts).encode()
    room = len("".join(f"{text}\n" for text in expected or ()))
    for less in (0, 1):
        with fenced(len(data)) as (at, held), fenced(max(0, room - less)) as (out, written):
            held[:] = data
            end = kernels._FREE.round_lines(
                ctypes.cast(at, ctypes.c_char_p), len(data), decimal, units, digits,
                ctypes.cast(out, ctypes.c_char_p), max(0, room - less),
            )  # fmt: skip
            assert end == (room if not less else 0)
            assert less or bytes(written[:end]).decode() == "".join(
                f"{text}\n" for text in expected or ()
            )
            held.release()
            written.release()


def test_a_null_is_no_number():
    """Others round it."""
    assert few_cells.rounded(["1", None], decimal=False, units=1, digits=0) is None


def test_texts_beyond_their_data_are_no_numbers():
    """Whatever the caller says, memory that is not the texts' is not read."""
    for places in ([0, 4], [-1, 1], [2, 1]):
        assert (
            kernels.short_numbers(np.full(3, 49, np.uint8), np.array(places), decimal=True) is None
        )


def test_what_is_not_in_one_piece_is_copied_first():
    """A view that steps over its data, or goes back through it, is read as numpy reads it."""
    data = np.frombuffer(b"a.b.c.d.", np.uint8)
    places = np.arange(5, dtype=np.int64)
    for view, expected in ((data[::2], b"abcd"), (data[::-2], b"....")):
        assert kernels.weave([kernels.texts(view, places)], 4) == expected
        assert kernels.weave([kernels.coded(view, places, np.arange(4))], 4) == expected
        assert kernels.weave([kernels.spans(view, places[:-1], places[1:])], 4) == expected
    digits = np.frombuffer(b"4321", np.uint8)[::-1]
    found = kernels.short_numbers(digits, places, decimal=False)
    assert found is not None and found.tolist() == [10_000, 20_000, 30_000, 40_000]


def test_fewer_places_than_records_are_refused():
    """Not by an assertion, which is gone where Python is told to optimise."""
    data, two = np.frombuffer(b"abc", np.uint8), np.array([0, 1])
    with pytest.raises(IndexError):
        kernels.weave([kernels.spans(data, two, two)], 3)
    with pytest.raises(IndexError):
        kernels.weave([kernels.coded(data, np.array([0, 1, 2, 3]), two)], 3)
    with pytest.raises(IndexError):
        kernels.is_utf8(b"abc", 4)
