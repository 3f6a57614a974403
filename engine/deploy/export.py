"""A trained network as one ONNX file that carries its own scaling, classes, thresholds and facts.

Input ``ecg`` float32 (batch, leads, samples) in millivolt; outputs ``logits`` and ``probability``, both float32 (batch,
classes). What is written was compared with the network first, bit for bit the same bytes: see ``engine.deploy.parity``.
"""

import logging
import platform
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.checkpoints.checkpoint import CheckpointFacts, load_network
from engine.checkpoints.importing import has_output_layer
from engine.deploy.inference import session_errors
from engine.deploy.model_card import Exported, model_card
from engine.deploy.model_facts import INTENDED_USE, SCHEMA_VERSION, UNITS, ModelFacts
from engine.deploy.model_facts_label import model_facts_label
from engine.deploy.onnx_convolution import with_height
from engine.deploy.onnx_recurrent import UnsupportedLayerError, translations, with_onnx_recurrence
from engine.deploy.onnx_state_space import with_fixed_kernels
from engine.deploy.parity import HALF_TOLERANCE, TOLERANCE, Agreement, compare, gate_batches
from engine.files import check_files, file_sha256, write_files
from engine.json_values import without_nan
from engine.records.signal import CONTRACT, Preparation, paper_preparation
from engine.versions import version_of
from models.errors import ExitCode, UserError

if TYPE_CHECKING:
    from onnx import ModelProto

OPSETS = range(18, 24)  # what torch's exporter writes; the first is the default, which most runtimes can read
CARD, LABEL = "MODEL_CARD.md", "MODEL_FACTS.md"  # next to the model: one folder, one model
_LIBRARIES = ("ecgadvise", "torch", "numpy", "onnx", "onnxscript", "onnxruntime")
_LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir")


class ExportError(UserError, RuntimeError):
    """Nothing was written; one sentence says why."""

    exit_code = ExitCode.FAILURE


class TargetNameError(ExportError):
    """The name asked for is that of another kind of file than an export writes."""

    exit_code = ExitCode.USAGE


class NoOutputLayerError(ExportError):
    """The network can be started from, and gives nothing itself."""

    exit_code = ExitCode.DATA


class TargetExistsError(ExportError):
    """A file that the export would write is there already."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class ExportReport:
    """What was written, ``bytes`` long, and how well it agrees with the network; ``seconds`` by the clock."""

    model: Path
    card: Path
    label: Path
    opset: int
    half: bool
    bytes: int
    weight_bytes: int  # of the network's parameters and fixed kernels, in 32 bits
    agreement: Agreement
    seconds: float


def export_checkpoint(
    root: Path,
    target: Path,
    *,
    opset: int = OPSETS[0],
    half: bool = False,
    own_records: NDArray[np.float32] | None = None,
    force: bool = False,
) -> ExportReport:
    """Write the network of checkpoint ``root`` to the ONNX file ``target``, its card and its label next to it.

    With ``half``, weights are stored in 16 bits and computed with in 32. ``own_records`` float32 (records, leads,
    samples), prepared, in millivolt, are compared on besides the synthetic ones. All files are written or none.
    Raises CheckpointError, TargetExistsError when a file is there and not ``force``, NoOutputLayerError, and
    ExportError when the model differs from the network or cannot be written, TargetNameError for a ``target`` that does
    not end in ``.onnx``.
    """
    started = time.perf_counter()
    files = _checked_files(target, force)
    network, facts = load_network(root)
    if not has_output_layer(facts):
        raise NoOutputLayerError(
            f"{root} has no output layer, and nothing to export: train one with ecgadvise train --from {root.name}"
        )
    deployed = model_facts(facts, opset, half, file_sha256(root / "weights.safetensors"))
    model = to_onnx(network, facts, deployed)
    agreement = _gate(model, network, facts, half, own_records)
    exported = Exported(target.name, len(model), agreement.sentence())
    texts = [text.encode() for text in (model_card(deployed, exported), model_facts_label(deployed, exported))]
    try:
        write_files(dict(zip(files, (model, *texts), strict=True)))  # the model last: where it is, its card is
    except OSError as error:
        raise ExportError(f"cannot write {target}: {error.strerror}") from None
    fixed = (kernel for kernel in network.buffers() if kernel.dim() > 1)  # of random convolutions
    weight_bytes = sum(4 * weights.numel() for weights in (*network.parameters(), *fixed))
    return ExportReport(
        *files, opset, half, len(model), weight_bytes, agreement, time.perf_counter() - started
    )  # fmt: skip


def to_onnx(network: nn.Module, facts: CheckpointFacts, deployed: ModelFacts) -> bytes:
    """Return the ONNX model of a network with its scaling, calibration and metadata. Raises ExportError."""
    try:
        example = torch.zeros(2, len(facts.leads), facts.n_samples)
        module = _Deployed(with_onnx_recurrence(with_fixed_kernels(network, example)), facts).eval()
    except UnsupportedLayerError as error:
        raise ExportError(f"{facts.arch} cannot be exported: {error}") from None
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module,
            (example,),
            input_names=["ecg"],
            output_names=["logits", "probability"],
            dynamic_shapes={"ecg": {0: "batch"}},
            opset_version=deployed.opset,
            custom_translation_table=translations(),
            dynamo=True,
            verbose=False,
        )
    assert program is not None, "a program is returned where no file is named"
    model = program.model_proto
    _tidy(model, deployed)
    with_height(model)
    if deployed.half:
        _store_in_16_bits(model)
    content: bytes = model.SerializeToString()
    return content


class _Deployed(nn.Module):
    """Millivolt in; logits, and the probabilities that are reported, out."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, facts: CheckpointFacts) -> None:
        super().__init__()
        self.network, self.temperature = network, facts.temperature
        mean, std = (
            np.asarray(v, np.float32)[:, None] for v in (facts.standardisation.mean, facts.standardisation.std)
        )
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("std", torch.from_numpy(std))

    def forward(self, ecg: Tensor) -> tuple[Tensor, Tensor]:
        """Map (batch, leads, samples) to two of (batch, classes)."""
        logits = self.network((ecg - self.mean) / self.std)
        return logits, torch.sigmoid(logits / self.temperature)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks about itself (deprecations, torchvision) from the user."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _tidy(model: "ModelProto", deployed: ModelFacts) -> None:
    """Put our metadata in place of the exporter's, which name source files and folders of this machine."""
    from onnx import helper

    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer, graph):
        del part.metadata_props[:]
        part.doc_string = ""
    del graph.value_info[:], model.metadata_props[:]
    graph.name = deployed.arch
    model.producer_name, model.producer_version = "ecgadvise", version_of("ecgadvise")
    model.ir_version = helper.find_min_ir_version_for(list(model.opset_import))
    helper.set_model_props(model, deployed.to_metadata())


