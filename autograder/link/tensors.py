"""Tensors as raw bytes: dtypes are looked up in lists, sizes are checked against the bytes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from autograder.link.errors import Tampered, Unsupported, expect, lookup
from autograder.link.optional import HAS_TORCH, torch

__all__ = [
    "NUMPY_DTYPES", "TORCH_DTYPES", "blob_of", "check_tensor", "is_shape", "pack_tensor",
    "raw_bytes", "shape_of", "torch_name", "unpack_array", "unpack_tensor",
]  # fmt: skip

TORCH_DTYPES: dict[str, torch.dtype] = {
    name: getattr(torch, name)
    for name in (
        "float32", "float64", "float16", "bfloat16", "complex64", "complex128", "int8", "int16",
        "int32", "int64", "uint8", "bool",
    )
    if HAS_TORCH
}  # fmt: skip
NUMPY_DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(name)
    for name in (
        "float16", "float32", "float64", "complex64", "complex128", "int8", "int16", "int32",
        "int64", "uint8", "uint16", "uint32", "uint64", "bool",
    )
}  # fmt: skip
_STORED: dict[torch.dtype, np.dtype[Any]] = {
    dtype: np.dtype({"bfloat16": "int16"}.get(name, name)) for name, dtype in TORCH_DTYPES.items()
}


def torch_name(dtype: torch.dtype) -> str:
    """The name of a dtype, as in `TORCH_DTYPES` where it crosses."""
    return str(dtype).removeprefix("torch.")


def raw_bytes(tensor: torch.Tensor) -> bytes:
    """The elements of a dense CPU tensor, in row-major order."""
    if tensor.dtype is torch.bfloat16:
        tensor = tensor.detach().contiguous().view(torch.int16)
    return tensor.numpy(force=True).tobytes()  # force: detached, and without lazy signs


def check_tensor(tensor: torch.Tensor) -> None:
    """Raise `Unsupported` for a tensor that does not cross."""
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        raise Unsupported(f"a {type(tensor).__name__} is not a plain tensor")
    if tensor.device.type != "cpu" or tensor.layout is not torch.strided:
        raise Unsupported(f"a {tensor.layout} tensor on {tensor.device} cannot cross: only dense")
    if tensor.dtype not in _STORED:
        raise Unsupported(f"a tensor of {tensor.dtype} cannot cross")


def pack_tensor(tensor: torch.Tensor, blobs: list[bytes]) -> list[Any]:
    """`[dtype, shape, order, blob]`; `order` permutes the dimensions to contiguous, or is None."""
    check_tensor(tensor)
    order, shape = None, list(tensor.shape)
    if not tensor.is_contiguous():
        strides = tensor.stride()
        by_stride = sorted(range(tensor.dim()), key=lambda i: (-strides[i], i))
        moved = tensor.detach().permute(by_stride)
        if moved.is_contiguous():
            tensor, order = moved, by_stride
    blobs.append(raw_bytes(tensor))
    return [torch_name(tensor.dtype), shape, order, len(blobs) - 1]


def is_shape(value: list[Any]) -> bool:
    """Whether these numbers may be a tensor's shape."""
    return len(value) <= 64 and all(type(n) is int and 0 <= n < 2**40 for n in value)


def shape_of(value: Any) -> tuple[int, ...]:
    """The shape that came as a list."""
    if not is_shape(expect(value, list, "a shape")):
        raise Tampered("not a valid shape")
    return tuple(value)


def blob_of(index: Any, blobs: list[memoryview]) -> memoryview:
    """The blob of this number."""
    number = expect(index, int, "a blob")
    if not 0 <= number < len(blobs):
        raise Tampered("a blob that did not come")
    return blobs[number]


def unpack_array(dtype: np.dtype[Any], shape: tuple[int, ...], blob: memoryview) -> Any:
    """An array of these bytes, in memory of its own."""
    if math.prod(shape) * dtype.itemsize != len(blob):
        raise Tampered("an array whose bytes do not fill its shape")
    if dtype.kind == "b":  # any other byte than 0 and 1 has no defined meaning
        return (np.frombuffer(blob, np.uint8) != 0).reshape(shape)
    return np.frombuffer(bytearray(blob), dtype).reshape(shape)


def unpack_tensor(tree: Any, blobs: list[memoryview]) -> torch.Tensor:
    """What `pack_tensor` described: a new tensor in memory of its own."""
    try:
        name, size, order, index = expect(tree, list, "a tensor")
        dtype, shape = lookup(TORCH_DTYPES, name), shape_of(size)
        if order is None:
            array = unpack_array(_STORED[dtype], shape, blob_of(index, blobs))
        else:
            if sorted(shape_of(order)) != list(range(len(shape))):
                raise Tampered("not a valid order of dimensions")
            stored = tuple(shape[i] for i in order)
            array = unpack_array(_STORED[dtype], stored, blob_of(index, blobs))
            array = array.transpose([order.index(i) for i in range(len(order))])
        # Not by torch.frombuffer and reshape: autograd lets no view be changed in place.
        tensor = torch.from_numpy(array)
        return tensor.view(dtype).clone() if dtype is torch.bfloat16 else tensor
    except (RuntimeError, ValueError, TypeError, OverflowError) as error:
        raise Tampered(f"a tensor that cannot be: {error}"[:200]) from None
