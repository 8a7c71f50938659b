"""What means the same on both sides of a link, by name, and what a submission may do with it."""

from __future__ import annotations

import builtins
import collections
import functools
import sys
import types
from typing import Any

import numpy as np

from autograder.link.optional import HAS_TORCH, nn, torch

__all__ = [
    "DISTRIBUTIONS", "ERRORS", "FUNCTIONS", "MODULES", "distribution_of", "error_name",
    "is_allowed", "name_of", "parameters_of", "shared_module",
]  # fmt: skip

distributions = torch.distributions
LinAlgError = torch.linalg.LinAlgError  # type: ignore[attr-defined]

MODULES: dict[str, types.ModuleType] = {
    "builtins": builtins,
    "collections": collections,
    "numpy": np,
}

ERRORS: dict[str, type[Exception]] = {
    name: value
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, Exception)
    if not issubclass(value, UnicodeError | BaseExceptionGroup)
} | {
    "numpy.linalg.LinAlgError": np.linalg.LinAlgError,
    "UnicodeError": UnicodeError,
}

DISTRIBUTIONS: dict[str, str] = {
    "Bernoulli": "?", "Beta": "concentration1 concentration0", "Binomial": "total_count ?",
    "Categorical": "?", "Cauchy": "loc scale", "Chi2": "df", "ContinuousBernoulli": "?",
    "Dirichlet": "concentration", "Exponential": "rate", "FisherSnedecor": "df1 df2",
    "Gamma": "concentration rate", "Geometric": "?", "Gumbel": "loc scale",
    "HalfCauchy": "scale", "HalfNormal": "scale",
    "Independent": "base_dist reinterpreted_batch_ndims", "InverseGamma": "concentration rate",
    "Kumaraswamy": "concentration1 concentration0", "Laplace": "loc scale",
    "LogNormal": "loc scale", "LowRankMultivariateNormal": "loc cov_factor cov_diag",
    "MixtureSameFamily": "mixture_distribution component_distribution",
    "Multinomial": "total_count ?", "MultivariateNormal": "loc scale_tril",
    "NegativeBinomial": "total_count ?", "Normal": "loc scale", "OneHotCategorical": "?",
    "OneHotCategoricalStraightThrough": "?", "Pareto": "scale alpha", "Poisson": "rate",
    "RelaxedBernoulli": "temperature ?", "RelaxedOneHotCategorical": "temperature ?",
    "StudentT": "df loc scale", "TransformedDistribution": "base_dist transforms",
    "Uniform": "low high", "VonMises": "loc concentration", "Weibull": "scale concentration",
    "AbsTransform": "", "AffineTransform": "loc scale event_dim", "ComposeTransform": "parts",
    "ExpTransform": "", "PowerTransform": "exponent", "SigmoidTransform": "",
    "SoftmaxTransform": "", "SoftplusTransform": "", "StickBreakingTransform": "",
    "TanhTransform": "",
}  # fmt: skip

if HAS_TORCH:
    MODULES |= {
        "torch": torch,
        "torch.nn": nn,
        "torch.optim": torch.optim,
        "torch.distributions": distributions,
    }
    ERRORS["torch.linalg.LinAlgError"] = LinAlgError
else:
    DISTRIBUTIONS.clear()

FUNCTIONS = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.MethodWrapperType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    functools.partial,
    np.ufunc,
)

# As they are now: what a submission puts into a module later is not there on the other side.
_NAMES: dict[int, tuple[type, str, str]] = {
    id(value): (value, module, name)
    for module, contents in reversed(MODULES.items())
    for name, value in vars(contents).items()
    if isinstance(value, type) and value.__name__ == name
}
_LIBRARIES = {"torch", "numpy", "autograder"} | sys.stdlib_module_names
# Never the course's own: what it withholds from a submission is the tests' real module here.
_SHARED = {"matplotlib", "mpl_toolkits", "numpy", "pandas", "PIL", "scipy", "sklearn", "torch"}
_SHARED |= {"torchvision", "tqdm"} | sys.stdlib_module_names


