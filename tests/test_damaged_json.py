"""JSON files of runs and stores that are damaged, by accident or on purpose: one line that names file and place."""

import json
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import signcl
from signcl.data.features.store import FeatureStore, write_store
from signcl.data.json_files import Maybe, check_shape, parse_json, read_json
from signcl.data.text.tokenizers import load_glosses, load_tokenizer


@pytest.mark.parametrize(("data", "shape", "said"), [
    ({"a": 1}, {"a": str}, "a: needs str, got 1"),
    ({"a": True}, {"a": int}, "a: needs int, got True"),
    ({"a": float("nan")}, {"a": float}, "a: needs float, got nan"),
    ({"a": [1, "x"]}, {"a": [int]}, r"a\[1\]: needs int, got 'x'"),
    ({"a": [1, 2, 3]}, {"a": (int, int)}, "a: needs a list of 2, got"),
    ({"a": {"b": 1}}, {"a": {str: str}}, r"a\['b'\]: needs str, got 1"),
    ({}, {"a": int}, "the file has no 'a'"),
    ([], {"a": int}, "the file: needs a mapping, got"),
    ({"a": "x" * 100}, {"a": int}, r"got 'x+\.\.\."),
])  # fmt: skip
def test_a_wrong_shape_is_named(data, shape, said):
    with pytest.raises(ValueError, match=said):
        check_shape(data, shape)


def test_a_right_shape_passes():
    check_shape({"a": 1, "b": None, "more": 1}, {"a": float, "b": int | None, "c?": str})
    check_shape([["x", 1]], [(str, int)])


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a": ' + "9" * 5000 + "}", "\xff"])
def test_what_is_no_json_is_named(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text, encoding="latin1")
    with pytest.raises(ValueError, match=r"x\.json is damaged \(.*\); copy it again"):
        read_json(path, {}, "copy it again")


@pytest.mark.parametrize(("text", "said"), [
    ('{"a": 1, "a": 2}', "the key 'a' occurs twice"),
    ('["\\ud800"]', "a lone surrogate"),
    ("[" * 101 + "]" * 101, "at most 100 levels"),
    ('{"a":' * 500 + "1" + "}" * 500, "at most 100 levels"),
    ("9" * 5000, "4300 digits"),
    (b"\xff", "not UTF-8: invalid start byte at byte 0"),
    ("[1,]", "not JSON: "),
])  # fmt: skip
def test_what_python_reads_and_should_not(text, said):
    with pytest.raises(ValueError, match=said):
        parse_json(text)


def test_what_is_json_is_read():
    assert parse_json("\ufeff[1]".encode()) == [1]
    assert parse_json('["\\ud83d\\ude00", "\\\\ud800"]') == ["\U0001f600", "\\ud800"]
    assert parse_json("[" * 100 + "]" * 100) is not None
    check_shape([None, {"a": 1}], [Maybe({"a": int})])


def test_no_other_module_reads_json():
    # One reader, so that what it refuses is refused everywhere.
    package = Path(signcl.__file__).parent
    readers = [str(path.relative_to(package)) for path in package.rglob("*.py")
               if re.search(r"\bjson\.loads?\b|\bJSONDecoder\b|import (json\.decoder|loads?)\b|from json import",
                            path.read_text(encoding="utf-8"))]  # fmt: skip
    assert sorted(readers) == ["data/json_files.py", "inference/exported_run.py"]  # the second runs without signcl


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store") / "store"
    clips = [(f"clip {i}", np.full((i + 1, 4), i, np.float32)) for i in range(5)]
    write_store(folder, clips, shard_samples=2, meta={"stride": 4, "thinned": {"clip 1": (10, 5)}})
    return folder


def changed(store, tmp_path, change) -> str:
    folder = shutil.copytree(store, tmp_path / "copy")
    index = json.loads((folder / "index.json").read_text())
    change(index)
    (folder / "index.json").write_text(json.dumps(index))
    return str(folder)


