"""How a network's signals are scaled; what reads no torch needs the names too."""

from typing import Literal

Scaling = Literal["set", "record", "lead"]  # by the training set; each record, or crop, by itself; each of its leads
SCALINGS: tuple[Scaling, ...] = ("set", "record", "lead")
IN_WORDS: dict[Scaling, str] = {
    "set": "scaled by the training records",
    "record": "each scaled by itself",
    "lead": "each lead scaled by itself",
}
