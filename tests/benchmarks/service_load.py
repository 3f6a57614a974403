"""How many recommendations the service gives, how late the slowest come, and what it keeps in memory.

    python tests/benchmarks/service_load.py [--clients 200] [--requests 20000] [--memory 100000]

Both the service and a bare FastAPI route that returns the same bytes run as processes of their own, one after the
other, twice each in turns, and the same clients ask them: so many connections that are kept open, each with one request
at a time.
"""

import argparse
import asyncio
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

import numpy as np

ROOT = Path(__file__).parents[2]
_BARE = """
import sys, uvicorn
from fastapi import FastAPI
from starlette.responses import Response
body = open(sys.argv[2], "rb").read()
app = FastAPI()
@app.get("/v1/recommendation")
async def same(n_records: int = 0) -> Response:
    return Response(body, media_type="application/json")
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
"""


@dataclass(frozen=True)
class Load:
    """What came of a load: requests a second, and milliseconds at the 50th and the 99th percentile and at most."""

    per_second: float
    median: float
    p99: float
    longest: float

    def __str__(self) -> str:
        return (
            f"{self.per_second:8,.0f} requests/s, median {self.median:6.1f} ms, 99 % {self.p99:6.1f} ms, "
            f"longest {self.longest:6.1f} ms"
        )


async def _client(port: int, paths: Iterator[str], took: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for path in paths:
        began = time.perf_counter()
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{path}: {head[:200]!r}")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        assert length is not None
        await reader.readexactly(int(length[1]))
        took.append(time.perf_counter() - began)
    writer.close()


async def ask(port: int, paths: Sequence[str], clients: int) -> Load:
    """Ask for all paths by so many clients at a time."""
    left, took = iter(paths), list[float]()
    began = time.perf_counter()
    await asyncio.gather(*(_client(port, left, took) for _ in range(clients)))
    seconds, each = time.perf_counter() - began, 1000 * np.array(took)
    return Load(len(took) / seconds, *np.percentile(each, [50, 99, 100]).tolist())


@contextmanager
def _running(command: Sequence[str], port: int) -> Iterator[int]:
    """Run a server until the block ends, and give its process id."""
    process = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        for _ in range(600):
            try:
                with urlopen(f"http://127.0.0.1:{port}/v1/recommendation?n_records=5000") as answer:
                    answer.read()
                break
            except OSError:
                time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def service(folder: str, port: int) -> list[str]:
    """Return the command of the service."""
    return [sys.executable, "-m", "ecgadvise", "serve", "--store", folder, "--port", str(port), "--min-free-mb", "0"]


def free_ports(n: int) -> list[int]:
    """Return ports that nobody listens at."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def resident_mb(pid: int) -> float:
    """Return the megabytes that a process holds in memory (Linux)."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1000


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--memory", type=int, default=100_000)
    given, out = parser.parse_args(), sys.stdout.write
    same = ["/v1/recommendation?n_records=5000&arch=cnn"] * given.requests
    known = [f"/v1/recommendation?n_records={100 + k % 500}&arch=cnn" for k in range(given.requests)]
    new = [f"/v1/recommendation?n_records={1000 + k}&arch=cnn" for k in range(given.requests // 20)]
    ours, bare_port = free_ports(2)
    with TemporaryDirectory() as folder:
        body = Path(folder) / "body.json"
        for turn in range(2):
            with _running(service(f"{folder}/store", ours), ours) as pid:
                with urlopen(f"http://127.0.0.1:{ours}" + same[0]) as answer:
                    body.write_bytes(answer.read())
                for name, paths in (("one question", same), ("500 questions in turn", known), ("each a new one", new)):
                    out(f"service, {name:22} {asyncio.run(ask(ours, paths, given.clients))}\n")
                if turn == 1:
                    continue
                many = [f"/v1/recommendation?n_records={100 + k % 1000}" for k in range(given.memory)]
                asyncio.run(ask(ours, many[:1000], given.clients))
                before = resident_mb(pid)
                asyncio.run(ask(ours, many, given.clients))
                out(f"memory: {before:.0f} MB, {resident_mb(pid):.0f} MB after {given.memory:,} more requests\n")
            bare = [sys.executable, "-c", _BARE, str(bare_port), str(body)]
            with _running(bare, bare_port):
                out(f"bare FastAPI route               {asyncio.run(ask(bare_port, same, given.clients))}\n")


if __name__ == "__main__":
    main()
