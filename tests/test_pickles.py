"""The restricted unpickler: what it builds, and what it refuses without running it."""

import collections
import gzip
import io
import os
import pickle
import subprocess
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from signcl.data.pickles import load_pickle
from signcl.systems.parts.checkpoints import read_data

VALUES = {
    "list": [1, 2.5, None, True, "ä"],
    "set": {1, 2},
    "bytes": b"\xff\x00",
    "ordered": collections.OrderedDict(a=1),
    "default": collections.defaultdict(list, {"a": [1]}),
    "size": torch.Size([2, 3]),
    "array": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "strings": np.array(["abc", "d"]),
    "objects": np.array(["x", None], dtype=object),
    "scalar": np.float32(3.5),
    "tensor": torch.arange(8.0).view(2, 4),
    "half": torch.ones(3, dtype=torch.float16),
    "bfloat": torch.ones(3, dtype=torch.bfloat16),
    "long": torch.tensor(3),
    "bool": torch.tensor([True, False]),
    "view": torch.arange(12).view(3, 4).t()[1:],
}


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b) and a.dtype == b.dtype
    if isinstance(a, np.ndarray | np.generic):
        return np.array_equal(a, b) and a.dtype == b.dtype
    return a == b


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("packed", [False, True])
def test_containers_arrays_and_tensors_come_back_equal(tmp_path, protocol, packed):
    path = tmp_path / "labels.train"  # the field's names say nothing about the packing
    with gzip.open(path, "wb") if packed else path.open("wb") as file:
        pickle.dump(VALUES, file, protocol=protocol)
    loaded = load_pickle(path)
    assert loaded.keys() == VALUES.keys()
    for key, value in VALUES.items():
        assert same(value, loaded[key]), key


