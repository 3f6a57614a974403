"""The four claims on made pairs whose truth is known."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from studies.findings.claims import STATEMENTS, ClaimResult, judge_claims, main, rule, scope_of
from studies.fitting.random_effects import TaskEstimate, combine, mean_over_sizes
from studies.runs.pairs import gains_by_size, pair_runs, slope_per_doubling
from studies.runs.run import Run
from studies.runs.run_spec import RunSpec
from studies.runs.tidy_runs import TidyRuns

SIZES = (100, 250, 500, 1000, 2000)
FAMILIES = {"resnet1d18": "cnn", "gru": "rnn", "gru-flatten": "rnn"}


def make_runs(
    gain: Callable[[str, int], float], n_tasks: int = 6, sooner: float = 0.5, sd: float = 0.01, between: float = 0.004,
    archs: tuple[str, ...] = ("resnet1d18", "gru"), reached: float = 0.9, seed: int = 0,
) -> TidyRuns:  # fmt: skip
    """Pairs whose true gain is known; fine-tuning reaches scratch's best after ``sooner`` times its records."""
    rng = np.random.default_rng(seed)
    runs = []
    for task in range(n_tasks):
        shift = between * rng.normal()
        for arch in archs:
            for n in SIZES:
                for replicate in range(5):
                    shared, own = rng.normal(0, sd, 2)
                    base = {"task": f"task-{task}", "arch": arch, "family": FAMILIES[arch], "n_records": n,
                            "replicate": replicate}  # fmt: skip
                    best = int(1000 * np.exp(0.3 * rng.normal()))
                    base |= {"device": "CPU", "seconds": 20.0, "records_seen": 4000, "records_to_best": best,
                             "seconds_to_best": 20.0 * best / 4000, "epochs": 40, "best_epoch": 20}  # fmt: skip
                    course = ((best // 2, 0.7), (best, 0.8), (4000, 0.78))
                    fast = max(1, int(best * sooner * np.exp(0.2 * rng.normal())))
                    end = 0.85 if rng.random() < reached else 0.79
                    runs += [
                        Run(**base, strategy="scratch", auroc_macro=0.7 + shared, details=validated(course)),
                        Run(**base, strategy="fine-tune", upstream="up", details=validated(((fast, end), (4000, end))),
                            auroc_macro=0.7 + shared + own + shift + gain(arch, n)),
                    ]  # fmt: skip
    return TidyRuns("made", "auroc_macro", tuple(runs), {("up", arch): 100_000 for arch in archs})


def validated(course: Sequence[tuple[int, float]]) -> dict[str, object]:
    """Details of a run that validated so: records seen and AUROC."""
    return {"validations": [{"records_seen": seen, "auroc": auroc} for seen, auroc in course]}


def verdicts(results: list[ClaimResult]) -> dict[tuple[str, str], str]:
    return {(result.claim, result.scope): result.verdict for result in results}


def test_claims_that_hold_are_confirmed():
    def gain(arch: str, n: int) -> float:
        return (0.08 if arch == "resnet1d18" else 0.05) * (n / 100) ** -1.2

    results = judge_claims(make_runs(gain))
    found = verdicts(results)
    assert found.pop(("4 flatten head", "cnn - rnn")) == "open"
    assert set(found.values()) == {"confirmed"}, found
    assert {claim for claim, _ in found} | {"4 flatten head"} == set(STATEMENTS)
    for result in results:
        if result.effect is not None:
            assert result.ci_lower <= result.effect <= result.ci_upper
            assert result.sentence.startswith("Confirmed: ")
            assert "over 6 tasks" in result.sentence
    small = next(result for result in results if (result.claim, result.scope) == ("1", "cnn"))
    assert small.effect == pytest.approx(np.mean([gain("resnet1d18", n) for n in (100, 250, 500)]), abs=0.008)
    assert small.n_pairs == 6 * 3 * 5
    assert small.tasks == tuple(f"task-{k}" for k in range(6))


def test_claims_that_do_not_hold_are_refuted():
    results = judge_claims(make_runs(lambda arch, n: -0.03 + 0.012 * np.log2(n / 100), sooner=2.0), margin=0.01)
    found = verdicts(results)
    for family in ("cnn", "rnn"):
        assert found["1", family] == "refuted"
        assert found["2 decline", family] == "refuted"
        assert found["2 comparable", family] == "refuted"
        assert found["3", family] == "refuted"
    assert found["4 pooled head", "cnn - rnn"] == "refuted"


def test_too_few_runs_leave_a_claim_open():
    found = verdicts(judge_claims(make_runs(lambda arch, n: 0.008, n_tasks=2, sd=0.04, between=0.03, sooner=1.0)))
    assert set(found.values()) == {"open"}
    nothing = judge_claims(TidyRuns("empty", "auroc_macro", (), {}))
    assert verdicts(nothing) == {("4 pooled head", "cnn - rnn"): "open", ("4 flatten head", "cnn - rnn"): "open"}


def test_an_effect_too_small_to_matter_is_said_to_be():
    results = judge_claims(make_runs(lambda arch, n: 0.004, between=0.0, sd=0.003))
    small = next(result for result in results if result.claim == "1")
    assert small.verdict == "confirmed"
    assert "less than the 0.01 that matters" in small.sentence


def test_the_flatten_head_is_told_apart_from_the_pooled_one():
    def gain(arch: str, n: int) -> float:
        return 0.0 if arch == "gru-flatten" else 0.04

    found = verdicts(judge_claims(make_runs(gain, archs=("resnet1d18", "gru", "gru-flatten"), between=0.0)))
    assert found["4 flatten head", "cnn - rnn"] == "confirmed"
    assert found["4 pooled head", "cnn - rnn"] == "refuted"


def test_a_flatten_head_is_no_part_of_what_is_said_of_recurrent_networks():
    def gain(arch: str, n: int) -> float:
        return -0.2 if arch == "gru-flatten" else 0.04

    results = {(r.claim, r.scope): r for r in judge_claims(make_runs(gain, archs=("gru", "gru-flatten")))}
    assert results["1", "rnn"].effect == pytest.approx(0.04, abs=0.01)
    assert results["1", "rnn, flatten head"].effect == pytest.approx(-0.2, abs=0.01)


def test_families_are_compared_where_they_start_from_the_same_upstream():
    runs = make_runs(lambda arch, n: 0.04, between=0.0)
    elsewhere = tuple(
        replace(run, upstream="other", auroc_macro=run.score + 0.1)
        for run in runs.runs
        if run.strategy == "fine-tune" and run.family == "cnn"
    )
    results = judge_claims(replace(runs, runs=(*runs.runs, *elsewhere)))
    contrast = next(r for r in results if r.claim == "4 pooled head")
    assert contrast.effect == pytest.approx(0.0, abs=0.005)


def test_families_are_compared_in_a_recipe_that_both_were_run_in():
    runs = make_runs(lambda arch, n: 0.04, between=0.0)
    spec = RunSpec("t", "gru", "scratch", None, 100, 0, "tuned", (1,), (10,))

    def of_recipe(run: Run, recipe: str) -> Run:
        return replace(run, recipe=recipe, role="downstream", details={**run.details, "spec": asdict(spec)})

    older = [of_recipe(run, "tuned") for run in runs.runs]
    newer = [
        replace(of_recipe(run, "tuned-2"), auroc_macro=run.score + 0.1 * (run.strategy == "fine-tune"))
        for run in runs.runs
        if run.family == "cnn"
    ]
    chosen = [*newer, *(run for run in older if run.family == "rnn")]
    results = judge_claims(replace(runs, runs=tuple(chosen), stored=(*older, *newer)))
    found = {result.claim: result for result in results if result.scope in ("cnn", "cnn - rnn")}
    assert found["1"].effect == pytest.approx(0.14, abs=0.01)
    assert found["4 pooled head"].effect == pytest.approx(0.0, abs=0.005)


def test_each_recurrent_head_is_compared_in_a_recipe_that_it_was_run_in():
    archs = ("resnet1d18", "gru", "gru-flatten")
    runs = make_runs(lambda arch, n: 0.0 if arch == "gru-flatten" else 0.04, between=0.0, archs=archs)
    spec = RunSpec("t", "gru", "scratch", None, 100, 0, "tuned", (1,), (10,))

    def of_recipe(run: Run, recipe: str, more: float) -> Run:
        score = run.score + more * (run.strategy == "fine-tune")
        details = {**run.details, "spec": asdict(spec)}
        return replace(run, recipe=recipe, role="downstream", auroc_macro=score, details=details)

    older = [of_recipe(run, "tuned", 0.0) for run in runs.runs]
    newer = [of_recipe(run, "tuned-2", 0.1) for run in runs.runs if run.arch != "gru-flatten"]
    chosen = [*newer, *(run for run in older if run.arch == "gru-flatten")]
    results = judge_claims(replace(runs, runs=tuple(chosen), stored=(*older, *newer)))
    found = {result.claim: result.effect for result in results if result.scope == "cnn - rnn"}
    assert found["4 flatten head"] == pytest.approx(0.04, abs=0.005)
    assert found["4 pooled head"] == pytest.approx(0.0, abs=0.005)


def test_a_task_whose_few_pairs_happen_to_agree_does_not_outweigh_the_others():
    others = {f"t{k}": TaskEstimate(0.0, 1e-4, 1, 2, 1 / 2) for k in range(4)}
    found = combine({**others, "lucky": TaskEstimate(0.02, 1e-9, 1, 2, 1 / 2)})
    assert found.effect < 0.02 / 3


def test_a_slope_over_a_narrow_range_weighs_what_its_range_makes_it_worth():
    wide = {f"t{k}": TaskEstimate(0.0, 1e-6, 13, 15, 1e-2) for k in range(4)}
    found = combine({**wide, "narrow": TaskEstimate(0.01, 1e-4, 13, 15, 1.0)})
    assert found.effect == pytest.approx(0.01 * 1e4 / (4 * 1e6 + 1e4))


def test_the_design_of_an_estimate_is_its_variance_in_units_of_a_pair_s():
    pairs = pair_runs(make_runs(lambda arch, n: 0.01, archs=("gru",), n_tasks=1).runs)
    slope = slope_per_doubling(pairs)
    assert slope is not None
    assert slope.design == pytest.approx(1 / (25 * np.var(np.log2([pair.scratch.n_records for pair in pairs]))))
    assert slope.variance / slope.design == pytest.approx(0.01**2, rel=0.7)
    mean = mean_over_sizes([(100, 0.0), (100, 0.02), *((200, value) for value in (0.1, 0.11, 0.12, 0.13))])
    assert mean is not None
    assert mean.design == pytest.approx((1 / 2 + 1 / 4) / 4)


def test_the_decline_names_the_ranges_of_the_tasks_and_what_it_takes_to_matter():
    runs = make_runs(lambda arch, n: -0.03 + 0.012 * np.log2(n / 100), archs=("gru",))
    whole = next(r for r in judge_claims(runs) if r.claim == "2 decline")
    assert "with every doubling of the records from 100 to 2,000 the gain changes by" in whole.sentence
    assert "a decline by less than 0.0023 does not matter" in whole.sentence  # 0.01 / log2(20)
    few = {"task-0": (100, 500), "task-1": (250, 2000), "task-2": (500, 1000)}  # the last has no slope
    kept = tuple(
        run
        for run in runs.runs
        if few.get(run.task, SIZES)[0] <= run.n_records <= few.get(run.task, SIZES)[-1] and run.task < "task-3"
    )
    short = next(r for r in judge_claims(replace(runs, runs=kept)) if r.claim == "2 decline")
    assert short.tasks == ("task-0", "task-1")
    assert "of each task, 100 to 500 at the narrowest and 250 to 2,000 at the widest, the gain" in short.sentence
    assert "a decline by less than 0.0033 does not matter" in short.sentence  # 0.01 / log2(8)
    assert "for the decline of claim 2 so much over the widest range" in rule()


def test_pairs_without_a_course_on_the_validation_records_are_counted():
    runs = make_runs(lambda arch, n: 0.0, archs=("resnet1d18",), reached=1.0)
    dark = tuple(replace(run, details={}) if (run.task, run.replicate) == ("task-0", 1) else run for run in runs.runs)
    sentences = [
        next(r.sentence for r in judge_claims(replace(runs, runs=those)) if r.claim == "3")
        for those in (runs.runs, dark)
    ]
    said = "the other 5 of 150 are left out, with no AUROC on the validation records to follow"
    assert "in 0 of 150 pairs;" in sentences[0]
    assert "left out" not in sentences[0]
    assert f"in 0 of 145 pairs; {said};" in sentences[1]


def test_pairs_of_a_network_that_hardly_ever_gets_there_are_counted():
    runs = make_runs(lambda arch, n: 0.0, archs=("resnet1d18",), reached=1.0)
    never = tuple(
        replace(run, details=validated([(4000, 0.1)])) if (run.task, run.strategy) == ("task-0", "fine-tune") else run
        for run in runs.runs
    )
    sooner = next(r for r in judge_claims(replace(runs, runs=never)) if r.claim == "3")
    assert sooner.n_pairs == 125
    assert "in 25 of 150 pairs; 25 are not in the ratio, as too few pairs of their task" in sooner.sentence


def test_the_time_ratio_counts_pairs_that_never_get_there():
    always, rarely = (judge_claims(make_runs(lambda arch, n: 0.0, reached=share)) for share in (1.0, 0.5))
    effects = [next(r.effect for r in results if (r.claim, r.scope) == ("3", "cnn")) for results in (always, rarely)]
    assert effects[0] == pytest.approx(np.log(2), abs=0.1)
    assert effects[1] < effects[0] - 0.5
    sentence = next(r.sentence for r in always if (r.claim, r.scope) == ("3", "cnn"))
    assert "it never does in 0 of 150 pairs" in sentence
    assert "a pre-training of 100,000 records seen pays for itself after" in sentence


def test_one_task_says_nothing_of_others():
    results = judge_claims(make_runs(lambda arch, n: 0.03, n_tasks=1))
    assert all("which says nothing of others" in r.sentence for r in results if r.effect is not None)
    assert {r.verdict for r in results} == {"open"}
    small = next(r for r in results if (r.claim, r.scope) == ("1", "cnn"))
    assert small.sentence.endswith("(there alone it would be confirmed).")


def test_intervals_over_tasks_hold_the_truth_nine_times_in_ten():
    hits = []
    for seed in range(60):
        runs = make_runs(lambda arch, n: 0.02, n_tasks=5, between=0.01, archs=("resnet1d18",), seed=seed)
        result = next(r for r in judge_claims(runs) if r.claim == "1")
        hits.append(result.ci_lower <= 0.02 <= result.ci_upper)
    assert 0.8 <= np.mean(hits) <= 0.99


def test_the_interval_of_one_more_task_holds_it_nine_times_in_ten():
    rng, hits = np.random.default_rng(2), []
    for _ in range(400):
        effects = 0.02 + 0.03 * rng.standard_normal(8)
        known = {
            f"t{k}": TaskEstimate(e + 0.01 * rng.standard_normal(), 1e-4, 8, 9, 1 / 9) for k, e in enumerate(effects)
        }
        low, high = combine(known).prediction
        hits.append(low <= 0.02 + 0.03 * rng.standard_normal() <= high)
    assert 0.85 <= np.mean(hits) <= 0.95
    assert combine(dict(list(known.items())[:2])).prediction is None


def test_more_different_tasks_never_narrow_the_interval():
    widths = []
    for spread in (0.0, 0.02, 0.05):
        effects = np.array([-1.5, -0.5, 0.0, 0.5, 1.5]) * spread
        found = combine({f"t{k}": TaskEstimate(effect, 1e-5, 4, 5, 1 / 5) for k, effect in enumerate(effects)})
        widths.append(found.ci_upper - found.ci_lower)
    assert widths == sorted(widths)


def test_sizes_weigh_the_same_whatever_their_replicates():
    values = [(100, 0.0), (100, 0.02), (200, 0.10), (200, 0.11), (200, 0.12), (200, 0.13), (300, 9.0)]
    found = mean_over_sizes(values)
    assert found is not None
    assert found.effect == pytest.approx((0.01 + 0.115) / 2)
    assert (found.freedom, found.n_pairs) == (4, 6)
    assert mean_over_sizes([(100, 0.0), (200, 0.1)]) is None


def test_gains_are_given_for_every_size_and_family():
    pairs = pair_runs(make_runs(lambda arch, n: 10 / n, between=0.0, sd=0.002).runs)
    found = gains_by_size(pairs, scope_of)
    assert [(one.family, one.n_records) for one in found] == [(f, n) for f in ("cnn", "rnn") for n in SIZES]
    for one in found:
        assert one.gain.effect == pytest.approx(10 / one.n_records, abs=0.002)
        assert one.gain.n_pairs == 30


def test_claims_of_a_store_are_printed(
    tmp_path: Path, synthetic_store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    store = synthetic_store(tmp_path / "s.db", lambda n: 0.9 - 2 * n**-0.5, lambda n: 0.9 - 2 * (n + 300) ** -0.5)
    store.close()
    monkeypatch.setattr("sys.argv", ["claims", str(tmp_path / "s.db")])
    main()
    out = capsys.readouterr().out
    assert "1 (cnn): fine-tuning is preferable on small downstream sets\n    Open: " in out
    assert "which says nothing of others (there alone it would be confirmed)" in out
    for arguments, says in (([str(tmp_path / "none.db")], "error: no runs file at"), ([], "usage: ")):
        monkeypatch.setattr("sys.argv", ["claims", *arguments])
        with pytest.raises(SystemExit, match=says):
            main()
