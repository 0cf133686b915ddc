"""Gossip between a stock worker and ours: each hears the other come, and ours hears it go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.kinds import STOCK
from support.stage import Stage

if TYPE_CHECKING:
    from support.kinds import Kind

pytestmark = [pytest.mark.lanes("fast"), pytest.mark.slow]
_DEADLINE_S = 120.0


def test_a_stock_worker_and_ours_hear_of_each_other(kind: Kind) -> None:
    with Stage(kind, options=("-c", "1", "-n", "ours@%h"), loglevel="DEBUG") as stage:
        ours = stage.worker
        stock = stage.new_worker(STOCK, options=("-c", "1", "-n", "stock@%h")).start(deadline_s=_DEADLINE_S)
        ours.wait_for_line(rf"{stock.node_name} joined the party", deadline_s=_DEADLINE_S)
        stock.wait_for_line(rf"{ours.node_name} joined the party", deadline_s=_DEADLINE_S)
        stock.stop(deadline_s=_DEADLINE_S)
        ours.wait_for_line(rf"{stock.node_name} left", deadline_s=_DEADLINE_S)
