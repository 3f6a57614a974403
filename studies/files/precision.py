"""The precisions that networks are trained in: runs of two precisions are never in one pair, one curve or one pool.

What is stored and shown of float32 is named without it, as all of it was before there was another. Imports nothing.
"""

FLOAT32, BF16 = "float32", "bf16"
PRECISIONS = (FLOAT32, BF16)


def with_precision(name: str, precision: str | None) -> str:
    """Return a network's or a table's name, with the precision of its runs where that is known and not float32."""
    return name if precision in (None, FLOAT32) else f"{name}, {precision}"


def in_words(precision: str | None) -> str:
    """Return what a precision is called in a sentence."""
    return precision or "an unknown precision"


def standing_order(precision: str | None) -> int:
    """Return the place of a precision among equals: float32 first, the unknown one last."""
    return PRECISIONS.index(precision) if precision in PRECISIONS else len(PRECISIONS)
