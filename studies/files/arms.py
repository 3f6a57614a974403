"""The arms that a curve compares."""

from typing import NamedTuple


class Arm(NamedTuple):
    """One arm: the strategy of its runs, its field in an answer and the key in JSON, and what people read."""

    strategy: str
    field: str
    words: str


SCRATCH, FINE_TUNE = "scratch", "fine-tune"
ARMS = (Arm(FINE_TUNE, "fine_tune", "fine-tuned"), Arm(SCRATCH, "scratch", "from scratch"))  # as answers list them
IN_WORDS = {name: arm.words for arm in ARMS for name in (arm.strategy, arm.field)}
