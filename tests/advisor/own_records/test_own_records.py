"""``ecgadvise recommend --data`` as its users meet it: what is read, what does not match, what is refused."""

import html
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advisor.own_records.records import compare, open_own
from engine.checkpoints.checkpoint import load_checkpoint
from engine.corpora.corpus import Corpus
from engine.corpora.synthetic import prepared_synthetic
from engine.records.label_names import finding_of
from studies.files.transferability import NAME, TaskFacts

SCHEMA = json.loads((Path(__file__).parents[3] / "advisor" / "recommendation.schema.json").read_text())
Command = Callable[..., tuple[int, str, str]]
COLUMNS = {"wide": "wide QRS", "tall": "tall QRS"}


def write_directory(root: Path, corpus: Corpus, n_records: int, leads: int = 12) -> Path:
    """Write records of a corpus as WFDB files with a table of two labels."""
    import wfdb

    root.mkdir()
    lines = ["record,patient," + ",".join(COLUMNS)]
    columns = [corpus.label_names.index(name) for name in COLUMNS.values()]
    for row in range(n_records):
        name = f"r{row:03d}"
        wfdb.wrsamp(name, fs=100, units=["mV"] * leads, sig_name=list(corpus.leads[:leads]), fmt=["16"] * leads,
                    p_signal=corpus.signals[row, :leads].T.astype(float), write_dir=str(root))  # fmt: skip
        flags = ",".join(str(value) for value in corpus.labels[row, columns])
        lines.append(f"{name},p{corpus.patients[row]},{flags}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return prepared_synthetic(tmp_path_factory.mktemp("corpora"), 200)


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory, made_up: Corpus) -> Path:
    return write_directory(tmp_path_factory.mktemp("own") / "ward", made_up, 60)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ECGADVISE_CORPORA", str(tmp_path / "corpora"))
    yield tmp_path


@pytest.fixture
def known(curves_path: Path, tmp_path: Path) -> Callable[..., Path]:
    """A curves file that says what its records are, how the gap ranks gains, and what sites held out say of it."""

    def write(lower: float | None, sites: int = 3, held_out: dict[str, object] | None = None, **facts: object) -> Path:
        folder = tmp_path / "evidence"
        folder.mkdir(exist_ok=True)
        (folder / "curves.json").write_bytes(curves_path.read_bytes())
        leads = ["I", "II", "III", "aVR", "aVL", "aVF", *(f"V{k}" for k in range(1, 7))]
        task = {"source": "ptb-xl", "records": 9000, "leads": leads, "fs": 100.0,
                "prevalence": {"NORM": 0.44, "HYP": 0.12}} | facts  # fmt: skip
        numbers = {"spearman": 0.6, "ci_lower": lower, "ci_upper": 0.8}
        of_network = {"at_equal_n": numbers, "over_all_cells": numbers, "tasks": 3,
                      "cells": [[f"s{k % sites}/t", "up", 100, k / 10 - 0.1, 0.01 * k, 2] for k in range(3)]
                      + [["s0/t", "up", 4000, 0.1, 0.0, 2]],
                      "held_out_sites": held_out}  # fmt: skip
        document = {"schema_version": 1, "score": "probe gap", "tasks": {"ptb-xl/superclass": task},
                    "networks": {"resnet1d18-w16": of_network}}  # fmt: skip
        (folder / NAME).write_text(json.dumps(document))
        return folder / "curves.json"

    return write


def refused(ended: tuple[int, str, str], code: int) -> str:
    """Assert the exit code, nothing on stdout, and one sentence as the last line of stderr; return it."""
    assert ended[0] == code, ended
    assert ended[1] == ""
    last = ended[2].splitlines()[-1]
    assert last.startswith("error: ")
    assert "Traceback" not in ended[2]
    return last


