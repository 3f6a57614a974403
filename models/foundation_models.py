"""Published foundation models that people ask for by name: what is known of them here, and how their weights get in.

Their numbers are those of ``studies/findings/published.csv``, with its sources (tests compare the two).
"""

import re
from dataclasses import dataclass

_HUBERT = "HuBERT-ECG, medRxiv 2024.11.14.24317328, Figure 2a"
_AL_MASUD = "Al-Masud, Alcaraz, Strodthoff 2026, arXiv 2509.25095v2 (ICLR 2026)"
_AGAINST = {
    _HUBERT: "fine-tuned against random first weights",
    _AL_MASUD: "as the best of 8 foundation models, fine-tuned, against S4 from scratch",
}
_SIZE = re.compile(r"(?:tiny|small|base|medium|large|ssl|sl|v?\d+)*")
_HOW = (
    "its weights do not come with ecgadvise: ecgadvise zoo add brings in a published state dict of a network in "
    "models/registry.py, or of a package of your own (entry point ecgadvise.networks), and --from takes its name"
)


@dataclass(frozen=True)
class Published:
    """Macro AUROC on a task of the model fine-tuned and of what ``source`` compares it with."""

    source: str
    task: str
    fine_tuned: float
    compared: float


MODELS: dict[str, tuple[Published, ...]] = {
    "ECG-FM": (),
    "ECGFounder": (
        Published(_AL_MASUD, "georgia", 0.920, 0.903),
        Published(_AL_MASUD, "ptb-xl/superclass", 0.935, 0.932),
    ),
    "HuBERT-ECG": (
        Published(_HUBERT, "ptb", 0.852, 0.793),
        Published(_HUBERT, "sami-trop", 0.791, 0.825),
        Published(_HUBERT, "cpsc2018", 0.954, 0.895),
        Published(_HUBERT, "georgia", 0.832, 0.754),
    ),
    "ST-MEM": (),
    "MERL": (),
    "ECG-JEPA": (Published(_AL_MASUD, "cpsc2018", 0.974, 0.962),),
    "ECG-CPC": (),
    "ECGFM-KED": (),
    "xECG": (),
    "DeepECG": (),
    "CLEF": (),
}


def find_foundation_model(name: str) -> str | None:
    """Return the foundation model that a name means, whatever its case and hyphens, as it is published; None for
    others.

    ``ecg_fm``, ``HuBERT-ECG-base`` and ``someone/ST-MEM`` are such names.
    """
    return next((model for part in name.split("/") for model in MODELS if is_named(part, model)), None)


def is_named(name: str, model: str) -> bool:
    """Say whether a name means a foundation model, in one of its sizes."""
    plain = _plain(name)
    return plain.startswith(_plain(model)) and _SIZE.fullmatch(plain.removeprefix(_plain(model))) is not None


def describe_foundation_model(name: str) -> str | None:
    """Say what is known of the foundation model that a name means; None for other names."""
    if (model := find_foundation_model(name)) is None:
        return None
    known = f"{model} is a published foundation model, which this study did not measure{_said(MODELS[model])}"
    return f"{known}; {_HOW}"


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _said(published: tuple[Published, ...]) -> str:
    if not published:
        return ""
    scores = ", ".join(f"{one.fine_tuned:.3f} against {one.compared:.3f} on {one.task}" for one in published)
    source = published[0].source
    return f" (published macro AUROC, {_AGAINST[source]}: {scores}; {source})"
