"""The weights in a file of another's making, by its own names for them: read so that nothing in the file is run.

A file is safetensors, or the archive that ``torch.save`` writes since version 1.6, a pickle with the tensors next to
it. The pickle is looked at before (``engine.checkpoints.pickle_scan``) and read with ``weights_only=True``.
"""

import hashlib
import re
import stat
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import torch
from torch import Tensor

from engine.checkpoints.pickle_scan import Scan, scan_pickle
from models.errors import ExitCode, UserError

LARGEST = 4_000_000_000  # bytes: files are read into memory
_LARGEST_PICKLE = 16_000_000  # bytes of names, shapes and places of tensors
_DEEPEST = 20  # tuples in one another; a tensor's place takes three
_PICKLES = 4  # of old files: a number, a version, the system, and what was saved
_LEVELS = 3  # of containers that a state dict may lie in
_SHOWN = 3
_HELD_IN = ("state_dict", "model_state_dict", "model", "network", "weights")
_PREFIXES = ("_orig_mod.", "module.", "model.", "net.", "backbone.")  # of compiled, parallel and wrapped networks
_STATE_DICT = "give a file of tensors alone, as torch.save(network.state_dict(), FILE) writes it"
# What the pickle of a state dict names. NumPy's numbers, which lie next to published ones, are not read: see below.
_TENSORS = re.compile(
    r"collections\.OrderedDict|_codecs\.encode|torch\.(Size|device|\w+Storage|b?float\d*|u?int\d+|bool|complex\d+)"
    r"|torch\._utils\._rebuild_(tensor(_v2)?|parameter|qtensor|sparse_tensor)|torch\.nn\.parameter\.Parameter"
    r"|torch\.serialization\._get_layout|torch\.per_(tensor|channel)_\w+"
)
_SCALARS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
_NUMBERS = re.compile(r"[<>|=]?[biufc]\d{1,2}")  # NumPy's codes of numbers


class WeightsError(UserError, ValueError):
    """A file of weights that cannot be used; one sentence says why, and nothing of it was run or kept."""

    exit_code = ExitCode.DATA


@dataclass(frozen=True)
class ForeignWeights:
    """Tensors by their published names, less the ``prefix`` that all of them had, and the file that they are from.

    ``held_in`` says where in the file they lay: ``state_dict``, or nothing where they are all of it.
    """

    path: Path
    sha256: str
    format: str
    held_in: str
    prefix: str
    tensors: Mapping[str, Tensor] = field(repr=False)


def read_weights(path: Path) -> ForeignWeights:
    """Read the state dict of a file. Raises WeightsError."""
    content = _read(path)
    with _refused(path):
        if content[8:9] == b"{":
            form, loaded = "safetensors", _read_safetensors(content)
        elif content.startswith(b"PK\x03\x04"):
            form, loaded = "torch.save", _read_archive(path, content)
        else:
            _refuse_form(path, content)
    tensors, held_in = _find_state_dict(path, loaded)
    prefix = _common_prefix(list(tensors))
    named = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return ForeignWeights(path, hashlib.sha256(content).hexdigest(), form, held_in, prefix, named)


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise WeightsError(f"{path} is a folder: give the file of weights in it")
        if not stat.S_ISREG(status.st_mode):
            raise WeightsError(f"{path} is not a file")
        if status.st_size > LARGEST:
            raise WeightsError(f"{path} has {status.st_size:,} bytes, and at most {LARGEST:,} are read")
        content = path.read_bytes()
    except FileNotFoundError:
        raise WeightsError(f"there is no file {path}") from None
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from None
    if not content:
        raise WeightsError(f"{path} is empty")
    return content


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Say of a file what a reader says that cannot read it, whatever that is."""
    try:
        yield
    except WeightsError:
        raise
    except MemoryError:
        raise WeightsError(f"{path} asks for more memory than there is") from None
    except Exception as error:  # noqa: BLE001 readers raise what a damaged file makes them raise: the file is at fault
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise WeightsError(f"{path} is damaged, or not a file of weights: {said}") from None


def _read_safetensors(content: bytes) -> dict[str, Tensor]:
    from safetensors.torch import load

    return load(content)


def _read_archive(path: Path, content: bytes) -> Any:
    """Read what ``torch.save`` wrote, after a look at everything in it that could do harm."""
    with ZipFile(BytesIO(content)) as archive:
        members = archive.infolist()
        if any("/code/" in one.filename or one.filename.endswith("/constants.pkl") for one in members):
            raise WeightsError(f"{path} is a program (TorchScript), which is not run: {_STATE_DICT}")
        if any(one.compress_type != ZIP_STORED or one.flag_bits & 1 for one in members):
            raise WeightsError(f"{path} is compressed or encrypted, which no file of torch.save is")
        # Torch looks for the pickle below the first member's folder, whatever the case of its name.
        names = [one.filename.casefold() for one in members]
        root = names[0].partition("/")[0] if names else ""
        pickles = [one for one in members if one.filename.casefold().endswith("data.pkl")]
        is_where_torch_looks = len(pickles) == 1 and pickles[0].filename.casefold() == f"{root}/data.pkl"
        if not is_where_torch_looks or len(set(names)) < len(names) or pickles[0].file_size > _LARGEST_PICKLE:
            raise WeightsError(f"{path} is a zip archive, and not one that torch.save wrote")
        _check_scan(path, scan_pickle(archive.read(pickles[0])))
        if (damaged := archive.testzip()) is not None:  # torch.load does not compare checksums
            raise WeightsError(f"{path} is damaged: the checksum of {damaged} in it differs")
    stand_ins: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [(_Number, name) for name in _SCALARS]
    stand_ins.append((_NumberType, "numpy.dtype"))
    with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):
        warnings.simplefilter("ignore")
        return torch.load(BytesIO(content), map_location="cpu", weights_only=True)


def _check_scan(path: Path, found: Scan) -> None:
    """Refuse a pickle that names anything but tensors and what holds them."""
    known = {*_SCALARS, "numpy.dtype"}
    strange = sorted(name for name in found.names - known if not _TENSORS.fullmatch(name))
    if strange:
        more = f" and {len(strange) - _SHOWN} more" if len(strange) > _SHOWN else ""
        raise WeightsError(
            f"{path} would run code when it is read ({', '.join(strange[:_SHOWN])}{more}): nothing of it was run; "
            f"{_STATE_DICT}"
        )
    if found.deepest > _DEEPEST:
        raise WeightsError(f"{path} is nested too deeply for a file of weights")


class _NumberType:
    """Stands where a pickle names NumPy's type of a number, of which nothing is made."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not _NUMBERS.fullmatch(code):
            raise ValueError(f"of NumPy it may hold numbers alone, not {code!r}"[:80])

    def __setstate__(self, state: object) -> None:
        """Leave out byte order and size."""


