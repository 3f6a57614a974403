"""An archive is unpacked completely or not at all, and never elsewhere."""

import errno
import gzip
import io
import stat
import struct
import tarfile
import warnings
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.service.datasets.archive import Unpacked, unpack
from advisor.service.datasets.limits import ArchiveError, Limits
from advisor.service.problems import Problem
from models.errors import ExitCode
from tests.advisor.service.archives import tar_of, tar_with, zip_of, zip_with_mode

FILES = {"ward/r1.hea": b"r1 12 500 5000\n", "ward/r1.dat": bytes(range(256)) * 40, "ward/labels.csv": b"record,AF\n"}
ROOM = Limits(unpacked_mb=8, files=50, min_free_mb=100, free_mb=lambda: 1e6)


def try_out(tmp_path: Path, content: bytes, limits: Limits = ROOM) -> Unpacked:
    """Unpack, and see to it that a failure leaves nothing."""
    (tmp_path / "upload").write_bytes(content)
    (tmp_path / "taken").mkdir(exist_ok=True)
    try:
        return unpack(tmp_path / "upload", tmp_path / "taken" / "d1", limits)
    except BaseException:
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["taken", "upload"]
        raise


def refused(tmp_path: Path, content: bytes, limits: Limits = ROOM) -> str:
    with pytest.raises(ArchiveError) as raised:
        try_out(tmp_path, content, limits)
    assert raised.value.exit_code == ExitCode.DATA
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("content", [zip_of(FILES), zip_of(FILES, zipfile.ZIP_STORED),
                                     *(tar_of(FILES, f"w{mode}") for mode in ("", ":gz", ":bz2", ":xz"))])  # fmt: skip
def test_zip_and_tar_are_told_by_their_content_and_unpacked_to_the_byte(tmp_path, content):
    unpacked = try_out(tmp_path, content)
    assert {path.relative_to(unpacked.root).as_posix(): path.read_bytes()
            for path in unpacked.root.rglob("*") if path.is_file()} == FILES  # fmt: skip
    assert (unpacked.files, unpacked.bytes) == (3, sum(map(len, FILES.values())))


