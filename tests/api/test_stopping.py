"""What others see of a server that is told to stop."""

from __future__ import annotations

import socket
import time
from urllib.parse import urlsplit


def test_a_server_that_is_told_to_stop_is_no_longer_found_while_it_finishes(own_server):
    own_server.start()
    address = urlsplit(own_server.url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(b"POST /api/2.0/mlflow/runs/create HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        time.sleep(0.3)
        own_server.process.terminate()
        deadline = time.monotonic() + 2
        while own_server.state.exists():
            assert time.monotonic() < deadline, "it would still be given work"
            time.sleep(0.01)
        assert own_server.process.poll() is None, "it finishes what it has begun"
    assert own_server.process.wait(20) == 0
