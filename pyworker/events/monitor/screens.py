"""The monitor's smaller screens: details, a question, an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.table import Table
from rich.text import Text
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Label, Static

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult
    from textual.binding import BindingType


class Details(ModalScreen[None]):
    """Names and values, and longer texts below them.

    Args:
        title: the first line.
        fields: names and values.
        texts: headings and texts.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape", "dismiss", "Back"), ("enter", "dismiss", "Back"), ("q", "dismiss", "Back"),
    ]  # fmt: skip

    def __init__(
        self, title: str, fields: Sequence[tuple[str, str]] = (), texts: Sequence[tuple[str, str]] = ()
    ) -> None:
        super().__init__()
        self._title = title
        self._fields = fields
        self._texts = texts

    def compose(self) -> ComposeResult:
        """A scrollable box."""
        with VerticalScroll(classes="box"):
            yield Label(Text(self._title, style="bold"))
            if self._fields:
                table = Table.grid(padding=(0, 2))
                for name, value in self._fields:
                    table.add_row(Text(name, style="dim"), Text(value))
                yield Static(table)
            for heading, text in self._texts:
                yield Label(Text(f"\n{heading}", style="bold"))
                yield Static(Text(text))

    async def action_dismiss(self, result: None = None) -> None:
        """Go back."""
        self.dismiss(result)


class Question(ModalScreen[str | None]):
    """Asks for a line.

    Args:
        question: what is asked.
        value: what is there already.
    """

    BINDINGS: ClassVar[list[BindingType]] = [("escape", "give_up", "Back")]

    def __init__(self, question: str, value: str = "") -> None:
        super().__init__()
        self._question = question
        self._value = value

    def compose(self) -> ComposeResult:
        """The question and a line to write in."""
        with Vertical(classes="box question"):
            yield Label(Text(self._question, style="bold"))
            yield Input(value=self._value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Give the line."""
        self.dismiss(event.value.strip() or None)

    def action_give_up(self) -> None:
        """Go back without an answer."""
        self.dismiss(None)
