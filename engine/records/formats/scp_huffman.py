"""The Huffman codes of SCP-ECG: the standard's own table, a table that a record brings along, and their decoding.

After EN 1064 (ISO 11073-91064), section 2 and annex C. A code is a prefix, which a table lists, and up to 16 bits of a
number that follow it as they are. Bits are sent from the highest of a byte to its lowest; a table writes its prefixes
the other way round, their first bit as the lowest.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from struct import Struct

import numpy as np
from numpy.typing import NDArray

from engine.records.record import RecordError

_DEFAULT = 19999  # stands for the standard's own table where a record gives the number of its tables
_COUNT = Struct("<H")
_CODE = Struct("<BBBhI")  # bits of the prefix, of all of the code, 1 for a value and 0 for another table, value, prefix
_LONGEST_PREFIX, _LONGEST_NUMBER = 32, 16  # bits
_LONGEST_CODE = _LONGEST_PREFIX + _LONGEST_NUMBER
_LOOKUP = 16  # bits
_Integers = NDArray[np.int64]


@dataclass(frozen=True)
class HuffmanCode:
    """A prefix, its first bit the highest, of ``n_bits``; the value it stands for, or bits of a number that follow."""

    prefix: int
    n_bits: int
    value: int
    n_following: int = 0


class HuffmanTable:
    """Codes, and what every sequence of bits begins with. Raises RecordError where two codes cannot be told apart."""

    def __init__(self, codes: tuple[HuffmanCode, ...]) -> None:
        ordered = sorted(codes, key=lambda code: code.prefix << (_LONGEST_PREFIX - code.n_bits))
        starts, self.codes, end = [], list[HuffmanCode | None](), 0
        for code in ordered:
            start = code.prefix << (_LONGEST_PREFIX - code.n_bits)
            if start < end:
                raise RecordError("its Huffman table has a code that begins another")
            if start > end:
                starts.append(end)
                self.codes.append(None)  # what no code begins with
            starts.append(start)
            self.codes.append(code)
            end = start + (1 << (_LONGEST_PREFIX - code.n_bits))
        if end < 1 << _LONGEST_PREFIX:
            starts.append(end)
            self.codes.append(None)
        self.shortest = min(code.n_bits + code.n_following for code in codes)
        self._starts = np.array(starts, np.uint64)
        self._prefix_bits = np.array([code.n_bits if code else 0 for code in self.codes], np.uint64)
        self._following = np.array([code.n_following if code else 0 for code in self.codes], np.int64)
        self._values = np.array([code.value if code else 0 for code in self.codes], np.int64)
        self._steps = (self._prefix_bits.astype(np.int64) + self._following).astype(np.uint8)
        self._short = max(code.n_bits for code in codes) <= _LOOKUP

    def decode(self, data: bytes, n_values: int) -> _Integers:
        """Return the ``n_values`` values (samples,) of a stream of bits, which has to end where they do.

        Raises RecordError for fewer, for more (but for the zeros that fill up its last byte, or its last two where the
        number of bytes was made even), and for bits that are not a code.
        """
        n_bits = 8 * len(data)
        words = np.lib.stride_tricks.sliding_window_view(np.frombuffer(data + bytes(8), np.uint8), 8)[: len(data)]
        windows = (np.ascontiguousarray(words).view(">u8").astype(np.uint64) << np.arange(8, dtype=np.uint64)).ravel()
        begun = self._begun(windows)  # by the code that would begin at each bit
        steps = self._steps[begun].tobytes() + bytes(_LONGEST_CODE + 1)  # beyond the end there is no code
        positions = [0] * n_values
        position = 0
        for k in range(n_values):
            positions[k] = position
            position += steps[position]
        if position > n_bits or positions[-1] >= n_bits:
            raise RecordError("its Huffman data end before its samples do")
        at = np.array(positions)
        chosen = begun[at]
        if not self._steps[chosen].all():
            raise RecordError("its Huffman data have a code that is not in the table")
        filled = n_bits - position
        if filled >= 16 or (filled >= 8 and (len(data) % 2 or data[-1])):
            raise RecordError("its Huffman data go on after its samples end")
        values: _Integers = self._values[chosen]
        following = self._following[chosen]
        numbers = np.flatnonzero(following)
        bits = (windows[at[numbers]] << self._prefix_bits[chosen[numbers]]).astype(np.int64)
        values[numbers] = bits >> (64 - following[numbers])  # an arithmetic shift: the first bit is the sign
        return values

    def _begun(self, windows: NDArray[np.uint64]) -> NDArray[np.intp]:
        if self._short:
            begun: NDArray[np.intp] = self._lookup[windows >> np.uint64(64 - _LOOKUP)]
            return begun
        return self._search(windows >> np.uint64(64 - _LONGEST_PREFIX))

    @cached_property
    def _lookup(self) -> NDArray[np.intp]:
        return self._search(np.arange(1 << _LOOKUP, dtype=np.uint64) << np.uint64(_LONGEST_PREFIX - _LOOKUP))

    def _search(self, bits: NDArray[np.uint64]) -> NDArray[np.intp]:
        return np.asarray(np.searchsorted(self._starts, bits, side="right") - 1, np.intp)


@lru_cache(maxsize=1)
def default_table() -> HuffmanTable:
    """Return the standard's own table: 0, 1 to 8 with their signs, and numbers of 8 and of 16 bits."""
    small = [HuffmanCode(0, 1, 0)]
    for magnitude in range(1, 9):  # as many ones, a zero, the sign
        ones = ((1 << magnitude) - 1) << 2
        small += [
            HuffmanCode(ones, magnitude + 2, magnitude),
            HuffmanCode(ones | 1, magnitude + 2, -magnitude),
        ]
    return HuffmanTable((*small, HuffmanCode(0x3FE, 10, 0, 8), HuffmanCode(0x3FF, 10, 0, 16)))


