"""The documents name only what there is, and the code cites only documents that there are."""

import re
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml

from tests.documents.pages import DOCS, GENERATED, README, ROOT, anchors, documents, links, name_of, without_code

ROOMS = ("advisor", "studies", "engine", "models")
DOCUMENTS = documents()
OURS = ("ARCHITECTURE.md", "studies/METHODS.md")  # all that these name in backticks is ours: paths, names, words
# Documents of those who build the program, not of the program: none of its files may send a reader to them.
ABSENT = ("STUDY", "DESIGN", "ENGINE", "GPU", "FLOORPLAN", "STYLE", "STATISTICS", "SERVICE")
WRITTEN = {"MODEL_CARD.md", "MODEL_FACTS.md"}  # by ``ecgadvise export``, next to a model
THEIRS = {"LICENSE.md"}  # next to another team's weights
TEXT = {".py", ".md", ".toml", ".json", ".csv", ".cff", ".txt", ".template", ".svg", ""}
TOKEN = re.compile(r"`([^`\n]+)`")
CITATION = re.compile(r"METHODS\.md,\s+(?:#\s+)?([A-Z][\w\s#]*)")
PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)*/?")


@cache
def text_files() -> dict[Path, str]:
    """The repository's text files and what they say: at the top and in its folders, without what tools leave behind."""
    found = [path for path in ROOT.iterdir() if not path.name.startswith(".")]
    found += [path for folder in (*ROOMS, "tests", ".ci", "docs", "examples") for path in (ROOT / folder).rglob("*")]
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


def tokens(document: Path) -> list[str]:
    return TOKEN.findall(without_code(document.read_text(encoding="utf-8")))


def is_path(token: str) -> bool:
    """Whether a token is a path from the top of the repository."""
    return bool(PATH.fullmatch(token)) and (ROOT / token.split("/")[0]).exists() and not token.startswith(".")


def headings(document: str) -> set[str]:
    return set(re.findall(r"^## (.+)$", text_files()[ROOT / document], flags=re.MULTILINE))


def has_modules(folder: Path) -> bool:
    return any(folder.glob("*.py"))


@pytest.mark.parametrize("document", [path for path in text_files() if path.suffix == ".md"], ids=name_of)
def test_every_relative_link_leads_somewhere(document: Path):
    for target, anchor in links(document):
        assert target.exists(), target
        assert not anchor or anchor in anchors(target), f"{name_of(target)} has no heading of #{anchor}"


def test_an_anchor_is_what_github_makes_of_a_heading(tmp_path: Path):
    page = tmp_path / "page.md"
    lines = ("# One, two", "```", "# none", "```", "## `ecgadvise data list`", "## [A](b.md) 90 %: x_y", "## One, two")
    page.write_text("\n".join(lines))
    assert anchors(page) == {"one-two", "ecgadvise-data-list", "a-90--x_y", "one-two-1"}


def test_every_page_is_reached_from_the_documentation_s_first_page():
    reached, waiting = set[Path](), [DOCS / "README.md"]
    while waiting:
        if (page := waiting.pop()) not in reached:
            reached.add(page)
            waiting += [target for target, _ in links(page) if target.suffix == ".md" and target.exists()]
    assert set(DOCUMENTS) <= reached | {README}, sorted(set(DOCUMENTS) - reached)


def test_readme_leads_to_the_documentation_and_fits_150_lines():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert DOCS / "README.md" in {target for target, _ in links(README)}
    assert "For model development and research only, not for patient care." in text


@pytest.mark.parametrize("document", [README, *sorted(DOCS.rglob("*.md"))], ids=name_of)
def test_prose_is_broken_into_lines(document: Path):
    """Tables and code are as wide as they are, and so are the pages that a program makes."""
    if document.name not in GENERATED:
        for line in without_code(document.read_text(encoding="utf-8")).splitlines():
            assert len(line) <= 120 or line.startswith(("|", "    ", "![")), line


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_path_in_backticks_exists(document: Path):
    for token in filter(is_path, tokens(document)):
        assert (ROOT / token).exists(), token


@pytest.mark.parametrize("document", OURS)
def test_every_other_word_in_backticks_stands_in_the_program(document: str):
    """So that a renamed function, arm or option, or a path that has lost its room, does not live on in a document."""
    words = {word for token in tokens(ROOT / document) if not is_path(token) for word in token.split()}
    assert words <= program_words(), sorted(words - program_words())


def test_every_folder_of_modules_is_named_in_the_architecture():
    named = {token.rstrip("/") for token in tokens(ROOT / "ARCHITECTURE.md")}
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


def test_the_citation_is_of_this_version_and_names_the_study():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert cited["cff-version"] == "1.2.0"
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
    assert {"message", "title", "authors"} <= cited.keys()
    (study,) = cited["references"]
    assert {"type", "title", "authors"} <= study.keys()
    assert study["title"] in README.read_text(encoding="utf-8").replace("\n", " ")


def test_the_changelog_is_in_the_form_that_it_names():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    assert versions
    assert all(re.fullmatch(r"\[(Unreleased|\d+\.\d+\.\d+)\]( - .+)?", version) for version in versions)
    kinds = set(re.findall(r"^### (.*)$", text, flags=re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_nobody_is_asked_to_report_a_vulnerability_in_public():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert "private security" in " ".join(text.split())
    assert not re.search(r"[\w.]+@[\w.]+\.\w+", text)
