"""A bucket behind a bad network: every fault passes between the client and a real server."""

import http.client
import io
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sharding.layouts.raw import FETCHED_AT_ONCE, fetched
from sharding.packing.building import build
from sharding.packing.recipe import Recipe
from sharding.packing.verify import verify
from sharding.storage import s3
from sharding.storage.location import open_location
from stn_icnn.storage import StorageLocation

FAULTS = ("500", "503", "late", "lost", "half request", "half answer", "no body")
"""What may befall a request:

500, 503: answered so, and not done;
late: done, but answered when the client has given up waiting;
lost: done, but the connection is cut before the answer;
half request: cut in the middle of what is uploaded;
half answer: cut in the middle of the answer's body, or of the status line where it has none;
no body: cut after the answer's head.
"""

REFUSALS = {"403": "AccessDenied", "500": "InternalError", "503": "SlowDown"}

READ_TIMEOUT_S = 0.5
SEED = 4
LARGE = random.Random(SEED).randbytes(9 << 20)  # uploaded in two pieces

Rule = Callable[[str, str], str | None]
"""(method, path with query) -> one of FAULTS, `403`, or None to let the request pass."""


class FaultyProxy(ThreadingHTTPServer):
    """Passes requests on to an S3 server, save where `rule` says otherwise.

    Attributes:
        rule: asked of every request.
        requests: method and path of each, in order.
        injected: how often each fault was.
    """

    daemon_threads = True

    def __init__(self, server_url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Relay)
        self.target = urlsplit(server_url).netloc
        self.rule: Rule = lambda method, path: None
        self.requests: list[tuple[str, str]] = []
        self.injected: Counter[str] = Counter()
        self.closing = threading.Event()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def fault(self, method: str, path: str) -> str | None:
        with self._lock:
            self.requests.append((method, path))
            found = self.rule(method, path)
            self.injected.update([found] if found else [])
            return found

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: a client that has given up is what this is for."""


class _Relay(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def _relay(self) -> None:
        fault = self.server.fault(self.command, self.path)
        num_bytes = int(self.headers.get("Content-Length", 0))
        self.close_connection = fault not in (None, *REFUSALS)
        if fault == "half request":
            self.rfile.read(num_bytes // 2)
            return
        sent = self.rfile.read(num_bytes)
        if fault in REFUSALS:
            body = f"<Error><Code>{REFUSALS[fault]}</Code><Message>no</Message></Error>".encode()
            self._answer(int(fault), {"Content-Length": str(len(body))}, body)
            return
        connection = http.client.HTTPConnection(self.server.target, timeout=60)
        connection.request(self.command, self.path, sent, self._end_to_end(self.headers))
        answer = connection.getresponse()
        headers, body = self._end_to_end(answer.headers), answer.read()
        connection.close()
        if fault == "late":
            self.server.closing.wait(3 * READ_TIMEOUT_S)
        elif fault == "half answer" and not body:
            self.wfile.write(b"HTTP/1.")
        elif fault != "lost":
            num_passed = {"half answer": len(body) // 2, "no body": 0}.get(str(fault), len(body))
            self._answer(answer.status, headers, body[:num_passed])

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _relay

    def _end_to_end(self, headers: http.client.HTTPMessage) -> dict[str, str]:
        hop_by_hop = ("connection", "transfer-encoding", "expect")
        return {name: value for name, value in headers.items() if name.lower() not in hop_by_hop}

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def proxy(bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """Between `bucket` and the client, which waits and backs off briefly."""
    from botocore.retries.standard import ExponentialBackoff

    with FaultyProxy(s3_server) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        monkeypatch.setattr(s3, "READ_TIMEOUT_S", READ_TIMEOUT_S)
        monkeypatch.setattr("tenacity.nap.time.sleep", lambda seconds: None)
        monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda self, context: 0.001)
        s3._client.cache_clear()
        yield server
        server.closing.set()
        server.shutdown()


@pytest.fixture
def location(proxy: FaultyProxy, bucket: str) -> StorageLocation:
    return open_location(f"{bucket}/some/prefix")


def once(*faults: str) -> Rule:
    """Each fault befalls one request, in this order."""
    left = list(faults)
    return lambda method, path: left.pop(0) if left else None


def each_try(fault: str) -> Rule:
    """The first try of every request meets the fault."""
    met: set[tuple[str, str]] = set()

    def rule(method: str, path: str) -> str | None:
        if (method, path) in met:
            return None
        met.add((method, path))
        return fault

    return rule


def down_for(tries: int, names: Sequence[str]) -> Rule:
    """The first tries of every request to these objects fail, as when a server is away."""
    met: Counter[str] = Counter()

    def rule(method: str, path: str) -> str | None:
        met[path] += 1
        return "500" if path.endswith(tuple(names)) and met[path] <= tries else None

    return rule


def some(share: float) -> Rule:
    """Any fault befalls this share of the requests."""
    rng = random.Random(SEED)
    return lambda method, path: rng.choice(FAULTS) if rng.random() < share else None


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_every_operation_survives(
    fault: str, location: StorageLocation, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
):
    """The first try of each of its requests fails."""
    monkeypatch.setattr(s3, "READ_AHEAD_BYTES", (1 << 20, 8 << 20))

    proxy.rule = each_try(fault)
    location.write("a/written", b"1" * 5000)
    location.upload(io.BytesIO(b"small"), "a/small")
    location.upload(io.BytesIO(LARGE), "a/large")
    assert location.read("a/written") == b"1" * 5000
    with location.open("a/large") as file:
        file.seek(3 << 20)
        assert file.read(100) == LARGE[3 << 20 :][:100]
        file.seek(0)
        assert file.read() == LARGE
    assert location.read("a/small") == b"small"
    assert location.list() == ["a/large", "a/small", "a/written"]
    assert location.exists("a/small")
    location.delete("a/small")
    assert not location.exists("a/small")
    location.abort_uploads(re.compile(".*"))

    assert {method for method, _ in proxy.requests} == {"GET", "HEAD", "PUT", "POST", "DELETE"}
    assert proxy.injected == {fault: len(set(proxy.requests))}
    assert proxy.injected[fault] >= 13


def test_reads_and_listings_survive_faults_in_a_row(location: StorageLocation, proxy: FaultyProxy):
    location.write("a", LARGE)
    for _ in range(2):
        proxy.rule = once("half answer", "503", "half answer", "lost", "no body", "500")
        assert location.read("a") == LARGE
        proxy.rule = once("no body", "503", "half answer", "lost", "no body", "500")
        assert location.list() == ["a"]
    assert sum(proxy.injected.values()) == 24


def test_fetches_at_once_outlast_an_outage(location: StorageLocation, proxy: FaultyProxy):
    """As many as there are at once: boto3's allowance of retries is shared by them."""
    names = [f"object-{number}" for number in range(2 * FETCHED_AT_ONCE)]
    for name in names:
        location.write(name, name.encode())
    proxy.rule = down_for(s3.REQUEST_ATTEMPTS - 1, names[:FETCHED_AT_ONCE])
    with fetched(location, names) as files:
        assert [files.read(name).decode() for name in names] == names
    assert proxy.injected["500"] == (s3.REQUEST_ATTEMPTS - 1) * FETCHED_AT_ONCE


