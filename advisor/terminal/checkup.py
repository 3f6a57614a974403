"""What works on this machine and what does not, with the reason: what ``ecgadvise doctor`` finds.

Nothing is changed and nothing leaves the machine. ``ok`` works, ``absent`` is something optional that is not there,
``broken`` is there, or should be, and does not work.
"""

import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from advisor.answer.words import count
from engine.recipes import DEFAULT_RECIPE
from engine.records.lead_names import leads_in_words

State = Literal["ok", "absent", "broken"]

REQUIRED = ("torch", "numpy", "scipy", "scikit-learn", "statsmodels", "wfdb", "h5py", "safetensors", "onnx",
            "onnxscript", "onnxruntime", "matplotlib", "threadpoolctl", "typer", "rich", "platformdirs")  # fmt: skip
OPTIONAL = ("distributed", "edfio", "pydicom", "fastapi", "uvicorn", "jinja2", "prometheus-client", "python-multipart")
_MODULES = {
    "scikit-learn": "sklearn", "prometheus-client": "prometheus_client", "python-multipart": "python_multipart",
}  # fmt: skip
_N_LEADS, _N_SAMPLES = 12, 1000


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what it is, how it is, and the facts or the reason."""

    what: str
    state: State
    detail: str


@dataclass(frozen=True)
class Speed:
    """How fast a family's default network trains here; None where it could not be measured, with the reason."""

    family: str
    arch: str
    device: str
    records_per_second: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Checkup:
    """Everything that was found."""

    python: str
    machine: str
    libraries: tuple[Finding, ...]
    devices: tuple[Finding, ...]
    corpora_folder: str
    corpora: tuple[Finding, ...]
    evidence: Finding
    zoo: tuple[Finding, ...]
    speeds: tuple[Speed, ...]
    commands: tuple[Finding, ...]

    @property
    def is_healthy(self) -> bool:
        """Whether everything works that should."""
        looked_at = (*self.libraries, *self.devices, *self.corpora, self.evidence, *self.zoo, *self.commands)
        return all(found.state != "broken" for found in looked_at) and all(
            speed.reason is None for speed in self.speeds
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {"schema_version": 1, "healthy": self.is_healthy, **asdict(self)}


def examine(corpora: Path, device: str, curves: Path, probe: bool = True) -> Checkup:
    """Look at everything; ``probe`` measures the training speed on ``device``. Raises DeviceError."""
    from engine.compute.devices import choose_device

    place = choose_device(device)
    libraries = tuple(_library(name, required=name in REQUIRED) for name in (*REQUIRED, *OPTIONAL))
    prepared, evidence = tuple(_corpora(corpora)), _evidence(curves)
    speeds = tuple(_measure(curves, str(place))) if probe and evidence.state == "ok" else ()
    return Checkup(
        python=platform.python_version(),
        machine=f"{platform.system()} {platform.machine()}",
        libraries=libraries,
        devices=tuple(_devices()),
        corpora_folder=str(corpora),
        corpora=prepared,
        evidence=evidence,
        zoo=tuple(_zoo()),
        speeds=speeds,
        commands=tuple(_commands(libraries, prepared, evidence)),
    )


def _library(name: str, required: bool) -> Finding:
    """Import a library: one that is installed may still not load."""
    try:
        import_module(_MODULES.get(name, name))
        return Finding(name, "ok", version(name))
    except (ModuleNotFoundError, PackageNotFoundError):
        return Finding(name, "broken" if required else "absent", "not installed")
    except (ImportError, OSError) as error:
        return Finding(name, "broken", f"does not load: {_one_line(error)}")


def _devices() -> Iterable[Finding]:
    import torch

    from engine.compute.devices import DeviceError, choose_device, describe_device

    yield Finding("cpu", "ok", describe_device("cpu"))
    try:
        choose_device("cuda")
    except DeviceError as error:
        yield Finding("cuda", "absent", str(error).partition(": ")[2].partition(";")[0] or str(error))
        return
    for index in range(torch.cuda.device_count()):
        yield Finding(f"cuda:{index}", "ok", describe_device(f"cuda:{index}"))


def _corpora(folder: Path) -> Iterable[Finding]:
    from engine.corpora.corpus import Corpus, CorpusError
    from engine.corpora.opening import FROM_DIRECTORIES

    if folder.exists() and not folder.is_dir():
        yield Finding(folder.name, "broken", f"{folder} is not a folder")
    for path in sorted([*folder.glob("*/corpus.json"), *(folder / FROM_DIRECTORIES).glob("*/corpus.json")]):
        try:
            corpus = Corpus(path.parent)
        except CorpusError as error:
            yield Finding(path.parent.name, "broken", str(error))
            continue
        n_records, leads = count(len(corpus), "record"), count(len(corpus.leads), "lead")
        n_tasks = count(len(corpus.tasks), "task")
        yield Finding(
            corpus.name, "ok", f"{n_records}, {leads}, {corpus.contract.seconds:g} s at {corpus.fs:g} Hz, {n_tasks}"
        )


def _evidence(path: Path) -> Finding:
    from advisor.answer.curve_choice import tasks_behind
    from studies.files.curves import CurvesFileError, is_released, read_curves, start_in_words

    try:
        curves = read_curves(path)
    except CurvesFileError as error:
        return Finding("evidence", "broken", str(error))
    tasks = sorted({task for curve in curves.curves for task in curve.measured_tasks})
    n_tasks = f"{len(tasks)} task{'s' * (len(tasks) > 1)} ({', '.join(tasks)})"
    theirs = {
        curve.arch: f" ({start_in_words(curve.upstream)})" for curve in curves.curves if is_released(curve.upstream)
    }
    networks = ", ".join(f"{arch} {len(tasks_behind(arch, curves))}{theirs.get(arch, '')}" for arch in curves.networks)
    return Finding(
        "evidence", "ok",
        f"study {curves.study}, {curves.created[:10]}: {n_tasks}; networks, and how many of the tasks each answers "
        f"from: {networks}",
    )  # fmt: skip


def _zoo() -> Iterable[Finding]:
    from engine.checkpoints.checkpoint import CheckpointError, load_checkpoint
    from engine.checkpoints.importing import has_output_layer
    from engine.checkpoints.zoo import known_networks

    for name, known in known_networks().items():
        try:
            facts = load_checkpoint(known.folder).facts
        except CheckpointError as error:
            yield Finding(name, "broken", str(error))
            continue
        n_classes = count(len(facts.classes), "class") if has_output_layer(facts) else facts.classes[0]
        whose = {"released": "", "package": ", of a package", "added": ", added"}[known.origin]
        yield Finding(name, "ok", f"{facts.arch}, {leads_in_words(facts.leads)}, {n_classes}{whose}")


def _measure(curves: Path, device: str) -> Iterable[Speed]:
    import torch

    from studies.files.curves import read_curves
    from studies.running.workload import Shape, measure_speed

    for family, arch in read_curves(curves).family_default.items():
        try:
            speed = measure_speed(arch, DEFAULT_RECIPE, Shape(_N_LEADS, _N_SAMPLES), torch.device(device))
        except RuntimeError as error:  # what torch raises when a device fails or is full
            yield Speed(family, arch, device, None, _one_line(error))
            continue
        yield Speed(family, arch, device, float(f"{1 / speed.training:.3g}"))


def _commands(libraries: Sequence[Finding], corpora: Sequence[Finding], evidence: Finding) -> Iterable[Finding]:
    yield Finding("recommend", evidence.state, "" if evidence.state == "ok" else evidence.detail)
    for command, needed in (
        ("curves, backtest", ("scipy", "statsmodels", "matplotlib")),
        ("data", ("wfdb", "scipy", "h5py")),
        ("train", ("torch", "scikit-learn", "safetensors")),
        ("export, predict", ("onnx", "onnxscript", "onnxruntime")),
    ):
        lacking = [found for found in libraries if found.what in needed and found.state != "ok"]
        reason = "; ".join(f"{found.what} {found.detail}" for found in lacking)
        yield Finding(command, "broken" if lacking else "ok", reason)
    prepared = any(found.state == "ok" for found in corpora)
    yield Finding(
        "study run", "ok" if prepared else "absent",
        "" if prepared else "no prepared corpus: ecgadvise data fetch and data prepare make one",
    )  # fmt: skip
    for what, library, extra in (
        ("study run --executor dask", "distributed", "cluster"),
        ("DICOM files", "pydicom", "formats"),
        ("EDF files", "edfio", "formats"),
    ):
        found = next(one for one in libraries if one.what == library)
        reason = "" if found.state == "ok" else f"{found.detail}: pip install 'ecgadvise[{extra}]'"
        yield Finding(what, found.state, reason)


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
