"""A test device that computes on the CPU but counts as another device: finds mixed devices on a machine without a GPU.

`FakeTensorMode` of torch finds the same mixes but has no values, so it stops at the first `float(...)`, and it has no
gradients without CUDA. Here every value is real: public functions run whole, read values back as on a GPU, and their
results can be compared with the CPU's. Tensors on `DEVICE` say that they are on "meta", the one device beside the CPU
that every build of torch can be asked about. What is refused is what CUDA refuses: an operation on tensors of both
devices, and `.numpy()` of one on the device. What is not seen: anything inside CUDA's own kernels.
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
"""What takes tensors of both: copies, and CTC, whose lengths torch itself brings to the CPU."""
INDEXED = (ATEN.index.Tensor, ATEN.index_put.default, ATEN.index_put_.default, ATEN._index_put_impl_.default)
"""Indices may be on the CPU where the indexed tensor is on the GPU, not the other way round."""


class OnDevice(torch.Tensor):
    """A tensor of the CPU that says it is on `DEVICE`."""

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
        """Convert like any tensor, on any device."""
        return self.held.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """Refused, as by CUDA."""
        if force:
            return self.held.numpy(force=True)
        raise TypeError("can't convert a tensor of another device to numpy. Use Tensor.cpu() first")

    def __array__(self, *arguments: Any, **named: Any) -> Any:
        """Refused, as by CUDA."""
        return self.numpy()

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        return _dispatch(function, arguments, named or {})


def _dispatch(function: Any, arguments: Any, named: dict[str, Any]) -> Any:
    """Run an operation on the tensors that are held; its results are where its tensors are."""
    tensors = [value for value in tree_flatten((arguments, named))[0] if isinstance(value, torch.Tensor)]
    there = [value for value in tensors if isinstance(value, OnDevice)]
    here = [value for value in tensors if not isinstance(value, OnDevice)]
    first = arguments[0] if arguments else None
    if there and here and function not in MOVES:
        wide = [value for value in here if value.dim()]  # a number of the CPU may meet tensors anywhere
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
    if torch.Tag.inplace_view in function.tags:  # `transpose_` and its kin: the outer sizes change as well
        with no_dispatch():
            function(*arguments, **named)
    known = {id(value.held): value for value in there}  # what was changed in place is the same object again

    def wrapped(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return known[id(value)] if id(value) in known else OnDevice(value)

    return tree_map(wrapped, found)


def _shapes(tensors: list[torch.Tensor]) -> list[tuple[int, ...]]:
    return [tuple(value.shape) for value in tensors]


class _Mode(TorchDispatchMode):
    """Makes `torch.zeros(3, device=DEVICE)` and `.to(DEVICE)` give tensors that hold values."""

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
    """Within it, tensors and modules can be put on `DEVICE` and computed with."""
    # two functions of torch that would make true meta tensors, or refuse the name
    with patch.object(torch, "autocast", _autocast), patch.object(torch, "tensor", _tensor), _Mode():
        yield
