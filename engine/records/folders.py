"""What lies below a folder: links are followed, each real folder is entered once, and what is not entered is named.

Files that operating systems and office programs leave next to others (``.DS_Store``, ``._r1.hea`` of macOS, ``~$`` of
Excel, ``.~lock.`` of LibreOffice) are no data of anybody's and are passed over.
"""

import os
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from engine.records.wfdb_reader import without_segments

_LEFT_FOLDERS = {
    "__macosx", "$recycle.bin", "#recycle", "@recycle", "recycler", "system volume information", "lost+found",
    "@eadir", ".trash", ".trashes", ".spotlight-v100", ".fseventsd", ".temporaryitems", ".ipynb_checkpoints",
}  # fmt: skip
_LEFT_FILES = {".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
_LEFT_PREFIXES = ("._", "~$", ".~lock.", ".#")
_COPY = re.compile(
    r"(?:(?:Copy (?:\(\d+\) )?of|Kopie von|Copie de|Copia de) )(?P<of>.+)"
    r"|(?P<from>.+?)(?: \(\d+\)| - Copy(?: \(\d+\))?| - Kopie(?: \(\d+\))?| copy(?: \d+)?| Kopie(?: \d+)?)",
    re.IGNORECASE,
)
_EACH = 5  # that are not entered for one reason and are named one by one


@dataclass(frozen=True)
class NotEntered:
    """A folder or link whose files are not looked at, and the reason in words.

    ``is_loop`` where it leads back to a folder that holds the tree: what is asked for is not behind it.
    """

    path: Path
    reason: str
    is_loop: bool = False

    def inside(self, root: Path) -> str:
        """Return its path as seen from ``root``."""
        return self.path.relative_to(root).as_posix() if self.path != root else str(root)


@dataclass(frozen=True)
class Tree:
    """What ``walk`` found below ``root``: paths of files, of folders, and what it did not enter."""

    root: Path
    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    not_entered: list[NotEntered] = field(default_factory=list)

    @cached_property
    def headers(self) -> list[Path]:
        """Every header of a WFDB record, by path, and what only is named like one."""
        return without_segments(sorted(Path(path) for path in (*self.folders, *self.files) if path.endswith(".hea")))

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was not entered, in words: one by one, or together what is many for one reason."""
        by_reason: dict[str, list[str]] = {}
        for one in self.not_entered:
            by_reason.setdefault(one.reason, []).append(one.inside(self.root))
        said: list[str] = []
        for reason, paths in by_reason.items():
            if len(paths) > _EACH:
                named = f"{', '.join(paths[:_EACH])} and {len(paths) - _EACH:,} more"
                said.append(f"not entered: {len(paths):,} folders or links, all for one reason ({named}): {reason}")
            else:
                said += [f"not entered: {path}: {reason}" for path in paths]
        return tuple(said)


def walk(root: Path) -> Tree:
    """List everything below a folder, whatever lies behind links included, each real folder once.

    Folders are entered under their own names before links are followed, so that a folder inside the tree keeps its
    name; a link to a folder that holds ``root`` is not followed. A folder that vanishes meanwhile, as those below
    /proc do, is passed over.
    """
    tree = Tree(root)
    real_root = os.path.realpath(root)
    above = {str(parent) for parent in Path(real_root).parents}
    seen = {real_root}
    folders = deque([(str(root), real_root)])
    links: deque[tuple[str, str]] = deque()
    while folders or links:
        if folders:
            path, real = folders.popleft()
        else:
            path, real = links.popleft()
            if real in above:
                tree.not_entered.append(
                    NotEntered(Path(path), "it is a link to a folder that holds this one", is_loop=True)
                )
            if real in above or real in seen:
                continue
            seen.add(real)
        for entry in _scan(tree, path):
            inside = f"{real.rstrip(os.sep)}{os.sep}{entry.name}"
            if entry.is_symlink():
                _follow(tree, entry, links)
            elif not entry.is_dir(follow_symlinks=False):
                tree.files.append(entry.path)
            elif not _is_left_folder(entry.name) and inside not in seen:
                seen.add(inside)
                tree.folders.append(entry.path)
                folders.append((entry.path, inside))
    return tree


def copied_from(name: str) -> str | None:
    """Return the name of which a file's name is that of a copy (``r1 (1)``, ``Copy of r1``), None for any other."""
    match = _COPY.fullmatch(name)
    return (match["of"] or match["from"]) if match else None


def is_left_over(name: str) -> bool:
    """Whether a file's name is one that an operating system or an office program leaves next to others."""
    return name.lower() in _LEFT_FILES or name.startswith(_LEFT_PREFIXES)


def _is_left_folder(name: str) -> bool:
    return name.lower() in _LEFT_FOLDERS or name.lower().startswith(".trash-")  # .Trash-1000, of Linux's desktops


def _scan(tree: Tree, path: str) -> Iterator["os.DirEntry[str]"]:
    """Yield what lies in a folder, by name; one that cannot be entered is noted."""
    try:
        with os.scandir(path) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
        return
    except OSError as error:
        tree.not_entered.append(NotEntered(Path(path), error.strerror or str(error)))
        return
    yield from (entry for entry in entries if not is_left_over(entry.name))


def _follow(tree: Tree, entry: "os.DirEntry[str]", links: "deque[tuple[str, str]]") -> None:
    """Note where a link leads: to a folder, to a file, or nowhere."""
    try:
        entry.stat()
        leads_to_folder = entry.is_dir()
    except OSError as error:
        tree.files.append(entry.path)  # a header of that name is a record whose file is missing
        if not entry.name.endswith(".hea"):
            reason = "it is a link to nothing" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
            tree.not_entered.append(NotEntered(Path(entry.path), reason))
        return
    if leads_to_folder:
        links.append((entry.path, os.path.realpath(entry.path)))
    else:
        tree.files.append(entry.path)
