"""`signcl export`: writes a run as ONNX files or torch.export programs that need no signcl, checked against the run.

An export is a folder with one file per program (`visual`, `encoder`, `decoder`), `export.json` with all other
information for callers, and `exported_run.py`, which uses both with only numpy and onnxruntime or torch.
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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from signcl.data.files import write_json
from signcl.data.installed import version_of
from signcl.data.progress import say
from signcl.data.text import SentencePieceTokenizer, VocabularyTokenizer
from signcl.inference.export_programs import Program, check_exportable, programs_of
from signcl.inference.exported_run import open_onnx
from signcl.systems import System
from signcl.systems.parts.lm import TextDecoder
from signcl.training.runs import Run, load_run

__all__ = ["OPSET", "Export", "Exported", "choose_language", "export", "text_of_export"]

OPSET = 20
"""Opset of the ONNX files, which onnxruntime 1.17 and newer can read."""
TOLERANCE = {"float32": 1e-4, "float16": 3e-2}
"""Largest allowed difference from the float32 run, as a share of the run's largest absolute value (at least 1)."""
SIZES = (
    {"frames": 1, "batch": 1, "time": 1, "words": 1, "steps": 1},
    {"frames": 2, "batch": 1, "time": 6, "words": 1, "steps": 9},
    {"frames": 5, "batch": 4, "time": 41, "words": 7, "steps": 3},
)
"""Sizes to check every program with: all 1, one clip, several clips of different lengths with padding."""
EXAMPLE = "exported_run.py"
Format = Literal["onnx", "torch"]
Call = Callable[..., list[Tensor]]


@dataclass(frozen=True)
class Exported:
    """One program of an export."""

    file: str
    megabytes: float
    seconds: float
    """Time to trace the model and write the file."""
    difference: float
    """Largest difference from the run over all checks, as a share of the run's largest value (at least 1)."""


@dataclass(frozen=True)
class Export:
    """A written export."""

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
    language: str = "",
) -> Export:
    """Write a run as programs that need no signcl, and check each against the run.

    Args:
        source: a run folder.
        out: folder of the export. Files of an earlier export are replaced; other files are not touched.
        form: onnx files, or torch.export programs (.pt2).
        dtype: float32 or float16, for weights and arithmetic. Inputs and outputs are always float32.
        size: height and width of a frame, if the recipe does not set it (no input.size, no input.crop).
        language: of all sentences, for a system whose prompt names it; default: `model.language`.

    Raises:
        FileNotFoundError, ValueError: no run, a missing optional package, a system that cannot be exported, or a
            program that differs from the run.
    """
    if form not in ("onnx", "torch") or dtype not in TOLERANCE:
        raise ValueError(f"export needs form onnx or torch and dtype {' or '.join(TOLERANCE)}, got {form}, {dtype}")
    if form == "onnx":
        _check_extra()
    run, exact = load_run(source), load_run(source)  # the second stays in float32
    check_exportable(run.model)
    for model in (run.model, exact.model) if language else ():
        choose_language(model, language)
    pixels = None if run.feature_dim is not None else _pixels(run, size)
    if pixels is None and size is not None:
        raise ValueError(f"--size is for runs that read frames, and {source} reads features of size {run.feature_dim}")
    kind = getattr(torch, dtype)
    programs = programs_of(run.model, run.feature_dim, pixels, kind)
    references = programs_of(exact.model, exact.feature_dim, pixels, torch.float32)
    folder, written = Path(out), {}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder.parent) as beside:  # moved when complete
        place = Path(beside)
        text = text_of_export(exact, place) if exact.model.answers == "sentences" else None
        for program, reference in zip(programs, references):
            say(f"exporting {program.name} ...")
            written[program.name] = _write(program, reference, place, form, dtype)
        write_json(place / "export.json", _described(exact, programs, written, pixels, form, dtype, text))
        shutil.copyfile(Path(__file__).parent / EXAMPLE, place / EXAMPLE)
        _move(place, folder)
    return Export(str(folder), written)


def choose_language(model: System, language: str) -> None:
    """Set the language that the prompt of a model names.

    Raises:
        ValueError: its prompt names none, or the run knows other languages.
    """
    config: Any = model.config
    if not hasattr(model, "exported_prompt") or "{language}" not in config.lm.prompt:
        raise ValueError(
            f"--language {language}: is for runs whose prompt names a language (model.lm.prompt with {{language}}); "
            f"leave it out"
        )
    known = config.languages
    if known and language not in (*known, *known.values()):
        raise ValueError(f"--language {language}: this run has the languages {', '.join(known)} (model.languages)")
    model.config = replace(config, language=known.get(language, language))


def _move(place: Path, folder: Path) -> None:
    """Move a complete export to its folder, replacing the files of an earlier one."""
    folder.mkdir(exist_ok=True)
    earlier = [
        f"{name}.{ending}" for name in ("visual", "encoder", "decoder") for ending in ("onnx", "onnx.data", "pt2")
    ]
    for name in ("export.json", *earlier):
        (folder / name).unlink(missing_ok=True)
    for path in sorted(place.iterdir(), key=lambda path: path.name == "export.json"):  # last: marks completeness
        if path.is_dir():
            shutil.rmtree(folder / path.name, ignore_errors=True)
        os.replace(path, folder / path.name)


def _check_extra() -> None:
    """Check that the optional packages onnx, onnxscript and onnxruntime are installed."""
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"--onnx needs the extra export ({error.name} is missing): pip install 'signcl[export]'; --torch needs none"
        ) from None


