import itertools
import re
import textwrap
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import wfdb

from engine.corpora.corpus import Corpus
from engine.recipes import PROBES, find_recipe
from models.registry import find_network
from studies.files.curves import is_released
from studies.findings.findings import shipped_stores
from studies.running import design as design_module
from studies.running.design import Design, DesignError, read_design
from studies.running.expansion import expand, hash_tasks
from studies.running.study_corpora import open_corpora
from studies.runs.run_spec import RunSpec, find_keys
from studies.runs.store import Store
from studies.runs.store_files import name_of
from studies.runs.task_names import open_task

DESIGN = """
name = "tiny"
tasks = ["ptb-xl/superclass"]
archs = ["resnet1d18-w2", "gru-w4"]
strategies = ["scratch", "fine-tune"]
upstream = "ptb-xl/non-diagnostic"
upstream_folds = [1, 2, 3, 4]
pool_folds = [5, 6, 7, 8, 9]
test_folds = [10]
sizes = [20, 40]
replicates = 2
recipe = "tuned"
"""
STUDIES = Path(__file__).parents[3] / "studies"
SHIPPED = sorted((STUDIES / "designs").glob("*.toml"))
STORES = [one for one in shipped_stores() if name_of(one) != "ptbxl-full"]  # wide recurrent networks train slower since


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "design.toml"
    path.write_text(text)
    return path


@pytest.fixture
def design(tmp_path: Path) -> Design:
    return read_design(write(tmp_path, DESIGN))


def changed(design: Design, **values: object) -> Design:
    """The design with other values in its one grid."""
    return replace(design, grids=(replace(design.grids[0], **values),))


def upstream_of(design: Design) -> str:
    return design.grids[0].upstreams[0]


def test_every_arm_network_and_rate_of_a_replicate_shares_one_seed(design: Design, corpus: Corpus):
    runs = [
        r
        for r in expand(changed(design, learning_rates=(0.001, 0.01)), {"ptb-xl": corpus})
        if r.task != upstream_of(design)
    ]
    assert len(runs) == 2 * 2 * 2 * 2 * 2
    seeds = {(run.n_records, run.replicate): run.seed for run in runs}
    assert all(seeds[run.n_records, run.replicate] == run.seed for run in runs)
    assert len(set(seeds.values())) == 4


def test_pretraining_is_a_run_of_its_own_and_shared(design: Design, corpus: Corpus):
    specs = expand(design, {"ptb-xl": corpus})
    pretraining = [spec for spec in specs if spec.task == upstream_of(design)]
    assert [spec.arch for spec in pretraining] == list(design.grids[0].archs)
    assert specs[: len(pretraining)] == pretraining
    assert {s.pretraining() for s in specs if s.strategy == "fine-tune"} == set(pretraining)
    assert all(set(spec.pool_folds) == {1, 2, 3, 4} for spec in pretraining)


def test_runs_come_replicate_by_replicate(design: Design, corpus: Corpus):
    replicates = [spec.replicate for spec in expand(design, {"ptb-xl": corpus}) if spec.task != upstream_of(design)]
    assert replicates == sorted(replicates)


def test_random_convolutions_are_run_once_whatever_the_networks_and_rates(design: Design, corpus: Corpus):
    arms = ("linear-probe", "random-convolutions")
    runs = expand(changed(design, strategies=arms, learning_rates=(0.001, 0.01)), {"ptb-xl": corpus})
    kernels = [run for run in runs if run.strategy == "random-convolutions"]
    assert len(kernels) == 2 * 2
    assert {(run.arch, run.upstream, run.learning_rate) for run in kernels} == {("random-convolutions", None, None)}
    probes = [run for run in runs if run.strategy == "linear-probe"]
    assert len(probes) == 2 * 2 * 2
    assert {(run.arch, run.upstream) for run in probes} == {
        (arch, upstream_of(design)) for arch in design.grids[0].archs
    }
    assert {run.pretraining() for run in probes} == {run for run in runs if run.strategy == "scratch"}


def test_random_convolutions_as_a_network_are_refused(design: Design, corpus: Corpus):
    with pytest.raises(DesignError, match="random-convolutions is not trained"):
        expand(changed(design, archs=("random-convolutions",)), {"ptb-xl": corpus})


