"""What lies in the zoo, as its documents say, for an answer that does not load the training stack.

Nothing is checked here: whoever starts from one opens it by ``engine.checkpoints.checkpoint.load_checkpoint``.
"""

import json
from collections.abc import Mapping
from typing import Any

from engine.checkpoints.zoo_folders import ZOO, default_zoo, folders_in

PRETRAINED_HERE = "pre-trained here"  # what is said of networks that ecgadvise itself trained
NOT_CONTROLLED = "its pre-training was not controlled here"  # of those that were added from a file
DIGITS = 12  # of the hash of the weights
_DOCUMENT = "checkpoint.json"


def find_zoo_document(name: str) -> tuple[str, dict[str, Any]] | None:
    """Return a network of the zoo, by its name in any case, and what its document says; None where there is none, or
    none that can be read. Networks of packages are not looked for, which loads them.
    """
    for folders in (folders_in(ZOO), folders_in(default_zoo())):
        for one in (one for one in folders if one.casefold() == name.casefold()):
            try:
                document = json.loads((folders[one] / _DOCUMENT).read_text(encoding="utf-8"))
            except (OSError, ValueError, RecursionError):
                continue
            if isinstance(document, dict):
                return one, document
    return None


def describe_network(document: Mapping[str, Any]) -> str:
    """Say in one line what fine-tuning starts from: a checkpoint's document, with the ``sha256`` of its weights.

    Whose weights were added from a file had a pre-training that nobody controlled here.
    """
    source, n_records = document.get("source") or {}, document.get("n_records")
    weights = f"weights {str(document['sha256'])[:DIGITS]}" if document.get("sha256") else ""
    imported = (document.get("record") or {}).get("imported")
    if not imported:
        of = f" of {n_records:,} records" if n_records else ""
        licence = f" ({source['licence']})" if source.get("licence") else ""
        whole = f"{document['arch']}, {PRETRAINED_HERE} on {document['task']}{of}{licence}"
        return f"{whole}; {weights}" if weights else whole
    known = [imported.get("source"), source.get("url"), source.get("citation")]
    known = known if any(known) else [source.get("name")]
    where = ", ".join(dict.fromkeys(" ".join(str(text).split()) for text in known if text))
    licence = " ".join(str(source.get("licence") or "not known").split())
    seen = ", ".join(str(one["name"]) for one in document["record"].get("upstream_sources") or () if one.get("name"))
    said = (
        f"{document['arch']} for {document['task']}", f"licence {licence}", f"from {where}" if where else "",
        f"it has seen {seen}" if seen else "which records it has seen is not known", NOT_CONTROLLED, weights,
    )  # fmt: skip
    return "; ".join(filter(None, said))
