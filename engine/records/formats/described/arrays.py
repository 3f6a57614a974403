"""Arrays of numbers: ``.npy``, ``.npz`` and HDF5, one recording (leads and samples, in either order) or many of them.

Which of the two axes is that of the leads is told by their number, which only one of them may have. What else the
numbers need to be a recording (rate, unit, leads) stands in an ``.npz`` or HDF5 file as arrays, or as attributes of the
HDF5 dataset or file; what does not is told in ``signals.toml`` (``told.py`` next to this). Nothing is unpickled,
no link to another file is followed, and of many recordings in one file only the one that is asked for is read.

Definitions: numpy's NEP 1 for ``.npy``; ``.npz`` is a ZIP of them; the HDF5 library reads its own.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from engine.records.file_content import file_size, printable
from engine.records.formats.contents import Contents
from engine.records.formats.described.told import FILE_NAME, Description, Told, describe
from engine.records.record import RecordError

_IDS = ("exam_id", "ecg_id", "record_id", "id", "ids", "names")
_SIGNALS = ("tracings", "signals", "signal", "ecg", "ecgs", "data", "x", "p_signal")
_FS = ("fs", "sampling_rate", "sampling_frequency", "sample_rate", "sfreq", "frequency")
_UNIT = ("unit", "units")
_LEADS = ("leads", "lead_names", "sig_name", "channels", "channel_names", "ch_names")
_SCALE, _ZERO = ("scale",), ("zero",)
_UNCLEAR = ("gain", "gains", "adc_gain", "offset", "baseline")  # multiplied or divided by, before or after
_DETAILS = (*_FS, *_UNIT, *_LEADS, *_SCALE, *_ZERO, *_UNCLEAR)
_MAX_RECORDS = 10_000_000
_MAX_VALUES = 200_000_000  # of one recording, or of an array that is read as a whole
_MAX_BYTES = 2_000_000_000  # of an .npz array, which is read as a whole
_MAX_CHUNK = 256_000_000  # bytes that HDF5 has to unpack for one recording
_MAX_RATIO = 1100  # of what is packed: deflate gives 1032
_MAX_DATASETS = 10_000
_MAX_DEPTH = 4  # of groups
_MAX_DETAILS = 10_000  # values of an array that tells rate, unit or leads
_HEADER = 20_000  # bytes of a .npy file that hold its header; numpy refuses longer ones


@dataclass(frozen=True)
class _Array:
    """An array in a file: its name there, its shape and type, and what gives all of it or one of its rows."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[int | None], NDArray[Any]]


@dataclass(frozen=True)
class _File:
    """An open file: its size, its arrays by name, and what it says (rate, unit, leads) of the array of that name."""

    n_bytes: int
    arrays: dict[str, _Array]
    details: Callable[[str], dict[str, Any]]


def list_records(path: Path, told: Told | None) -> list[str]:
    """Return the names of the recordings in a file of many, in its order; an empty list for a file of one.

    They are in the array that ``told.ids`` names, or in one of the right length with a usual name (exam_id, ecg_id,
    record_id, id, ids, names), else all are "": a place in a file is not what a table's numbers mean. Raises
    RecordError.
    """
    with _opened(path) as file:
        array = _signals(file, told)
        if len(array.shape) != 3:
            return []
        n_records = array.shape[0]
        name = told.ids if told is not None and told.ids is not None else _usual_ids(file, n_records)
        if name is None:
            return [""] * n_records
        ids = _find(file, name, "ids")
        if ids.shape not in ((n_records,), (n_records, 1)):
            raise RecordError(f"it has {n_records:,} recordings and not as many names in {printable(name)}")
        names = [_name(value) for value in ids.read(None).reshape(-1).tolist()]
    if len(set(names)) < n_records:
        raise RecordError(f"its names in {printable(name)} are not all different")
    return names


def open_array(path: Path, told: Told | None, row: int | None = None) -> Contents:
    """Open the recording in a file, ``row`` of a file of many; a NaN is a missing sample.

    Raises RecordError where rate, unit or leads are told nowhere, and where not exactly one axis is that of the leads.
    """
    array, description = _look(path, told, *_state(path))
    shape = _shape_of_one(array.shape, row)
    axis = _axis_of_leads(shape, len(description.leads))
    if prod(shape) > _MAX_VALUES:
        raise RecordError(f"a recording of it is {' x '.join(f'{n:,}' for n in shape)} numbers")

    def decode() -> NDArray[np.float64]:
        with _opened(path) as again:
            now = again.arrays.get(array.name)
            if now is None or (now.shape, now.dtype) != (array.shape, array.dtype):
                raise RecordError("it has been changed while it was read")
            values = now.read(row)
        values = values.reshape(1, -1) if values.ndim == 1 else values
        return np.ascontiguousarray(description.millivolt(values if axis == 0 else values.T))

    return Contents(description.leads, description.fs, shape[1 - axis], description.unit, decode)


