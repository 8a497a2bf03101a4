"""Reading the pickles of the field without running what they contain.

A pickle is a program: plain `pickle.load` runs whatever the file names. Here only containers, text, numbers, numpy
arrays and torch tensors can be built; everything else is refused by name. Used for `phoenix14t.pami0.*`,
`labels.*`, `csl2020ct_v2.pkl` and the like; the package itself never writes a pickle.
"""

from __future__ import annotations

import collections
import gzip
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

__all__ = ["load_pickle", "read_npy", "read_pickle"]

GZIP_MAGIC = b"\x1f\x8b"


class RefusedPickle(ValueError):
    """A pickle that asks for something outside the list; raised through the unpickler and shown to the user."""


class _Call:
    """A function that a pickle may call but cannot alter (the BUILD opcode writes attributes of what it is given)."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __setattr__(self, name: str, value: object) -> None:
        raise RefusedPickle(f"it tries to set the attribute {name!r} of a function")

    def __call__(self, *args: Any) -> Any:
        function: Callable[..., Any] = self._function  # type: ignore[attr-defined]
        return function(*args)


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """`_codecs.encode`, which old protocols use for bytes; no other codec (some unpack or import)."""
    if encoding not in ("latin1", "latin-1"):
        raise RefusedPickle(f"it asks for the codec {encoding!r}")
    return text.encode("latin1")


def _empty_array(_kind: object, _shape: object, _dtype: object) -> Any:
    """numpy's `_reconstruct`, always a plain array; its contents come with the state that follows."""
    return np.ndarray((0,), dtype="b")


def _array_from_buffer(buffer: Any, dtype: Any, shape: Any, order: Any) -> Any:
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)


def _scalar(dtype: Any, data: Any = None) -> Any:
    if not isinstance(dtype, np.dtype) or dtype.hasobject or not isinstance(data, bytes):
        raise RefusedPickle("it holds a numpy scalar that is not a plain number")
    return np.frombuffer(data, dtype=dtype, count=1)[0]


def _storage_from_bytes(data: bytes) -> Any:
    """`torch.storage._load_from_bytes`, which by itself is an unrestricted `torch.load`."""
    import torch

    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_requires_grad_and_hooks: Any) -> Any:
    """`torch._utils._rebuild_tensor_v2`, without gradient and hooks."""
    import torch

    kind = torch.float32
    if isinstance(storage, torch.storage.TypedStorage):
        kind, storage = storage.dtype, storage._untyped_storage
    if not isinstance(storage, torch.UntypedStorage):
        raise RefusedPickle("it holds a torch tensor without a storage")
    # set_ would grow a storage that is too small and show uninitialised memory.
    end = offset + 1 + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if min((offset, *size, *stride)) < 0 or (0 not in size and end * kind.itemsize > storage.nbytes()):
        raise RefusedPickle(f"it holds a torch tensor of size {tuple(size)} that reaches outside its storage")
    return torch.empty(0, dtype=kind).set_(storage, offset, tuple(size), tuple(stride))


_BUILTINS = (set, frozenset, list, tuple, dict, bytes, bytearray, str, int, float, complex, bool)
_ALLOWED: dict[tuple[str, str], Any] = {
    **{(module, kind.__name__): kind for kind in _BUILTINS for module in ("builtins", "__builtin__")},
    ("__builtin__", "unicode"): str,
    ("__builtin__", "long"): int,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): collections.defaultdict,
    ("_codecs", "encode"): _Call(_encode),
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("torch.storage", "_load_from_bytes"): _Call(_storage_from_bytes),
    ("torch._utils", "_rebuild_tensor"): _Call(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Call(_tensor),
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and 2
    _ALLOWED[_core + ".multiarray", "_reconstruct"] = _Call(_empty_array)
    _ALLOWED[_core + ".multiarray", "scalar"] = _Call(_scalar)
    _ALLOWED[_core + ".numeric", "_frombuffer"] = _Call(_array_from_buffer)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """The only door through which a pickle reaches anything that is not plain data."""
        if (module, name) == ("torch", "Size"):
            return tuple
        if (module, name) not in _ALLOWED:
            raise RefusedPickle(f"it asks for {module}.{name}")
        return _ALLOWED[module, name]


def read_pickle(file: IO[bytes], where: str = "pickle") -> Any:
    """One object from an open, already unpacked pickle.

    Args:
        file: opened for reading bytes.
        where: what to call the file in a complaint.

    Raises:
        ValueError: the pickle asks for anything but containers, text, numbers, arrays and tensors, or is broken.
    """
    try:
        return _Unpickler(file, encoding="latin1").load()
    except RefusedPickle as error:
        raise ValueError(
            f"{where}: refused, {error}; a pickle is read only for containers, text, numbers, numpy arrays and torch "
            "tensors, since anything else can run code. If you trust its maker, convert it to .npz in your own script"
        ) from None
    except OSError:
        raise
    except Exception as error:  # a broken or hostile pickle can raise nearly anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{where}: not a readable pickle ({reason[:200]})") from None


def read_npy(path: Path | str) -> Any:
    """The array in a .npy file; one of objects (a dictionary saved by `np.save`) is read as a pickle is, see above.

    Raises:
        FileNotFoundError: no such file.
        ValueError: refused or broken.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; a .npy file is needed")
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        if "Object arrays" not in str(error):
            raise ValueError(f"{path}: not a readable .npy file ({str(error)[:200]})") from None
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        read(file)
        return read_pickle(file, str(path))


def load_pickle(path: Path | str) -> Any:
    """The object in a pickle file, plain or gzip (told by its first bytes, not by its name).

    Tensors come on the CPU and without gradient.

    Raises:
        FileNotFoundError: no such file.
        ValueError: refused or broken, see `read_pickle`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; a pickle (plain or gzip) is needed")
    with path.open("rb") as file:
        packed = file.read(2) == GZIP_MAGIC
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            return read_pickle(file, str(path))  # type: ignore[arg-type]
    except (gzip.BadGzipFile, EOFError) as error:
        raise ValueError(f"{path}: cannot be unpacked ({error}); copy or download it again") from None
