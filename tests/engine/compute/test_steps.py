"""The CPU's steps are torch's: same schedule, same optimiser, same bits as a loop that is written with torch alone."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from engine.compute.steps import PlainRun, pad_records, rates
from engine.recipes import Recipe, find_recipe
from engine.training.course import Examples
from engine.training.starting_point import new_network


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def examples(n_records: int = 42) -> Examples:
    generator = torch.Generator().manual_seed(3)
    signals = torch.randn(n_records, 3, 128, generator=generator)
    return Examples(signals, (torch.rand(n_records, 2, generator=generator) < 0.4).float())


def plain_loop(
    network: nn.Module,
    data: Examples,
    orders: list[torch.Tensor],
    recipe: Recipe,
    optimizer: Callable[..., torch.optim.Optimizer],
) -> list[float]:
    """Train with torch's own parts, as anybody would write it down; return the mean loss of every epoch."""
    steps = len(orders) * -(-len(data) // recipe.batch_size)
    trained = optimizer(network.parameters())
    schedule = None
    if recipe.schedule == "one-cycle":
        schedule = torch.optim.lr_scheduler.OneCycleLR(trained, max_lr=recipe.learning_rate, total_steps=steps)
    network.train()
    means = []
    for order in orders:
        losses = []
        for rows in torch.split(order, recipe.batch_size):
            trained.zero_grad()
            loss = F.binary_cross_entropy_with_logits(network(data.signals[rows]), data.labels[rows])
            loss.backward()
            if recipe.clip_norm is not None:
                nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
            trained.step()
            if schedule:
                schedule.step()
            losses.append(loss.detach())
        means.append(float(torch.stack(losses).mean()))
    return means


def adamw(recipe: Recipe) -> Callable[..., torch.optim.Optimizer]:
    return lambda parameters: torch.optim.AdamW(
        parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 10, 250])
def test_the_rates_are_those_of_torchs_one_cycle_to_the_last_bit(steps):
    recipe = find_recipe("tuned", "cnn", "fine-tune")
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=recipe.learning_rate, total_steps=steps)
    for step in range(steps):
        group = optimizer.param_groups[0]
        assert rates(recipe, step, steps) == (group["lr"], group["betas"][0])
        optimizer.step()
        schedule.step()


def test_constant_rates_stay():
    recipe = find_recipe("paper", "cnn", "scratch")
    assert {rates(recipe, step, 50) for step in range(50)} == {(0.01, 0.9)}


@pytest.mark.parametrize("arch", ["resnet1d18-w4", "gru-w4"])
@pytest.mark.parametrize(
    "recipe", [find_recipe("tuned", "cnn", "scratch"), find_recipe("tuned", "rnn", "scratch")], ids=["cnn", "rnn"]
)
def test_a_run_gives_the_bits_of_a_plain_torch_loop(arch, recipe):
    """What the stored runs of studies/evidence were computed with, written down again."""
    data, recipe = examples(), replace(recipe, batch_size=16)
    orders = [torch.randperm(len(data), generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    plain, ours = (new_network(arch, 3, 128, 2, seed=5) for _ in range(2))
    expected = plain_loop(plain, data, orders, recipe, adamw(recipe))
    run = PlainRun(ours, recipe, steps=9)
    assert [float(run.train_epoch(data.signals, data.labels, order)) for order in orders] == expected
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in plain.state_dict().items())


def test_without_weight_decay_a_run_gives_the_bits_of_adam():
    """The published optimiser is Adam; recipe paper has AdamW without its decay."""
    data, recipe = examples(), replace(find_recipe("paper", "cnn", "scratch"), batch_size=16)
    orders = [torch.arange(len(data))] * 3
    plain, ours = (new_network("resnet1d18-w4", 3, 128, 2, seed=5) for _ in range(2))
    plain_loop(plain, data, orders, recipe, lambda parameters: torch.optim.Adam(parameters, lr=0.01, fused=True))
    run = PlainRun(ours, recipe, steps=9)
    for order in orders:
        run.train_epoch(data.signals, data.labels, order)
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in plain.state_dict().items())
    assert not torch.equal(ours.head.weight, new_network("resnet1d18-w4", 3, 128, 2, seed=5).head.weight)


def test_weights_without_requires_grad_stay_as_they_are():
    data, network = examples(), new_network("resnet1d18-w4", 3, 128, 2, seed=5)
    network.stem.requires_grad_(False)
    before = {name: value.clone() for name, value in network.named_parameters()}
    PlainRun(network, find_recipe("tuned", "cnn", "scratch"), 2).train_epoch(
        data.signals, data.labels, torch.arange(42)
    )
    changed = {name for name, value in network.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if not name.startswith("stem.")}


@pytest.mark.parametrize(("n_records", "padded"), [(1, 64), (64, 64), (65, 128), (300, 512), (600, 600)])
def test_batches_of_a_prediction_have_few_sizes_and_keep_their_records(n_records, padded):
    batch = torch.rand(n_records, 2, 3)
    filled = pad_records(batch)
    assert filled.shape == (padded, 2, 3)
    assert torch.equal(filled[:n_records], batch)
    assert not filled[n_records:].any()
    assert pad_records(batch.expand(2, -1, -1, -1), dim=1).shape == (2, padded, 2, 3)
