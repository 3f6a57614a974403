"""ONNX export, its comparison with the network, inference, model cards."""
