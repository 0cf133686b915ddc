"""Asks for a page again and again, from a process of its own: ``python -m bench.prober HOST:PORT PATH REQUESTS``.

Prints the milliseconds that each answer took, a JSON list. With ``answer`` as its only argument it is the other side
instead: a responder that does nothing but answer, to tell a server's own time from that of a machine at its limit.
"""

from __future__ import annotations

import json
import socket
import sys
import time

#: Probes come now and then, not in a stream.
_PAUSE_S = 0.002


def ask(address: str, path: str, requests: int) -> list[float]:
    """Return the times of ``requests`` answers in milliseconds, from the connection to its end."""
    host, _, port = address.rpartition(":")
    request = f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode()
    times = []
    for _ in range(requests):
        began = time.perf_counter()
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(request)
            answer = b""
            while received := connection.recv(1 << 16):
                answer += received
        times.append((time.perf_counter() - began) * 1000)
        assert answer.startswith(b"HTTP/1.1 200 "), answer[:100]
        time.sleep(_PAUSE_S)
    return times


def answer_forever() -> None:
    """Say where, then answer everybody with the same page."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(f"127.0.0.1:{server.getsockname()[1]}", flush=True)
        while True:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 12)
                connection.sendall(answer)


if __name__ == "__main__":
    if sys.argv[1:] == ["answer"]:
        answer_forever()
    print(json.dumps(ask(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
