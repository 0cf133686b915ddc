"""A whole run: every subject, every round, interleaved."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pyworker.bench.errors import BenchError
from pyworker.bench.figures import mean_and_deviation, numbers
from pyworker.bench.machine import describe
from pyworker.bench.peers.registry import find_peer
from pyworker.bench.places import require_place
from pyworker.bench.session import measure

if TYPE_CHECKING:
    from pyworker.bench.figures import Figures
    from pyworker.bench.options import BenchOptions
    from pyworker.bench.progress import Reporter


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was measured: for each subject its rounds, the first subject being the one under test."""

    options: BenchOptions
    machine: dict[str, str]
    subjects: dict[str, list[Figures]]

    def problems(self) -> list[str]:
        """Return everything that was wrong, with the subject's name."""
        return [
            f"{name}: {problem}"
            for name, rounds in self.subjects.items()
            for item in rounds
            for problem in item.problems
        ]

    def ratio(self, name: str, to_subject: str) -> float | None:
        """Return the first subject's mean figure divided by another's."""
        own = mean_and_deviation(next(iter(self.subjects.values())), name)
        other = mean_and_deviation(self.subjects[to_subject], name)
        return own[0] / other[0] if own and other and other[0] else None

    def as_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        others = list(self.subjects)[1:]
        return {
            "options": asdict(self.options),
            "machine": self.machine,
            "subjects": {name: [item.as_dict() for item in rounds] for name, rounds in self.subjects.items()},
            "ratios": {
                other: {name: self.ratio(name, other) for name in numbers() if self.ratio(name, other) is not None}
                for other in others
            },
            "problems": self.problems(),
        }


def run(options: BenchOptions, reporter: Reporter) -> Outcome:
    """Measure the worker and those it is compared with, one after the other, round by round.

    Raises:
        BenchError: one of them cannot be measured.
    """
    if options.tasks < 1 or options.rounds < 1 or options.concurrency < 1:
        raise BenchError("tasks, rounds and concurrency must be at least 1")
    for name in (options.worker, *options.compare):
        require_place(name, options.broker)
    payload = "x" * options.payload_bytes
    machine = describe()  # before anything runs: the load in it is that of others
    peers = [find_peer(name, app_kind=options.app_kind, payload=payload) for name in (options.worker, *options.compare)]
    subjects: dict[str, list[Figures]] = {peer.name: [] for peer in peers}
    for _round in range(options.rounds):
        for position, peer in enumerate(peers):
            subjects[peer.name].append(measure(peer, options.for_compared() if position else options, reporter))
    return Outcome(options=options, machine=machine, subjects=subjects)
