"""`signcl export`: a run as ONNX files or torch.export programs that need no signcl, checked against the run.

An export is a folder: one file a program (`visual`, `encoder`, `decoder`), `export.json` with everything else that a
caller must know, and `exported_run.py`, which reads both with numpy and onnxruntime or torch alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from signcl.data.files import write_json
from signcl.data.installed import version_of
from signcl.data.progress import say
from signcl.data.text import SentencePieceTokenizer, VocabularyTokenizer
from signcl.inference.export_programs import Program, check_exportable, programs_of
from signcl.training.runs import Run, load_run

__all__ = ["OPSET", "Export", "Exported", "export"]

OPSET = 20
"""Of the ONNX files: onnxruntime 1.17 and newer read it."""
TOLERANCE = {"float32": 1e-4, "float16": 3e-2}
"""Largest difference from the run in float32, as a share of the largest number that the run gives (1 at least)."""
SIZES = (
    {"frames": 1, "batch": 1, "time": 1, "words": 1, "steps": 1},
    {"frames": 2, "batch": 1, "time": 6, "words": 1, "steps": 9},
    {"frames": 5, "batch": 4, "time": 41, "words": 7, "steps": 3},
)
"""What every program is checked with: one of everything, one clip, several clips of several lengths with padding."""
EXAMPLE = "exported_run.py"
Format = Literal["onnx", "torch"]
Call = Callable[..., list[Tensor]]


@dataclass(frozen=True)
class Exported:
    """One program of an export."""

    file: str
    megabytes: float
    seconds: float
    """To follow the model and write the file."""
    difference: float
    """The largest one from the run, as a share of its largest number (1 at least), over all checks."""


@dataclass(frozen=True)
class Export:
    """What was written."""

    folder: str
    programs: dict[str, Exported]

    def __str__(self) -> str:
        rows = [
            f"{one.file:<14} {one.megabytes:9.2f} MB {one.seconds:7.1f} s  differs from the run by {one.difference:.1e}"
            for one in self.programs.values()
        ]
        return "\n".join([*rows, f"{self.folder}: also export.json and {EXAMPLE}, which answers without signcl"])


def export(
    source: str | Path,
    out: str | Path,
    form: Format = "onnx",
    *,
    dtype: str = "float32",
    size: tuple[int, int] | None = None,
) -> Export:
    """Write a run as programs that need no signcl, and check each against the run.

    Args:
        source: a run folder.
        out: folder of the export. Files of an earlier export there are replaced; any other file is left alone.
        form: onnx files, or torch.export programs (.pt2).
        dtype: of weights and arithmetic, float32 or float16. What goes in and comes out is float32 either way.
        size: height and width of a frame, where the recipe leaves it to the video (no input.size, no input.crop).

    Raises:
        FileNotFoundError, ValueError: no run, an extra that is not installed, a system that cannot be exported, a
            program that differs from the run.
    """
    if form not in ("onnx", "torch") or dtype not in TOLERANCE:
        raise ValueError(f"export needs form onnx or torch and dtype {' or '.join(TOLERANCE)}, got {form}, {dtype}")
    if form == "onnx":
        _check_extra()
    run, exact = load_run(source), load_run(source)  # the second stays in float32
    check_exportable(run.model)
    pixels = None if run.feature_dim is not None else _pixels(run, size)
    if pixels is None and size is not None:
        raise ValueError(f"--size is for runs that read frames, and {source} reads features of size {run.feature_dim}")
    kind = getattr(torch, dtype)
    programs = programs_of(run.model, run.feature_dim, pixels, kind)
    references = programs_of(exact.model, exact.feature_dim, pixels, torch.float32)
    folder, written = Path(out), {}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder.parent) as beside:  # moved when all of it is right
        place = Path(beside)
        for program, reference in zip(programs, references):
            say(f"exporting {program.name} ...")
            written[program.name] = _write(program, reference, place, form, dtype)
        write_json(place / "export.json", _described(exact, programs, written, pixels, form, dtype, place))
        shutil.copyfile(Path(__file__).parent / EXAMPLE, place / EXAMPLE)
        _move(place, folder)
    return Export(str(folder), written)


def _move(place: Path, folder: Path) -> None:
    """Put a whole export in its folder, in place of the files of an earlier one."""
    folder.mkdir(exist_ok=True)
    earlier = [
        f"{name}.{ending}" for name in ("visual", "encoder", "decoder") for ending in ("onnx", "onnx.data", "pt2")
    ]
    for name in ("export.json", *earlier):
        (folder / name).unlink(missing_ok=True)
    for path in sorted(place.iterdir(), key=lambda path: path.name == "export.json"):  # it says that the rest is there
        if path.is_dir():
            shutil.rmtree(folder / path.name, ignore_errors=True)
        os.replace(path, folder / path.name)


def _check_extra() -> None:
    """onnx, onnxscript and onnxruntime, which only this needs."""
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"--onnx needs the extra export ({error.name} is missing): pip install 'signcl[export]'; --torch needs none"
        ) from None


def _pixels(run: Run, size: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of the frames that the frame encoder sees."""
    given = run.recipe.input
    side = given.crop or given.size
    if side is not None:
        if size is not None and size != (side, side):
            raise ValueError(f"--size {size[0]} {size[1]}: this run reads {side} x {side} pixels; leave the option out")
        return side, side
    if size is None:
        raise ValueError("this run reads frames at the size of their files, and a program needs one: give --size H W")
    return size