def test_a_directory_of_records_gives_n_and_says_what_it_holds(ward: Path, curves_path: Path, command: Command):
    code, out, err = command("recommend", "--data", ward, "--arch", "cnn", "--curves", curves_path, "--json")
    assert code == 0, err
    answer = json.loads(out)
    jsonschema.validate(answer, SCHEMA)
    data = answer["data"]
    assert data["records"] == 60
    assert data["records_to_learn_from"] + data["records_to_test_on"] == 60
    assert answer["question"]["n_records"] == data["records_to_learn_from"]
    assert 8 <= data["records_to_test_on"] <= 16
    assert (len(data["leads"]), data["fs"], data["source"]) == (12, 100.0, "ward")
    table = np.array([line.split(",")[2:] for line in (ward / "labels.csv").read_text().split()[1:]], int)
    counts = dict(zip(COLUMNS, table.sum(axis=0).tolist(), strict=True))
    assert {name: facts["records"] for name, facts in data["classes"].items()} == counts
    assert data["classes"]["wide"]["prevalence"] == pytest.approx(counts["wide"] / 60, abs=2e-4)
    test = data["test_precision"]
    assert test["positive_patients"] + test["negative_patients"] <= data["records_to_test_on"]
    assert test["auroc"] == pytest.approx(max(arm["score"]["mean"] for arm in answer["arms"]), abs=1e-3)
    assert 0.05 < test["half_width"] < 0.5
    assert test["records_for_it"] > 60


def test_records_without_a_patient_are_not_said_to_be_of_as_many_patients(
    ward: Path, curves_path: Path, command: Command, tmp_path: Path
):
    alone = shutil.copytree(ward, tmp_path / "alone")
    rows = [line.split(",") for line in (ward / "labels.csv").read_text().split()]
    (alone / "labels.csv").write_text("\n".join(",".join([row[0], *row[2:]]) for row in rows) + "\n")
    for tree, told in ((ward, True), (alone, False)):
        asked = ("recommend", "--data", tree, "--arch", "cnn", "--curves", curves_path)
        text, page = command(*asked, "--explain", "--report", tmp_path / "out.html"), tmp_path / "out.html"
        data = json.loads(command(*asked, "--json")[1])["data"]
        assert data["patients_told_apart"] is told
        for said in (" ".join(text[1].split()), page.read_text()):
            assert ("60, each counted as a patient of its own, " in said) is not told
            assert (f"60, of {data['patients']} patients, " in said) is told
        whom = f"{data['patients']} {'patients' if told else 'records'}"
        assert data["held_out"].endswith(f"{whom}, drawn with equal shares of the labels, seed 0")
        assert ("test patients have" in " ".join(text[1].split())) is told
        checked = command("data", "check", tree)[1].splitlines()[0]
        people = f" of {data['patients']} patients, 0" if told else ", each counted as a patient of its own, 0"
        assert checked == f"{tree.name}: 60 records{people} unusable"


def test_the_records_of_an_evaluated_answer_do_not_change_it(ward: Path, curves_path: Path, command: Command):
    options = ("--arch", "cnn", "--curves", curves_path, "--json")
    own = json.loads(command("recommend", "--data", ward, "--n-records", 300, *options)[1])
    bare = json.loads(command("recommend", "--n-records", 300, *options)[1])
    assert own["data"]["records"] == 60
    assert own["warnings"][0].startswith("Answered for the 300 records given; ")
    for name in ("verdict", "gain", "scratch", "fine_tune", "break_even"):
        assert own[name] == bare[name]


def test_the_table_fits_a_terminal_and_shows_the_records_after_the_answer(ward: Path, known, command: Command):
    code, out, err = command("recommend", "--data", ward, "--arch", "cnn", "--curves", known(-0.2))
    assert code == 0, err
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines.index("Your records") > lines.index("macro AUROC    expected   90 % band          90 % of single runs")
    assert out.count("research only") == 1
    assert lines[-1].endswith("not for patient care.")
    explained = command("recommend", "--data", ward, "--arch", "cnn", "--curves", known(-0.2), "--explain")[1]
    assert "Your records" in explained
    assert explained.count("research only") == 1


def test_some_labels_or_another_task_can_be_chosen(ward: Path, made_up: Corpus, curves_path: Path, command: Command):
    options = ("--arch", "cnn", "--curves", curves_path, "--json", "--n-records", 100)
    one = json.loads(command("recommend", "--data", ward, "--labels", "tall", *options)[1])
    assert list(one["data"]["classes"]) == ["tall"]
    whole = json.loads(command("recommend", "--data", ward, "--labels", "ward/labels", *options)[1])
    assert whole["data"]["task"] == "ward/labels"
    assert list(whole["data"]["classes"]) == ["wide", "tall"]
    other = json.loads(command("recommend", "--data", made_up.root, "--labels", "morphology", *options)[1])
    assert other["data"]["task"] == "synthetic/morphology"
    said = refused(command("recommend", "--data", ward, "--labels", "AF,tall", *options), 2)
    assert "no label 'AF'" in said
    assert "wide, tall" in said


