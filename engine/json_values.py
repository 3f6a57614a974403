"""Numbers as JSON has them: no NaN, no more digits than are known."""

import math
from math import isfinite
from typing import Any


def without_nan(value: Any) -> Any:
    """Return a JSON value, its numbers that are NaN or infinite replaced by None."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


_DIGITS = 4


def finite(node: Any) -> Any:
    """Return a document with null for what is not a JSON number, as a sum at an absurd price that runs over."""
    if isinstance(node, dict):
        return {name: finite(value) for name, value in node.items()}
    if isinstance(node, list | tuple):
        return [finite(value) for value in node]
    return None if isinstance(node, float) and not isfinite(node) else node


def rounded(values: dict[str, Any], digits: int = _DIGITS) -> dict[str, Any]:
    """Return the values with their floats rounded."""
    return {name: round(value, digits) if isinstance(value, float) else value for name, value in values.items()}
