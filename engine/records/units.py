"""Units of voltage as files write them, in millivolt."""

_MILLIVOLT = {"mv": 1.0, "uv": 1e-3, "\u00b5v": 1e-3, "\u03bcv": 1e-3, "nv": 1e-6, "v": 1e3}
_MILLIVOLT |= {"millivolt": 1.0, "millivolts": 1.0, "microvolt": 1e-3, "microvolts": 1e-3, "volt": 1e3, "volts": 1e3}
_MILLIVOLT |= {"nanovolt": 1e-6, "nanovolts": 1e-6}


def in_millivolt(unit: str) -> float | None:
    """Return how many millivolt one of a unit is, None for what is not a voltage: ``uV``, ``MICROVOLTS``, ``V``."""
    return _MILLIVOLT.get(unit.strip().lower())
