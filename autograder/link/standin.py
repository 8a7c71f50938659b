"""What stands here for objects that live on the other side of a link.

A stand-in holds a `Handle` and forwards: calls, public and private attributes, and the special
methods that its class was described with. Classes of the other side are real classes here, so
`isinstance` and `issubclass` work; modules are `nn.Module` with parameters of their own, which
the two sides keep alike.

Nothing here lets the other side decide a comparison or a conversion: `==` between a stand-in and
a plain value is False, `<` is an error, `bool` is True, `float`, `int`, `__array__` and
`__torch_function__` do not exist. An operator with a plain value may give only a stand-in, and one
that does not pass for a number or a tensor: `(answer - expected).abs().max()` is an error, as is
`answer.allclose(expected)`, while `(Vector(1, 2) * 3).x` is asked of the class. So is `in`, as a
method would be, and it is noted where the test does not use the class by its name. A `with` of a
stand-in lets every verdict through, and it is noted if it ends another error.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from autograder.link.errors import WireError
from autograder.link.optional import nn, torch
from autograder.link.table import Handle, handle_of

__all__ = [
    "SPECIAL", "RemoteFunction", "RemoteMethod", "RemoteModule", "RemoteObject",
    "RemoteOptimizer", "RemoteType", "blank", "remote_class", "said_of",
]  # fmt: skip

_VERDICTS = {"allclose", "equal", "isclose", "eq", "ne", "lt", "le", "gt", "ge"}
"""Methods by which a tensor compares itself with what a test expects."""

_PLAIN = {
    name
    for kind in (torch.Tensor, np.ndarray, str, list, set, dict)
    for name in dir(kind)
    if name[:1] != "_"
}
"""What a test asks of plain values and tensors."""


def _tie(value: Any) -> Handle:
    handle = handle_of(value)
    if handle is None:
        raise AttributeError("a stand-in that was not finished")
    return handle


def _mixed(value: Any) -> Any:
    handle = handle_of(value)
    if handle is not None:
        handle.mixed = True
    return value


def _attribute(value: Any, name: str) -> Any:
    if name.startswith(("__", "_repr_", "_ipython_", "_wire")):
        raise AttributeError(name)
    handle = _tie(value)
    if handle.mixed and name in _PLAIN:
        raise _refusal(
            value, f"an operator gave this {type(value).__name__}: its {name} is not an answer"
        )
    if name in _PLAIN:
        _passes(value, name)
    if name in getattr(type(value), "_wire_methods", ()):
        return RemoteMethod(value, name)
    found = handle.ask("get", name)
    if name in _PLAIN and handle_of(found) is not None and callable(found):
        return RemoteMethod(value, name)  # a function that is not of the class, but passes for it
    return found


class RemoteMethod:
    """A method of an object of the other side, bound."""

    def __init__(self, owner: Any, name: str) -> None:
        self.__self__ = owner
        self.__name__ = name

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        """What is written there."""
        written: str | None = _tie(self.__self__).ask("get", self.__name__).__doc__
        return written

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it there."""
        handle = _tie(self.__self__)
        plain = [arg for arg in (*args, *kwargs.values()) if handle_of(arg) is None]
        if self.__name__ in _VERDICTS and plain:
            raise _refusal(
                self.__self__, f"{self.__name__} of an object of the other side is not an answer"
            )
        result = handle.call(self.__name__, args, kwargs)
        arrays = any(isinstance(arg, torch.Tensor | np.ndarray) for arg in plain)
        mixed = handle.mixed or (arrays and self.__name__ in _PLAIN)
        return _mixed(result) if mixed else result

    def __repr__(self) -> str:
        return f"<method {self.__name__} of the other side>"


# --- special methods ---


def _call(self: Any, *args: Any, **kwargs: Any) -> Any:
    return _tie(self).call(None, args, kwargs)


def _special(name: str) -> Callable[..., Any]:
    return lambda self, *args: _tie(self).ask("special", name, *args)


def _exit(self: Any, kind: Any = None, *rest: Any) -> bool:
    ended = bool(_tie(self).ask("special", "__exit__", kind, *rest))
    # A verdict, the refusal of one (a TypeError) and what ends a test go on, whatever it says.
    ends = kind is not None and issubclass(kind, Exception)
    if ended and ends and not issubclass(kind, AssertionError | TypeError | WireError):
        _unjudged(self, "ends an error of the test's")
        return not _tie(self).table.strict
    return False


def _contains(self: Any, item: Any) -> bool:
    _passes(self, "__contains__")
    return _tie(self).ask("special", "__contains__", item) is True


