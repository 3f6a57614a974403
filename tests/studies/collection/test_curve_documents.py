"""Curves files made from anybody's runs."""

import json
from pathlib import Path

import numpy as np
import pytest

from studies.collection.curve_documents import NO_TEST_NOISE, NO_UPSTREAM, fit_runs, time_of
from studies.files.curves import read_curves
from studies.runs.run import Run
from studies.runs.tidy_runs import TidyRuns

SIZES = (100, 250, 500, 1000, 2000)


def make_runs(archs: tuple[str, ...], strategies: tuple[str, ...], sd: float = 0.01) -> TidyRuns:
    rng = np.random.default_rng(3)
    runs = [
        Run(task="ward", arch=arch, family="cnn" if "resnet" in arch else "other", strategy=strategy,
            upstream=None if strategy == "scratch" else "up", n_records=n, replicate=r,
            auroc_macro=float(0.9 - 2 * (n + 200 * (strategy != "scratch")) ** -0.5 + sd * rng.normal()))
        for arch in archs for strategy in strategies for n in SIZES for r in range(4)
    ]  # fmt: skip
    return TidyRuns("ours", "auroc_macro", tuple(runs), {})


def write(document: dict, path: Path) -> Path:
    path.write_text(json.dumps(document))
    return path


def test_a_fitted_file_is_read_back_as_it_was_fitted(tmp_path: Path):
    runs = make_runs(("resnet1d18", "our-net"), ("scratch", "fine-tune"))
    document = fit_runs(runs, "2026-01-02T03:04:05+00:00")
    opened = read_curves(write(document, tmp_path / "curves.json"))
    assert (opened.study, opened.created) == ("ours", "2026-01-02T03:04:05+00:00")
    assert opened.upstreams == {"up": "as named in ours"}
    assert opened.family_default == {"cnn": "resnet1d18"}
    assert opened.networks["our-net"].family == "other"
    assert opened.networks["our-net"].parameters is None
    assert document["not_fitted"] == []
    ours = next(curve for curve in opened.curves if curve.arch == "our-net")
    assert (ours.task, ours.upstream, ours.sizes, ours.replicates, ours.runs) == ("ward", "up", SIZES, 4, 40)
    assert ours.cost == {} and ours.pretraining is None and ours.sources == ()
    assert NO_TEST_NOISE in ours.warnings
    measured = [r.score for r in runs.runs if (r.arch, r.strategy, r.n_records) == ("our-net", "scratch", 500)]
    assert ours.points["scratch"][500] == pytest.approx(measured, abs=1e-6)
    assert np.median(ours.scores("scratch", 1000)) == pytest.approx(0.9 - 2 * 1000**-0.5, abs=0.01)


def test_the_same_runs_give_the_same_document(tmp_path: Path):
    runs = make_runs(("our-net",), ("scratch", "fine-tune"))
    assert fit_runs(runs, "now") == fit_runs(runs, "now")
    (tmp_path / "runs.csv").write_text("x")
    assert time_of(tmp_path / "runs.csv") == time_of(tmp_path / "runs.csv")


def test_runs_from_scratch_alone_give_curves_of_one_strategy(tmp_path: Path):
    document = fit_runs(make_runs(("our-net",), ("scratch",)), "now")
    (curve,) = read_curves(write(document, tmp_path / "curves.json")).curves
    assert set(curve.draws) == set(curve.points) == {"scratch"}
    assert curve.upstream == NO_UPSTREAM


def test_what_cannot_be_fitted_is_named_and_the_rest_is_fitted():
    runs = make_runs(("our-net", "resnet1d18"), ("scratch", "frozen"))
    one_replicate = tuple(run for run in runs.runs if run.arch == "our-net" or run.replicate == 0)
    steps: list[tuple[int, int]] = []
    document = fit_runs(TidyRuns("ours", "auroc_macro", one_replicate, {}), "now", lambda *step: steps.append(step))
    assert [curve["arch"] for curve in document["curves"]] == ["our-net"]
    assert document["not_fitted"][0].startswith("ward resnet1d18: no size has two replicates")
    assert document["not_fitted"][1] == "25 frozen runs: curves are of scratch and fine-tune"
    assert steps == [(1, 2), (2, 2)]