def read_table(section: bytes) -> HuffmanTable | None:
    """Return the table of a record's section 2 (its header left out), None where it has no table.

    Raises RecordError for a damaged table, for several tables, between which codes switch, and for a code with a value
    and bits of its own: readers differ in what such mean.
    """
    if len(section) < _COUNT.size:
        raise RecordError("its section 2 is too short")
    n_tables = _COUNT.unpack_from(section)[0]
    if n_tables == _DEFAULT:
        return default_table()
    if n_tables == 0:
        return None
    if n_tables > 1:
        raise RecordError("it switches between several Huffman tables, which is not read")
    if len(section) < 2 * _COUNT.size:
        raise RecordError("its section 2 is too short")
    n_codes = _COUNT.unpack_from(section, _COUNT.size)[0]
    end = 2 * _COUNT.size + n_codes * _CODE.size
    if not n_codes or len(section) < end:
        raise RecordError("its section 2 is shorter than its Huffman table")
    return HuffmanTable(tuple(_code(*fields) for fields in _CODE.iter_unpack(section[2 * _COUNT.size : end])))


def _code(prefix_bits: int, all_bits: int, mode: int, value: int, prefix: int) -> HuffmanCode:
    if mode != 1:
        raise RecordError("it switches between several Huffman tables, which is not read")
    n_following = all_bits - prefix_bits
    if not 1 <= prefix_bits <= _LONGEST_PREFIX or not 0 <= n_following <= _LONGEST_NUMBER or prefix >> prefix_bits:
        raise RecordError("its Huffman table has a code of impossible length")
    if n_following and value:
        raise RecordError("its Huffman table has a code with a value and bits of its own, which is not read")
    reversed_prefix = int(f"{prefix:0{prefix_bits}b}"[::-1], 2)
    return HuffmanCode(reversed_prefix, prefix_bits, value, n_following)
