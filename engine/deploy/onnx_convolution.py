"""Convolutions over time as two-dimensional ones, for which onnxruntime has faster kernels.

onnxruntime multiplies blocks of channels directly (NCHWc) in a Conv of four dimensions; one of three, (batch, channels,
time), it unrolls into a matrix for each record. So Conv and pooling nodes are given a height of 1: kernel (k) becomes
(1, k), the weights keep their order and gain a dimension of 1. One Unsqueeze leads into the chain of such nodes, with
the Relu and Add between them, and one Squeeze out of it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_WINDOWED = ("Conv", "MaxPool", "AveragePool")
_ELEMENTWISE = ("Relu", "Add")
_HEIGHT = "ecgadvise.height"


def with_height(model: "ModelProto") -> None:
    """Give convolutions and pools over time a height of 1, in place; a model without any stays as it is.

    The model computes the same function of (batch, channels, time), to the rounding of the sums.
    """
    if not any(node.op_type in _WINDOWED for node in model.graph.node):
        return
    rewriting = _Rewriting(model)
    for node in model.graph.node:
        rewriting.take(node)
    rewriting.lower([output.name for output in model.graph.output])
    nodes = rewriting.nodes
    del model.graph.node[:]
    model.graph.node.extend(nodes)


class _Rewriting:
    """Copies the nodes one by one and remembers which tensors have a height, and under what name."""

    def __init__(self, model: "ModelProto") -> None:
        import numpy as np
        from onnx import numpy_helper

        self.nodes: list[NodeProto] = []
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._high: dict[str, str] = {}  # tensor -> its name with a height
        self._flat: set[str] = set()  # those of them that are there without a height as well
        model.graph.initializer.append(numpy_helper.from_array(np.array([2], np.int64), _HEIGHT))

    def take(self, node: "NodeProto") -> None:
        """Copy a node, with a height where it works over time or on what does."""
        copy = type(node).FromString(node.SerializeToString())
        if node.op_type in _WINDOWED:
            copy.input[0] = self._with_height(node.input[0])
            self._raise(copy)
        elif node.op_type in _ELEMENTWISE and all(name in self._high for name in node.input):
            copy.input[:] = [self._high[name] for name in node.input]
        else:
            self.lower(node.input)
            self.nodes.append(copy)
            return
        (name,) = node.output
        self._high[name] = copy.output[0] = f"{name}.high"
        self.nodes.append(copy)

    def _with_height(self, name: str) -> str:
        from onnx import helper

        if name not in self._high:
            self._high[name] = f"{name}.high"
            self._flat.add(name)
            self.nodes.append(helper.make_node("Unsqueeze", [name, _HEIGHT], [self._high[name]]))
        return self._high[name]

    def lower(self, names: Sequence[str]) -> None:
        """Make the tensors of these names, without a height, available."""
        from onnx import helper

        for name in names:
            if name in self._high and name not in self._flat:
                self._flat.add(name)
                self.nodes.append(helper.make_node("Squeeze", [self._high[name], _HEIGHT], [name]))

    def _raise(self, node: "NodeProto") -> None:
        """Give a windowed node's attributes, and its weights, a height of 1."""
        from onnx import helper

        for attribute in node.attribute:
            value = helper.get_attribute_value(attribute)
            if attribute.name in ("kernel_shape", "strides", "dilations"):
                attribute.CopyFrom(helper.make_attribute(attribute.name, [1, *value]))
            elif attribute.name == "pads":
                attribute.CopyFrom(helper.make_attribute("pads", [0, value[0], 0, value[1]]))
        if node.op_type == "Conv":
            dims = self._weights[node.input[1]].dims
            if len(dims) == 3:  # weights that two nodes share have their height already
                dims.insert(2, 1)
