"""Files of weights from elsewhere: what holds tensors is read, and all else is refused by name, with nothing run."""

import copyreg
import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from engine.checkpoints import foreign_weights
from engine.checkpoints.foreign_weights import WeightsError, read_weights
from engine.checkpoints.pickle_scan import scan_pickle

TENSORS = {"layer.weight": torch.arange(6.0).reshape(2, 3), "head.weight": torch.ones(1, 2)}


class Hostile:
    """What a pickle of it would do when it is read: make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.system, (f"touch {self.path}",)


def saved(path: Path, held: object, **options: object) -> Path:
    torch.save(held, path, **options)
    return path


def with_pickle(path: Path, content: bytes) -> Path:
    """An archive of torch.save whose pickle is another one."""
    torch.save(TENSORS, path)
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        members = {one: archive.read(one) for one in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, held in members.items():
            archive.writestr(name, content if name.endswith("/data.pkl") else held)
    return path


def pickle_in(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl")))


def refused(path: Path, says: str) -> None:
    with pytest.raises(WeightsError) as raised:
        read_weights(path)
    said = str(raised.value)
    assert said.startswith((f"{path} ", f"cannot read {path}", f"there is no file {path}"))
    assert says in said, said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("held", "where"),
    [
        (TENSORS, ""),
        ((TENSORS, {"lr": 0.1}), "the first of a list"),
        ({"state_dict": TENSORS, "epoch": 3}, "state_dict"),
        ({"model": {"depth": 3}, "state_dict": TENSORS}, "state_dict"),
        ({"network": {"model_state_dict": TENSORS}, "optimizer": {}}, "network, model_state_dict"),
        ([{"weights": TENSORS}], "the first of a list, weights"),
        ({"state_dict": {f"_orig_mod.module.{name}": value for name, value in TENSORS.items()}}, "state_dict"),
        ({f"model.{name}": nn.Parameter(value) for name, value in TENSORS.items()}, ""),
    ],
)
def test_the_state_dict_of_a_file_is_found(held: object, where: str, tmp_path: Path):
    found = read_weights(saved(tmp_path / "weights.pt", held))
    assert found.held_in == where
    assert found.format == "torch.save"
    assert list(found.tensors) == list(TENSORS)
    assert all(torch.equal(found.tensors[name], value) for name, value in TENSORS.items())


def test_safetensors_are_read_whatever_the_file_is_called(tmp_path: Path):
    save_file(TENSORS, tmp_path / "weights.bin")
    found = read_weights(tmp_path / "weights.bin")
    assert (found.format, found.prefix) == ("safetensors", "")
    assert torch.equal(found.tensors["layer.weight"], TENSORS["layer.weight"])


def test_what_all_names_begin_with_is_left_out_and_what_some_do_stays(tmp_path: Path):
    every = {f"module.backbone.{name}": value for name, value in TENSORS.items()}
    assert read_weights(saved(tmp_path / "every.pt", every)).prefix == "module.backbone."
    some = {"module.layer.weight": TENSORS["layer.weight"], "head.weight": TENSORS["head.weight"]}
    assert list(read_weights(saved(tmp_path / "some.pt", some)).tensors) == list(some)


@pytest.mark.parametrize("score", [np.float64(0.9), np.float32(0.9), np.int64(3), np.bool_(True)])
def test_a_number_of_numpys_next_to_the_weights_is_not_in_the_way(score: object, tmp_path: Path):
    before = torch.serialization.get_safe_globals()
    found = read_weights(saved(tmp_path / "weights.pth", {"state_dict": TENSORS, "best": score}))
    assert list(found.tensors) == list(TENSORS)
    assert torch.serialization.get_safe_globals() == before


@pytest.mark.parametrize("scalar", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_of_numpy_numbers_alone_may_be_there(scalar: str, tmp_path: Path):
    """An object's type would let a scalar be anything: it is refused, and NumPy is not called for any of it."""
    object_type = b"cnumpy\ndtype\n(X\x02\x00\x00\x00O8\x89\x88tR"
    content = f"c{scalar}\nscalar\n".encode().join([b"\x80\x02", object_type.join([b"(", b"X\x01\x00\x00\x00atR."])])
    refused(with_pickle(tmp_path / "weights.pt", content), "of NumPy it may hold numbers alone")


