"""A TCP proxy before a server whose connections can be reset, or die without a word."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

_READ_BYTES = 1 << 16
_RESET = struct.pack("ii", 1, 0)


class _Pair:
    """A client's connection and the one to the server."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._ends = (client, server)
        self.is_frozen = False
        for source, target in ((client, server), (server, client)):
            threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(_READ_BYTES):
                if not self.is_frozen:
                    target.sendall(piece)
        # Of a frozen pair neither end hears of the other's.
        for end in (source,) if self.is_frozen else self._ends:
            self._close(end)

    @staticmethod
    def _close(end: socket.socket) -> None:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()

    def reset(self) -> None:
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                # Wakes the pump, which still holds the descriptor; the reset leaves with the last close.
                end.shutdown(socket.SHUT_RD)
            end.close()

    def close(self) -> None:
        for end in self._ends:
            self._close(end)


class TcpGate:
    """Passes bytes on to a port of 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[_Pair] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _address = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    client.close()
                    continue
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._pairs.append(_Pair(client, server))

    def reset(self) -> None:
        """Reset every connection."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            pair.reset()

    def freeze(self) -> None:
        """Let every present connection die without a word: it stays open and carries nothing. New ones work."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            pair.is_frozen = True

    def close(self) -> None:
        """Close everything."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for pair in self._pairs:
            pair.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