def _write(program: Program, reference: Program, folder: Path, form: Format, dtype: str) -> Exported:
    """One program: followed, written, loaded again and compared."""
    file, started = folder / f"{program.name}.{'onnx' if form == 'onnx' else 'pt2'}", time.perf_counter()
    try:
        with torch.no_grad(), _quiet():
            followed = torch.export.export(
                program.module, program.example, dynamic_shapes=(program.dynamic()), strict=False
            )
            call = _write_onnx(followed, program, file) if form == "onnx" else _write_torch(followed, file)
            seconds = time.perf_counter() - started
            difference = largest_difference(call, reference)
    except Exception as error:  # torch and onnxruntime have no common kind for what they cannot do
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{program.name} cannot be exported to {form}: {type(error).__name__}: {reason}") from error
    if not difference <= TOLERANCE[dtype]:
        raise ValueError(
            f"{file.name} differs from the run by {difference:.2g} of its largest number, and {TOLERANCE[dtype]} is "
            f"allowed in {dtype}; nothing was written" + ("" if dtype == "float32" else "; export in float32")
        )
    data = folder / f"{file.name}.data"  # beside an ONNX file of more than 2 GB
    size = sum(path.stat().st_size for path in (file, data) if path.is_file())
    return Exported(file.name, size / 1e6, seconds, difference)


def _write_onnx(followed: Any, program: Program, file: Path) -> Call:
    """An ONNX file and what onnxruntime makes of it."""
    import onnxruntime

    axes = [{i: axis for i, axis in enumerate(shape) if isinstance(axis, str)} for shape in program.inputs.values()]
    made: Any = torch.onnx.export(
        followed,
        dynamo=True,
        opset_version=OPSET,
        input_names=list(program.inputs),
        output_names=list(program.outputs),
        verbose=False,
    )
    for value, names in zip(made.model.graph.inputs, axes):
        value.shape = type(value.shape)([names.get(i, size) for i, size in enumerate(value.shape)])
    made.save(str(file))  # weights of more than 2 GB go beside it, into a file of the same name and .data
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def call(*inputs: Tensor) -> list[Tensor]:
        given = {name: value.numpy() for name, value in zip(program.inputs, inputs)}
        return [torch.from_numpy(found) for found in session.run(None, given)]

    return call


def _write_torch(followed: Any, file: Path) -> Call:
    """A torch.export program, loaded again."""
    torch.export.save(followed, file)
    # without guards: they ask for the memory layout of the example (S != 1), and the comparison with the run asks more
    module: Call = torch.export.load(file).module(check_guards=False)
    return module


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch.onnx tells of packages that it does without, and of its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


@torch.no_grad()
def largest_difference(call: Call, reference: Program) -> float:
    """How far a written program is from the module at several sizes, as a share of the module's largest number."""
    generator, worst = torch.Generator().manual_seed(0), 0.0
    for sizes in SIZES:
        inputs = reference.drawn(sizes, generator)
        for found, wanted in zip(call(*inputs), reference.module(*inputs), strict=True):
            if found.shape != wanted.shape or not found.isinf().equal(wanted.isinf()):
                return torch.inf
            finite = wanted.double().masked_fill(wanted.isinf(), 0)
            difference = (found.double().masked_fill(found.isinf(), 0) - finite).abs().max()
            share = float(difference / finite.abs().max().clamp(min=1))
            worst = share if not share <= worst else worst  # NaN is worse than any number
    return worst


