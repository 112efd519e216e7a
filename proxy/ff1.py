"""FF1, format-preserving encryption (NIST SP 800-38G, Algorithms 7 and 8), of many values at once.

    strings   of n characters of an alphabet of r: a permutation of all r**n of them, FF1 in radix r
    numbers   below any bound: FF1 in radix 2 over as many bits as the bound needs, again while the
              result is not below it (cycle walking: less than twice on average)

A domain has at least 10**6 values (Draft SP 800-38G Rev. 1): over fewer, pairs of values and tokens
can be used to find others. Nothing is authenticated: each string of the form is a token of something.

Two roads to one result, held against each other by property: libffx, value by value, for a few and
for long ones; for columns, each of the ten rounds over all values at once, as AES then takes the
blocks of a round in one call. Long is whatever needs more than one block of AES a round, or halves
of 56 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NoReturn

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from ffx import FF1

SMALLEST_DOMAIN: Final = 10**6
FEW: Final = 16
"""Fewer values than these are not worth the set-up of columns."""
_ROUNDS: Final = 10
_BLOCK: Final = 16
_OCTET: Final = np.uint64(256)

_Words = npt.NDArray[np.uint64]
_Blocks = npt.NDArray[np.uint64]
"""Of two words each, in network order."""


class Ff1:
    """FF1 under one AES key (16, 24 or 32 bytes). Threads may share it."""

    __slots__ = ("_aes", "_key", "_numbers", "_strings")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._aes = algorithms.AES(key)
        self._numbers = FF1(key)
        self._strings: dict[str, FF1] = {}

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a cipher holds a key and is not pickled or copied")

    def strings(
        self, texts: Sequence[str], *, alphabet: str, tweaks: Sequence[bytes], back: bool = False
    ) -> list[str]:
        """Encrypt strings of one length over `alphabet` (ASCII), each with its tweak; `back` decrypts.

        The tweaks have one length too. Raises ValueError where the domain is too small or a character
        is none of the alphabet's.
        """
        radix, length = len(alphabet), len(texts[0]) if texts else 0
        if len(texts) < FEW or not _is_short(radix, length, tweaks[0]):
            cipher = self._strings.get(alphabet)
            if cipher is None:
                cipher = self._strings.setdefault(alphabet, FF1(self._key, alphabet=alphabet))
            crypt = cipher.decrypt if back else cipher.encrypt
            return [crypt(text, tweak=tweak) for text, tweak in zip(texts, tweaks, strict=True)]
        if radix**length < SMALLEST_DOMAIN:
            raise ValueError("the domain is too small")
        # 1. Characters -> numerals, one row a string.
        characters = np.frombuffer(alphabet.encode("ascii"), np.uint8)
        numerals = np.full(256, radix, np.uint8)
        numerals[characters] = np.arange(radix)
        written = np.frombuffer("".join(texts).encode("ascii"), np.uint8)
        rows = numerals[written.reshape(len(texts), length)]
        if rows.max() >= radix:
            raise ValueError("a character is not in the alphabet")
        # 2. NUM of both halves, the rounds, and STR of both.
        split = length // 2
        halves = _num(rows[:, :split], radix), _num(rows[:, split:], radix)
        left, right = self._crypt(
            halves, _joined(tweaks), _Form(radix, length, tweaks[0]), back=back
        )
        given = np.empty((len(texts), length), np.uint8)
        _write(left, given[:, :split], radix)
        _write(right, given[:, split:], radix)
        # 3. Numerals -> characters.
        text = characters[given].tobytes().decode("ascii")
        return [text[at : at + length] for at in range(0, len(text), length)]

    def numbers(
        self,
        numbers: Sequence[int],
        *,
        domains: Sequence[int],
        tweaks: Sequence[bytes],
        back: bool = False,
    ) -> list[int]:
        """Encrypt numbers, each below its domain, to such, each with its tweak; `back` decrypts.

        The largest numbers of all domains have as many bits, and the tweaks one length. Raises
        ValueError where a domain is too small or a number outside of it.
        """
        length = (domains[0] - 1).bit_length() if domains else 0
        if len(numbers) < FEW or not _is_short(2, length, tweaks[0]):
            crypt = self._numbers.decrypt_int if back else self._numbers.encrypt_int
            return [
                crypt(number, domain=domain, tweak=tweak)
                for number, domain, tweak in zip(numbers, domains, tweaks, strict=True)
            ]
        if min(domains) < SMALLEST_DOMAIN:
            raise ValueError("the domain is too small")
        if not all(0 <= number < domain for number, domain in zip(numbers, domains, strict=True)):
            raise ValueError("a number is outside of the domain")
        form, tweak_blocks = _Form(2, length, tweaks[0]), _joined(tweaks)
        left, right = _halves(numbers, length)
        most_left, most_right = _halves([domain - 1 for domain in domains], length)
        walking = np.arange(len(left))
        while len(walking):
            at = left[walking], right[walking]
            at = left[walking], right[walking] = self._crypt(
                at, tweak_blocks[walking], form, back=back
            )
            most = most_left[walking], most_right[walking]
            walking = walking[(at[0] > most[0]) | ((at[0] == most[0]) & (at[1] > most[1]))]
        bits = length - length // 2
        return [a << bits | b for a, b in zip(left.tolist(), right.tolist(), strict=True)]

    def _crypt(
        self, halves: tuple[_Words, _Words], tweaks: _Blocks, form: _Form, *, back: bool
    ) -> tuple[_Words, _Words]:
        """Take NUM(A) and NUM(B) of short strings through the rounds; steps as in Algorithm 7."""
        # 1. to 4. A and B are given.
        left, right = halves
        size, moduli = form.size, form.moduli
        # 5. P, whose block of the CBC-MAC is the same for all.
        encryptor = Cipher(self._aes, modes.ECB()).encryptor()  # noqa: S305 - a CBC-MAC of one block
        first = np.frombuffer(encryptor.update(form.header), ">u8")
        # 6i. Q: the tweak, zeros, the round, NUM(B); all but the last two stay what they are.
        blocks = (tweaks ^ first).astype(">u8")
        same = blocks[:, 1].astype(np.uint64)
        for number in reversed(range(_ROUNDS)) if back else range(_ROUNDS):
            kept, other = (left, right) if back else (right, left)
            modulus = np.uint64(moduli[number % 2])
            # 6ii. and 6iii. R, of which S is the beginning: 8 bytes, or 12 for halves of over 4.
            blocks[:, 1] = same ^ kept ^ np.uint64(number << 8 * size)
            pseudo_random = encryptor.update(blocks.tobytes())
            words = np.frombuffer(pseudo_random, ">u8").reshape(-1, 2)
            # 6iv. to 6vi. c = (NUM(A) + NUM(S)) mod r**m, which never passes 64 bits.
            rest: _Words = words[:, 0].astype(np.uint64) % modulus
            if size > 4:
                octets = np.frombuffer(pseudo_random, np.uint8).reshape(-1, _BLOCK)
                for at in range(8, 12):
                    rest = (rest * _OCTET + octets[:, at]) % modulus
            changed = (other + modulus - rest if back else other + rest) % modulus
            # 6vii. to 6ix.
            left, right = (changed, kept) if back else (kept, changed)
        return left, right


class _Form:
    """What is the same for all strings of a length, steps 1 to 5."""

    def __init__(self, radix: int, length: int, tweak: bytes) -> None:
        u = length // 2
        v = length - u
        self.moduli = radix**u, radix**v
        self.size = _bytes(radix, v)
        """b: how many bytes NUM(B) takes."""
        self.header = (
            bytes((1, 2, 1)) + radix.to_bytes(3, "big") + bytes((_ROUNDS, u % 256))
            + length.to_bytes(4, "big") + len(tweak).to_bytes(4, "big")
        )  # fmt: skip
        """P."""


def _joined(tweaks: Sequence[bytes]) -> _Blocks:
    """A block for each tweak, which it begins with."""
    if len({*map(len, tweaks)}) > 1:
        raise ValueError("tweaks have one length")
    blocks = b"".join([tweak.ljust(_BLOCK, b"\0") for tweak in tweaks])
    return np.frombuffer(blocks, ">u8").reshape(-1, 2)


def _halves(numbers: Sequence[int], length: int) -> tuple[_Words, _Words]:
    """NUM of both halves of each number's bits."""
    bits = length - length // 2
    mask = (1 << bits) - 1
    return (
        np.array([number >> bits for number in numbers], np.uint64),
        np.array([number & mask for number in numbers], np.uint64),
    )


def _bytes(radix: int, numerals: int) -> int:
    """How many bytes a number of so many numerals takes: b of the standard."""
    most: int = radix**numerals - 1
    return (most.bit_length() + 7) // 8


def _is_short(radix: int, length: int, tweak: bytes) -> bool:
    """Whether halves are below 2**56, and each round takes one block of AES."""
    if radix**length > 1 << 2 * 56:
        return False
    size = _bytes(radix, length - length // 2)
    return size < 8 and len(tweak) + 1 + size <= _BLOCK


def _num(rows: npt.NDArray[np.uint8], radix: int) -> _Words:
    """NUM_radix of each row."""
    number = np.zeros(len(rows), np.uint64)
    for column in rows.T:
        number = number * radix + column
    return number


def _write(numbers: _Words, rows: npt.NDArray[np.uint8], radix: int) -> None:
    """STR_radix of each number, into its row."""
    for at in reversed(range(rows.shape[1])):
        numbers, rows[:, at] = np.divmod(numbers, radix)
