"""What a fetch promises, against a server on this machine that fails in every way that servers do."""

import errno
import hashlib
import os
import signal
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.download.checksums import SUMS, ListError, parse_sums
from engine.download.http import ChecksumError, Downloader, FetchError, MissingFileError, TargetError
from engine.download.tree import Progress, fetch_tree

FILES = {
    "LICENSE.txt": b"licence\n",
    "empty.csv": b"",
    "records100/00000/00001_lr.dat": bytes(range(256)) * 400,  # 102,400 bytes
    "records100/00000/00001_lr.hea": b"00001_lr 12 100 1000\n",
    "records 500/#1 100%41?.dat": b"high" * 9000,
}
BIG = "records100/00000/00001_lr.dat"


@dataclass(frozen=True)
class Fault:
    """How one answer goes wrong: a status, a body cut after ``drop`` bytes, a Range not honoured, no length.

    It begins once ``after`` is set, and its connection stays open until ``until`` is.
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    drop: int | None = None
    truncate: int | None = None
    ignore_range: bool = False
    shift_range: int = 0
    length: bool = True
    after: threading.Event | None = None
    until: threading.Event | None = None


@dataclass
class Site:
    """A small tree on a server, its faults (used up one an answer, per path) and what was asked of it."""

    files: dict[str, bytes]
    url: str = ""
    sums: str | None = None
    faults: dict[str, list[Fault]] = field(default_factory=lambda: defaultdict(list))
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def asked_for(self, path: str) -> list[str | None]:
        """The Range headers (None without) of the requests for one path, in order."""
        return [asked for name, asked in self.asked if name == path]

    def body(self, path: str) -> bytes | None:
        if path == SUMS:
            return (self.sums if self.sums is not None else sums_of(self.files)).encode()
        return self.files.get(path)


def sums_of(files: dict[str, bytes]) -> str:
    return "".join(f"{hashlib.sha256(body).hexdigest()}  {path}\n" for path, body in files.items())


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5
    disable_nagle_algorithm = True
    site: Site

    def do_GET(self) -> None:
        path = unquote(self.path.removeprefix("/set/1.0/"))
        asked = self.headers["Range"]
        self.site.asked.append((path, asked))
        fault = self.site.faults[path].pop(0) if self.site.faults[path] else Fault()
        body = self.site.body(path)
        if fault.after is not None:
            fault.after.wait(5)
        if body is None or fault.status != 200:
            self.answer(404 if body is None else fault.status, b"", fault)
        elif asked and not fault.ignore_range:
            start = int(asked.removeprefix("bytes=").removesuffix("-")) + fault.shift_range
            if start >= len(body):
                self.answer(416, b"", fault)
            else:
                self.answer(206, body[start:], fault, f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.answer(200, body, fault)

    def answer(self, status: int, body: bytes, fault: Fault, content_range: str | None = None) -> None:
        body = body[: fault.truncate]
        self.send_response(status)
        if fault.length:
            self.send_header("Content-Length", str(len(body)))
        for header in [*fault.headers, *([("Content-Range", content_range)] if content_range else [])]:
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(body[: fault.drop])
        if fault.until is not None:
            self.wfile.flush()
            fault.until.wait(5)
        self.close_connection = fault.drop is not None

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name in the class it overrides)
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is what these tests are about."""


@pytest.fixture
def site() -> Iterator[Site]:
    served = Site(dict(FILES))
    handler = type("SiteHandler", (Handler,), {"site": served})
    with Server(("127.0.0.1", 0), handler) as server:
        served.url = f"http://127.0.0.1:{server.server_port}/set/1.0"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        server.shutdown()
        thread.join()


def fetch(site: Site, target: Path, pauses: list[float] | None = None, **options: Any) -> Progress:
    """Fetch without waiting; the pauses that would have been made are noted."""
    noted = [] if pauses is None else pauses
    return fetch_tree(site.url, target, sleep=noted.append, **options)


