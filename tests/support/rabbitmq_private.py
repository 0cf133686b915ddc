"""A RabbitMQ node of one test module, which may be stopped, killed, starved and reconfigured."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from kombu import Connection

from pyworker.bench.rabbitmq_server import RabbitmqServer
from support.rabbitmq_server import ONE_SCHEDULER

if TYPE_CHECKING:
    from typing_extensions import Self

#: Reads expressions line by line, evaluates each on the node and prints what it is.
_LOOP = """
Node = list_to_atom("{node}"),
Loop = fun Loop() ->
    case io:get_line("") of
        eof -> halt();
        Line ->
            {{ok, Tokens, _}} = erl_scan:string(Line),
            {{ok, Expressions}} = erl_parse:parse_exprs(Tokens),
            io:format("~0p~n", [rpc:call(Node, erl_eval, exprs, [Expressions, []])]),
            Loop()
    end
end,
Loop().
"""
_MEMORY_ALARM = "{resource_limit, memory, node()}"


class PrivateRabbitmq(RabbitmqServer):
    """A node with a console; signs of life every second, so that a silent death is noticed soon."""

    def __init__(self) -> None:
        super().__init__(settings="heartbeat = 1\n", erlang_arguments=ONE_SCHEDULER)
        self._console: subprocess.Popen[str] | None = None

    def evaluate(self, expression: str) -> str:
        """Evaluate an Erlang expression on the node; returns what it is, as text."""
        if self._console is None:
            self._console = self._open_console()
        assert self._console.stdin is not None
        assert self._console.stdout is not None
        self._console.stdin.write(f"{expression}.\n")
        self._console.stdin.flush()
        answer = self._console.stdout.readline().strip()
        assert not answer.startswith("{badrpc"), answer
        return answer

    def _open_console(self) -> subprocess.Popen[str]:
        cookie = (self.directory / ".erlang.cookie").read_text().strip()
        return subprocess.Popen(
            [
                "erl", "-noshell", "-hidden", "-start_epmd", "false", "-setcookie", cookie,
                "-sname", f"console{os.getpid()}x{self.port}@localhost", "-eval", _LOOP.format(node=self.node_name),
            ],
            env=self.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def block(self) -> None:
        """Raise the memory alarm: the node reads no more from those that publish."""
        assert self.evaluate(f"rabbit_alarm:set_alarm({{{_MEMORY_ALARM}, []}})") == "{value,ok,[]}"

    def unblock(self) -> None:
        """Clear the alarm."""
        assert self.evaluate(f"rabbit_alarm:clear_alarm({_MEMORY_ALARM})") == "{value,ok,[]}"

    def close_console(self) -> None:
        """End the console; the next expression opens another."""
        console, self._console = self._console, None
        if console is not None:
            console.kill()
            console.communicate()

    def stop_node(self) -> None:
        """Stop the node as an operator does."""
        self.close_console()
        super().stop_node()

    def kill_node(self) -> None:
        """Kill the node as a crash does."""
        self.close_console()
        super().kill_node()

    def stop(self) -> None:
        """End everything."""
        self.close_console()
        super().stop()

    def restart_server(self) -> None:
        """Stop the server and start it again in its virtual machine, as ``stop_app`` and ``start_app`` do."""
        for step in ("stop", "start"):
            assert self.evaluate(f"rabbit:{step}()") == "{value,ok,[]}"

    def delete_queue(self, name: str = "celery") -> None:
        """Delete a queue with everything in it."""
        with Connection(self.url()) as connection:
            connection.default_channel.queue_delete(name)

    def __enter__(self) -> Self:
        super().__enter__()
        return self


class PrivateHost:
    """A private node's default virtual host, as :class:`support.rabbitmq_stage.RabbitmqStage` knows one."""

    def __init__(self, node: PrivateRabbitmq) -> None:
        self.node = node
        self.url = node.url()

    def start(self) -> Self:
        """The node is there already."""
        return self

    def close(self) -> None:
        """It stays; what is in the queue goes."""
        self.node.delete_queue()

    def waiting(self, name: str = "celery") -> int:
        """Return how many messages are ready in a queue."""
        return self._count(name, "messages_ready")

    def is_drained(self, name: str = "celery") -> bool:
        """Whether the queue is empty and nothing is held."""
        return self._count(name, "messages") == 0

    def is_bound(self, name: str, exchange: str) -> bool:
        """Whether what is published to the exchange reaches the queue; a queue is there before its binding is."""
        source, destination = _resource("exchange", exchange), _resource("queue", name)
        answer = self.node.evaluate(f"length(rabbit_binding:list_for_source_and_destination({source}, {destination}))")
        # {value,1,[]}
        return int(answer.removeprefix("{value,").partition(",")[0]) > 0

    def _count(self, name: str, what: str) -> int:
        queue = f"rabbit_amqqueue:lookup({_resource('queue', name)})"
        answer = self.node.evaluate(f"rabbit_amqqueue:info(element(2, {queue}), [{what}])")
        # {value,[{messages,3}],[]}
        return int(answer.partition(f"{{{what},")[2].partition("}")[0])


def _resource(kind: str, name: str) -> str:
    return f'rabbit_misc:r(<<"/">>, {kind}, <<"{name}">>)'
