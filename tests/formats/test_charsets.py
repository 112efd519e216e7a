"""Charsets: a document in the declared one is read to the character, and one in any other not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import SourceRefused
from proxy.formats import CAUSES
from proxy.formats.charsets import Transcoder
from proxy.report import Charset, FormatName
from tests.formats.documents import CUTS, bytewise, cut, dialect, outcome, run

CODECS = {
    Charset.UTF_8: "utf-8",
    Charset.LATIN_1: "iso-8859-1",
    Charset.WINDOWS_1252: "windows-1252",
    Charset.UTF_16: "utf-16",
    Charset.UTF_16_LE: "utf-16-le",
    Charset.UTF_16_BE: "utf-16-be",
}
WIDE = [charset for charset in Charset if charset.startswith("utf")]
CHARSETS = st.sampled_from(Charset)


@st.composite
def documents(draw):
    """A charset, rows of cells that it has, and a document of them."""
    charset = draw(CHARSETS)
    cells = st.text(st.characters(codec=CODECS[charset], exclude_characters='\0",\r\n'), max_size=5)
    rows = draw(st.lists(st.tuples(cells.filter(bool), cells.filter(bool)), max_size=4))
    text = "".join(f"{','.join(row)}\n" for row in [("a", "b"), *rows])
    if charset is Charset.UTF_16:
        order = draw(st.sampled_from(["le", "be"]))
        return charset, rows, f"\ufeff{text}".encode(f"utf-16-{order}")
    if charset in WIDE and draw(st.booleans()):
        text = "\ufeff" + text
    return charset, rows, text.encode(CODECS[charset])


@given(documents(), CUTS)
def test_each_character_is_read_however_the_document_is_cut(case, places):
    charset, rows, document = case
    of = dialect(FormatName.CSV, charset=charset)
    assert run(of, [document], ["a", "b"]) == rows
    assert run(of, bytewise(document), ["a", "b"]) == rows
    assert run(of, cut(document, places), ["a", "b"]) == rows


@given(CHARSETS, st.binary(max_size=40), CUTS)
def test_what_a_strict_codec_refuses_is_refused_and_the_rest_is_what_it_says(charset, data, places):
    """THREATS F50: nothing is guessed, replaced or passed over, wherever bytes are cut."""
    found = transcoded(charset, [data])
    assert found == transcoded(charset, bytewise(data)) == transcoded(charset, cut(data, places))
    marked = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    if charset is Charset.UTF_8:
        assert found == data
    elif charset is Charset.UTF_16 and not marked:
        assert found == "not-in-charset"
    else:
        try:
            text = data.decode(CODECS[charset])
        except UnicodeDecodeError:
            assert found == "not-in-charset"
        else:
            assert found == ("\ufeff" if charset is Charset.UTF_16 else "").encode() + text.encode()


def transcoded(charset: Charset, pieces) -> bytes | str:
    stream, out = Transcoder(charset), b""
    refusal = None
    try:
        for piece in pieces:
            out += stream.feed(piece)
        return out + stream.feed(b"", final=True)
    except SourceRefused as failure:
        refusal = failure
    assert refusal.__context__ is None, "the codec's own error holds the text"
    assert str(refusal) == CAUSES[refusal.cause]
    return refusal.cause


MISMATCHED = {
    "latin-1 as UTF-8": (Charset.UTF_8, "a\né\n".encode("latin-1"), "not-utf-8"),
    "UTF-16 as UTF-8": (Charset.UTF_8, "a\n1\n".encode("utf-16"), "nul-character"),
    "UTF-16 as latin-1": (Charset.LATIN_1, "a\n1\n".encode("utf-16"), "nul-character"),
    "UTF-16 without a mark": (Charset.UTF_16, "a\n1\n".encode("utf-16-le"), "not-in-charset"),
    "the other order": (Charset.UTF_16_BE, "a\n1\n".encode("utf-16-le"), "column-missing"),
    "the other order's mark": (Charset.UTF_16_BE, "\ufeffa\n1\n".encode("utf-16-le"), "column-missing"),
    "half a character": (Charset.UTF_16, b"\xff\xfea\0\n\0001", "not-in-charset"),
    "half a surrogate pair": (Charset.UTF_16_LE, b"a\0\n\0\x34\xd8", "not-in-charset"),
    "a lone surrogate": (Charset.UTF_16_LE, b"a\0\n\0\x1e\xdd\n\0", "not-in-charset"),
    "no character": (Charset.WINDOWS_1252, b"a\n\x81\n", "not-in-charset"),
    "UTF-7": (Charset.UTF_8, b"a\n+AD0-\n", None),
    "UTF-32": (Charset.UTF_16, "\ufeffa\n1\n".encode("utf-32-le"), "nul-character"),
    "a second mark": (Charset.UTF_16, "\ufeff\ufeffa\n1\n".encode("utf-16-le"), "column-missing"),
    "UTF-8's mark in latin-1": (Charset.LATIN_1, b"\xef\xbb\xbfa\n1\n", "column-missing"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISMATCHED)
def test_a_document_in_another_charset_is_refused_or_taken_at_its_word(case):
    charset, document, cause = MISMATCHED[case]
    of = dialect(FormatName.CSV, charset=charset)
    for pieces in ([document], bytewise(document)):
        assert outcome(of, pieces, ["a"]) == (cause or [("+AD0-",)])


@pytest.mark.parametrize("charset", [Charset.UTF_16_LE, Charset.LATIN_1])
def test_a_large_document_is_transcoded_as_a_small_one(charset):
    rows = [(f"é{n}", "ÿ" * (n % 7) or None) for n in range(30_000)]
    text = "a,b\n" + "".join(f"{a},{b or ''}\n" for a, b in rows)
    document = text.encode(CODECS[charset])
    of = dialect(FormatName.CSV, charset=charset)
    assert run(of, cut(document, range(0, len(document), 65_537)), ["a", "b"]) == rows


@pytest.mark.parametrize("charset", Charset)
def test_a_document_cut_off_anywhere_gives_no_record_that_the_whole_does_not_have(charset):
    """CSV has no end mark: the last field alone may be short. Half a character is never passed over."""
    text = 'a,b\n1,"é"\n"x\ny",ÿÿ\n'
    document = (("\ufeff" if charset is Charset.UTF_16 else "") + text).encode(
        "utf-16-be" if charset is Charset.UTF_16 else CODECS[charset]
    )
    of = dialect(FormatName.CSV, charset=charset)
    whole = run(of, [document], ["a", "b"])
    for length in range(len(document)):
        found = outcome(of, [document[:length]], ["a", "b"])
        assert found == outcome(of, bytewise(document[:length]), ["a", "b"])
        if isinstance(found, str):
            assert found in {
                "truncated", "header-missing", "column-missing", "column-unnamed", "field-count",
                "not-utf-8", "not-in-charset",
            }  # fmt: skip
        elif found:
            assert found[:-1] == whole[: len(found) - 1]
            assert found[-1][0] == whole[len(found) - 1][0]
            assert (whole[len(found) - 1][1] or "").startswith(found[-1][1] or "")
