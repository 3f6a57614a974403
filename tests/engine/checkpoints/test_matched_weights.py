"""Weights from elsewhere fit a network wholly, or are refused with what does not."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from engine.checkpoints.foreign_weights import ForeignWeights, WeightsError
from engine.checkpoints.matched_weights import MatchedWeights, match_weights, runs
from models import registry
from models.registry import NetworkEntry, create_network

PATH = Path("theirs.pt")
ARCH = "resnet1d18-w4"


def found(tensors: Mapping[str, Tensor], prefix: str = "") -> ForeignWeights:
    return ForeignWeights(PATH, "0" * 64, "torch.save", "", prefix, tensors)


def weights(arch: str = ARCH, n_leads: int = 2, n_classes: int = 3) -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return dict(create_network(arch, n_leads=n_leads, n_classes=n_classes, n_samples=200).state_dict())


def match(tensors: Mapping[str, Tensor], n_classes: int | None = None, arch: str = ARCH) -> MatchedWeights:
    return match_weights(found(tensors), arch, 2, 200, n_classes)


def refused(tensors: Mapping[str, Tensor], says: str, n_classes: int | None = None, arch: str = ARCH) -> None:
    with pytest.raises(WeightsError) as raised:
        match(tensors, n_classes, arch)
    assert says in str(raised.value), str(raised.value)
    assert "theirs.pt" in str(raised.value)


def test_weights_that_fit_are_the_networks_to_the_bit():
    given, seed = weights(), torch.get_rng_state()
    matched = match(given)
    assert torch.equal(torch.get_rng_state(), seed)
    assert (matched.n_classes, matched.has_head) == (3, True)
    assert (matched.renamed, matched.unused, matched.converted, matched.added) == (0, 0, (), ())
    assert not matched.network.training
    assert all(torch.equal(value, given[name]) for name, value in matched.network.state_dict().items())


def test_names_of_a_publication_become_the_networks_own(monkeypatch: pytest.MonkeyPatch):
    entry = registry.find_network(ARCH)
    published = NetworkEntry("theirs", "cnn", 4, entry.build, {"fc.": "head.", "trunk.": ""}, ("aux.*",))
    monkeypatch.setitem(registry._entries, "theirs", published)
    given = {name.replace("head.", "fc."): value for name, value in weights().items()}
    given = {name if name.startswith("fc.") else f"trunk.{name}": value for name, value in given.items()}
    matched = match({**given, "aux.weight": torch.ones(2)}, arch="theirs")
    assert (matched.renamed, matched.unused) == (len(given), 1)
    assert torch.equal(matched.network.head.weight, given["fc.weight"])
    refused(
        {**given, "head.weight": given["fc.weight"]}, "has two tensors that theirs calls head.weight", arch="theirs"
    )


def test_an_output_layer_without_bias_has_zeros_and_counters_may_be_missing():
    given = {
        name: value for name, value in weights().items() if name != "head.bias" and "num_batches_tracked" not in name
    }
    matched = match(given, 3)
    assert matched.added == ("head.bias",)
    assert not matched.network.head.bias.any()
    assert matched.network.head.weight.any()


def test_a_network_without_output_layer_has_one_of_zeros_where_no_classes_are_named():
    given = {name: value for name, value in weights().items() if not name.startswith("head.")}
    matched = match(given)
    assert (matched.has_head, matched.n_classes, matched.added) == (False, 1, ("head.weight", "head.bias"))
    assert not matched.network.head.weight.any()
    refused(given, "has no output layer (head.weight), and the contract names classes", 3)
    refused({**given, "head.bias": torch.zeros(3)}, "has no output layer of outputs x features: head.weight is missing")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_numbers_become_float32(dtype: torch.dtype):
    given = weights()
    given["head.weight"] = given["head.weight"].to(dtype)
    matched = match(given)
    assert matched.converted == (str(dtype).removeprefix("torch."),)
    assert matched.network.head.weight.dtype == torch.float32
    assert torch.equal(matched.network.head.weight, given["head.weight"].float())


def test_shared_and_turned_tensors_are_taken_as_what_they_show():
    given, shared = weights(), torch.randn(40)
    first, second = [name for name, value in given.items() if name.endswith("bias") and len(value) == 4][:2]
    given[first], given[second] = shared[:4], shared[2:6]
    given["head.weight"] = given["head.weight"].t().contiguous().t()
    network = match(given).network
    assert torch.equal(network.state_dict()[second], shared[2:6])
    network.state_dict()[first].fill_(7)
    assert torch.equal(network.state_dict()[second], shared[2:6])


CHANGES: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "NaN": (lambda w: w["head.bias"].fill_(torch.nan), "has head.bias with NaN or infinite numbers"),
    "too large": (lambda w: w.update({"head.bias": torch.full((3,), 1e300, dtype=torch.float64)}), "infinite numbers"),
    "variance": (lambda w: w["stem.1.running_var"].fill_(-1), "has stem.1.running_var with negative numbers"),
    "whole": (lambda w: w.update({"head.bias": torch.ones(3, dtype=torch.int64)}), "head.bias in int64 where float32"),
    "boolean": (lambda w: w.update({"head.bias": torch.ones(3, dtype=torch.bool)}), "in bool where float32 is needed"),
    "counter": (lambda w: w.update({"stem.1.num_batches_tracked": torch.tensor(1.5)}), "in float32 where int64"),
    "complex": (lambda w: w.update({"head.bias": torch.ones(3, dtype=torch.complex64)}), "that is complex"),
    "sparse": (lambda w: w.update({"head.weight": w["head.weight"].to_sparse()}), "that is sparse, which no network"),
    "meta": (lambda w: w.update({"head.bias": torch.ones(3, device="meta")}), "that is without numbers"),
    "quantised": (
        lambda w: w.update({"head.weight": torch.quantize_per_tensor(w["head.weight"], 0.1, 0, torch.qint8)}),
        "that is quantised, which no network here takes: head.weight",
    ),
    "missing": (lambda w: [w.pop("head.bias"), w.pop("stem.1.weight")], "names missing: 1 (stem.1.weight)"),
    "too many": (lambda w: w.update({"mask": torch.ones(2)}), "names too many: 1 (mask)"),
    "shape": (lambda w: w.update({"stem.1.bias": torch.ones(5)}), "stem.1.bias is (5,) and should be (4,)"),
    "a huge view": (
        lambda w: w.update({"stem.1.bias": torch.ones(1).expand(10**15)}), "stem.1.bias is (1000000000000000,)"
    ),
    "outputs": (lambda w: w.update({"head.weight": torch.ones(1).expand(10**12, 10)}), "outputs x features: head.weig"),
    "one output": (lambda w: w.update({"head.weight": torch.ones(10)}), "outputs x features: head.weight is (10,)"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.filterwarnings("ignore:.*quantize")
def test_one_thing_that_is_wrong_is_named(change: str):
    make, says = CHANGES[change]
    given = {name: value.clone() for name, value in weights().items()}
    make(given)
    refused(given, says)


def test_classes_are_as_many_as_outputs():
    refused(weights(), "has an output layer of 3 outputs, and the contract names 4 classes", 4)


def test_another_number_of_leads_shows_by_the_first_layer():
    refused(weights(n_leads=12), "does not fit resnet1d18-w4 for 2 leads: other shapes: 1 (stem.0.weight is ")


def test_weights_of_another_network_name_it():
    refused(weights("gru-w4"), "its names are more like those of gru or gru-flatten or lstm")
    refused({"a.weight": torch.ones(2)}, "(a.weight)")
    theirs = {name.replace("head.", "fc."): value for name, value in weights("gru-w4").items()}
    refused(theirs, "does not fit resnet1d18-w4", 3)  # rather than that no output layer is called as ours is


def test_kernels_drawn_by_chance_are_not_imported():
    for arch in ("random-convolutions", f"{ARCH}+random-convolutions"):
        with pytest.raises(WeightsError, match="kernels drawn by chance"):
            match(weights(), arch=arch)


def test_a_network_that_overflows_does_not_run():
    network = nn.Sequential(nn.Flatten(), nn.Linear(8, 1))
    assert runs(network, 2, [4])
    nn.init.constant_(network[1].weight, 3e38)
    assert not runs(network, 2, [4])
