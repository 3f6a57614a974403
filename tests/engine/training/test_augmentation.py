"""Training records are changed at random as the recipe says, and in nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.recipes import Augmentation
from engine.training.augmentation import augment

NOTHING = Augmentation(shift=0.0, scale=0.0, lead_dropout=0.0, noise=0.0)
SIGNALS = torch.from_numpy(np.random.default_rng(0).normal(size=(1500, 3, 40)).astype(np.float32))


def changed(how: Augmentation, signals: torch.Tensor = SIGNALS, seed: int = 0) -> torch.Tensor:
    return augment(signals, how, torch.Generator().manual_seed(seed))


def test_what_has_no_strength_changes_nothing():
    assert torch.equal(changed(NOTHING), SIGNALS)


def test_records_move_in_time_as_a_whole_by_up_to_the_share_and_zeros_come_in():
    marked = torch.zeros(400, 2, 40)
    marked[:, :, 20] = 1.0
    moved = changed(replace(NOTHING, shift=0.1), marked)
    at = moved.argmax(dim=2)
    assert torch.equal(at[:, 0], at[:, 1])  # all leads together
    assert set(at[:, 0].tolist()) == set(range(16, 25))
    assert torch.equal(moved.sum(dim=2), torch.ones(400, 2))
    ones = changed(replace(NOTHING, shift=0.1), torch.ones(400, 2, 40))
    assert ones[:, :, 4:36].eq(1).all()
    assert set(ones.unique().tolist()) == {0.0, 1.0}


def test_amplitudes_are_scaled_record_by_record():
    ratio = changed(replace(NOTHING, scale=0.2)) / SIGNALS
    per_record = ratio.amin(dim=(1, 2))
    torch.testing.assert_close(ratio, per_record[:, None, None].expand_as(ratio))
    assert per_record.log().std().item() == pytest.approx(0.2, rel=0.1)


def test_leads_drop_out_one_by_one_but_not_the_only_one():
    dropped = changed(replace(NOTHING, lead_dropout=0.25)).eq(0).all(dim=2)
    assert dropped.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert set(dropped.sum(dim=1).tolist()) > {0, 1}
    single = SIGNALS[:, :1]
    assert torch.equal(changed(replace(NOTHING, lead_dropout=0.9), single), single)


def test_noise_has_the_standard_deviation_that_is_asked_for():
    added = changed(replace(NOTHING, noise=0.05)) - SIGNALS
    assert added.std().item() == pytest.approx(0.05, rel=0.02)


def test_the_generator_decides_and_the_records_stay_as_they_are():
    before, how = SIGNALS.clone(), Augmentation(0.1, 0.1, 0.1, 0.05)
    assert torch.equal(changed(how, seed=1), changed(how, seed=1))
    assert not torch.equal(changed(how, seed=1), changed(how, seed=2))
    assert torch.equal(SIGNALS, before)
