"""What lies in the zoo, as its documents say, for an answer that does not load the training stack.

Networks that ship lie in ``models/zoo``, those that the user added in a folder of the user's. Nothing is checked here:
whoever starts from one opens it by ``engine.checkpoints.checkpoint.load_checkpoint``.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import models

SHIPPED = Path(models.__file__).parent / "zoo"
PRETRAINED_HERE = "pre-trained here"  # what is said of networks that ecgadvise itself trained
DIGITS = 12  # of the hash of the weights
_DOCUMENT = "checkpoint.json"


def user_zoo() -> Path:
    """Return the folder of networks that the user added: ``ECGADVISE_ZOO``, else in the user's data folder."""
    from platformdirs import user_data_path

    named = os.environ.get("ECGADVISE_ZOO")
    return Path(named) if named else user_data_path("ecgadvise") / "zoo"


def read_zoo_document(name: str) -> dict[str, Any] | None:
    """Return what the document of a network of the zoo says; None where there is none, or none that can be read."""
    if Path(name).name != name:
        return None
    for zoo in (SHIPPED, user_zoo()):
        try:
            document = json.loads((zoo / name / _DOCUMENT).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(document, dict):
            return document
    return None


def describe_network(document: Mapping[str, Any]) -> str:
    """Say in one line what fine-tuning starts from: a checkpoint's document, with the ``sha256`` of its weights.

    Whose weights were added from a file had a pre-training that nobody controlled here.
    """
    source, n_records = document.get("source") or {}, document.get("n_records")
    weights = f"weights {str(document['sha256'])[:DIGITS]}" if document.get("sha256") else ""
    if not (document.get("record") or {}).get("imported"):
        of = f" of {n_records:,} records" if n_records else ""
        licence = f" ({source['licence']})" if source.get("licence") else ""
        whole = f"{document['arch']}, {PRETRAINED_HERE} on {document['task']}{of}{licence}"
        return f"{whole}; {weights}" if weights else whole
    known = (source.get(name) for name in ("name", "url", "citation"))
    where = ", ".join(dict.fromkeys(" ".join(str(text).split()) for text in known if text))
    licence = " ".join(str(source.get("licence") or "not known").split())
    said = (
        f"{document['arch']} for {document['task']}", f"licence {licence}", f"from {where}" if where else "",
        "its pre-training was not controlled here", weights,
    )  # fmt: skip
    return "; ".join(filter(None, said))