OPERATIONS: dict[str, Callable[[StorageLocation], object]] = {
    "read": lambda location: location.read("a"),
    "open": lambda location: location.open("a"),
    "write": lambda location: location.write("a", b"new"),
    "upload": lambda location: location.upload(io.BytesIO(b"new"), "a"),
    "exists": lambda location: location.exists("a"),
    "list": lambda location: location.list("a"),
    "delete": lambda location: location.delete("a"),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_lasting_fault_is_an_error_that_names_the_object(
    operation: str, location: StorageLocation, proxy: FaultyProxy
):
    location.write("a", b"old")
    for fault in ("500", "half request"):
        proxy.requests.clear()
        proxy.rule = lambda method, path, fault=fault: fault
        with pytest.raises(OSError, match="s3://faces/some/prefix/a: "):
            OPERATIONS[operation](location)
        assert len(proxy.requests) == s3.REQUEST_ATTEMPTS
    proxy.rule = once()
    assert location.list() == ["a"]
    assert location.read("a") == b"old"


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["late", "lost", "half answer", "no body"])
def test_lasting_loss_of_answers(
    fault: str, location: StorageLocation, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
):
    """Never half the data, nor a listing that lacks something."""
    monkeypatch.setattr(s3, "REQUEST_ATTEMPTS", 3)
    s3._client.cache_clear()
    location.write("a", b"old" * 5000)
    proxy.rule = lambda method, path: fault
    with pytest.raises(OSError, match="s3://faces/some/prefix/a: "):
        location.read("a")
    with pytest.raises(OSError, match="s3://faces/some/prefix/b: "):
        location.list("b")
    assert len(proxy.requests) <= 1 + 3 * s3.BODY_ATTEMPTS + 3


