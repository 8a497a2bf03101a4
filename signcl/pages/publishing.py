"""`push_to_hub`: upload a run as a repository of the hub, with all files that are needed to use it and nothing private.

Not pushed: the optimizer's state, sentences and clips of the corpus, logs, pages. Paths of this machine are cut to
their last part; a path that cannot be cut is an error. `signcl.training.hub` reads such a repository.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import torch
import yaml
from safetensors.torch import save

from signcl.data.installed import version_of
from signcl.data.json_files import parse_json, read_json
from signcl.data.progress import say
from signcl.pages.model_card import MARK, CardFacts, model_card
from signcl.pages.report_runs import RunFiles, read_run
from signcl.training.hub import RUN_FILES, HubName, hub_mistakes, quiet_bars
from signcl.training.manifest import BESIDE_WEIGHTS, MANIFEST, verify
from signcl.training.recipe import recipe_from_dict, recipe_to_dict
from signcl.training.record import read_record
from signcl.training.result_files import read_scores
from signcl.training.run_folder import check_run_folder

__all__ = ["Package", "Pushed", "package_run", "push_to_hub"]

WEIGHTS = "model.safetensors"
CARD_KEYS = (
    *("stage", "seed", "commit", "versions", "parameters", "trained_parameters", "plugins", "feature_dim", "fps"),
    *("poses", "clips", "frames", "initialised", "steps", "epochs", "seconds", "select", "best", "device", "ranks"),
    *("cut_sentences", "refused_steps", "gloss_classes", "imported"),
)
"""Keys of `card.json` that are pushed: not the command, and no names of clips."""
SCORES_LEFT_OUT = ("probes", "skipped")
"""Keys of `scores.json` that name clips or quote the corpus."""
NAMED = re.compile(r"\w+://\S+|(?<![\w.:/\\~])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\,;:'\"()]+[/\\])+([^\s/\\,;:'\"()]*)")
"""A URL, which stays, or an absolute path within a text, which is cut to its last part."""


PREFIX = re.compile(r"((?:[a-z][a-z_0-9]+:)*)(.*)", re.DOTALL)
"""A prefix such as `pretrained:`, and the text after it."""


@dataclass(frozen=True)
class Package:
    """The files of a repository."""

    files: dict[str, Path | bytes]
    """By name in the repository: a file to copy, or the content as bytes."""
    left_out: list[str]
    """Names of files and folders that are not pushed."""

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {
            name: len(content) if isinstance(content, bytes) else content.stat().st_size
            for name, content in self.files.items()
        }

    def __str__(self) -> str:
        sizes = self.sizes
        rows = [f"  {name}  {_bytes(size)}" for name, size in sizes.items()]
        left = [f"not pushed: {', '.join(self.left_out)}"] if self.left_out else []
        return "\n".join([*rows, f"  in all {_bytes(sum(sizes.values()))}", *left])


@dataclass(frozen=True)
class Pushed:
    """What was pushed, and where to."""

    repo: str
    url: str
    commit: str
    """Commit of the repository; the newest one if nothing had changed."""
    files: dict[str, int]
    """Size in bytes of each file, by name."""
    left_out: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.url}\n{self.repo}@{self.commit[:7]}"


def push_to_hub(
    run: str | Path | Any,
    repo: str,
    *,
    private: bool = False,
    revision: str | None = None,
    license: str = "",
    data: str = "",
    data_license: str = "",
    language: str = "",
    dry_run: bool = False,
) -> Pushed:
    """Upload a run as `org/name`, with a model card; then every command accepts that name as a run.

    A card on the hub that was rewritten by hand is kept.

    Args:
        run: a run folder, or the result of `load_run` or `load_model`.
        repo: `org/name`; created if it is missing.
        private: create the repository as private.
        revision: the branch to push to, created if it is missing; None: `main`.
        license: licence of the weights, as the hub writes it (apache-2.0, cc-by-nc-sa-4.0); empty: not stated.
        data, data_license: what it was trained on, and its licence; empty: what is known about the corpus.
        language: language code of the sentences, such as de; empty: what is known about the corpus.
        dry_run: print what would be pushed, and stop.

    Raises:
        ValueError: no name, no token, a run that cannot be published, or `private` with a public repository.
        OSError: the hub refuses, or cannot be reached.
    """
    if re.fullmatch(r"[\w.-]+/[\w.-]+", repo) is None:
        raise ValueError(f"a repository is named org/name, got {repo!r}; a branch is given by --revision")
    folder = check_run_folder(getattr(getattr(run, "run", run), "folder", run))
    package = package_run(folder, repo, CardFacts(license, data, data_license, language))
    name = HubName(repo, revision)
    say(f"{'would push' if dry_run else 'pushing'} {folder} to {name}, {'private' if private else 'public if new'}:")
    say(str(package))
    if dry_run:
        return Pushed(repo, "", "", package.sizes, package.left_out)
    with hub_mistakes(name, pushing=True), quiet_bars():
        url, commit = _upload(package, name, private)
    return Pushed(repo, url, commit, package.sizes, package.left_out)


def _upload(package: Package, name: HubName, private: bool) -> tuple[str, str]:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token

    if get_token() is None:
        raise ValueError(
            "pushing needs a token of the hub with write permission; log in with `hf auth login`, or set HF_TOKEN"
        )
    api = HfApi(library_name="signcl", library_version=version_of("signcl"))
    url = api.create_repo(name.repo, private=private or None, exist_ok=True)
    if private and not api.model_info(name.repo).private:
        raise ValueError(
            f"{name.repo} exists and is public, but --private was given; nothing was pushed; make it private in its "
            f"settings on the hub, or choose another name"
        )
    if name.revision is not None:
        api.create_branch(name.repo, branch=name.revision, exist_ok=True)
    there = api.list_repo_files(name.repo, revision=name.revision)
    files = dict(package.files)
    if "README.md" in there and MARK not in _read_text(name, "README.md"):
        say(f"the README.md of {name.repo} was not written by signcl and is kept; delete it there to get a new one")
        del files["README.md"]
    changes: list[Any] = [CommitOperationAdd(path, content) for path, content in files.items()]
    changes += [CommitOperationDelete(path) for path in there if path in RUN_FILES and path not in package.files]
    commit = api.create_commit(
        name.repo, changes, commit_message=f"A run of signcl {version_of('signcl')}", revision=name.revision
    )
    return str(url), commit.oid


def _read_text(name: HubName, file: str) -> str:
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(name.repo, file, revision=name.revision)).read_text(encoding="utf-8", errors="replace")


def package_run(folder: Path, repo: str, facts: CardFacts) -> Package:
    """Collect the files for the repository of a run.

    Raises:
        FileNotFoundError, ValueError: there are no weights, files have changed since they were written, or a path of
            this machine would be published.
    """
    if not (folder / WEIGHTS).is_file():
        raise FileNotFoundError(f"{folder} has no {WEIGHTS} yet; `signcl fit {folder}` resumes it")
    verify(folder, [WEIGHTS, *BESIDE_WEIGHTS])
    shown = read_run(folder, "test", repo)
    files: dict[str, Path | bytes] = {}
    files["recipe.yaml"] = _recipe(shown, repo)
    files["card.json"] = _json(_card(shown))
    files[WEIGHTS] = folder / WEIGHTS
    for name in RUN_FILES:
        if name not in files and name != MANIFEST and (folder / name).is_file():
            files[name] = _content(folder, name)
    files[MANIFEST] = _json(_manifest(folder, files))
    files["README.md"] = model_card(shown, read_scores(folder), repo, facts, files).encode()
    _refuse_private(files, folder)
    return Package(files, _left_out(folder, files))


def _content(folder: Path, name: str) -> Path | bytes:
    """The content of a file as it is pushed."""
    path = folder / name
    if name == "scores.json":
        return _json(_without(cut_paths(read_scores(folder)), SCORES_LEFT_OUT))
    if name == "metrics.jsonl":
        return "".join(json.dumps(line) + "\n" for line in read_record(folder)).encode()
    if name == "confidence.json":  # holds a sentence of the corpus for each reference clip
        said = read_json(path, {"texts": [str]}, "make it again with `signcl evaluate RUN --split dev`")
        return _json(cut_paths(said | {"texts": [""] * len(said["texts"])}))
    if name == "sentence_vectors.json":  # sentences of the corpus, used only in training
        return _json(read_json(path, {}, "copy the run folder again") | {"sentences": []})
    if name == "sentence_vectors.safetensors":
        return save({"vectors": torch.zeros(0, 1)})
    if name == "architecture.json" or name.endswith("tokenizer_config.json"):
        return _json(_without_file_names(read_json(path, {}, "copy the run folder again")))
    return path


def _recipe(run: RunFiles, repo: str) -> bytes:
    data = cut_paths(recipe_to_dict(run.recipe)) | {"out": f"runs/{repo.partition('/')[2]}"}
    recipe_from_dict(data)  # raises if it is no valid recipe any more
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True).encode()


def _card(run: RunFiles) -> dict[str, Any]:
    card = {key: run.card[key] for key in CARD_KEYS if key in run.card}
    if "versions" in card:
        card["versions"] = {name: version for name, version in card["versions"].items() if name != "machine"}
    text = json.dumps(card, ensure_ascii=False)
    named = {PREFIX.fullmatch(value)[2] for value in _strings(recipe_to_dict(run.recipe))}  # type: ignore[index]
    for path in sorted(named, key=len, reverse=True):
        if path != (short := cut_paths(path)):  # also inside texts, where the end of a name with spaces is unknown
            text = text.replace(json.dumps(path, ensure_ascii=False)[1:-1], short)
    card = cut_paths(parse_json(text))
    card["plugins"] = {cut_paths(plugin): digest for plugin, digest in (card.get("plugins") or {}).items()}
    return card


def _manifest(folder: Path, files: dict[str, Path | bytes]) -> dict[str, Any]:
    """Checksums of the pushed files, and what the run was trained on, without paths."""
    path = folder / MANIFEST
    said = read_json(path, {}, "copy the run folder again") if path.is_file() else {}
    trained_on = {}
    for name, digest in said.get("trained_on", {}).items():
        kind, _, plugin = name.partition(" ")
        trained_on[f"plugin {cut_paths(plugin)}" if kind == "plugin" else name] = digest
    checked = {name: files[name] for name in (WEIGHTS, *BESIDE_WEIGHTS) if name in files}
    return {"version": 1, "trained_on": trained_on, "files": {k: [_checksum(v)] for k, v in checked.items()}}


def cut_paths(value: Any) -> Any:
    """Return a value of JSON or YAML in which absolute paths, and paths out of the folder, are cut to their last part.

    A prefix such as `pretrained:` stays, and so do relative paths, hub ids and URLs.
    """
    if isinstance(value, dict):
        return {key: cut_paths(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [cut_paths(inner) for inner in value]
    if not isinstance(value, str):
        return value
    prefix, rest = PREFIX.fullmatch(value).groups()  # type: ignore[union-attr]
    if not rest.startswith("//") and _leaves(rest):
        return prefix + PureWindowsPath(rest).name
    return NAMED.sub(lambda match: match[0] if "://" in match[0] else match[1], value)


def _leaves(path: str) -> bool:
    """Whether a text is a path from the root, from a home folder, or out of the current folder."""
    if len(path) < 2 or "\n" in path:
        return False
    parts = PureWindowsPath(path).parts
    absolute = PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute() or path.startswith("\\\\")
    return absolute or path.startswith("~") or ".." in parts


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)
    elif isinstance(value, str):
        yield value


def _without(value: Any, keys: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {key: _without(inner, keys) for key, inner in value.items() if key not in keys}
    return [_without(inner, keys) for inner in value] if isinstance(value, list) else value


def _without_file_names(value: Any) -> Any:
    """Settings of a library without the paths they were read from; tokens and other texts stay unchanged."""
    if isinstance(value, dict):
        return {
            key: cut_paths(inner) if re.search(r"(path|file|dir|folder)$", str(key)) else _without_file_names(inner)
            for key, inner in value.items()
        }
    return [_without_file_names(inner) for inner in value] if isinstance(value, list) else value


def _refuse_private(files: dict[str, Path | bytes], folder: Path) -> None:
    """Last check: raise if a text names a folder of this machine."""
    places = {str(Path.home()), str(Path.cwd()), str(folder.absolute()), str(folder.resolve())}
    places = {place for place in places if place.count("/") + place.count("\\") > 1}
    for name, content in files.items():
        if isinstance(content, Path) and content.suffix not in (".json", ".txt", ".jinja"):
            continue
        text = content.decode(errors="replace") if isinstance(content, bytes) else content.read_text("utf-8", "replace")
        for place in places:
            if place in text:
                raise ValueError(
                    f"{name} names {place}, a folder of this machine; remove it from the run before you push"
                )


def _left_out(folder: Path, files: dict[str, Path | bytes]) -> list[str]:
    """Names in the run folder that are not pushed; a folder counts as one name."""
    names = []
    for path in sorted(folder.iterdir()):
        name = f"{path.name}/" if path.is_dir() else path.name
        if name not in files and not name.startswith(".") and not any(file.startswith(name) for file in files):
            names.append(name)
    return names


def _json(data: Any) -> bytes:
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()


def _checksum(content: Path | bytes) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