def _state(path: Path) -> tuple[int, int]:
    """Return what changes with a file: when it was changed, and its size."""
    size = file_size(path)
    return path.stat().st_mtime_ns, size


@lru_cache(maxsize=8)
def _look(path: Path, told: Told | None, _changed: int, _size: int) -> tuple[_Array, Description]:
    """Return the array of the samples, not to be read, and what it means: once for all recordings in it."""
    with _opened(path) as file:
        array = _signals(file, told)
        return array, _described(file, array, told)


def _described(file: _File, array: _Array, told: Told | None) -> Description:
    details = file.details(array.name)
    unclear = next((name for name in _UNCLEAR if name in details), None)
    if unclear is not None and (told is None or (told.scale, told.zero) == (1.0, 0.0)):
        raise RecordError(f"it has a number {unclear}, of which nothing says how it is meant: say scale and zero")
    fs, unit, leads, scale, zero = (
        next((details[key] for key in keys if key in details), None) for keys in (_FS, _UNIT, _LEADS, _SCALE, _ZERO)
    )
    description = describe(
        told,
        None if fs is None else _one_number(fs, "sampling frequency"),
        None if unit is None else _one_text(unit),
        None if leads is None else _texts(leads),
    )
    own = {key: _one_number(value, key) for key, value in (("scale", scale), ("zero", zero)) if value is not None}
    if told is not None and any(getattr(told, key) not in (value, getattr(Told(), key)) for key, value in own.items()):
        raise RecordError(f"its {' and '.join(own)} are others than those in {FILE_NAME}")
    return replace(description, scale=own.get("scale", description.scale), zero=own.get("zero", description.zero))


def _signals(file: _File, told: Told | None) -> _Array:
    """Return the array of the samples: the one that is told, or the only one, or the one with a usual name."""
    if told is not None and told.signals is not None:
        array = _find(file, told.signals, "signals")
    else:
        found = [array for array in file.arrays.values() if array.dtype.kind in "iuf" and len(array.shape) in (2, 3)]
        usual = [array for array in found or file.arrays.values() if array.name.lower() in ("", *_SIGNALS)]
        many = [array for array in found if len(array.shape) == 3]
        found = next((arrays for arrays in (usual, many, found) if len(arrays) == 1), found)
        if len(found) != 1:
            what = f"{len(found)} arrays that may be its samples" if found else "no array of numbers with 2 or 3 axes"
            raise RecordError(f'it has {what}: name the array in {FILE_NAME}, as signals = "..."')
        (array,) = found
    if array.dtype.kind not in "iuf":
        raise RecordError("its samples are not numbers")
    if not 1 <= len(array.shape) <= 3:
        raise RecordError(f"its array has {len(array.shape)} axes; recordings have 2, or 3 where there are many")
    if not prod(array.shape):
        raise RecordError("holds no samples")
    if prod(array.shape) * array.dtype.itemsize > _MAX_RATIO * file.n_bytes:
        raise RecordError(f"it claims {prod(array.shape):,} numbers, which its {file.n_bytes:,} bytes cannot hold")
    if len(array.shape) == 3 and array.shape[0] > _MAX_RECORDS:
        raise RecordError(f"it claims {array.shape[0]:,} recordings")
    return array


def _find(file: _File, name: str, key: str) -> _Array:
    array = file.arrays.get(name.strip("/"))
    if array is None:
        raise RecordError(f'it has no array that is named as {FILE_NAME} says: {key} = "{printable(name)}"')
    return array


def _usual_ids(file: _File, n_records: int) -> str | None:
    return next((name for name in _IDS if name in file.arrays and file.arrays[name].shape == (n_records,)), None)


