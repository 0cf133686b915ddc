"""When a failed publish is tried again: ``task_publish_retry`` and its policy, the same for every broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pyworker._native import NativeError
from pyworker.exceptions import OperationalError

if TYPE_CHECKING:
    from pyworker.conf import Settings


class PublishRetry:
    """The application's rule for publishing again."""

    def __init__(self, conf: Settings) -> None:
        self._policy: Mapping[str, Any] | None = None
        if conf.task_publish_retry:
            self._policy = dict(conf.task_publish_retry_policy or {})

    def again(
        self, publish: Callable[[], None], error: NativeError, retry: bool | None, policy: Mapping[str, Any] | None
    ) -> None:
        """Publish again after a first failure, as often as the rule allows.

        Args:
            publish: makes one attempt.
            error: how the first attempt failed.
            retry: whether to try again at all; ``None`` leaves it to the settings.
            policy: what this call changes in the settings' policy.

        Raises:
            OperationalError: the last attempt's error, or the first one if it is not to be repeated.
        """
        rule = {**(self._policy or {}), **(policy or {})}
        allowed = self._policy is not None if retry is None else retry
        limit = rule.get("max_retries", 3)
        wait_s = float(rule.get("interval_start", 0) or 0)
        attempts = 0
        while allowed and error.retryable and (limit is None or attempts < limit):
            attempts += 1
            time.sleep(wait_s)
            wait_s = min(wait_s + float(rule.get("interval_step", 0.2) or 0), float(rule.get("interval_max", 1) or 0))
            try:
                return publish()
            except NativeError as again:
                error = again
        raise OperationalError(str(error)) from error