def _pixels(run: Run, size: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of the frame encoder's input."""
    given = run.recipe.input
    side = given.crop or given.size
    if side is not None:
        if size is not None and size != (side, side):
            raise ValueError(f"--size {size[0]} {size[1]}: this run reads {side} x {side} pixels; leave the option out")
        return side, side
    if size is None:
        raise ValueError(
            "this run reads frames at the size of their files, but a program needs a fixed size: give --size H W"
        )
    return size


def _write(program: Program, reference: Program, folder: Path, form: Format, dtype: str) -> Exported:
    """Trace and write one program, load it again and compare it with the run."""
    file, started = folder / f"{program.name}.{'onnx' if form == 'onnx' else 'pt2'}", time.perf_counter()
    try:
        with torch.no_grad(), _quiet():
            followed = torch.export.export(
                program.module, program.example, dynamic_shapes=(program.dynamic()), strict=False
            )
            call = _write_onnx(followed, program, file, dtype) if form == "onnx" else _write_torch(followed, file)
            seconds = time.perf_counter() - started
            difference = largest_difference(call, reference)
    except Exception as error:  # torch and onnxruntime have no common exception type
        reason = _innermost(error)
        kind, message = type(reason).__name__, " ".join(str(reason).split())[:300]
        raise ValueError(f"{program.name} cannot be exported to {form}: {kind}: {message}") from error
    if not difference <= TOLERANCE[dtype]:
        raise ValueError(
            f"{file.name} differs from the run by {difference:.2g} of its largest value; only {TOLERANCE[dtype]} is "
            f"allowed in {dtype}; nothing was written" + ("" if dtype == "float32" else "; export in float32")
        )
    data = folder / f"{file.name}.data"  # next to an ONNX file of more than 2 GB
    size = sum(path.stat().st_size for path in (file, data) if path.is_file())
    return Exported(file.name, size / 1e6, seconds, difference)


def _innermost(error: BaseException) -> BaseException:
    """The first error of a chain; those after it say where it happened."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _write_onnx(followed: Any, program: Program, file: Path, dtype: str) -> Call:
    """Write an ONNX file; returns a function that runs it with onnxruntime."""
    from onnx_ir.passes.common import RemoveUnusedNodesPass

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
    RemoveUnusedNodesPass()(made.model)  # onnxruntime warns of constants that nothing reads
    made.save(str(file))  # weights above 2 GB go to a separate .data file
    session = open_onnx(file, dtype, ["CPUExecutionProvider"])

    def call(*inputs: Tensor) -> list[Tensor]:
        given = {name: value.numpy() for name, value in zip(program.inputs, inputs)}
        return [torch.from_numpy(found) for found in session.run(None, given)]

    return call


def _write_torch(followed: Any, file: Path) -> Call:
    """Write a torch.export program and load it again."""
    from torch.utils._sympy.value_ranges import ValueRanges

    # torch.export assumes that no size inside the model is 1, and derives bounds from it, such as T >= 5. The program
    # is right without them, which the comparison with the run shows.
    for symbol, sizes in followed.range_constraints.items():
        followed.range_constraints[symbol] = ValueRanges(min(sizes.lower, 2), sizes.upper)
    torch.export.save(followed, file)
    # without guards, which require the example's memory layout (S != 1); the comparison with the run is stricter
    module: Call = torch.export.load(file).module(check_guards=False)
    return module


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress torch.onnx messages about optional packages and its own deprecations."""
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
    """Largest difference between a written program and its module over several sizes, relative to the largest value."""
    generator, worst = torch.Generator().manual_seed(0), 0.0
    for sizes in SIZES:
        inputs = reference.drawn(sizes, generator)
        for found, wanted in zip(call(*inputs), reference.module(*inputs), strict=True):
            if found.shape != wanted.shape or not found.isinf().equal(wanted.isinf()):
                return torch.inf
            finite = wanted.double().masked_fill(wanted.isinf(), 0)
            difference = (found.double().masked_fill(found.isinf(), 0) - finite).abs().max()
            share = float(difference / finite.abs().max().clamp(min=1))
            worst = share if not share <= worst else worst  # NaN counts as worst
    return worst


def _described(
    run: Run,
    programs: list[Program],
    written: dict[str, Exported],
    pixels: tuple[int, int] | None,
    form: Format,
    dtype: str,
    text: dict[str, Any] | None,
) -> dict[str, Any]:
    """The content of `export.json`."""
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
        "text": text,
        "classes": classes[2:] if model.answers == "classes" else classes,
    }


def _input(run: Run, pixels: tuple[int, int] | None) -> dict[str, Any]:
    """How to convert a clip to the input of the first program."""
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


def text_of_export(run: Run, folder: Path) -> dict[str, Any]:
    """How to convert token ids to a sentence; writes the tokenizer of a published language model to `folder`."""
    words, decode, decoder = run.tokenizer, run.recipe.decode, getattr(run.model, "decoder", None)
    lm = decoder if isinstance(decoder, TextDecoder) else None  # a language model has marks of its own
    found: dict[str, Any] = {
        "start_id": words.start_id if lm is None else lm.start_id,
        "first_id": lm.first_id if lm is not None and lm.encodes else None,
        "end_id": words.end_id,
        "end_ids": [words.end_id] if lm is None else lm.ends,
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
        (folder / "tokenizer.json").unlink()  # only refers to the folder
        tokenizer = "pretrained_tokenizer/tokenizer.json"
        if not (folder / tokenizer).is_file():
            raise ValueError(f"{run.folder}: its tokenizer has no tokenizer.json, which the export needs to write text")
    return {
        **found,
        "pieces": ["" if i in silent else piece for i, piece in enumerate(pieces)],
        "between": between,
        "tokenizer": tokenizer,
    }
