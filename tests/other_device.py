"""A test device that computes on the CPU but counts as another device, to find mixed devices without a GPU.

`FakeTensorMode` of torch finds the same errors, but its tensors have no values, so it stops at the first `float(...)`,
and it has no gradients without CUDA. Here every value is real: public functions run to the end, read values back as on
a GPU, and can be compared with the CPU. Tensors on `DEVICE` report the device "meta", the only device besides the CPU
that every build of torch knows. The same operations fail as with CUDA: those on tensors of both devices, and `.numpy()`
of a tensor on the device. Errors inside CUDA kernels are not found.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

__all__ = ["DEVICE", "OnDevice", "other_device"]

DEVICE = torch.device("meta")
ATEN = torch.ops.aten
MOVES = (ATEN._to_copy.default, ATEN.copy_.default, ATEN._ctc_loss.Tensor, ATEN._ctc_loss_backward.Tensor)
"""Operations that accept tensors of both devices: copies, and CTC, whose lengths torch moves to the CPU."""
INDEXED = (ATEN.index.Tensor, ATEN.index_put.default, ATEN.index_put_.default, ATEN._index_put_impl_.default)
"""Operations that accept indices on the CPU for a tensor on the GPU, but not the other way round."""


class OnDevice(torch.Tensor):
    """A CPU tensor that reports `DEVICE` as its device."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> OnDevice:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=DEVICE,
            requires_grad=held.requires_grad,
        )
        made.held = held
        return made

    def __repr__(self) -> str:
        return f"OnDevice({self.held})"

    def tolist(self) -> Any:
        """Converts as on any device."""
        return self.held.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """Raises an error as with CUDA, unless `force`."""
        if force:
            return self.held.numpy(force=True)
        raise TypeError("can't convert a tensor of another device to numpy. Use Tensor.cpu() first")

    def __array__(self, *arguments: Any, **named: Any) -> Any:
        """Raises an error as with CUDA."""
        return self.numpy()

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        return _dispatch(function, arguments, named or {})


def _dispatch(function: Any, arguments: Any, named: dict[str, Any]) -> Any:
    """Runs an operation on the CPU tensors; results are on `DEVICE` if an argument was."""
    tensors = [value for value in tree_flatten((arguments, named))[0] if isinstance(value, torch.Tensor)]
    there = [value for value in tensors if isinstance(value, OnDevice)]
    here = [value for value in tensors if not isinstance(value, OnDevice)]
    first = arguments[0] if arguments else None
    if there and here and function not in MOVES:
        wide = [value for value in here if value.dim()]  # a CPU scalar may be combined with any device
        indexed = function in INDEXED and isinstance(first, OnDevice)
        into = function._schema.is_mutable and isinstance(first, torch.Tensor) and not isinstance(first, OnDevice)
        if (wide and not indexed) or into:
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but {function} got {_shapes(there)} on the other "
                f"device and {_shapes(here)} on the CPU"
            )
    asked = named.get("device")
    on_device = bool(there) if asked is None else torch.device(asked) == DEVICE
    if asked is not None:
        named = named | {"device": torch.device("cpu")}
    if function is ATEN.copy_.default:
        on_device = isinstance(first, OnDevice)
    plain, plain_named = tree_map(lambda v: v.held if isinstance(v, OnDevice) else v, (arguments, named))
    found = function(*plain, **plain_named)
    if not on_device:
        return found
    if torch.Tag.inplace_view in function.tags:  # `transpose_` and similar: the wrapper's sizes change too
        with no_dispatch():
            function(*arguments, **named)
    known = {id(value.held): value for value in there}  # a tensor changed in place keeps its wrapper

    def wrapped(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return known[id(value)] if id(value) in known else OnDevice(value)

    return tree_map(wrapped, found)


def _shapes(tensors: list[torch.Tensor]) -> list[tuple[int, ...]]:
    return [tuple(value.shape) for value in tensors]


class _Mode(TorchDispatchMode):
    """Makes `torch.zeros(3, device=DEVICE)` and `.to(DEVICE)` return tensors with values."""

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        return _dispatch(function, arguments, named or {})


AUTOCAST, TENSOR = torch.autocast, torch.tensor


def _autocast(device_type: str, *arguments: Any, **named: Any) -> Any:
    return AUTOCAST("cpu" if device_type == DEVICE.type else device_type, *arguments, **named)


def _tensor(data: Any, *, device: Any = None, **named: Any) -> torch.Tensor:
    made = TENSOR(data, **named)
    return made if device is None else made.to(device)


@contextlib.contextmanager
def other_device() -> Iterator[None]:
    """A context in which tensors and modules can be moved to `DEVICE` and used there."""
    # without the patches, these functions would make real meta tensors or reject the device
    with patch.object(torch, "autocast", _autocast), patch.object(torch, "tensor", _tensor), _Mode():
        yield
