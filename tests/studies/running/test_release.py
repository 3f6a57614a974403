"""Networks in the zoo: how one gets there, and that those which ship are what their cards say."""

import json
import re
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.checkpoints.checkpoint import CheckpointError, CheckpointFacts, load_checkpoint, load_network
from engine.checkpoints.zoo import UnknownCheckpointError, find_checkpoint, released, suiting
from engine.checkpoints.zoo_folders import ZOO
from engine.deploy.zoo_card import zoo_card
from engine.files import file_sha256
from engine.records.contract import SignalContract
from engine.records.lead_names import LEADS
from studies.collection.packed_store import pack_store
from studies.findings.findings import shipped_stores
from studies.running.release import ReleaseError, describe_run, main, release
from studies.runs.run import Run
from studies.runs.store import Store

SOURCE = {
    "name": "ptb-xl",
    "version": "1.0.3",
    "licence": "CC BY 4.0",
    "url": "https://x.org",
    "citation": "Wagner 2020",
}
EVALUATION = {"auroc_macro": 0.8765, "auroc_macro_ci_lower": 0.86, "auroc_macro_ci_upper": 0.89, "n_records": 9,
              "n_patients": 8}  # fmt: skip


@pytest.fixture
def study(tmp_path: Path, checkpoint_writer, synthetic_run) -> Path:
    """A checkpoint of a study, next to the store that knows how it was trained."""
    run = synthetic_run("resnet1d18-w16", "scratch", 100, 0, 0.8765, role="pretraining")
    details = {**run.details, "spec": {**run.details["spec"], "pool_folds": [1, 2, 3]}}
    run = replace(run, key="abc", epochs=10, records_seen=800, best_epoch=9, details=details)
    store = Store(tmp_path / "made.db")
    store.add(run, np.zeros((2, 5)))
    store.close()
    checkpoint = tmp_path / "made.checkpoints" / "abc"
    return checkpoint_writer(checkpoint, "resnet1d18-w4", source=SOURCE, evaluation=EVALUATION, task="ptb-xl/all")


def card_auroc(folder: Path) -> str:
    found = re.search(r"^\| macro AUROC \| (0\.\d{3})", (folder / "CARD.md").read_text(), re.M)
    assert found
    return found[1]


def test_a_studys_network_is_released_with_what_its_store_knows(study: Path, tmp_path: Path):
    target = release(study, "mine-1.0", tmp_path / "zoo")
    assert sorted(path.name for path in target.iterdir()) == ["CARD.md", "checkpoint.json", "weights.safetensors"]
    network, facts = load_network(target)
    before = load_network(study)[0].state_dict()
    assert all((value == before[name]).all() for name, value in network.state_dict().items())
    assert (facts.record["training_records"], facts.record["validation_records"]) == (80, 20)
    assert facts.record["held_out"] == "fold 10 of the publisher's 10"
    card = (target / "CARD.md").read_text()
    assert card_auroc(target) == "0.876"
    for words in ("CC BY 4.0", "Wagner 2020", "records of folds 1, 2, 3 were seen", "--from mine-1.0", "4,", "| 80 |"):
        assert words in card
    assert "held out to be tested on: fold 10 of the publisher's 10; not used: folds 4, 5, 6, 7, 8, 9." in card


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"folds": "1, 2", "unused_folds": "none", "held_out": "fold 3"},
         "records of folds 1, 2 were seen here with these labels; held out to be tested on: fold 3."),
        ({"held_out": "9 of 45 patients"},
         "records of it were seen here with these labels; held out to be tested on: 9 of 45 patients."),
    ],
)  # fmt: skip
def test_a_card_says_what_was_seen_as_far_as_it_is_known(record: dict, says: str, tmp_path: Path, checkpoint_writer):
    facts = load_network(checkpoint_writer(tmp_path / "network", source=SOURCE, evaluation=EVALUATION))[1]
    assert says in zoo_card("mine", replace(facts, record=record), "0" * 64)


def test_the_released_network_is_found_by_name_and_by_what_it_takes(study: Path, tmp_path: Path):
    zoo = tmp_path / "zoo"
    release(study, "mine", zoo)
    facts = load_network(study)[1]
    assert find_checkpoint("mine", zoo) == zoo / "mine"
    assert list(suiting(facts.arch, facts.contract, zoo)) == ["mine"]
    assert suiting(facts.arch, replace(facts.contract, leads=facts.leads[:1]), zoo) == {}
    with pytest.raises(UnknownCheckpointError, match=r"released networks: gru-w32-ptbxl, .*; added: mine\)"):
        find_checkpoint("yours", zoo)