@pytest.mark.parametrize(("change", "said"), [
    (lambda i: i["shards"].__setitem__(0, "../secret.safetensors"), "needs names of files in the same folder"),
    (lambda i: i["shards"].__setitem__(0, "/etc/passwd"), "needs names of files in the same folder"),
    (lambda i: i["shards"].__setitem__(0, "a/b.safetensors"), "needs names of files in the same folder"),
    (lambda i: i["shards"].__setitem__(0, 3), r"shards\[0\]: needs str, got 3"),
    (lambda i: i.update(dim=10**12), "dim: needs 1 to 1,000,000, got 1000000000000"),
    (lambda i: i.update(dim="4"), "dim: needs int"),
    (lambda i: i.update(dtype="object"), "dtype: needs one of float16, float32"),
    (lambda i: i.update(meta=[]), "meta: needs a mapping"),
    (lambda i: i["meta"].update(stride="4"), r"meta.stride: needs float, got '4'"),
    (lambda i: i["meta"].update(stride=0), "meta.stride: needs a number above 0"),
    (lambda i: i["meta"].update(thinned={"clip 1": 3}), r"thinned\['clip 1'\]: needs a list of 2"),
    (lambda i: i["entries"].append(["clip 0", 0, 0, 1]), "the clip 'clip 0' occurs twice"),
    (lambda i: i["entries"].append(["x", 9, 0, 1]), "needs a shard below 3"),
    (lambda i: i["entries"].append(["x", 0, -1, 1]), "got shard 0, row -1"),
    (lambda i: i["entries"].append(["x", 0, 0, 0]), "0 rows"),
    (lambda i: i["entries"].append(["x", 0]), r"entries\[5\]: needs a list of 4"),
    (lambda i: i["entries"].append([None, 0, 0, 1]), r"entries\[5\]\[0\]: needs str"),
    (lambda i: i.pop("entries"), "has no 'entries'"),
    (lambda i: i.update(format="signcl features 9"), "is not the index of a feature store"),
])  # fmt: skip
def test_a_damaged_index_is_named(store, tmp_path, change, said):
    with pytest.raises(ValueError, match=r"index\.json is damaged \(.*" + said):
        FeatureStore(changed(store, tmp_path, change))


def test_any_damage_of_an_index_is_one_line_or_harmless(store, tmp_path):
    folder = shutil.copytree(store, tmp_path / "copy")
    whole = (folder / "index.json").read_bytes()
    draw = random.Random(0)
    for _ in range(400):
        content = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            place = draw.randrange(len(content))
            action = draw.randrange(3)
            if action == 0:
                content[place] = draw.randrange(256)
            elif action == 1:
                del content[place : place + draw.randint(1, 9)]
            else:
                content[place:place] = draw.choice([b"[", b"{", b"null", b"-1", b"1e400", b'"', b",", b"NaN"])
        (folder / "index.json").write_bytes(content)
        said = ""
        try:
            opened = FeatureStore(folder)
            for name in opened.names:
                opened.clock(name)
                assert opened[name].shape == (opened.lengths[name], opened.dim)
                assert opened.mapped(name).shape == (opened.lengths[name], opened.dim)
        except ValueError as error:
            said = str(error)
        assert "\n" not in said


@pytest.mark.parametrize("text", ["3", "{}", "[1]", '["a", null]'])
def test_damaged_glosses_are_named(tmp_path, text):
    (tmp_path / "glosses.json").write_text(text)
    with pytest.raises(ValueError, match=r"glosses\.json is damaged"):
        load_glosses(tmp_path)


@pytest.mark.parametrize("text", ["3", "{}", '{"kind": 1}', '{"kind": "vocabulary", "words": "abc"}',
                                  '{"kind": "vocabulary", "words": ["a"], "level": 3, "lowercase": true}'])  # fmt: skip
def test_a_damaged_tokenizer_is_named(tmp_path, text):
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(ValueError, match=r"tokenizer\.json is damaged"):
        load_tokenizer(tmp_path)