@pytest.mark.parametrize("form", ["archive", "legacy", "pickle", "pickle 5", "inside", "tuple"])
def test_a_pickle_that_would_run_code_is_refused_and_nothing_of_it_is_run(form: str, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path, made = tmp_path / "weights.pt", tmp_path / "made"
    hostile = Hostile(made)
    if form.startswith("pickle"):
        path.write_bytes(pickle.dumps({"a": hostile}, protocol=5 if form.endswith("5") else 2))
    else:
        held = {"inside": {**TENSORS, "b": hostile}, "tuple": (TENSORS, hostile)}.get(form, hostile)
        saved(path, held, _use_new_zipfile_serialization=form != "legacy")
    refused(path, f"would run code when it is read ({os.system.__module__}.system): nothing of it was run")
    assert not made.exists()
    pickle.loads(pickle.dumps(hostile))  # noqa: S301  that it would have is what the test rests on
    assert made.exists()


def test_a_whole_network_is_code_too(tmp_path: Path):
    refused(saved(tmp_path / "network.pt", nn.Linear(2, 3)), "torch.nn.modules.linear.Linear")


@pytest.mark.parametrize(
    "name", ["torch.storage.UntypedStorage", "builtins.bytearray", "torch._tensor._rebuild_from_type_v2", "os.getcwd"]
)
def test_what_torch_would_call_and_weights_do_not_need_is_refused(name: str, tmp_path: Path):
    module, _, called = name.rpartition(".")
    content = f"\x80\x02c{module}\n{called}\n".encode("latin-1") + b"\x8a\x06\x00\x00\x00\x00\x00\x10\x85R."
    refused(with_pickle(tmp_path / "weights.pt", content), f"({name})")


def test_tuples_in_tuples_without_end_do_not_end_the_process(tmp_path: Path):
    deep = b"\x80\x02}" + b")" + b"\x85" * 1_000_000 + b"Ns."
    refused(with_pickle(tmp_path / "weights.pt", deep), "nested too deeply")


@pytest.mark.parametrize("other", ["DATA.PKL", "sub/data.pkl", "Data.pkl"])
def test_a_second_pickle_which_torch_might_read_in_place_of_the_first_is_refused(tmp_path: Path, other: str):
    path = saved(tmp_path / "weights.pt", {"a": torch.arange(10.0)})
    with zipfile.ZipFile(path, "a") as archive:
        root = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{root}/{other}", b"\x80\x02}" + b")" + b"\x85" * 1_000_000 + b"Ns.")
    refused(path, "not one that torch.save wrote")


def test_lists_in_lists_without_end_are_no_state_dict(tmp_path: Path):
    deep = b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
    refused(with_pickle(tmp_path / "weights.pt", deep), "holds no state dict")


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def test_a_changed_byte_of_an_archive_shows_by_its_checksum(tmp_path: Path):
    path = saved(tmp_path / "weights.pt", {"a": torch.arange(1000.0)})
    content = path.read_bytes()
    path.write_bytes(flipped(content, content.index(np.arange(1000, dtype="<f4").tobytes()) + 1001))
    refused(path, "is damaged: the checksum of")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("form", ["torch.save", "safetensors"])