def test_all_stands_for_the_whole_pool(design: Design, corpus: Corpus):
    specs = expand(changed(design, sizes=("all",)), {"ptb-xl": corpus})
    pool = len(corpus.task("superclass").in_folds([5, 6, 7, 8, 9]))
    assert {spec.n_records for spec in specs if spec.task != upstream_of(design)} == {pool}


def test_a_key_depends_on_everything_that_changes_the_result(design: Design, corpus: Corpus):
    specs = expand(design, {"ptb-xl": corpus})
    hashes = hash_tasks(specs, {"ptb-xl": corpus})
    spec = specs[-1]
    assert spec.strategy == "fine-tune"
    changes: list[dict] = [
        {"n_records": 21}, {"replicate": 7}, {"arch": "gru-w8"}, {"learning_rate": 0.5}, {"test_folds": (9,)},
        {"strategy": "scratch"}, {"upstream_folds": (1,)},
    ]  # fmt: skip
    keys = {spec.key(hashes), *(replace(spec, **change).key(hashes) for change in changes)}
    keys.add(spec.key({**hashes, "ptb-xl/superclass": "other data"}))
    keys.add(spec.key({**hashes, "ptb-xl/non-diagnostic": "other data"}))  # through its pre-training
    assert len(keys) == len(changes) + 3


def test_an_optional_field_that_is_not_set_leaves_the_key_alone():
    spec = RunSpec("ptb-xl/superclass", "gru", "scratch", None, 100, 0, "tuned", (5,), (10,))
    assert "learning_rate" not in spec.canonical()
    assert replace(spec, learning_rate=0.1).canonical()["learning_rate"] == 0.1


def test_everything_that_the_data_cannot_give_is_listed_at_once(design: Design, corpus: Corpus):
    broken = changed(
        design, tasks=("ptb-xl/superclas", "cpsc2018/all"), archs=("gruu",), upstream_folds=(77,), recipe="secret"
    )
    with pytest.raises(DesignError) as error:
        expand(broken, {"ptb-xl": corpus})
    for part in ("superclas'", "cpsc2018", "did you mean gru", "folds [77]", "secret"):
        assert part in str(error.value)
    with pytest.raises(DesignError, match=r"has \d+ records in folds .* fewer than the size 100000"):
        expand(changed(design, sizes=(100_000,)), {"ptb-xl": corpus})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("replicates = 0", "at least 1"),
        ("replicates = 99999999999999999999999999" + "9" * 5000, "not TOML"),
        ("learning_rates = [nan]", "must be positive"),
        ('upstream = ""', "must not be empty"),
        ("replicates = true", "whole number"),
        ('sizes = [0, "most"]', "size 0 must be .*size 'most' must be"),
        ('strategies = ["scratch", "tune"]', "unknown strategy 'tune'"),
        ("test_folds = [9]", "pool_folds and test_folds share fold 9"),
        ("upstream_folds = [5]", "share fold 5"),
        ("learning_rates = [-1]", "must be positive"),
        ("archs = []", "at least one"),
        ("budget = 3", "unknown key 'budget'"),
        ("name = ", "not TOML"),
    ],
)
def test_a_malformed_design_is_refused_with_the_reason(tmp_path: Path, line: str, reason: str):
    key = line.split(" =")[0]
    text = "\n".join([row for row in DESIGN.splitlines() if not row.startswith(f"{key} ")] + [line])
    with pytest.raises(DesignError, match=reason):
        read_design(write(tmp_path, text))


def test_a_test_fold_without_records_is_named(design: Design, corpus: Corpus):
    with pytest.raises(DesignError, match=r"no records in folds \[99\]"):
        expand(changed(design, test_folds=(99,)), {"ptb-xl": corpus})


def test_the_same_run_asked_for_twice_is_one(design: Design, corpus: Corpus):
    pool = len(corpus.task("superclass").in_folds([5, 6, 7, 8, 9]))
    once = expand(changed(design, sizes=("all",)), {"ptb-xl": corpus})
    assert expand(changed(design, sizes=("all", pool)), {"ptb-xl": corpus}) == once


