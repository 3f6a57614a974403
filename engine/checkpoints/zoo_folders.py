"""Where pre-trained networks lie, a checkpoint folder each: told without torch, for a shell that completes names."""

import os
from pathlib import Path

import models

ZOO = Path(models.__file__).parent / "zoo"


def default_zoo() -> Path:
    """Return the folder of the networks that a user added: ``ECGADVISE_ZOO``, else in the user's data folder."""
    from platformdirs import user_data_path

    named = os.environ.get("ECGADVISE_ZOO")
    return Path(named) if named else user_data_path("ecgadvise") / "zoo"


def folders_in(zoo: Path) -> dict[str, Path]:
    """Return the checkpoint folders in a folder by name, damaged ones too; nothing where there is none."""
    return {path.parent.name: path.parent for path in sorted(zoo.glob("[!.]*/checkpoint.json"))}
