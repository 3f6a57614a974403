"""Arrays of numbers in ``.npy``, ``.npz`` and HDF5 files."""

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray


def npy_bytes(array: NDArray[Any]) -> bytes:
    """Return a ``.npy`` file."""
    file = BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz_bytes(*, packed: bool = True, **arrays: Any) -> bytes:
    """Return a ``.npz`` file."""
    file = BytesIO()
    (np.savez_compressed if packed else np.savez)(file, **arrays)
    return file.getvalue()


def hdf5_bytes(datasets: dict[str, Any], attributes: dict[str, dict[str, Any]] | None = None, **settings: Any) -> bytes:
    """Return an HDF5 file with ``attributes`` by the dataset's name, "" for the file; settings are those of arrays."""
    import h5py

    file = BytesIO()
    with h5py.File(file, "w") as opened:
        for name, values in datasets.items():
            opened.create_dataset(name, data=values, **(settings if np.ndim(values) > 1 else {}))
        for name, values in (attributes or {}).items():
            (opened[name] if name else opened).attrs.update(values)
    return file.getvalue()
