"""The container files name only what there is: no container engine builds them here."""

import re
from pathlib import Path

import pytest
import typer
import yaml

from advisor.cli import build_app

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "advisor" / "service" / "container"
CONTAINERFILE = (FOLDER / "Containerfile").read_text()
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVE = typer.main.get_command(build_app("serve")).commands["serve"]
VARIABLES = {one.envvar for one in SERVE.params if getattr(one, "envvar", None)} | {"ECGADVISE_TOKEN"}


def test_what_is_copied_is_there():
    stages = re.split(r"^FROM ", CONTAINERFILE, flags=re.MULTILINE)[1:]
    copied = [
        word for line in re.findall(r"^COPY (?!--from)(.*)$", stages[0], re.MULTILINE) for word in line.split()[:-1]
    ]
    assert set(copied) >= {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "ecgadvise",
        "advisor",
        "engine",
        "models",
        "studies",
    }
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_the_torch_that_is_installed_is_the_one_that_the_tests_have():
    (version,) = re.findall(r"\btorch==(\S+)", CONTAINERFILE)
    assert f"torch=={version}" in (ROOT / "constraints.txt").read_text().splitlines()


def test_the_extras_are_extras():
    (extras,) = re.findall(r'"\.\[(.*?)\]"', CONTAINERFILE)
    text = (ROOT / "pyproject.toml").read_text()
    assert all(re.search(rf"^{name} = \[", text, re.MULTILINE) for name in extras.split(","))


def test_every_setting_is_one_of_the_service():
    named = set(re.findall(r"\b(ECGADVISE_\w+)", CONTAINERFILE)) | set(COMPOSE["services"]["service"]["environment"])
    assert named
    assert named <= VARIABLES


def test_it_is_not_root_and_its_one_volume_is_the_store_s():
    final = CONTAINERFILE[CONTAINERFILE.rindex("FROM ") :]
    assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)
    (volume,) = re.findall(r'^VOLUME \["(.*)"\]$', final, re.MULTILINE)
    assert re.search(rf"ECGADVISE_SERVICE={volume}/", final)
    assert not re.search(r"\b(TOKEN|PASSWORD|SECRET)\w*=", CONTAINERFILE), "nothing secret is in an image"


@pytest.mark.parametrize("name", ["service", "scheduler", "worker"])
def test_a_container_writes_to_its_volume_alone(name: str):
    one = COMPOSE["services"][name]
    assert one["read_only"] is True
    assert one["cap_drop"] == ["ALL"]
    assert one["volumes"] == ["data:/data"]
    assert set(one["networks"]) <= set(COMPOSE["networks"])


def test_workers_reach_the_scheduler_and_nothing_else():
    assert COMPOSE["networks"]["inside"]["internal"] is True
    assert COMPOSE["services"]["worker"]["networks"] == COMPOSE["services"]["scheduler"]["networks"] == ["inside"]
    address = COMPOSE["services"]["service"]["environment"]["ECGADVISE_SCHEDULER"]
    assert address in COMPOSE["services"]["worker"]["command"]
    assert address == f"tcp://scheduler:{COMPOSE['services']['scheduler']['command'][1]}"


@pytest.mark.parametrize("name", ["scheduler", "worker"])
def test_the_options_of_dask_are_dask_s(name: str):
    from distributed.cli import dask_scheduler, dask_worker

    known = {option for one in {"scheduler": dask_scheduler, "worker": dask_worker}[name].main.params
             for option in (*one.opts, *one.secondary_opts)}  # fmt: skip
    one = COMPOSE["services"][name]
    assert one["entrypoint"] == ["dask", name]
    assert {word for word in one["command"] if word.startswith("--")} <= known


def test_the_command_is_one_of_ours():
    (words,) = re.findall(r"^CMD \[(.*)\]$", CONTAINERFILE[CONTAINERFILE.rindex("FROM ") :], re.MULTILINE)
    assert words == '"serve"'
    assert COMPOSE["services"]["service"]["command"] == ["serve"]
    build = COMPOSE["services"]["service"]["build"]
    assert (FOLDER / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()
