"""Convolutions and pools with a height of 1 compute what those over time compute."""

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.deploy.inference import open_session
from engine.deploy.onnx_convolution import with_height


class EveryLayer(nn.Module):
    """Every kind of node that gets a height, weights that two nodes share, and tensors that leave the chain twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(3, 4, 5, stride=2, padding=2)
        self.shared = nn.Conv1d(4, 4, 3, padding=2, dilation=2, groups=2, bias=False)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = F.max_pool1d(F.relu(self.first(x)), 3, stride=2, padding=1)
        y = F.relu(self.shared(self.shared(y)) + y)
        y = F.avg_pool1d(y, 2, ceil_mode=True)
        return self.head(torch.cat([y.mean(dim=2), y.amax(dim=2)], dim=1)), y


@pytest.fixture(scope="module")
def models() -> tuple[EveryLayer, onnx.ModelProto, onnx.ModelProto]:
    """The network, its export, and that with a height."""
    torch.manual_seed(0)
    network = EveryLayer().eval()
    shapes = {"x": {0: "batch"}}
    plain = torch.onnx.export(network, (torch.zeros(2, 3, 50),), dynamic_shapes=shapes, verbose=False).model_proto
    del plain.graph.value_info[:]
    high = onnx.ModelProto.FromString(plain.SerializeToString())
    with_height(high)
    onnx.checker.check_model(high, full_check=True)
    return network, plain, high


@pytest.mark.filterwarnings("ignore:.*treespec:FutureWarning")  # torch's exporter calls what torch deprecates
@pytest.mark.parametrize("batch", [1, 5])
def test_the_function_stays_that_of_torch(models, batch):
    network, _, high = models
    x = torch.randn(batch, 3, 50, generator=torch.Generator().manual_seed(batch))
    with torch.no_grad():
        expected = network(x)
    for actual, wanted in zip(
        open_session(high.SerializeToString()).run(None, {"x": x.numpy()}), expected, strict=True
    ):
        torch.testing.assert_close(torch.from_numpy(actual), wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:.*treespec:FutureWarning")
def test_the_chain_is_entered_and_left_once_and_the_weights_keep_their_bytes(models):
    _, plain, high = models
    kinds = [node.op_type for node in high.graph.node]
    assert kinds.count("Unsqueeze") - [node.op_type for node in plain.graph.node].count("Unsqueeze") == 1
    assert kinds.count("Squeeze") - [node.op_type for node in plain.graph.node].count("Squeeze") == 1
    before = {tensor.name: tensor for tensor in plain.graph.initializer}
    after = {tensor.name: tensor for tensor in high.graph.initializer}
    for name, tensor in before.items():
        assert after[name].raw_data == tensor.raw_data
    kernels = [after[node.input[1]] for node in high.graph.node if node.op_type == "Conv"]
    assert [len(kernel.dims) for kernel in kernels] == [4, 4, 4]
    assert all(kernel.dims[2] == 1 for kernel in kernels)


def test_a_model_without_convolutions_stays_as_it_is():
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "relu", value[:1], value[1:])
    model = onnx.helper.make_model(graph)
    before = model.SerializeToString()
    with_height(model)
    assert model.SerializeToString() == before