FACTS = TaskFacts("ptb-xl", 9000, tuple(f"L{k}" for k in range(12)), 100.0, {"NORM": 0.44, "HYP": 0.12})


def test_what_does_not_match_the_evidence_is_said_in_plain_words(made_up: Corpus, tmp_path: Path):
    tree = write_directory(tmp_path / "holter", made_up, 60, leads=1)
    own = open_own(tree, None, None, tmp_path / "corpora")
    said = " ".join(compare(own, {"t": FACTS}, ("t",)))
    assert "These records have one lead (I): the evidence's 12 leads" in said
    assert "The evidence's records are of ptb-xl, yours of holter" in said
    assert "labels" not in said  # two each
    one = open_own(tree, "tall", None, tmp_path / "corpora")
    assert "Your records have 1 label, the evidence's tasks 2." in compare(one, {"t": FACTS}, ("t",))


def test_records_of_another_length_or_rate_than_the_evidence_s_are_said_to_be(made_up: Corpus, tmp_path: Path):
    tree = write_directory(tmp_path / "ward", made_up, 60)
    own = open_own(tree, None, None, tmp_path / "corpora", seconds=7, fs=250)
    assert (own.corpus.signals.shape[1:], own.as_dict()["seconds"], own.as_dict()["fs"]) == ((12, 1750), 7.0, 250.0)
    said = compare(own, {"t": FACTS}, ("t",))
    nothing = "nothing was measured with such records."
    assert f"These records are at 250 Hz: the evidence's at 100 Hz; {nothing}" in said
    assert f"These records are of 7 s: the evidence's of 10 s; {nothing}" in said
    measured = replace(FACTS, seconds=7.0)
    assert not [s for s in compare(own, {"t": measured}, ("t",)) if "records are of 7 s" in s]
    ten = open_own(tree, None, None, tmp_path / "corpora")
    assert not [s for s in compare(ten, {"t": FACTS}, ("t",)) if s.startswith("These records are")]


def test_labels_rarer_or_more_frequent_than_the_evidence_s_are_named(made_up: Corpus, tmp_path: Path):
    own = open_own(made_up.root, None, None, tmp_path / "corpora")
    most = max(own.prevalence.values())
    facts = TaskFacts("synthetic", 9000, own.corpus.leads, 100.0, dict.fromkeys("abcde", most + 0.1))
    said = compare(own, {"t": facts}, ("t",))
    assert [sentence for sentence in said if sentence.startswith("Rarer than any label of the evidence")]
    same = TaskFacts("synthetic", 9000, own.corpus.leads, 100.0, own.prevalence)
    others = ("Fewer than 10", "Not in the expected scores")
    assert not [s for s in compare(own, {"t": same}, ("t",)) if not s.startswith(others)]


def test_labels_that_the_macro_average_leaves_out_are_named_and_not_in_the_question(made_up: Corpus, tmp_path: Path):
    own = open_own(made_up.root, None, None, tmp_path / "corpora")
    counts = own.data.labels[own.test].sum(axis=0)
    rare = [name for name, n in zip(own.data.classes, counts, strict=True) if min(n, len(own.test) - n) < 10]
    assert 0 < len(rare) < len(own.data.classes)
    (said,) = [s for s in compare(own, {}, ()) if s.startswith("Not in the expected scores")]
    assert all(name in said for name in rare[:3])
    assert {label.finding for label in own.scored_labels} == {finding_of(n) for n in own.data.classes if n not in rare}


def test_a_label_about_as_frequent_as_the_evidence_s_is_not_said_to_be_rarer_or_more_frequent(
    made_up: Corpus, tmp_path: Path
):
    own = open_own(made_up.root, None, None, tmp_path / "corpora")
    least, most = min(own.prevalence.values()), max(own.prevalence.values())

    def said_of(factor_least: float, factor_most: float) -> list[str]:
        shares = {"a": factor_least * least, "b": factor_most * most}
        facts = TaskFacts("synthetic", 9000, own.corpus.leads, 100.0, shares)
        return [s for s in compare(own, {"t": facts}, ("t",)) if "of the evidence (" in s]

    assert said_of(1.2, 0.85) == []
    assert [s.split()[0] for s in said_of(1.3, 1.0)] == ["Rarer"]
    assert [s.split()[0] for s in said_of(1.0, 0.75)] == ["More"]


