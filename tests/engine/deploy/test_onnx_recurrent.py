"""A recurrent layer exports to ONNX nodes that compute what torch's layer computes."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engine.deploy.inference import open_session
from engine.deploy.onnx_recurrent import OnnxRecurrent, UnsupportedLayerError, translations, with_onnx_recurrence

LAYERS = {
    "lstm": lambda: nn.LSTM(3, 5, batch_first=True),
    "gru": lambda: nn.GRU(3, 5, batch_first=True),
    "bidirectional lstm": lambda: nn.LSTM(3, 5, batch_first=True, bidirectional=True),
    "bidirectional gru of two layers": lambda: nn.GRU(3, 5, num_layers=2, batch_first=True, bidirectional=True),
    "lstm of two layers with dropout": lambda: nn.LSTM(3, 5, num_layers=2, batch_first=True, dropout=0.5),
    "lstm without bias, time first": lambda: nn.LSTM(3, 5, bias=False),
}


class EveryOutput(nn.Module):
    """The sequence and every last state of every layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({name: make() for name, make in LAYERS.items()})

    def forward(self, x: Tensor) -> dict[str, tuple[Tensor, ...]]:
        outputs = {}
        for name, layer in self.layers.items():
            sequence, last = layer(x if layer.batch_first else x.transpose(0, 1))
            outputs[name] = (sequence, *last) if isinstance(last, tuple) else (sequence, last)
        return outputs


@pytest.fixture(scope="module")
def every_output() -> tuple[EveryOutput, object]:
    """The layers in torch, and an onnxruntime session of their export."""
    torch.manual_seed(0)
    network = EveryOutput().eval()
    program = torch.onnx.export(
        with_onnx_recurrence(network), (torch.zeros(2, 40, 3),), dynamic_shapes={"x": {0: "batch"}},
        custom_translation_table=translations(), verbose=False,
    )  # fmt: skip
    return network, open_session(program.model_proto.SerializeToString())


@pytest.mark.filterwarnings("ignore:.*treespec:FutureWarning")  # torch's exporter calls what torch deprecates
@pytest.mark.parametrize("batch", [1, 5])
def test_every_output_of_every_layer_is_that_of_torch(every_output, batch):
    network, session = every_output
    x = torch.randn(batch, 40, 3, generator=torch.Generator().manual_seed(batch))
    with torch.no_grad():
        expected = {name: [one.numpy() for one in outputs] for name, outputs in network(x).items()}
    actual = iter(session.run(None, {"x": x.numpy()}))
    for name, outputs in expected.items():
        for one in outputs:
            np.testing.assert_allclose(next(actual), one, atol=2e-6, err_msg=name)
    assert next(actual, None) is None


def test_a_network_without_a_recurrent_layer_is_left_alone():
    network = nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU())
    assert with_onnx_recurrence(network) is network


def test_the_network_itself_is_not_changed():
    network = nn.Sequential(nn.Linear(3, 3), nn.GRU(3, 5, batch_first=True))
    copied = with_onnx_recurrence(network)
    assert isinstance(copied[1], OnnxRecurrent)
    assert isinstance(network[1], nn.GRU)
    assert network[1](torch.zeros(2, 40, 3))[0].shape == (2, 40, 5)


@pytest.mark.parametrize(
    ("layer", "says"), [(nn.RNN(3, 5), "RNN_TANH"), (nn.LSTM(3, 5, proj_size=2), "projections")], ids=["rnn", "proj"]
)
def test_a_layer_without_an_onnx_form_is_refused_by_name(layer, says):
    with pytest.raises(UnsupportedLayerError, match=says):
        with_onnx_recurrence(nn.Sequential(layer))
