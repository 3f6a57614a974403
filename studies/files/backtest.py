"""The rules that the advice is held against in a backtest, and what each is called. Imports nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

POLICIES = {
    "advice": "this advice",
    "always_fine_tune": "always fine-tuning",
    "always_scratch": "always from scratch",
    "below_5000": "fine-tuning below 5,000",
    "last_value": "the arm ahead at the largest measured size",
    "keep_on_validation": "the better of both on validation",
}
ARM_POLICIES = {  # where all arms were measured
    "advice": "the arm named first",
    "always_fine_tune": "always fine-tuning",
    "always_scratch": "always from scratch",
    "always_linear_probe": "always a linear probe",
    "always_random_convolutions": "always random convolutions",
    "keep_on_validation": "the best of all on validation",
}
_BEYOND = ("beyond_expected", "beyond_true")
_INTERVALS = ("regret_ci_sites", "above_floor_ci", "above_floor_ci_sites", "advice_minus_ci")
BACKTEST = "backtest.json"  # next to the curves file: what ``ecgadvise backtest --json`` printed


@dataclass(frozen=True)
class Backtest:
    """Figures of ``ecgadvise backtest``; None where it gives none."""

    tasks: int
    cells: int
    regret: Mapping[str, float | None]
    coverage: Mapping[str, float | None]
    abstention: float | None
    brier: float | None
    arm_cells: int = 0
    arm_regret: Mapping[str, float | None] = field(default_factory=dict)


def _parse_backtest(document: Mapping[str, Any]) -> Backtest:
    arms = document.get("arms") or {"cells": 0, "regret": {}}
    return Backtest(
        tasks=len(document["tasks"]),
        cells=int(document["cells"]),
        regret={str(name): _figure(value) for name, value in document["regret"].items()},
        coverage={str(name): _figure(value) for name, value in document["coverage"].items()},
        abstention=_figure(document["abstention"]),
        brier=_figure(document["brier"]["advice"]),
        arm_cells=int(arms["cells"]),
        arm_regret={str(name): _figure(value) for name, value in arms["regret"].items()},
    )


def _figure(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError(f"{str(value)[:40]} is not a figure of a backtest")
    return float(value)


def check_backtest(document: Any) -> dict[str, Any]:
    """Return a document of ``ecgadvise backtest --json``, all of whose figures can be shown. Raises ValueError."""
    try:
        cards = [document, *document.get("by_scheme", {}).values()]
        known = [len(document["tasks"]), *(card["cells"] for card in cards)]
        known += [end for ends in document.get("regret_ci", {}).values() if ends is not None for end in _two(ends)]
        may_lack = [document["abstention"], document["brier"]["advice"], document["brier"]["base_rate"]]
        may_lack += [value for card in cards for name in ("regret", "coverage") for value in card[name].values()]
        may_lack += [*(card["regret"]["advice"] for card in cards), *document["width"].values()]
        if arms := document.get("arms"):
            known += [arms["cells"], document["margin"]]
            known += [end for ends in arms["regret_ci"].values() if ends is not None for end in _two(ends)]
            may_lack += [*arms["regret"].values(), *(arms[name] for name in ("bound", "bounded", "beyond"))]
        for card in (*cards, *([arms] if arms else [])):
            may_lack += _newer_figures(card)
        if "crps" in document:
            known += [document["margin"]]
            may_lack += [card["from_500"][name]["gain"] for card in cards for name in ("coverage", "width", "crps")]
            may_lack += [card[name]["gain"] for card in cards for name in ("coverage", "coverage_se", "width")]
            may_lack += [
                card[name][one] for card in cards for name in ("crps", "log_score") for one in document["crps"]
            ]
        wrong = [one for one in (*known, *(one for one in may_lack if one is not None)) if not _is_figure(one)]
    except KeyError as error:
        raise ValueError(f"it lacks {error}") from None
    except (TypeError, AttributeError, OverflowError):
        raise ValueError("its parts are not what they should be") from None
    if wrong:
        raise ValueError(f"{str(wrong[0])[:40]} is not a figure")
    return dict(document)


def _newer_figures(card: Mapping[str, Any]) -> list[Any]:
    """Return those figures of a card that documents of earlier versions lack, the ends of its intervals among them."""
    found = [card.get(name) for name in ("distinct_cells", "floor", "bounded", "beyond", *_BEYOND)]
    found += [value for name in ("above_floor", "advice_minus") for value in card.get(name, {}).values()]
    for name in _INTERVALS:
        found += [end for ends in card.get(name, {}).values() if ends is not None for end in _two(ends)]
    return found


def _two(ends: Sequence[Any]) -> Sequence[Any]:
    if len(ends) != 2:
        raise ValueError("an interval has two ends")
    return ends


def _is_figure(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
