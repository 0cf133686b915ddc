"""``pydantic=True``: arguments become the models that annotations name, a returned model becomes plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

from pyworker.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from pyworker.app.configuring import Configuring


class Models:
    """The models of one function's parameters."""

    def __init__(self, function: Callable[..., Any]) -> None:
        # Not at the top: it takes longer to load than all of this package.
        import inspect

        try:
            self._base: Any = import_module("pydantic").BaseModel
        except ModuleNotFoundError as error:
            raise ImproperlyConfigured("pydantic=True: pydantic is not installed") from error
        self.signature = inspect.signature(function)
        try:
            hints = get_type_hints(function)
        except (NameError, AttributeError, TypeError):
            # A forward reference that cannot be resolved: what is a class already still counts.
            hints = dict(getattr(function, "__annotations__", {}))
        optional = {name: member for name, hint in hints.items() if (member := _if_optional(hint)) is not None}
        self._by_name = {
            name: hint
            for name, hint in {**hints, **optional}.items()
            if isinstance(hint, type) and issubclass(hint, self._base)
        }
        self._optional = optional.keys() & self._by_name

    def of(self, name: str) -> Any:
        """Return the model of a parameter (``return`` for the returned value), None if it has none."""
        return self._by_name.get(name)

    def may_be_none(self, name: str) -> bool:
        """Whether a parameter with a model may be None as well."""
        return name in self._optional

    def is_model(self, value: Any) -> bool:
        """Whether a value is a model's instance."""
        return isinstance(value, self._base)


def _if_optional(hint: Any) -> Any:
    """Return ``X`` of ``X | None``, None for any other annotation."""
    if get_origin(hint) is not Union and type(hint).__name__ != "UnionType":
        return None
    members = [member for member in get_args(hint) if member is not type(None)]
    return members[0] if len(members) == 1 and len(get_args(hint)) == 2 else None


def validating(
    app: Configuring,
    function: Callable[..., Any],
    name: str,
    *,
    strict: bool = False,
    context: Mapping[str, Any] | None = None,
    dump_options: Mapping[str, Any] | None = None,
) -> Callable[..., Any]:
    """Return the function, made to validate what it gets and to dump what it returns.

    Args:
        app, name: of the task; validators find them in their context as ``celery_app`` and ``celery_task_name``.
        strict: no conversion of values to the types that the model wants.
        context: more for the validators' context.
        dump_options: options of ``model_dump``; ``mode`` is ``json`` unless given.

    Raises:
        ImproperlyConfigured: pydantic is not installed.
    """
    models = Models(function)
    told = {**(context or {}), "celery_app": app, "celery_task_name": name}
    dumping = {"mode": "json", **(dump_options or {})}

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        bound = models.signature.bind(*args, **kwargs)
        for parameter, value in bound.arguments.items():
            model = models.of(parameter)
            if model is not None and not (value is None and models.may_be_none(parameter)):
                bound.arguments[parameter] = model.model_validate(value, strict=strict, context=told)
        returned = function(*bound.args, **bound.kwargs)
        model = models.of("return")
        return returned.model_dump(**dumping) if model is not None and isinstance(returned, model) else returned

    run.dump_arguments = _Dumper(models, strict, told, dumping)  # type: ignore[attr-defined]
    return run


class _Dumper:
    """Turns models among a call's arguments into plain data, where the task gets equal models back."""

    def __init__(
        self, models: Models, strict: bool, context: Mapping[str, Any], dump_options: Mapping[str, Any]
    ) -> None:
        self._models = models
        self._strict = strict
        self._context = context
        self._options = dump_options

    def __call__(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], *, is_bound: bool
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        if not any(self._models.is_model(value) for value in (*args, *kwargs.values())):
            return args, kwargs
        names = [
            parameter.name
            for parameter in self._models.signature.parameters.values()
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        ][1 if is_bound else 0 :]
        padded = [*names, *("" for _ in range(len(args) - len(names)))]
        return (
            tuple(self._dumped(name, value) for name, value in zip(padded, args, strict=False)),
            {name: self._dumped(name, value) for name, value in kwargs.items()},
        )

    def _dumped(self, name: str, value: Any) -> Any:
        model = self._models.of(name)
        if model is None or not self._models.is_model(value) or hasattr(type(value), "__json__"):
            return value
        try:
            data = value.model_dump(**self._options)
            same = model.model_validate(data, strict=self._strict, context=self._context) == value
        except Exception:
            # The model's own validators may only work in a worker: the serializer says what it thinks of the model.
            return value
        return data if same else value
