"""Spaces that have been made: the latest as they are, many more of them packed.

A space of an accelerator has thousands of candidates. Making it takes half a second, unpacking it a tenth of that, and
as it is it takes a hundred times the memory. The operator looks at hundreds of tunings again and again.
"""

from __future__ import annotations

import math
import pickle
import zlib
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import fields
from threading import Lock

import numpy as np
import numpy.typing as npt
from cachetools import LRUCache

from haqa_contract import Configuration
from haqa_operator.search.space import SearchSpace, size_of

MOST_PACKED_BYTES = 32 * 2**20
"""Some five million candidates."""

_FIELDS = set(Configuration.model_fields)
_PACKED_APART = ("candidates", "bounds", "speeds", "closed", "index")
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
    """A space of which nothing is closed yet, for `unpack`: candidates share most of what they consist of."""
    if space.closed:
        raise ValueError(f"{len(space.closed)} candidates are closed; pack the space as it was before any trial")
    rows = [(c.scheme, c.algorithm, c.group_size, c.variant, c.engine) for c in space.candidates]
    rest = {field.name: getattr(space, field.name) for field in fields(space) if field.name not in _PACKED_APART}
    numbers = [_numbers(space, space.bounds), _numbers(space, space.speeds)]
    return zlib.compress(pickle.dumps((rows, numbers, rest), pickle.HIGHEST_PROTOCOL), _QUICKLY)


def unpack(packed: bytes) -> SearchSpace:
    """Args:
    packed: Of `pack`, in this process.
    """
    rows, (bounds, speeds), rest = pickle.loads(zlib.decompress(packed))  # noqa: S301, nobody else's bytes
    candidates = tuple(
        Configuration.model_construct(
            _FIELDS, scheme=scheme, algorithm=algorithm, group_size=group_size, variant=variant, engine=engine
        )
        for scheme, algorithm, group_size, variant, engine in rows
    )
    return SearchSpace(
        candidates=candidates,
        bounds=_by_candidate(candidates, bounds),
        speeds=_by_candidate(candidates, speeds),
        **rest,
    )


def _numbers(space: SearchSpace, known: Mapping[Configuration, float]) -> npt.NDArray[np.float64]:
    """For each candidate, NaN where nothing is known."""
    none = float("nan")
    return np.array([known.get(candidate, none) for candidate in space.candidates], dtype=np.float64)


def _by_candidate(
    candidates: tuple[Configuration, ...], numbers: npt.NDArray[np.float64]
) -> dict[Configuration, float]:
    pairs = zip(candidates, numbers.tolist(), strict=True)
    return {candidate: number for candidate, number in pairs if not math.isnan(number)}
