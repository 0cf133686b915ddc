"""Boot steps without an engine: the application's own steps run, Celery's are replaced by ours or left out.

A step of the application may require Celery's ``Pool`` or ``Tasks`` step by name; the dependency graph therefore keeps
every step's name and order, but the classes behind Celery's own names are those of this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import bootsteps
from celery.utils.graph import DependencyGraph
from celery.worker import components
from celery.worker.autoscale import WorkerComponent

from pyworker.compat.celery.autoscaling import autoscaler_class
from pyworker.compat.celery.event_steps import ConnectionStep, EventsStep, GossipStep, HeartStep, MingleStep
from pyworker.worker.liveness import hanging_up_after

if TYPE_CHECKING:
    from collections.abc import Mapping

#: How long the goodbyes of all steps may take, in seconds.
_GOODBYE_S = 5.0
#: Celery's own steps that work without its engine.
_KEPT = (components.Timer, components.StateDB, WorkerComponent)


class InertStep(bootsteps.Step):
    """Stands for a step whose work the engine does; never included."""

    enabled = False


class _PoolStep(bootsteps.StartStopStep):
    """Gives the worker its view of the native pool."""

    name = "celery.worker.components.Pool"

    def __init__(self, worker: Any, autoscale: Any = None, **options: Any) -> None:
        worker.max_concurrency, worker.min_concurrency = None, worker.concurrency
        if isinstance(autoscale, str):
            highest, _, lowest = autoscale.partition(",")
            autoscale = [int(highest), int(lowest) if lowest else 0]
        worker.autoscale = autoscale
        if autoscale:
            worker.max_concurrency, worker.min_concurrency = autoscale
        worker.pool = worker.make_pool()
        if autoscale:
            worker.autoscaler_cls = autoscaler_class(worker.autoscaler_cls, worker.pool)
        super().__init__(worker, **options)

    def info(self, worker: Any) -> dict[str, Any]:
        return {"pool": worker.pool.info}


class _ConsumerStep(bootsteps.StartStopStep):
    """Gives the worker its consumer; started when the engine consumes."""

    name = "celery.worker.components.Consumer"
    requires = (_PoolStep,)
    last = True

    def create(self, worker: Any) -> None:
        worker.consumer = worker.make_consumer()

    def start(self, worker: Any) -> None:
        consumer = worker.consumer
        consumer.blueprint.start(consumer)

    def stop(self, worker: Any) -> None:
        with hanging_up_after(_GOODBYE_S, worker.consumer.connection):
            worker.consumer.stop()


class _TasksStep(bootsteps.StartStopStep):
    """Gives the consumer its strategies and the queues being consumed from."""

    name = "celery.worker.consumer.tasks.Tasks"
    requires = (ConnectionStep,)

    def start(self, consumer: Any) -> None:
        consumer.update_strategies()
        # Bound to no channel: it answers which queues there are, and the engine consumes.
        consumer.task_consumer = consumer.app.amqp.TaskConsumer(None)

    def info(self, consumer: Any) -> dict[str, Any]:
        return {"prefetch_count": consumer.qos.value}


_REPLACED: Mapping[str, type[bootsteps.Step]] = {
    step.name: step
    for step in (_PoolStep, _ConsumerStep, ConnectionStep, _TasksStep, EventsStep, HeartStep, MingleStep, GossipStep)
}


def _stand_in(step: Any, made: dict[str, Any]) -> Any:
    """Return what runs in a step's place."""
    if step in _KEPT or not step.__module__.startswith("celery.worker."):
        return step
    if step.name in _REPLACED:
        return _REPLACED[step.name]
    if step.name not in made:
        made[step.name] = type(step.__name__, (InertStep,), {"name": step.name, "__module__": __name__})
    return made[step.name]


class EngineBlueprint(bootsteps.Blueprint):
    """A blueprint whose Celery steps are replaced."""

    def _finalize_steps(self, steps: dict[str, Any]) -> Any:
        self._firstpass(steps)
        made: dict[str, Any] = {}
        chosen = {step: [_stand_in(needed, made) for needed in step.requires] for step in steps.values()}
        graph = DependencyGraph((_stand_in(step, made), needed) for step, needed in chosen.items())
        last = next((step for step in graph if step.last), None)
        if last is not None:
            for step in graph:
                if step is not last:
                    graph.add_edge(last, step)
        self.graph = graph
        steps.clear()
        steps.update({step.name: step for step in graph})
        return graph.topsort()


class WorkerBlueprint(EngineBlueprint):
    """The worker's steps."""

    name = "Worker"
    default_steps = (components.Timer, components.StateDB, _PoolStep, WorkerComponent, _ConsumerStep)


class ConsumerBlueprint(EngineBlueprint):
    """The consumer's steps."""

    name = "Consumer"
    default_steps = (ConnectionStep, EventsStep, MingleStep, GossipStep, HeartStep, _TasksStep)

    def shutdown(self, parent: Any) -> None:
        """Let every step close what it holds."""
        self.send_all(parent, "shutdown")
