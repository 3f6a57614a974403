"""Names that the shell completes, from the evidence that is asked and the zoo, without the training stack."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from studies.files.curves import CurvesFile


def archs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete ``--arch``: the families, then what was measured, then every registered network."""
    opened = _open(ctx)
    if opened is None:
        return []
    measured = [curve.arch for curve in opened.curves]
    return _starting(incomplete, [*opened.family_default, *measured, *opened.registered])


def upstreams(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete ``--upstream``."""
    opened = _open(ctx)
    return [] if opened is None else _starting(incomplete, [*(c.upstream for c in opened.curves), "none"])


def tasks(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete ``--task``."""
    opened = _open(ctx)
    return [] if opened is None else _starting(incomplete, [curve.task for curve in opened.measured])


def networks(incomplete: str) -> list[str]:
    """Complete the name of a pre-trained network; those of packages are not looked for, which loads them."""
    from engine.checkpoints.zoo_folders import ZOO, default_zoo, folders_in

    return _starting(incomplete, [*folders_in(ZOO), *folders_in(default_zoo())])


def added_networks(incomplete: str) -> list[str]:
    """Complete the name of a pre-trained network that was added."""
    from engine.checkpoints.zoo_folders import default_zoo, folders_in

    return _starting(incomplete, [*folders_in(default_zoo())])


def _starting(incomplete: str, names: list[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]


def _open(ctx: typer.Context) -> "CurvesFile | None":
    """Open the curves file of the command line, else what ships; None where it cannot be read: nothing to complete."""
    from studies.files.curves import CurvesFileError, read_curves
    from studies.files.shipped import DEFAULT_CURVES

    try:
        return read_curves(Path(ctx.params.get("curves") or DEFAULT_CURVES))
    except CurvesFileError:
        return None
