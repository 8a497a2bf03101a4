"""Reads pickles of published corpora without running code from them.

A pickle is a program: plain `pickle.load` runs any function the file names. Here only containers, text, numbers, numpy
arrays and torch tensors are built; anything else is an error that names it. Arrays are built from checked types, shapes
and bytes instead of by numpy's unpickling, which trusts the sizes in the file. Used for `phoenix14t.pami0.*`,
`labels.*`, `csl2020ct_v2.pkl` and similar files; the package never writes pickles.
"""

from __future__ import annotations

import collections
import gzip
import io
import math
import pickle
import re
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np

from signcl.data.array_files import check_members, load_arrays, npy_head
from signcl.data.files import naming

__all__ = ["ARRAY_PARTS", "check_torch", "finished", "load_pickle", "read_npy", "read_pickle"]

GZIP_MAGIC = b"\x1f\x8b"
LEGACY_PICKLES = 4
"""Number of pickles in torch's format before zip: magic number, version, machine, content."""
STORED = {"Double": 8, "Long": 8, "ComplexFloat": 8, "Float": 4, "Int": 4, "Half": 2, "BFloat16": 2, "Short": 2}
"""Bytes per value by name of the storage; for others at least 1."""
REBUILT = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_qtensor")
"""Functions of torch that take a storage and the offset, size and strides of a tensor in it."""


class RefusedPickle(ValueError):
    """A pickle asks for something that is not allowed; raised within the unpickler and shown to the user."""


class _Call:
    """A function that a pickle may call but cannot modify (the BUILD opcode sets attributes)."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __setattr__(self, name: str, value: object) -> None:
        raise RefusedPickle(f"it tries to set the attribute {name!r} of a function")

    def __call__(self, *args: Any) -> Any:
        function: Callable[..., Any] = self._function  # type: ignore[attr-defined]
        return function(*args)


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """`_codecs.encode` for latin1 only, which old protocols use for bytes; some other codecs unpack or import."""
    if encoding not in ("latin1", "latin-1"):
        raise RefusedPickle(f"it asks for the codec {encoding!r}")
    return text.encode("latin1")


def _bytearray(data: Any = b"", encoding: str = "latin-1") -> bytearray:
    """`bytearray` of bytes or text, but not of a number, which would allocate that much memory."""
    if isinstance(data, str):
        data = _encode(data, encoding)
    if not isinstance(data, bytes):
        raise RefusedPickle("it asks for a bytearray of something that is not bytes")
    return bytearray(data)


def _bytes(*data: Any) -> bytes:
    return bytes(_bytearray(*data))


class _Kind:
    """Stands for `numpy.ndarray` in a pickle: only `_reconstruct` accepts it, and it cannot be called."""

    __slots__ = ()


class _Dtype:
    """A numpy dtype under construction: first its name, then its state with the byte order."""

    __slots__ = ("dtype",)
    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def __init__(self, name: Any, *_align_and_copy: Any) -> None:
        if not isinstance(name, str) or not re.fullmatch(r"[<>|=]?([biufcSU?O]\d{0,7}|bool)", name):
            raise RefusedPickle(f"it asks for a numpy array of type {str(name)[:40]!r}")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        order, inner = state[1], state[2:5]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in inner):
            raise RefusedPickle("it asks for a numpy array of a structured type")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """A numpy array under construction; `array` is the result."""

    __slots__ = ("array",)
    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def __init__(self) -> None:
        self.array = np.empty(0, dtype="b")

    def __setstate__(self, state: Any) -> None:
        shape, dtype, fortran, data = state[-4:]
        self.array = _checked_array(data, dtype, shape, "F" if fortran else "C")


def _empty_array(kind: object, _shape: object, _dtype: object) -> Any:
    """numpy's `_reconstruct`, always for a plain array; the contents follow with its state."""
    if not isinstance(kind, _Kind):
        raise RefusedPickle("it asks for a subclass of numpy arrays")
    return _Array()