@pytest.mark.parametrize("operation", OPERATIONS)
def test_refusal_is_told_at_once(operation: str, location: StorageLocation, proxy: FaultyProxy):
    proxy.rule = lambda method, path: "403"
    with pytest.raises(PermissionError, match="s3://faces/some/prefix/a: "):
        OPERATIONS[operation](location)
    assert len(proxy.requests) == 1


@pytest.mark.slow
def test_upload_that_fails_midway_leaves_no_object(location: StorageLocation, proxy: FaultyProxy):
    """The server cannot even be told to forget its first piece."""
    proxy.rule = lambda method, path: None if "?uploads" in path or "Number=1" in path else "500"
    with pytest.raises(OSError, match="s3://faces/some/prefix/a: "):
        location.upload(io.BytesIO(LARGE), "a")
    assert proxy.requests[-1][0] == "DELETE"
    proxy.rule = once()
    assert location.list() == []
    client = s3._client(0)
    assert client.list_multipart_uploads(Bucket="faces")["Uploads"]
    location.abort_uploads(re.compile(".*"))
    assert "Uploads" not in client.list_multipart_uploads(Bucket="faces")


def test_lacking_right_stops_a_run_at_its_start(helen: Path, bucket: str, proxy: FaultyProxy):
    for lacking in (r"GET .*\?uploads.*", r"DELETE .*"):
        proxy.rule = lambda method, path, lacking=lacking: (
            "403" if re.fullmatch(lacking, f"{method} {path}") else None
        )
        with pytest.raises(PermissionError, match="AccessDenied"):
            build(helen, f"{bucket}/out", Recipe(layout="helen"))
        assert all(path.startswith(".parts/") for path in open_location(f"{bucket}/out").list())


@pytest.mark.slow
def test_sharding_gives_the_same_bytes(
    helen: Path, tmp_path: Path, bucket: str, proxy: FaultyProxy
):
    """From bucket to bucket while one request in seven fails, as from folder to folder."""
    build(helen, tmp_path / "out", Recipe(layout="helen", shard_size=2))
    raw, straight = open_location(f"{bucket}/raw"), open_location(tmp_path / "out")
    proxy.rule = some(0.15)
    for path in open_location(helen).list():
        raw.upload((helen / path).open("rb"), path)
    build(raw.url, f"{bucket}/out", Recipe(layout="helen", shard_size=2))
    assert verify(f"{bucket}/out") == []
    assert set(proxy.injected) == set(FAULTS)
    proxy.rule = once()
    out = open_location(f"{bucket}/out")
    assert {path: out.read(path) for path in out.list()} == {
        path: straight.read(path) for path in straight.list()
    }
