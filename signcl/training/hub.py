"""Runs by hub id: `org/name` and `org/name@revision` become a local folder, and nothing else asks the hub for a run.

A downloaded run is read like any folder of a stranger (docs/security.md). Only the files that a run needs are fetched,
by their exact names: no code, no pickle, nothing outside the folder.
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

__all__ = [
    "RUN_FILES",
    "HubName",
    "copy_run",
    "hub_label",
    "hub_mistakes",
    "hub_name",
    "is_hub_id",
    "local_run",
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
"""What a run on the hub may hold, beside its README.md."""

MARK = "hf://"
"""What may stand before a hub id, where a folder here has the name of the organisation."""
ID = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(\S+))?")
FILES = {
    *(".npy", ".npz", ".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".yaml", ".yml", ".json"),
    *(".jsonl", ".tsv", ".csv", ".txt", ".html", ".mp4", ".mov", ".avi", ".mkv", ".webm", ".gif", ".pose", ".gz"),
}
"""Endings by which a name is one of a file, whether the file is there or not."""
SNAPSHOT = re.compile(r"models--([^/]+?)--([^/]+)")


@dataclass(frozen=True)
class HubName:
    """A repository of the hub and one of its revisions."""

    repo: str
    """As `org/name`."""
    revision: str | None = None
    """A branch, tag or commit; None: the newest commit of `main`."""

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


def hub_name(source: str | Path) -> HubName | None:
    """The hub id that a name means; None where it means a path.

    A folder or file that exists is a path. So is a name whose first part is a folder here, because it is then more
    likely a typo in a path than a hub id; `hf://org/name` means the hub whatever is here.

    Raises:
        ValueError: `hf://` before what is no hub id.
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


def is_hub_id(source: str | Path) -> bool:
    """Whether a name has the form of a hub id, whatever is here; one that begins with `runs` does not."""
    return ID.fullmatch(str(source)) is not None and not str(source).startswith("runs/")


def local_run(source: str | Path) -> Path:
    """The folder of a run that is named by a path or by a hub id; a run on the hub is downloaded first.

    Without a connection an earlier download is taken. What verbs write goes into the folder of the download.

    Raises:
        FileNotFoundError: no such repository or revision, one that may not be read, or one that is no signcl run.
        OSError: the hub cannot be reached, or the download fails.
    """
    name = hub_name(source)
    if name is None:
        return Path(source)
    from huggingface_hub import HfApi, snapshot_download

    user: dict[str, Any] = {"library_name": "signcl", "library_version": version_of("signcl")}
    with hub_mistakes(name), quiet_bars():
        try:
            held = [
                file.rfilename for file in HfApi(**user).model_info(name.repo, revision=name.revision).siblings or ()
            ]
        except Exception as error:  # of several libraries
            if not _is_no_connection(error):
                raise
            folder, why = _earlier_download(name, error), ", an earlier download, since the hub cannot be asked"
        else:
            if "recipe.yaml" not in held:  # nothing of what is no run is downloaded
                raise FileNotFoundError(
                    f"{name} on the hub is no signcl run: it has no recipe.yaml; `signcl push RUN org/name` uploads one"
                )
            found = snapshot_download(name.repo, revision=name.revision, allow_patterns=list(RUN_FILES), **user)
            folder, why = Path(found), ""
    say(f"{name.repo}@{folder.name[:7]} is at {folder}{why}")
    return folder


def _earlier_download(name: HubName, why: Exception) -> Path:
    """The folder of an earlier download; `why`, the reason not to ask the hub, is raised where there is none."""
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
    """A folder of one's own from a downloaded run.

    Args:
        downloaded: what `local_run` gave.
        out: the new run folder; None: runs/NAME of the repository.

    Raises:
        FileNotFoundError: no run there.
        ValueError: a folder that holds something already.
    """
    label = hub_label(downloaded)
    if not (downloaded / "recipe.yaml").is_file():
        raise FileNotFoundError(f"no run at {downloaded}; a name such as org/name on the hub is needed")
    if not label:
        raise ValueError(f"{downloaded} is a run folder on this machine already; copy it as you copy any folder")
    to = out or Path("runs") / label.partition("@")[0].partition("/")[2]
    if not is_empty(to):
        raise ValueError(f"{to} holds something already; choose another folder with -o")
    verify(downloaded, ["model.safetensors", *BESIDE_WEIGHTS])
    for name in sorted(RUN_FILES, key=lambda name: name == "recipe.yaml"):  # which makes a folder a run
        if (downloaded / name).is_file():
            with atomic_write(to / name) as temporary:
                shutil.copyfile(downloaded / name, temporary)
    return to


def hub_label(folder: Path) -> str:
    """What to call a run in the cache of downloads, as `org/name@1a2b3c4`; empty for any other folder."""
    snapshots = folder.absolute().parent
    match = SNAPSHOT.fullmatch(snapshots.parent.name)
    if snapshots.name != "snapshots" or match is None:
        return ""
    return f"{match[1]}/{match[2]}@{folder.name[:7]}"


@contextlib.contextmanager
def quiet_bars() -> Iterator[None]:
    """No progress bars of the hub's library where nobody looks at a terminal."""
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
    """Answer the errors of the hub's library with one line that says what to do.

    Args:
        name: what was asked for.
        pushing: whether it was to be written.
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
        raise ValueError(f"{name.repo} is no name that the hub allows; a run folder or org/name is needed") from None
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
    """Whether the hub was not reached: no network, no answer, or HF_HUB_OFFLINE."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    return isinstance(error, OfflineModeIsEnabled | LocalEntryNotFoundError) or type(error).__module__.startswith(
        "httpx"
    )


def _unreachable(name: HubName, error: BaseException) -> str:
    """Why a run is not here, where the hub could not be asked."""
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return (
            f"no run folder at {name}, no earlier download of it, and HF_HUB_OFFLINE forbids to ask the hub; unset "
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
    """Branches and tags of a repository, as far as the hub tells."""
    from huggingface_hub import list_repo_refs

    try:
        refs = list_repo_refs(repo)
    except Exception:  # this is advice for a message, which can do without
        return []
    return [ref.name for ref in (*refs.branches, *refs.tags)]


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
