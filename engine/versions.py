"""What a run, a file or an answer was made with."""

import sys

SOURCE_TREE = "source tree"


def version_of(package: str) -> str:
    """Return the version of a package that is installed, SOURCE_TREE for one that runs from its source tree."""
    from importlib.metadata import PackageNotFoundError, version  # costs an answer more than it needs of it

    try:
        return version(package)
    except PackageNotFoundError:
        return SOURCE_TREE


def training_versions(torch: str) -> dict[str, str]:
    """Return the versions of what trains: Python, torch (which says itself what it was built for), numpy, ecgadvise."""
    python = sys.version.split()[0]
    return {"python": python, "torch": torch, "numpy": version_of("numpy"), "ecgadvise": version_of("ecgadvise")}
