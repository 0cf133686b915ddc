"""Stored exceptions as somebody would forge them who can write to a result store (GHSA-q4xr-rc97-m4xx).

This module is itself what some of them name: everything in it that could run leaves a mark in :data:`MARKS`.
"""

from __future__ import annotations

from typing import Any

MARKS: list[str] = []
HERE = __name__


def mark(*arguments: Any, **more: Any) -> str:
    MARKS.append(f"mark{arguments}{more}")
    return "marked"


class NoException:
    """A class that does something when it is made."""

    def __init__(self, *arguments: Any) -> None:
        MARKS.append("made")

    class Inner(Exception):
        """An exception in a class that is none."""

    @staticmethod
    def method(*_arguments: Any) -> None:
        MARKS.append("method")


class Pretender:
    """An object that says that it is an exception class."""

    __bases__ = (Exception,)
    __mro__ = (Exception, BaseException, object)

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        return type

    def __call__(self, *_arguments: Any) -> None:
        MARKS.append("called")


class Lazy:
    """An instance with members that run code."""

    @property
    def Error(self) -> type[Exception]:
        MARKS.append("property")
        return ValueError

    def __getattr__(self, name: str) -> Any:
        MARKS.append(f"getattr {name}")
        return mark


class Meta(type):
    """A metaclass with members that run code."""

    def __getattr__(cls, name: str) -> Any:
        MARKS.append(f"meta {name}")
        return ValueError

    def __subclasscheck__(cls, other: type) -> bool:
        MARKS.append("subclasscheck")
        return True


class WithMeta(metaclass=Meta):
    pass


class Replaced(Exception):
    """An exception class that makes something else."""

    def __new__(cls, *_arguments: Any) -> Any:
        return mark


class Picky(Exception):
    """An exception class that refuses its arguments."""

    def __init__(self, *, only: str) -> None:
        super().__init__(only)


class Nested(Exception):
    class Inner(Exception):
        pass


def __getattr__(name: str) -> Any:
    # pytest and importlib ask for dunder names.
    if not name.startswith("__"):
        MARKS.append(f"module {name}")
        return ValueError
    raise AttributeError(name)


pretender = Pretender()
lazy = Lazy()

#: (module, name): what is not an exception class; refused, nothing of it runs.
REFUSED = [
    ("os", "system"), ("posix", "system"), ("os", "popen"), ("os", "path.join"), ("subprocess", "Popen"),
    ("subprocess", "call"), ("builtins", "eval"), ("builtins", "exec"), ("builtins", "open"), ("builtins", "print"),
    ("builtins", "__import__"), ("builtins", "type"), ("builtins", "object"), ("builtins", "dict"),
    ("builtins", "breakpoint"), ("builtins", "NotImplemented"), ("builtins", "ValueError.with_traceback"),
    ("builtins", "ValueError.__init__"), ("builtins", "ValueError.__doc__"),
    ("builtins", "__build_class__"), ("pickle", "loads"),
    ("importlib", "import_module"), ("sys", "exit"), ("sys", "modules"),
    ("sys", "modules.os.system"), ("logging", "os.system"), ("logging", "os"), ("logging", "root"),
    ("logging", "root.manager"), ("pyworker.exceptions", "annotations"), ("kombu.serialization", "registry"),
    (HERE, "mark"), (HERE, "NoException"), (HERE, "NoException.method"), (HERE, "pretender"), (HERE, "lazy"),
    (HERE, "lazy.Error"), (HERE, "lazy.anything"), (HERE, "WithMeta"), (HERE, "Meta"), (HERE, "MARKS"),
    (HERE, "HERE.__class__"),
]  # fmt: skip
#: (module, name): what is there is nothing, so that an exception is made up, without looking further.
MADE_UP = [
    ("no.such.module", "Error"), ("os", "no_such_name"), ("os", ""), ("os", "."), ("os", "..system"), ("", "system"),
    ("os.system", "system"), ("os:system", "x"), (HERE, "offered_by_getattr"), (HERE, "WithMeta.Missing"),
    ("builtins", "ValueError.missing"), ("builtins", "ValueError.__subclasses__"), ("builtins", "ValueError.__mro__"),
    (None, "os.system"), (None, "eval"), ("builtins", "a b"), ("builtins", "\x00"),
    ("builtins", "\ud800"), ("\x00", "\x00"),
]  # fmt: skip
#: (module, name, message): exception classes, and what comes of them.
REBUILT = [
    ("builtins", "ValueError", ["a", 1], "ValueError('a', 1)"),
    ("builtins", "KeyError", "k", "KeyError('k')"),
    ("builtins", "OSError", [2, "gone"], "FileNotFoundError(2, 'gone')"),
    (HERE, "Nested.Inner", [], "Inner()"),
    (HERE, "NoException.Inner", ["i"], "Inner('i')"),
    ("builtins", "ValueError", {"a": 1}, "ValueError({'a': 1})"),
    ("builtins", "UnicodeDecodeError", ["too few"], "Exception(\"<class 'UnicodeDecodeError'>(['too few'])\")"),
]
#: What is no description of an exception at all.
WRONG = [
    1, "text", ["text"], [1, 2], {"a": 1}, {"exc_module": "os"}, {"exc_type": 1}, {"exc_type": None},
    {"exc_type": ["system"], "exc_module": "os"}, {"exc_type": {"a": 1}}, {"exc_type": b"system", "exc_module": "os"},
    {"exc_type": "system", "exc_module": 1}, {"exc_type": "system", "exc_module": ["os"]},
    {"exc_type": "system", "exc_module": {"os": 1}}, {"exc_type": True, "exc_module": True},
]  # fmt: skip