def _checked_array(data: Any, kind: Any, shape: Any, order: Any) -> Any:
    """Builds an array from bytes (copied), or from a list of values for an array of objects."""
    if not isinstance(kind, _Dtype) or order not in ("C", "F"):
        raise RefusedPickle("it contains a numpy array with an invalid type")
    dtype = kind.dtype
    whole = isinstance(shape, tuple) and len(shape) <= 32 and all(type(n) is int and n >= 0 for n in shape)
    if not whole:
        raise RefusedPickle(f"it contains a numpy array of invalid shape {str(shape)[:40]}")
    count = math.prod(shape)
    if dtype.hasobject:
        if not isinstance(data, list) or len(data) != count:
            raise RefusedPickle(f"it contains a numpy array of {count} objects but not as many values")
        flat = np.empty(count, dtype=object)
        for i, value in enumerate(data):
            flat[i] = value
        return flat.reshape(shape, order=order)
    if isinstance(data, str):  # written by Python 2
        data = data.encode("latin1")
    if not isinstance(data, bytes | bytearray) or len(data) != count * dtype.itemsize:
        raise RefusedPickle(f"it contains a numpy array of {count} values of type {dtype} but not as many bytes")
    if count == 0 or dtype.itemsize == 0:
        return np.zeros(shape, dtype=dtype)
    array = np.frombuffer(data, dtype=dtype)
    if dtype.kind == "U" and (array.view(dtype.newbyteorder(dtype.byteorder).str[0] + "u4") > 0x10FFFF).any():
        raise RefusedPickle("it contains text that is not valid Unicode")
    return array.reshape(shape, order=order).copy(order=order)


def _array_from_buffer(buffer: Any, dtype: Any, shape: Any, order: Any) -> Any:
    return _checked_array(bytes(buffer) if isinstance(buffer, memoryview) else buffer, dtype, shape, order)


def _scalar(dtype: Any, data: Any = None) -> Any:
    if not isinstance(dtype, _Dtype) or dtype.dtype.hasobject:
        raise RefusedPickle("it contains a numpy scalar that is not a plain number")
    return _checked_array(data, dtype, (1,), "C")[0]


def _storage_from_bytes(data: bytes) -> Any:
    """`torch.storage._load_from_bytes` with restrictions; torch's version is an unrestricted `torch.load`."""
    import torch

    check_torch(io.BytesIO(data))
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _reaches(offset: int, size: Any, stride: Any) -> float:
    """Number of values that a tensor needs in its storage; infinity if any argument is negative."""
    if min((offset, *size, *stride)) < 0:
        return math.inf
    if 0 in size:
        return 0
    return offset + 1 + sum((length - 1) * step for length, step in zip(size, stride, strict=True))


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_requires_grad_and_hooks: Any) -> Any:
    """`torch._utils._rebuild_tensor_v2` without gradient and hooks."""
    import torch

    kind = torch.float32
    if isinstance(storage, torch.storage.TypedStorage):
        kind, storage = storage.dtype, storage._untyped_storage
    if not isinstance(storage, torch.UntypedStorage):
        raise RefusedPickle("it contains a torch tensor without a storage")
    # set_ would grow a storage that is too small and expose uninitialised memory.
    if _reaches(offset, size, stride) * kind.itemsize > storage.nbytes():
        raise RefusedPickle(f"it contains a torch tensor of size {tuple(size)} that reaches outside its storage")
    return torch.empty(0, dtype=kind).set_(storage, offset, tuple(size), tuple(stride))


_BUILTINS = (set, frozenset, list, tuple, dict, int, float, complex, bool)
_ALLOWED: dict[tuple[str, str], Any] = {
    **{(module, kind.__name__): kind for kind in _BUILTINS for module in ("builtins", "__builtin__")},
    **{(module, "bytes"): _Call(_bytes) for module in ("builtins", "__builtin__")},
    **{(module, "bytearray"): _Call(_bytearray) for module in ("builtins", "__builtin__")},
    ("__builtin__", "long"): int,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): collections.defaultdict,
    ("_codecs", "encode"): _Call(_encode),
    ("numpy", "ndarray"): _Kind(),
    ("numpy", "dtype"): _Call(_Dtype),
    ("torch.storage", "_load_from_bytes"): _Call(_storage_from_bytes),
    ("torch._utils", "_rebuild_tensor"): _Call(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Call(_tensor),
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and 2
    _ALLOWED[_core + ".multiarray", "_reconstruct"] = _Call(_empty_array)
    _ALLOWED[_core + ".multiarray", "scalar"] = _Call(_scalar)
    _ALLOWED[_core + ".numeric", "_frombuffer"] = _Call(_array_from_buffer)


MOST_PARTS = 10_000_000
"""Maximum number of values in a tuple, with repeats, because a hash visits all of them."""
DEEPEST = 100
"""Maximum nesting of containers."""


_InPython: Any = pickle._Unpickler  # type: ignore[attr-defined]


ARRAY_PARTS: list[tuple[Any, str]] = [
    (_Kind(), "numpy.ndarray"),
    (_Dtype, "numpy.dtype"),
    (_Array, "signcl.an_array_in_the_making"),
    *((_empty_array, f"{core}.multiarray._reconstruct") for core in ("numpy.core", "numpy._core")),
    *((_scalar, f"{core}.multiarray.scalar") for core in ("numpy.core", "numpy._core")),
    (_encode, "_codecs.encode"),
]
"""Our replacements for numpy's unpickling functions, for torch's restricted unpickler. Pass its result to `finished`.
"""


class _Patient:
    """A file that is read in chunks, so a false length in it does not allocate memory."""

    PIECE = 1 << 20

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.readline = file.readline

    def read(self, size: int) -> bytes:
        """Reads `size` bytes, or fewer at the end of the file."""
        if size <= self.PIECE:
            return self._file.read(size)
        pieces, left = [], size
        while left > 0 and (piece := self._file.read(min(left, self.PIECE))):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)