class _Number:
    """Stands where a pickle has a number of NumPy's, as a score next to the weights."""

    def __init__(self, kind: object, *_: object) -> None:
        if not isinstance(kind, _NumberType):
            raise ValueError("it holds a number of NumPy's without its type")


def _refuse_form(path: Path, content: bytes) -> None:
    """Say what else than a file of weights a file is."""
    if content[:1] == b"\x80":  # a pickle of protocol 2 or later
        for found in _scans(BytesIO(content)):
            _check_scan(path, found)
        raise WeightsError(
            f"{path} is a pickle of another form than torch.save has written since version 1.6: open it in torch, "
            f"and {_STATE_DICT}"
        )
    raise WeightsError(f"{path} is neither a safetensors file nor one that torch.save wrote")


def _scans(stream: BytesIO) -> Iterator[Scan]:
    """Look at a pickle and, as old versions of torch wrote them, at others behind it."""
    yield scan_pickle(stream)
    for _ in range(_PICKLES - 1):
        try:
            yield scan_pickle(stream)
        except (ValueError, IndexError):  # what follows is none
            return


def _find_state_dict(path: Path, loaded: Any) -> tuple[dict[str, Tensor], str]:
    """Return the mapping of tensors in what a file holds, and where in it that lay."""
    place: list[str] = []
    for _ in range(_LEVELS):
        if isinstance(loaded, tuple | list) and loaded:
            place.append("the first of a list")
            loaded = loaded[0]
            continue
        if not isinstance(loaded, Mapping) or _is_state_dict(loaded):
            break
        held = {name: loaded[name] for name in _HELD_IN if isinstance(loaded.get(name), Mapping | tuple | list)}
        held = {name: one for name, one in held.items() if isinstance(one, Mapping) and _is_state_dict(one)} or held
        if len(held) > 1:
            raise WeightsError(f"{path} may hold its weights in {' or '.join(held)}: give a file that has one of them")
        if not held:
            break
        name, loaded = next(iter(held.items()))
        place.append(name)
    if not isinstance(loaded, Mapping) or not _is_state_dict(loaded):
        raise WeightsError(f"{path} holds no state dict, names and tensors alone: {_contents(loaded)}")
    return dict(loaded), ", ".join(place)


def _is_state_dict(held: Mapping[Any, Any]) -> bool:
    return bool(held) and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in held.items())


def _contents(held: Any) -> str:
    """Name what is in a container, for a message."""
    if not isinstance(held, Mapping):
        return f"it is a {type(held).__name__}"
    if not held:
        return "it is empty"
    kinds = [f"{str(name)[:40]} ({type(value).__name__})" for name, value in held.items()
             if not isinstance(value, Tensor) or not isinstance(name, str)]  # fmt: skip
    more = f" and {len(kinds) - _SHOWN} more" if len(kinds) > _SHOWN else ""
    return f"it holds {', '.join(kinds[:_SHOWN])}{more}"


def _common_prefix(names: list[str]) -> str:
    """Return what all names begin with of that which wrappers put before a network's own names."""
    prefix = ""
    while more := next((one for one in _PREFIXES if all(name.startswith(prefix + one) for name in names)), None):
        prefix += more
    return prefix