def test_labels_with_few_records_are_named_with_their_number(ward: Path, tmp_path: Path):
    own = open_own(ward, None, None, tmp_path / "corpora")
    few = [name for name, count in own.positives.items() if count < 10]
    said = [sentence for sentence in compare(own, {}, ()) if sentence.startswith("Fewer than 10")]
    assert bool(said) == bool(few)
    assert all(name in said[0] for name in few)


def test_mismatches_are_warnings_of_the_json_and_of_the_table(ward: Path, known, command: Command):
    options = ("recommend", "--data", ward, "--arch", "cnn", "--curves", known(-0.2))
    answer = json.loads(command(*options, "--json")[1])
    assert answer["data"]["mismatches"]
    assert set(answer["data"]["mismatches"]) <= set(answer["warnings"])
    flat = " ".join(command(*options)[1].split())
    assert all(f"! {sentence}" in flat for sentence in answer["data"]["mismatches"])


def test_the_page_of_an_answer_for_own_records_says_how_they_differ(
    ward: Path, known, tmp_path: Path, command: Command
):
    page = tmp_path / "own.html"
    options = ("recommend", "--data", ward, "--arch", "cnn", "--curves", known(-0.2))
    answer = json.loads(command(*options, "--json", "--explain", "--report", page)[1])
    mismatches, shown = answer["data"]["mismatches"], html.unescape(page.read_text())
    assert mismatches
    assert all(sentence in shown for sentence in mismatches)
    assert "It knows nothing of your records" not in shown
    (section,) = re.findall(r'<section id="your-records".*?</section>', page.read_text(), flags=re.DOTALL)
    for name, facts in answer["data"]["classes"].items():
        assert f'<th scope="row">{name}</th><td>{facts["records"]}</td>' in section
    assert "60, of " in section
    assert 'id="pilot"' not in page.read_text()
    names = re.findall(r' id="([^"]*)"', page.read_text())
    assert len(names) == len(set(names))
    (kept,) = re.findall(r'<script[^>]* id="answer"[^>]*>(.*?)</script>', page.read_text(), flags=re.DOTALL)
    assert json.loads(kept) == answer


BETTER: dict[str, object] = {"sites": 4, "log_score": [0.1, 0.3], "crps": [0.001, 0.003], "cover": 0.9}


@pytest.mark.parametrize(
    ("evidence", "why"),
    [
        ({"lower": -0.2}, "over 3 tasks it does not rank the gains of resnet1d18-w16 (rank correlation 0.60, 90 %: -"),
        ({"lower": -0.2, "held_out": BETTER}, "over 3 tasks it does not rank the gains"),
        ({"lower": None, "held_out": BETTER}, "cannot be told from so few tasks (3)."),
        ({"lower": 0.3, "sites": 1, "held_out": BETTER}, "it says of the gain has been measured at one site only."),
        ({"lower": 0.3, "sites": 2}, "what it says of the gain has been measured at 2 sites only."),
        ({"lower": 0.3}, "was measured at 3 sites and not tested on sites held out."),
        ({"lower": 0.3, "held_out": {**BETTER, "cover": 0.7}}, "on 4 sites held out it did not make the prediction"),
    ],
)
def test_a_gap_that_is_not_known_to_predict_the_gain_is_shown_with_the_reason_why_it_is_not_used(
    ward: Path, known, command: Command, evidence: dict[str, object], why: str
):
    options = ("recommend", "--data", ward, "--arch", "cnn", "--curves", known(**evidence))
    answer = json.loads(command(*options, "--json")[1])
    jsonschema.validate(answer, SCHEMA)
    gap = answer["data"]["transferability"]
    assert gap["name"] == "probe gap"
    assert gap["network"] == "resnet1d18-w16-ptbxl"
    assert gap["value"] == pytest.approx(gap["features"] - gap["random_convolutions"], abs=2e-4)
    assert set(gap["classes"]) == {"wide", "tall"}
    said = answer["data"]["no_transferability"]
    assert said.startswith("not used in the answer: ")
    assert why in said
    shown = " ".join(command(*options)[1].split())
    assert f"probe gap {gap['value']:+.3f} on {gap['n_records']} of your records" in shown
    assert f"features {gap['features']:.3f}, random convolutions {gap['random_convolutions']:.3f}" in shown
    assert said in shown
    assert "of 3 tasks at 100 records" not in shown


