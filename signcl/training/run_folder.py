"""The run folder: everything needed to use a trained model again, or to go on training it.

    recipe.yaml  model.safetensors  architecture.json  tokenizer.json (+ sentencepiece.bpe.model)  glosses.json
    manifest.json  card.json  state/last.pt
    metrics.jsonl  scores.json  predictions.<split>.tsv  confidence.<split>.tsv  report.html  TensorBoard events
    confidence.json  confidence.safetensors: how far its answers can be trusted, learned from dev

Every file is written beside its place and moved there, so that a full disk, a kill or a power cut leaves the old one.
"""

from __future__ import annotations

import errno
import os
import platform
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from signcl.data.files import atomic_write, write_json
from signcl.data.installed import version_of
from signcl.data.json_files import read_json
from signcl.data.progress import say
from signcl.data.registry import did_you_mean, digest_of_loaded
from signcl.data.text import GlossVocabulary, Tokenizer
from signcl.systems.targets import Targets
from signcl.training.hub import is_hub_id, local_run, not_quite_hub_id
from signcl.training.manifest import checked_write, note_files, verify
from signcl.training.recipe import Recipe, is_recipe, save_recipe

__all__ = [
    "check_run_folder",
    "clear_run",
    "load_state",
    "read_architecture",
    "read_card",
    "read_weights",
    "save_card",
    "save_run_start",
    "save_state",
    "save_weights",
    "state_stamp",
    "say_changed_plugins",
    "versions",
]


def save_run_start(
    folder: Path,
    recipe: Recipe,
    tokenizer: Tokenizer,
    glosses: GlossVocabulary | None = None,
    targets: Targets | None = None,
) -> None:
    """Make the run folder with its recipe, tokenizer, gloss vocabulary and targets."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_recipe(recipe, folder / "recipe.yaml")
        tokenizer.save(folder)
        if glosses is not None:
            glosses.save(folder)
        if targets is not None:
            targets.save(folder)
        note_files(folder)
    except PermissionError as error:
        raise PermissionError(
            errno.EACCES,
            f"no permission to write the run folder {folder} ({error.strerror}); choose another with --out=",
        ) from None
    except (FileExistsError, NotADirectoryError):
        raise ValueError(f"out={folder}: a folder is needed, and there is a file of that name") from None


def clear_run(folder: Path) -> None:
    """Remove what an earlier run left in its folder, so that no old score or weight passes for the new run's."""
    made = (
        "model.safetensors",
        "architecture.json",
        "manifest.json",
        "scores.json",
        "metrics.jsonl",
        "loggers.json",
        "report.html",
        "state/last.pt",
    )
    tables = ("predictions.*.tsv", "confidence.*", "density.*.csv", "density.*.json", "density.*.png")
    patterns = (*made, *tables, "events.out.tfevents.*")
    for pattern in patterns:
        for path in folder.glob(pattern):
            path.unlink()


def save_weights(folder: Path, model: nn.Module, tensors: dict[str, torch.Tensor] | None = None) -> None:
    """Write `model.safetensors` (shared tensors once), and `architecture.json` where networks of others are in it.

    The latter holds their configurations by the name of the module, so that the weights can be loaded where the
    published folders are not.

    Args:
        tensors: its state, where the model holds only a share of its weights.
    """
    from safetensors.torch import save_file, save_model

    parts: dict[str, Any] = dict(model.named_children())
    described = {name: part.described() for name, part in parts.items() if hasattr(part, "described")}
    if described:
        write_json(folder / "architecture.json", described)
        note_files(folder, ["architecture.json"])
    with checked_write(folder / "model.safetensors") as temporary:
        if tensors is None:
            save_model(model, str(temporary))
            return
        again = {name for name, _ in model.named_parameters(remove_duplicate=False)}
        again -= {name for name, _ in model.named_parameters()}  # further names of a shared weight
        save_file({k: v.contiguous() for k, v in tensors.items() if k not in again}, str(temporary))


def read_architecture(folder: Path) -> dict[str, Any] | None:
    """Configurations of published networks in a run, by the name of their module; None where there are none."""
    path = folder / "architecture.json"
    return read_json(path, {str: dict}, "copy the run folder again") if path.is_file() else None


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a run's `model.safetensors`, by name."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / "model.safetensors"
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} has no model.safetensors; a run folder in which `signcl fit` has scored once is needed"
        )
    verify(folder, [path.name])
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); train again or copy the run folder again") from None


