"""The arms that an answer compares: the one list of them.

Every curve is fitted to the ``PAIR``. What is known of a ``FURTHER`` arm is its difference to scratch, where it was
run: a curve may lack it.
"""

from collections.abc import Container
from typing import NamedTuple


class Arm(NamedTuple):
    """One arm: the strategy of its runs, its field in an answer and the key in JSON, and what people read.

    ``words`` name it, ``advice`` is what is said to who should train it. ``is_pretrained`` tells that it starts from a
    pre-trained network, which has to be available or to be paid for.
    """

    strategy: str
    field: str
    words: str
    advice: str
    is_pretrained: bool


SCRATCH, FINE_TUNE = "scratch", "fine-tune"
LINEAR_PROBE, RANDOM_CONVOLUTIONS = "linear-probe", "random-convolutions"
PAIR = (
    Arm(FINE_TUNE, "fine_tune", "fine-tuned", "fine-tune", is_pretrained=True),
    Arm(SCRATCH, "scratch", "from scratch", "train from scratch", is_pretrained=False),
)
FURTHER = (
    Arm(LINEAR_PROBE, "linear_probe", "linear probe", "train a linear probe", is_pretrained=True),
    Arm(RANDOM_CONVOLUTIONS, "random_convolutions", "random convolutions", "use random convolutions",
        is_pretrained=False),
)  # fmt: skip
ARMS = (*PAIR, *FURTHER)  # as answers list them
CHEAPEST_FIRST = (RANDOM_CONVOLUTIONS, LINEAR_PROBE, SCRATCH, FINE_TUNE)  # regressions, then what needs no network
FURTHER_STRATEGIES = tuple(arm.strategy for arm in FURTHER)
PRETRAINED_STRATEGIES = tuple(arm.strategy for arm in ARMS if arm.is_pretrained)
IN_WORDS = {name: arm.words for arm in ARMS for name in (arm.strategy, arm.field)}


def arms_in(strategies: Container[str]) -> tuple[Arm, ...]:
    """Return the arms whose strategies are there, as answers list them."""
    return tuple(arm for arm in ARMS if arm.strategy in strategies)