@pytest.mark.parametrize("sides", [("pool_folds", "test_folds"), ("pool_folds", "upstream_folds")])
def test_folds_that_share_a_patient_are_refused(design: Design, corpus: Corpus, monkeypatch, sides: tuple[str, str]):
    first = [np.flatnonzero(np.isin(corpus.folds, getattr(design.grids[0], side)))[0] for side in sides]
    patients = corpus.patients.copy()
    patients[first[1]] = patients[first[0]]  # one person, two folds
    monkeypatch.setattr(corpus, "patients", patients)
    with pytest.raises(DesignError, match=f"1 patients of ptb-xl/superclass are in both {sides[0]} and {sides[1]}"):
        expand(design, {"ptb-xl": corpus})


def test_a_missing_key_and_a_missing_file_are_named(tmp_path: Path):
    with pytest.raises(DesignError, match="missing key 'recipe'"):
        read_design(write(tmp_path, DESIGN.replace('recipe = "tuned"', "")))
    with pytest.raises(DesignError, match="no design file"):
        read_design(tmp_path / "none.toml")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_designs_are_well_formed_and_name_networks_and_recipes_that_exist(path: Path):
    design = read_design(path)
    assert design.name == path.stem
    for grid in design.all_grids:
        for arch, strategy in itertools.product(grid.archs, grid.strategies):
            found = find_recipe(grid.recipe, find_network(arch).family, strategy)
            assert found.name == ("probe" if strategy in PROBES else grid.recipe)


@pytest.mark.parametrize("store", STORES, ids=name_of)
def test_the_keys_of_stored_runs_are_what_they_were(store: Path):
    """A change here makes every stored run be run again.

    Keys of runs from another team's network hash its weights, which are not here.
    """
    runs = Store(store, create=False).runs()
    hashes = {run.spec.read_task: run.data_hash for run in runs}
    specs = {run.key: run.spec for run in runs if not is_released(run.upstream or "")}
    assert {key: spec.key(hashes) for key, spec in specs.items()} == {key: key for key in specs}
    assert find_keys(specs.values(), hashes) == {spec: key for key, spec in specs.items()}
    assert specs["5ef3ade719caeb52c8b24a6c"].task == "ptb-xl/non-diagnostic"  # a literal one, should all be made anew


def test_every_upstream_is_run_with_every_arm_that_starts_from_one(design: Design, corpus: Corpus):
    upstreams = ("ptb-xl/non-diagnostic", "ptb-xl/all")
    specs = expand(changed(design, upstreams=upstreams, archs=("gru-w4",)), {"ptb-xl": corpus})
    cells = {(s.strategy, s.upstream, s.n_records, s.replicate) for s in specs if s.task == "ptb-xl/superclass"}
    arms = [("scratch", None), *(("fine-tune", upstream) for upstream in upstreams)]
    assert cells == {(*arm, n, replicate) for arm in arms for n in (20, 40) for replicate in (0, 1)}
    assert [spec.task for spec in specs[:2]] == list(upstreams)


GRIDS = """
name = "several"
archs = ["gru-w4"]
strategies = ["scratch", "fine-tune"]
upstream_folds = [1, 2, 3, 4]
pool_folds = [5, 6, 7, 8, 9]
test_folds = [10]
sizes = [20, 40]
replicates = 2
recipe = "tuned"

[tuning]
tasks = ["ptb-xl/superclass"]
upstream = "ptb-xl/non-diagnostic"
learning_rates = [0.01, 0.1]
sizes = [20]
replicates = 1

[[grid]]
tasks = ["ptb-xl/superclass"]
upstream = "ptb-xl/non-diagnostic"

[[grid]]
tasks = ["ptb-xl/rhythm", "ptb-xl/superclass"]
upstreams = ["ptb-xl/all"]
sizes = [40]

[data]
ptb-xl = "downloads/ptb-xl"
"""


