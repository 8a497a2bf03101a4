"""Runs by hub id: downloads `org/name` or `org/name@revision` to a local folder. Only this file fetches runs.

A downloaded run is untrusted, like any folder from somebody else (docs/security.md). Only the files that a run needs
are fetched, by exact name: no code, no pickle, nothing outside the folder.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from signcl.data.files import atomic_write, is_empty
from signcl.data.installed import version_of
from signcl.data.progress import say
from signcl.data.registry import did_you_mean
from signcl.training.manifest import BESIDE_WEIGHTS, verify
from signcl.training.recipe import is_recipe
from signcl.training.shipped_runs import shipped_path

__all__ = [
    "RUN_FILES",
    "HubName",
    "copy_run",
    "hub_label",
    "hub_mistakes",
    "hub_name",
    "is_hub_id",
    "local_run",
    "not_quite_hub_id",
    "quiet_bars",
]

TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json"),
    *("vocab.txt", "merges.txt", "chat_template.jinja", "sentencepiece.bpe.model", "sentencepiece.model"),
    *("spiece.model", "tokenizer.model", "source.spm", "target.spm"),
)
RUN_FILES = (
    *("recipe.yaml", "card.json", "manifest.json", "model.safetensors", *BESIDE_WEIGHTS),
    *("sentence_vectors.safetensors", "confidence.json", "confidence.safetensors", "scores.json", "metrics.jsonl"),
    *(f"pretrained_tokenizer/{name}" for name in TOKENIZER),
)
"""Files of a run on the hub, besides its README.md."""

MARK = "hf://"
"""Optional prefix of a hub id, for when a local folder has the name of the organisation."""
ID = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(\S+))?")
FILES = {
    *(".npy", ".npz", ".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".yaml", ".yml", ".json"),
    *(".jsonl", ".tsv", ".csv", ".txt", ".html", ".mp4", ".mov", ".avi", ".mkv", ".webm", ".gif", ".pose", ".gz"),
}
"""Endings that mark a name as a file, whether it exists or not."""
SNAPSHOT = re.compile(r"models--([^/]+?)--([^/]+)")


@dataclass(frozen=True)
class HubName:
    """A hub repository with a revision."""

    repo: str
    """The repository as `org/name`."""
    revision: str | None = None
    """A branch, tag or commit; None: the newest commit of `main`."""

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


def hub_name(source: str | Path) -> HubName | None:
    """Parse a hub id; None if the name is a path.

    An existing folder or file is a path. So is a name whose first part is a local folder, which is more likely a typo
    in a path than a hub id. `hf://org/name` always means the hub.

    Raises:
        ValueError: `hf://` before an invalid hub id.
    """
    text = str(source)
    match = ID.fullmatch(text.removeprefix(MARK))
    if text.startswith(MARK):
        if match is None:
            raise ValueError(f"{text}: a hub id is written hf://org/name or hf://org/name@revision")
        return HubName(match[1], match[2])
    if match is None or Path(text).exists() or is_recipe(text):
        return None
    owner = text.partition("/")[0]
    if owner == "runs" or Path(owner).exists() or Path(match[1]).suffix.lower() in FILES:
        return None
    return HubName(match[1], match[2])


def not_quite_hub_id(source: str | Path) -> str:
    """The end of an error for a name that was probably meant as a hub id: an address of its page, or `org/name@`."""
    text = str(source)
    page = re.match(r"(?:https?:/+)?(?:www\.)?(?:huggingface\.co|hf\.co)/(?:models/)?([\w.-]+/[\w.-]+)", text)
    if page:
        return f"; a repository of the hub is written {page[1]}"
    if text.endswith("@") and ID.fullmatch(text[:-1]):
        return f"; a revision follows the @, as in {text}main"
    return ""


def is_hub_id(source: str | Path) -> bool:
    """Whether a name has the form of a hub id, regardless of local files; a name that begins with `runs` does not."""
    return ID.fullmatch(str(source)) is not None and not str(source).startswith("runs/")


def local_run(source: str | Path) -> Path:
    """The local folder of a run named by a path, `demo:NAME` or a hub id; runs on the hub are downloaded first.

    Without a connection an earlier download is used. Commands write their results into the downloaded folder.

    Raises:
        FileNotFoundError: the repository or revision does not exist, may not be read, or is not a signcl run.
        OSError: the hub cannot be reached, or the download fails.
    """
    name = hub_name(source)
    if name is None:
        return shipped_path(source)
    from huggingface_hub import HfApi, snapshot_download

    user: dict[str, Any] = {"library_name": "signcl", "library_version": version_of("signcl")}
    with hub_mistakes(name), quiet_bars():
        try:
            held = [
                file.rfilename for file in HfApi(**user).model_info(name.repo, revision=name.revision).siblings or ()
            ]
        except Exception as error:  # from several libraries
            if not _is_no_connection(error):
                raise
            folder, why = _earlier_download(name, error), ", an earlier download, since the hub cannot be reached"
        else:
            if "recipe.yaml" not in held:  # download nothing if it is not a run
                raise FileNotFoundError(
                    f"{name} on the hub is not a signcl run: no recipe.yaml; `signcl push RUN org/name` uploads one"
                )
            found = snapshot_download(name.repo, revision=name.revision, allow_patterns=list(RUN_FILES), **user)
            folder, why = Path(found), ""
    say(f"{name.repo}@{folder.name[:7]} is at {folder}{why}")
    return folder


def _earlier_download(name: HubName, why: Exception) -> Path:
    """The folder of an earlier download; if there is none, raises an error with `why`, the failure to reach the hub."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        found = snapshot_download(
            name.repo, revision=name.revision, allow_patterns=list(RUN_FILES), local_files_only=True
        )
    except LocalEntryNotFoundError:
        raise why from None
    return Path(found)


