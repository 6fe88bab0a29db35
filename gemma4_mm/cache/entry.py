"""What a cache holds per key: one array, and what was planned of the item."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """One encoded item.

    Attributes:
        values: its array; read-only once a cache holds it.
        plan: JSON types, such as the patch grid.
    """

    values: NDArray[Any]
    plan: Mapping[str, Any]

    @property
    def n_bytes(self) -> int:
        """What it costs."""
        return self.values.nbytes

    def digest(self, key: str) -> str:
        """SHA-256 over everything, key included, so that an entry under another name is no entry."""
        header = [key, dict(self.plan), self.values.dtype.name, list(self.values.shape)]
        digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
        digest.update(np.ascontiguousarray(self.values).reshape(-1).view(np.uint8).data)
        return digest.hexdigest()
