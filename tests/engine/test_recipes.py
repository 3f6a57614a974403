"""Recipes are numbers: their content decides the key of every run, so stored runs keep theirs."""

import json
from dataclasses import asdict, fields, replace
from typing import get_args

import pytest

from engine.recipes import NAMES, PROBES, Augmentation, Recipe, Strategy, UnknownRecipeError, find_recipe, read_recipe
from models.registry import Family

RECIPE = Recipe(
    "test", learning_rate=0.01, weight_decay=0.01, batch_size=16, record_passes=1000, min_epochs=5, max_epochs=50
)
OTHER = {
    "name": "other", "learning_rate": 0.02, "weight_decay": 0.02, "batch_size": 32, "record_passes": 2000,
    "min_epochs": 6, "max_epochs": 60, "validations": 16, "validation_fraction": 0.3, "schedule": "constant",
    "clip_norm": None, "standardise": False, "selection": "last", "spacing": "even", "patience": 3,
    "head": "probe", "augmentation": Augmentation(0.1, 0.1, 0.1, 0.1), "restarts": 2, "normalisation": "running",
}  # fmt: skip


@pytest.mark.parametrize(
    ("n_training", "epochs"), [(1, 50), (20, 50), (21, 47), (100, 10), (199, 5), (200, 5), (201, 5), (10**6, 5)]
)
def test_a_recipe_trains_for_its_record_passes_within_its_least_and_most_epochs(n_training, epochs):
    assert RECIPE.epochs(n_training) == epochs  # 1000 records in all, at least 5 and at most 50 epochs


def test_a_recipe_digest_is_the_same_for_the_same_content():
    assert replace(RECIPE, learning_rate=1e-3).digest() == replace(RECIPE, learning_rate=0.001).digest()


def test_every_field_has_another_value_to_be_tested_with():
    assert {name: value for name, value in asdict(RECIPE).items() if value == OTHER.get(name, value)} == {}


@pytest.mark.parametrize("field", [field.name for field in fields(Recipe)])
def test_a_recipe_digest_changes_with_every_field(field):
    assert replace(RECIPE, **{field: OTHER[field]}).digest() != RECIPE.digest()


@pytest.mark.parametrize(
    ("family", "strategy", "rate", "digest"),
    [
        ("cnn", "scratch", None, "788b1b1fe4a49664"),
        ("cnn", "fine-tune", None, "62ed11e96f45d24e"),
        ("rnn", "scratch", None, "ffee5612b0424c48"),
        ("rnn", "fine-tune", None, "ffee5612b0424c48"),
        ("cnn", "scratch", 0.003, "478280be7a081a0b"),
        ("rnn", "fine-tune", 0.003, "f953927a96fa34c4"),
    ],
)
def test_the_recipes_of_stored_runs_keep_their_digests(family, strategy, rate, digest):
    """As commit 136ae3f computed them for the runs in studies/evidence."""
    assert find_recipe("tuned", family, strategy, rate).digest() == digest


def test_a_wide_recurrent_network_is_trained_at_a_lower_rate_unless_one_is_given():
    narrow, wide = (find_recipe("tuned", "rnn", "scratch", width=width) for width in (32, 100))
    assert wide == replace(narrow, learning_rate=0.003)
    assert find_recipe("tuned", "rnn", "scratch", 0.01, width=100) == narrow
    assert find_recipe("tuned", "cnn", "scratch", width=100) == find_recipe("tuned", "cnn", "scratch")
    assert find_recipe("paper", "rnn", "scratch", width=100).learning_rate == 0.01


@pytest.mark.parametrize("name", ["paper", "tuned", "tuned-2"])
@pytest.mark.parametrize("strategy", sorted({*get_args(Strategy)} - {*PROBES}))
@pytest.mark.parametrize("family", ["cnn", "rnn", "ssm", "transformer"])
def test_there_is_a_recipe_for_every_strategy_and_a_given_rate_replaces_its_own(name, strategy, family):
    found = find_recipe(name, family, strategy)
    assert found.name == ("tuned" if name == "tuned-2" and "frozen" in strategy else name)
    assert find_recipe(name, family, strategy, 0.123) == replace(found, learning_rate=0.123)


@pytest.mark.parametrize(("family", "rates"), [("ssm", (3e-3, 1e-3, 3e-3)), ("transformer", (1e-3, 1e-3, 1e-3))])
def test_other_families_take_the_recipes_of_convolutional_networks_at_lower_rates(family, rates):
    asked = [("tuned", "scratch"), ("tuned", "fine-tune"), ("tuned-2", "fine-tune")]
    for (name, strategy), rate in zip(asked, rates, strict=True):
        assert find_recipe(name, family, strategy) == find_recipe(name, "cnn", strategy, rate)


@pytest.mark.parametrize("strategy", ["scratch", "fine-tune"])
def test_a_recipe_is_read_back_from_json(strategy):
    recipe = find_recipe("tuned-2", "cnn", strategy)
    assert read_recipe(json.loads(json.dumps(asdict(recipe)))) == recipe
    old = asdict(find_recipe("tuned", "cnn", strategy))
    for later in ("augmentation", "restarts", "head", "normalisation"):
        del old[later]
    assert read_recipe(old) == find_recipe("tuned", "cnn", strategy)


@pytest.mark.parametrize("strategy", PROBES)
def test_a_probe_is_one_recipe_under_every_name_without_a_rate_or_validation_records(strategy):
    recipes = {
        find_recipe(name, family, strategy, rate)
        for name in NAMES
        for family in get_args(Family)
        for rate in (None, 0.1)
    }
    (recipe,) = recipes
    assert (recipe.validation_fraction, recipe.epochs(1000), recipe.learning_rate) == (0, 1, 0)
    with pytest.raises(UnknownRecipeError):
        find_recipe("best", "cnn", strategy)


@pytest.mark.parametrize(("family", "strategy"), [("cnn", "scratch"), ("rnn", "fine-tune")])
@pytest.mark.parametrize("n_training", [100, 349, 12_000])
def test_paper_is_what_was_published(family, strategy, n_training):
    """Adam at 0.01, batches of 256, 100 epochs whatever the size, no schedule, clipping or early stopping."""
    recipe = find_recipe("paper", family, strategy)
    assert (recipe.learning_rate, recipe.weight_decay, recipe.batch_size) == (0.01, 0.0, 256)
    assert (recipe.schedule, recipe.clip_norm, recipe.patience) == ("constant", None, None)
    assert recipe.epochs(n_training) == 100
    assert not recipe.standardise, "its records are scaled one by one, in preparation"


def test_an_unknown_recipe_is_refused_with_those_there_are():
    with pytest.raises(UnknownRecipeError, match="'secret'; there are: paper, tuned, tuned-2"):
        find_recipe("secret", "cnn", "scratch")