def _operator(name: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any) -> Any:
        handle = _tie(self)
        others = [handle_of(arg) for arg in args]
        arrays = torch.Tensor | np.ndarray
        if any(isinstance(arg, arrays) and not tie for arg, tie in zip(args, others, strict=True)):
            raise _refusal(
                self, f"{name} of a {type(self).__name__} with a tensor is not an answer"
            )
        result = handle.ask("special", name, *args)
        closed = all(others) and args
        if not closed and result is not NotImplemented and handle_of(result) is None:
            raise _refusal(
                self,
                f"{name} of a {type(self).__name__} with a plain value gives no plain value here",
            )
        mixed = handle.mixed or any(tie is None or tie.mixed for tie in others)
        return _mixed(result) if mixed else result

    return method


def _order(name: str) -> Callable[..., Any]:
    def method(self: Any, other: Any) -> Any:
        if handle_of(other) is None:
            raise _refusal(
                self, f"{name} of a {type(self).__name__} with a plain value is not an answer"
            )
        result = _tie(self).ask("special", name, other)
        return result if result is NotImplemented else result is True

    return method


def _equal(self: Any, other: Any) -> bool:
    if self is other:
        return True
    handle = _tie(self)
    if handle_of(other) is None:
        if other is not None:
            _unjudged(self, "is compared with a plain value")
        return False
    return handle.ask("special", "__eq__", other) is True


def _unjudged(value: Any, what: str) -> None:
    """Note that what a test finds out by this is not to be relied on."""
    handle = _tie(value)
    if handle.table.guarded:
        handle.table.unjudged = f"{said_of(type(value))} {what}"


def _passes(value: Any, name: str) -> None:
    """Note that an object is asked what plain values are, unless the test has named its class.

    It has where it uses a name that is written as a class's: a function may be a class, too.
    """
    cls = value if isinstance(value, type) else type(value)
    if not any(tie is not None and tie.named for tie in map(handle_of, cls.__mro__)):
        _unjudged(value, f"is asked for its {name}")
        if _tie(value).table.strict:
            raise TypeError(f"{name} of a {cls.__name__} is not an answer")


def _refusal(value: Any, text: str) -> TypeError:
    """The error where a stand-in gives no answer: a test may expect one, and count it as right."""
    _unjudged(value, "is asked for what cannot be judged outside")
    return TypeError(text)


#: What may be said by name: any other name is the submission's word, maybe of hidden inputs.
_COMMON = {
    "DataFrame", "Decimal", "Fraction", "Index", "JSONDecodeError", "MultiIndex", "PosixPath",
    "Series", "Timedelta", "Timestamp", "date", "datetime", "datetime64", "matrix", "ndarray",
    "recarray", "str_", "time", "timedelta",
}  # fmt: skip


def said_of(cls: type) -> str:
    """What may be said of a stand-in's class."""
    name = cls.__name__
    return f"the submission's {name if name in _COMMON else 'object of another class'}"


def _truth(self: Any) -> bool:
    _unjudged(self, "is asked whether it is true")
    return True


def _hash(self: Any) -> int:
    _unjudged(self, "is looked up in a set or dict")
    return object.__hash__(self)


def _text(name: str) -> Callable[[Any], str]:
    def method(self: Any) -> str:
        text = _tie(self).ask("special", name)
        if type(text) is not str:
            raise TypeError(f"{name} returned no str")
        try:  # a number in print could be taken for points
            float(text)
        except ValueError:
            return text[:10_000]
        return f"<{text}>" if name == "__repr__" else text

    return method


_TWO = (
    "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor",
    "lshift", "rshift",
)  # fmt: skip
_ONE = ("neg", "pos", "abs", "invert")
_HOLD = ("len", "getitem", "setitem", "delitem", "iter", "next", "reversed", "enter")
_OPERATORS = [f"__{prefix}{name}__" for name in _TWO for prefix in ("", "r", "i")]
_OPERATORS += [f"__{name}__" for name in _ONE]
_CONTAINER = {f"__{name}__": _special(f"__{name}__") for name in _HOLD}
_CONTAINER |= {"__contains__": _contains, "__exit__": _exit}

SPECIAL: dict[str, Callable[..., Any]] = (
    {name: _operator(name) for name in _OPERATORS}
    | {name: _order(name) for name in ("__lt__", "__le__", "__gt__", "__ge__")}
    | _CONTAINER
    | {name: _text(name) for name in ("__str__", "__repr__")}
    | {"__eq__": _equal, "__hash__": _hash, "__bool__": _truth}
)
"""The special methods that a stand-in may forward; `__call__` comes besides."""


# --- the families of stand-ins ---


