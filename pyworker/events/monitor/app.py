"""The monitor: workers above, tasks below, newest first; keys as in Celery's own terminal monitor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual.app import App
from textual.containers import Vertical
from textual.widgets import DataTable, Footer, Static

from pyworker.events.monitor import describing
from pyworker.events.monitor.feed import Feed
from pyworker.events.monitor.screens import Details, Question

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.binding import BindingType

    from pyworker.operations.protocol import Operations

_REFRESH_S = 0.25
#: So many tasks are listed; more would be slow to draw, and older ones have scrolled away anyway.
_TASKS_SHOWN = 500
_ANSWER_S = 2.0


class Monitor(App[None]):
    """The application of ``pyworker events``.

    Args:
        operations: the application under its operator's hands.
        feed: what receives the events; one of its own if not given.
    """

    TITLE = "pyworker events"
    CSS = """
    #summary { height: 1; background: $panel; padding: 0 1; }
    #workers { height: auto; max-height: 30%; }
    #tasks { height: 1fr; }
    Details, Question { align: center middle; }
    .box { width: 90%; height: auto; max-height: 90%; border: round $primary; background: $surface; padding: 0 1; }
    .question { width: 60%; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        ("i", "info", "Info"), ("r", "result", "Result"), ("t", "traceback", "Traceback"), ("c", "revoke", "Revoke"),
        ("T", "terminate", "Terminate"), ("l", "rate_limit", "Rate limit"), ("w", "worker", "Worker"),
        ("e", "enable_events", "Enable events"), ("q", "quit", "Quit"), ("j", "move(1)", ""), ("k", "move(-1)", ""),
    ]  # fmt: skip

    def __init__(self, operations: Operations, feed: Feed | None = None) -> None:
        super().__init__()
        self._operations = operations
        self.feed = feed or Feed(operations)
        self._drawn_version = -1

    # -- life

    def compose(self) -> ComposeResult:
        """The parts from top to bottom."""
        yield Static(id="summary")
        with Vertical():
            yield DataTable(id="workers", cursor_type="row")
            yield DataTable(id="tasks", cursor_type="row")
        yield Footer()

    def on_mount(self) -> None:
        """Begin to receive and to draw."""
        self._table("workers").add_columns(*describing.WORKER_COLUMNS)
        self._table("tasks").add_columns(*describing.TASK_COLUMNS)
        self._table("tasks").focus()
        self.feed.start()
        self.draw()
        self.set_interval(_REFRESH_S, self.draw)

    def on_unmount(self) -> None:
        """End the feed."""
        self.feed.stop()

    # -- drawing

    def draw(self) -> None:
        """Show what is known by now, if anything is new."""
        feed = self.feed
        alive = {worker.hostname: worker.alive for worker in feed.state.workers.values()}
        version = hash((feed.version, tuple(sorted(alive.items()))))
        if version == self._drawn_version:
            return
        self._drawn_version = version
        summary = (
            f"workers {sum(alive.values())}/{len(alive)}   tasks {feed.state.task_count}   "
            f"events {feed.state.event_count}"
        )
        self.query_one("#summary", Static).update(
            Text(f"{summary}   {feed.trouble}" if feed.trouble else summary, style="bold")
        )
        workers = sorted(feed.state.workers.values(), key=lambda worker: str(worker.hostname))
        self._fill("workers", {str(each.hostname): describing.worker_row(each, feed.counts) for each in workers})
        self._fill("tasks", {str(key): describing.task_row(task) for key, task in self._newest()})

    def _newest(self) -> list[tuple[str, Any]]:
        found: list[tuple[str, Any]] = []

        def look() -> None:
            for pair in self.feed.state.tasks_by_time():
                found.append(pair)
                if len(found) >= _TASKS_SHOWN:
                    return

        self.feed.state.freeze_while(look)
        return found

    def _fill(self, table_id: str, rows: dict[str, tuple[str, ...]]) -> None:
        """Put rows into a table; the cursor stays on its row, wherever that has moved to."""
        table = self._table(table_id)
        selected = self._selected(table_id)
        offset = table.scroll_offset
        table.clear()
        for key, cells in rows.items():
            table.add_row(*(Text(cell, style=describing.state_color(cell)) for cell in cells), key=key)
        if selected is not None and selected in rows:
            table.move_cursor(row=table.get_row_index(selected), animate=False, scroll=False)
        table.scroll_to(offset.x, offset.y, animate=False)

    def _table(self, table_id: str) -> DataTable[Text]:
        return self.query_one(f"#{table_id}", DataTable)

    def _selected(self, table_id: str) -> str | None:
        table = self._table(table_id)
        if not table.is_valid_row_index(table.cursor_row):
            return None
        return table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value

    def _chosen(self) -> Any:
        """The task under the cursor, ``None`` if there is none."""
        key = self._selected("tasks")
        return None if key is None else self.feed.state.tasks.get(key)

    # -- looking

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Enter shows what is under the cursor."""
        if event.data_table.id == "workers":
            self.action_worker()
        else:
            self.action_info()

    def action_move(self, rows: int) -> None:
        """Move the cursor in the table that has the focus."""
        table = self.focused
        if isinstance(table, DataTable):
            table.move_cursor(row=table.cursor_row + rows)

    def action_info(self) -> None:
        """Show the task, its result and its traceback."""
        task = self._chosen()
        if task is not None:
            texts = [("result", task.result), ("exception", task.exception), ("traceback", task.traceback)]
            shown = [(heading, str(text)) for heading, text in texts if text is not None]
            self.push_screen(Details(f"Task {task.name}", describing.task_details(task), shown))

    def action_result(self) -> None:
        """Show the task's result or exception."""
        task = self._chosen()
        if task is not None:
            told = task.result if task.exception is None else task.exception
            self.push_screen(Details(f"Result of {task.name} [{task.uuid}]", texts=[(task.state, str(told))]))

    def action_traceback(self) -> None:
        """Show the task's traceback."""
        task = self._chosen()
        if task is not None:
            text = task.traceback or "the task has none"
            self.push_screen(Details(f"Traceback of {task.name} [{task.uuid}]", texts=[(task.state, str(text))]))

    def action_worker(self) -> None:
        """Show the worker: of the upper table when that has the focus, else that of the task."""
        task = self._chosen()
        name = self._selected("workers")
        if self.focused is not None and self.focused.id == "tasks" and task is not None and task.worker is not None:
            name = str(task.worker.hostname)
        worker = self.feed.state.workers.get(name)
        if worker is not None:
            self.push_screen(Details(f"Worker {name}", describing.worker_details(worker, self.feed.counts)))

    # -- doing

    def action_revoke(self) -> None:
        """Have the task not started."""
        self._revoke(terminate=False)

    def action_terminate(self) -> None:
        """Have the task not started, or ended if it runs."""
        self._revoke(terminate=True)

    def _revoke(self, *, terminate: bool) -> None:
        task = self._chosen()
        if task is not None:
            task_id = str(task.uuid)
            self._tell("revoke", task_id=task_id, terminate=terminate, signal="SIGTERM")

    def action_rate_limit(self) -> None:
        """Ask for a rate limit and set it for the task's type."""
        task = self._chosen()
        if task is None or task.name is None:
            return
        name = str(task.name)

        def set_limit(rate: str | None) -> None:
            if rate is not None:
                self._tell("rate_limit", task_name=name, rate_limit=rate)

        self.push_screen(Question(f"Rate limit of {name}, such as 10/m; 0 for none:"), set_limit)

    def action_enable_events(self) -> None:
        """Have all workers send task events."""
        self._tell("enable_events")

    def _tell(self, command: str, **arguments: Any) -> None:
        """Send a command from another thread and show what the workers answer."""

        def ask() -> None:
            try:
                replies = self._operations.control.broadcast(
                    command, arguments=arguments, reply=True, timeout=_ANSWER_S
                )
                text = describing.replies_text(replies)
            except Exception as error:  # whatever the transport raises is shown
                text = f"cannot be sent: {error}"
            self.call_from_thread(self.push_screen, Details(f"{command}: answers", texts=[("", text)]))

        self.run_worker(ask, thread=True, exit_on_error=False)
