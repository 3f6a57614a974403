"""A snapshot on disk: what was kept comes back to the bit; another training's, or an altered one, is refused."""

import json
from pathlib import Path

import pytest
import torch

from engine.checkpoints.snapshot import NUMBERS, TENSORS, ResumeError, Snapshot, begun, load_snapshot, save_snapshot

WHAT = {"task": "made/task", "n_records": 100, "seed": 0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(3)
    groups = {
        "network": {"head.weight": torch.randn(3, 4, generator=generator), "steps": torch.tensor(7)},
        "random": {"order": generator.get_state()},
    }
    save_snapshot(Snapshot.of(5, groups, {"seconds": 0.1 + 0.2, "validations": [{"auroc": 0.5}]}), WHAT, tmp_path)
    return tmp_path


def test_what_was_kept_comes_back_to_the_bit(folder: Path):
    snapshot = load_snapshot(folder, WHAT)
    generator = torch.Generator().manual_seed(3)
    assert torch.equal(snapshot.group("network")["head.weight"], torch.randn(3, 4, generator=generator))
    assert torch.equal(snapshot.group("random")["order"], generator.get_state())
    assert snapshot.group("network")["steps"].item() == 7
    assert (snapshot.epoch, snapshot.numbers) == (5, {"seconds": 0.1 + 0.2, "validations": [{"auroc": 0.5}]})


def test_what_was_begun_is_known_before_it_is_asked_for_and_nothing_of_what_was_altered(folder: Path):
    assert begun(folder) == WHAT
    assert begun(folder / "nowhere") is None
    (folder / NUMBERS).write_text((folder / NUMBERS).read_text().replace("made/task", "your/task"))
    assert begun(folder) is None


def test_another_training_is_refused_and_the_difference_named(folder: Path):
    with pytest.raises(ResumeError, match="begun with n_records 100, not 200"):
        load_snapshot(folder, WHAT | {"n_records": 200})


def test_where_nothing_was_interrupted_there_is_nothing_to_resume(tmp_path: Path):
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ResumeError, match="holds no interrupted training"):
            load_snapshot(place, WHAT)


@pytest.mark.parametrize("edit", [lambda d: d.pop("numbers"), lambda d: d.update(epoch=1), lambda d: d.clear()])
def test_edited_numbers_are_refused(folder: Path, edit):
    document = json.loads((folder / NUMBERS).read_text())
    edit(document)
    (folder / NUMBERS).write_text(json.dumps(document))
    with pytest.raises(ResumeError, match=f"{NUMBERS} was altered"):
        load_snapshot(folder, WHAT)


@pytest.mark.parametrize("text", ["", "[1, 2]", "{", "[" * 100_000], ids=["empty", "list", "cut", "deep"])
def test_what_is_no_document_is_refused(folder: Path, text: str):
    (folder / NUMBERS).write_text(text)
    with pytest.raises(ResumeError, match=NUMBERS):
        load_snapshot(folder, WHAT)


def test_altered_tensors_are_refused(folder: Path):
    content = bytearray((folder / TENSORS).read_bytes())
    content[-1] ^= 1
    (folder / TENSORS).write_bytes(content)
    with pytest.raises(ResumeError, match=f"{TENSORS} was altered"):
        load_snapshot(folder, WHAT)
