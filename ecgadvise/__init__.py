"""ecgadvise: fine-tune a pre-trained ECG network or train from scratch? ``python -m ecgadvise`` is the command.

Importing it loads nothing else: what it offers is loaded when it is used. Its four packages (advisor, engine, models,
studies) have names that research code likes too. Once this module is imported they are found next to it, whatever
folders of such names the user has on the path; in worker processes too, which import this module before all others.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from advisor.interface.curve_fit import fit_curves
    from advisor.interface.curves import Curves
    from advisor.interface.model import Model, load_model
    from advisor.interface.recommendation import Answer, recommend
    from advisor.interface.records import Corpus, open_corpus, prepare
    from advisor.interface.scores import Evaluation, evaluate
    from advisor.interface.training import Trained, train

    __version__: str

__all__ = [
    "Answer",
    "Corpus",
    "Curves",
    "Evaluation",
    "Model",
    "Trained",
    "__version__",
    "evaluate",
    "fit_curves",
    "load_model",
    "open_corpus",
    "prepare",
    "recommend",
    "train",
]

_PACKAGES = ("advisor", "engine", "models", "studies")
_HERE = Path(__file__).parents[1]
_MODULES = {
    "curve_fit": ("fit_curves",),
    "curves": ("Curves",),
    "model": ("Model", "load_model"),
    "recommendation": ("Answer", "recommend"),
    "records": ("Corpus", "open_corpus", "prepare"),
    "scores": ("Evaluation", "evaluate"),
    "training": ("Trained", "train"),
}  # of advisor.interface


class _Finder:
    """Finds our packages next to this one, before Python looks along its path."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, _target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        """Return where a package of ours is, None for all other modules."""
        return PathFinder.find_spec(name, [str(_HERE)]) if path is None and name in _PACKAGES else None


def _claim_names() -> None:
    """Make our packages those that are imported by their names. Raises ImportError where the user's are already."""
    for name in _PACKAGES:
        loaded = sys.modules.get(name)
        if loaded is not None and str(_HERE / name) not in getattr(loaded, "__path__", ()):
            where = getattr(loaded, "__file__", None) or ", ".join(getattr(loaded, "__path__", ["an unknown place"]))
            raise ImportError(
                f"the module {name} of {where} is loaded and stands in the way of ecgadvise's own package {name}: "
                "import ecgadvise in a process that does not import that module, or rename it"
            )
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)


_claim_names()

if not TYPE_CHECKING:  # a type checker would take it for a sign that there may be any name

    def __getattr__(name: str) -> Any:
        """Load what is asked for by its name, once."""
        from importlib import import_module

        if name == "__version__":
            from engine.versions import version_of

            value: Any = version_of("ecgadvise")
        elif module := next((module for module, names in _MODULES.items() if name in names), None):
            value = getattr(import_module(f"advisor.interface.{module}"), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def call_pickled(call: bytes) -> Any:
    """Make a call of ours in another process: ``call`` is a pickled callable without arguments.

    A process is told by name what to call and with what, and looks all names up before it calls anything: it is to see
    this one alone at first, and those of our packages after it.
    """
    import pickle

    return pickle.loads(call)()  # noqa: S301 it comes from the process that this one works for


def main() -> None:
    """Run the command line."""
    from advisor.cli import main as run

    run()
