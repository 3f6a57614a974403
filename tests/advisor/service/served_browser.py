"""A server in a process of its own, and a browser that may reach nothing else."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Route

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
PATIENCE = 300_000  # milliseconds, of what a busy machine takes its time for
_ROOT = Path(__file__).parents[3]


class Server:
    """``ecgadvise serve`` at a port that stays its own when it is started again."""

    def __init__(self, folder: Path, *options: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self._folder, self._options = folder, options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = ["serve", f"--store={self._folder / 'store'}", f"--port={self.port}", "--min-free-mb=0", *self._options]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ECGADVISE_")}
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ecgadvise", *words], cwd=_ROOT, env=kept, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log,
            )  # fmt: skip
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "server.log").read_text()
            time.sleep(0.1)

    def kill(self) -> None:
        """End it at once, as a machine does that runs out of memory."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def _answers(self) -> bool:
        try:
            with urlopen(f"{self.address}/health", timeout=5) as answer:
                return answer.status == 200
        except (URLError, OSError):
            return False


@dataclass
class Seen:
    """What pages asked of other machines, and what the console said that should not be."""

    address: str
    elsewhere: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def watch(self, context: BrowserContext) -> None:
        context.route("**/*", self._pass)
        context.on("console", self._listen)
        context.on("weberror", lambda error: self.errors.append(str(error.error)))

    def _pass(self, route: Route) -> None:
        url = route.request.url
        if url.startswith((f"{self.address}/", "data:")):
            route.continue_()
        else:
            self.elsewhere.append(url)
            route.abort()

    def _listen(self, message: ConsoleMessage) -> None:
        # The browser says of each answer with a status from 400 on that it is one: that is a page with an error.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.errors.append(message.text)


@contextmanager
def visit(browser: Browser, address: str, **given: object) -> Iterator[Page]:
    """Open a page in a browser of its own; at the end nothing may have been asked of others, or gone wrong."""
    seen = Seen(address)
    context = browser.new_context(base_url=address, viewport={"width": 1280, "height": 900}, **given)
    context.set_default_timeout(PATIENCE)
    seen.watch(context)
    try:
        yield context.new_page()
    finally:
        context.close()
    assert not seen.elsewhere, f"asked of others: {seen.elsewhere}"
    assert not seen.errors, f"the console said: {seen.errors}"
