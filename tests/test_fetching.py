"""Downloads from a server that cuts, stalls, drips, lies about lengths, sends other bytes, or knows no ranges."""

import contextlib
import hashlib
import http.server
import threading
import time

import numpy as np
import pytest

from jaxnets import InputError
from jaxnets.data import fetch, fetching

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """What it does wrong is one word for each request, the last for all others; ``asked`` keeps their ranges."""

    def __init__(self, *faults):
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults, self.asked = list(faults), []
        self.url = f"http://127.0.0.1:{self.server_port}/a.bin"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        fault = self.server.faults.pop(0) if len(self.server.faults) > 1 else self.server.faults[0]
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and fault != "no ranges" else 0
        body = CONTENT[start:] if fault != "wrong bytes" else bytes(len(CONTENT) - start)
        if start >= len(CONTENT):
            self.send_error(416)
            return
        if fault == "no http":
            self.wfile.write(b"what?\r\n\r\n")
            return
        self.send_response(206 if start else 200)
        length = {"too long": len(body) + 99, "too short": len(body) - 99}.get(fault, len(body))
        if fault != "no length":
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if fault == "drip":
            with contextlib.suppress(OSError):  # who asks has gone
                for i in range(200):
                    self.wfile.write(body[i : i + 1])
                    self.wfile.flush()
                    time.sleep(0.05)
            return
        self.wfile.write(body[: len(body) // 2] if fault in ("cut", "stall") else body)
        if fault == "stall":
            self.wfile.flush()
            time.sleep(1.0)


@pytest.fixture
def serving(monkeypatch, tmp_path):
    """Return a function that starts a server, fetches from it, and returns the server."""
    monkeypatch.setattr(fetching, "_PAUSE", 0.0)
    monkeypatch.setattr(fetching, "_PATIENCE", 0.2)
    servers = []

    def fetched(*faults, sha256=SHA256):
        servers.append(Server(*faults))
        threading.Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        fetch(servers[-1].url, sha256, tmp_path / "a.bin")
        return servers[-1]

    yield fetched
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("faults", "asked"),
    [
        (["fine"], [None]),
        (["no length"], [None]),
        (["cut", "fine"], [None, "bytes=150000-"]),
        (["stall", "fine"], None),
        (["cut", "cut", "cut", "fine"], [None, "bytes=150000-", "bytes=225000-", "bytes=262500-"]),
        (["cut", "no ranges"], [None, "bytes=150000-"]),
        (["no http", "fine"], [None, None]),
        (["too short", "fine"], None),
        (["too long", "fine"], None),
    ],
)
def test_what_arrives_is_whole_or_refused(faults, asked, serving, tmp_path):
    if faults[0] == "too short":  # what a server says of its length is believed, but not that the file is right
        with pytest.raises(InputError, match=r"its SHA-256 is .*, not the pinned"):
            serving(*faults)
        assert not list(tmp_path.iterdir())
        return
    server = serving(*faults)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
    assert asked is None or server.asked == asked


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("wrong bytes", InputError, "not the pinned"),
        ("stall", OSError, "timed out"),
        ("drip", OSError, r"bytes came in \d+ s"),
        ("no http", OSError, "no answer of HTTP"),
    ],
)
def test_what_does_not_arrive_is_said(fault, error, message, serving, tmp_path):
    with pytest.raises(error, match=message):
        serving(fault)
    assert not (tmp_path / "a.bin").exists()


def test_what_a_killed_process_left_is_gone_on_with_unless_it_is_wrong(serving, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:1000])
    assert serving("fine").asked == ["bytes=1000-"]
    (tmp_path / "a.bin").unlink()
    (tmp_path / "a.bin.part").write_bytes(b"x" * 1000)
    assert serving("fine").asked == ["bytes=1000-", None]
    (tmp_path / "a.bin").unlink()
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    assert serving("fine").asked == ["bytes=300000-", None]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_one_that_does_not_end_is_stopped(serving, monkeypatch):
    monkeypatch.setattr(fetching, "_MOST", 100_000)
    with pytest.raises(InputError, match="does not end: more than 100,000 bytes"):
        serving("no length")