def name_of(cls: type) -> list[Any] | None:
    """The tree of a class that is the same on both sides; None of others."""
    _, *where = _NAMES.get(id(cls), (None,))
    return ["C", *where] if where else None


def shared_module(name: str) -> types.ModuleType | None:
    """The module that has this name on both sides, if it is a public one of a common library."""
    parts = name.split(".")
    if parts[0] not in _SHARED or any(part[:1] == "_" for part in parts):
        return None
    found = sys.modules.get(name)
    return found if isinstance(found, types.ModuleType) else None


def parameters_of(d: Any) -> dict[str, Any]:
    """The arguments that make a distribution (or a transform) again."""
    wanted = DISTRIBUTIONS[type(d).__name__].split()
    arguments = {name: getattr(d, name) for name in wanted if name != "?"}
    if "?" in wanted:  # probs or logits: the one that was given
        inner = next(
            (x for x in (d.__dict__.get("_categorical"), d.__dict__.get("base_dist")) if x), d
        )
        inner = inner.__dict__.get("_categorical", inner)
        given = inner.__dict__.get("_param")
        name = "probs" if "probs" in inner.__dict__ else "logits"
        if given is not None and inner.__dict__.get("logits") is given:
            name = "logits"
        arguments[name] = getattr(d, name)
    return arguments


def distribution_of(name: str, parameters: dict[str, Any], *, checked: bool) -> Any:
    """A distribution (or a transform) of these parameters, which it does not check.

    One in whose parameters something was written in place may have others than it would take.

    Args:
        name: of its class.
        parameters: as `parameters_of` gives them.
        checked: whether it is to check what it is asked for.
    """
    kind: Any = getattr(distributions, name, None) or getattr(distributions.transforms, name)
    if not issubclass(kind, distributions.Distribution):
        return kind(**parameters)
    arguments = {k.replace("base_dist", "base_distribution"): v for k, v in parameters.items()}
    made = kind(**arguments, validate_args=False)
    given = [id(value) for value in parameters.values()]
    parts = [made]
    for part in parts:  # those that it is made of but was not given
        part._validate_args = checked
        parts += [
            inner
            for inner in vars(part).values()
            if isinstance(inner, distributions.Distribution) and id(inner) not in given
        ]
    return made


def error_name(cls: type) -> str:
    """The name of a class of errors: the key where it is one of `ERRORS`."""
    if cls is np.linalg.LinAlgError or cls is LinAlgError:
        return f"{'numpy' if cls is np.linalg.LinAlgError else 'torch'}.linalg.LinAlgError"
    return str(cls.__name__)


def is_allowed(op: str, obj: Any, name: str | None) -> bool:
    """Whether a submission may do this to an object that the tests handed over."""
    cls = type(obj)
    written = cls.__module__ == "__main__" or cls.__module__.split(".")[0] not in _LIBRARIES
    if op == "special":
        return name in {
            "__len__", "__iter__", "__next__", "__getitem__", "__contains__", "__str__",
            "__repr__",
        }  # fmt: skip
    if op == "copy":
        return isinstance(obj, nn.Module)
    if name is not None and (name.startswith("_") or not name.isidentifier()):
        return False
    if op == "call" and name is None:
        return callable(obj)
    if op == "call":
        if isinstance(obj, torch.optim.Optimizer | torch.optim.lr_scheduler.LRScheduler):
            return name in {"step", "zero_grad", "state_dict", "get_last_lr"}
        return _written(cls, name) or (written and callable(vars(obj).get(name)))
    if op == "get":
        data = cls.__module__.startswith(("torch.utils.data", "torch.optim", "torch.nn"))
        return (written or data or cls is types.SimpleNamespace) and (
            name in vars(obj) or _written(cls, name)
        )
    return False


def _written(cls: type, name: str | None) -> bool:
    """Whether a class has this name from code that is not a library's."""
    home = next((base.__module__ for base in cls.__mro__ if name in vars(base)), "torch")
    return home == "__main__" or home.split(".")[0] not in _LIBRARIES
