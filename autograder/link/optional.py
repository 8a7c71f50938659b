"""torch where it is imported; elsewhere what the link names of it: classes that nothing is of.

A warm parent imports what its course's notebooks name before it imports this. Where torch is not
named it is not waited for, which takes seconds.

The lists by which torch's classes, errors and dtypes cross are empty then (see `names`, `tensors`),
so whatever a message says of torch is refused as any other name that is on no list.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

__all__ = ["HAS_TORCH", "nn", "torch"]

#: What a tensor has that a number, an array or a table has too: a test may judge by these names, so
#: a stand-in that an operator gave is asked for none of them (see `standin`).
_OF_TENSORS = (
    "T abs add all any argmax argmin argsort ceil clip conj cov cummax cummin cumprod cumsum data "
    "device diagonal diff div divide dot dtype eq exp flatten floor ge gt imag index is_signed "
    "item itemsize le log10 logical_and logical_or logical_xor lt mT max mean median min mode mul "
    "multiply name nbytes ndim ne nonzero pow prod put quantile ravel real repeat reshape resize "
    "round select shape size sort split sqrt squeeze std sub subtract sum swapaxes take tolist "
    "trace transpose unique values var view where"
)


def _nothing(cls: type, *args: Any, **kwargs: Any) -> Any:
    raise TypeError("torch is not imported here")


def _classes(*names: str) -> dict[str, Any]:
    return {name: type(name, (), {"__new__": _nothing}) for name in names}


def _without_torch() -> Any:
    """Stands in for torch: what this package asks of it where there are no tensors."""
    made = SimpleNamespace(
        **_classes("Generator", "Size", "Tensor", "device", "dtype"),
        nn=SimpleNamespace(**_classes("Module", "Parameter")),
        optim=SimpleNamespace(
            **_classes("Optimizer"), lr_scheduler=SimpleNamespace(**_classes("LRScheduler"))
        ),
        autograd=SimpleNamespace(
            **_classes("Function"), graph=SimpleNamespace(**_classes("GradientEdge"))
        ),
        distributions=SimpleNamespace(),
        linalg=SimpleNamespace(**_classes("LinAlgError")),
        get_default_dtype=lambda: None,
        is_grad_enabled=lambda: False,
        set_grad_enabled=lambda enabled: nullcontext(),
    )
    for name in _OF_TENSORS.split():
        setattr(made.Tensor, name, None)
    return made


HAS_TORCH = "torch" in sys.modules
if TYPE_CHECKING or HAS_TORCH:
    import torch
    from torch import nn
else:
    torch = _without_torch()
    nn = torch.nn
