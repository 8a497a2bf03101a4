"""Loggers besides metrics.jsonl: TensorBoard, Weights & Biases and MLflow, selected by `logger` in a recipe.

The last two are optional packages. Their own environment variables set projects, servers and offline use
(docs/loggers.md). A resumed run continues its run in the logger, whose id is saved in the run folder.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from signcl.data.files import write_json
from signcl.data.json_files import read_json
from signcl.data.progress import say

__all__ = ["IDS", "Logger", "check_loggers", "start_loggers"]

IDS = "loggers.json"
"""File in a run folder with the ids of its runs in the loggers."""
PACKAGES = {"wandb": "wandb", "mlflow": "mlflow"}
"""Optional packages that loggers need."""
PROJECT = "signcl"
"""Default W&B project and MLflow experiment."""
PARAMETERS = 100
"""Parameters that MLflow accepts per request; it truncates values at 500 characters."""


class Logger(Protocol):
    """Interface of a logger."""

    def log(self, values: dict[str, float], step: int) -> None:
        """Log values by name, such as `train/loss`, for an optimizer step."""

    def close(self, *, finished: bool) -> None:
        """Called at the end of the run, or when it is stopped."""


class TensorBoardLogger:
    """Event files in the run folder."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def log(self, values: dict[str, float], step: int) -> None:
        """Write values."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self, *, finished: bool) -> None:
        """Flush and close."""
        self.writer.close()


class WandbLogger:
    """A Weights & Biases run; its files are in the run folder, under `wandb`."""

    def __init__(self, folder: Path, settings: dict[str, Any], kept: str | None) -> None:
        import wandb

        self.run = wandb.init(
            project=None if os.environ.get("WANDB_PROJECT") else PROJECT,
            name=folder.name,
            dir=str(folder),
            id=kept,
            resume="allow" if kept else None,
            config=settings,
        )
        self.id = str(self.run.id)
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")  # W&B's own step cannot go back, as a resumed run does

    def log(self, values: dict[str, float], step: int) -> None:
        """Pass values to W&B's process, which sends them."""
        self.run.log({**values, "step": step})

    def close(self, *, finished: bool) -> None:
        """Wait until everything is sent or written."""
        self.run.finish(exit_code=0 if finished else 1)


class MlflowLogger:
    """An MLflow run."""

    def __init__(self, folder: Path, settings: dict[str, Any], kept: str | None) -> None:
        from mlflow import MlflowClient

        self.client, self.failed = MlflowClient(), False
        if kept is not None:
            self.id = kept
            self.client.update_run(kept, status="RUNNING")
            return
        self.id = str(self.client.create_run(self._experiment(), run_name=folder.name).info.run_id)
        self._write_parameters(settings)

    def _experiment(self) -> str:
        """The id of the experiment, which is created if it does not exist."""
        if number := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return number
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        found = self.client.get_experiment_by_name(name)
        return str(self.client.create_experiment(name) if found is None else found.experiment_id)

    def _write_parameters(self, settings: dict[str, Any]) -> None:
        from mlflow.entities import Param

        rows = [Param(key, str(value)[:500]) for key, value in _flat(settings).items()]
        for start in range(0, len(rows), PARAMETERS):
            self.client.log_batch(self.id, params=rows[start : start + PARAMETERS])

    def log(self, values: dict[str, float], step: int) -> None:
        """Send values; a server failure does not stop training and is reported once."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        try:
            self.client.log_batch(self.id, [Metric(name, float(value), now, step) for name, value in values.items()])
        except Exception as error:  # from MLflow, requests or a database
            if not self.failed:
                say(f"logger: MLflow accepts no values ({_line(error)}); training continues, metrics.jsonl has them")
            self.failed = True

    def close(self, *, finished: bool) -> None:
        """Set the final status of the run."""
        try:
            self.client.set_terminated(self.id, "FINISHED" if finished else "KILLED")
        except Exception as error:
            say(f"logger: MLflow could not set the final status ({_line(error)})")


ELSEWHERE: dict[str, Callable[[Path, dict[str, Any], str | None], Any]] = {"wandb": WandbLogger, "mlflow": MlflowLogger}
ADVICE = {
    "wandb": "`wandb login`, or WANDB_MODE=offline to send it later",
    "mlflow": "MLFLOW_TRACKING_URI sets where it writes; docs/loggers.md has examples",
}


def check_loggers(names: Sequence[str]) -> None:
    """Check that the loggers' packages are installed, before anything is read or trained.

    Raises:
        ValueError: a missing package; names the command to install it.
    """
    for name in names:
        package = PACKAGES.get(name)
        if package is not None and importlib.util.find_spec(package) is None:
            raise ValueError(f"logger: {name} needs the package {package}; pip install 'signcl[{name}]'")


def start_loggers(names: Sequence[str], folder: Path, step: int, settings: dict[str, Any]) -> list[Logger]:
    """Start the loggers of a run, or continue them after a resumption.

    Args:
        step: completed optimizer steps; at 0 a new run is created in the loggers.
        settings: the recipe, for loggers that show it.

    Raises:
        ValueError: a logger cannot start; gives the reason.
    """
    if not step:
        for events in folder.glob("events.out.tfevents.*"):  # from an earlier run
            events.unlink()
    path = folder / IDS
    ids: dict[str, str] = {}
    if step and path.is_file():
        ids = read_json(path, {str: str}, "delete it: the numbers then go to new runs of the loggers")
    loggers: list[Logger] = []
    for name in dict.fromkeys(names):
        if name not in ELSEWHERE:
            loggers.append(TensorBoardLogger(folder, step))
            continue
        try:
            logger = ELSEWHERE[name](folder, settings, ids.get(name))
        except Exception as error:  # each package has its own types
            for started in loggers:
                started.close(finished=False)
            raise ValueError(f"logger: {name} cannot start ({_line(error)}); {ADVICE[name]}") from None
        ids[name] = logger.id
        loggers.append(logger)
    if ids:
        write_json(path, ids)
    elif path.is_file() and not step:
        path.unlink()
    return loggers


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _flat(data: dict[str, Any], where: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= _flat(value, f"{where}{key}.") if isinstance(value, dict) else {f"{where}{key}": value}
    return flat
