"""Which result led to which: a graph that can be printed and drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import IO, Any

__all__ = ["CycleError", "DependencyGraph", "GraphFormatter"]

_INDENT = "    "


class GraphFormatter:
    """Writes the parts of a drawing in Graphviz's language; to be overridden.

    Args:
        root: the id of the first result.
        type: ``digraph`` or ``graph``.
        id: the drawing's name.
        scheme: attributes of nodes and edges.
    """

    scheme: Mapping[str, Any] = {"shape": "box", "arrowhead": "vee", "style": "filled", "fontname": "HelveticaNeue"}
    edge_scheme: Mapping[str, Any] = {"color": "darkseagreen4", "arrowcolor": "black", "arrowsize": 0.7}
    node_scheme: Mapping[str, Any] = {"fillcolor": "palegreen3", "color": "palegreen4"}
    term_scheme: Mapping[str, Any] = {"fillcolor": "palegreen1", "color": "palegreen2"}
    graph_scheme: Mapping[str, Any] = {"bgcolor": "mintcream"}

    def __init__(self, root: Any = None, type: str = "digraph", id: str = "dependencies", **scheme: Any) -> None:
        self.type = type
        self.id = id
        self.arrow = "->" if type == "digraph" else "--"
        self.scheme = {**self.scheme, **scheme}
        self.graph_scheme = {**self.graph_scheme, "root": self.label(root)}

    def label(self, obj: Any) -> Any:
        """Return what stands for an object."""
        return obj

    def attrs(self, *schemes: Mapping[str, Any]) -> str:
        """Return attributes; those of the later schemes come over the earlier ones'."""
        merged = {name: value for scheme in (self.scheme, *schemes) for name, value in scheme.items()}
        return ", ".join(f'{name}="{value}"' for name, value in merged.items())

    def head(self) -> str:
        """Return the drawing's beginning."""
        return f"{self.type} {self.id} {{\n{_INDENT}graph [{self.attrs(self.graph_scheme)}]"

    def tail(self) -> str:
        """Return the drawing's end."""
        return "}"

    def node(self, obj: Any) -> str:
        """Return the line of a node that something follows."""
        return f'{_INDENT}"{self.label(obj)}" [{self.attrs(self.node_scheme)}]'

    def terminal_node(self, obj: Any) -> str:
        """Return the line of a node that nothing follows."""
        return f'{_INDENT}"{self.label(obj)}" [{self.attrs(self.term_scheme)}]'

    def edge(self, before: Any, after: Any) -> str:
        """Return the line of an edge."""
        return (
            f'{_INDENT}"{self.label(before)}" {self.arrow} "{self.label(after)}" [{self.attrs(self.edge_scheme)}]'
        )  # fmt: skip


class DependencyGraph:
    """A directed graph without cycles.

    Args:
        it: pairs of an object and what follows it.
        formatter: draws the graph in :meth:`to_dot`.
    """

    def __init__(
        self, it: Iterable[tuple[Any, Iterable[Any]]] = (), formatter: GraphFormatter | None = None
    ) -> None:  # fmt: skip
        self.formatter = formatter or GraphFormatter()
        self.adjacent: dict[Any, list[Any]] = {}
        self.update(it)

    def add_arc(self, obj: Any) -> None:
        """Add an object."""
        self.adjacent.setdefault(obj, [])

    def add_edge(self, before: Any, after: Any) -> None:
        """Say that one object, which is in the graph, is followed by another."""
        self.adjacent[before].append(after)

    def connect(self, graph: DependencyGraph) -> None:
        """Add another graph."""
        self.adjacent.update(graph.adjacent)

    def update(self, it: Iterable[tuple[Any, Iterable[Any]]]) -> None:
        """Add pairs of an object and what follows it."""
        pairs = list(it)
        for obj, _ in pairs:
            self.add_arc(obj)
        for obj, following in pairs:
            for after in following:
                self.add_edge(obj, after)

    def topsort(self) -> list[Any]:
        """Return the objects, each behind everything that follows it.

        Raises:
            CycleError: there is no such order.
        """
        return list(TopologicalSorter(self.adjacent).static_order())

    def valency_of(self, obj: Any) -> int:
        """Return how many edges lead from an object, and from what follows it."""
        following = self.adjacent.get(obj, ())
        return len(following) + sum(self.valency_of(after) for after in following)

    def edges(self) -> Iterator[Any]:
        """Return the objects that something follows."""
        return (obj for obj, following in self.adjacent.items() if following)

    def to_dot(self, fh: IO[str], formatter: GraphFormatter | None = None) -> None:
        """Draw the graph in Graphviz's language: ``dot -Tpng`` makes an image of it.

        Args:
            fh: a text file.
            formatter: draws it another way.
        """
        draw = formatter or self.formatter
        seen: set[Any] = set()
        print(draw.head(), file=fh)
        for obj, following in self.adjacent.items():
            if draw.label(obj) not in seen:
                seen.add(draw.label(obj))
                print(draw.node(obj) if following else draw.terminal_node(obj), file=fh)
            for after in following:
                print(draw.edge(obj, after), file=fh)
        print(draw.tail(), file=fh)

    def items(self) -> Iterable[tuple[Any, list[Any]]]:
        """Return pairs of an object and what follows it."""
        return self.adjacent.items()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.adjacent)

    def __getitem__(self, node: Any) -> list[Any]:
        return self.adjacent[node]

    def __len__(self) -> int:
        return len(self.adjacent)

    def __contains__(self, obj: object) -> bool:
        return obj in self.adjacent

    def __repr__(self) -> str:
        return "\n".join(self.repr_node(obj) for obj in self.adjacent)

    def repr_node(self, obj: Any, level: int = 1, fmt: str = "{0}({1})") -> str:
        """Return an object and what follows it as text, indented by their distance."""
        lines = [fmt.format(obj, self.valency_of(obj))]
        for after in self.adjacent.get(obj, ()):
            lines.append("     " * level + fmt.format(after, self.valency_of(after)))
            lines.extend(self.repr_node(after, level + 1, fmt).split("\n")[1:])
        return "\n".join(lines)