def test_grids_share_what_is_said_once_and_the_same_run_in_two_is_one(tmp_path: Path, corpus: Corpus):
    design = read_design(write(tmp_path, GRIDS))
    assert design.data == {"ptb-xl": Path("downloads/ptb-xl")}
    assert design.tasks == ("ptb-xl/superclass", "ptb-xl/non-diagnostic", "ptb-xl/rhythm", "ptb-xl/all")
    specs = expand(design, {"ptb-xl": corpus})
    assert (
        len(specs) == len(set(specs)) == 2 + 4 + 2 * (4 + 2 + 1)
    )  # pre-trainings, tuning, and two replicates of either grid
    one = [s for s in specs if s.task == "ptb-xl/superclass" and s.n_records == 40 and s.replicate == 1]
    assert {(s.strategy, s.upstream) for s in one} == {
        ("scratch", None), ("fine-tune", "ptb-xl/non-diagnostic"), ("fine-tune", "ptb-xl/all")
    }  # fmt: skip
    downstream = [spec for spec in specs if spec.pool_folds == (5, 6, 7, 8, 9)]
    assert [spec.replicate for spec in downstream] == [100] * 4 + [0] * 7 + [1] * 7


def test_a_stage_comes_whole_before_the_next_with_the_pretrainings_it_needs(tmp_path: Path, corpus: Corpus):
    text = (
        GRIDS[: GRIDS.index("[tuning]")]
        + """
[[grid]]
stage = 2
tasks = ["ptb-xl/superclass"]
archs = ["resnet1d18-w2"]
upstream = "ptb-xl/non-diagnostic"

[[grid]]
tasks = ["ptb-xl/superclass"]
upstream = "ptb-xl/non-diagnostic"

[[grid]]
tasks = ["ptb-xl/rhythm"]
upstream = "ptb-xl/all"
"""
    )
    design = read_design(write(tmp_path, text))
    assert [grid.stage for grid in design.grids] == [2, 1, 1]
    specs = expand(design, {"ptb-xl": corpus})
    pretrainings = {run.pretraining() for run in specs} - {None}
    shown = [("pre" if run in pretrainings else run.replicate, run.arch) for run in specs]
    first = [("pre", "gru-w4")] * 2 + [(0, "gru-w4")] * 8 + [(1, "gru-w4")] * 8
    second = [("pre", "resnet1d18-w2")] + [(0, "resnet1d18-w2")] * 4 + [(1, "resnet1d18-w2")] * 4
    assert shown == first + second


def test_another_upstream_replicate_is_another_network_and_leaves_old_keys_alone(tmp_path: Path, corpus: Corpus):
    text = (
        GRIDS[: GRIDS.index("[tuning]")]
        + """
[[grid]]
tasks = ["ptb-xl/superclass"]
upstream = "ptb-xl/non-diagnostic"

[[grid]]
tasks = ["ptb-xl/superclass"]
upstream = "ptb-xl/non-diagnostic"
upstream_replicate = 1
first_replicate = 2
replicates = 1
"""
    )
    specs = expand(read_design(write(tmp_path, text)), {"ptb-xl": corpus})
    tuned = [run for run in specs if run.strategy == "fine-tune"]
    assert {(run.replicate, run.upstream_replicate) for run in tuned} == {(0, 0), (1, 0), (2, 1)}
    networks = {run.upstream_replicate: run.pretraining() for run in tuned}
    assert networks[0].replicate == 0
    assert networks[1] == replace(networks[0], replicate=1)
    assert networks[0].seed != networks[1].seed
    assert "upstream_replicate" not in tuned[0].canonical()
    assert tuned[-1].canonical()["upstream_replicate"] == 1
    assert not any("upstream_replicate" in network.canonical() for network in networks.values())


def test_a_pre_training_may_have_another_recipe_than_its_runs(tmp_path: Path, corpus: Corpus):
    text = GRIDS[: GRIDS.index("[[grid]]")].replace('recipe = "tuned"', 'recipe = "tuned-2"\nupstream_recipe = "tuned"')
    text += '[[grid]]\ntasks = ["ptb-xl/superclass"]\nupstream = "ptb-xl/non-diagnostic"\n'
    specs = expand(read_design(write(tmp_path, text)), {"ptb-xl": corpus})
    own = [run for run in specs if run.replicate == 0 and run.task == "ptb-xl/superclass"]
    assert {run.recipe for run in own} == {"tuned-2"}
    tuned = next(run for run in own if run.strategy == "fine-tune")
    assert tuned.pretraining() == replace(replace(tuned, recipe="tuned", upstream_recipe="").pretraining())
    assert tuned.pretraining().recipe == "tuned"
    assert all("upstream_recipe" not in run.canonical() for run in specs if run.upstream is None)
    with pytest.raises(DesignError, match="no recipe is named 'secret'"):
        expand(read_design(write(tmp_path, text.replace('"tuned"', '"secret"'))), {"ptb-xl": corpus})