class _Unpickler(_InPython):  # type: ignore[misc]
    """Python's pure-Python unpickler, because its steps can be checked."""

    dispatch: ClassVar[dict[int, Any]] = dict(_InPython.dispatch)

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(_Patient(file), encoding="latin1")
        self.sizes: dict[int, int] = {}
        self.kept: list[Any] = []  # counted tuples, kept alive so that no other object reuses their id

    def find_class(self, module: str, name: str) -> Any:
        """The only way for a pickle to access anything that is not plain data."""
        if (module, name) == ("torch", "Size"):
            return tuple
        if (module, name) not in _ALLOWED:
            raise RefusedPickle(f"it asks for {module[:60]}.{name[:60]}")
        return _ALLOWED[module, name]

    def _count(self) -> None:
        """Rejects nested tuples in which one object is reached millions of times."""
        made = self.stack[-1]
        parts = 1 + sum(self.sizes.get(id(part), 1) for part in made if type(part) is tuple) + len(made)
        if parts > MOST_PARTS:
            raise RefusedPickle(f"it contains a tuple of more than {MOST_PARTS:,} parts")
        self.sizes[id(made)] = parts
        self.kept.append(made)

    def load_bytearray8(self) -> None:
        """Like Python's, but allocates no memory for bytes that are not in the file."""
        size = int.from_bytes(self.read(8), "little")
        data = self.read(size)
        if len(data) != size:
            raise pickle.UnpicklingError("pickle data was truncated")
        self.append(bytearray(data))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8


def _counted(code: bytes) -> Callable[[_Unpickler], None]:
    plain = _InPython.dispatch[code[0]]

    def load(unpickler: _Unpickler) -> None:
        plain(unpickler)
        unpickler._count()

    return load


for _code in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3):
    _Unpickler.dispatch[_code[0]] = _counted(_code)


def check_torch(file: IO[bytes]) -> None:
    """Rejects a torch file that claims more memory than it has bytes, or needs a hash that would take years.

    Nothing is built: its pickles are read with sizes instead of tensors. Damaged files pass, because torch reports
    them.

    Args:
        file: in torch's zip format or the legacy format.

    Raises:
        RefusedPickle: members, storages or tensors larger than the file; a tuple of more than `MOST_PARTS` parts.
    """
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as whole:
                _check_members(whole)
                most = sum(info.file_size for info in whole.infolist())
                for name in whole.namelist():
                    if name.endswith("data.pkl"):
                        with whole.open(name) as inside:
                            _Sizes(inside, most).load()
            return
        most = file.seek(0, io.SEEK_END)
        file.seek(0)
        for _ in range(LEGACY_PICKLES):
            _Sizes(file, most).load()
    except RefusedPickle:
        raise
    except Exception:  # a broken or hostile file can raise nearly anything
        return


def _check_members(whole: zipfile.ZipFile) -> None:
    try:
        check_members(whole)
    except ValueError as error:
        raise RefusedPickle(str(error)) from None


class _Inert:
    """Placeholder for anything but plain data while a pickle is only checked: accepts all calls, does nothing."""

    def __init__(self, *parts: Any) -> None:
        pass

    def _nothing(self, *parts: Any) -> None:
        pass

    __setstate__ = __setitem__ = append = extend = add = update = _nothing


@dataclass(frozen=True)
class _Stored:
    """A torch storage that is not loaded."""

    values: int


