"""What an application has put in the place of kombu's own serializers; finding out loads nothing."""

from __future__ import annotations

import sys


def json_is_kombus() -> bool:
    """Whether ``json`` is kombu's own serializer: an application may have registered another one under that name.

    A process that has not loaded kombu has registered nothing.
    """
    serialization = sys.modules.get("kombu.serialization")
    if serialization is None:
        return True
    codec = serialization.registry._encoders.get("json")
    return codec is not None and codec.encoder is sys.modules["kombu.utils.json"].dumps
