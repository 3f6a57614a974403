"""A few of the trees that ``fuzz_trees.py`` makes by thousands, and whether it would see what it looks for."""

import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from models.errors import ExitCode, UserError

TREES = 36


class _RefusedError(UserError):
    exit_code = ExitCode.DATA


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    path = Path(__file__).parent / "fuzz_trees.py"
    spec = importlib.util.spec_from_file_location("fuzz_trees", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_trees"] = module  # its dataclasses ask for it
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seed", range(TREES))
def test_a_tree_is_read_right_or_refused_in_a_sentence(seed: int, fuzz: ModuleType, tmp_path: Path):
    tree, outcome = fuzz.judge(seed, tmp_path / "tree", limit=120.0)
    assert outcome.kind in ("right", "refused", "remarked"), (tree.done, outcome.words)


def test_a_seed_makes_the_same_tree_again_and_others_differ(fuzz: ModuleType):
    assert fuzz.make_tree(5).files == fuzz.make_tree(5).files
    assert len({tuple(fuzz.make_tree(seed).done) for seed in range(40)}) > 20


def test_the_sound_tree_says_its_samples_labels_and_patients(fuzz: ModuleType):
    said = fuzz.truths(fuzz.sound_tree())
    assert list(said) == ["r0", "r1", "r2", "r3"]
    np.testing.assert_allclose(said["r3"].signals["V6"], fuzz.samples(3)[11] / 1000)
    assert [one.labels for one in said.values()] == [
        {"AF": False, "LBBB": False}, {"AF": True, "LBBB": False}, {"AF": False, "LBBB": True},
        {"AF": True, "LBBB": True},
    ]  # fmt: skip
    assert [one.patient for one in said.values()] == ["p0", "p1", "p2", "p2"]


def _half(truth: object, **_: object) -> object:
    return replace(truth, signals={lead: values / 2 for lead, values in truth.signals.items()})


def _other_label(truth: object) -> object:
    return replace(truth, labels={name: not value for name, value in truth.labels.items()})


def _one_patient(truth: object) -> object:
    return replace(truth, patient="p0")


@pytest.mark.parametrize("other", [_half, _other_label, _one_patient])
def test_a_record_kept_with_something_else_than_its_tree_says_is_wrong(
    other, fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sound = fuzz.sound_tree()
    said: Mapping[str, object] = fuzz.truths(sound)
    monkeypatch.setattr(fuzz, "make_tree", lambda _seed: sound)
    assert fuzz.judge(0, tmp_path / "tree")[1] == fuzz.Outcome("right", "", 4)
    monkeypatch.setattr(fuzz, "truths", lambda _tree: {name: other(truth) for name, truth in said.items()})
    assert fuzz.judge(0, tmp_path / "tree")[1].kind == "wrong"


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (_RefusedError("no record is usable"), "refused"),
        (_RefusedError("two\nlines"), "traceback"),
        (_RefusedError(""), "traceback"),
        (KeyError("lead"), "traceback"),
    ],
)
def test_what_is_raised_is_a_sentence_or_a_traceback(
    raised: Exception, kind: str, fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(_root: Path) -> None:
        raise raised

    monkeypatch.setattr(fuzz, "open_source", fail)
    assert fuzz.judge(0, tmp_path / "tree")[1].kind == kind


def test_a_tree_that_takes_too_long_is_a_hang(fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def wait(_root: Path) -> None:
        while True:
            pass

    monkeypatch.setattr(fuzz, "open_source", wait)
    assert fuzz.judge(0, tmp_path / "tree", limit=0.05)[1].kind == "hang"