def tree(target: Path) -> dict[str, bytes]:
    """The files below a directory, without the list of checksums."""
    found = {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    return {name: body for name, body in found.items() if name != SUMS}


def test_every_listed_file_arrives_and_a_second_run_asks_for_nothing(site: Site, tmp_path: Path) -> None:
    first = fetch(site, tmp_path)
    assert tree(tmp_path) == FILES
    assert (first.files_total, first.files_done, first.files_present) == (5, 5, 0)
    assert first.bytes_received == sum(len(body) for body in FILES.values())
    site.asked.clear()
    again = fetch(site, tmp_path)
    assert site.asked == []
    assert (again.files_done, again.files_present, again.bytes_received) == (5, 5, 0)


def test_only_the_files_that_match_a_pattern_are_fetched(site: Site, tmp_path: Path) -> None:
    fetch(site, tmp_path, include=("LICENSE*", "records100/*"))
    assert set(tree(tmp_path)) == {"LICENSE.txt", BIG, "records100/00000/00001_lr.hea"}


def test_patterns_that_match_nothing_are_an_error(site: Site, tmp_path: Path) -> None:
    with pytest.raises(ListError, match=r"lists none of data/\*"):
        fetch(site, tmp_path, include=("data/*",))


def test_progress_counts_up_to_all_files_and_all_bytes(site: Site, tmp_path: Path) -> None:
    seen: list[Progress] = []
    last = fetch(site, tmp_path, report=seen.append)
    assert seen[-1] == last
    for count in ("files_done", "bytes_received", "seconds"):
        counts = [getattr(one, count) for one in seen]
        assert counts == sorted(counts)
    assert {one.files_total for one in seen} == {5}


def test_a_dropped_connection_asks_for_the_missing_bytes_only(site: Site, tmp_path: Path) -> None:
    pauses: list[float] = []
    site.faults[BIG] = [Fault(drop=50_000), Fault(drop=30_000)]
    fetch(site, tmp_path, pauses)
    assert tree(tmp_path) == FILES
    ranges = site.asked_for(BIG)
    assert ranges[0] is None
    offsets = [int(str(asked).removeprefix("bytes=").removesuffix("-")) for asked in ranges[1:]]
    assert len(offsets) == 2
    assert offsets == [50_000, 80_000]
    assert pauses == [1.0, 1.0]


def test_a_part_left_by_an_earlier_run_is_gone_on_with(site: Site, tmp_path: Path) -> None:
    part = tmp_path / f"{BIG}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(FILES[BIG][:60_000])
    done = fetch(site, tmp_path, include=(BIG,))
    assert site.asked_for(BIG) == ["bytes=60000-"]
    assert done.bytes_received == len(FILES[BIG]) - 60_000
    assert tree(tmp_path) == {BIG: FILES[BIG]}


def test_a_part_that_is_complete_is_verified_and_named_without_a_request(site: Site, tmp_path: Path) -> None:
    part = tmp_path / f"{BIG}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(FILES[BIG])
    fetch(site, tmp_path, include=(BIG,))
    assert site.asked_for(BIG) == []
    assert tree(tmp_path) == {BIG: FILES[BIG]}


@pytest.mark.parametrize("left", [b"x" * 60_000, b"x" * 102_400, b"x" * 200_000], ids=["shorter", "same", "longer"])
def test_a_part_of_another_file_is_thrown_away(site: Site, tmp_path: Path, left: bytes) -> None:
    part = tmp_path / f"{BIG}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(left)
    fetch(site, tmp_path, include=(BIG,))
    assert tree(tmp_path) == {BIG: FILES[BIG]}
    assert site.asked_for(BIG)[-1] is None


@pytest.mark.parametrize("fault", [Fault(ignore_range=True), Fault(shift_range=7)], ids=["ignored", "another range"])
def test_a_server_that_does_not_honour_the_range_is_read_from_the_start(
    site: Site, tmp_path: Path, fault: Fault
) -> None:
    site.faults[BIG] = [Fault(drop=50_000), fault]
    fetch(site, tmp_path)
    assert tree(tmp_path) == FILES


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_refusal_is_tried_again_after_a_growing_pause(site: Site, tmp_path: Path, status: int) -> None:
    pauses: list[float] = []
    site.faults["LICENSE.txt"] = [Fault(status)] * 5
    fetch(site, tmp_path, pauses)
    assert tree(tmp_path) == FILES
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0]


def test_the_list_of_checksums_is_tried_again_too(site: Site, tmp_path: Path) -> None:
    site.faults[SUMS] = [Fault(503), Fault(drop=100)]
    fetch(site, tmp_path)
    assert tree(tmp_path) == FILES


