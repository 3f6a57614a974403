"""Text of numbers: a row a sample, a column a lead."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def csv_bytes(
    signals_uv: NDArray[np.integer[Any]],
    leads: Sequence[str] = (),
    *,
    separator: str = ",",
    decimal: str = ".",
    factor: float = 1.0,
    before: str = "",
    end: str = "\n",
) -> bytes:
    """Return a text with the leads as its first line, if any; a number is a microvolt times ``factor``."""
    numbers = np.asarray(signals_uv).T * factor
    rows = [separator.join(f"{number:.10g}".replace(".", decimal) for number in row) for row in numbers.tolist()]
    names = [separator.join(leads)] if leads else []
    return before.encode("latin-1") + end.join([*names, *rows, ""]).encode("latin-1")