def _described(
    run: Run,
    programs: list[Program],
    written: dict[str, Exported],
    pixels: tuple[int, int] | None,
    form: Format,
    dtype: str,
    folder: Path,
) -> dict[str, Any]:
    """`export.json`."""
    model, glosses = run.model, run.glosses
    classes = [] if glosses is None else ["<blank>", "<unk>", *glosses.glosses]
    return {
        "run": run.folder.resolve().name,
        "system": model.config.name,
        "title": model.title,
        "answers": model.answers,
        "dtype": dtype,
        "opset": OPSET if form == "onnx" else None,
        "versions": {name: version_of(name) for name in ("signcl", "torch", *(("onnx",) if form == "onnx" else ()))},
        "programs": {
            one.name: {
                "inputs": {name: list(axes) for name, axes in one.inputs.items()},
                "outputs": list(one.outputs),
                **asdict(written[one.name]),
            }
            for one in programs
        },
        "input": _input(run, pixels),
        "text": _text(run, folder) if model.answers == "sentences" else None,
        "classes": classes[2:] if model.answers == "classes" else classes,
    }


def _input(run: Run, pixels: tuple[int, int] | None) -> dict[str, Any]:
    """How a clip becomes what the first program reads."""
    given, visual = run.recipe.input, cast(Any, run.model.visual)
    found: dict[str, Any] = {
        "kind": "features" if pixels is None else "frames",
        "fps": given.fps or run.card.get("fps"),
        "first": 0 if given.stride_from == "first" else (given.stride - 1) // 2,
        "stride": given.stride,
        "max_frames": given.max_frames,
        "thinning": given.thinning,
    }
    if pixels is None:
        return {**found, "feature_dim": run.feature_dim, "pose": asdict(given.pose)}
    found |= {
        "size": given.size,
        "resized_by": "stretched to a square: pixel areas when smaller, bilinear when larger",
        "height": pixels[0],
        "width": pixels[1],
        "pixels": "uint8 RGB, rows from the top; the program visual normalizes them",
    }
    if hasattr(visual, "mean") and hasattr(visual, "scale"):
        found |= {"mean": visual.mean.flatten().tolist(), "std": (1 / visual.scale.float()).flatten().tolist()}
    if hasattr(visual, "encode_clips"):
        found |= {"window": visual.window, "window_stride": visual.stride}
    return found


def _text(run: Run, folder: Path) -> dict[str, Any]:
    """How token ids become a sentence."""
    words, decode = run.tokenizer, run.recipe.decode
    found: dict[str, Any] = {
        "start_id": words.start_id,
        "end_id": words.end_id,
        "pad_id": words.pad_id,
        "max_new_tokens": decode.max_new_tokens,
        "search": {"beams": decode.beams, "length_penalty": decode.length_penalty},
        "language": run.recipe.text.language,
    }
    pieces, between, tokenizer = words.pieces(), "", None
    if isinstance(words, VocabularyTokenizer):
        silent = {words.pad_id, words.start_id, words.end_id, words.mask_id} - {words.unk_id}
        between = " " if words.level == "word" else ""
        if words.level == "piece":
            pieces = [piece.replace("▁", " ") for piece in pieces]
    elif isinstance(words, SentencePieceTokenizer):
        silent = {i for i in range(len(pieces)) if i <= 3 or i > words.num_pieces} - {words.unk_id}
        pieces = [" ⁇ " if i == words.unk_id else piece.replace("▁", " ") for i, piece in enumerate(pieces)]
    else:
        silent = {words.pad_id, words.end_id}
        words.save(folder)
        (folder / "tokenizer.json").unlink()  # says only that there is a folder
        tokenizer = "pretrained_tokenizer/tokenizer.json"
        if not (folder / tokenizer).is_file():
            raise ValueError(f"{run.folder}: its tokenizer has no tokenizer.json, which the export needs to write text")
    return {
        **found,
        "pieces": ["" if i in silent else piece for i, piece in enumerate(pieces)],
        "between": between,
        "tokenizer": tokenizer,
    }
