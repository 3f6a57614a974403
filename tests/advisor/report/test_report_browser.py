"""The page of ``recommend --report`` in a real browser: its script runs, nothing leaves it, the crosshair reads out."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import NamedTuple

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
_OWN = re.compile(r"https?://([\w.-]+\.)?(google|googleapis|gstatic)\.com[/:]")  # what the browser asks for itself


class Seen(NamedTuple):
    """What came of a page: its document after the script, what the console said, what was asked of the network."""

    dom: str
    console: list[str]
    requests: list[str]

    @property
    def words(self) -> list[str]:
        """The words of the read-out."""
        found = dict(re.findall(r'data-word="(\d+)">([^<]*)<', self.dom))
        return [unescape(found[str(k)]) for k in range(len(found))]


def look(page: Path, width: int = 1000) -> Seen:
    assert BROWSER is not None
    log = page.with_suffix(".netlog")
    ended = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={page.parent / 'profile'}",
         "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--disable-extensions", "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr",
         f"--window-size={width},2000", f"--log-net-log={log}", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=240, check=True,
    )  # fmt: skip
    asked = {
        event["params"]["url"] for event in json.loads(log.read_text())["events"] if "url" in event.get("params", {})
    }
    console = [line for line in ended.stderr.splitlines() if ":CONSOLE" in line]
    return Seen(ended.stdout, console, sorted(url for url in asked if not _OWN.match(url) and "://" in url))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, command: Callable[..., tuple[int, str, str]]) -> Path:
    path = tmp_path_factory.mktemp("browser") / "report.html"
    asked = "--n-records", 700, "--arch", "cnn", "--label-cost", 2, "--gpu-cost", 1.5, "--target", 0.9
    assert command("recommend", *asked, "--report", path)[0] == 0
    return path


def acted(page: Path, action: str, name: str) -> Path:
    """Return a copy of the page whose reader does something: a second script, which the policy would forbid."""
    text = re.sub(r"<meta http-equiv=[^>]*>", "", page.read_text())
    path = page.with_name(f"{name}.html")
    path.write_text(text.replace("</body>", f"<script>{action}</script></body>"))
    return path


def test_the_script_runs_and_nothing_leaves_the_page(page: Path):
    seen = look(page)
    assert 'data-script="ran"' in seen.dom
    assert seen.console == []
    assert seen.requests == []
    assert re.search(r'<div class="slider" id="slider">', seen.dom), "the script shows the slider"
    assert seen.words[0] == "700"
    document = json.loads(re.search(r'id="rows">(.*?)</script>', page.read_text())[1])
    assert seen.words == document["rows"][document["yours"]]["words"]
    assert f'aria-valuetext="700 records: fine-tuned {seen.words[1]}' in seen.dom


def test_what_a_bad_page_does_is_seen(page: Path):
    """Else the test above could not fail."""
    bad = page.with_name("bad.html")
    bad.write_text('<title>x</title><img src="http://example.invalid/x.png"><script>nothing()</script>')
    seen = look(bad)
    assert seen.requests == ["http://example.invalid/x.png"]
    assert "ReferenceError" in seen.console[0]


def test_the_policy_stops_what_does_not_belong_to_the_page(page: Path):
    path = page.with_name("tampered.html")
    added = '<img src="http://example.invalid/x.png"><script>document.title = "taken"</script></body>'
    path.write_text(page.read_text().replace("</body>", added))
    seen = look(path)
    assert seen.requests == []
    assert "<title>taken" not in seen.dom
    assert len(seen.console) == 2  # the browser says what it refused


def test_keys_and_pointer_move_the_read_out(page: Path):
    rows = json.loads(re.search(r'id="rows">(.*?)</script>', page.read_text())[1])["rows"]
    moved = look(
        acted(
            page, 'var s = document.getElementById("records"); s.value = 3; s.dispatchEvent(new Event("input"));', "key"
        )
    )
    assert moved.words == rows[3]["words"]
    assert moved.console == []
    point = (
        'var c = document.querySelector("svg.chart.wide"), b = c.getBoundingClientRect(), d = c.dataset;'
        "var x = Number(d.left) + Math.log(1000 / d.first) / Math.log(d.last / d.first) * (d.end - d.left);"
        'document.getElementById("surface").dispatchEvent(new PointerEvent("%s", '
        "{clientX: b.left + x / 760 * b.width, clientY: b.top + 50, bubbles: true}));"
    )
    over = look(acted(page, point % "pointermove", "over"))
    assert over.words[0] == "1,000"
    assert over.words == next(row["words"] for row in rows if row["n"] == 1000)
    left = look(acted(page, (point % "pointermove") + (point % "pointerleave"), "left"))
    assert left.words[0] == "700", "the read-out goes back when the pointer leaves"


@pytest.mark.parametrize(("width", "shown", "hidden"), [(1000, "wide", "narrow"), (520, "narrow", "wide")])
def test_one_chart_is_shown_and_nothing_is_wider_than_the_screen(page: Path, width: int, shown: str, hidden: str):
    measure = (
        'function w(c) { return document.querySelector("svg.chart." + c).getBoundingClientRect().width; }'
        'var e = document.documentElement; e.dataset.seen = [w("%s") > 300, w("%s") === 0, '
        "e.scrollWidth <= e.clientWidth].join()"
    )
    seen = look(acted(page, measure % (shown, hidden), f"at{width}"), width)
    assert 'data-seen="true,true,true"' in seen.dom


def test_the_read_out_of_four_arms_moves_with_the_slider(four_arms_path: Path, tmp_path: Path, command):
    path = tmp_path / "four.html"
    asked = "--n-records", 300, "--arch", "cnn", "--curves", four_arms_path, "--report", path
    assert command("recommend", *asked)[0] == 0
    found = json.loads(re.search(r'id="rows">(.*?)</script>', path.read_text())[1])
    action = 'var s = document.getElementById("records"); s.value = 5; s.dispatchEvent(new Event("input"));'
    moved = look(acted(path, action, "moved"))
    assert moved.console == []
    words = dict(re.findall(r'data-word="(\d+)">([^<]*)<', moved.dom))
    assert [unescape(words[str(k)]) for k in range(13)] == found["rows"][5]["words"]
    said = [f"{arm['name']} {found['rows'][5]['words'][1 + 2 * k]}" for k, arm in enumerate(found["arms"])]
    assert len(said) == 4 and ", ".join(said) in moved.dom