class _Sizes(_Unpickler):
    """Compares the memory that a torch pickle asks for with the size of its file.

    Args:
        most: maximum total bytes of its storages.
    """

    def __init__(self, file: IO[bytes], most: int) -> None:
        super().__init__(file)
        self.most, self.needed = most, 0
        self.stored: dict[Any, int] = {}
        """Bytes of each storage."""

    def find_class(self, module: str, name: str) -> Any:
        """Allows only names of storages and the shapes of tensors."""
        if module == "torch._utils" and name in REBUILT:
            return self._tensor
        if (module, name) == ("torch", "Size"):
            return tuple
        return name if module.startswith("torch") and name.endswith("Storage") else _Inert

    def persistent_load(self, told: Any) -> Any:
        """A storage elsewhere in the file, given by its type, key, device and number of values."""
        _, kind, key, _, values = told[:5]
        size, before = values * STORED.get(kind.removesuffix("Storage"), 1), self.stored.get(key, 0)
        if size > before:  # a storage shared by several tensors counts once
            self.stored[key], self.needed = size, self.needed + size - before
        if self.needed > self.most or values < 0:
            raise RefusedPickle(f"its tensors need {self.needed:,} bytes, but the file has {self.most:,}")
        return _Stored(values)

    def _tensor(self, storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Any:
        if isinstance(storage, _Stored) and _reaches(offset, size, stride) > storage.values:
            raise RefusedPickle(f"it contains a torch tensor of size {tuple(size)} that reaches outside its storage")
        return _Inert()


def finished(value: Any, seen: dict[int, Any], depth: int = 0) -> Any:
    """Replaces arrays and dtypes under construction in a value by the finished ones.

    Args:
        value: the result of an unpickler with `ARRAY_PARTS`.
        seen: objects visited before, by id; start with {}.
        depth: number of containers around the value.
    """
    if isinstance(value, _Dtype):
        return value.dtype
    if isinstance(value, _Array):
        value = value.array
    held = isinstance(value, list | tuple | dict) or (isinstance(value, np.ndarray) and value.dtype.hasobject)
    if not held:  # hashed values, such as keys and members of sets, contain nothing under construction
        return value
    if id(value) in seen:
        return seen[id(value)]
    if depth > DEEPEST:
        raise RefusedPickle(f"it contains more than {DEEPEST} nested containers")
    seen[id(value)] = value
    if isinstance(value, tuple):
        made = tuple(finished(part, seen, depth + 1) for part in value)
        if any(new is not old for new, old in zip(made, value)):
            seen[id(value)] = made
        return seen[id(value)]
    target = value.flat if isinstance(value, np.ndarray) else value
    for key, part in list(value.items()) if isinstance(value, dict) else enumerate(target):
        if (new := finished(part, seen, depth + 1)) is not part:
            target[key] = new
    return value


def read_pickle(file: IO[bytes], where: str = "pickle") -> Any:
    """Reads one object from an open, uncompressed pickle.

    Args:
        file: a binary file.
        where: name of the file for error messages.

    Raises:
        ValueError: the pickle asks for anything but containers, text, numbers, arrays and tensors, or is broken.
    """
    try:
        unpickler = _Unpickler(file)
        return finished(unpickler.load(), {})
    except RefusedPickle as error:
        raise ValueError(
            f"{where}: refused, {error}; only containers, text, numbers, numpy arrays and torch tensors are read from "
            "a pickle, since anything else can run code. If you trust the file, convert it to .npz in your own script"
        ) from None
    except OSError:
        raise
    except Exception as error:  # a broken or hostile pickle can raise nearly anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{where}: not a readable pickle ({reason[:200]})") from None


def read_npy(path: Path | str) -> Any:
    """Reads the array in a .npy file; an array of objects (a dictionary saved by `np.save`) is read like a pickle.

    Raises:
        FileNotFoundError: no such file.
        ValueError: refused or broken.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; needs a .npy file")
    try:
        return load_arrays(path)
    except (ValueError, EOFError, OSError) as error:
        if "Object arrays" not in str(error):
            raise ValueError(f"{path}: not a readable .npy file ({str(error)[:200]})") from None
    with naming(path), path.open("rb") as file:
        npy_head(file)
        return read_pickle(file, str(path))


def load_pickle(path: Path | str) -> Any:
    """Reads the object in a pickle file, plain or gzip (detected by its first bytes, not its name).

    Tensors are on the CPU and without gradient.

    Raises:
        FileNotFoundError: no such file.
        ValueError: refused or broken, see `read_pickle`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; needs a pickle (plain or gzip)")
    with naming(path):
        return _loaded(path)


def _loaded(path: Path) -> Any:
    with path.open("rb") as file:
        packed = file.read(2) == GZIP_MAGIC
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            found = read_pickle(file, str(path))  # type: ignore[arg-type]
            file.read(1)  # read to the end, where gzip checks its checksum
            return found
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be unpacked ({error}); copy or download it again") from None
