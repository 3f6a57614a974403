import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.registry import count_parameters, create_network
from studies.collection.collect import EvidenceError, collect, make_curves
from studies.files.curves import CurvesFileError, read_curves
from studies.files.draws_codec import read_draws
from studies.runs.run import Run
from studies.runs.store import Store
from studies.runs.tidy_runs import read_runs


def altered(curves_path: Path, tmp_path: Path, change) -> Path:
    document = json.loads(curves_path.read_text())
    for curve in document["curves"]:  # as files of schema 2 have them
        for draws in curve["draws"].values():
            draws.update({name: read_draws(draws)[name].tolist() for name in ("a", "b", "c", "n0")})
    change(document)
    (tmp_path / "curves.json").write_text(json.dumps(document))
    return tmp_path / "curves.json"


def test_collecting_twice_gives_the_same_bytes(tmp_path: Path, synthetic_store):
    store = synthetic_store(tmp_path / "s.db", lambda n: 0.9 - 2 * n**-0.5, lambda n: 0.9 - 2 * (n + 300) ** -0.5)
    one = [path.read_bytes() for path in collect(store, "s", tmp_path / "one")[:2]]
    other = [path.read_bytes() for path in collect(store, "s", tmp_path / "other")[:2]]
    assert one == other


def test_curves_file_is_small_and_keeps_every_point(curves_path: Path):
    assert curves_path.stat().st_size < 2_000_000
    curves = read_curves(curves_path)
    assert {curve.arch for curve in curves.curves} == {"resnet1d18-w16", "gru-w32"}
    for curve in curves.curves:
        assert curve.sizes == (100, 250, 500, 1000, 2000)
        assert {len(values) for by_size in curve.points.values() for values in by_size.values()} == {5}
        assert curve.runs == 50
    assert curves.family_default == {"cnn": "resnet1d18-w16", "rnn": "gru-w32"}
    assert "resnet1d18" in curves.registered


def test_support_says_how_near_the_measured_sizes_are(curves_path: Path):
    curve = read_curves(curves_path).curves[0]
    expected = {109: "measured", 111: "interpolated", 2200: "measured", 2201: "extrapolated", 95: "measured",
                80: "extrapolated", 8001: "beyond", 24: "beyond", 25: "extrapolated"}  # fmt: skip
    assert {n: curve.support(n) for n in expected} == expected


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d.update(schema_version=4), "update ecgadvise"),
        (lambda d: d.update(schema_version="1"), "no schema_version"),
        (lambda d: d.pop("schema_version"), "no schema_version"),
        (lambda d: d.pop("networks"), "lacks 'networks'"),
        (lambda d: d["curves"][0].pop("noise"), "lacks 'noise'"),
        (lambda d: d["curves"][0]["draws"].pop("scratch"), "strategies"),
        (lambda d: d["curves"][0]["draws"]["scratch"]["a"].pop(), "number of draws"),
        (lambda d: d["curves"][0]["draws"]["scratch"]["a"].__setitem__(0, None), "damaged"),
        (lambda d: d["curves"][0].update(sizes=[]), "no sizes"),
        (lambda d: d["curves"][0].update(sizes=[10**400]), "positive whole number"),
        (lambda d: d["curves"][0].update(family="zebra"), "not a family"),
        (lambda d: d["curves"][0]["draws"]["scratch"]["a"].__setitem__(0, 5), "not a learning curve"),
        (lambda d: d["curves"][0]["draws"]["scratch"]["c"].__setitem__(0, -3), "not a learning curve"),
        (lambda d: d["curves"][0]["draws"]["scratch"]["b"].__setitem__(0, 1e308), "not a finite number"),
        (lambda d: d["curves"][0]["noise"].update(alpha=float("nan")), "NaN is not a JSON number"),
        (lambda d: d["curves"][0]["noise"].update(alpha="1"), "a number from"),
        (lambda d: d["curves"][0].update(cost={}), "lacks 'scratch'"),
        (lambda d: d["curves"][0]["cost"]["scratch"].update(seconds_per_record=-1), "a number from"),
        (lambda d: d["curves"][0]["cost"]["scratch"].update(device=7), "a text"),
        (lambda d: d["curves"][0].update(provenance={}), "lacks 'source'"),
        (lambda d: d["curves"][0].update(precision=""), "a text"),
        (lambda d: d["curves"][0]["provenance"].update(devices=[7]), "a text"),
        (lambda d: d["curves"][0]["cost"]["scratch"].update(other_devices={"GPU": -1}), "a number from"),
        (lambda d: d["curves"][0].update(warnings=[""]), "a text"),
        (lambda d: d["curves"][0].update(test_covariance=[[1e-4]]), "not of its arms"),
        (lambda d: d["curves"][0].update(test_covariance=[[1e-4, 2e-4], [2e-4, 1e-4]]), "covariance of the test set"),
        (lambda d: d["curves"][0].update(patients={"arms": ["scratch"], "covariance": [["x"]]}), "a number from"),
        (lambda d: d.update(networks={}), "does not describe"),
        (lambda d: d.update(curves=[]), "holds no curve"),
        (lambda d: d.update(schema_version=0), "no schema_version"),
        (lambda d: d.update(curves={"a": 1}), "damaged"),
    ],
)
def test_damage_is_named(curves_path: Path, tmp_path: Path, change, reason: str):
    path = altered(curves_path, tmp_path, change)
    with pytest.raises(CurvesFileError, match=reason) as error:
        read_curves(path)
    assert str(path) in str(error.value)