def test_a_gap_changes_no_figure_of_the_answer(ward: Path, known, command: Command):
    options = ("recommend", "--data", ward, "--arch", "cnn", "--json", "--curves")
    evidence = ({"lower": -0.2}, {"lower": 0.3, "held_out": BETTER})
    answers = [json.loads(command(*options, known(**of))[1]) for of in evidence]
    assert answers[0]["data"]["no_transferability"] != answers[1]["data"]["no_transferability"]
    for answer in answers:
        del answer["data"], answer["evidence"]
    assert answers[0] == answers[1]


def test_of_many_records_as_many_are_probed_as_take_seconds(ward: Path, known, command: Command):
    options = ("recommend", "--data", ward, "--arch", "cnn", "--curves", known(0.3), "--json", "--n-records", 5000)
    gap = json.loads(command(*options)[1])["data"]["transferability"]
    assert (gap["at"], gap["of"]) == (100, 3)


def test_without_a_measured_correlation_the_gap_is_shown_alone(ward: Path, curves_path: Path, command: Command):
    options = ("recommend", "--data", ward, "--arch", "cnn", "--curves", curves_path, "--json")
    answer = json.loads(command(*options)[1])
    jsonschema.validate(answer, SCHEMA)
    gap = answer["data"]["transferability"]
    assert gap["value"] == pytest.approx(gap["features"] - gap["random_convolutions"], abs=2e-4)
    assert {gap[name] for name in ("below", "of", "at", "correlation", "ci_lower", "ci_upper")} == {None}
    assert "was not measured" in answer["data"]["no_transferability"]


