"""What a network has learned: named arrays that cannot be changed.

A method is a frozen dataclass, compared and hashed by its fields, and JAX compiles anew for
each method that differs. Weights are one of those fields: they are equal where their digest
is, and their arrays travel beside the method, in its summary, so that methods that differ
in nothing else share compiled code.
"""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np


class Weights:
    """Arrays by name, float32, read-only; equal to others of the same digest.

    Args:
        arrays: Arrays by name; copied.

    >>> Weights({"bias": np.zeros(3)})
    Weights('ed4d7bfd', 3 numbers)
    """

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        """Copy the arrays, and digest them."""
        """Copy the arrays and take their digest."""
        copies = {}
        for name in sorted(arrays):
            copy = np.array(arrays[name], np.float32, order="C", copy=True)
            copy.flags.writeable = False
            copies[name] = copy
        self.arrays: Mapping[str, np.ndarray] = MappingProxyType(copies)
        digest = hashlib.sha256()
        for name, array in copies.items():
            digest.update(f"{name} {array.shape} ".encode())
            digest.update(array.tobytes())
        self.digest: str = digest.hexdigest()

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return sum(array.size for array in self.arrays.values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Weights) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Weights('{self.digest[:8]}', {self.size} numbers)"

    def __reduce__(self) -> tuple[Any, ...]:
        return Weights, (dict(self.arrays),)
