"""Transports of an application's own: subclasses of kombu's, which are never replaced by native ones."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from kombu.transport.filesystem import Channel as FilesystemChannel
from kombu.transport.filesystem import Transport as FilesystemTransport
from kombu.transport.pyamqp import Transport as PyamqpTransport
from kombu.transport.redis import Transport as RedisTransport


class SubclassedRedis(RedisTransport):
    """Redis as kombu speaks it."""


class SubclassedRabbitmq(PyamqpTransport):
    """RabbitMQ as kombu speaks it."""


class AtomicChannel(FilesystemChannel):
    """kombu's writes a message into a file that consumers see already: one of them may read it empty, and loses it."""

    def _put(self, queue: str, payload: Any, **options: Any) -> None:
        folder = self.data_folder_out
        with tempfile.TemporaryDirectory(dir=os.path.dirname(folder)) as private:
            self.data_folder_out = private
            try:
                super()._put(queue, payload, **options)
                for name in os.listdir(private):
                    os.rename(os.path.join(private, name), os.path.join(folder, name))
            finally:
                self.data_folder_out = folder


class AtomicFilesystem(FilesystemTransport):
    """Files as kombu writes and reads them, made visible when they are whole."""

    Channel = AtomicChannel
