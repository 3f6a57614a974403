"""A file of the user's that is not text in UTF-8 is refused in a sentence, not in the codec's words."""

import re
from pathlib import Path

import pytest

from engine.checkpoints.checkpoint import load_checkpoint
from engine.checkpoints.import_contract import read_contract
from engine.checkpoints.snapshot import load_snapshot
from engine.corpora.corpus import read_manifest
from engine.sources.tables import read_rows
from models.errors import UserError
from studies.files.curves import read_curves
from studies.files.transferability import read_transferability
from studies.findings.published import read_published
from studies.running.design import read_design
from studies.runs.store import Store, StoreError
from studies.runs.tidy_runs import read_runs

READERS = {
    "table.csv": lambda path: read_rows(path, ["a"], "test"),
    "curves.json": read_curves,
    "transferability.json": lambda path: read_transferability(path.with_name("curves.json")),
    "design.toml": read_design,
    "runs.csv": read_runs,
    "published.csv": read_published,
    "corpus.json": lambda path: read_manifest(path.parent),
    "checkpoint.json": lambda path: load_checkpoint(path.parent),
    "contract.toml": read_contract,
    "resume.json": lambda path: load_snapshot(path.parent, {}),
}


@pytest.mark.parametrize("name", READERS)
def test_a_byte_that_is_no_utf_8_is_said_by_its_place(name: str, tmp_path: Path):
    path = tmp_path / name
    path.write_bytes(b'{"name": "\x81"}')
    for other in ("weights.safetensors", "resume.safetensors"):
        (tmp_path / other).write_bytes(b"")
    with pytest.raises(UserError) as raised:
        READERS[name](path)
    said = str(raised.value)
    assert "byte 11 of it is not text in UTF-8" in said
    assert not re.search("codec|decode|0x", said)


def test_an_empty_file_is_not_a_study_store(tmp_path: Path):
    path = tmp_path / "study.db"
    path.write_bytes(b"")
    with pytest.raises(StoreError, match=f"^{path} is not a study store: empty$"):
        Store(path, create=False)
    assert path.read_bytes() == b""
