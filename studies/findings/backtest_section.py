"""The section of the findings on the backtest: regret of the advice and of simple rules, and coverage of its bands."""

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


def backtest_lines(backtests: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what every backtest found, and whether the advice beats the rules and its bands hold what they should."""
    lines: list[str] = []
    for name, found in sorted(backtests.items()):
        n = len(found["tasks"])
        lines += [f"`{name}`: {found['cells']} held-out cells of {n} task{'s' * (n != 1)} (`ecgadvise backtest`).", ""]
        lines += [f"- {_beats(found['regret'])}", f"- {_holds(found['coverage'])}", *_more(found), ""]
        lines += [*_regret_table(found), "", *_coverage_table(found), "", *_arms(found)]
    return lines


def _arms(found: Mapping[str, Any]) -> list[str]:
    """Return what naming one of all arms lost, where all of them were measured."""
    arms = found.get("arms")
    if not arms or not arms["cells"]:
        return []
    rows = [
        (words, _number(arms["regret"].get(name), 4), _interval(arms["regret_ci"].get(name)))
        for name, words in ARM_POLICIES.items()
    ]
    return [
        f"All four arms were measured in {arms['cells']} cells of held-out tasks. The 90 % bound of the loss that "
        f"comes with the arm named first is {_number(arms['bound'], 4)} on average, at most {found['margin']:g} in "
        f"{_percent(arms['bounded'])} of them, and the measured loss was beyond it in {_percent(arms['beyond'])}.",
        "",
        *table(("lost to the best of all arms", "mean", "90 % over tasks"), rows),
        "",
    ]


def _beats(regret: Mapping[str, float | None]) -> str:
    advice = regret["advice"]
    if advice is None:
        return "Regret: open, no held-out cell has both arms."
    rules = {
        name: value for name, value in regret.items() if name in POLICIES and name != "advice" and value is not None
    }
    below, level, above = (
        [POLICIES[name] for name, value in rules.items() if (value > advice) - (value < advice) == sign]
        for sign in (1, 0, -1)
    )
    against = {"lower than that of": below, "the same as that of": level, "higher than that of": above}
    parts = [f"{words} {_listed(names)}" for words, names in against.items() if names]
    return f"The advice loses {advice:.4f} to the better arm on average. That is {'; '.join(parts)}."


def _holds(coverage: Mapping[str, float | None]) -> str:
    known = {name: value for name, value in coverage.items() if value is not None and name in BANDS}
    outside = [f"{BANDS[name]} ({value:.0%})" for name, value in known.items() if not COVERED[0] <= value <= COVERED[1]]
    wanted = f"{COVERED[0]:.0%} to {COVERED[1]:.0%}"
    if not known:
        return "Coverage: open, nothing was held out."
    return f"90 % bands that do not hold {wanted} of what was measured: {_listed(outside) or 'none'}."


def _more(found: Mapping[str, Any]) -> list[str]:
    brier, base = (found["brier"][name] for name in ("advice", "base_rate"))
    lines = []
    if found["abstention"] is not None:
        lines.append(f"- Not enough evidence, so that the better expected score is taken: {found['abstention']:.0%}.")
    if brier is not None and base is not None:
        lines.append(f"- Brier score of P(gain > margin) {brier:.3f}, of always giving its share {base:.3f}.")
    return lines


def _regret_table(found: Mapping[str, Any]) -> list[str]:
    schemes: Mapping[str, Any] = {"all": found, **found.get("by_scheme", {})}
    rows = [
        (words, *(_number(card["regret"].get(name), 4) for card in schemes.values()),
         _interval(found.get("regret_ci", {}).get(name)))
        for name, words in POLICIES.items()
    ]  # fmt: skip
    heads = ("regret of", *(f"{scheme} ({card['cells']})" for scheme, card in schemes.items()))
    return table((*heads, "all, 90 % over tasks"), rows)


def _coverage_table(found: Mapping[str, Any]) -> list[str]:
    schemes: Mapping[str, Any] = {"all": found, **found.get("by_scheme", {})}
    rows = [
        (words, *(_percent(card["coverage"].get(name)) for card in schemes.values()),
         _number(found["width"].get(name), 3))
        for name, words in BANDS.items()
    ]  # fmt: skip
    return table(("90 % bands that held: of the", *schemes, "mean width"), rows)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _interval(ends: Sequence[float] | None) -> str:
    return "-" if ends is None else f"{ends[0]:.4f} to {ends[1]:.4f}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