def without_memory(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A run's tensors but for what its loss terms kept from step to step."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("term_memory.")}


def load_weights(folder: Path, model: nn.Module, *, memory: bool = True) -> None:
    """Put a run's weights into a model of the same recipe; every tensor must find its place.

    Args:
        memory: False leaves out what its loss terms kept, for a model that another run starts.
    """
    from safetensors.torch import load_model

    found = read_weights(folder) if memory else without_memory(read_weights(folder))
    own = model.state_dict()
    wrong = [k for k in found if k not in own or found[k].shape != own[k].shape]
    if wrong:
        k = wrong[0]
        here = tuple(own[k].shape) if k in own else "no such tensor"
        raise ValueError(
            f"{folder} holds the weights of another model: {len(wrong)} of {len(found)} tensors do not fit, first "
            f"{k}: {tuple(found[k].shape)} in the file, {here} in this model; both need the same model section"
        )
    missing, _ = load_model(model, str(folder / "model.safetensors"), strict=False)
    if missing:
        raise ValueError(
            f"{folder} holds the weights of another model: {len(missing)} tensors of this one are not in it, first "
            f"{min(missing)}"
        )


def check_run_folder(folder: str | Path) -> Path:
    """The folder, where it is a run; of `demo:NAME` a copy of that shipped run, of a hub id its download.

    Raises:
        FileNotFoundError: it is none; says what it is instead, and which runs are near it.
    """
    path = local_run(folder)
    if (path / "recipe.yaml").is_file():
        return path
    if is_recipe(folder) and not path.is_dir():
        raise FileNotFoundError(f"{folder} is a recipe, and a run is needed; `signcl fit {folder}` makes one")
    if path.exists() and not path.is_dir():
        raise FileNotFoundError(f"{folder} is a file, and a run folder made by `signcl fit` is needed")
    if path.is_dir():
        inside = _runs_in(path)
        held = f"; the runs {', '.join(inside)} are in it" if inside else ""
        raise FileNotFoundError(f"{folder} has no recipe.yaml, so it is not a run folder made by `signcl fit`{held}")
    beside = _runs_in(path.parent)
    near = did_you_mean(path.name, beside, "" if str(path.parent) == "." else f"{path.parent}/")
    known = near or (f"; beside it are {', '.join(beside)}" if beside else "; `signcl fit RECIPE` makes one")
    hub = f"; of the hub: hf://{folder}" if is_hub_id(folder) and not near else not_quite_hub_id(folder)
    raise FileNotFoundError(f"no run folder at {folder}{known}{hub}")


def _runs_in(folder: Path, most: int = 8) -> list[str]:
    """Names of the runs in a folder, the newest first."""
    try:
        runs = [(child.stat().st_mtime, child.name) for child in folder.iterdir() if (child / "recipe.yaml").is_file()]
    except OSError:
        return []
    return [name for _, name in sorted(runs, reverse=True)[:most]]


def read_card(folder: Path) -> dict[str, Any]:
    """What a run says about itself."""
    path = folder / "card.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no card.json; it is not a run folder made by `signcl fit`")
    card: dict[str, Any] = read_json(path, CARD, "copy the run folder again")
    return card


CARD = {
    "feature_dim?": int | None,
    **{f"{key}?": {str: str} for key in ("plugins", "versions", "broken")},
    **{f"{key}?": {str: int} for key in ("clips", "frames")},
    **{f"{key}?": int for key in ("parameters", "steps", "epochs", "ranks", "cut_sentences")},
    **{f"{key}?": str for key in ("stage", "command", "commit", "device")},
    "initialised?": [str],
    "seconds?": float,
    "best?": float | None,
}


def save_card(folder: Path, card: dict[str, Any]) -> None:
    """Write `card.json`."""
    write_json(folder / "card.json", card)


def say_changed_plugins(folder: Path) -> None:
    """Say which plugin files are not those that the run was trained with, by the digests in its card."""
    path = folder / "card.json"
    trained: dict[str, str] = (read_card(folder).get("plugins") or {}) if path.is_file() else {}
    for plugin, digest in trained.items():
        now = digest_of_loaded(plugin)
        if digest and now and digest != now:
            say(f"{plugin} has changed since {folder} was trained with it (digest {digest} then, {now} now)")


def state_stamp(folder: Path) -> int | None:
    """A number that changes whenever the resumable state is written; None where there is none."""
    path = folder / "state" / "last.pt"
    return path.stat().st_mtime_ns if path.is_file() else None


def save_state(folder: Path, state: dict[str, Any], save: Callable[..., None] = torch.save) -> None:
    """Write the resumable state."""
    with atomic_write(folder / "state" / "last.pt") as temporary:
        save(state, temporary)


def load_state(folder: Path) -> dict[str, Any] | None:
    """The resumable state, or None where training has not begun."""
    path = folder / "state" / "last.pt"
    if not path.is_file():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path} is damaged ({type(error).__name__}); delete {path.parent} to train from the start"
        ) from None


@cache
def versions() -> dict[str, str]:
    """Versions and machine, for the card."""
    found = {name: version_of(name) for name in ("signcl", "torch", "transformers", "lightning-fabric", "sacrebleu")}
    return {"python": platform.python_version(), **found, "machine": f"{platform.machine()}, {os.cpu_count()} cores"}


@cache
def git_commit() -> str:
    """The commit of this checkout, with "+changes" where tracked files differ from it; "" for an installed package.

    Asked once by a process: a later commit is not the code that it has loaded.
    """

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *words], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    if not (Path(__file__).parents[2] / "pyproject.toml").is_file():
        return ""  # installed: the git tree around it, if any, is somebody else's
    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return ""
