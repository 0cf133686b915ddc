"""A stock Celery application that connects to nothing."""

from __future__ import annotations

from celery import Celery, Task

number = 1
app = Celery("plain", broker="redis://localhost:1/0", set_as_current=False)


@app.task
def add(x: int, y: int) -> int:
    return x + y


class Called(Task):
    """A task class with a call of its own."""

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self.run(*args, **kwargs)


@app.task(base=Called)
def called() -> None:
    """Is run by Celery's tracer."""