def test_of_several_that_suit_the_one_of_most_records_comes_first(tmp_path: Path, checkpoint_writer):
    for name, n in (("a", 10), ("b", 30), ("c", 20)):
        checkpoint_writer(tmp_path / name, n_records=n)
    signal = load_network(tmp_path / "a")[1].contract
    assert list(suiting("resnet1d18-w4", signal, tmp_path)) == ["b", "c", "a"]


def test_what_cannot_be_released_is_said(study: Path, tmp_path: Path, checkpoint_writer, monkeypatch, capsys):
    zoo = tmp_path / "zoo"
    with pytest.raises(ReleaseError, match="not a name for a network"):
        release(study, "../up", zoo)
    untested = checkpoint_writer(tmp_path / "untested", source=SOURCE)
    with pytest.raises(ReleaseError, match="never tested"):
        release(untested, "x", zoo)
    foreign = checkpoint_writer(tmp_path / "foreign", evaluation=EVALUATION)
    with pytest.raises(ReleaseError, match="under which licence"):
        release(foreign, "x", zoo)
    alone = checkpoint_writer(tmp_path / "alone", evaluation=EVALUATION, source=SOURCE)
    with pytest.raises(ReleaseError, match="does not say how it was trained"):
        release(alone, "x", zoo)
    moved = study.rename(study.with_name("other"))
    with pytest.raises(ReleaseError, match="holds no run other"):
        release(moved, "x", zoo)
    assert not zoo.exists()
    for arguments, says in (([], "usage: "), ([str(tmp_path / "none"), "x"], "error: .* is not a checkpoint")):
        monkeypatch.setattr("sys.argv", ["release", *arguments])
        with pytest.raises(SystemExit, match=says):
            main()


@pytest.fixture
def started_from(study: Path, synthetic_run) -> Path:
    """The store of ``study`` with runs that start from its network, other seeds of it, and runs from elsewhere."""
    store = Store(study.parents[1] / "made.db")
    (made,) = store.runs()
    for replicate, score in ((1, 0.88), (2, 0.87)):
        spec = {**made.details["spec"], "replicate": replicate}
        other = replace(made, key=f"seed-{replicate}", replicate=replicate, auroc_macro=score)
        store.add(replace(other, details={**made.details, "spec": spec}), np.zeros((2, 5)))
    for n in (25, 50, 100, 250):
        for replicate in (0, 1):
            for arm, score, key in (
                ("scratch", 0.5, None),
                ("fine-tune", 0.6 + replicate / 10 - n / 1000, "abc"),
                ("linear-probe", 0.75, "abc"),
            ):
                if arm == "linear-probe" and n == 250 and replicate:
                    continue
                run = synthetic_run("resnet1d18-w16", arm, n, replicate, score)
                details = {**run.details, "start_from": key, "recipe": {**run.details["recipe"], "head": "probe"}}
                store.add(replace(run, task="ludb/diagnoses", details=details), np.zeros((2, 5)))
    elsewhere = synthetic_run("resnet1d18-w16", "fine-tune", 100, 2, 0.99)
    details = {**elsewhere.details, "start_from": "seed-1"}
    store.add(replace(elsewhere, task="ludb/diagnoses", details=details), np.zeros((2, 5)))
    store.close()
    return study


def test_a_card_says_what_runs_scored_that_started_from_exactly_this_network(started_from: Path, tmp_path: Path):
    target = release(started_from, "mine", tmp_path / "zoo")
    card, facts = (target / "CARD.md").read_text(), load_network(target)[1]
    assert [row["n_records"] for row in facts.record["starting_point"]] == [25, 100, 250]
    section = card[card.index("## As a starting point") : card.index("## Licence")]
    assert re.findall(r"^\| (ludb.*) \|$", section, re.M) == [
        "ludb/diagnoses | 25 | 2 | 0.500 | 0.625 | 0.750 | +0.125 (0.050)",
        "ludb/diagnoses | 100 | 2 | 0.500 | 0.550 | 0.750 | +0.050 (0.050)",
        "ludb/diagnoses | 250 | 2 | 0.500 | 0.400 | - | -0.100 (0.050)",
    ]
    assert "(its run `abc`)" in section
    assert "recipe tuned (LP-FT: the head starts as a linear probe)" in section
    assert "starting point" not in card[card.index("## Training data") :]