def _store_in_16_bits(model: "ModelProto") -> None:
    """Store weight matrices and kernels as float16, each behind a Cast that a runtime folds away when it loads."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{name}_16"))
        casts.append(helper.make_node("Cast", [f"{name}_16"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _gate(
    model: bytes, network: nn.Module, facts: CheckpointFacts, half: bool, own_records: NDArray[np.float32] | None
) -> Agreement:
    """Raise ExportError unless the model is valid ONNX and does what the network does."""
    import onnx

    tolerance = HALF_TOLERANCE if half else TOLERANCE
    try:
        onnx.checker.check_model(model, full_check=True)
        agreement = compare(model, network, facts, gate_batches(facts, own_records), tolerance)
    except onnx.checker.ValidationError as error:
        raise ExportError(f"nothing was written: the model is not valid ONNX: {_one_line(error)}") from error
    except session_errors() as error:
        raise ExportError(f"nothing was written: onnxruntime cannot run the model: {_one_line(error)}") from error
    if not agreement.holds:
        raise ExportError(f"nothing was written, the model is not the network: {agreement.sentence()}")
    return agreement


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def model_facts(facts: CheckpointFacts, opset: int, half: bool, weights_sha256: str) -> ModelFacts:
    """Return what a deployed network says about itself, from what its checkpoint knows."""
    same = ("arch", "task", "classes", "temperature", "leads", "fs", "n_samples", "data_hash", "strategy", "upstream",
            "codes", "source", "recipe", "subgroups", "versions", "created", "n_records", "record", "crop",
            "scaling")  # fmt: skip
    return ModelFacts(
        **{name: getattr(facts, name) for name in same},
        schema_version=SCHEMA_VERSION,
        thresholds=facts.class_thresholds,
        units=UNITS,
        preparation=asdict(preparation_of(facts)),
        intended_use=INTENDED_USE,
        opset=opset,
        half=half,
        weights_sha256=weights_sha256,
        licence=facts.source.get("licence"),
        metrics=without_nan(dict(facts.metrics)),
        evaluation=facts.evaluation,
        exported_with={"python": platform.python_version(), **{name: version_of(name) for name in _LIBRARIES}},
    )


def preparation_of(facts: CheckpointFacts) -> Preparation:
    """Return how the training records were prepared: as recorded, else as the name of the corpus says."""
    recorded = facts.record.get("preparation")
    if recorded is not None:
        return Preparation(**recorded)
    corpus = facts.task.partition("/")[0]
    return paper_preparation(corpus.removesuffix("-paper")) if corpus.endswith("-paper") else CONTRACT


def _checked_files(target: Path, force: bool) -> tuple[Path, Path, Path]:
    """Return the names of model, card and label. Raises ExportError where it shows now that they cannot be written."""
    try:
        if target.is_dir():
            raise ExportError(f"{target} is a folder: name the file in it, as in {target / 'model.onnx'}")
        files = (target, target.with_name(CARD), target.with_name(LABEL))
        if target.name.lower() in (CARD.lower(), LABEL.lower()):
            raise ExportError(f"{target} is where its {target.stem} goes: name the model otherwise, as in model.onnx")
        if target.suffix.lower() != ".onnx":
            raise TargetNameError(f"{target}: the model is written as ONNX and as nothing else, so name it .onnx")
        check_files(files)
    except OSError as error:
        raise ExportError(f"cannot write {error.filename or target}: {error.strerror}") from None
    there = [file for file in files if file.exists()]
    if there and not force:
        names = ", ".join(map(str, there))
        raise TargetExistsError(f"already there: {names}; choose another folder with --out, or --force to replace")
    return files