def test_a_gap_that_held_out_sites_confirm_is_shown_with_its_correlation(
    ward: Path, known, command: Command, checkpoint_writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    checkpoint, evidence = checkpoint_writer(tmp_path / "network", "resnet1d18-w16"), known(0.3, held_out=BETTER)
    options = ("recommend", "--data", ward, "--from", checkpoint, "--curves", evidence)
    answer = json.loads(command(*options, "--json")[1])
    jsonschema.validate(answer, SCHEMA)
    assert answer["question"]["arch"] == "resnet1d18-w16"
    assert answer["data"]["no_transferability"] is None
    gap = answer["data"]["transferability"]
    assert (gap["correlation"], gap["ci_lower"], gap["of"], gap["at"]) == (0.6, 0.3, 3, 100)
    assert gap["below"] == sum(other < gap["value"] for other in (-0.1, 0.0, 0.1))
    shown = " ".join(command(*options)[1].split())
    assert f"above {gap['below']} of 3 tasks at 100 records (rank correlation with the gain 0.60" in shown
    released = ("recommend", "--data", ward, "--arch", "cnn", "--curves", evidence, "--json")
    monkeypatch.setattr("engine.checkpoints.zoo.suiting", lambda *_: {"a-released-one": load_checkpoint(checkpoint)})
    found = json.loads(command(*released)[1])["data"]["transferability"]
    assert found == {**gap, "network": "a-released-one"}
    monkeypatch.setattr("engine.checkpoints.zoo.suiting", lambda *_: {})
    without = json.loads(command(*released)[1])
    assert "no pre-trained resnet1d18-w16" in without["data"]["no_transferability"]


def test_a_gap_is_of_the_leads_that_a_network_reads_and_left_out_where_labels_are_too_rare_to_count(
    ward: Path, known, command: Command, checkpoint_writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from engine.checkpoints.checkpoint import Standardisation

    arch, options = "resnet1d18-w16", ("recommend", "--data", ward, "--curves", known(0.3), "--json", "--from")
    one = checkpoint_writer(tmp_path / "one", arch, leads=("I",), standardisation=Standardisation((0.0,), (1.0,)))
    all_ = checkpoint_writer(tmp_path / "all", arch)
    of_one_lead, of_all = (json.loads(command(*options, which)[1])["data"]["transferability"] for which in (one, all_))
    assert (of_one_lead["network"], of_all["network"]) == ("one", "all")
    assert of_one_lead["random_convolutions"] != of_all["random_convolutions"]  # of the same records, on other leads
    monkeypatch.setattr("studies.collection.probe_gap.FEWEST_RECORDS", 1000)
    assert "no label has 1000 records with it" in json.loads(command(*options, all_)[1])["data"]["no_transferability"]
    monkeypatch.setattr("studies.collection.probe_gap.FEWEST_RECORDS", 3)
    monkeypatch.setattr("studies.collection.probe_gap.left_out_auroc", lambda *_: float("nan"))
    assert "no feature is finite" in json.loads(command(*options, all_)[1])["data"]["no_transferability"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "give --n-records, the labelled records you have, or --data DIR"),
        (("--n-records", "100", "--pilot"), "--pilot is about your own records"),
        (("--n-records", "100", "--labels", "AF"), "--labels 'AF': give names, each with its share"),
        (("--n-records", "100", "--from", "x"), "--from is about your own records"),
        (("--n-records", "100", "--pilot-store", "x"), "--pilot-store is about your own records"),
        (("--data", "x", "--pilot-store", "y"), "--pilot-store is where --pilot keeps its runs"),
        (("--data", "x", "--pilot", "--minutes", "0"), "--minutes is 0"),
        (("--data", "x", "--minutes", "nan"), "--minutes is nan"),
        (("--data", "x", "--minutes", "inf"), "--minutes is inf"),
        (("--data", "x", "--minutes", "20"), "--minutes is how long --pilot may take: give --pilot with it"),
        (("--n-records", "100", "--minutes", "20"), "--minutes is about your own records"),
        (("--data", "x", "--n-records", "0"), "--n-records is 0"),
        (("--data", "x", "--margin", "2"), "--margin is 2"),
        (("--data", "x", "--pilot", "--metric", "f1_macro"), "--pilot measures auroc_macro alone, not f1_macro"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_a_record_is_read(arguments, says: str, command: Command):
    assert says in refused(command("recommend", *arguments), 2)


def test_what_cannot_be_read_ends_in_one_sentence(tmp_path: Path, ward: Path, command: Command, checkpoint_writer):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.csv").write_text("record\n")
    assert "is not a directory" in refused(command("recommend", "--data", tmp_path / "nowhere"), 3)
    assert "is not a directory" in refused(command("recommend", "--data", tmp_path / "file.csv"), 3)
    assert "no ECG records" in refused(command("recommend", "--data", tmp_path / "empty"), 3)
    assert "no checkpoint folder" in refused(command("recommend", "--data", ward, "--from", "nothing"), 3)
    assert "there are" in refused(command("recommend", "--data", ward, "--source", "mimic"), 2)
    other = checkpoint_writer(tmp_path / "w2", "resnet1d18-w2")
    assert "holds resnet1d18-w2" in refused(command("recommend", "--data", ward, "--arch", "cnn", "--from", other), 2)
    assert "no run of the evidence starts from w2" in refused(command("recommend", "--data", ward, "--from", other), 4)


def test_records_that_cannot_be_read_are_counted_and_none_at_all_is_refused(
    tmp_path: Path, made_up: Corpus, curves_path: Path, command: Command
):
    tree = write_directory(tmp_path / "damaged", made_up, 40)
    for k in (3, 7):
        (tree / f"r{k:03d}.dat").write_bytes(b"")
    code, out, err = command("recommend", "--data", tree, "--arch", "cnn", "--curves", curves_path, "--json")
    assert code == 0, err
    assert json.loads(out)["data"]["records"] == 38
    assert "2 of 40 records cannot be used" in err
    for path in tree.glob("*.dat"):
        path.write_bytes(b"")
    assert "none of the 40 records" in refused(command("recommend", "--data", tree, "--curves", curves_path), 3)


def test_a_corpora_folder_that_cannot_be_written_is_no_fault_of_the_records(
    ward: Path, curves_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ECGADVISE_CORPORA", "/dev/null")
    said = refused(command("recommend", "--data", ward, "--curves", curves_path), 1)
    assert said.startswith("error: cannot write /dev/null/")


def test_records_that_cannot_be_used_are_counted_in_every_answer_not_in_the_first_alone(
    tmp_path: Path, made_up: Corpus, curves_path: Path, command: Command
):
    tree = write_directory(tmp_path / "damaged", made_up, 40)
    (tree / "r003.dat").write_bytes(b"")
    with (tree / "labels.csv").open("a") as table:
        table.write("r007,p1,1,0\n")
    options = ("recommend", "--data", tree, "--arch", "cnn", "--curves", curves_path)
    assert "2 of 40 records cannot be used" in command(*options)[2]
    page = tmp_path / "page.html"
    code, out, err = command(*options, "--report", page)
    assert code == 0, err
    said = f"; 2 of 40 could not be used (ecgadvise data check {tree}): "
    assert "".join(said.split()) in "".join(out.split())
    assert said in html.unescape(page.read_text())
    answer = json.loads(command(*options, "--json")[1])
    jsonschema.validate(answer, SCHEMA)
    assert (answer["data"]["records"], answer["data"]["unusable"]) == (38, 2)
    assert "2 of 40 records" in command("data", "check", tree)[2]
    excluded = answer["data"]["excluded"]
    assert (excluded["records"], excluded["of"], set(excluded["classes"])) == (2, 40, set(COLUMNS))


def test_records_that_are_not_left_out_at_random_are_said_in_every_answer(
    tmp_path: Path, made_up: Corpus, curves_path: Path, command: Command
):
    tree = write_directory(tmp_path / "flat", made_up, 80)
    lines = (tree / "labels.csv").read_text().split()
    for line in lines[1:]:
        name, _, wide, _ = line.split(",")
        if wide == "1":
            (tree / f"{name}.dat").write_bytes(b"")
    n = sum(line.split(",")[2] == "1" for line in lines)
    options = ("recommend", "--data", tree, "--labels", "tall", "--arch", "cnn", "--curves", curves_path)
    every = ("recommend", "--data", tree, "--arch", "cnn", "--curves", curves_path)
    said = f"{n} of 80 records cannot be used; all {n} have wide (0 % of those kept): what a network learns and every"
    page = tmp_path / "page.html"
    assert said in " ".join(command(*every, "--report", page)[1].split())
    assert said in html.unescape(page.read_text())
    answer = json.loads(command(*every, "--json")[1])
    jsonschema.validate(answer, SCHEMA)
    assert any(warning.startswith(said) for warning in answer["warnings"])
    assert answer["data"]["excluded"]["classes"]["wide"] == {"records": n, "kept": 0, "differs": True}
    assert set(json.loads(command(*options, "--json")[1])["data"]["excluded"]["classes"]) == {"tall"}
    assert said in " ".join(command("data", "check", tree, "--max-bad", "40")[1].split())
    assert said in " ".join(command("data", "prepare", tree, "--corpora", tmp_path / "other")[2].split())


def test_records_with_nothing_to_tell_apart_or_of_two_patients_are_refused(
    tmp_path: Path, made_up: Corpus, curves_path: Path, command: Command
):
    tree = write_directory(tmp_path / "constant", made_up, 30)
    lines = (tree / "labels.csv").read_text().split()
    plain = [
        lines[0],
        *(re.sub(r",\d,\d$", ",0,0", line) for line in lines[1:-1]),
        re.sub(r",\d,\d$", ",0,1", lines[-1]),
    ]
    one = [lines[0], *(re.sub(r",p\d+,", f",p{k % 2},", line) for k, line in enumerate(lines[1:]))]
    (tree / "labels.csv").write_text("\n".join(one) + "\n")
    assert "2 patients" in refused(command("recommend", "--data", tree, "--curves", curves_path), 3)
    (tree / "labels.csv").write_text("\n".join(plain) + "\n")
    assert "nothing to tell apart" in refused(
        command("recommend", "--data", tree, "--labels", "wide", "--curves", curves_path), 3
    )


ODD = st.one_of(
    st.sampled_from(
        ["", "nan", "inf", "-1", "0", "1e999", "[/x]", "--json", "none", ",", "tall,,", "../nowhere", "tall"]
    ),
    st.floats().map(repr),
    st.text(max_size=12),
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    given_options=st.dictionaries(
        st.sampled_from(["source", "labels", "from", "minutes", "n-records", "arch", "pilot-store"]), ODD, max_size=3
    ),
    piloted=st.booleans(),
)
def test_any_values_end_in_an_answer_or_a_sentence(
    given_options: dict[str, str], piloted: bool, ward: Path, curves_path: Path, command: Command, monkeypatch
):
    monkeypatch.setattr(
        "engine.checkpoints.zoo.suiting", lambda *_: {}
    )  # a pilot has nothing to start from, and takes no time
    words = [word for name, value in given_options.items() for word in (f"--{name}", value)]
    words += ["--pilot"] if piloted else []
    code, out, err = command("recommend", "--data", ward, "--curves", curves_path, "--json", *words)
    assert "Traceback" not in err
    if code == 0:
        jsonschema.validate(json.loads(out), SCHEMA)
    else:
        assert code in {1, 2, 3, 4}
        assert out == ""
        assert "error: " in err or "Usage" in err
