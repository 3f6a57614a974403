"""Pairs of runs, and the precision that they share."""

from dataclasses import replace

from studies.runs.pairs import estimate_by_task, mean_gain, of_one_precision, pair_runs
from studies.runs.run import Run


def run(strategy: str, precision: str | None, replicate: int = 0, **changes: object) -> Run:
    upstream = None if strategy == "scratch" else "up"
    facts = {"task": "ward", "arch": "net", "family": "cnn", "n_records": 100, "auroc_macro": 0.7}
    known = facts | {"strategy": strategy, "upstream": upstream, "replicate": replicate, "precision": precision}
    return Run(**known | changes)


def pairs_of(precision: str | None, replicates: int, **changes: object) -> list[Run]:
    return [run(arm, precision, r, **changes) for r in range(replicates) for arm in ("scratch", "fine-tune")]


def test_runs_of_two_precisions_are_no_pair():
    assert pair_runs([run("scratch", "float32"), run("fine-tune", "bf16")]) == []
    assert pair_runs([run("scratch", None), run("fine-tune", "float32")]) == []
    both = [*pairs_of("float32", 1, auroc_macro=0.7), *pairs_of("bf16", 1, auroc_macro=0.8)]
    assert [(pair.scratch.precision, pair.fine_tuned.precision, pair.gain) for pair in pair_runs(both)] == [
        ("float32", "float32", 0.0), ("bf16", "bf16", 0.0),
    ]  # fmt: skip


def test_runs_of_a_table_that_names_no_precision_are_pairs():
    assert len(pair_runs(pairs_of(None, 3))) == 3


def test_the_spread_of_a_gain_is_that_within_each_precision():
    """Gains of 0 in one and of 0.1 in the other: pooled, they would seem to scatter by 0.05."""
    runs = [*pairs_of("float32", 3), *pairs_of("bf16", 3)]
    shifted = [
        replace(one, auroc_macro=0.8) if (one.precision, one.strategy) == ("bf16", "fine-tune") else one for one in runs
    ]
    (estimate,) = estimate_by_task(pair_runs(shifted), mean_gain).values()
    assert round(estimate.effect, 9) == 0.05
    assert estimate.variance < 1e-12


def test_of_a_network_the_precision_with_most_pairs_is_kept_and_the_rest_named():
    runs = [*pairs_of("float32", 2), *pairs_of("bf16", 3), *(run("scratch", "float32", r) for r in range(10, 20))]
    kept, said = of_one_precision([*runs, *pairs_of("float32", 1, arch="other")])
    assert {(one.arch, one.precision) for one in kept} == {("net", "bf16"), ("other", "float32")}
    assert len(kept) == 8
    assert said == ["14 runs of net in float32 are left out: most pairs are in bf16"]


def test_of_two_precisions_with_as_many_pairs_float32_is_kept():
    for runs in ([*pairs_of("bf16", 2), *pairs_of("float32", 2)], [*pairs_of("float32", 2), *pairs_of("bf16", 2)]):
        assert {one.precision for one in of_one_precision(runs)[0]} == {"float32"}


def test_a_pretraining_stays_where_it_was_made_in_another_precision_alone():
    alone = run("scratch", "float32", task="up", role="pretraining", key="p")
    both = [run("scratch", precision, task="up", role="pretraining", key="q") for precision in ("float32", "bf16")]
    kept, _ = of_one_precision([*pairs_of("bf16", 2), alone, *both])
    assert [one for one in kept if one.role == "pretraining"] == [alone, both[1]]


def test_runs_of_one_precision_are_all_kept():
    runs = pairs_of("float32", 2)
    assert of_one_precision(runs) == (runs, [])
