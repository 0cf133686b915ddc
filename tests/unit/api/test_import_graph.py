"""Imports of the package flow down: no cycles, none hidden in functions."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pyworker

ROOT = Path(pyworker.__file__).parent


def modules() -> dict[str, ast.Module]:
    """Every module of the package, parsed."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(path.read_text())
    return found


def imported(node: ast.AST, known: dict[str, ast.Module]) -> set[str]:
    """Modules of the package that an import statement names."""
    if isinstance(node, ast.Import):
        names = {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and node.module:
        names = {f"{node.module}.{alias.name}" for alias in node.names}
        # A name that is no module comes from the module itself.
        names = {name if name in known else node.module for name in names}
    else:
        return set()
    return {name for name in names if name in known}


def statements(tree: ast.AST) -> list[ast.stmt]:
    """What runs when a module is imported: not functions, not what is for type checkers."""
    found: list[ast.stmt] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for other in node.orelse:
                found += [other, *statements(other)]
            continue
        if isinstance(node, ast.stmt):
            found.append(node)
        found += statements(node)
    return found


def test_there_are_no_cycles() -> None:
    known = modules()
    graph = {name: set().union(*(imported(each, known) for each in statements(tree))) for name, tree in known.items()}
    # The package itself re-exports; being imported first is no dependency of its modules.
    graph = {name: needed - {"pyworker", name} for name, needed in graph.items() if name != "pyworker"}
    assert list(TopologicalSorter(graph).static_order())


def test_functions_import_nothing_of_the_package() -> None:
    known = modules()
    hidden = [
        f"{name}: {ast.unparse(node)}"
        for name, tree in known.items()
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
        if imported(node, known)
    ]
    assert hidden == []
