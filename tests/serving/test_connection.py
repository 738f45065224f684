"""What a connection takes and refuses: real sockets against a real application with short limits."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
import time

import msgspec
import pytest

from mainspring.serving.app import App, AppOptions
from mainspring.serving.door import Door
from mainspring.serving.endpoint import Endpoint
from mainspring.serving.http import HttpLimits
from mainspring.serving.listeners import listen, turn_away

PREDICT = "/v1/models/flights:predict"
LIMITS = HttpLimits(
    max_body=200_000,
    max_head=8_000,
    max_headers=30,
    max_pipelined=8,
    max_connections=60,
    max_per_client=40,
    head_seconds=0.6,
    body_seconds=0.8,
    write_seconds=0.6,
    idle_seconds=1.0,
)


class Served:
    """An application on a port, on an event loop in a thread."""

    def __init__(self, folder, clock) -> None:
        self._folder, self._clock = folder, clock
        self.ready = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self.thread.start()
        assert self.ready.wait(60)

    async def _run(self) -> None:
        endpoint = Endpoint("flights", self._folder, self._clock)
        endpoint.reload()
        self.door = Door(App(endpoint, AppOptions(limits=LIMITS)).handle, LIMITS)
        listener = listen("127.0.0.1", 0)
        self.port = listener.getsockname()[1]
        self.door.open(listener)
        self.loop = asyncio.get_running_loop()
        self.stopping = asyncio.Event()
        self.ready.set()
        await self.stopping.wait()
        self.door.stop_accepting()
        await self.door.drain(1)
        endpoint.close()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.stopping.set)
        self.thread.join(10)

    def ended_all(self) -> bool:
        return not self.door.connections

    def connect(self) -> socket.socket:
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return raw

    def send(self, data: bytes) -> bytes:
        """Send bytes and return all that comes back until the connection ends or rests."""
        with self.connect() as raw:
            raw.sendall(data)
            return read_all(raw, 0.4)


def read_all(raw: socket.socket, seconds: float) -> bytes:
    raw.settimeout(seconds)
    found = b""
    try:
        while data := raw.recv(65536):
            found += data
    except (TimeoutError, ConnectionResetError):
        pass
    return found


@pytest.fixture
def served(deploy, tmp_path, clock):
    deploy(tmp_path)
    running = Served(tmp_path, clock)
    yield running
    running.stop()


@pytest.fixture
def body(rows):
    return msgspec.json.encode({"instances": rows})


def post(body: bytes, *headers: str, path: str = PREDICT) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


READY = b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\n\r\n"


def test_a_request_may_come_byte_by_byte(served, body):
    with served.connect() as raw:
        for byte in post(body):
            raw.sendall(bytes([byte]))
        assert read_all(raw, 0.3).startswith(b"HTTP/1.1 200 OK\r\n")


def test_pipelined_requests_are_answered_in_order(served, rows):
    bodies = [msgspec.json.encode({"instances": rows[:1] * n}) for n in (1, 2, 3)]
    data = served.send(b"".join([post(bodies[0]), READY, post(b"{"), post(bodies[1]), READY, post(bodies[2])]))
    assert [part[:3] for part in data.split(b"HTTP/1.1 ")[1:]] == [b"200", b"200", b"400", b"200", b"200", b"200"]
    lengths = [
        len(json.loads(part.partition(b"\r\n\r\n")[2]).get("predictions", [])) for part in data.split(b"HTTP/1.1 ")[1:]
    ]
    assert lengths == [1, 0, 0, 2, 0, 3]


def test_a_thousand_pipelined_requests_are_all_answered(served):
    data = served.send(READY * 1000)
    assert data.count(b'{"ready":true,"revision":1}') == 1000


AMBIGUOUS = {
    "both lengths": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    "lengths that differ": b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "a list of lengths": b"Content-Length: 5, 6\r\n\r\nhello",
    "a signed length": b"Content-Length: +5\r\n\r\nhello",
    "a negative length": b"Content-Length: -5\r\n\r\nhello",
    "a length in hex": b"Content-Length: 0x5\r\n\r\nhello",
    "an unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked is not last": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "coding after chunked": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
    "a folded header": b"X-A: 1\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "space before the colon": b"Content-Length : 5\r\n\r\nhello",
    "bare line feeds": b"Content-Length: 5\nX: y\n\nhello",
    "a bare return": b"Content-Length: 5\rX: y\r\n\r\nhello",
    "a nul": b"X-A: a\0b\r\nContent-Length: 0\r\n\r\n",
    "a bad chunk size": b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
    "a huge chunk size": b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "a chunk with a bare line feed": b"Transfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n",
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_requests_that_could_be_read_in_two_ways_are_refused_and_the_connection_ends(served, case):
    start = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\n".encode()
    with served.connect() as raw:
        raw.sendall(start + AMBIGUOUS[case] + READY)
        data = read_all(raw, 0.5)
    assert data.startswith((b"HTTP/1.1 400", b"HTTP/1.1 413"))
    assert data.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in data
    assert "error" in json.loads(data.partition(b"\r\n\r\n")[2])


MALFORMED = {
    "tls": b"\x16\x03\x01\x02\x00\x01\x00",
    "version": b"GET / HTTP/9.9\r\n\r\n",
    "http 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "target": b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "no host": b"GET /ping HTTP/1.1\r\n\r\n",
    "method": b"G\x00T / HTTP/1.1\r\nHost: x\r\n\r\n",
    "percent": b"GET /%ff%fe HTTP/1.1\r\nHost: x\r\n\r\n",
    "words": b"hello world\r\n\r\n",
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_is_not_http_is_a_400(served, case):
    assert served.send(MALFORMED[case]).startswith(b"HTTP/1.1 400")


def test_large_heads_are_a_431(served):
    many = "".join(f"X-{n}: y\r\n" for n in range(40))
    for head in (many, "X: " + "y" * 9_000 + "\r\n"):
        data = served.send(f"GET /ping HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode())
        assert data.startswith(b"HTTP/1.1 431")
    assert served.send(b"GET /" + b"x" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 431")
    with served.connect() as raw:
        raw.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n")
        for _ in range(200):
            try:
                raw.sendall(b"X-A: " + b"y" * 90 + b"\r\n")
            except ConnectionError:
                break
        assert read_all(raw, 0.5).startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize("declared", ["200001", "10000000000", "9" * 18])
def test_a_body_over_the_limit_is_refused_from_its_header(served, declared):
    for path in (PREDICT, "/invocations", "/v2/models/flights/infer", "/v1/endpoints/flights/labels", "/nothing"):
        data = served.send(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {declared}\r\n\r\n".encode())
        assert data.startswith(b"HTTP/1.1 413")
        assert b"connection: close" in data


def test_a_chunked_body_over_the_limit_is_refused_while_it_comes(served):
    with served.connect() as raw:
        raw.sendall(f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(25):
            raw.sendall(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
        assert read_all(raw, 0.5).startswith(b"HTTP/1.1 413")
    assert served.door.buffered == 0


def test_a_chunked_body_is_read(served, body):
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(body[n : n + 7]), body[n : n + 7]) for n in range(0, len(body), 7))
    assert served.send(head + chunks + b"0\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_expectations_are_met_or_refused_before_the_body(served, body):
    with served.connect() as raw:
        raw.sendall(post(b"", "Expect: 100-continue").replace(b"Content-Length: 0", b"Content-Length: %d" % len(body)))
        assert raw.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.sendall(body)
        assert raw.recv(65536).startswith(b"HTTP/1.1 200")
    data = served.send(
        f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\nExpect: 100-continue\r\n\r\n".encode()
    )
    assert data.startswith(b"HTTP/1.1 413")


def test_an_offer_of_another_protocol_is_not_taken_and_the_request_is_answered(served, body):
    data = served.send(post(body, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMA"))
    assert data.startswith(b"HTTP/1.1 200")


def test_slow_clients_are_ended_and_do_not_keep_others_waiting(served, body):
    stalled = []
    for start in (b"", b"PO", b"POST / HTTP/1.1\r\nHost: x\r\n", post(body)[:-5]):
        for _ in range(5):
            raw = served.connect()
            raw.sendall(start)
            stalled.append((start, raw))
    began = time.perf_counter()
    assert served.send(post(body, "Connection: close")).startswith(b"HTTP/1.1 200")
    assert time.perf_counter() - began < 5  # one after the other they would take 12 s
    for start, raw in stalled:
        data = read_all(raw, 4)
        assert data.startswith(b"HTTP/1.1 408") if start else data == b""
        raw.close()
    assert time.perf_counter() - began < 10
    assert served.door.buffered == 0


def test_a_client_that_drips_is_ended_too(served):
    with served.connect() as raw:
        began = time.perf_counter()
        raw.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n")
        try:
            while time.perf_counter() - began < 20:
                raw.sendall(b"X: y\r\n")
                time.sleep(0.1)
        except ConnectionError:
            pass
        assert time.perf_counter() - began < 15


def test_idle_connections_are_closed(served):
    with served.connect() as raw:
        raw.sendall(READY)
        assert raw.recv(1000).startswith(b"HTTP/1.1 200")
        raw.settimeout(5)
        assert raw.recv(1000) == b""


def test_a_client_that_does_not_read_its_answers_is_ended(served, rows):
    body = msgspec.json.encode({"instances": rows * 300})
    with served.connect() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.settimeout(0.3)
        end = time.perf_counter() + 3
        try:
            while time.perf_counter() < end:
                raw.sendall(post(body))
        except (TimeoutError, ConnectionError):
            pass
        end = time.perf_counter() + 6
        while not served.ended_all() and time.perf_counter() < end:
            time.sleep(0.05)
        assert served.ended_all()
    assert served.send(READY).startswith(b"HTTP/1.1 200")


def test_one_address_may_hold_only_so_many_connections(served):
    held = [served.connect() for _ in range(40)]
    time.sleep(0.2)
    data = served.send(READY)
    assert data.startswith(b"HTTP/1.1 503")
    for raw in held:
        raw.close()
    time.sleep(0.2)
    assert served.send(READY).startswith(b"HTTP/1.1 200")


def test_a_client_that_goes_before_the_answer_is_logged_as_not_delivered(served, rows, tmp_path, monkeypatch):
    from mainspring.serving import find_records
    from mainspring.serving.lightgbm import Booster

    predict = Booster.predict

    def slow(self, matrix):
        time.sleep(0.3)
        return predict(self, matrix)

    monkeypatch.setattr(Booster, "predict", slow)
    body = msgspec.json.encode({"instances": rows * 100})
    with served.connect() as raw:
        raw.sendall(post(body, "X-Request-Id: gone"))
        time.sleep(0.1)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    end = time.perf_counter() + 5
    while not (found := find_records(tmp_path / "predictions", "gone")) and time.perf_counter() < end:
        time.sleep(0.05)
    assert [(record.status, record.delivered) for record in found] == [(200, False)]


def test_head_requests_get_no_body(served):
    data = served.send(b"HEAD /ping HTTP/1.1\r\nHost: x\r\n\r\n" + READY)
    first, _, rest = data.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200")
    assert rest.startswith(b"HTTP/1.1 200")


def test_http_1_0_connections_end_after_the_answer(served):
    with served.connect() as raw:
        raw.sendall(b"GET /ping HTTP/1.0\r\n\r\n")
        data = read_all(raw, 1)
    assert data.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in data


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux filters a listening socket")
def test_who_is_turned_away_is_ignored_and_who_was_connecting_is_let_in():
    with listen("127.0.0.1", 0) as listener:
        address = listener.getsockname()
        with socket.create_connection(address, timeout=5) as waiting:
            turn_away(listener)
            with pytest.raises(TimeoutError):
                socket.create_connection(address, timeout=0.3)
            waiting.sendall(b"here")
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.recv(10) == b"here"
