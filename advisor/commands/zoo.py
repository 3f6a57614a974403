"""``ecgadvise zoo``: pre-trained networks by name, and those of other teams brought in."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from advisor.terminal import completion
from advisor.terminal.lines import in_one_line

if TYPE_CHECKING:
    from engine.checkpoints.checkpoint import CheckpointFacts
    from engine.checkpoints.importing import Imported
    from engine.checkpoints.zoo import Known

app = typer.Typer(help="List, show, add and remove pre-trained networks.", no_args_is_help=True, rich_markup_mode=None)

SCHEMA_VERSION = 1
_WHOSE = {"released": "ships", "package": "of a package", "added": "added"}

Zoo = Annotated[
    Path | None, typer.Option("--zoo", metavar="DIR", help="Folder of added networks. [default: ECGADVISE_ZOO, else "
                              "in your data folder]")
]  # fmt: skip
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def zoo() -> None:
    """List, show, add and remove pre-trained networks."""


@app.command(
    epilog="Example: ecgadvise zoo add theirs.safetensors --network resnet1d18-w4 --contract theirs.toml "
    '--licence MIT --source "Somebody et al. 2025"'
)
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A state dict: safetensors, or of torch.save.")],
    network: Annotated[str, typer.Option(help="The registered network that the weights are of.")],
    contract: Annotated[Path, typer.Option(metavar="TOML", help="What it reads and says: leads, fs, seconds, ...")],
    licence: Annotated[str, typer.Option(help="Under which licence the weights are, as MIT.")],
    source: Annotated[str, typer.Option(help="Where they are from: an address, or a citation.")],
    name: Annotated[str | None, typer.Option(help="What to call it. [default: the file's name]")] = None,
    zoo: Zoo = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an added network of that name.")] = False,
    json: Json = False,
) -> None:
    """Bring in the weights of a network that was trained elsewhere, to start from by --from NAME.

    Every tensor is checked before anything is kept, and nothing in the file is run. CARD.md says what is known of the
    network and what is not. A LICENSE next to the file is kept with it.
    """
    from engine.checkpoints.import_contract import read_contract
    from engine.checkpoints.importing import import_network
    from engine.checkpoints.zoo import add_network, check_name
    from engine.checkpoints.zoo_folders import default_zoo
    from engine.sources.names import corpus_name

    licence, source = _said("licence", licence), _said("source", source)
    chosen, folder = name or corpus_name(file.stem), zoo or default_zoo()
    check_name(chosen, folder, force=force)
    imported = import_network(file, network, read_contract(contract), licence, source, chosen)
    with _named_when_unwritten(folder):
        target = add_network(chosen, folder, lambda empty: _write(imported, chosen, empty), force=force)
    if json:
        _print_json({"folder": str(target), **_described(chosen, imported.facts), **imported.facts.record})
        return
    typer.echo(in_one_line(f"{chosen}: {_in_words(imported.facts)}"))
    for sentence in _done(imported):
        typer.echo(in_one_line(sentence))
    typer.echo(in_one_line(f"{target}: CARD.md says what is known of it, and what is not"))
    typer.echo(f"go on with: ecgadvise train --data DIR --from {chosen} --out my-network")


@app.command("list", epilog="Example: ecgadvise zoo list --json")
def list_networks(zoo: Zoo = None, json: Json = False) -> None:
    """List all pre-trained networks that --from takes by name: those that ship, of other packages, and added ones."""
    from engine.checkpoints.checkpoint import CheckpointError, load_checkpoint
    from engine.checkpoints.zoo import known_networks
    from engine.checkpoints.zoo_folders import default_zoo

    listed: list[dict[str, Any]] = []
    for name, known in known_networks(zoo).items():
        row: dict[str, Any] = {"name": name, "origin": known.origin, "folder": str(known.folder), "problem": None}
        try:
            facts = load_checkpoint(known.folder).facts
            row |= _described(name, facts)
            said = _in_words(facts)
        except CheckpointError as error:  # it stops no other
            row["problem"] = str(error)
            said = f"DAMAGED: {error}"
        listed.append(row)
        if not json:
            typer.echo(in_one_line(f"{name} ({_WHOSE[known.origin]})"))
            typer.echo(f"    {in_one_line(said)}")
    if json:
        _print_json({"zoo": str(zoo or default_zoo()), "networks": listed})


@app.command(epilog="Example: ecgadvise zoo show resnet1d18-w16-ptbxl")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", autocompletion=completion.networks)], zoo: Zoo = None
) -> None:
    """Show the card of a pre-trained network: what it is, what it was trained on, under which licence."""
    from engine.checkpoints.checkpoint import WEIGHTS, load_checkpoint
    from engine.deploy.zoo_card import CARD, zoo_card
    from engine.files import file_sha256

    folder = _find(name, zoo).folder
    facts, card = load_checkpoint(folder).facts, folder / CARD
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    for line in (text or zoo_card(name, facts, file_sha256(folder / WEIGHTS))).splitlines():
        typer.echo(line[: len(line) - len(line.lstrip())] + in_one_line(line))


@app.command(epilog="Example: ecgadvise zoo remove theirs-2024")
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", autocompletion=completion.added_networks)], zoo: Zoo = None
) -> None:
    """Remove a network that was added."""
    from engine.checkpoints.zoo import remove_network
    from engine.checkpoints.zoo_folders import default_zoo

    folder = zoo or default_zoo()
    with _named_when_unwritten(folder):
        gone = remove_network(name, folder)
    typer.echo(in_one_line(f"removed: {gone}"))


def _write(imported: "Imported", name: str, folder: Path) -> None:
    """Write checkpoint, card and licence into an empty folder."""
    from engine.checkpoints.checkpoint import WEIGHTS
    from engine.checkpoints.importing import write_imported
    from engine.deploy.zoo_card import CARD, zoo_card
    from engine.files import file_sha256

    write_imported(imported, folder)
    card = zoo_card(name, imported.facts, file_sha256(folder / WEIGHTS))
    (folder / CARD).write_text(card, encoding="utf-8")


def _find(name: str, zoo: Path | None) -> "Known":
    from engine.checkpoints.zoo import UnknownCheckpointError, known_networks, names_in_words

    known = known_networks(zoo)
    if name not in known:
        raise UnknownCheckpointError(f"no pre-trained network is named {name} ({names_in_words(zoo)})")
    return known[name]


def _said(option: str, text: str) -> str:
    from advisor.terminal.failures import Failure
    from models.errors import ExitCode

    if not (said := in_one_line(text)):
        raise Failure(f"--{option} is empty: it goes into the network's card", ExitCode.USAGE)
    return said


def _described(name: str, facts: "CheckpointFacts") -> dict[str, Any]:
    """Return what a network is, ready for JSON."""
    from engine.checkpoints.importing import has_output_layer

    return {
        "name": name,
        "network": facts.arch,
        "leads": list(facts.leads),
        "fs": facts.fs,
        "n_samples": facts.n_samples,
        "crop": facts.crop,
        "scaling": facts.scaling,
        "classes": list(facts.classes) if has_output_layer(facts) else [],
        "licence": facts.source.get("licence"),
        "n_records": facts.n_records,
    }


def _in_words(facts: "CheckpointFacts") -> str:
    from advisor.answer.words import count
    from engine.checkpoints.importing import has_output_layer
    from engine.records.lead_names import leads_in_words

    contract = facts.contract
    signals = f"{contract.seconds:g} s at {contract.fs:g} Hz"
    read = contract.in_words().split(" Hz, ", 1)[1:]
    classes = count(len(facts.classes), "class") if has_output_layer(facts) else "no output layer"
    licence = facts.source.get("licence") or "licence not recorded"
    return ", ".join([facts.arch, leads_in_words(facts.leads), signals, *read, classes, licence])


def _done(imported: "Imported") -> list[str]:
    """Say what was done to the weights."""
    known = imported.facts.record["imported"]
    names = f", {known['renamed']:,} renamed" if known["renamed"] else ""
    said = [f"{known['tensors']:,} tensors of {known['file']} ({known['format']}){names}: names, shapes, numbers fit"]
    said += [f"{', '.join(known['converted'])} made float32"] * bool(known["converted"])
    said += [f"{known['unused']:,} tensors that compute nothing left out"] * bool(known["unused"])
    if not known["output_layer"]:
        said.append("it has no output layer: it can be started from, and predicts nothing before that")
    elif known["added"]:
        said.append(f"zeros for {', '.join(known['added'])}, which the file lacks")
    sets = [one["name"] for one in imported.facts.record["upstream_sources"]]
    said.append(f"trained on: {', '.join(sets) or 'not said'}; licence: {imported.facts.source['licence']}")
    return said


def _print_json(document: dict[str, Any]) -> None:
    import json

    typer.echo(json.dumps({"schema_version": SCHEMA_VERSION, **document}, indent=1, allow_nan=False))


@contextmanager
def _named_when_unwritten(zoo: Path) -> Iterator[None]:
    """Say which folder could not be written. Raises Failure for an OSError."""
    from advisor.terminal.failures import Failure
    from models.errors import ExitCode

    try:
        yield
    except OSError as error:
        raise Failure(f"cannot write {zoo}: {error.strerror or error}", ExitCode.FAILURE) from None
