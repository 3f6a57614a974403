"""What a deployed model says about itself: ``metadata_props`` of the ONNX file, read without torch.

Every key begins with ``ecgadvise.`` and every value is JSON. The signal, the classes and the thresholds are what a
program needs to use the model; the rest says where it comes from.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from engine.records.contract import SignalContract
from models.scaling import Scaling

PREFIX = "ecgadvise."
SCHEMA_VERSION = 1
UNITS = "mV"
_LATER = ("crop", "scaling")  # which models of earlier versions do not have
INTENDED_USE = (
    "Research and development on resting ECG records: estimates for each class, on its own, the probability that a "
    "reader would have given it. Not a medical device; not for diagnosis, triage or treatment."
)


class ModelFactsError(ValueError):
    """Metadata that ``ecgadvise export`` did not write, or that were changed; a phrase says what is wrong."""


@dataclass(frozen=True)
class ModelFacts:
    """One field a key. ``leads``, ``fs`` hertz, ``n_samples`` and ``units`` describe the input ``ecg``.

    ``probability`` of the model is sigmoid(logit / ``temperature``), and a class is present where it is at least its
    threshold. ``preparation`` holds the keyword arguments of ``engine.records.signal.Preparation``. ``codes`` gives the
    SNOMED CT or SCP codes of a class where they are known.
    """

    schema_version: int
    arch: str
    task: str
    classes: tuple[str, ...]
    thresholds: tuple[float, ...]
    temperature: float
    leads: tuple[str, ...]
    fs: float
    n_samples: int
    units: str
    preparation: Mapping[str, bool]
    intended_use: str
    opset: int
    half: bool
    data_hash: str
    weights_sha256: str
    licence: str | None
    created: str
    strategy: str
    upstream: str | None
    n_records: int | None
    codes: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, str] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    subgroups: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    exported_with: Mapping[str, str] = field(default_factory=dict)
    crop: int | None = None
    scaling: Scaling = "set"

    @property
    def contract(self) -> SignalContract:
        """What the input ``ecg`` is made of, and how the model reads it; both are inside the graph."""
        return SignalContract(self.leads, self.fs, self.n_samples, self.crop, self.scaling)

    def to_metadata(self) -> dict[str, str]:
        """Return the keys and values of ``metadata_props``; ``seconds`` is for other programs, and follows from two."""
        values = {**asdict(self), "seconds": self.contract.seconds}
        return {PREFIX + name: json.dumps(value) for name, value in values.items()}


def read_metadata(metadata: Mapping[str, str]) -> ModelFacts:
    """Return the facts in a model's ``metadata_props``. Raises ModelFactsError."""
    if PREFIX + "schema_version" not in metadata:
        raise ModelFactsError("it carries no classes and no signal contract of ecgadvise export")
    values: dict[str, Any] = {}
    for known in fields(ModelFacts):
        if known.name in _LATER and PREFIX + known.name not in metadata:
            continue
        try:
            values[known.name] = json.loads(metadata[PREFIX + known.name])
        except KeyError:
            raise ModelFactsError(f"its metadata lack {PREFIX}{known.name}") from None
        except ValueError:
            raise ModelFactsError(f"its metadata have no JSON in {PREFIX}{known.name}") from None
    if values["schema_version"] != SCHEMA_VERSION:
        raise ModelFactsError(f"its metadata have schema {values['schema_version']}, not {SCHEMA_VERSION}")
    _check(values)
    values |= {name: tuple(values[name]) for name in ("classes", "thresholds", "leads")}
    return ModelFacts(**values)


def _check(values: Mapping[str, Any]) -> None:
    """Raise ModelFactsError where what predictions rest on is not of its form."""
    classes, preparation = values["classes"], values["preparation"]
    usable = {
        "classes": _is_list(classes, str),
        "leads": _is_list(values["leads"], str),
        "thresholds": _is_list(values["thresholds"], int | float)
        and _is_list(classes, str)
        and len(values["thresholds"]) == len(classes),
        "fs": _is_positive(values["fs"]),
        "n_samples": _is_positive(values["n_samples"]) and isinstance(values["n_samples"], int),
        "units": values["units"] == UNITS,
        "preparation": isinstance(preparation, dict)
        and set(preparation) == {"anti_alias", "min_max"}
        and all(isinstance(value, bool) for value in preparation.values()),
    }
    if wrong := [PREFIX + name for name, good in usable.items() if not good]:
        raise ModelFactsError(f"its metadata have no usable {', '.join(wrong)}")


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


def _is_list(value: object, of: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, of) for item in value)