def test_a_file_that_is_cut_off_is_refused(form: str, share: float, tmp_path: Path):
    path = tmp_path / "weights"
    save_file(TENSORS, path) if form == "safetensors" else torch.save(TENSORS, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refused(path, "is damaged, or not a file of weights: ")


def test_a_changed_byte_of_a_safetensors_header_is_refused_or_is_another_header(tmp_path: Path):
    path = tmp_path / "weights.safetensors"
    save_file(TENSORS, path)
    content, n_refused = path.read_bytes(), 0
    end = 8 + int.from_bytes(content[:8], "little")
    for at in range(end):
        path.write_bytes(flipped(content, at))
        try:
            found = read_weights(path).tensors
        except WeightsError as error:
            assert str(path) in str(error)
            n_refused += 1
        else:
            same = [name for name, value in TENSORS.items() if name in found and found[name].dtype == value.dtype]
            assert same != list(TENSORS) or any(found[name].shape != value.shape for name, value in TENSORS.items())
    assert end / 2 < n_refused < end


def test_a_header_of_endless_length_is_refused(tmp_path: Path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes((2**60).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}')
    refused(path, "is damaged, or not a file of weights: ")


def test_storages_that_are_not_as_large_as_said_are_refused(tmp_path: Path):
    path = saved(tmp_path / "weights.pt", {"a": torch.arange(4.0)})
    content = pickle_in(path)
    for few in (b"K\x04tq\x07Q", b"K\x04\x85"):  # of the storage, of the tensor
        assert content.count(few) == 1
        refused(with_pickle(path, content.replace(few, few.replace(b"\x04", b"\x7f", 1))), "is damaged")


def tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))


WRONG = {
    "an empty file": (lambda path: path.write_bytes(b""), "is empty"),
    "a text": (lambda path: path.write_text("layer.weight 1 2 3\n"), "is neither a safetensors file nor one that"),
    "a folder": (lambda path: path.mkdir(), "is a folder"),
    "a pipe": (lambda path: os.mkfifo(path), "is not a file"),
    "nothing": (lambda path: None, "there is no file"),
    "a tar": (tar, "is neither a safetensors file"),
    "an old file": (lambda path: saved(path, TENSORS, _use_new_zipfile_serialization=False), "is a pickle of another"),
    "no pickle": (lambda path: path.write_bytes(b"\x80\x02 and so on"), "is damaged, or not a file of weights"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "there is no file"),
    "numbers": (lambda path: saved(path, 3), "holds no state dict, names and tensors alone: it is a int"),
    "empty": (lambda path: saved(path, {}), "holds no state dict, names and tensors alone: it is empty"),
    "a list of nothing": (lambda path: saved(path, []), "holds no state dict"),
    "tensors and numbers": (lambda path: saved(path, {**TENSORS, "epoch": 3}), "it holds epoch (int)"),
    "names that are none": (lambda path: saved(path, {3: TENSORS["head.weight"]}), "it holds 3 (Tensor)"),
    "two of them": (lambda path: saved(path, {"model": TENSORS, "state_dict": TENSORS}), "in state_dict or model"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_file_of_weights_is_said_to_be_what_it_is(what: str, tmp_path: Path):
    write, says = WRONG[what]
    write(tmp_path / "weights.pt")
    refused(tmp_path / "weights.pt", says)


def test_another_zip_a_compressed_one_and_a_program_are_refused(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    refused(tmp_path / "other.zip", "not one that torch.save wrote")
    saved(tmp_path / "weights.pt", TENSORS)
    with (
        zipfile.ZipFile(tmp_path / "weights.pt") as plain,
        zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    refused(tmp_path / "packed.pt", "is compressed or encrypted")
    with zipfile.ZipFile(tmp_path / "program.pt", "w") as archive:  # what torch.jit.save writes
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"program/{name}", b"\x80\x02].")
    refused(tmp_path / "program.pt", "is a program (TorchScript)")


def test_a_file_beyond_what_memory_is_for_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(foreign_weights, "LARGEST", 100)
    refused(saved(tmp_path / "weights.pt", TENSORS), "and at most 100 are read")


def test_a_scan_knows_names_and_depth_of_pickles_of_every_protocol():
    held = {"a": [copyreg.__newobj__, (1, (2, (3, ()))), {"b": os.path.join}], ("x", "y"): {1}, "c": ("x", "y")}
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        found = scan_pickle(pickle.dumps(held, protocol=protocol))
        assert {"posixpath.join"} <= {name.replace("ntpath", "posixpath") for name in found.names}
        assert found.deepest == 3
