"""A field of a checkpoint that is missing, unknown, wrong or at odds with another is refused and named."""

import json
from dataclasses import fields

import pytest

from engine.checkpoints.checkpoint import CheckpointFacts
from engine.checkpoints.fields import UNSET, FieldError, checked_fields

NAMES = [field.name for field in fields(CheckpointFacts)]
INFINITE = float("inf")  # what 1e999 is read as, which is JSON
NOT_TEXT, NOT_A_NUMBER = (None, 3, ["a"]), (None, "1", True, [1], INFINITE, float("nan"), 10**400)
WRONG = {
    "arch": (*NOT_TEXT, "", "resnet1d17"),
    "task": (*NOT_TEXT, ""),
    "classes": (None, "ab", [], ["AFIB", "AFIB"], ["AFIB", ""], [1, 2], {"AFIB": 1}),
    "leads": (None, [], ["I", "II", "I"], ["I", "II", None]),
    "fs": (*NOT_A_NUMBER, 0, -100),
    "n_samples": (None, "250", 250.0, 0, True),
    "standardisation": (
        None, [1, 2], {}, {"mean": [0, 0, 0]}, {"mean": [0, 0, 0], "std": [1, 1, 0]},
        {"mean": [0, 0, None], "std": [1, 1, 1]}, {"mean": [0, 0, 0], "std": [1, 1, 1], "var": [1, 1, 1]},
    ),
    "recipe": (None, "tuned", [], {"learning_rate": INFINITE}),
    "data_hash": NOT_TEXT,
    "metrics": (None, [0.9], {"auroc_macro": "0.9"}, {"auroc_macro": True}, {"auroc_macro": INFINITE}),
    "strategy": (*NOT_TEXT, "", "finetune"),
    "upstream": (3, [], ""),
    "thresholds": (None, 0.5, [0.5], [0.5] * 3, [0.5, 1.01], [-0.01, 0.5], [0.5, None], ["0.5", 0.5]),
    "temperature": (*NOT_A_NUMBER, 0, -1.0),
    "n_records": ("500", 500.0, 0, True),
    "source": (None, "ptb-xl", {"version": 1}),
    "codes": (None, [], {"AFIB": 164889003}, {"LVH": "164873001"}),
    "evaluation": (None, [], {"ece": [-INFINITE]}),
    "subgroups": (None, [], {"sex": {"n": INFINITE}}),
    "versions": (None, {"torch": 2.13}),
    "created": NOT_TEXT,
    "record": (None, 3, {"seconds": [{"all": float("nan")}]}),
    "crop": (None, "100", 100.0, 0, True, 251),
    "scaling": (*NOT_TEXT, "", "leads"),
}  # fmt: skip


@pytest.fixture
def document() -> dict:
    """The fields of a checkpoint.json as they are parsed, none at its default."""
    return json.loads("""{
        "arch": "resnet1d18-w4", "task": "synthetic/rhythm", "classes": ["AFIB", "SR"], "leads": ["I", "II", "V1"],
        "fs": 100, "n_samples": 250, "standardisation": {"mean": [0, -0.1, 0.3], "std": [1, 0.2, 5e-4]},
        "recipe": {"name": "tuned", "learning_rate": 0.003}, "data_hash": "0123abcd", "metrics": {"auroc_macro": 0.91},
        "strategy": "fine-tune", "upstream": "synthetic/all", "thresholds": [0.25, 0.3], "temperature": 1.7,
        "n_records": 500, "source": {"name": "synthetic"}, "codes": {"AFIB": "164889003"}, "evaluation": {"ece": null},
        "subgroups": {"sex": {}}, "versions": {"torch": "2.13.0"}, "created": "2026-01-01", "record": {"folds": [1, 2]},
        "crop": 100, "scaling": "lead"
    }""")


def refusal(document: dict, schema: int = 2) -> str:
    with pytest.raises(FieldError) as failure:
        checked_fields(document, schema)
    return str(failure.value)


def test_right_fields_come_back_as_the_facts_take_them(document):
    checked = checked_fields(document)
    assert list(checked) == NAMES
    assert checked["classes"] == ("AFIB", "SR")
    assert checked["thresholds"] == (0.25, 0.3)
    assert (checked["fs"], type(checked["fs"])) == (100.0, float)
    assert checked["standardisation"] == {"mean": (0.0, -0.1, 0.3), "std": (1.0, 0.2, 5e-4)}
    assert checked["record"] == {"folds": [1, 2]}


@pytest.mark.parametrize(("field", "value"), [("upstream", None), ("n_records", None), ("thresholds", [])])
def test_a_field_may_be_empty_where_there_is_nothing_to_say(document, field, value):
    assert not checked_fields({**document, field: value})[field]


@pytest.mark.parametrize("field", [name for name in NAMES if name not in UNSET])
def test_a_missing_field_is_named(document, field):
    del document[field]
    assert refusal(document) == f"lacks {field}"


def test_an_unknown_field_is_named(document):
    assert refusal({**document, "architecture": "gru"}) == "has fields that schema 2 does not know: architecture"


def test_the_first_schema_has_the_first_ten_fields_and_no_other(document):
    first = {name: document[name] for name in NAMES[:10]}
    assert list(checked_fields(first, schema=1)) == NAMES[:10]
    assert refusal({**first, "temperature": 2.0}, schema=1).endswith("does not know: temperature")


def test_every_field_is_tested_with_wrong_values():
    assert list(WRONG) == NAMES


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param(field, value, id=f"{field}-{i}")
        for field, values in WRONG.items()
        for i, value in enumerate(values)
    ],
)
def test_a_wrong_value_is_refused_and_the_field_named(document, field, value):
    message = refusal({**document, field: value})
    assert message.startswith("has ")
    assert field in message
    assert len(message) < 200, "a long value is cut short"


def test_a_free_field_nested_without_end_is_refused(document):
    nested: list = []
    for _ in range(200):
        nested = [nested]
    assert refusal({**document, "record": {"a": nested}}).startswith("has a wrong record: it is nested more than")


def test_an_unknown_network_is_refused_with_the_nearest_ones(document):
    assert "did you mean resnet1d18" in refusal({**document, "arch": "resnet1d17"})


def test_lists_that_do_not_go_together_are_refused(document):
    assert refusal({**document, "leads": ["I", "II"]}).endswith("3 values of mean for 2 leads")
    assert refusal({**document, "classes": ["AFIB"]}) == "has 2 thresholds for 1 classes"
    assert refusal({**document, "codes": {"LVH": "1"}}) == "has codes for what is not a class: LVH"