@pytest.mark.parametrize("make", [tar_of, zip_of])
@pytest.mark.parametrize(
    ("name", "said"),
    [("/etc/cron.d/x", "absolute path"), ("C:/x", "absolute path"), ("C:x", "absolute path"), ("../x", "by .."),
     ("a/../../x", "by .."), ("a/..", "by .."), ("a\\..\\x", "backslash"), ("a\nb", "control characters"),
     ("x" * 300, "too long a name"), ("a/" * 600 + "x", "too long a name")],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_refused(tmp_path, make, name, said):
    assert said in refused(tmp_path, make({"good.hea": b"r", name: b"secret content"}))


@pytest.mark.parametrize(
    ("kind", "name"),
    [(tarfile.SYMTYPE, "symlink"), (tarfile.LNKTYPE, "hard-link"), (tarfile.CHRTYPE, "device"),
     (tarfile.BLKTYPE, "disk"), (tarfile.FIFOTYPE, "fifo"), (tarfile.GNUTYPE_SPARSE, "sparse")],
)  # fmt: skip
def test_what_is_no_file_in_a_tar_is_refused(tmp_path, kind, name):
    assert refused(tmp_path, tar_with(name, kind, "/etc/passwd")).startswith(f"'{name}' in the archive is a link")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_what_is_no_file_in_a_zip_is_refused(tmp_path, kind):
    assert "'x' in the archive is a link or a device" in refused(tmp_path, zip_with_mode("x", kind | 0o777))


@pytest.mark.parametrize("other", ["ward/R1.DAT", "ward/./r1.dat", "ward//r1.dat", "ward/r1.dat/x", "WARD"])
@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_no_entry_takes_the_place_of_another(tmp_path, make, other):
    said = refused(tmp_path, make({"ward/r1.dat": b"first", other: b"second"}))
    assert "twice" in said or "both as a file and as a folder" in said


def test_names_that_are_one_name_on_some_disks_are_refused(tmp_path):
    assert "twice" in refused(tmp_path, tar_of({"M\u00fcller.dat": b"1", "Mu\u0308ller.dat": b"2"}))


def test_a_tar_that_was_appended_to_is_refused_for_its_second_entry_of_a_name(tmp_path):
    first, second = tar_of({"a": b"1"}), tar_of({"a": b"2"})
    assert "twice" in refused(tmp_path, first[:1024] + second)


ZEROS = {"zeros.dat": bytes(2_000_000)}


@pytest.mark.parametrize("content", [zip_of(ZEROS), tar_of(ZEROS, "w:gz"), tar_of(ZEROS, "w:xz")])
def test_a_bomb_is_stopped_by_its_ratio(tmp_path, content):
    limits = Limits(8, 50, 100, lambda: 1e6, ratio=200, ratio_from_mb=1)
    assert "more than 200 times its size" in refused(tmp_path, content, limits)


def test_a_bomb_in_a_part_that_is_not_written_is_stopped_too(tmp_path):
    whole = tar_of({"a": b"1"}) + bytes(30_000_000)  # after the end
    said = refused(tmp_path, gzip.compress(whole), Limits(8, 50, 100, lambda: 1e6))
    assert "--max-unpacked-mb (ECGADVISE_MAX_UNPACKED_MB) is 8" in said


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_too_many_bytes_are_refused_by_the_settings_name(tmp_path, make):
    content = make({"a.dat": bytes(600_000), "b.dat": bytes(600_000)})
    assert "--max-unpacked-mb (ECGADVISE_MAX_UNPACKED_MB) is 1" in refused(
        tmp_path, content, Limits(1, 50, 100, lambda: 1e6)
    )


@pytest.mark.parametrize("make", [tar_of, zip_of])
@pytest.mark.parametrize("names", [[f"r{k}" for k in range(51)], ["/".join("a" * 60)]])
def test_too_many_files_or_folders_are_refused_by_the_settings_name(tmp_path, make, names):
    said = refused(tmp_path, make(dict.fromkeys(names, b"")))
    assert said.endswith("--max-files (ECGADVISE_MAX_FILES) is 50")


def test_a_table_of_entries_without_end_is_refused_before_it_takes_memory(tmp_path):
    content = zip_of({"a": b"1"})
    at = content.index(b"PK\x01\x02")
    end = content.index(b"PK\x05\x06")
    table = content[at:end] * 30_000
    tail = content[end : end + 12] + struct.pack("<II", len(table), at) + b"\0\0"
    limits = Limits(8, 20_000, 100, lambda: 1e6)
    assert "ECGADVISE_MAX_FILES" in refused(tmp_path, content[:at] + table + tail, limits)


def test_a_header_as_large_as_memory_is_refused(tmp_path):
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 2_000_000_000
    content = gzip.compress(header.tobuf(tarfile.USTAR_FORMAT) + bytes(3_000_000))
    assert refused(tmp_path, content)


def test_a_size_that_a_zip_lies_about_is_found(tmp_path):
    content = zip_of({"a.dat": bytes(range(256)) * 100})
    for said in (100, 10_000_000):  # less, more
        lie = content.replace(struct.pack("<I", 25_600), struct.pack("<I", said))
        assert "'a.dat' in the archive is damaged" in refused(tmp_path, lie)


def test_an_encrypted_zip_is_refused_in_words(tmp_path):
    content = bytearray(zip_of({"a.dat": b"1"}))
    content[content.index(b"PK\x01\x02") + 8] |= 1
    content[6] |= 1
    assert refused(tmp_path, bytes(content)) == "'a.dat' in the archive is encrypted: upload it without a password"


def test_a_zip_packed_in_an_unusual_way_is_refused_in_words(tmp_path):
    assert "pack it with deflate" in refused(tmp_path, zip_of({"a.dat": b"1"}, zipfile.ZIP_LZMA))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.97])
def test_a_tar_that_was_cut_off_is_found(tmp_path, mode, share):
    noise = b"".join(k.to_bytes(2, "big") for k in range(0, 60_000, 7))
    files = {f"r{k}.dat": noise for k in range(3)}
    with io.BytesIO(tar_of(files, mode)) as whole:
        content = whole.read().rstrip(b"\0") if mode == "w" else whole.read()
    assert refused(tmp_path, content[: int(len(content) * share)])


def test_a_tar_that_was_cut_off_between_two_entries_is_found(tmp_path):
    assert "cut off" in refused(tmp_path, tar_of({"a": b"1", "b": b"2"})[:1024])


def test_a_tar_with_a_damaged_header_is_not_taken_for_a_shorter_one(tmp_path):
    content = bytearray(tar_of({"a": b"1", "b": b"2"}))
    content[1024 + 150] ^= 0xFF
    assert "damaged" in refused(tmp_path, bytes(content))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
def test_a_zip_that_was_cut_off_is_found(tmp_path, share):
    content = zip_of(FILES)
    assert "damaged or cut off" in refused(tmp_path, content[: int(len(content) * share)])


