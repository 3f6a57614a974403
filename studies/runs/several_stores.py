"""Several stores read together: what each is called, and their runs, each of them once."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from studies.runs.run import Run, known


def name_stores(paths: Sequence[Path]) -> dict[str, Path]:
    """Return the stores by names that tell them apart; one that is given twice is there once.

    A store is called what ``name_of`` says or, where another one is called the same, by as much of the end of its path
    as no other path ends in.
    """
    stores = {path.resolve(): path for path in paths}.values()
    places = [path.absolute() for path in stores]
    called = Counter(map(name_of, places))
    names = [name_of(place) if called[name_of(place)] == 1 else _own_end(place, places) for place in places]
    return dict(zip(names, stores, strict=True))


def name_of(store: Path) -> str:
    """Return what a store is called: its folder's name where all stores are called the same."""
    return store.parent.name if store.stem == "study" and store.parent.name else store.stem


def _own_end(place: Path, places: Sequence[Path]) -> str:
    """Return the shortest end of a path, at least a folder and a name, that no other path has."""
    ends = (place.parts[-length:] for length in range(2, len(place.parts)))
    own = (end for end in ends if sum(other.parts[-len(end) :] == end for other in places) == 1)
    return Path(*next(own, place.parts)).as_posix()


def distinct_runs(runs: Mapping[Path, Sequence[Run]]) -> list[tuple[Path, Run]]:
    """Return the runs of several stores with the store of each; one that several hold counts once.

    A key does not say what a run was trained in: the same one in another precision is another run.
    """
    found = {(known(run.key), run.precision): (store, run) for store, of_store in runs.items() for run in of_store}
    return list(found.values())
