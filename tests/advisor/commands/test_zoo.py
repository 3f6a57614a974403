"""``ecgadvise zoo``: another team's network is added, shown, trained from and removed; a bad one leaves nothing."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.checkpoints.checkpoint import load_checkpoint, load_network, save_checkpoint
from engine.checkpoints.zoo import released
from engine.corpora.corpus import Corpus
from engine.deploy.export import model_facts
from engine.deploy.model_card import pretraining_data
from models.registry import create_network

Command = Callable[..., tuple[int, str, str]]
CONTRACT = """leads = ["aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
fs = 100
seconds = 2
crops = true
scaling = "lead"
classes = ["AF", "LBBB"]
[[trained_on]]
name = "ptb-xl"
"""
ADD = ("zoo", "add", "theirs.safetensors", "--network", "resnet1d18-w4", "--contract", "theirs.toml", "--licence",
       "MIT", "--source", "https://example.org/theirs")  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with weights, their licence and their contract; a zoo with nothing in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ECGADVISE_ZOO", str(tmp_path / "zoo"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        network = create_network("resnet1d18-w4", n_leads=8, n_classes=2, n_samples=200)
    save_file(network.state_dict(), tmp_path / "theirs.safetensors")
    (tmp_path / "theirs.toml").write_text(CONTRACT)
    (tmp_path / "LICENSE").write_text("Permission is hereby granted\n")
    return tmp_path


def listed(command: Command) -> dict[str, dict]:
    code, out, err = command("zoo", "list", "--json")
    assert (code, err) == (0, "")
    return {one["name"]: one for one in json.loads(out)["networks"]}


def test_a_network_is_added_with_what_is_known_of_it(place: Path, command: Command):
    code, out, err = command(*ADD)
    assert (code, err) == (0, "")
    assert out.startswith("theirs: resnet1d18-w4, 8 leads (aVL, ")
    assert "read in crops of 2 s, each lead scaled by itself, 2 classes, MIT" in out
    folder = place / "zoo" / "theirs"
    assert {path.name for path in folder.iterdir()} == {"weights.safetensors", "checkpoint.json", "CARD.md", "LICENSE"}
    assert (folder / "LICENSE").read_text() == (place / "LICENSE").read_text()
    facts = load_checkpoint(folder).facts
    assert (facts.classes, facts.fs, facts.n_samples, facts.crop, facts.scaling) == (
        ("AF", "LBBB"),
        100,
        200,
        200,
        "lead",
    )
    assert facts.source["url"] == "https://example.org/theirs"
    assert facts.record["upstream_sources"][0]["url"] == "https://physionet.org/content/ptb-xl/1.0.3/"
    card = (folder / "CARD.md").read_text()
    for words in (
        "# theirs\n", "weights that were not trained by ecgadvise", "| file | theirs.safetensors (safetensors) |",
        facts.record["imported"]["sha256"], "| ptb-xl | 1.0.3 |", "Records in all: not recorded.",
        "How it was trained", "where they are not of ptb-xl.", "MIT, as given by who brought it in", "`LICENSE`",
    ):  # fmt: skip
        assert words in card
    assert command("zoo", "show", "theirs") == (0, card, "")
    assert listed(command)["theirs"]["origin"] == "added"
    assert list(released()) == list(listed(command))


def test_what_is_added_computes_what_it_did(place: Path, command: Command):
    command(*ADD)
    network = load_network(place / "zoo" / "theirs")[0]
    ours = create_network("resnet1d18-w4", n_leads=8, n_classes=2, n_samples=200, crop=200, scaling="lead").eval()
    given = load_file(place / "theirs.safetensors")
    ours.load_state_dict({n if n.startswith("head.") else f"network.{n}": value for n, value in given.items()})
    records = torch.randn(2, 8, 700, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(network(records), ours(records))


def test_json_says_what_was_done(place: Path, command: Command):
    code, out, _ = command(*ADD, "--json", "--name", "theirs-2")
    found = json.loads(out)
    assert (code, found["name"], found["network"], found["schema_version"]) == (0, "theirs-2", "resnet1d18-w4", 1)
    assert found["folder"] == str(place / "zoo" / "theirs-2")
    assert found["imported"]["output_layer"] is True
    assert found["imported"]["added"] == []


def test_a_training_starts_from_it_and_says_what_it_has_seen(
    place: Path, command: Command, corpus: Corpus, monkeypatch
):
    monkeypatch.setenv("ECGADVISE_CORPORA", str(corpus.root.parent))
    command(*ADD)
    code, _, err = command(
        "train", "--task", "ptb-xl/superclass", "--from", "theirs", "--strategy", "linear-probe", "--n-records", "60",
        "--out", "net",
    )  # fmt: skip
    assert code == 0, err
    assert "theirs was pre-trained on theirs, records of the same source: whether the test records" in err
    facts = load_checkpoint(place / "net").facts
    assert (facts.leads, facts.crop) == (("aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"), 200)
    assert [one["name"] for one in facts.record["upstream_sources"]] == ["ptb-xl", "theirs"]
    known = pretraining_data(model_facts(facts, 18, False, ""))
    assert known["pre-training data"] == "ptb-xl 1.0.3; theirs"
    assert known["licence of the pre-training data"] == "CC BY 4.0; MIT"


def test_what_it_was_trained_on_may_not_be_known(place: Path, command: Command, corpus: Corpus, monkeypatch):
    monkeypatch.setenv("ECGADVISE_CORPORA", str(corpus.root.parent))
    (place / "theirs.toml").write_text(CONTRACT.partition("[[")[0])
    assert "trained on: not said" in command(*ADD)[1]
    assert "On which records: not recorded." in command("zoo", "show", "theirs")[1]
    code, _, err = command(
        "train", "--task", "ptb-xl/superclass", "--from", "theirs", "--strategy", "linear-probe", "--n-records", "60",
        "--out", "net",
    )  # fmt: skip
    assert code == 0, err
    assert "theirs does not say what it was pre-trained on: whether the test records were among it is not known" in err


def test_a_network_without_output_layer_is_started_from_and_not_exported(
    place: Path, command: Command, corpus, monkeypatch
):
    monkeypatch.setenv("ECGADVISE_CORPORA", str(corpus.root.parent))
    network = create_network("resnet1d18-w4", n_leads=8, n_classes=2, n_samples=200)
    body = {name: value for name, value in network.state_dict().items() if not name.startswith("head.")}
    torch.save({"state_dict": body}, place / "body.pt")
    (place / "theirs.toml").write_text(CONTRACT.replace('classes = ["AF", "LBBB"]\n', ""))
    words = [word.replace("theirs.safetensors", "body.pt") for word in ADD]
    code, out, err = command(*words)
    assert (code, err) == (0, "")
    assert "it has no output layer: it can be started from, and predicts nothing before that" in out
    assert listed(command)["body"]["classes"] == []
    assert "nothing can be predicted with it before it was trained" in command("zoo", "show", "body")[1]
    code, out, err = command("export", "zoo/body", "--out", "model/model.onnx")
    assert (code, out) == (3, "")
    assert (
        err
        == "error: zoo/body has no output layer, and nothing to export: train one with ecgadvise train --from body\n"
    )
    arguments = ("train", "--task", "ptb-xl/superclass", "--from", "body", "--strategy", "linear-probe", "--out", "net")
    code, _, err = command(*arguments, "--n-records", "60")
    assert code == 0, err


def test_doctor_and_list_go_on_past_a_damaged_network(place: Path, command: Command):
    command(*ADD)
    weights = place / "zoo" / "theirs" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    code, out, err = command("zoo", "list")
    assert (code, err) == (0, "")
    assert "theirs (added)\n    DAMAGED: " in out
    assert "was altered" in listed(command)["theirs"]["problem"]
    assert command("zoo", "show", "theirs")[0] == 3
    code, out, _ = command("doctor", "--quick", "--json", "--corpora", "corpora")
    states = {one["what"]: one["state"] for one in json.loads(out)["zoo"]}
    assert (code, states["theirs"], states["resnet1d18-w16-ptbxl"]) == (1, "broken", "ok")
    assert command("zoo", "remove", "theirs") == (0, f"removed: {place / 'zoo' / 'theirs'}\n", "")
    assert "theirs" not in listed(command)


def test_a_name_is_taken_once_and_what_ships_stays(place: Path, command: Command):
    assert command(*ADD)[0] == 0
    assert command(*ADD)[::2] == (
        2, f"error: a network named theirs is there already ({place / 'zoo' / 'theirs'}): --force replaces it\n",
    )  # fmt: skip
    (place / "theirs.toml").write_text(CONTRACT.replace("LBBB", "RBBB"))
    assert command(*ADD, "--force")[0] == 0
    assert listed(command)["theirs"]["classes"] == ["AF", "RBBB"]
    for force in ([], ["--force"]):
        code, _, err = command(*ADD, "--name", "gru-w32-ptbxl", *force)
        assert (code, err) == (2, "error: a network named gru-w32-ptbxl ships with ecgadvise: choose another --name\n")
    assert command("zoo", "remove", "gru-w32-ptbxl")[0] == 2


def test_a_folder_of_ones_own_is_a_zoo_too(place: Path, command: Command):
    assert command(*ADD, "--zoo", "other")[0] == 0
    assert "theirs" not in listed(command)
    assert "theirs (added)" in command("zoo", "list", "--zoo", "other")[1]
    assert command("zoo", "show", "theirs", "--zoo", "other")[0] == 0
    assert command("zoo", "remove", "theirs", "--zoo", "other")[0] == 0


def hostile(place: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return os.system, ("touch made",)

    torch.save({"state_dict": {"a": Hostile()}}, place / "theirs.safetensors")


def without_layer(place: Path) -> None:
    torch.save(create_network("gru-w4", n_leads=8, n_classes=2).state_dict(), place / "theirs.safetensors")


def infinite(place: Path) -> None:
    network = create_network("resnet1d18-w4", n_leads=8, n_classes=2)
    torch.nn.init.constant_(network.head.weight, 3e38)
    torch.nn.init.constant_(network.head.bias, 3e38)
    torch.save(network.state_dict(), place / "theirs.safetensors")


@pytest.mark.parametrize(
    ("change", "options", "code", "says"),
    [
        (hostile, (), 3, "theirs.safetensors would run code when it is read (posix.system)"),
        (without_layer, (), 3, "does not fit resnet1d18-w4 for 8 leads"),
        (infinite, (), 3, "gives numbers that are not finite"),
        (lambda place: (place / "theirs.safetensors").write_bytes(b""), (), 3, "theirs.safetensors is empty"),
        (lambda place: (place / "theirs.toml").write_text("leads = ["), (), 3, "theirs.toml is not a contract"),
        (lambda place: (place / "theirs.toml").write_text(CONTRACT + "a = 1"), (), 3, "a is none of name, version"),
        (lambda place: (place / "theirs.toml").unlink(), (), 3, "cannot read theirs.toml"),
        (lambda place: None, ("--network", "resnet1d81"), 2, "no network is named 'resnet1d81'"),
        (lambda place: None, ("--network", "random-convolutions"), 3, "kernels drawn by chance"),
        (lambda place: None, ("--name", "../up"), 2, "'../up' is not a name for a network"),
        (lambda place: None, ("--licence", " "), 2, "--licence is empty"),
        (lambda place: None, ("--source", ""), 2, "--source is empty"),
        (lambda place: (place / "zoo").write_text(""), (), 1, "cannot write "),
    ],
)  # fmt: skip
def test_what_cannot_be_added_ends_in_one_sentence_and_leaves_nothing(
    change: Callable[[Path], object], options: tuple[str, ...], code: int, says: str, place: Path, command: Command
):
    change(place)
    ended, out, err = command(*ADD, *options)
    assert (ended, out) == (code, ""), err
    assert says in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not (place / "made").exists()
    assert not (place / "zoo").is_dir() or not any((place / "zoo").iterdir())


def test_ctrl_c_leaves_nothing(place: Path, command: Command, monkeypatch: pytest.MonkeyPatch):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("engine.deploy.zoo_card.zoo_card", stop)
    assert command(*ADD) == (130, "", "interrupted\n")
    assert not any((place / "zoo").iterdir())


def test_what_a_file_says_does_not_reach_the_terminal_as_a_command(place: Path, command: Command):
    command(*ADD)
    folder = place / "zoo" / "theirs"
    network, facts = load_network(folder)
    save_checkpoint(network, replace(facts, source={"licence": "\x1b[2JMIT"}), folder)
    (folder / "CARD.md").write_text("# \x1b[2Jtheirs\n\n    indented\n")
    assert "\x1b" not in command("zoo", "list")[1]
    assert command("zoo", "show", "theirs")[1] == "#  [2Jtheirs\n\n    indented\n"


def test_a_network_that_nobody_knows_is_said_with_those_there_are(command: Command):
    code, _, err = command("zoo", "show", "theirs")
    assert (code, err.partition(":")[0]) == (3, "error")
    assert all(name in err for name in released())
