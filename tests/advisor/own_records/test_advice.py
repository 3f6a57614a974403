"""One answer everywhere: what ``recommend --data``, its report and ``train --data`` say of the same records."""

import html
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.checkpoints.checkpoint import load_checkpoint
from engine.corpora.synthetic import prepared_synthetic

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A prepared corpus of one's own."""
    monkeypatch.setenv("ECGADVISE_CORPORA", str(tmp_path / "corpora"))
    return prepared_synthetic(tmp_path / "mine", 150).root


def plain(text: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


@pytest.mark.parametrize(
    "options", [(), ("--arch", "cnn"), ("--labels", "wide QRS,tall QRS"), ("--arch", "rnn", "--test-seed", "3")]
)
def test_train_does_what_recommend_says_with_the_same_words_and_warnings(
    options: tuple[str, ...], records: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
):
    page = tmp_path / "page.html"
    code, table, err = command("recommend", "--data", records, *options, "--report", page)
    assert code == 0, err
    answer = json.loads(command("recommend", "--data", records, *options, "--json")[1])
    code, out, err = command("train", "--data", records, *options, "--out", tmp_path / "out", "--json")
    assert code == 0, err
    trained = json.loads(out)
    advice = trained["advice"]
    assert trained["strategy"] == advice["best"] == answer["best"]
    assert advice["p_best"] == answer["arms"][0]["p_best"]
    assert (advice["verdict"], advice["warnings"]) == (answer["verdict"], answer["warnings"])
    assert (advice["arch"], advice["upstream"]) == (answer["question"]["arch"], answer["question"]["upstream"])
    assert advice["pretrained"] == answer["data"]["pretrained"]["name"]
    assert (trained["held_out"], trained["division"]["seed"]) == (
        answer["data"]["held_out"], 3 if "--test-seed" in options else None,
    )  # fmt: skip
    (why,) = re.findall(r"With \d+ records .*?\(90 %\)[.:]", advice["why"])[:1]
    starts = f"Pre-trained network: {advice['pretrained']}"
    for said in (plain(table), plain(page.read_text()), plain(err)):
        assert starts in said
        assert advice["why"].partition(". ")[2].partition(" (Evidence")[0] in said or why in said
        assert all(plain(warning) in said for warning in answer["data"]["mismatches"])
    assert plain(table.splitlines()[1]).startswith(starts)
    side = [line.rpartition(",")[2] for line in (tmp_path / "out" / "split.csv").read_text().splitlines()[1:]]
    assert side.count("test") == answer["data"]["records_to_test_on"]
    assert len(side) - side.count("test") == answer["data"]["records_to_learn_from"]


def test_a_card_names_who_tested_by_which_rule_share_and_seed(records: Path, tmp_path: Path, command: Command):
    options = ("--data", records, "--strategy", "random-convolutions", "--test-fraction", "0.3", "--test-seed", "5")
    code, _, err = command("train", *options, "--out", tmp_path / "out")
    assert code == 0, err
    facts = load_checkpoint(tmp_path / "out").facts
    assert facts.record["division"] == {
        "rule": "equal label shares, whole patients", "seed": 5, "test_share": pytest.approx(0.3, abs=0.02),
        "validation_share": 0.0, "test_sha256": facts.record["division"]["test_sha256"],
    }  # fmt: skip
    assert command("export", tmp_path / "out", "--out", tmp_path / "model.onnx")[0] == 0
    card = plain((tmp_path / "MODEL_CARD.md").read_text())
    assert "drawn with equal shares of the labels, seed 5" in card
    assert facts.record["split_sha256"] in card
    assert "split.csv" in card


def test_another_share_or_seed_tests_on_other_records_and_refuses_what_is_none(records: Path, command: Command):
    tested = {}
    for options in ((), ("--test-fraction", "0.4"), ("--test-seed", "1")):
        data = json.loads(command("recommend", "--data", records, "--arch", "cnn", *options, "--json")[1])["data"]
        tested[options] = data["records_to_test_on"], data["held_out"]
    assert len(set(tested.values())) == 3
    assert tested[("--test-fraction", "0.4")][0] == pytest.approx(60, abs=3)
    for command_line in (("recommend", "--data", records), ("train", "--data", records, "--out", records.parent / "x")):
        code, _, err = command(*command_line, "--test-fraction", "0.9")
        assert code == 2
        assert err.splitlines()[-1].endswith("a test share of 0.9 is asked for: give one from 0.05 to 0.5")