def test_retry_after_in_seconds_is_honoured(site: Site, tmp_path: Path) -> None:
    pauses: list[float] = []
    site.faults["LICENSE.txt"] = [Fault(429, (("Retry-After", "17"),)), Fault(503, (("Retry-After", "soon"),))]
    fetch(site, tmp_path, pauses)
    assert pauses == [17.0, 2.0]


def test_retry_after_as_a_date_is_honoured(site: Site, tmp_path: Path) -> None:
    pauses: list[float] = []
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    site.faults["LICENSE.txt"] = [Fault(429, (("Retry-After", when),))]
    fetch(site, tmp_path, pauses)
    assert len(pauses) == 1
    assert 50 < pauses[0] <= 100


def test_a_server_that_asks_to_come_back_in_an_hour_is_not_waited_for(site: Site, tmp_path: Path) -> None:
    site.faults["LICENSE.txt"] = [Fault(429, (("Retry-After", "3600"),))]
    with pytest.raises(FetchError, match="in 60 minutes"):
        fetch(site, tmp_path)


def test_a_server_that_keeps_failing_is_given_up_with_its_answer(site: Site, tmp_path: Path) -> None:
    site.faults["LICENSE.txt"] = [Fault(503)] * 6
    with pytest.raises(FetchError, match=r"LICENSE\.txt: the server answers 503, 6 times in a row"):
        fetch(site, tmp_path)
    assert "LICENSE.txt" not in tree(tmp_path)


def test_a_line_that_drops_often_but_gets_further_completes(site: Site, tmp_path: Path) -> None:
    site.faults[BIG] = [Fault(drop=4096)] * 20
    fetch(site, tmp_path)
    assert tree(tmp_path) == FILES


def test_a_server_that_drops_at_the_same_byte_and_ignores_ranges_is_given_up(site: Site, tmp_path: Path) -> None:
    site.faults[BIG] = [Fault(drop=4096, ignore_range=True)] * 50
    with pytest.raises(FetchError, match="times in a row"):
        fetch(site, tmp_path, include=(BIG,))
    assert set(tree(tmp_path)) == {f"{BIG}.part"}
    assert len(site.asked_for(BIG)) < 10


def test_nobody_listening_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"SHA256SUMS\.txt: connection refused, 6 times in a row"):
        fetch_tree("http://127.0.0.1:9", tmp_path, sleep=lambda _seconds: None)


def test_a_url_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="is not an http or https URL"):
        fetch_tree("ftp://127.0.0.1/set", tmp_path)


def test_a_missing_file_is_named_and_the_others_are_fetched(site: Site, tmp_path: Path) -> None:
    site.sums = sums_of(FILES)
    del site.files["LICENSE.txt"]
    with pytest.raises(MissingFileError, match=r"LICENSE\.txt does not exist \(404\)"):
        fetch(site, tmp_path)
    assert tree(tmp_path) == {name: body for name, body in FILES.items() if name != "LICENSE.txt"}
    assert site.asked_for("LICENSE.txt") == [None]