class _Remote:
    """What stand-ins of objects, modules and optimizers have in common."""

    def __getattr__(self, name: str) -> Any:
        return _attribute(self, name)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return _tie(self).ask("copy")

    def __reduce__(self) -> Any:
        raise TypeError(f"a {type(self).__name__} of the other side cannot be pickled")


class RemoteFunction:
    """A function of the other side."""

    # No annotations: a test that asks for a function's would be shown these.
    __call__ = _call

    def __repr__(self) -> str:
        return f"<function {self.__dict__.get('__name__', '?')} of the other side>"


class RemoteType(type):
    """The type of classes that live on the other side: calling one makes an object there."""

    __call__ = _call

    def __getattr__(cls, name: str) -> Any:
        return _attribute(cls, name)


class RemoteObject(_Remote):
    """An object of the other side."""

    def __setattr__(self, name: str, value: Any) -> None:
        handle = _tie(self)
        if handle.table.guarded:
            handle.ask("set", name, value)
        else:  # a submission may note something on a test's object, for itself
            super().__setattr__(name, value)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of the other side>"


class RemoteModule(_Remote, nn.Module):
    """A module of the other side; its parameters and buffers are here too, kept alike."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Computed on the other side."""
        return _call(self, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return nn.Module.__getattr__(self, name)
        except AttributeError:
            return _attribute(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        handle = handle_of(self)
        if handle is None or not handle.table.guarded or name == "training" or name[:1] == "_":
            super().__setattr__(name, value)
            return
        if isinstance(value, nn.Parameter | nn.Module) or name in self._buffers:
            super().__setattr__(name, value)
        handle.ask("set", name, value)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        buffers = {name: old for name, old in self._buffers.items() if old is not None}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, old in buffers.items():  # torch puts others in their place; these are known
            new = self._buffers[name]
            if new is not None and new is not old:
                old.data = new
                self._buffers[name] = old
        return self


class RemoteOptimizer(_Remote, torch.optim.Optimizer):
    """An optimizer of the other side: its steps are made there, and counted there."""

    def step(self, closure: Any = None) -> Any:
        """Make a step there."""
        return _tie(self).call("step", () if closure is None else (closure,))

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients there; they are the same as here."""
        _tie(self).call("zero_grad", (), {} if set_to_none else {"set_to_none": False})

    def state_dict(self) -> Any:
        """Of the optimizer there."""
        return _tie(self).call("state_dict")

    def load_state_dict(self, state_dict: Any) -> None:
        """Into the optimizer there."""
        _tie(self).call("load_state_dict", (state_dict,))


def _family(bases: list[type]) -> type:
    for kind, family in (
        (BaseException, Exception),
        (nn.Module, RemoteModule),
        (torch.optim.Optimizer, RemoteOptimizer),
    ):
        if any(issubclass(base, kind) for base in bases):
            return family
    return RemoteObject


def remote_class(
    name: str, bases: list[type], methods: frozenset[str], special: list[str]
) -> RemoteType:
    """A class that stands for one of the other side.

    Args:
        name: of the class.
        bases: stand-ins, or classes of torch and the exceptions of Python by their names.
        methods: names that are forwarded without asking whether they are there.
        special: names from `SPECIAL`, and `__call__`.
    """
    family = _family(bases)
    within = {RemoteModule: nn.Module, RemoteOptimizer: torch.optim.Optimizer}.get(family, family)
    bases = [base for base in bases if issubclass(base, within)]
    attributes: dict[str, Any] = {"_wire_methods": methods}
    if family is RemoteObject:
        attributes |= {key: SPECIAL[key] for key in special if key in SPECIAL}
        if "__call__" in special:
            attributes["__call__"] = _call
        if "__eq__" in attributes:
            attributes["__hash__"] = _hash
    elif family is RemoteModule:
        attributes |= {key: _CONTAINER[key] for key in special if key in _CONTAINER}
    first = () if any(issubclass(base, family) for base in bases) else (family,)
    try:
        return RemoteType(name, (*first, *bases), attributes)
    except TypeError:  # bases that do not go together here
        return RemoteType(name, (family,), attributes)


def blank(cls: type) -> Any:
    """An instance of a stand-in class, not yet tied: made here, nothing is run there."""
    made: Any = cls.__new__(cls) if issubclass(cls, BaseException) else object.__new__(cls)
    if issubclass(cls, RemoteModule):
        nn.Module.__init__(made)
    elif issubclass(cls, RemoteOptimizer):
        vars(made).update(
            defaults={},
            state=defaultdict(dict),
            param_groups=[],
            _optimizer_step_pre_hooks=OrderedDict(),
            _optimizer_step_post_hooks=OrderedDict(),
        )
    return made
