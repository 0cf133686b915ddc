"""One short test of each broker that has no part in the scenarios: tasks go there and come back from there."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.conformance_stage import ConformanceStage

#: The client that kombu's Consul transport needs says of parts of itself for which servers they are.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Consul 1.4.0 deprecates the legacy ACL:DeprecationWarning",
    r"ignore:1\.\d\.0\+. The .* API is available in Consul:DeprecationWarning",
)


def test_smoke(stage: ConformanceStage) -> None:
    note = f"retried-{secrets.token_hex(4)}"
    sent = [stage.call("add", number, number) for number in range(10)]
    late = [stage.call("add_late", number, 1) for number in range(5)]
    assert [stage.get(result) for result in sent] == [2 * number for number in range(10)]
    assert [stage.get(result) for result in late] == [number + 1 for number in range(5)]
    assert stage.get(stage.call("retried", note)) == 2
    assert stage.get(stage.call("noted", note, "later", countdown=1)) == "later"
    assert stage.worker.stop() == 0