def test_a_card_says_by_what_its_seed_was_chosen_and_how_the_others_scored(started_from: Path, tmp_path: Path):
    card = (release(started_from, "mine", tmp_path / "zoo") / "CARD.md").read_text()
    assert (
        "- One of 3 trainings that differ in their seed alone, the first, by its number and not by its score: their "
        "macro AUROC on the test records is 0.8700 to 0.8800, this one's 0.8765." in card
    )
    assert "One training from one seed" not in card


def test_a_network_that_nothing_started_from_has_no_such_section(study: Path, tmp_path: Path):
    card = (release(study, "mine", tmp_path / "zoo") / "CARD.md").read_text()
    assert "As a starting point" not in card
    assert "One training from one seed: another would give another network" in card


def test_the_store_next_to_a_studys_networks_may_be_packed(started_from: Path, tmp_path: Path):
    plain = release(started_from, "mine", tmp_path / "zoo")
    store = started_from.parents[1] / "made.db"
    pack_store(store, store.with_name("made.db.xz"))
    store.unlink()
    packed = release(started_from, "mine", tmp_path / "other")
    assert (packed / "checkpoint.json").read_bytes() == (plain / "checkpoint.json").read_bytes()


@pytest.mark.parametrize(
    ("arch", "leads", "name"),
    [
        ("resnet1d18-w16", LEADS, "resnet1d18-w16-ptbxl"),
        ("resnet1d18-w16", ("I",), "resnet1d18-w16-ptbxl-lead-i"),
        ("resnet1d18-w16", ("II",), "resnet1d18-w16-ptbxl-lead-ii"),
        ("gru-w32", LEADS, "gru-w32-ptbxl"),
        ("gru-w32", ("I",), "gru-w32-ptbxl-lead-i"),
    ],
)
def test_the_released_network_for_the_records_leads_is_taken(arch: str, leads: tuple[str, ...], name: str):
    assert list(suiting(arch, SignalContract(leads, 100.0, 1000))) == [name]


@pytest.mark.parametrize("name", released())
def test_what_a_released_network_says_of_runs_is_what_the_store_that_ships_says(name: str):
    facts = load_checkpoint(released()[name]).facts
    stores = [[*found.values()] for found in map(_runs_by_key, shipped_stores()) if _made(found, facts)]
    assert len(stores) == 1, f"no store that ships, or several, made {name}"
    (runs,) = stores
    run = next(run for run in runs if run.key == facts.record["run"])
    assert facts.record == json.loads(json.dumps(describe_run(run, runs))), (
        "release it anew: python -m studies.running.release CHECKPOINT NAME"
    )
    assert facts.record["seeds"]["replicate"] == 0 if "seeds" in facts.record else run.replicate == 0


def _runs_by_key(path: Path) -> dict[str, Run]:
    with closing(Store(path, create=False)) as store:
        return {str(run.key): run for run in store.runs()}


def _made(runs: dict[str, Run], facts: CheckpointFacts) -> bool:
    """Whether the training of a network is among runs: of one key another machine made another one."""
    run = runs.get(facts.record["run"])
    return run is not None and run.auroc_macro == facts.evaluation["auroc_macro"]


@pytest.mark.parametrize("name", released())
def test_every_released_network_is_what_its_card_says(name: str, tmp_path: Path):
    folder = ZOO / name
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_200_000
    _, facts = load_network(folder)
    assert card_auroc(folder) == f"{facts.evaluation['auroc_macro']:.3f}"
    assert facts.metrics["auroc_macro"] == facts.evaluation["auroc_macro"]
    card = (folder / "CARD.md").read_text()
    assert json.loads((folder / "checkpoint.json").read_text())["sha256"] in card
    assert facts.source["citation"] in card
    assert facts.source["licence"] in card
    assert facts.record["held_out"] == "fold 10 of the publisher's 10"
    assert "## As a starting point" in card
    assert card == zoo_card(name, facts, file_sha256(folder / "weights.safetensors"))
    seen, unused = (facts.record[name].split(", ") for name in ("folds", "unused_folds"))
    assert sorted([*seen, *unused, "10"], key=int) == [str(fold) for fold in range(1, 11)]
    altered = shutil.copytree(folder, tmp_path / "altered")
    weights = bytearray((altered / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (altered / "weights.safetensors").write_bytes(weights)
    with pytest.raises(CheckpointError, match="SHA-256 differs"):
        load_network(altered)
