"""The documents name only what there is, and the code cites only documents that there are."""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("advisor", "studies", "engine", "models")
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "studies/METHODS.md", "CHANGELOG.md")
OURS = ("ARCHITECTURE.md", "studies/METHODS.md")  # all that these name in backticks is ours: paths, names, words
# Documents of those who build the program, not of the program: none of its files may send a reader to them.
ABSENT = ("STUDY", "DESIGN", "ENGINE", "GPU", "FLOORPLAN", "STYLE", "STATISTICS", "SERVICE")
WRITTEN = {"MODEL_CARD.md", "MODEL_FACTS.md"}  # by ``ecgadvise export``, next to a model
THEIRS = {"LICENSE.md"}  # next to another team's weights
TEXT = {".py", ".md", ".toml", ".json", ".csv", ".txt", ".template", ".svg", ""}
LINK = re.compile(r"\]\((?![a-z]+:)([^)#\s]*)")
TOKEN = re.compile(r"`([^`\n]+)`")
CITATION = re.compile(r"METHODS\.md,\s+(?:#\s+)?([A-Z][\w\s#]*)")
PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)*/?")


@cache
def text_files() -> dict[Path, str]:
    """The repository's text files and what they say: at the top and in its folders, without what tools leave behind."""
    found = [path for path in ROOT.iterdir() if not path.name.startswith(".")]
    found += [path for folder in (*ROOMS, "tests", ".ci") for path in (ROOT / folder).rglob("*")]
    files = [path for path in found if path.is_file() and path.suffix in TEXT and "__pycache__" not in path.parts]
    return {path: path.read_text(encoding="utf-8") for path in sorted(files)}


def python_files() -> dict[Path, str]:
    return {path: text for path, text in text_files().items() if path.suffix == ".py"}


@cache
def program_words() -> set[str]:
    """Every word of the program's own files, documents and tests apart, and the names of all files."""
    top = (*ROOMS, "pyproject.toml")
    files = [
        path for path in text_files() if path.suffix in {".py", ".toml"} and path.relative_to(ROOT).parts[0] in top
    ]
    words = {word for path in files for word in re.findall(r"@?[\w./+-]+", text_files()[path])}
    return words | {word.strip("-.") for word in words} | {path.name for path in text_files()}


def without_code_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def tokens(document: str) -> list[str]:
    return TOKEN.findall(without_code_blocks(text_files()[ROOT / document]))


def is_path(token: str) -> bool:
    """Whether a token is a path from the top of the repository."""
    return bool(PATH.fullmatch(token)) and (ROOT / token.split("/")[0]).exists() and not token.startswith(".")


def headings(document: str) -> set[str]:
    return set(re.findall(r"^## (.+)$", text_files()[ROOT / document], flags=re.MULTILINE))


def has_modules(folder: Path) -> bool:
    return any(folder.glob("*.py"))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_relative_link_leads_somewhere(document: str):
    place = (ROOT / document).parent
    for target in filter(None, LINK.findall(without_code_blocks(text_files()[ROOT / document]))):
        assert (place / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_in_backticks_exists(document: str):
    for token in filter(is_path, tokens(document)):
        assert (ROOT / token).exists(), token


@pytest.mark.parametrize("document", OURS)
def test_every_other_word_in_backticks_stands_in_the_program(document: str):
    """So that a renamed function, arm or option, or a path that has lost its room, does not live on in a document."""
    words = {word for token in tokens(document) if not is_path(token) for word in token.split()}
    assert words <= program_words(), sorted(words - program_words())


def test_every_folder_of_modules_is_named_in_the_architecture():
    named = {token.rstrip("/") for token in tokens("ARCHITECTURE.md")}
    folders = [path for room in ROOMS for path in [ROOT / room, *(ROOT / room).rglob("*")] if path.is_dir()]
    missing = [str(path.relative_to(ROOT)) for path in folders if has_modules(path)]
    assert set(missing) <= named, sorted(set(missing) - named)


def test_the_architecture_fits_one_page():
    assert len(text_files()[ROOT / "ARCHITECTURE.md"].splitlines()) <= 90


def test_no_file_sends_its_reader_to_a_document_that_is_not_here():
    absent = re.compile(rf"\b(?:{'|'.join(ABSENT)})\.md\b|\bSTUDY section\b")
    assert not [str(path.relative_to(ROOT)) for path, text in text_files().items() if absent.search(text)]


def test_the_code_names_documents_that_there_are():
    there = {path.name for path in text_files()} | WRITTEN | THEIRS
    for path, text in python_files().items():
        assert set(re.findall(r"\b[A-Z][A-Z_]+\.md\b", text)) <= there, path


def test_citations_of_the_methods_name_a_heading_of_theirs():
    known, found = headings("studies/METHODS.md"), 0
    for path, text in python_files().items():
        for cited in CITATION.findall(text):
            words = re.sub(r"[\s#]+", " ", cited)
            assert any(re.match(rf"{re.escape(heading)}\b", words) for heading in known), (path, cited)
            found += 1
    assert found > 5
