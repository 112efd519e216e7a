"""Content codings: what a store's coding says is read within limits, and what answers get says nothing more."""

from __future__ import annotations

import gzip
import random
import shutil
import subprocess
import zlib
from collections.abc import Callable

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import codings
from proxy.codings import CAUSES, Coding, Decoding, Limits, zstd
from proxy.errors import SourceRefused

WINDOW = zstd.CompressionParameter.window_log
TEXT = b"".join(b"2026-01-%02d,%d,canary-%d\n" % (n % 28, n, n * n) for n in range(400))


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


def quick(data: bytes) -> bytes:
    return brotli.compress(data, quality=2)


def framed(data: bytes) -> bytes:
    """A zstd frame with a checksum."""
    return zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})


def twice(code: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Two members, and an empty one between them."""
    return lambda data: code(data[: len(data) // 3]) + code(b"") + code(data[len(data) // 3 :])


def skippable(content: bytes) -> bytes:
    return b"\x5e\x2a\x4d\x18" + len(content).to_bytes(4, "little") + content


CODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-Gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "br": ("br", quick),
    "zstd": ("zstd", framed),
    "gzip members": ("gzip", twice(gzip.compress)),
    "zstd frames": ("zstd", twice(framed)),
    "zstd skippable": ("zstd", lambda data: skippable(b"canary") + framed(data) + skippable(b"")),
}
SINGLE = ("gzip", "deflate", "raw deflate", "br", "zstd")
each = pytest.mark.parametrize("kind", CODERS)
LIMITS = Limits()


def decoded(
    coding: str, data: bytes, *, size: int = 0, limits: Limits = LIMITS
) -> tuple[bytes, str]:
    """What was given, and the cause of the refusal; '' without one. Fed in pieces of `size`, 0: whole."""
    decoding = Decoding.of([coding], limits)
    assert decoding is not None
    out = bytearray()
    try:
        for start in range(0, len(data), size or len(data) or 1):
            for step in decoding.feed(data[start : start + (size or len(data))]):
                assert 0 < len(step) <= 1 << 18
                out += step
        decoding.finish()
    except SourceRefused as failure:
        refusal = failure
    else:
        return bytes(out), ""
    assert refusal.__context__ is None and refusal.__cause__ is None
    assert str(refusal) == CAUSES[refusal.cause]
    for again in (lambda: list(decoding.feed(b"x")), decoding.finish):
        with pytest.raises(SourceRefused) as caught:
            again()
        assert caught.value.cause == refusal.cause
    return bytes(out), refusal.cause


# ── from stores ──


@each
@given(data=st.binary(max_size=3000), size=st.integers(0, 300))
@settings(max_examples=25)
def test_what_was_coded_is_decoded_however_it_is_cut(kind, data, size):
    """Every coding gives the bytes that were coded, in pieces cut anywhere, byte by byte too."""
    coding, code = CODERS[kind]
    assert decoded(coding, code(data), size=size) == (data, "")


@each
def test_much_is_decoded_in_small_steps(kind):
    """Some MiB come in steps of at most some hundred KiB, whole and in pieces."""
    data = random.Random(1).randbytes(1 << 16) * 40
    coding, code = CODERS[kind]
    for size in (0, 10_007):
        assert decoded(coding, code(data), size=size) == (data, "")


@pytest.mark.parametrize("kind", SINGLE)
@pytest.mark.parametrize("size", [0, 1])
def test_truncated_at_every_offset(kind, size):
    """A coding that ends before it is complete is refused wherever it was cut, and gives a prefix alone."""
    coding, code = CODERS[kind]
    whole = code(TEXT)
    for end in range(0, len(whole), 1 if size == 0 else 37):
        out, cause = decoded(coding, whole[:end], size=size)
        assert cause == "coding-truncated" and TEXT.startswith(out)


@pytest.mark.parametrize("kind", SINGLE)
@given(junk=st.binary(min_size=4, max_size=20), size=st.integers(0, 40))
@settings(max_examples=25)
def test_trailing_junk(kind, junk, size):
    """What follows a coding and is none is refused, after all that was decoded or before it."""
    coding, code = CODERS[kind]
    out, cause = decoded(coding, code(TEXT) + b"\0" + junk, size=size)
    assert cause == "coding-malformed" and TEXT.startswith(out)


@pytest.mark.parametrize("kind", SINGLE)
def test_nothing_but_junk(kind):
    """A coding that is none at all is refused, and so is an empty one."""
    coding, _ = CODERS[kind]
    assert decoded(coding, b"\xff" * 64) == (b"", "coding-malformed")
    assert decoded(coding, b"") == (b"", "coding-truncated")


@pytest.mark.parametrize("kind", ["gzip", "deflate", "zstd"])
def test_a_bad_checksum(kind):
    """A flipped bit anywhere is refused, or has no influence: nothing else than what was coded is whole."""
    coding, code = CODERS[kind]
    whole = code(TEXT)
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        out, cause = decoded(coding, bytes(damaged))
        assert cause or out == TEXT
    assert decoded(coding, whole[:-1] + bytes([whole[-1] ^ 1]))[1] == "coding-malformed"


@given(data=st.data(), kind=st.sampled_from(sorted(CODERS)))
@settings(max_examples=60)
def test_the_outcome_does_not_depend_on_the_pieces(kind, data):
    """Damaged or not, whole or in pieces, the same is refused for the same cause."""
    coding, code = CODERS[kind]
    whole = bytearray(code(TEXT))
    for _ in range(data.draw(st.integers(0, 2))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(whole)))
    causes = [decoded(coding, bytes(whole[:end]), size=size)[1] for size in (0, 1, 100)]
    assert causes == causes[:1] * 3


def test_gzip_headers_as_rfc_1952_has_them():
    """Extra fields, a name, a comment and a header checksum are read over; a wrong one is refused."""
    plain = gzip.compress(TEXT, mtime=7)
    head = b"\x1f\x8b\x08\x1e" + plain[4:10] + b"\x04\0AB\0\0" + b"canary.csv\0" + b"canary\0"
    checksum = (zlib.crc32(head) & 0xFFFF).to_bytes(2, "little")
    assert decoded("gzip", head + checksum + plain[10:], size=3) == (TEXT, "")
    wrong = bytes([checksum[0] ^ 1, checksum[1]])
    assert decoded("gzip", head + wrong + plain[10:]) == (b"", "coding-malformed")


def test_gzip_with_zeros_after_it():
    """Zeros that tape drives add are no member of a gzip file (RFC 1952 §2.2)."""
    assert decoded("gzip", gzip.compress(TEXT) + bytes(512))[1] == "coding-malformed"


def test_dictionaries_that_nobody_agreed_on():
    """A zlib stream or a zstd frame that needs a dictionary is refused."""
    compressor = zlib.compressobj(zdict=b"canary" * 9)
    wanting = compressor.compress(TEXT) + compressor.flush()
    assert decoded("deflate", wanting) == (b"", "coding-malformed")
    samples = [TEXT[at : at + 60] for at in range(0, 9000, 20)]
    dictionary = zstd.train_dict(samples, 2000)
    assert decoded("zstd", zstd.compress(TEXT, zstd_dict=dictionary)) == (b"", "coding-malformed")


@pytest.mark.parametrize(("log", "cause"), [(23, ""), (24, "coding-malformed")])
def test_the_window_of_zstd(log, cause):
    """A frame that needs a window of more than 8 MiB is refused (RFC 9659), before anything of it is held."""
    compressor = zstd.ZstdCompressor(options={WINDOW: log})
    coded = compressor.compress(TEXT, compressor.FLUSH_BLOCK) + compressor.flush()
    assert decoded("zstd", coded) == (b"" if cause else TEXT, cause)


def test_the_large_windows_of_br():
    """A br stream with a large window, which no browser takes, is refused (RFC 7932 §9.1 reserves it)."""
    assert decoded("br", b"\x11\x1a" + brotli.compress(TEXT)) == (b"", "coding-malformed")


BOMB = bytes(8 << 20)


@pytest.mark.parametrize("kind", ["gzip", "deflate", "raw deflate", "br", "zstd", "zstd frames"])
@pytest.mark.parametrize("size", [0, 1, 1000])
def test_a_bomb_is_refused_at_the_ratio(kind, size):
    """E47: what decodes to more than the ratio allows, beyond a MiB, is refused where it does."""
    coding, code = CODERS[kind]
    coded = code(BOMB)
    out, cause = decoded(coding, coded, size=size)
    assert cause == "coding-ratio" and 3 << 18 <= len(out) < 2 << 20
    assert decoded(coding, coded, size=size, limits=Limits(ratio=4096)) == (BOMB, "")


def test_one_mib_has_no_ratio():
    """A short answer may be as repetitive as it is."""
    for coding, code in CODERS.values():
        assert decoded(coding, code(bytes(1 << 20)), limits=Limits(ratio=1)) == (bytes(1 << 20), "")


def test_the_limit_counts_coded_bytes_too():
    """What never decodes to anything, such as skippable frames, ends at the byte limit."""
    endless = skippable(bytes(4000)) * 100
    assert decoded("zstd", endless, limits=Limits(bytes=100_000)) == (b"", "coded-too-long")
    random_ = random.Random(2).randbytes(50_000)
    assert (
        decoded("gzip", gzip.compress(random_), limits=Limits(bytes=40_000))[1] == "coded-too-long"
    )


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_members_that_hold_nothing(kind):
    """So many members that decoding them is all the work there is are refused; some thousand small ones pass."""
    coding, code = CODERS[kind]
    assert decoded(coding, code(b"") * 1024) == (b"", "")
    assert decoded(coding, code(b"") * 1025) == (b"", "coding-members")
    assert decoded(coding, code(bytes(range(256)) * 32) * 3000)[1] == ""


@pytest.mark.parametrize(
    "stated",
    [["gzip, br"], ["gzip", "br"], ["gzip", "gzip"], ["identity", "identity"], ["compress"], [""],
     ["gzip;q=1"], ["*"], ["gzıp"], ["aws-chunked"], ["identity, gzip"], ["exi"], ["dcz"]],
)  # fmt: skip
def test_unknown_doubled_and_twice_sent_codings(stated):
    """E46: an unknown coding, two of them, or one that is stated twice is refused."""
    with pytest.raises(SourceRefused) as caught:
        Decoding.of(stated, LIMITS)
    assert caught.value.cause == "content-coding"


@pytest.mark.parametrize("stated", [[], ["identity"], [" Identity\t"]])
def test_no_coding(stated):
    """Where an answer has no coding, there is nothing to take off."""
    assert Decoding.of(stated, LIMITS) is None


# ── answers ──


def coded(coding: str, blocks: list[bytes]) -> list[bytes]:
    compressor = Coding(coding)
    out = [compressor.block(b, last=n == len(blocks) - 1) for n, b in enumerate(blocks)]
    assert compressor.coding == coding
    return out


both = pytest.mark.parametrize("coding", ["gzip", "zstd"])
BLOCKS = st.lists(st.binary(min_size=1, max_size=2000), min_size=2, max_size=5)


@both
@given(blocks=BLOCKS)
@settings(max_examples=40)
def test_whoever_has_a_block_has_its_rows(coding, blocks):
    """Each block can be decoded as soon as it is there; the last one completes the coding, and none is empty."""
    decoding = Decoding.of([coding], LIMITS)
    assert decoding is not None
    for plain, block in zip(blocks, coded(coding, blocks), strict=True):
        assert block
        assert b"".join(decoding.feed(block)) == plain
    decoding.finish()


@both
@given(data=st.binary(min_size=1024, max_size=5000))
@settings(max_examples=40)
def test_an_only_block_is_coded_in_one_go(coding, data):
    """An answer of one block is one member, which readers of others take."""
    (out,) = coded(coding, [data])
    read = gzip.decompress if coding == "gzip" else zstd.decompress
    assert read(out) == data
    assert coded(coding, [data]) == [out]


@both
def test_a_short_answer_is_left_as_it_is(coding):
    """Under a KiB nothing is coded, unless the answer is not wanted without."""
    short = b"x" * 1023
    compressor = Coding(coding)
    assert compressor.block(short, last=True) == short and compressor.coding == codings.IDENTITY
    compressor = Coding(coding, always=True)
    assert decoded(coding, compressor.block(short, last=True)) == (short, "")
    assert compressor.coding == coding
    compressor = Coding(coding)
    begun = compressor.block(b"x", last=False)  # what is not the last block is of a long answer
    assert compressor.coding == coding and begun != b"x"


@both
@pytest.mark.parametrize("count", [1, 3])
def test_the_bytes_are_a_function_of_the_blocks_alone(coding, count):
    """Neither time nor what was coded before has a part in it: gzip's header has no time and no name."""
    chance = random.Random(3)
    blocks = [TEXT * 20 + chance.randbytes(500) for _ in range(count)]
    first = coded(coding, blocks)
    coded(coding, [chance.randbytes(10_000), TEXT])
    assert coded(coding, blocks) == first
    if coding == "gzip":
        assert first[0][:8] == b"\x1f\x8b\x08\0\0\0\0\0"


@both
def test_readers_of_others_take_it(coding, tmp_path):
    """The programs of gzip and zstd find nothing wrong with it."""
    program = shutil.which(coding)
    if program is None:
        pytest.skip(f"{coding} is not installed")
    blocks = [TEXT * 30, TEXT * 20, b"end"]
    for name, out in (("many", coded(coding, blocks)), ("one", coded(coding, [b"".join(blocks)]))):
        path = tmp_path / f"{name}.{'gz' if coding == 'gzip' else 'zst'}"
        path.write_bytes(b"".join(out))
        read = subprocess.run([program, "-dc", str(path)], capture_output=True, check=True)
        assert read.stdout == b"".join(blocks)


@pytest.mark.parametrize(
    ("accepted", "compressed", "expected"),
    [
        (("zstd", "gzip", "identity"), False, ("zstd", False)),
        (("gzip", "identity"), False, ("gzip", False)),
        (("gzip",), False, ("gzip", True)),
        (("identity", "gzip"), False, None),
        (("identity",), True, None),
        (("zstd", "identity"), True, None),
        (("zstd", "gzip"), True, ("zstd", True)),
    ],
)
def test_what_is_done_to_an_answer(accepted, compressed, expected):
    """What is compressed already is left as it is, unless nobody takes it so."""
    coding = Coding.of(accepted, compressed=compressed)
    assert expected == (None if coding is None else (coding.coding, coding.always))