def test_a_missing_list_is_named(site: Site, tmp_path: Path) -> None:
    site.faults[SUMS] = [Fault(404)]
    with pytest.raises(MissingFileError, match=r"SHA256SUMS\.txt does not exist"):
        fetch(site, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("status", [401, 403, 418])
def test_a_refusal_that_stays_is_not_tried_again(site: Site, tmp_path: Path, status: int) -> None:
    pauses: list[float] = []
    site.faults["LICENSE.txt"] = [Fault(status)]
    with pytest.raises(FetchError, match=str(status)):
        fetch(site, tmp_path, pauses)
    assert pauses == []


def test_a_download_that_another_files_refusal_ends_is_not_waited_for(site: Site, tmp_path: Path) -> None:
    """Its read is cut off like one of a bad line, and is no reason to pause and try again."""
    pauses: list[float] = []
    received, refused = threading.Event(), threading.Event()
    site.faults[BIG] = [Fault(drop=1000, until=refused)]
    site.faults["LICENSE.txt"] = [Fault(403, after=received)]

    def report(progress: Progress) -> None:
        if progress.bytes_received == 1000:
            received.set()

    try:
        with pytest.raises(FetchError, match="403"):
            fetch(site, tmp_path, pauses, include=["LICENSE.txt", BIG], report=report)
    finally:
        refused.set()
    assert pauses == []
    assert site.asked_for(BIG) == [None]


def test_a_wrong_file_is_tried_once_more_then_named_and_never_takes_its_name(site: Site, tmp_path: Path) -> None:
    site.sums = sums_of(FILES)
    site.files["LICENSE.txt"] = b"something else\n"
    with pytest.raises(ChecksumError, match=r"LICENSE\.txt is not the published file"):
        fetch(site, tmp_path)
    assert site.asked_for("LICENSE.txt") == [None, None]
    assert tree(tmp_path) == {name: body for name, body in FILES.items() if name != "LICENSE.txt"}


def test_a_file_that_is_truncated_once_comes_whole_the_second_time(site: Site, tmp_path: Path) -> None:
    site.faults[BIG] = [Fault(truncate=1000)]
    fetch(site, tmp_path)
    assert tree(tmp_path) == FILES
    assert site.asked_for(BIG) == [None, None]


def test_a_file_that_stays_truncated_never_takes_its_name(site: Site, tmp_path: Path) -> None:
    site.faults[BIG] = [Fault(truncate=1000)] * 2
    with pytest.raises(ChecksumError):
        fetch(site, tmp_path)
    assert BIG not in tree(tmp_path)


def test_after_a_wrong_file_the_next_run_asks_for_the_list_anew(site: Site, tmp_path: Path) -> None:
    site.sums = sums_of(FILES | {"LICENSE.txt": b"of another version"})
    with pytest.raises(ChecksumError):
        fetch(site, tmp_path)
    site.sums = None
    fetch(site, tmp_path)
    assert tree(tmp_path) == FILES


def test_several_faults_are_one_error_and_a_wrong_file_comes_first(site: Site, tmp_path: Path) -> None:
    site.sums = sums_of(FILES)
    site.files["LICENSE.txt"] = b"something else\n"
    del site.files[BIG]
    with pytest.raises(ChecksumError, match=r"LICENSE\.txt .* \(and 1 more files are missing or wrong\)"):
        fetch(site, tmp_path)


def test_a_tree_that_is_missing_altogether_is_not_asked_for_to_the_end(site: Site, tmp_path: Path) -> None:
    site.sums = sums_of({f"{number}.dat": b"data" for number in range(500)})
    with pytest.raises(MissingFileError, match="19 more files"):
        fetch(site, tmp_path, jobs=2)
    assert len(site.asked) < 100


def test_a_file_that_was_altered_here_is_fetched_again(site: Site, tmp_path: Path) -> None:
    fetch(site, tmp_path)
    (tmp_path / BIG).write_bytes(b"altered")
    site.asked.clear()
    done = fetch(site, tmp_path)
    assert site.asked == [(BIG, None)]
    assert (done.files_done, done.files_present) == (5, 4)
    assert tree(tmp_path) == FILES


@pytest.mark.parametrize(
    "path",
    [
        "../outside",
        "a/./b",
        "/etc/outside",
        "a/../../outside",
        "a//b",
        "./../b",
        "..\\outside",
        "C:/outside",
        "a\tb",
        "x.part",
    ],
)
def test_a_list_with_an_unsafe_path_is_refused_as_a_whole(site: Site, tmp_path: Path, path: str) -> None:
    site.sums = f"{sums_of(FILES)}{'0' * 64}  {path}\n"
    target = tmp_path / "deep" / "target"
    with pytest.raises(ListError, match="line 6: refused"):
        fetch(site, target)
    assert tree(tmp_path) == {}
    assert [name for name, _ in site.asked] == [SUMS]


@given(st.text(st.characters(codec="utf-8", exclude_characters="\n"), min_size=1))
def test_no_listed_path_ever_leaves_the_tree(path: str) -> None:
    try:
        listed = parse_sums(f"{'0' * 64}  {path}")
    except ListError:
        return
    for one in listed:
        assert Path(os.path.normpath(Path("/root/tree") / one.path)).is_relative_to("/root/tree/")
        assert Path(one.path) != Path()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<html>not found</html>", "not a SHA-256 and a path"),
        (f"{'0' * 63}  a", "not a SHA-256 and a path"),
        (f"{'0' * 64}  a\n{'1' * 64}  a", "listed twice"),
    ],
)
def test_a_list_that_is_none_is_refused_and_not_kept(site: Site, tmp_path: Path, text: str, why: str) -> None:
    site.sums = text
    with pytest.raises(ListError, match=why):
        fetch(site, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_list_is_read_in_each_form_that_sha256sum_writes() -> None:
    digest = "AB" * 32
    text = f"{digest}  a\n{digest} *b/c d\n{digest} e\n{digest}  ./f\n\n{digest}  {SUMS}\n{digest}  a\n"
    assert [(one.path, one.sha256) for one in parse_sums(text)] == [
        (p, digest.lower()) for p in ("a", "b/c d", "e", "f")
    ]


@pytest.mark.parametrize("length", [True, False], ids=["announced length", "unknown length"])
def test_an_interrupted_run_leaves_only_parts_and_the_next_one_completes(
    site: Site, tmp_path: Path, length: bool
) -> None:
    release = threading.Event()
    site.faults[BIG] = [Fault(drop=50_000, length=length, until=release)]

    def interrupt(progress: Progress) -> None:
        if progress.bytes_received == 50_000:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fetch_tree(site.url, tmp_path, (BIG,), jobs=1, report=interrupt)
    release.set()
    assert tree(tmp_path) == {f"{BIG}.part": FILES[BIG][:50_000]}
    fetch(site, tmp_path)
    assert tree(tmp_path) == FILES
    assert site.asked_for(BIG)[-1] == "bytes=50000-"


def test_a_part_of_a_list_is_not_gone_on_with(site: Site, tmp_path: Path) -> None:
    (tmp_path / f"{SUMS}.part").write_text(f"{'0' * 64}  of another version.dat\n")
    fetch(site, tmp_path)
    assert site.asked_for(SUMS) == [None]
    assert tree(tmp_path) == FILES


def test_a_stopped_downloader_begins_no_request(site: Site, tmp_path: Path) -> None:
    with Downloader() as downloader:
        downloader.stop()
        with pytest.raises(FetchError, match="stopped"):
            downloader.download(f"{site.url}/LICENSE.txt", tmp_path / "LICENSE.txt", "0" * 64)
    assert site.asked == []


def test_a_full_disk_is_one_sentence_and_keeps_what_is_verified(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def open_full(self: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        file = opened(self, mode, *args, **options)
        if self.name == f"{Path(BIG).name}.part" and mode in {"ab", "wb"}:
            file.close()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return file

    fetch(site, tmp_path, include=("LICENSE*",))
    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(TargetError, match=r"no room left for .*00001_lr\.dat: make some"):
        fetch(site, tmp_path)
    assert "LICENSE.txt" in tree(tmp_path)
    assert BIG not in tree(tmp_path)


def test_a_target_that_cannot_be_written_is_one_sentence(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TargetError, match=r"cannot write .*/file: file exists; choose another folder"):
        fetch(site, tmp_path / "file")


def test_a_folder_in_the_way_of_a_file_is_one_sentence(site: Site, tmp_path: Path) -> None:
    (tmp_path / "LICENSE.txt").mkdir()
    with pytest.raises(TargetError, match=r"cannot write .*LICENSE\.txt: is a directory"):
        fetch(site, tmp_path)


def test_a_second_fetch_into_the_same_folder_is_refused(site: Site, tmp_path: Path) -> None:
    refused: list[str] = []

    def again(_progress: Progress) -> None:
        with pytest.raises(TargetError) as error:
            fetch(site, tmp_path)
        refused.append(str(error.value))

    fetch(site, tmp_path, report=again)
    assert set(refused) == {f"another fetch is at work in {tmp_path}: let it end, or choose another folder"}
    fetch(site, tmp_path)


def test_connections_are_kept_open(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    setup: Callable[[Any], None] = Handler.setup
    monkeypatch.setattr(Handler, "setup", lambda self: (opened.append(1), setup(self))[1])
    site.files = {f"{number}.hea": b"%d" % number for number in range(50)}
    fetch(site, tmp_path, jobs=2)
    assert len(opened) <= 3