def test_tuning_draws_other_subsets_than_the_evidence_and_both_arms_get_the_same_budget(tmp_path: Path, corpus: Corpus):
    specs = expand(read_design(write(tmp_path, GRIDS)), {"ptb-xl": corpus})
    tuning = [spec for spec in specs if spec.learning_rate is not None]
    assert {(s.strategy, s.learning_rate) for s in tuning} == {
        (a, r) for a in ("scratch", "fine-tune") for r in (0.01, 0.1)
    }
    assert not {spec.seed for spec in tuning} & {spec.seed for spec in specs if spec.learning_rate is None}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (('upstreams = ["ptb-xl/all"]', 'upstreams = ["ptb-xl/all"]\nupstream = "ptb-xl/all"'), "grid 2: give either"),
        (('upstream = "ptb-xl/non-diagnostic"\n\n', "\n"), "grid 1: fine-tune needs upstream"),
        (("learning_rates = [0.01, 0.1]", ""), "tuning: missing key 'learning_rates'"),
        (("[[grid]]", "[grid]"), "not TOML|list of tables"),
        (('"downloads/ptb-xl"', "3"), "must name a directory"),
        (("[data]", "[dada]"), "unknown key 'dada'"),
        (("sizes = [40]", "sizes = [40]\nvalidation_folds = [4]"), "grid 2: validation_folds must lie in pool_folds"),
        (("sizes = [40]", "sizes = [40]\nupstream_test_folds = [4]"), "grid 2: upstream_folds and upstream_test_folds"),
        (('archs = ["gru-w4"]', ""), "tuning: missing key 'archs'; grid 1: missing key 'archs'; grid 2"),
    ],
)
def test_a_malformed_grid_is_refused_with_its_number_and_the_reason(
    tmp_path: Path, change: tuple[str, str], reason: str
):
    assert change[0] in GRIDS
    with pytest.raises(DesignError, match=reason):
        read_design(write(tmp_path, GRIDS.replace(*change)))


def test_optional_fields_give_keys_of_their_own_and_reach_the_pretraining(design: Design, corpus: Corpus):
    specs = expand(changed(design, archs=("gru-w4",), sizes=(40,)), {"ptb-xl": corpus})
    spec = specs[-1]
    hashes = {**(known := hash_tasks(specs, {"ptb-xl": corpus})), "ptb-xl/superclass@I": known["ptb-xl/superclass"]}
    changes: list[dict] = [{"validation_folds": (9,)}, {"upstream_test_folds": (9,)}, {"task": "ptb-xl/superclass@I"}]
    assert len({spec.key(hashes), *(replace(spec, **change).key(hashes) for change in changes)}) == 4
    pretraining = replace(spec, validation_folds=(9,), upstream_test_folds=(9,)).pretraining()
    assert pretraining is not None
    assert (pretraining.validation_folds, pretraining.test_folds) == ((), (9,))


def test_records_without_a_publishers_fold_get_ten_by_patient(corpus: Corpus, monkeypatch):
    monkeypatch.setattr(corpus, "folds", np.full(len(corpus), -1))
    task, other = open_task(corpus, "ptb-xl/superclass"), open_task(corpus, "ptb-xl/rhythm")
    assert set(task.folds) == set(range(1, 11))
    for fold in range(1, 11):
        assert 15 <= (task.folds == fold).sum() <= 33
        inside, outside = (set(task.patients[side].tolist()) for side in (task.folds == fold, task.folds != fold))
        assert not inside & outside
    by_row = dict(zip(task.rows.tolist(), task.folds.tolist(), strict=True))
    assert all(
        by_row.get(row, fold) == fold for row, fold in zip(other.rows.tolist(), other.folds.tolist(), strict=True)
    )


