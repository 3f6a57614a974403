"""The pre-trained networks that ship in ``models/zoo``, a checkpoint folder each."""

from pathlib import Path

import models
from engine.checkpoints.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from engine.records.contract import SignalContract
from models.errors import ExitCode, UserError
from models.foundation_models import describe_foundation_model

ZOO = Path(models.__file__).parent / "zoo"


class UnknownCheckpointError(UserError, LookupError):
    """No checkpoint folder and no released network has that name; the message lists the released ones."""

    exit_code = ExitCode.DATA


def released(zoo: Path = ZOO) -> dict[str, Path]:
    """Return the released networks by name."""
    return {path.parent.name: path.parent for path in sorted(zoo.glob("*/checkpoint.json"))}


def find_checkpoint(name: str, zoo: Path = ZOO) -> Path:
    """Return the folder of a checkpoint, given by its path or by the name of a released network.

    A folder goes before a name. Raises UnknownCheckpointError when there is neither.
    """
    if Path(name).exists():
        return Path(name)
    known = released(zoo)
    if name not in known:
        if (foundation := describe_foundation_model(name)) is not None:
            raise UnknownCheckpointError(foundation)
        listed = f"released networks: {', '.join(known)}" if known else "no network is released with this version"
        raise UnknownCheckpointError(f"no checkpoint folder {name}, nor a released network of that name ({listed})")
    return known[name]


def suiting(arch: str, signal: SignalContract, zoo: Path = ZOO) -> dict[str, Checkpoint]:
    """Return the released networks of that architecture which take this signal, that with most records first."""
    read = {name: _read(path) for name, path in released(zoo).items()}
    found = {
        name: one
        for name, one in read.items()
        if one is not None and one.facts.arch == arch and one.facts.contract.mismatch(signal) is None
    }
    return dict(sorted(found.items(), key=lambda item: (-(item[1].facts.n_records or 0), item[0])))


def _read(path: Path) -> Checkpoint | None:
    try:
        return load_checkpoint(path)
    except CheckpointError:  # a damaged one is not a candidate; whoever names it is told why
        return None
