"""All that is generated in the documents, made anew: shown outputs, reference pages, README's picture.

Every console block that shows an output gets what its command prints now; those of ``docs/getting-started.md`` are
walked through in a folder of their own. Pages of ``docs/reference`` are made from the code, ``docs/gain.svg`` from the
curves that ship.

python tests/readme_outputs.py
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.documents import gain_figure, reference, walk
from tests.documents.consoles import renewed, run_command, with_output
from tests.documents.pages import GENERATED, README, name_of, pages


def main() -> None:
    """Rewrite what a program makes, and say what that was."""
    for name, made in reference.PAGES.items():
        _write(reference.FOLDER / name, made())
    _write(gain_figure.PICTURE, gain_figure.draw())
    for page in (README, *pages()):
        if page == walk.PAGE:
            _write(page, walk.walked(page.read_text(encoding="utf-8")))
        elif page.name not in GENERATED and with_output(page.read_text(encoding="utf-8")):
            _write(page, renewed(page.read_text(encoding="utf-8"), run_command))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{name_of(path)} is as it is made now\n")


if __name__ == "__main__":
    main()