def _name(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    if isinstance(value, float) or not text.strip():
        raise RecordError("the names of its recordings are neither texts nor whole numbers")
    return text.strip()


def _shape_of_one(shape: tuple[int, ...], row: int | None) -> tuple[int, int]:
    """Return the two axes of the recording that is asked for."""
    if len(shape) == 3:
        if row is None and shape[0] > 1:
            raise RecordError(f"it has {shape[0]:,} recordings, of which one is to be read")
        if not 0 <= (row or 0) < shape[0]:
            raise RecordError(f"it has {shape[0]:,} recordings and no number {row}")
        return shape[1], shape[2]
    if row:
        raise RecordError(f"it has one recording and no number {row}")
    return (shape[0], shape[1]) if len(shape) == 2 else (1, shape[0])


def _axis_of_leads(shape: tuple[int, int], n_leads: int) -> int:
    """Return which axis is as long as there are leads."""
    size = " x ".join(f"{n:,}" for n in shape)
    if n_leads not in shape:
        raise RecordError(f"its array is {size} numbers: no axis is as long as there are leads ({n_leads})")
    if shape[0] == shape[1]:
        raise RecordError(f"its array is {size} numbers: either axis may be that of the leads")
    return shape.index(n_leads)


def _one_number(value: Any, what: str) -> float:
    try:
        numbers = np.unique(np.asarray(value, np.float64))
    except (TypeError, ValueError):
        numbers = np.array([])
    if len(numbers) != 1:
        raise RecordError(f"its {what} is not one number")
    return float(numbers[0])


def _one_text(value: Any) -> str:
    texts = set(_texts(value))
    if len(texts) != 1:
        raise RecordError("its unit is not one text")
    return texts.pop()


def _texts(value: Any) -> tuple[str, ...]:
    values = np.asarray(value).reshape(-1).tolist()
    texts = [text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text) for text in values]
    return tuple(name.strip() for text in texts for name in (text.split(",") if len(texts) == 1 else [text]))


@contextmanager
def _opened(path: Path) -> Iterator[_File]:
    """Open a file by what it begins with. Whatever goes wrong within raises RecordError."""
    n_bytes = file_size(path)
    try:
        with path.open("rb") as stream:
            begin = stream.read(8)
            if begin.startswith(b"\x93NUMPY"):
                yield _npy(path, stream, n_bytes)
                return
            if begin.startswith(b"PK\x03\x04"):
                yield _npz(path, stream, n_bytes)
                return
    except RecordError:
        raise
    # numpy, zipfile and its decompressors raise for damaged bytes: ValueError, struct.error, zlib.error, BadZipFile,
    # RuntimeError, SyntaxError, MemoryError, tokenize.TokenError, and more
    except Exception:  # noqa: BLE001  there is no list of all, and the text may quote the file
        raise RecordError("its array is damaged") from None
    with _hdf5(path, n_bytes) as file:
        yield file


def _npy(path: Path, stream: BinaryIO, n_bytes: int) -> _File:
    stream.seek(0)
    shape, order, dtype, offset = _header(stream.read(_HEADER))
    if offset + prod(shape) * dtype.itemsize != n_bytes:
        raise RecordError(f"it should have {offset + prod(shape) * dtype.itemsize:,} bytes and has {n_bytes:,}")

    def read(row: int | None) -> NDArray[Any]:
        array: NDArray[Any] = np.memmap(path, dtype, "r", offset, shape, order)
        return np.array(_part(array, row))

    return _File(n_bytes, {"": _Array("", shape, dtype, read)}, lambda _name: {})


def _header(begin: bytes) -> tuple[tuple[int, ...], Any, np.dtype[Any], int]:
    """Return shape, order, type and offset of the samples of a ``.npy`` file, from its first bytes."""
    stream = BytesIO(begin)
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise RecordError("its samples are not numbers")  # versions from 3.0 on are for tables of named columns
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(stream)
    if dtype.hasobject:
        raise RecordError("it holds Python objects, which are not read")
    if any(n < 0 for n in shape):
        raise RecordError("its array is damaged")
    return shape, "F" if is_fortran else "C", dtype, stream.tell()


def _part(array: NDArray[Any], row: int | None) -> NDArray[Any]:
    part: NDArray[Any] = array[row or 0] if array.ndim == 3 else array
    return part


def _npz(path: Path, stream: BinaryIO, n_bytes: int) -> _File:
    key = str(path), path.stat().st_mtime_ns, n_bytes
    arrays = {}
    with ZipFile(stream) as archive:
        for info in archive.infolist():
            if info.filename.endswith(".npy"):
                name = info.filename.removesuffix(".npy")
                arrays[name] = _member(path, archive, info, name, key)

    def details(_name: str) -> dict[str, Any]:
        small = [array for array in arrays.values() if prod(array.shape) <= _MAX_DETAILS and not array.dtype.hasobject]
        return {array.name.lower(): array.read(None) for array in small if array.name.lower() in _DETAILS}

    return _File(n_bytes, arrays, details)


