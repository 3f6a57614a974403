"""The section of the findings on the backtest: regret of the advice, of simple rules and of an oracle, and its bands.

What a backtest of an earlier version does not know is shown as not given.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.deploy.markdown import table
from studies.files.backtest import ARM_POLICIES, POLICIES

BANDS = {
    "scratch": "expected score, from scratch",
    "fine_tune": "expected score, fine-tuned",
    "gain": "gain",
    "scratch_run": "single runs, from scratch",
    "fine_tune_run": "single runs, fine-tuned",
}
COVERED = (0.85, 0.97)
_SCHEMES = {"two_largest": "two largest"}


def backtest_lines(backtests: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what every backtest found, and whether the advice beats the rules and its bands hold what they should."""
    lines: list[str] = []
    for name, found in sorted(backtests.items()):
        n = len(found["tasks"])
        lines += [f"`{name}`: {found['cells']} held-out cells of {n} task{'s' * (n != 1)} (`ecgadvise backtest`).", ""]
        said = [_distinct(found), _beats(found), *_floor(found), _holds(found["coverage"]), *_more(found)]
        lines += [*(f"- {line}" for line in said if line), ""]
        lines += [*_regret_table(found), "", *_coverage_table(found), "", *_gain_table(found), *_arms(found)]
        lines += _by_labels(found)
    return lines


def _distinct(found: Mapping[str, Any]) -> str:
    if found.get("distinct_cells") is None:
        return ""
    return (
        f"{found['distinct_cells']} of them were measured apart; one that several schemes predict counts once. Where "
        "whole sites are held out is shown next to all, not in them."
    )


def _floor(found: Mapping[str, Any]) -> list[str]:
    """Return what noise alone makes of a regret, and what is left of the advice's."""
    floor, above = found.get("floor"), found.get("above_floor", {}).get("advice")
    if floor is None or above is None:
        return []
    over = [
        f"over {unit} {_interval(ends)}"
        for unit, name in (("tasks", "above_floor_ci"), ("sites", "above_floor_ci_sites"))
        if (ends := found.get(name, {}).get("advice")) is not None
    ]
    lines = [
        f"An oracle that knows every expected score would be charged {floor:.4f} in these cells, because the better "
        f"arm is told from a few runs. The advice lies {above:.4f} above that ({_listed(['90 %', *over])})."
    ]
    difference, ends = (found.get(name, {}).get("always_fine_tune") for name in ("advice_minus", "advice_minus_ci"))
    if difference is not None and ends is not None:
        lines.append(f"The advice less always fine-tuning: {difference:+.4f} (90 % over tasks {_interval(ends)}).")
    return lines


def _arms(found: Mapping[str, Any]) -> list[str]:
    """Return what naming one of all arms lost, where all of them were measured."""
    arms = found.get("arms")
    if not arms or not arms["cells"]:
        return []
    above, above_ci = arms.get("above_floor", {}), arms.get("above_floor_ci", {})
    rows = [
        (words, _number(arms["regret"].get(name), 4), _interval(arms["regret_ci"].get(name)),
         _number(above.get(name), 4), _interval(above_ci.get(name)))
        for name, words in ARM_POLICIES.items()
    ]  # fmt: skip
    rows.append(("an oracle", _number(arms.get("floor"), 4), "-", "-", "-"))
    return [
        f"All four arms were measured in {arms['cells']} cells of held-out tasks. The 90 % bound of the loss that "
        f"comes with the arm named first is {_number(arms['bound'], 4)} on average, at most {found['margin']:g} in "
        f"{_percent(arms['bounded'])} of them, and the measured loss was beyond it in {_percent(arms['beyond'])}"
        f"{_of_these(arms)}.",
        "",
        *table(
            ("lost to the best of all arms", "mean", "90 % over tasks", "above the oracle", "90 % over tasks"), rows
        ),
        "",
    ]


def _by_labels(found: Mapping[str, Any]) -> list[str]:
    """Return what knowing the labels of a held-out task, and their shares of the records, does to its forecast."""
    both = found.get("by_labels")
    if not both:
        return []
    cards = {
        f"{_SCHEMES.get(name, name)}, {words} ({cards[key]['cells']})": cards[key]
        for name, cards in both.items()
        for key, words in (("not_given", "not given"), ("given", "given"))
    }
    rows = [
        *((f"{words}: share held", *(_number(card["coverage"].get(name), 2) for card in cards.values()))
          for name, words in BANDS.items()),
        *((f"{words}: {score}", *(_number(card[key][name], digits) for card in cards.values()))
          for name, words in BANDS.items() if not name.endswith("_run")
          for score, key, digits in (("width", "width", 3), ("CRPS", "crps", 4), ("log score", "log_score", 2))),
        ("regret of the advice", *(_number(card["regret"]["advice"], 4) for card in cards.values())),
        ("not enough evidence", *(_percent(card["abstention"]) for card in cards.values())),
    ]  # fmt: skip
    said = "The same held-out tasks, forecast without their labels and given them with their shares of the records:"
    return [said, "", *table(("labels", *cards), rows), ""]


