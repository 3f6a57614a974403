"""Card and label say what the checkpoint knows, and of the rest that it was not recorded."""

from dataclasses import replace

import numpy as np
import pytest

from engine.deploy.markdown import UNKNOWN
from engine.deploy.model_card import Exported, model_card, warnings
from engine.deploy.model_facts import INTENDED_USE, ModelFacts, read_metadata
from engine.deploy.model_facts_label import model_facts_label
from engine.evaluation.evaluation import evaluate
from engine.evaluation.subgroups import subgroups

EXPORTED = Exported("model.onnx", 123_456, "the same in every respect")
BARE = ModelFacts(
    schema_version=1, arch="gru", task="mine/rhythm", classes=("AF", "SR", "rare"), thresholds=(0.5, 0.4, 0.3),
    temperature=1.25, leads=("I", "II"), fs=100.0, n_samples=1000, units="mV",
    preparation={"anti_alias": True, "min_max": False}, intended_use=INTENDED_USE, opset=18, half=False,
    data_hash="abc", weights_sha256="def", licence=None, created="", strategy="scratch", upstream=None, n_records=None,
)  # fmt: skip


def evaluated() -> ModelFacts:
    """Facts whose every part is known: women are scored worse, one class is rare, another has one outcome."""
    rng = np.random.default_rng(0)
    n = 600
    labels = np.stack([rng.random(n) < 0.4, np.ones(n), np.arange(n) < 9], axis=1).astype(np.uint8)
    sexes = np.where(np.arange(n) % 2, "female", "male")
    noise = np.where(sexes == "female", 0.9, 0.2)[:, None] * rng.random((n, 3))
    probabilities = np.clip(0.5 * labels + noise, 0, 1)
    patients, ages = np.arange(n) // 2, rng.uniform(20, 90, n).astype(np.float32)
    evaluation = evaluate(labels, probabilities, patients, BARE.classes, BARE.thresholds, 0, 200)
    return replace(
        BARE, evaluation=evaluation.as_dict(bootstrap=False), upstream="ptb-xl/all", strategy="fine-tune",
        subgroups=subgroups(labels, probabilities, patients, ages, sexes, 0, 200), n_records=1234,
        codes={"AF": "164889003"}, licence="CC BY 4.0", created="2026-11-22T20:00:00+00:00",
        source={"name": "mine", "version": "2", "licence": "CC BY 4.0", "url": "https://example.org", "citation": "Me"},
        record={"training_patients": 400, "good": True, "empty": "", "split": {"test": "fold 10"}},
        versions={"torch": "2.13.0"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def known() -> ModelFacts:
    return evaluated()


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def cells(text: str) -> dict[str, list[str]]:
    """Rows of the tables by their first cell."""
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines() if "|" in line]
    return {row[0]: row[1:] for row in rows}


def test_the_card_gives_every_class_with_its_interval(known):
    rows = cells(section(model_card(known, EXPORTED), "Performance"))
    one = known.evaluation["classes"]["AF"]
    interval = f"{one['auroc']:.3f} ({one['auroc_ci_lower']:.3f} to {one['auroc_ci_upper']:.3f})"
    assert rows["AF"] == [
        "164889003",
        f"{one['positives']}",
        "0.500",
        interval,
        f"{one['auprc']:.3f}",
        f"{one['f1']:.3f}",
    ]
    assert rows["SR"][:4] == [UNKNOWN, "600", "0.400", UNKNOWN]
    assert rows["macro AUROC"][0].startswith(f"{known.evaluation['auroc_macro']:.3f} (")


def test_the_card_tells_data_calibration_groups_and_limits(known):
    card = model_card(known, EXPORTED)
    rows = cells(card)
    expected = {
        "source": "mine 2", "licence": "CC BY 4.0", "records for training and validation": "1,234",
        "split": "test fold 10", "good": "yes", "empty": UNKNOWN, "temperature": "1.25",
        "network": "gru, fine-tuned from ptb-xl/all",
        "compared with the trained network": "the same in every respect",
    }  # fmt: skip
    for name, value in expected.items():
        assert rows[name] == [value], name
    assert rows["training"] == [UNKNOWN, "400"]
    assert rows["test"] == ["600", "300"]
    assert "| sex | female | 300 |" in card
    assert "| age | 80 and over |" in card
    for title in ("Intended use", "Warnings", "Subgroups", "Limits", "Versions"):
        assert f"## {title}" in card
    assert INTENDED_USE in card


def test_the_card_says_what_decisions_are_worth_and_what_thresholds_were_chosen_for(known):
    chosen = {"threshold_rule": {"rule": "specificity", "specificity": 0.95}}
    said = section(model_card(replace(known, record=chosen), EXPORTED), "Decisions")
    assert "Thresholds were chosen for a specificity of 0.95 on validation records." in said
    one, rows = known.evaluation["classes"]["AF"], cells(said)
    figures = [
        f"{one[name]:.3f} ({one[f'{name}_ci_lower']:.3f} to {one[f'{name}_ci_upper']:.3f})"
        for name in ("sensitivity", "specificity", "ppv", "npv")
    ]
    positives, negatives = (f"{one[f'{side}s']} ({one[f'{side}_patients']})" for side in ("positive", "negative"))
    prevalence = f"{one['prevalence']:.4g}, of the test"
    assert rows["AF"] == ["0.500", figures[0], positives, figures[1], negatives, *figures[2:], prevalence]
    assert rows["SR"][2:4] == ["600 (300)", "no such test record"]
    stated = {**known.evaluation, "classes": {"AF": {**one, "prevalence": 0.02, "prevalence_stated": True}}}
    card = model_card(replace(known, evaluation=stated), EXPORTED)
    assert cells(section(card, "Decisions"))["AF"][-1] == "0.02, stated"
    assert "threshold rule" not in card


def test_a_model_of_an_earlier_version_says_that_its_decisions_were_not_measured(known):
    classes = {name: {"auroc": one["auroc"], "positives": one["positives"]}
               for name, one in known.evaluation["classes"].items()}  # fmt: skip
    before = replace(known, evaluation={**known.evaluation, "classes": classes})
    said = section(model_card(before, EXPORTED), "Decisions")
    assert said.strip() == (
        f"By which rule thresholds were chosen is {UNKNOWN}. Sensitivity and specificity are {UNKNOWN}."
    )
    assert cells(model_facts_label(before, EXPORTED))["AF"][2:4] == [UNKNOWN, UNKNOWN]


def test_a_label_that_few_patients_have_is_warned_of_with_what_was_measured(known):
    rare = {"label": "rare", "is_missing": False, "few": 11, "patients": 363, "tested": 5}
    one = known.evaluation["classes"]["rare"]
    measured = "{:.3f} ({:.3f} to {:.3f})".format(*(one[f"sensitivity{end}"] for end in ("", "_ci_lower", "_ci_upper")))
    (said,) = [line for line in warnings(replace(known, record={"rare_label": rare})) if "patients have" in line]
    counted = "11 of 363 patients have rare, the rarest label, 5 of them in the test"
    assert said == f"{counted}: its sensitivity is {measured} (90 %)."
    enough = replace(known, record={"rare_label": {**rare, "few": 50}})
    assert not any("patients have" in line for line in warnings(enough))


def test_the_licence_and_citation_of_the_pre_training_data_are_named(known):
    """As a checkpoint keeps them, of every network before it; one of before they were kept says so."""
    first = {"name": "ptb-xl", "version": "1.0.3", "licence": "CC BY 4.0", "url": "https://p.org", "citation": "Wagner"}
    second = {"name": "other", "licence": "ODbL 1.0", "citation": "Somebody"}
    kept = replace(known, record={"upstream_sources": [first, second]})
    rows = cells(model_card(kept, EXPORTED))
    assert rows["pre-training data"] == ["ptb-xl 1.0.3; other"]
    assert rows["licence of the pre-training data"] == ["CC BY 4.0; ODbL 1.0"]
    assert rows["citation of the pre-training data"] == ["Wagner; Somebody"]
    assert rows["address of the pre-training data"] == ["https://p.org"]
    assert rows["licence"] == ["CC BY 4.0"], "that of the records trained on, too"
    assert "upstream sources" not in rows
    label = cells(model_facts_label(kept, EXPORTED))
    assert label["the same of the pre-training data"] == ["CC BY 4.0; ODbL 1.0, Wagner; Somebody"]
    for write in (model_card, model_facts_label):
        before, anew = cells(write(known, EXPORTED)), cells(write(replace(known, upstream=None), EXPORTED))
        names = [name for name in before if name.endswith("of the pre-training data")]
        assert names
        assert all(before[name] == [UNKNOWN] for name in names)
        assert not any("pre-training" in name for name in anew)


def test_patients_that_the_source_does_not_tell_apart_are_not_counted(known):
    apart, unknown = (replace(known, record={**known.record, "patients_told_apart": told}) for told in (True, False))
    assert cells(model_card(apart, EXPORTED))["training"] == cells(model_card(known, EXPORTED))["training"]
    assert cells(model_card(apart, EXPORTED))["training"][1] == "400"
    assert "| 400 |" not in model_card(unknown, EXPORTED)
    patients = known.evaluation["n_patients"]
    assert cells(model_facts_label(apart, EXPORTED))["test records, patients"] == [f"600, {patients}"]
    assert cells(model_facts_label(unknown, EXPORTED))["test records"] == ["600"]
    assert (
        "so that every record counts as a patient of its own; where the source does not tell patients apart"
        in model_card(unknown, EXPORTED)
    )


def test_one_class_of_one_lead_is_said_in_the_singular():
    one = replace(BARE, classes=("AF",), thresholds=(0.5,), leads=("I",))
    for text in (model_card(one, EXPORTED), model_facts_label(one, EXPORTED)):
        assert " 1 classes" not in text
        assert " 1 leads" not in text
        assert " 1 findings" not in text
    assert "gru for mine/rhythm, 1 class, written" in model_card(one, EXPORTED)


def test_warnings_follow_from_the_figures(known):
    said = warnings(known)
    assert "Not tested, since the test records have one outcome only: SR." in said
    assert "Fewer than 30 positive test records, so that chance decides: rare." in said
    assert "Left out of macro averages, with fewer than 10 positive or negative test records: rare." in said
    assert any(line.startswith("Lower macro AUROC by sex: female, ") for line in said)
    assert any("expected calibration error" in line for line in said)
    assert not any("by sex: male" in line for line in said)
    fair = replace(known, subgroups={}, evaluation=known.evaluation | {"left_out": [], "ece": 0.01, "classes": {}})
    assert warnings(fair) == ["None from the figures below; the limits hold all the same."]


def test_card_and_label_say_which_classes_the_averages_take(known):
    for write in (model_card, model_facts_label):
        row = cells(write(known, EXPORTED))["classes in the macro averages"]
        assert row == ["1 of 3, those with at least 10 positive and 10 negative test records"]
    fallen = replace(known, evaluation=known.evaluation | {"least_positives": 400, "left_out": ["SR"]})
    assert "No class has 400 positive and 400 negative test records" in " ".join(warnings(fallen))
    before = replace(known, evaluation={n: v for n, v in fallen.evaluation.items() if n != "least_positives"})
    for facts in (fallen, before):
        row = cells(model_card(facts, EXPORTED))["classes in the macro averages"]
        assert row == ["2 of 3, those with both outcomes in the test"]


def test_an_interrupted_training_is_said(known):
    for facts in (BARE, known):
        stopped = replace(facts, record={"interrupted": True})
        assert warnings(stopped)[0].startswith("Its training was interrupted")
        assert warnings(facts)[0] != warnings(stopped)[0]


@pytest.mark.parametrize("write", [model_card, model_facts_label])
def test_what_is_not_known_is_said_to_be_not_recorded(write):
    text = write(BARE, EXPORTED)
    assert text.count(UNKNOWN) >= 5
    for wrong in ("None", "nan", "{", "null"):
        assert wrong not in text.replace("None from", "")
    assert "How well the model does was not recorded" in text


def test_an_earlier_checkpoint_shows_the_metrics_that_it_has():
    rows = cells(model_card(replace(BARE, metrics={"auroc_macro": 0.9125, "brier": None}), EXPORTED))
    assert rows["auroc_macro"] == ["0.912"]
    assert rows["brier"] == [UNKNOWN]


def test_the_label_has_the_sections_of_sendak_and_fits_a_page(known):
    many = replace(
        known, classes=tuple(f"class {k}" for k in range(71)), thresholds=(0.5,) * 71,
        evaluation=known.evaluation
        | {"left_out": [], "classes": {f"class {k}": known.evaluation["classes"]["AF"] for k in range(71)}},
    )  # fmt: skip
    for facts in (known, many):
        label = model_facts_label(facts, EXPORTED)
        for title in ("Summary", "Mechanism", "Validation and performance", "Uses and directions", "Warnings"):
            assert f"## {title}" in label
        assert len(label.splitlines()) <= 75
    assert "The 12 commonest of 71" in label


def test_a_pipe_in_a_name_does_not_break_the_table(known):
    odd = replace(BARE, classes=("A|B", "SR", "rare"))
    assert "| A\\|B |" in model_card(replace(odd, evaluation={"classes": {}}), EXPORTED)


def test_facts_come_back_from_the_metadata_as_they_were(known):
    for facts in (BARE, known):
        assert read_metadata(facts.to_metadata() | {"other.tool": "1"}) == facts


def test_what_was_odd_about_the_records_is_a_warning_and_no_row_of_the_table(known: ModelFacts):
    odd = replace(known, record={**known.record, "remarks": ["2 of 7 records kept with a remark: lead V1 is flat"]})
    said = "Of the corpus that its records are from: 2 of 7 records kept with a remark: lead V1 is flat."
    assert said in warnings(odd)
    assert "remarks" not in cells(model_card(odd, EXPORTED))
    counted = replace(known, record={**known.record, "excluded": {"records": 3}, "differences": ["They are of 7 s."]})
    assert not {"excluded", "differences"} & set(cells(model_card(counted, EXPORTED)))
    assert "About its training records: They are of 7 s." in warnings(counted)
