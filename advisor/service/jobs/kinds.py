"""What a job can be asked for: a request of each kind, checked for form, and the key by which the same work is known.

Texts become arguments of a command, so none may begin as an option does or hold what is not printed.
"""

import json
import re
from hashlib import sha256
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from engine.recipes import NAMES

DATASET_ID, MODEL_ID = r"^d[0-9a-f]{12}$", r"^m[0-9a-f]{12}$"
# The parser of TOML takes quadratic time over a dotted key, and a stack's depth over brackets in brackets: what no
# design has is refused before it is parsed.
_MOST_DESIGN = 20_000  # characters
_MOST_DOTS = 40  # of a key
_MOST_NESTED = 20  # brackets and braces
_QUOTED = re.compile(r"""\"(?:[^"\\]|\\.)*+"?|'[^']*+'?""")  # an end is missing where the next line has it


def _in_print(text: str) -> str:
    if text.startswith("-") or not text.isprintable() or not text.strip():
        raise ValueError("give text in print that does not begin with a hyphen")
    return text


def _known_recipe(name: str) -> str:
    if name not in NAMES:
        raise ValueError(f"give one of {', '.join(NAMES)}")
    return name


def _soon_parsed(text: str) -> str:
    depth = 0
    for line in text.split("\n"):
        bare = _QUOTED.sub("", line).partition("#")[0]
        if any(part.count(".") > _MOST_DOTS for part in re.split("[=,]", bare)):
            raise ValueError(f"a key has more than {_MOST_DOTS} dots")
        for bracket in re.findall(r"[][{}]", bare):
            depth = depth + 1 if bracket in "[{" else max(0, depth - 1)
            if depth > _MOST_NESTED:
                raise ValueError(f"brackets stand in more than {_MOST_NESTED} others")
    return text


DatasetId = Annotated[str, Field(pattern=DATASET_ID, examples=["d0123456789ab"])]
ModelId = Annotated[str, Field(pattern=MODEL_ID, examples=["m0123456789ab"])]
Text = Annotated[str, Field(min_length=1, max_length=4000), AfterValidator(_in_print)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=100)]
Network = Annotated[Name, Field(description="A released or added network, or the ID of a model that is here.")]
Upstream = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+/@:-]*$", max_length=200)]
Share = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, le=1_000_000)]
Records = Annotated[int, Field(ge=2, le=1_000_000_000)]
Recipe = Annotated[str, Field(max_length=100), AfterValidator(_known_recipe)]
Design = Annotated[str, Field(min_length=1, max_length=_MOST_DESIGN), AfterValidator(_soon_parsed)]
Strategy = Literal["auto", "scratch", "fine-tune", "linear-probe", "random-convolutions", "frozen"]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CheckJob(_Request):
    """Read every record of a dataset and say what is wrong with which: ``ecgadvise data check``."""

    kind: Literal["check"] = "check"
    dataset: DatasetId


class PilotJob(_Request):
    """Train a few small pairs on a dataset and answer for it: ``ecgadvise recommend --pilot``."""

    kind: Literal["pilot"] = "pilot"
    dataset: DatasetId
    minutes: Annotated[float, Field(gt=0, le=100_000)] = 10.0
    arch: Name | None = None
    upstream: Upstream | None = None
    from_network: Network | None = None
    labels: Text | None = None
    margin: Share = 0.01
    target: Share | None = None
    seed: Seed = 0
    n_records: Records | None = None
    label_cost: Annotated[float, Field(ge=0, le=1e12)] | None = None
    gpu_cost: Annotated[float, Field(ge=0, le=1e12)] | None = None
    test_fraction: Share | None = None
    test_seed: Seed | None = None


class TrainJob(_Request):
    """Train a network for use on a dataset, as the adviser says or as asked: ``ecgadvise train``."""

    kind: Literal["train"] = "train"
    dataset: DatasetId
    strategy: Strategy = "auto"
    arch: Name | None = None
    from_network: Network | None = None
    labels: Text | None = None
    n_records: Records | None = None
    seed: Seed = 0
    recipe: Recipe | None = None
    test_fraction: Share | None = None
    test_seed: Seed | None = None
    at_specificity: Share | None = None
    prevalence: Text | None = None


class ExportJob(_Request):
    """Write a trained network as one ONNX file that predicts: ``ecgadvise export``."""

    kind: Literal["export"] = "export"
    model: ModelId
    fp16: bool = False
    opset: Annotated[int, Field(ge=18, le=23)] = 18


class StudyJob(_Request):
    """Run the paired trainings of a design: ``ecgadvise study run``.

    ``datasets`` says which dataset a corpus of the design is; others have to be prepared in the store.
    """

    kind: Literal["study"] = "study"
    design: Design
    datasets: Annotated[dict[Name, DatasetId], Field(max_length=20)] = Field(default_factory=dict)


JobRequest = Annotated[CheckJob | PilotJob | TrainJob | ExportJob | StudyJob, Field(discriminator="kind")]
Kind = Literal["check", "pilot", "train", "export", "study"]


def datasets_of(request: JobRequest) -> tuple[str, ...]:
    """Return the datasets that a job reads."""
    if isinstance(request, ExportJob):
        return ()
    return tuple(dict.fromkeys(request.datasets.values())) if isinstance(request, StudyJob) else (request.dataset,)


def key_of(request: JobRequest) -> str:
    """Return what is the same for requests of the same work."""
    whole = json.dumps(request.model_dump(mode="json"), sort_keys=True)
    return sha256(whole.encode()).hexdigest()