def test_leads_that_do_not_match_are_named(design: Design, corpus: Corpus, monkeypatch):
    with pytest.raises(DesignError, match="no lead 'VX'; it has I, II"):
        expand(changed(design, tasks=("ptb-xl/superclass@VX",)), {"ptb-xl": corpus})
    other = copy(corpus)
    other.leads = ("I",)
    with pytest.raises(
        DesignError, match=r"ptb-xl/superclass has leads I II .* upstream one-lead/all has I: choose some"
    ):
        expand(changed(design, upstreams=("one-lead/all",)), {"ptb-xl": corpus, "one-lead": other})
    matched = changed(design, tasks=("ptb-xl/superclass@I",), upstreams=("one-lead/all",))
    assert expand(matched, {"ptb-xl": corpus, "one-lead": other})


def test_an_upstream_of_records_of_another_length_or_rate_is_refused(design: Design, corpus: Corpus):
    upstreams = changed(design, upstreams=("other/all",))
    shorter, faster = copy(corpus), copy(corpus)
    shorter.signals = corpus.signals[:, :, :700]
    faster.fs = 250.0
    for other, said in ((shorter, "records of 10 s, not of 7 s"), (faster, "signals at 100 Hz, not at 250 Hz")):
        with pytest.raises(DesignError, match=f"ptb-xl/superclass has {said} as its upstream other/all has"):
            expand(upstreams, {"ptb-xl": corpus, "other": other})


def test_validation_folds_that_share_a_patient_with_training_are_refused(design: Design, corpus: Corpus, monkeypatch):
    patients = corpus.patients.copy()
    patients[np.flatnonzero(corpus.folds == 9)[0]] = patients[np.flatnonzero(corpus.folds == 5)[0]]
    monkeypatch.setattr(corpus, "patients", patients)
    assert expand(design, {"ptb-xl": corpus})
    with pytest.raises(
        DesignError, match="1 patients of ptb-xl/superclass are in both pool_folds and validation_folds"
    ):
        expand(changed(design, validation_folds=(9,)), {"ptb-xl": corpus})


def test_patients_of_pretraining_training_and_test_are_apart(design: Design, corpus: Corpus):
    grid = design.grids[0]
    folds = (grid.upstream_folds, grid.pool_folds, grid.test_folds)
    sides = [np.unique(corpus.patients[np.isin(corpus.folds, side)]) for side in folds]
    for one, other in itertools.combinations(sides, 2):
        assert not np.intersect1d(one, other).size


def test_a_directory_of_one_s_own_is_named_as_a_task_and_some_of_its_labels_are_one(tmp_path: Path, corpus: Corpus):
    ward = tmp_path / "records" / "ward-7"
    ward.mkdir(parents=True)
    lines = ["record,patient,AF,LBBB,PVC"]
    for row in range(40):
        signals = corpus.signals[row].T.astype(float)
        wfdb.wrsamp(f"r{row}", fs=100, units=["mV"] * 12, sig_name=list(corpus.leads), fmt=["16"] * 12,
                    p_signal=signals, write_dir=str(ward))  # fmt: skip
        lines.append(f"r{row},p{row},{row % 2},{row % 3 % 2},{int(row > 30)}")
    (ward / "labels.csv").write_text("\n".join(lines))
    example = re.search(r"under any name.*?:\n\n(.*?)\n\n", design_module.__doc__, re.DOTALL)[1]
    tasks, data = textwrap.dedent(example).split("[data]")
    rest = 'archs = ["gru-w4"]\nstrategies = ["scratch"]\npool_folds = [1, 2, 3, 4, 5]\ntest_folds = [6, 7]\n'
    rest += 'sizes = [10]\nreplicates = 1\nrecipe = "tuned"\nname = "own"\n'
    path = write(tmp_path, f"{tasks}{rest}[data]{data}".replace("records/ward-7", str(ward)))
    design = read_design(path)
    opened, missing = open_corpora(design, tmp_path / "corpora")
    assert not missing
    runs = expand(design, opened)
    assert [run.task for run in runs] == ["mine/labels", "mine/AF+LBBB"]
    assert [open_task(opened["mine"], run.task).classes for run in runs] == [("AF", "LBBB", "PVC"), ("AF", "LBBB")]
    assert len(set(find_keys(runs, hash_tasks(runs, opened)).values())) == 2


def test_a_network_s_name_is_the_same_in_upper_and_lower_case(design: Design, corpus: Corpus):
    spelled = changed(design, archs=("ResNet1D18-W2", "GRU-w4"))
    assert expand(spelled, {"ptb-xl": corpus}) == expand(design, {"ptb-xl": corpus})