def _member(path: Path, archive: ZipFile, info: ZipInfo, name: str, key: tuple[str, int, int]) -> _Array:
    with archive.open(info) as member:
        try:
            shape, _order, dtype, offset = _header(member.read(_HEADER))
        except RecordError:
            shape, dtype, offset = (), np.dtype(object), 0
    if not dtype.hasobject and offset + prod(shape) * dtype.itemsize != info.file_size:
        raise RecordError(f"an array in it should have {offset + prod(shape) * dtype.itemsize:,} bytes and does not")

    def read(row: int | None) -> NDArray[Any]:
        if info.file_size > _MAX_BYTES:
            raise RecordError(f"an array of {info.file_size / 1e6:,.0f} MB in a .npz file: save it as .npy or HDF5")
        return _part(_unpacked(*key, info.filename) if len(shape) == 3 else _unpack(path, info.filename), row)

    return _Array(name, shape, dtype, read)


@lru_cache(maxsize=1)
def _unpacked(path: str, _changed: int, _size: int, name: str) -> NDArray[Any]:
    return _unpack(Path(path), name)


def _unpack(path: Path, name: str) -> NDArray[Any]:
    """Return an array of a ``.npz`` file, which cannot be changed; its CRC is compared."""
    with ZipFile(path) as archive:
        content = archive.read(name)
    shape, order, dtype, offset = _header(content[:_HEADER])
    array: NDArray[Any] = np.frombuffer(content, dtype, offset=offset).reshape(shape, order=order)
    return array


@contextmanager
def _hdf5(path: Path, n_bytes: int) -> Iterator[_File]:
    import h5py

    try:
        with h5py.File(path, "r") as opened:
            key = str(path), path.stat().st_mtime_ns, n_bytes
            arrays = {array.name: array for array in _datasets(opened, key)}
            yield _File(n_bytes, arrays, lambda name: _hdf5_details(opened, name, arrays))
    except RecordError:
        raise
    # h5py passes on what the HDF5 library says of damaged bytes: OSError, KeyError, RuntimeError, ValueError, and more
    except Exception:  # noqa: BLE001  there is no list of all, and the text may quote the file
        raise RecordError("it is not a .npy, .npz or HDF5 file, or it is damaged") from None


def _datasets(group: Any, key: tuple[str, int, int], above: str = "", depth: int = 1) -> Iterator[_Array]:
    """Yield the datasets in a group and the groups in it; only hard links lead to what is in the file for sure."""
    import h5py

    for n_seen, name in enumerate(group):
        if n_seen == _MAX_DATASETS:
            raise RecordError(f"it has more than {_MAX_DATASETS:,} datasets in one group; one dataset is read")
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        found = group[name]
        if isinstance(found, h5py.Dataset) and found.shape is not None:
            try:
                yield _Array(above + name, found.shape, found.dtype, partial(_read_dataset, found, key))
            except TypeError:  # of a type that numpy does not have
                continue
        elif isinstance(found, h5py.Group) and depth < _MAX_DEPTH:
            yield from _datasets(found, key, f"{above}{name}/", depth + 1)


def _read_dataset(dataset: Any, key: tuple[str, int, int], row: int | None) -> NDArray[Any]:
    if dataset.is_virtual or dataset.external:
        raise RecordError("its samples are in other files")
    chunk = prod(dataset.chunks or (0,)) * dataset.dtype.itemsize
    if chunk > _MAX_CHUNK:
        raise RecordError(f"it is compressed in pieces of {chunk / 1e6:,.0f} MB")
    if dataset.ndim != 3:
        return np.asarray(dataset[()])
    row = row or 0
    n_together = dataset.chunks[0] if dataset.chunks else 1
    if n_together == 1 or n_together * prod(dataset.shape[1:]) * dataset.dtype.itemsize > _MAX_CHUNK:
        return np.asarray(dataset[row])
    together = _rows(*key, dataset.name, row - row % n_together, n_together)
    return np.asarray(together[row % n_together])


@lru_cache(maxsize=1)
def _rows(path: str, _changed: int, _size: int, name: str, first: int, n_rows: int) -> NDArray[Any]:
    """Return recordings that HDF5 can only unpack together, for those that are asked for one after the other."""
    import h5py

    with h5py.File(path, "r") as opened:
        return np.asarray(opened[name][first : first + n_rows])


def _hdf5_details(opened: Any, name: str, arrays: dict[str, _Array]) -> dict[str, Any]:
    """Return what attributes of the dataset and of the file, and small datasets, say of the samples."""
    import h5py

    details: dict[str, Any] = {}
    for key, array in arrays.items():
        if key.lower() in _DETAILS and prod(array.shape) <= _MAX_DETAILS:
            details[key.lower()] = array.read(None)
    for place in (opened, opened[name]):
        for key in list(place.attrs):
            if key.lower() in _DETAILS and place.attrs.get_id(key).get_storage_size() <= _MAX_DETAILS * 16:
                value = place.attrs[key]
                if not isinstance(value, h5py.Empty):
                    details[key.lower()] = value
    return details