def test_a_damaged_file_in_a_zip_is_named(tmp_path):
    content = bytearray(zip_of({"good": b"1", "bad": bytes(range(256))}, zipfile.ZIP_STORED))
    content[content.index(bytes(range(256))) + 7] ^= 1
    assert refused(tmp_path, bytes(content)) == "'bad' in the archive is damaged or cut off: upload it again"


@pytest.mark.parametrize("content", [b"", b"record,AF\nr1,1\n", gzip.compress(b"record,AF\n" * 100), b"\x89PNG" * 500])
def test_what_is_no_archive_is_refused(tmp_path, content):
    assert "archive" in refused(tmp_path, content)


@pytest.mark.parametrize("content", [tar_of({}), zip_of({}), tar_with("empty", tarfile.DIRTYPE)])
def test_an_archive_without_a_file_is_refused(tmp_path, content):
    assert refused(tmp_path, content) == "the archive holds no file"


def test_an_archive_in_an_archive_stays_a_file(tmp_path):
    inner = zip_of(FILES)
    unpacked = try_out(tmp_path, tar_of({"inner.zip": inner, "last.zip": inner}))
    assert sorted(path.name for path in unpacked.root.iterdir()) == ["inner.zip", "last.zip"]


def test_names_with_accents_come_out_of_a_zip_whoever_wrote_it(tmp_path):
    of_macos = zip_of({"xx.dat": b"1"}).replace(b"xx.dat", "ü.dat".encode())  # UTF-8 without the bit that says so
    (root,) = try_out(tmp_path, of_macos).root.iterdir()
    assert root.name == "ü.dat"


def test_a_disk_that_fills_up_meanwhile_stops_it(tmp_path):
    left = iter([5000.0, 50.0])
    content = tar_of({f"{k}": bytes(1_000_000) for k in range(12)})
    with pytest.raises(Problem) as raised:
        try_out(tmp_path, content, Limits(100, 50, 100, lambda: next(left)))
    assert (raised.value.status, raised.value.kind) == (507, "disk-full")
    assert "--min-free-mb (ECGADVISE_MIN_FREE_MB) is 100" in raised.value.detail


def test_a_disk_that_is_full_already_is_left_alone(tmp_path):
    with pytest.raises(Problem) as raised:
        try_out(tmp_path, zip_of(FILES), Limits(100, 50, 100, lambda: 99.0))
    assert raised.value.kind == "disk-full"


def test_what_the_disk_itself_says_is_a_full_disk_too(tmp_path, monkeypatch):
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("advisor.service.datasets.archive._write_file", full)
    with pytest.raises(Problem) as raised:
        try_out(tmp_path, zip_of(FILES))
    assert raised.value.kind == "disk-full"


names = st.one_of(
    st.text(max_size=40),
    st.lists(
        st.sampled_from(["..", ".", "", "a", "b", "A", "~", "C:", "\\", "x" * 120, "\u202e", "é"]), max_size=6
    ).map("/".join),
)


@given(st.lists(names, min_size=1, max_size=5), st.booleans())
def test_no_name_whatever_is_written_outside(entries, as_zip):
    with TemporaryDirectory() as folder:
        root = Path(folder)
        try:
            content = zip_of_all(entries) if as_zip else tar_of_all(entries)
        except ValueError:  # a name that no writer of archives takes
            return
        (root / "upload").write_bytes(content)
        (root / "a" / "b").mkdir(parents=True)
        try:
            unpack(root / "upload", root / "a" / "b" / "into", ROOM)
        except ArchiveError:
            assert not (root / "a" / "b" / "into").exists()
        outside = {path.relative_to(root).as_posix() for path in root.rglob("*") if "into" not in path.parts}
        assert outside == {"upload", "a", "a/b"}


@given(st.binary(max_size=200), st.sampled_from([tar_of(FILES), tar_of(FILES, "w:gz"), zip_of(FILES)]), st.data())
def test_no_damage_whatever_is_more_than_an_error_in_one_sentence(noise, content, data):
    at = data.draw(st.integers(0, len(content)))
    with TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "upload").write_bytes(content[:at] + noise + content[at + len(noise) :])
        try:
            unpack(root / "upload", root / "into", ROOM)
        except ArchiveError:
            assert not (root / "into").exists()


def zip_of_all(entries: list[str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made, warnings.catch_warnings(action="ignore"):  # of a name that is there twice
        for name in entries:
            info = zipfile.ZipInfo("x")
            info.filename = info.orig_filename = name  # as it is: the constructor would cut and turn it
            made.writestr(info, b"content")
    return out.getvalue()


def tar_of_all(entries: list[str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for name in entries:
            info = tarfile.TarInfo(name)
            info.size = 7
            made.addfile(info, io.BytesIO(b"content"))
    return out.getvalue()
