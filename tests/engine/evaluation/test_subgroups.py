"""A network is scored by sex and by age, and small groups are named without a score."""

import json

import numpy as np
import pytest

from engine.evaluation.bootstrap import bootstrap_auroc_macro
from engine.evaluation.metrics import auroc_macro
from engine.evaluation.subgroups import subgroups


@pytest.fixture
def people() -> dict[str, np.ndarray]:
    """300 records of 200 patients: the scores are right for women and chance for men; 30 of unknown sex."""
    rng = np.random.default_rng(0)
    patients = rng.integers(0, 200, 300)
    sexes = np.where(patients % 2, "female", "male")
    sexes[:30] = ""
    ages = rng.uniform(18, 79, 300).astype(np.float32)
    ages[:60] = np.nan
    labels = rng.integers(0, 2, (300, 2)).astype(np.uint8)
    scores = np.where((sexes == "female")[:, None], 0.3 * labels + 0.7 * rng.random((300, 2)), rng.random((300, 2)))
    return {"labels": labels, "probabilities": scores, "patients": patients, "ages": ages, "sexes": sexes}


def test_each_sex_is_scored_on_its_own_records_with_its_own_interval(people):
    found = subgroups(**people, seed=1, n_resamples=200)["sex"]
    for sex in ("female", "male"):
        own = people["sexes"] == sex
        labels, scores, patients = (people[name][own] for name in ("labels", "probabilities", "patients"))
        lower, upper = np.quantile(bootstrap_auroc_macro(labels, scores, patients, 200, 1), [0.05, 0.95])
        assert found[sex] == {
            "n": own.sum(), "n_classes": 2, "auroc_macro": auroc_macro(labels, scores),
            "auroc_macro_ci_lower": lower, "auroc_macro_ci_upper": upper,
        }  # fmt: skip
    assert found["male"]["auroc_macro_ci_upper"] < found["female"]["auroc_macro_ci_lower"]


def test_a_group_that_is_told_apart_perfectly_has_an_interval_by_its_rarer_patients(people):
    labels = people["labels"].copy()
    men = np.flatnonzero(people["sexes"] == "male")
    labels[men], rare = 0, people["patients"][men][:12]
    labels[men[np.isin(people["patients"][men], rare)]] = 1
    found = subgroups(**people | {"labels": labels, "probabilities": labels.astype(float)}, seed=1, n_resamples=50)
    male = found["sex"]["male"]
    assert (male["auroc_macro"], male["auroc_macro_ci_upper"]) == (1.0, 1.0)
    assert male["auroc_macro_ci_lower"] == pytest.approx(0.05 ** (1 / len(np.unique(rare))))


def test_a_group_under_50_records_is_named_and_not_scored(people):
    unknown = subgroups(**people, seed=1, n_resamples=20)["sex"]["unknown"]
    assert unknown.pop("n") == 30
    assert set(unknown.values()) == {None}


def test_every_record_is_in_one_group_of_each_kind(people):
    found = subgroups(**people, seed=1, n_resamples=5)
    assert found.keys() == {"sex", "age"}
    for groups in found.values():
        assert sum(group["n"] for group in groups.values()) == 300
    assert found["age"]["unknown"]["n"] == 60
    assert "80 and over" not in found["age"], "a group without a record is left out"


@pytest.mark.parametrize(
    ("age", "band"),
    [(0, "under 50"), (49.9, "under 50"), (50, "50 to 64"), (64.9, "50 to 64"), (65, "65 to 79"), (80, "80 and over")],
)
def test_an_age_falls_into_its_band(people, age, band):
    ages = np.full(300, age, np.float32)
    assert list(subgroups(**{**people, "ages": ages}, seed=1, n_resamples=1)["age"]) == [band]


def test_a_class_that_is_rare_in_a_group_is_not_in_its_average(people):
    labels = people["labels"].copy()
    men = np.flatnonzero(people["sexes"] == "male")
    labels[men[9:], 1] = 0
    labels[men[:9], 1] = 1
    people["labels"] = labels
    found = subgroups(**people, seed=1, n_resamples=10)["sex"]
    assert (found["male"]["n_classes"], found["female"]["n_classes"]) == (1, 2)
    own = labels[men], people["probabilities"][men]
    assert found["male"]["auroc_macro"] == auroc_macro(own[0][:, :1], own[1][:, :1])
    asked = subgroups(**people, seed=1, n_resamples=10, least_positives=9)["sex"]["male"]
    assert (asked["n_classes"], asked["auroc_macro"]) == (2, auroc_macro(*own))


def test_what_a_group_does_not_allow_is_null_and_counted(people):
    labels = people["labels"].copy()
    labels[people["sexes"] == "male"] = 0
    labels[people["sexes"] == "female", 1] = 1
    found = subgroups(**{**people, "labels": labels}, seed=1, n_resamples=10)["sex"]
    assert found["male"]["auroc_macro"] is None
    assert found["male"]["n_classes"] == 0
    assert found["female"]["n_classes"] == 1
    json.dumps(found, allow_nan=False)
