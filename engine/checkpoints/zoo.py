"""Pre-trained networks by name: those that ship in ``models/zoo``, those of other packages, and the user's own.

A name is taken once, in this order: what ships keeps its name whatever is added. A user's networks come in by
``ecgadvise zoo add`` and lie in ``default_zoo``.
"""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.checkpoints.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from engine.checkpoints.zoo_folders import ZOO, default_zoo, folders_in
from engine.files import claimed, written_whole
from engine.records.contract import SignalContract
from models.errors import ExitCode, UserError
from models.foundation_models import describe_foundation_model
from models.registry import package_checkpoints

Origin = Literal["released", "package", "added"]
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,79}")


class UnknownCheckpointError(UserError, LookupError):
    """No checkpoint folder and no pre-trained network has that name; the message lists those that there are."""

    exit_code = ExitCode.DATA


class NetworkNameError(UserError, ValueError):
    """A name that no network can be added under, or removed; one sentence says why."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class Known:
    """A pre-trained network: its checkpoint ``folder``, which may be damaged, and where it comes from."""

    folder: Path
    origin: Origin


def known_networks(zoo: Path | None = None) -> dict[str, Known]:
    """Return all pre-trained networks by name; ``zoo`` is the user's folder of them (None: ``default_zoo()``)."""
    places: list[tuple[Path, Origin]] = [(ZOO, "released")]
    places += [(folder, "package") for folder in package_checkpoints()]
    places += [(zoo or default_zoo(), "added")]
    found: dict[str, Known] = {}
    for folder, origin in places:
        for name, path in folders_in(folder).items():
            found.setdefault(name, Known(path, origin))
    return found


def released(zoo: Path | None = None) -> dict[str, Path]:
    """Return the folders of all pre-trained networks by name, those that ship first."""
    return {name: one.folder for name, one in known_networks(zoo).items()}


def names_in_words(zoo: Path | None = None) -> str:
    """Return the names of all pre-trained networks, for a message."""
    known = known_networks(zoo)
    of_users = [name for name, one in known.items() if one.origin != "released"]
    said = f"released networks: {', '.join(name for name in known if name not in of_users)}"
    return f"{said}; added: {', '.join(of_users)}" if of_users else said


def find_checkpoint(name: str, zoo: Path | None = None) -> Path:
    """Return the folder of a checkpoint, given by its path or by the name of a pre-trained network.

    A folder goes before a name. Raises UnknownCheckpointError when there is neither.
    """
    if Path(name).exists():
        return Path(name)
    known = released(zoo)
    if name not in known:
        if (foundation := describe_foundation_model(name)) is not None:
            raise UnknownCheckpointError(foundation)
        raise UnknownCheckpointError(
            f"no checkpoint folder {name}, nor a released network or an added one of that name ({names_in_words(zoo)})"
        )
    return known[name]


def suiting(arch: str, signal: SignalContract, zoo: Path | None = None) -> dict[str, Checkpoint]:
    """Return the pre-trained networks of that architecture which take this signal.

    Those that ship come first, then those of packages, then the user's; of each that with most records.
    """
    found: dict[str, Checkpoint] = {}
    for origin in ("released", "package", "added"):
        read = {name: _read(one.folder) for name, one in known_networks(zoo).items() if one.origin == origin}
        fitting = {
            name: one
            for name, one in read.items()
            if one is not None and one.facts.arch == arch and one.facts.contract.mismatch(signal) is None
        }
        found |= dict(sorted(fitting.items(), key=lambda item: (-(item[1].facts.n_records or 0), item[0])))
    return found


def check_name(name: str, zoo: Path, *, force: bool = False) -> None:
    """Raise NetworkNameError for what is no name, or another network's; the user's own yield to ``force``."""
    if not _NAME.fullmatch(name):
        raise NetworkNameError(
            f"{name!r} is not a name for a network: give --name of up to 80 small letters, digits, dots and hyphens"
        )
    known = known_networks(zoo).get(name)
    if known is not None and known.origin != "added":
        whose = "ships with ecgadvise" if known.origin == "released" else f"comes with a package ({known.folder})"
        raise NetworkNameError(f"a network named {name} {whose}: choose another --name")
    if known is not None and not force:
        raise NetworkNameError(f"a network named {name} is there already ({known.folder}): --force replaces it")
    if known is None and (zoo / name).exists():
        raise NetworkNameError(f"{zoo / name} is there and is no network: choose another --name")


def add_network(name: str, zoo: Path, write: Callable[[Path], None], *, force: bool = False) -> Path:
    """Let ``write`` put a checkpoint into an empty folder, which becomes ``zoo/name``, complete or not at all.

    Raises what ``check_name`` and ``write`` raise, InUseError where another process adds one of that name, and OSError.
    """
    with claimed(zoo / name):
        check_name(name, zoo, force=force)  # once more: who had the name until now may have written it
        with written_whole(zoo / name) as folder:
            write(folder)
    return zoo / name


def remove_network(name: str, zoo: Path) -> Path:
    """Remove a network that the user added; return where it lay. Raises NetworkNameError and OSError."""
    known = known_networks(zoo)
    if name not in known:
        raise UnknownCheckpointError(f"no network is named {name} ({names_in_words(zoo)})")
    folder = known[name].folder
    if known[name].origin != "added":
        raise NetworkNameError(f"{name} was not added by you and stays ({folder}): only added networks are removed")
    if folder.is_symlink():
        folder.unlink()
        return folder
    with claimed(folder):
        gone = folder.with_name(f".{name}.removed")
        folder.rename(gone)
        shutil.rmtree(gone)
    return folder


def _read(path: Path) -> Checkpoint | None:
    try:
        return load_checkpoint(path)
    except CheckpointError:  # a damaged one is not a candidate; whoever names it is told why
        return None
