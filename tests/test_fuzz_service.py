"""A few of the requests that ``fuzz_service.py`` sends by thousands, and whether it would see what it looks for."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from advisor.service.answers import Answers
from advisor.service.settings import Settings

REQUESTS = 400


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    path = Path(__file__).parent / "fuzz_service.py"
    spec = importlib.util.spec_from_file_location("fuzz_service", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_service"] = module  # its dataclasses ask for it
    spec.loader.exec_module(module)
    return module


def test_no_request_is_answered_by_a_defect(fuzz: ModuleType, tmp_path: Path):
    seen = fuzz.fuzz(Settings(tmp_path / "service", min_free_mb=0.0), REQUESTS, 1)
    assert seen.defects == []
    assert len(seen.routes) > 20
    assert {200, 400, 404, 422} <= set(seen.statuses)


def test_a_defect_would_be_seen(fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Answers, "known", lambda self, asked: 1 // 0)
    seen = fuzz.fuzz(Settings(tmp_path / "service", min_free_mb=0.0), REQUESTS, 1)
    assert any("/v1/recommendation" in defect and "500" in defect for defect in seen.defects)
