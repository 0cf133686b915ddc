"""kombu's Pyro transport, which knows one port for the name server alone, with another one."""

from __future__ import annotations

import os

from kombu.transport.pyro import Transport


class PyroElsewhere(Transport):
    """Pyro with a name server on a port of the test's."""

    default_port = int(os.environ["TEST_PYRO_PORT"])
