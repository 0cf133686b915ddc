"""The fields of a crontab entry: texts to sets of numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple


class Field(NamedTuple):
    """One field: its name, its range, and words that stand for numbers."""

    name: str
    lowest: int
    highest: int
    words: tuple[str, ...] = ()

    def numbers(self, value: Any) -> set[int]:
        """Return the numbers that a value names: a number, numbers, or a text in crontab's notation.

        Raises:
            ValueError: it names none, or one out of range.
            TypeError: it is no number, numbers or text.
        """
        if isinstance(value, str):
            found = set().union(*(self._part(part.strip()) for part in value.split(",")))
        elif isinstance(value, int):
            found = {value}
        elif isinstance(value, Iterable):
            found = set(value)
        else:
            raise TypeError(f"{self.name}: {value!r} is no number, numbers or text")
        wrong = sorted(number for number in found if not self.lowest <= number <= self.highest)
        if wrong or not found:
            raise ValueError(f"{self.name}: {value!r} must be from {self.lowest} to {self.highest}")
        return found

    def _part(self, text: str) -> set[int]:
        """One part between commas: ``*``, ``5``, ``mon``, ``1-7``, each with ``/step``."""
        span, _, step_text = text.partition("/")
        if span == "*":
            numbers = list(range(self.lowest, self.highest + 1))
        elif "-" in span.lstrip("-"):
            numbers = self._span(text, *span.split("-", 1))
        else:
            numbers = [self._number(span)]
        if "/" not in text:
            return set(numbers)
        if not step_text.isdigit() or int(step_text) == 0:
            raise ValueError(f"{self.name}: the step of {text!r} is no positive number")
        return set(numbers[:: int(step_text)])

    def _span(self, text: str, first: str, last: str) -> list[int]:
        begin, end = self._number(first), self._number(last)
        if begin <= end:
            return list(range(begin, end + 1))
        # Over the end: fri-mon, 22-4.
        return [*range(begin, self.highest + 1), *range(self.lowest, end + 1)]

    def _number(self, text: str) -> int:
        if text.isdigit():
            number = int(text)
            return 0 if self.words and self.words[0] == "sun" and number == 7 else number
        word = text.lower()[:3]
        if len(text) >= 3 and word in self.words:
            return self.words.index(word) + self.lowest
        raise ValueError(f"{self.name}: {text!r} cannot be read")


MINUTES = Field("minute", 0, 59)
HOURS = Field("hour", 0, 23)
DAYS_OF_WEEK = Field("day_of_week", 0, 6, ("sun", "mon", "tue", "wed", "thu", "fri", "sat"))
DAYS_OF_MONTH = Field("day_of_month", 1, 31)
MONTHS = Field(
    "month_of_year", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
)
