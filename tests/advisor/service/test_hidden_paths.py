"""Where the server keeps things is nobody's business: no answer names its folders."""

import html
from pathlib import Path

from starlette.testclient import TestClient

from advisor.service.access import Service


def test_folders_of_this_machine_are_taken_out_of_texts_and_pages(client: TestClient):
    service: Service = client.app.state.service
    root = service.store.root
    for path in (root / "datasets" / "d1" / "ward", root / "corpora" / "pilots" / "x" / "pilot.db"):
        assert service.hide_paths(f"kept in {path}; again {path}") == " ".join(
            ["kept in", f"{path.relative_to(root)}; again", str(path.relative_to(root))]
        )


def test_so_is_the_operator_s_folder_of_records_also_where_its_name_is_escaped(open_client, tmp_path: Path):
    records = tmp_path / "ward & <co>"
    records.mkdir()
    service: Service = open_client(records_root=records).app.state.service
    assert service.hide_paths(f"--data={records}/2024") == "--data=2024"
    assert service.hide_paths(f"<dd>{html.escape(str(records / '2024'))}</dd>") == "<dd>2024</dd>"
