"""The shop's tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import shared_task
from celery.utils.log import get_task_logger
from django.contrib.auth.models import User

if TYPE_CHECKING:
    from celery import Task

logger = get_task_logger(__name__)


@shared_task
def add(x: int, y: int) -> int:
    logger.info("adding %s and %s", x, y)
    return x + y


@shared_task
def fail(text: str) -> None:
    raise ValueError(text)


@shared_task(bind=True, max_retries=2)
def retry_once(self: Task) -> str:
    if not self.request.retries:
        raise self.retry(exc=ConnectionError("later"), countdown=0)
    return "second time"


@shared_task
def register(name: str) -> int:
    User.objects.create(username=name)
    return User.objects.filter(username=name).count()


@shared_task(throws=(KeyError,))
def expected() -> None:
    raise KeyError("expected")


@shared_task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@shared_task(ignore_result=True)
def silent() -> Any:
    print("printed by a silent task")