def _of_these(card: Mapping[str, Any]) -> str:
    """Say what the noise of the runs makes of a share of measured losses beyond their bound."""
    expected, true = card.get("beyond_expected"), card.get("beyond_true")
    if expected is None:
        return ""
    estimated = "" if true is None else f"; of true losses an estimated {true:.0%} are"
    return f" (with the noise of the runs {expected:.0%} were to be expected{estimated})"


def _beats(found: Mapping[str, Any]) -> str:
    """Say what the advice loses, and which rules lose more, less, or what cannot be told from it (90 % over tasks)."""
    regret, intervals = found["regret"], found.get("advice_minus_ci", {})
    advice = regret["advice"]
    if advice is None:
        return "Regret: open, no held-out cell has both arms."
    rules = {
        name: value for name, value in regret.items() if name in POLICIES and name != "advice" and value is not None
    }
    below, level, above = list[str](), list[str](), list[str]()
    for name, value in rules.items():
        low, high = intervals.get(name) or (advice - value, advice - value)
        (below if high < 0 else above if low > 0 else level).append(POLICIES[name])
    against = {"lower than that of": below, "not to be told from that of": level, "higher than that of": above}
    parts = [f"{words} {_listed(names)}" for words, names in against.items() if names]
    return f"The advice loses {advice:.4f} to the better arm on average. That is {'; '.join(parts)}."


def _holds(coverage: Mapping[str, float | None]) -> str:
    known = {name: value for name, value in coverage.items() if value is not None and name in BANDS}
    outside = [f"{BANDS[name]} ({value:.0%})" for name, value in known.items() if not COVERED[0] <= value <= COVERED[1]]
    wanted = f"{COVERED[0]:.0%} to {COVERED[1]:.0%}"
    if not known:
        return "Coverage: open, nothing was held out."
    said = f"90 % bands that do not hold {wanted} of what was measured, of all cells together"
    return f"{said}: {_listed(outside) or 'none'}."


def _more(found: Mapping[str, Any]) -> list[str]:
    brier, base = (found["brier"][name] for name in ("advice", "base_rate"))
    lines = []
    if found["abstention"] is not None:
        lines.append(f"Not enough evidence, so that the better expected score is taken: {found['abstention']:.0%}.")
    if found.get("bounded") is not None:
        lines.append(
            f"The 90 % bound of the loss that comes with the advice is at most {found['margin']:g} in "
            f"{found['bounded']:.0%}; the measured loss was beyond it in {_percent(found['beyond'])}{_of_these(found)}."
        )
    if brier is not None and base is not None:
        lines.append(f"Brier score of P(gain > margin) {brier:.3f}, of always giving its share {base:.3f}.")
    return lines


def _cards(found: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {"all": found, **{_SCHEMES.get(name, name): card for name, card in found.get("by_scheme", {}).items()}}


def _regret_table(found: Mapping[str, Any]) -> list[str]:
    cards = _cards(found)
    rows = [
        (words, *(_number(card["regret"].get(name), 4) for card in cards.values()),
         _interval(found.get("regret_ci", {}).get(name)), _interval(found.get("regret_ci_sites", {}).get(name)))
        for name, words in POLICIES.items()
    ]  # fmt: skip
    rows.append(("an oracle", *(_number(card.get("floor"), 4) for card in cards.values()), "-", "-"))
    heads = ("regret of", *(f"{scheme} ({card['cells']})" for scheme, card in cards.items()))
    return table((*heads, "all, 90 % over tasks", "over sites"), rows)


def _coverage_table(found: Mapping[str, Any]) -> list[str]:
    cards = _cards(found)
    rows = [
        (words, *(_percent(card["coverage"].get(name)) for card in cards.values()),
         _number(found["width"].get(name), 3))
        for name, words in BANDS.items()
    ]  # fmt: skip
    return table(("90 % bands that held: of the", *cards, "mean width"), rows)


def _gain_table(found: Mapping[str, Any]) -> list[str]:
    """Return the scores of the whole forecasts, and what is left of them from 500 records."""
    if "crps" not in found:
        return []
    cards = _cards(found)
    rows = [
        ("gain: 90 % bands that held, +- standard error", *(
            f"{_percent(card['coverage']['gain'])} +- {_percent(card['coverage_se']['gain'])}"
            for card in cards.values())),
        ("  their width", *(_number(card["width"]["gain"], 3) for card in cards.values())),
        *((f"{words}: {score}", *(_number(card[key][name], digits) for card in cards.values()))
          for name, words in BANDS.items() if name in found["crps"]
          for score, key, digits in (("CRPS", "crps", 4), ("log score", "log_score", 2))),
        *((f"500 records or more, gain: {figure}", *(_number(card["from_500"][key]["gain"], digits)
                                                    for card in cards.values()))
          for figure, key, digits in (("share held", "coverage", 2), ("width", "width", 3), ("CRPS", "crps", 4))),
    ]  # fmt: skip
    return [*table(("whole forecasts", *cards), rows), ""]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _interval(ends: Sequence[float] | None) -> str:
    return "-" if ends is None else f"{ends[0]:.4f} to {ends[1]:.4f}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
