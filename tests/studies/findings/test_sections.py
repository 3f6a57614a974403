"""The sections on sources, arms, pre-trained networks and published gains, from made runs whose truth is known."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.checkpoints.zoo_index import PRETRAINED_HERE
from studies.files.arms import FINE_TUNE, LINEAR_PROBE, RANDOM_CONVOLUTIONS, SCRATCH
from studies.findings.arms_section import arm_lines, complete_cells, means_by_task
from studies.findings.claims import judge_equal
from studies.findings.missing_runs import missing_lines
from studies.findings.pretraining.luck import luck_lines, values_by_seed
from studies.findings.pretraining.other_teams import other_team_lines, split_other_teams
from studies.findings.pretraining.width import width_lines
from studies.findings.protocol import control_effects, head_effects
from studies.findings.published import PublishedScore, published_gains, published_of, read_published
from studies.findings.published_section import published_lines
from studies.findings.sources_section import ONE_SOURCE, source_lines, spread_lines
from studies.runs.pairs import arm_scores, pair_runs
from studies.runs.run import Run
from studies.runs.tidy_runs import RunsFileError, tidy_records

NARROW, WIDE = "resnet1d18-w16", "resnet1d18"
GAINS = {SCRATCH: 0.0, FINE_TUNE: 0.05, LINEAR_PROBE: 0.03, RANDOM_CONVOLUTIONS: -0.02}


def run(
    task: str, arm: str, n: int, replicate: int, score: float, arch: str = NARROW, *,
    folds: tuple[int, ...] = (10,), seed: int = 0, upstream: str = "a/all", recipe: str = "tuned-2",
) -> Run:  # fmt: skip
    """A run of a store, whose spec says the folds and the seed of its pre-training."""
    started = arm in (FINE_TUNE, LINEAR_PROBE)
    arch = RANDOM_CONVOLUTIONS if arm == RANDOM_CONVOLUTIONS else arch
    spec = {
        "task": task, "arch": arch, "strategy": arm, "upstream": upstream if started else None, "n_records": n,
        "replicate": replicate, "recipe": recipe, "pool_folds": [1, 2], "test_folds": list(folds),
        "upstream_replicate": seed if started else 0,
    }  # fmt: skip
    family = "other" if arm == RANDOM_CONVOLUTIONS else "rnn" if arch.startswith("gru") else "cnn"
    return Run(
        key=f"{task} {arch} {arm} {n} {replicate} {folds} {seed} {upstream} {recipe}", task=task, arch=arch,
        strategy=arm, family=family, upstream=upstream if started else None, n_records=n, replicate=replicate,
        recipe=recipe, role="downstream", auroc_macro=score, precision="float32", device="CPU",
        details={"spec": spec, "classes": ["A", "B"]},
    )  # fmt: skip


def made_runs(
    tasks: Mapping[str, float], arms: Sequence[str] = (SCRATCH, FINE_TUNE), sizes: Sequence[int] = (100, 250, 500),
    arch: str = NARROW, sd: float = 0.003, replicates: int = 3,
) -> list[Run]:  # fmt: skip
    """Runs of tasks, the gains of the arms times what a task is given."""
    rng = np.random.default_rng(1)
    return [
        run(task, arm, n, k, 0.7 + GAINS[arm] * times + sd * rng.standard_normal(), arch)
        for task, times in tasks.items() for n in sizes for k in range(replicates) for arm in arms
    ]  # fmt: skip


def rows(lines: Sequence[str], start: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith(f"| {start}")]


def number(cell: str) -> float:
    return float(re.findall(r"[+-]?\d+(?:\.\d+)?", cell)[0])


def test_claims_are_told_for_every_source_and_for_one_more():
    tasks = {"a/one": 1.0, "a/two": 1.0, "a/three": 1.0, "b/one": 0.2, "c/one": 0.6}
    lines = source_lines(pair_runs(made_runs(tasks)), 0.01)
    assert [row[0] for row in rows(lines, "")][2:5] == ["a", "b", "c"]
    of_source = {row[0]: number(row[2]) for row in rows(lines, "")[2:5]}
    assert of_source == pytest.approx({"a": 0.05, "b": 0.01, "c": 0.03}, abs=0.003)
    ((_, _, over, *_),) = rows(lines, "**over sources**")
    assert number(over) == pytest.approx(0.03, abs=0.004)  # over tasks it would be 0.038
    ((_, _, verdict, _, at_end, _),) = rows(lines, "verdict over sources")
    assert (verdict, at_end) == ("**open**", "")  # three sources that differ so much, and none with 2,000 records
    ((_, _, one_more, *_),) = rows(lines, "a task of one more source")
    assert number(one_more) < -0.05


def test_of_one_source_nothing_is_said_of_others():
    runs = made_runs({"a/one": 1.0, "a/two": 0.5}, (SCRATCH, FINE_TUNE, LINEAR_PROBE))
    assert source_lines(pair_runs(runs), 0.01) == [ONE_SOURCE]
    assert spread_lines(runs, 0.01) == ([ONE_SOURCE], {})


def test_sources_that_lose_are_counted_and_drawn():
    tasks = {"a/one": 1.0, "b/one": -1.0, "c/one": -0.5, "d/one": 0.8}
    lines, figures = spread_lines(made_runs(tasks, (SCRATCH, FINE_TUNE, LINEAR_PROBE), sizes=(100,)), 0.01)
    ((_, n, mean, _, between, _, sources, n_tasks, losing),) = rows(lines, "fine-tuned")
    assert (n, sources, n_tasks, losing) == ("100", "4", "4", "2")
    assert number(mean) == pytest.approx(0.05 * 0.075, abs=0.004)
    assert float(between) == pytest.approx(0.05 * np.std([1, -1, -0.5, 0.8], ddof=1), rel=0.1)
    (svg,) = figures.values()
    named = re.findall(r">([^<>]+)</text>", svg)
    assert {"a", "b", "c", "d", "over sources", "100 records", "linear probe"} <= set(named)


def test_another_team_s_network_stands_apart_next_to_one_s_own_on_the_same_records():
    tasks, theirs = {"a/one": 1.0, "b/one": 1.0}, "inceptiontime"
    own = made_runs(tasks, tuple(GAINS), sizes=(100,))
    other = [
        run(task, arm, 100, k, 0.72 + GAINS[arm] * 2, theirs, upstream="zoo:theirs")
        for task in tasks for arm in (SCRATCH, FINE_TUNE, LINEAR_PROBE) for k in range(3)
    ]  # fmt: skip
    split = split_other_teams([*other, *own])
    assert split == (own, other), "also their network from scratch, which they alone start from"
    lines = other_team_lines(*split)
    assert lines[0].startswith(f"`{theirs}` from theirs, whose pre-training was not controlled here")
    assert f"(`{NARROW}` from a/all)" in lines[0]
    scored = rows(lines, "a/one")[0]
    assert [float(cell) for cell in scored[2:9]] == pytest.approx([0.72, 0.82, 0.78, 0.7, 0.75, 0.73, 0.68], abs=0.004)
    compared = {row[0]: row[-1].strip("*") for row in rows(lines, "theirs, ")}
    assert number(compared["theirs, fine-tuned - theirs, from scratch"]) == pytest.approx(0.1)
    assert number(compared["theirs, linear probe - own, linear probe"]) == pytest.approx(0.05, abs=0.004)
    assert all(cell.endswith(", 2") for cell in compared.values()), "the tasks behind each"
    of_one_class = {"auroc": {"A": 0.8, "B": 0.7}, "left_out": ["B"]}
    other_classes = [replace(one, details=one.details | of_one_class) for one in other]
    apart = rows(other_team_lines(own, other_classes), "a/one")[0]
    assert (apart[2], apart[5:9]) == ("0.720", [""] * 4), "averages of other classes are not compared"
    assert other_team_lines(own, [])[0].startswith("Open: not run")
    both = [*other, run("a/one", FINE_TUNE, 100, 0, 0.8, theirs)]
    assert [one.strategy for one in split_other_teams(both)[1]] == [one.strategy for one in other if one.upstream]
    here = {"started_from": f"{theirs}, {PRETRAINED_HERE} on ptb-xl/all"}
    assert split_other_teams([replace(one, details=one.details | here) for one in other])[1] == [], "released by us"


def test_arms_are_compared_where_all_of_them_were_run():
    arms = tuple(GAINS)
    runs = made_runs({"a/one": 1.0, "b/one": 1.0, "c/one": 1.0}, arms, sizes=(100,), sd=0.001)
    easy = made_runs({"d/easy": 9.0}, (SCRATCH, FINE_TUNE, LINEAR_PROBE), sizes=(100,))  # no random convolutions
    ((place, scores),) = complete_cells([*runs, *easy]).items()
    assert place == ("cnn", 100)
    assert means_by_task(scores).keys() == {"a/one", "b/one", "c/one"}
    lines, figures = arm_lines([*runs, *easy], 0.01)
    scored, compared = rows(lines, "cnn")
    assert scored[1:4] == ["100", "3", "3"]
    assert [float(cell) for cell in scored[4:8]] == pytest.approx([0.75, 0.7, 0.73, 0.68], abs=0.002)
    assert scored[8] == "3 / 0 / 0 / 0"
    assert compared[2] == "3 sources"
    assert [number(cell) for cell in compared[3:7]] == pytest.approx([-0.02, 0.05, 0.03, -0.02], abs=0.003)
    assert figures.keys() == {"arms.svg"}
    assert arm_lines(easy, 0.01) == ([], {})


def test_a_replicate_is_paired_with_the_run_on_its_own_test_folds():
    scores = {(1, 2): 0.6, (3, 4): 0.8}  # the same replicate of two studies, tested on other patients
    runs = [
        run("a/one", arm, 100, 0, score + GAINS[arm], folds=folds)
        for folds, score in scores.items() for arm in (SCRATCH, FINE_TUNE, LINEAR_PROBE)
    ]  # fmt: skip
    assert sorted(round(pair.gain, 9) for pair in pair_runs(runs)) == [0.05, 0.05]
    by_arm = arm_scores(runs).values()
    assert sorted(round(found[LINEAR_PROBE] - found[SCRATCH], 9) for found in by_arm) == [0.03, 0.03]
    assert len(tidy_records(runs, Path("made.db")).runs) == 6
    with pytest.raises(RunsFileError, match="repeats"):
        tidy_records([*runs, run("a/one", SCRATCH, 100, 0, 0.5, folds=(1, 2), upstream="b/all")], Path("made.db"))


def seeded_runs(luck: float, chance: float) -> list[Run]:
    """Four networks of one upstream; scratch knows nothing of their luck. Replicates are tested on five folds."""
    rng = np.random.default_rng(8)
    runs = []
    for task in ("a/one", "b/one", "c/one"):
        of_fold, of_seed = rng.normal(0, 0.05, 5), rng.normal(0, luck, 4)
        for seed, replicates in ((0, (0, 1, 2, 3, 4)), (1, (5, 6, 7)), (2, (8, 9, 10)), (3, (11, 12, 13))):
            for k in replicates:
                fold = k if seed == 0 else seed - 1
                for arm in (SCRATCH, FINE_TUNE, LINEAR_PROBE):
                    lucky = of_seed[seed] * (arm != SCRATCH)
                    score = 0.75 + of_fold[fold] + lucky + rng.normal(0, chance)
                    runs.append(run(task, arm, 100, k, score, folds=(fold,), seed=seed))
    return runs


def test_the_luck_of_a_network_is_told_from_the_chance_of_its_runs():
    lucky, unlucky = (luck_lines([seeded_runs(luck, 0.005)]) for luck in (0.03, 0.0))
    shares = [[number(cell) for cell in rows(lines, "**share, all together**")[0][2:]] for lines in (lucky, unlucky)]
    assert min(share for k, share in enumerate(shares[0]) if k != 2) > 60  # percent, scratch left out
    assert shares[0][2] < 50  # from scratch
    assert max(shares[1]) < 60
    ((_, n, tuned, *_), *_) = rows(lucky, "a/one")
    assert n == "100"
    assert 0.002 < float(tuned.split(" / ")[1]) < 0.01  # of the runs: the folds' 0.05 is not in it
    assert any(line.startswith("- Linear probe: of the variance of a pair's gain ") for line in lucky)


def test_luck_takes_two_seeds_in_one_store():
    runs = seeded_runs(0.0, 0.01)
    first, others = ([one for one in runs if (one.replicate < 5) is first] for first in (True, False))
    assert luck_lines([first]) == luck_lines([[]])
    found = values_by_seed([first, others], (FINE_TUNE, "gain"))
    assert {len(values.groups) for values in found.values()} == {9}  # the first network was run elsewhere
    assert luck_lines([first])[0].startswith("Open: not run")


@pytest.mark.parametrize(("times", "verdict"), [(1.0, "confirmed"), (2.0, "refuted")])
def test_a_narrow_network_stands_for_the_full_one_where_it_gains_the_same(times: float, verdict: str):
    tasks, arms = {"a/one": 1.0, "b/one": 1.0, "c/one": 1.0}, (SCRATCH, FINE_TUNE, LINEAR_PROBE)
    full = dict.fromkeys(tasks, times)
    runs = [*made_runs(tasks, arms, sd=0.001), *made_runs(full, arms, arch=WIDE, sd=0.001)]
    lines = width_lines(runs, 0.01)
    assert f"- fine-tuned: **{verdict}**, " in "\n".join(lines)
    assert len(rows(lines, "a/one")) == 3
    one = width_lines([one for one in runs if one.task == "a/one"], 0.01)
    assert "- fine-tuned: **open**, " in "\n".join(one)
    assert width_lines(made_runs(tasks, arms), 0.01)[0].startswith("Open: not run")


def test_heads_and_controls_are_compared_in_the_recipe_that_they_were_run_in():
    gains = {("gru-w32", "tuned"): 0.05, ("gru-flatten-w32", "tuned"): 0.02, ("gru-w32", "tuned-2"): 0.4}
    runs = [
        run("a/one", arm, 100, k, 0.5 + gain * (arm == FINE_TUNE), arch, recipe=recipe)
        for (arch, recipe), gain in gains.items() for k in range(3) for arm in (SCRATCH, FINE_TUNE)
    ]  # fmt: skip
    (effect,) = head_effects(runs)
    assert (effect.found.effect, effect.found.n_pairs) == (pytest.approx(0.03), 3)
    frozen = [run("a/one", "frozen", n, k, 0.45, "gru-w32", recipe="tuned") for n in (100, 500) for k in range(3)]
    more = [run("a/one", SCRATCH, 500, k, 0.55, "gru-w32", recipe="tuned") for k in range(3)]
    effects = {one.name: one for one in control_effects([*runs, *frozen, *more])}
    assert effects["frozen minus from scratch"].scope == "gru-w32, 100 to 500 records, recipe tuned"
    assert effects["frozen minus from scratch"].found.effect == pytest.approx(-0.075)
    assert effects["frozen minus fine-tuned"].found.effect == pytest.approx(-0.1)


def test_a_difference_is_too_small_to_matter_where_its_whole_interval_is():
    ends = ((-0.009, 0.01), (0.011, 0.03), (-0.03, -0.011), (-0.001, 0.011))
    assert [judge_equal(one, 0.01) for one in ends] == ["confirmed", "refuted", "refuted", "open"]


def fact(task: str, method: str, value: float, interval=None, note: str = "", n: int | None = None) -> PublishedScore:
    return PublishedScore("paper", task, n, method, "auroc_macro", value, interval, note)


def test_a_published_gain_is_of_one_network_where_there_is_one():
    scores = [
        fact("ward", f"{arm} {size}", value)
        for size, values in (("SMALL", (0.7, 0.72)), ("LARGE", (0.9, 0.85)))
        for arm, value in zip(("random init", "fine-tuned"), values, strict=True)
    ]
    (gain,) = published_gains(scores)
    assert gain.gains == pytest.approx((0.02, -0.05))
    assert (gain.is_of_one_network, gain.n_networks, gain.are_apart) == (True, (1, 2), None)


def test_a_published_gain_of_several_networks_is_of_the_best_and_says_how_many_gain():
    scores = [
        fact("ward", "S4 scratch", 0.80, (0.78, 0.82)), fact("ward", "Net1D scratch", 0.70, (0.68, 0.72)),
        fact("ward", "JEPA fine-tuned", 0.85, (0.83, 0.87)), fact("ward", "MERL fine-tuned", 0.75, (0.7, 0.8)),
        fact("ward", "CPC fine-tuned", 0.81, (0.79, 0.83)),
    ]  # fmt: skip
    (gain,) = published_gains(scores)
    assert gain.mean == pytest.approx(0.05)
    assert (gain.n_networks, gain.are_apart) == ((2, 3), True)
    outside = [fact("ward", "S4 scratch", 0.80, (0.81, 0.82)), *scores[2:3]]
    assert published_gains(outside)[0].are_apart is None
    assert published_gains(scores[:2]) == []


def test_a_published_gain_that_is_taken_for_a_mistake_is_left_out():
    both = [
        fact("ward", method, 0.9, note="suspect: both arms are identical") for method in ("A scratch", "A fine-tuned")
    ]
    assert published_gains(both) == []


def test_a_foundation_model_is_held_against_the_same_network_from_scratch_else_the_best():
    def score(method: str, value: float, source: str = "a paper", note: str = "") -> PublishedScore:
        return PublishedScore(source, "ptb", 100, method, "auroc_macro", value, None, note)

    scratch = [score("S4 scratch", 0.8), score("Net1D scratch", 0.7)]
    tuned = score("ECG-FM fine-tuned", 0.9)
    assert published_of("ECG-FM", [*scratch, tuned, score("ECGFM-KED fine-tuned", 0.6)]) == [(tuned, scratch[0])]
    small, large = (score(f"fine-tuned {size}", 0.9, "HuBERT-ECG, Figure 2a") for size in ("SMALL", "LARGE"))
    random = score("random init LARGE", 0.6, "HuBERT-ECG, Figure 2a")
    suspect = score("ECG-FM fine-tuned", 0.9, note="suspect: identical")
    assert published_of("HuBERT-ECG", [small, large, random]) == [(small, random), (large, random)]
    assert published_of("ECG-FM", [*scratch, suspect]) == [(suspect, None)]
    assert published_of("xECG", read_published()) == []
    assert len(published_of("ECGFounder", read_published())) == 23


def test_published_gains_stand_next_to_ours_of_the_same_task_or_of_about_as_many_records():
    scores = [
        fact(task, method, value, n=n)
        for task, n in (("a/one", 17_000), ("elsewhere", 400), ("far", 90_000), ("unknown", None))
        for method, value in (("A scratch", 0.8), ("A fine-tuned", 0.9))
    ]
    runs = made_runs({"a/one": 1.0, "b/one": 0.5})
    lines = published_lines(scores, runs, pair_runs(runs))
    ours = {row[0]: row[-1] for row in rows(lines, "") if row[0] in ("a/one", "elsewhere", "far", "unknown")}
    assert ours["a/one"].startswith("+0.05") and ours["a/one"].endswith("at 500, same task")
    assert ours["elsewhere"].endswith("at 500")
    assert (ours["far"], ours["unknown"]) == ("no size near it", "-")
    assert any("Gains in 4 of 4 comparisons, loses in 0" in line for line in lines)


def test_what_is_missing_is_told_by_source_and_of_networks_with_one_seed():
    runs = made_runs({"a/one": 1.0, "b/one": 1.0}, sizes=(100, 2000))
    small = made_runs({"c/one": 1.0, "c/two": 1.0}, sizes=(100, 250))
    trained = [run("a/all", SCRATCH, 9000, seed, 0.9) for seed in (0, 1)]
    once = [run("b/all", SCRATCH, 9000, 0, 0.9)]
    as_pretraining = [Run(**{**vars(one), "role": "pretraining"}) for one in (*trained, *once)]
    lines = missing_lines([*runs, *small, *as_pretraining], pair_runs([*runs, *small]), frozenset())
    assert "- Pairs of cnn networks with 2,000 records or more, the largest in brackets: c (250)." in lines
    assert any(line.startswith("- A second pre-training of 1 of 2 networks") for line in lines)