def copy_run(downloaded: Path, out: Path | None = None) -> Path:
    """Copy a downloaded run to a new run folder.

    Args:
        downloaded: result of `local_run`.
        out: the new run folder; None: runs/NAME of the repository.

    Raises:
        FileNotFoundError: `downloaded` holds no run.
        ValueError: the new folder is not empty.
    """
    label = hub_label(downloaded)
    if not (downloaded / "recipe.yaml").is_file():
        raise FileNotFoundError(f"no run at {downloaded}; a name such as org/name on the hub is needed")
    if not label:
        raise ValueError(f"{downloaded} is already a local run folder; copy it like any folder")
    to = out or Path("runs") / label.partition("@")[0].partition("/")[2]
    if not is_empty(to):
        raise ValueError(f"{to} is not empty; choose another folder with -o")
    verify(downloaded, ["model.safetensors", *BESIDE_WEIGHTS])
    for name in sorted(RUN_FILES, key=lambda name: name == "recipe.yaml"):  # copied last: it marks a run
        if (downloaded / name).is_file():
            with atomic_write(to / name) as temporary:
                shutil.copyfile(downloaded / name, temporary)
    return to


def hub_label(folder: Path) -> str:
    """Name of a run in the download cache, as `org/name@1a2b3c4`; empty for any other folder."""
    snapshots = folder.absolute().parent
    match = SNAPSHOT.fullmatch(snapshots.parent.name)
    if snapshots.name != "snapshots" or match is None:
        return ""
    return f"{match[1]}/{match[2]}@{folder.name[:7]}"


@contextlib.contextmanager
def quiet_bars() -> Iterator[None]:
    """Context without progress bars of huggingface_hub if stderr is not a terminal."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    quiet = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if quiet:
        disable_progress_bars()
    try:
        yield
    finally:
        if quiet:
            enable_progress_bars()


@contextlib.contextmanager
def hub_mistakes(name: HubName, *, pushing: bool = False) -> Iterator[None]:
    """Context that turns errors of huggingface_hub into one line that says what to do.

    Args:
        name: the requested repository.
        pushing: whether the operation is an upload.
    """
    from huggingface_hub import errors

    try:
        yield
    except errors.RevisionNotFoundError:
        known = _revisions(name.repo)
        hint = did_you_mean(str(name.revision), known) or (f"; it has {', '.join(known[:8])}" if known else "")
        raise FileNotFoundError(f"{name.repo} on the hub has no revision {name.revision}{hint}") from None
    except errors.GatedRepoError:
        where = f"{_endpoint()}/{name.repo}"
        raise FileNotFoundError(
            f"{name.repo} is gated: ask for access at {where}, then log in: `hf auth login`"
        ) from None
    except errors.RepositoryNotFoundError:
        if pushing:
            raise FileNotFoundError(
                f"{name.repo} cannot be written: there is no such repository for this token; check the name, and log "
                f"in with a token that may write: `hf auth login`"
            ) from None
        raise FileNotFoundError(
            f"no run folder at {name.repo}, and no such repository on the hub that you may read; check the name, or, "
            f"if it is private, log in with a token that may read it: `hf auth login`"
        ) from None
    except errors.HFValidationError:
        raise ValueError(f"{name.repo} is not a valid hub name; a run folder or org/name is needed") from None
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        reason = error.server_message or _first_line(error)
        advice = ""
        if status in (401, 403):
            advice = f"; log in with a token that may {'write' if pushing else 'read'} it: `hf auth login`"
        raise OSError(f"the hub refuses {name}: {' '.join(reason.split())}{advice}") from None
    except Exception as error:
        if not _is_no_connection(error):
            raise
        raise OSError(_unreachable(name, error)) from None


def _is_no_connection(error: BaseException) -> bool:
    """Whether the hub could not be reached: no network, no response, or HF_HUB_OFFLINE."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    return isinstance(error, OfflineModeIsEnabled | LocalEntryNotFoundError) or type(error).__module__.startswith(
        "httpx"
    )


def _unreachable(name: HubName, error: BaseException) -> str:
    """The message for a run that is not available locally while the hub cannot be reached."""
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return (
            f"no run folder at {name}, no earlier download of it, and HF_HUB_OFFLINE blocks access to the hub; unset "
            f"HF_HUB_OFFLINE, or give a run folder"
        )
    return (
        f"no run folder at {name}, no earlier download of it, and the hub at {_endpoint()} cannot be reached "
        f"({type(error).__name__}); check the connection and HF_ENDPOINT, or give a run folder"
    )


def _endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT


def _revisions(repo: str) -> list[str]:
    """Branches and tags of a repository, if the hub returns them."""
    from huggingface_hub import list_repo_refs

    try:
        refs = list_repo_refs(repo)
    except Exception:  # only a hint for a message, so optional
        return []
    return [ref.name for ref in (*refs.branches, *refs.tags)]


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
