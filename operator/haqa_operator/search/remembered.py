"""Spaces that have been made: the latest as they are, many more of them packed.

A space of an accelerator has thousands of candidates. Making it takes half a second, unpacking it a tenth of that, and
as it is it takes a hundred times the memory. The operator looks at hundreds of tunings again and again.
"""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Callable, Hashable
from contextlib import suppress
from threading import Lock

from cachetools import LRUCache

from haqa_operator.search.space import SearchSpace, size_of

MOST_PACKED_BYTES = 32 * 2**20
"""Some three million candidates."""

_QUICKLY = 1


class RememberedSpaces:
    """Makes a space once for the same inputs, as long as there is room.

    Args:
        candidates: Of all spaces together that are kept as they are.
        packed_bytes: Of all that are kept packed.
    """

    def __init__(self, candidates: int, packed_bytes: int = MOST_PACKED_BYTES) -> None:
        self._whole: LRUCache[Hashable, SearchSpace] = LRUCache(candidates, getsizeof=size_of)
        self._packed: LRUCache[Hashable, bytes] = LRUCache(packed_bytes, getsizeof=len)
        self._lock = Lock()

    def get(self, inputs: Hashable, make: Callable[[], SearchSpace]) -> SearchSpace:
        """The space of these inputs, of which it is a function. Raises what `make` raises."""
        with self._lock:
            space, packed = self._whole.get(inputs), self._packed.get(inputs)
        if space is not None:
            return space
        if packed is not None:
            space = unpack(packed)
        else:
            space = make()
            packed = pack(space)
        # Where it is larger than all that may be kept, it is made again each time.
        with self._lock, suppress(ValueError):
            self._packed[inputs] = packed
            self._whole[inputs] = space
        return space


def pack(space: SearchSpace) -> bytes:
    """For `unpack`. Candidates share most of what they consist of."""
    return zlib.compress(pickle.dumps(space, pickle.HIGHEST_PROTOCOL), _QUICKLY)


def unpack(packed: bytes) -> SearchSpace:
    """Args:
    packed: Of `pack`, in this process.
    """
    space: SearchSpace = pickle.loads(zlib.decompress(packed))  # noqa: S301, nobody else's bytes
    return space