def test_numpy_1_names_are_understood(tmp_path):
    data = pickle.dumps(np.arange(3.0), protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    (tmp_path / "old.pkl").write_bytes(data)
    np.testing.assert_array_equal(load_pickle(tmp_path / "old.pkl"), np.arange(3.0))


class Reduce:
    """An object that pickles as a call of `function(*args)`."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def attacks(target: Path):
    command = f"touch {target}"
    code = f"open({str(target)!r}, 'w')"
    yield "system", Reduce(os.system, command)
    yield "eval", Reduce(eval, code)
    yield "exec", Reduce(exec, code)
    yield "Popen", Reduce(subprocess.Popen, ["touch", str(target)])
    yield "getattr", Reduce(getattr, "", "upper")
    yield "torch.serialization.load", Reduce(torch.load, str(target))
    yield "loads", Reduce(pickle.loads, pickle.dumps(Reduce(eval, code)))
    yield "codec", Reduce(__import__("_codecs").encode, "x", "rot13")


@pytest.mark.parametrize("kind", range(8))
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_malicious_pickle_is_refused_by_name_and_nothing_runs(tmp_path, kind, packed, protocol):
    target = tmp_path / "created"
    name, attack = list(attacks(target))[kind]
    path = tmp_path / "labels.pkl"
    with gzip.open(path, "wb") if packed else path.open("wb") as file:
        pickle.dump([{"name": "clip", "sign": attack}], file, protocol=protocol)
    with pytest.raises(ValueError, match=r"labels\.pkl: refused") as caught:
        load_pickle(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not target.exists()


def test_the_tests_own_attack_would_have_worked(tmp_path):
    target = tmp_path / "created"
    pickle.loads(pickle.dumps(Reduce(eval, f"open({str(target)!r}, 'w')")))
    assert target.exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_an_attack_inside_a_torch_storage_is_refused(tmp_path, legacy):
    # torch.storage._load_from_bytes is by itself an unrestricted torch.load.
    target = tmp_path / "created"
    inner = io.BytesIO()
    torch.save(Reduce(os.system, f"touch {target}"), inner, _use_new_zipfile_serialization=not legacy)
    attack = Reduce(torch.storage._load_from_bytes, inner.getvalue())
    path = tmp_path / "phoenix14t.pami0.dev"
    with gzip.open(path, "wb") as file:
        pickle.dump([{"name": "clip", "sign": attack}], file)
    with pytest.raises(ValueError, match=r"pami0\.dev"):
        load_pickle(path)
    assert not target.exists()


def test_a_pickle_cannot_alter_what_it_may_call(tmp_path):
    # BUILD with a (None, {...}) state sets attributes of the object before it; here of the allowed codec function.
    data = b"\x80\x02c_codecs\nencode\nN}(X\x09\x00\x00\x00_functionX\x01\x00\x00\x00au\x86b."
    (tmp_path / "build.pkl").write_bytes(data)
    with pytest.raises(ValueError, match="_function"):
        load_pickle(tmp_path / "build.pkl")
    (tmp_path / "fine.pkl").write_bytes(pickle.dumps(b"\xff", protocol=0))
    assert load_pickle(tmp_path / "fine.pkl") == b"\xff"


def test_a_tensor_outside_its_storage_is_refused(tmp_path):
    good = torch.arange(4.0)
    rebuild, args = good.__reduce_ex__(2)
    path = tmp_path / "wide.pkl"
    path.write_bytes(pickle.dumps(Reduce(rebuild, args[0], 0, (1000,), (1,), *args[4:])))
    with pytest.raises(ValueError, match=r"wide\.pkl: refused, .*outside its storage"):
        load_pickle(path)


def hostile():
    """Pickles that plain unpickling answers with a crash, foreign memory, all memory, or nothing for years."""
    array, dtype, rebuild = np.ndarray, np.dtype, np.arange(3).__reduce__()[0]
    word = b"\x41" * 8
    yield "an object array over bytes", pickle.dumps(Reduce(array, (1,), dtype("O"), word))
    yield "uninitialised memory", pickle.dumps(Reduce(array, (64, 64), "u1"))
    state = (1, (1,), dtype("O"), False, word)
    yield "objects given as bytes", pickle.dumps(Stated(rebuild, (array, (0,), b"b"), state))
    yield "more than its bytes", pickle.dumps(Stated(rebuild, (array, (0,), b"b"), (1, (9,), dtype("f8"), False, word)))
    yield "a negative shape", pickle.dumps(Stated(rebuild, (array, (0,), b"b"), (1, (-1,), dtype("f8"), False, word)))
    yield (
        "a huge shape",
        pickle.dumps(Stated(rebuild, (array, (0,), b"b"), (1, (1 << 62, 0, 1 << 62), dtype("f8"), False, b""))),
    )
    flags = Stated(dtype, ("O", False, True), (3, "|", None, None, None, 8, 8, 0))  # 0: "these are no objects"
    yield "objects in disguise", pickle.dumps(Stated(rebuild, (array, (0,), b"b"), (1, (1,), flags, False, word)))
    yield "a structured type", pickle.dumps(np.zeros(2, dtype=[("a", "f4"), ("b", "O")]))
    yield "a type with a comma", pickle.dumps(Reduce(dtype, "f4,O"))
    yield (
        "text that is not valid Unicode",
        pickle.dumps(Stated(rebuild, (array, (0,), b"b"), (1, (1,), dtype("U1"), False, b"\xff\xff\xff\xff"))),
    )
    yield "a terabyte", pickle.dumps(Reduce(bytearray, 10**12))
    yield "a terabyte of bytes", pickle.dumps(Reduce(bytes, 10**12))
    yield "a terabyte by length", b"\x80\x05\x96" + (10**12).to_bytes(8, "little") + b"x."
    doubled = b")" + b"2\x86" * 60  # a tuple of twice itself, 60 times
    yield "a hash of years", b"\x80\x02}" + doubled + b"K\x01s."
    yield "a set of years", b"\x80\x04\x8f(" + doubled + b"\x90."
    yield "a hundred thousand lists", b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
    yield "names within names", b"\x80\x04\x8c\x08builtins\x8c\x13int.from_bytes.real1\x93."


class Stated:
    """An object that pickles as a call and a state."""

    def __init__(self, function, args, state):
        self.call = (function, args, state)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(("name", "data"), list(hostile()), ids=[name for name, _ in hostile()])
def test_memory_and_time_are_not_at_the_file_s_word(tmp_path, name, data):
    path = tmp_path / "hostile.pkl"
    path.write_bytes(data)
    started = time.perf_counter()
    with pytest.raises(ValueError, match=r"hostile\.pkl: (refused|not a readable pickle)") as caught:
        load_pickle(path)
    assert "\n" not in str(caught.value)
    assert time.perf_counter() - started < 3


@pytest.mark.parametrize("legacy", [False, True])
def test_checkpoints_are_as_safe(tmp_path, legacy):
    path = tmp_path / "best.ckpt"
    values = {"scores": np.arange(6.0).reshape(2, 3), "best": np.float64(3.5), "names": np.array(["a", None])}
    torch.save(values, path, _use_new_zipfile_serialization=not legacy)
    found = read_data(path)
    for key, value in values.items():
        assert same(value, found[key]), key
    for attack in (Reduce(np.ndarray, (64, 64), "u1"), Reduce(np.ndarray, (1,), np.dtype("O"), b"A" * 8)):
        torch.save({"model": attack}, path, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(ValueError, match=r"best\.ckpt cannot be read as a checkpoint"):
            read_data(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_key_of_a_checkpoint_that_would_take_years_is_refused(tmp_path, legacy):
    nested = b")q\x00" + b"".join(bytes([104, n, 104, n, 134, 113, n + 1]) for n in range(60))  # get, get, pair, put
    plain, path = tmp_path / "plain.pt", tmp_path / "years.pt"
    torch.save({"a": torch.ones(2)}, plain, _use_new_zipfile_serialization=not legacy)
    bomb = b"\x80\x02}" + nested + b"K\x01s."
    if legacy:
        data = plain.read_bytes()
        path.write_bytes(data[: data.index(b"\x80\x02}q\x00X\x01\x00\x00\x00a")] + bomb)
    else:
        with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w") as target:
            for name in source.namelist():
                target.writestr(name, bomb if name.endswith("data.pkl") else source.read(name))
    started = time.process_time()
    with pytest.raises(ValueError, match=r"years\.pt cannot be read as a checkpoint.*more than 10,000,000 parts"):
        read_data(path)
    assert time.process_time() - started < 3
    torch.save({("a", (1, 2)): 1.0, "b": [torch.Size([2, 3])]}, plain, _use_new_zipfile_serialization=not legacy)
    assert read_data(plain) == {("a", (1, 2)): 1.0, "b": [(2, 3)]}


def test_what_is_shared_stays_shared_and_what_holds_itself_is_read(tmp_path):
    array = np.arange(3)
    own: list = [array, {"same": array}, (array, 1)]
    own.append(own)
    (tmp_path / "own.pkl").write_bytes(pickle.dumps(own))
    found = load_pickle(tmp_path / "own.pkl")
    assert found[0] is found[1]["same"] is found[2][0]
    assert found[3] is found
    found[0][0] = 7  # writable, as numpy's own would be
    nested = np.empty(2, dtype=object)
    nested[:] = [np.ones(2), [np.zeros(1)]]
    (tmp_path / "nested.pkl").write_bytes(pickle.dumps(np.asfortranarray(nested.reshape(2, 1))))
    (first,), (second,) = load_pickle(tmp_path / "nested.pkl")
    np.testing.assert_array_equal(first, np.ones(2))
    np.testing.assert_array_equal(second[0], np.zeros(1))


def test_truncated_and_foreign_files_are_named(tmp_path):
    whole = gzip.compress(pickle.dumps(VALUES["array"]))
    (tmp_path / "half.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.pkl").write_text("name\ttext\n")
    (tmp_path / "empty.pkl").write_bytes(b"")
    for name in ("half.gz", "text.pkl", "empty.pkl"):
        with pytest.raises(ValueError, match=name):
            load_pickle(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"none\.pkl"):
        load_pickle(tmp_path / "none.pkl")