def test_missing_truncated_and_foreign_files_are_named(curves_path: Path, tmp_path: Path):
    cases = {
        "truncated.json": curves_path.read_bytes()[:5000],
        "binary.json": bytes(range(256)),
        "list.json": b"[1, 2]",
        "empty.json": b"",
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
    for name in [*cases, "missing.json", "."]:
        with pytest.raises(CurvesFileError):
            read_curves(tmp_path / name)


def test_a_store_without_both_arms_gives_no_curve(tmp_path: Path, synthetic_run):
    store = Store(tmp_path / "s.db")
    with pytest.raises(EvidenceError, match="both arms"):
        collect(store, "s", tmp_path)
    for n in (100, 250, 500, 1000):
        store.add(synthetic_run("gru-w32", "scratch", n, 0, 0.7), np.zeros((2, 5)))
    with pytest.raises(EvidenceError, match="both arms"):
        collect(store, "s", tmp_path)
    store.add(synthetic_run("gru-w32", "fine-tune", 100, 0, 0.8), np.zeros((2, 5)))
    with pytest.raises(EvidenceError, match="no size has two pairs"):
        collect(store, "s", tmp_path)


def test_only_complete_pairs_count(tmp_path: Path, synthetic_store, synthetic_run):
    store = synthetic_store(tmp_path / "s.db", lambda n: 0.9 - 2 * n**-0.5, lambda n: 0.9 - 2 * (n + 300) ** -0.5)
    for replicate, arm in ((5, "scratch"), (6, "fine-tune")):
        store.add(synthetic_run("gru-w32", arm, 500, replicate, 0.2), np.zeros((2, 5)))
    store.add(synthetic_run("gru-w32", "scratch", 4000, 0, 0.2), np.zeros((2, 5)))
    for arm in ("scratch", "fine-tune"):
        store.add(synthetic_run("gru-w32", arm, 8000, 0, 0.2), np.zeros((2, 5)))
    curve = next(c for c in read_curves(collect(store, "s", tmp_path)[1]).curves if c.arch == "gru-w32")
    assert curve.sizes == (100, 250, 500, 1000, 2000)
    assert (curve.replicates, curve.runs) == (5, 50)
    assert "5 of 55 runs have no pair yet and are left out" in curve.warnings


@pytest.mark.parametrize("difference", ["recipe", "data", "folds"])
def test_runs_of_different_studies_are_not_mixed(difference: str, tmp_path: Path, synthetic_store, synthetic_run):
    store = synthetic_store(tmp_path / "s.db", lambda n: 0.9 - 2 * n**-0.5, lambda n: 0.9 - 2 * (n + 300) ** -0.5)
    run = synthetic_run("gru-w32", "scratch", 100, 7, 0.7)
    details = json.loads(json.dumps(run.details))
    if difference == "recipe":
        details["recipe"]["learning_rate"] = 0.5
    elif difference == "data":
        run = replace(run, data_hash="e" * 64)
    else:
        details["spec"]["pool_folds"] = [1]
    store.add(replace(run, details=details), np.zeros((2, 5)))
    not_fitted = collect(store, "s", tmp_path)[2]
    assert len(not_fitted) == 1
    assert "gru-w32: the runs of scratch differ in recipe, data or folds" in not_fitted[0]


def variant(run: Run, spec: dict[str, object], **columns: object) -> Run:
    """The run with other columns and other words in its spec, under a key of its own."""
    made = replace(run, **columns, details={**run.details, "spec": {**run.details["spec"], **spec}})
    return replace(made, key="-".join(map(str, (made.key, made.recipe, made.strategy, made.role))))


def test_other_recipes_strategies_rates_and_splits_leave_the_curves_alone(
    tmp_path: Path, synthetic_store, synthetic_run
):
    store = synthetic_store(tmp_path / "s.db", lambda n: 0.9 - 2 * n**-0.5, lambda n: 0.9 - 2 * (n + 300) ** -0.5)
    before = json.loads(collect(store, "s", tmp_path)[1].read_text())
    pretraining = synthetic_run("gru-w32", "scratch", 8482, 0, 0.5, role="pretraining")
    store.add(variant(pretraining, {}, recipe="paper", seconds=1e6), np.zeros((2, 5)))
    for arm in ("scratch", "fine-tune"):
        for replicate in range(3):
            run = synthetic_run("gru-w32", arm, 500, replicate, 0.3)
            store.add(variant(run, {}, recipe="paper"), np.zeros((2, 5)))
            rated = variant(run, {"learning_rate": 0.1}, replicate=replicate + 100)
            store.add(replace(rated, key=f"rate-{run.key}"), np.zeros((2, 5)))
    for replicate in range(3):
        run = synthetic_run("gru-w32", "fine-tune", 500, replicate, 0.3)
        store.add(variant(run, {}, strategy="frozen"), np.zeros((2, 5)))
        store.add(variant(run, {}, strategy="random-frozen", upstream=None), np.zeros((2, 5)))
    whole = synthetic_run("gru-w32", "scratch", 19230, 0, 0.3)
    store.add(variant(whole, {"validation_folds": [9], "pool_folds": [1, 9]}), np.zeros((2, 5)))
    table, curves, not_fitted = collect(store, "s", tmp_path / "more")
    assert not_fitted == []
    assert json.loads(curves.read_text()) == before
    from_table, from_store = read_runs(table), read_runs(tmp_path / "s.db")
    assert [replace(run, place=None) for run in from_table.runs] == [
        replace(run, details={}) for run in from_store.runs
    ]
    assert from_table.pretrainings == from_store.pretrainings
    assert {run.strategy for run in from_table.runs} == {"scratch", "fine-tune", "frozen", "random-frozen"}
    assert max(run.replicate for run in from_table.runs) == 4


def test_a_pretraining_counts_for_the_runs_that_started_from_it(tmp_path: Path, synthetic_store, synthetic_run):
    store = synthetic_store(tmp_path / "s.db", lambda n: 0.9 - 2 * n**-0.5, lambda n: 0.9 - 2 * (n + 300) ** -0.5)
    other = synthetic_run("gru-w32", "scratch", 8482, 0, 0.5, role="pretraining")
    store.add(replace(other, key="another", seconds=77.0), np.zeros((2, 5)))
    runs = store.runs()
    for key, seconds in (("another", 77.0), (other.key, other.seconds)):
        named = [
            replace(run, details={**run.details, "start_from": key}) if run.strategy == "fine-tune" else run
            for run in runs
        ]
        curve = next(c for c in make_curves(named, "s")["curves"] if c["arch"] == "gru-w32")
        assert curve["cost"]["pretraining"]["seconds"] == seconds


def test_parameters_are_counted_for_five_classes_whatever_the_tasks_have(tmp_path: Path, synthetic_store):
    store = synthetic_store(tmp_path / "s.db", lambda n: 0.9 - 2 * n**-0.5, lambda n: 0.9 - 2 * (n + 300) ** -0.5)
    runs = [replace(run, details={**run.details, "classes": ["LVH"]}) for run in store.runs()]
    networks = make_curves(runs, "s")["networks"]
    counted = {arch: count_parameters(create_network(arch, n_classes=5)) for arch in networks}
    assert {arch: facts["parameters"] for arch, facts in networks.items()} == counted


def test_tasks_of_another_source_are_not_taken_for_ones_whose_labels_the_upstream_lacks(
    tmp_path: Path, synthetic_store
):
    store = synthetic_store(tmp_path / "s.db", lambda n: 0.9 - 2 * n**-0.5, lambda n: 0.9 - 2 * (n + 300) ** -0.5)
    runs = [run for run in store.runs() if run.arch == "gru-w32"]
    made_of = {"ptb-xl/LVH": "LVH", "ptb-xl/form": "PVC", "ludb/diagnoses": "Atrial fibrillation"}
    pretraining = [replace(r, details={**r.details, "classes": ["AFIB"]}) for r in runs if r.role == "pretraining"]
    tasks = [
        replace(r, key=f"{task} {r.key}", task=task, details={**r.details, "classes": [name]})
        for task, name in made_of.items()
        for r in runs
        if r.role == "downstream"
    ]
    pools = {c["upstream"]: c["tasks"] for c in make_curves([*pretraining, *tasks], "s")["curves"] if c.get("pooled")}
    assert pools == {
        "ptb-xl": ["ludb/diagnoses", "ptb-xl/LVH", "ptb-xl/form"],
        "ptb-xl/disjoint": ["ptb-xl/LVH", "ptb-xl/form"],
    }


def test_runs_stored_before_a_field_of_the_recipe_existed_are_not_different(
    tmp_path: Path, synthetic_store, synthetic_run
):
    store = synthetic_store(tmp_path / "s.db", lambda n: 0.9 - 2 * n**-0.5, lambda n: 0.9 - 2 * (n + 300) ** -0.5)
    for arm in ("scratch", "fine-tune"):
        run = synthetic_run("gru-w32", arm, 100, 7, 0.7)
        details = json.loads(json.dumps(run.details))
        del details["recipe"]["validation_fraction"]  # the default is what the others spell out
        store.add(replace(run, details=details), np.zeros((2, 5)))
    _, curves, not_fitted = collect(store, "s", tmp_path)
    assert not_fitted == []
    assert {curve.arch: curve.runs for curve in read_curves(curves).curves} == {"gru-w32": 52, "resnet1d18-w16": 50}


@pytest.mark.parametrize("schema", [2, 3])
def test_a_file_of_before_precision_was_written_is_of_float32(curves_path: Path, tmp_path: Path, schema: int):
    def older(document: dict) -> None:
        document["schema_version"] = schema
        for curve in document["curves"]:
            del curve["precision"], curve["provenance"]["devices"]

    assert [
        (curve.precision, curve.devices) for curve in read_curves(altered(curves_path, tmp_path, older)).curves
    ] == [("float32", ("CPU test, 1 thread of 2",))] * 2


def test_a_curve_of_runs_that_name_no_precision_has_none(curves_path: Path, tmp_path: Path):
    path = altered(curves_path, tmp_path, lambda document: document["curves"][0].update(precision=None))
    assert [curve.precision for curve in read_curves(path).curves] == [None, "float32"]


def test_times_on_other_devices_are_read(curves_path: Path, tmp_path: Path):
    def elsewhere(document: dict) -> None:
        cost = document["curves"][0]["cost"]
        cost["scratch"]["other_devices"] = {"GPU test": 0.001}
        cost["pretraining"]["other_devices"] = {"GPU test": 2.5}

    curve, other = read_curves(altered(curves_path, tmp_path, elsewhere)).curves
    assert curve.cost["scratch"].speeds == {"CPU test, 1 thread of 2": pytest.approx(1 / 1600), "GPU test": 0.001}
    assert curve.pretraining.other_devices == {"GPU test": 2.5}
    assert other.cost["scratch"].other_devices == {}
