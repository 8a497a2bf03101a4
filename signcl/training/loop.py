"""The training loop of one run: set-up, epochs, steps, scoring, state. `run` shows the overall order."""

from __future__ import annotations

import math
import sys
import time
import zlib
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from signcl.data.batch import Batch, padded_to
from signcl.data.interrupts import sigterm_stops, whole_or_not
from signcl.data.loading import ClipLoader, Loaded, read_batches, say_damaged, usable
from signcl.data.planning import draw_by_group, plan_batches
from signcl.data.progress import Bar, say, track
from signcl.data.registry import loaded_plugins
from signcl.losses import ctc_too_long
from signcl.systems.terms import weighted_sum
from signcl.training import run_folder
from signcl.training.dev_scores import Scored, dev_scores, score_batches, scoring_limits
from signcl.training.devices import check_device, memory_advice
from signcl.training.manifest import changed_data, data_fingerprints, save_fingerprints
from signcl.training.memory import Memory, activation_bytes, memory_of
from signcl.training.optimizer import (
    Adaptation,
    Objective,
    count_parameters,
    drop_waiting,
    freeze_parts,
    gather_rows,
    keep_frozen_in_bf16,
    make_optimizer,
    set_rates,
    shares_of,
    term_weights,
)
from signcl.training.prepare import prepare
from signcl.training.profile import Profile
from signcl.training.recipe import Recipe, TrainRecipe, recipe_to_dict
from signcl.training.record import Record
from signcl.training.refusals import Refusals, carried, total_norm
from signcl.training.repeated_layers import (
    compile_layers,
    local_optimizer_state,
    recompute_layers,
    shard_model,
    unsharded,
    whole_tensors,
)
from signcl.training.runs import attach_memory, build_model, initialise
from signcl.training.views import augmented

__all__ = ["Loop"]

LOG_EVERY = 10
"""Optimizer steps between log lines; in between, the host reads nothing from the device."""
SAVE_APART = 10
"""Minimum time between resumable states, as a multiple of the time to write one."""
RESTORED = ("step", "epoch", "seconds", "best", "bad", "broken", "cut", "damaged")


LARGE = 10_000_000
"""Number of parameters above which memory for activations is estimated before training, which takes a few seconds."""


def _sharding(train: TrainRecipe) -> Any:
    """Fabric's strategy for sharding weights over all ranks (FSDP2; also on CPUs, with gloo)."""
    from lightning_fabric.strategies import ModelParallelStrategy

    return ModelParallelStrategy(
        lambda module, mesh: shard_model(module, mesh["data_parallel"]),
        data_parallel_size=train.devices * train.nodes,
        tensor_parallel_size=1,
    )


class Loop:
    """Trains one run; see `signcl.training.fit`."""

    def __init__(
        self, recipe: Recipe, folder: Path, state: dict[str, Any] | None, *, progress: bool, profile: bool = False
    ) -> None:
        from lightning_fabric import Fabric

        self.recipe, self.folder, self.progress = recipe, folder, progress
        train = recipe.train
        device = check_device(train)
        torch.set_float32_matmul_precision(train.matmul_precision)  # before Fabric, which warns if it is not set
        self.sharded = train.strategy == "fsdp"
        try:
            self.fabric = Fabric(
                accelerator=device,
                devices=train.devices,
                num_nodes=train.nodes,
                strategy=_sharding(train) if self.sharded else train.strategy,
                precision=train.precision,
            )
        except (RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"train.device={device}, train.devices={train.devices}, train.strategy={train.strategy}: {error}"
            ) from None
        self.fabric.launch()
        self.lead = self.fabric.global_rank == 0
        self.profile = Profile(self.fabric.device, on=profile)
        self.material = prepare(recipe)
        torch.manual_seed(train.seed)  # same initial weights on every rank
        data = self.material
        described = None if state is None else run_folder.read_architecture(folder)
        self.model = build_model(recipe, data.tokenizer, data.feature_dim, data.glosses, data.targets, described)
        self.initialised = initialise(self.model, recipe, data.tokenizer, data.targets) if state is None else []
        attach_memory(self.model, recipe, data.targets)
        freeze_parts(self.model, recipe.model.freeze)
        if train.frozen_precision == "bf16":
            keep_frozen_in_bf16(self.model)
        if state is not None:
            self.model.load_state_dict(state["model"])  # before sharding
        self._prepare_layers()
        gather = (lambda rows: gather_rows(self.fabric, rows)) if self.fabric.world_size > 1 else None
        self.objective = Objective(self.model, recipe, self.material.tokenizer.pad_id, gather)
        self.wrapped = self.fabric.setup_module(self.objective)
        self.optimizer: Any = self.fabric.setup_optimizers(make_optimizer(self.model, train))
        self.refusals = Refusals(self.model, self.optimizer, self.fabric)

        self.loader = ClipLoader(
            [data.train, data.dev],
            workers=train.workers,
            pin_memory=self.fabric.device.type == "cuda",
            hold=train.accumulate,
        )
        self.steps_per_epoch = math.ceil(len(self.plan(0)) / train.accumulate)
        self.total = self.steps_per_epoch * train.epochs
        if train.max_steps is not None:
            self.total = min(self.total, train.max_steps)
        self.step = self.epoch = self.bad = 0
        self.seconds = self.save_seconds = self.saved_at = 0.0  # always saves after the first epoch
        self.best: float | None = None
        self.broken: dict[str, str] = {}
        self.damaged: dict[str, str] = {}
        self.cut: dict[str, bool] = {}  # training clips with truncated sentences; a dict keeps their order
        self.too_short: set[str] = set()
        self.adaptation = Adaptation()
        self.star = "  * (the best on dev so far: these weights are kept)"  # explained once
        self.noted: dict[str, dict[str, int]] = {}  # at the last save
        self.fingerprints = self._fingerprints()
        if state is not None:
            self._restore(state)

    def _prepare_layers(self) -> None:
        """Set up compilation and activation checkpointing of the repeated layers, as in the recipe."""
        train = self.recipe.train
        if train.compile:
            mode = None if train.compile_mode == "default" else train.compile_mode
            if mode is not None and self.fabric.device.type != "cuda":
                raise ValueError(
                    f"train.compile_mode={mode}: needs a CUDA device, got {self.fabric.device}; set it to default"
                )
            compile_layers(self.model, mode, self.fabric.device.type)
        if train.recompute:
            recompute_layers(self.model)

    def _restore(self, state: dict[str, Any]) -> None:
        before = state.get("corpus", {})
        if isinstance(before, int):  # runs of version 0.1 store only names and sentences
            changed = [] if before == self._names_and_sentences() else ["train"]
        else:
            changed = changed_data(before, self.fingerprints)
        if changed:
            raise ValueError(
                f"{self.recipe.corpus.root} has changed since {self.folder} was begun ({', '.join(changed)}); restore "
                f"it, choose another folder with --out=, or train again with --fresh"
            )
        self.optimizer.load_state_dict(local_optimizer_state(self.optimizer, state["optimizer"]))
        self.fabric._precision.load_state_dict(state.get("precision", {}))  # the loss scale of 16-mixed
        self.adaptation = Adaptation(**state["adaptation"])
        self.refusals.load_state_dict(state.get("refusals", {}))
        self.initialised = state["initialised"]
        for name in RESTORED:
            setattr(self, name, state.get(name, getattr(self, name)))
        if self.lead:  # saved counts are sums over ranks
            self.objective.noted = state.get("noted", {})
        if self.step < self.epoch * self.steps_per_epoch:  # max_steps stopped it within an epoch, which continues now
            self.epoch = self.step // self.steps_per_epoch

    def _fingerprints(self) -> dict[str, str]:
        """Fingerprints of the corpus data that training depends on."""
        data = self.material
        classes = None if data.glosses is None else data.glosses.glosses
        return data_fingerprints(data.train.samples, data.dev.samples, classes)

    def _names_and_sentences(self) -> int:
        return zlib.crc32("\n".join(f"{s.name}\t{s.text}" for s in self.material.train.samples).encode())

    def run(self) -> Path:
        """Train, score and save; returns the run folder."""
        self.started = time.perf_counter() - self.seconds
        if self.lead:
            data = self.material
            run_folder.save_run_start(self.folder, self.recipe, data.tokenizer, data.glosses, data.targets)
            save_fingerprints(self.folder, self.fingerprints, self._plugins())
            self.record = Record(self.folder, self.step, self.recipe.logger, recipe_to_dict(self.recipe))
            for line in [*self.initialised, *(data.targets.notes() if data.targets else ())]:
                say(line)
            parameters, trained = count_parameters(self.model)
            frozen = "" if trained == parameters else f", {trained:,} of them trained"
            say(
                f"{self.recipe.stage}: {len(self.material.train)} clips, {len(self.material.dev)} dev, "
                f"{parameters:,} parameters{frozen}, {self.total} steps on {self.fabric.device} in {self.numbers()}"
                + (f", from step {self.step}" if self.step else "")
            )
            say(str(self.memory(parameters)))
        try:
            bar_of_steps = track("training", total=self.total, done=self.step, show=self.progress and self.lead)
            with sigterm_stops(), bar_of_steps as bar:
                # by epochs, not steps: a run that was stopped during scoring must still score
                while not self._ended():
                    self._epoch(bar)
        except BaseException as stopped:
            if isinstance(stopped, KeyboardInterrupt):
                self._save()
            if self.lead:
                self.record.close(finished=False)
            if self.lead and isinstance(stopped, KeyboardInterrupt):
                say(f"stopped at step {self.step} of {self.total}; the same command resumes there")
            raise
        finally:
            self.loader.close()
        self._save(finished=True)
        if self.lead:
            self.record.close()
            self._tell()
            self.profile.tell(self.folder)
        return self.folder

    def numbers(self) -> str:
        """The precision of the run, as text."""
        train = self.recipe.train
        products = f", float32 products {train.matmul_precision}" if self.fabric.device.type == "cuda" else ""
        return f"{train.precision}{products}"

    def memory(self, parameters: int, *, estimate: bool = False) -> Memory:
        """Memory that the run needs on each device. Activations are estimated for large models, or on request."""
        train, data, activations = self.recipe.train, self.material.train, None
        if (estimate or parameters >= LARGE) and not self.sharded and not train.compile:
            lengths = self.material.train_lengths
            largest = max(self.plan(0), key=lambda batch: max(lengths[i] for i in batch) * len(batch))
            loaded = data[largest].batch
            if loaded is not None:
                self.objective.train()
                batch = padded_to(loaded, train.pad_to, self.objective.context.pad_id)
                activations = activation_bytes(self.objective, batch)
        return memory_of(self.optimizer, self.model, train, ranks=self.fabric.world_size, activations=activations)

    def _ended(self) -> bool:
        stalled = self.bad >= (self.recipe.train.patience or math.inf)
        return stalled or self.epoch * self.steps_per_epoch >= self.total

    def plan(self, epoch: int, *, every_rank: bool = False) -> list[list[int]]:
        """The training batches of an epoch, for this rank or for all ranks; identical on every rank."""
        train = self.recipe.train
        drawn = None
        if train.language_temperature is not None:
            languages = [sample.language for sample in self.material.train.samples]
            drawn = draw_by_group(languages, train.language_temperature, seed=train.seed, epoch=epoch)
        return plan_batches(
            self.material.train_lengths,
            batch_size=train.batch_size,
            batch_frames=train.batch_frames,
            bucket=train.bucket,
            seed=train.seed,
            epoch=epoch,
            rank=0 if every_rank else self.fabric.global_rank,
            ranks=1 if every_rank else self.fabric.world_size,
            drop_single=self.recipe.stage == "pretrain",
            drawn=drawn,
        )

    def _epoch(self, bar: Bar) -> None:
        train, data = self.recipe.train, self.material.train
        plan = self.plan(self.epoch)
        # with batch_frames, epochs can differ by a few batches; the number of steps is that of epoch 0
        groups = [plan[i : i + train.accumulate] for i in range(0, len(plan), train.accumulate)]
        groups = (groups * 2)[: self.steps_per_epoch]
        groups = groups[self.step - self.epoch * self.steps_per_epoch :]
        data.epoch = self.epoch
        loader = self.loader.batches(data, [batch for group in groups for batch in group])
        for group in groups:
            if self.step >= self.total:
                break
            with self.profile("waiting for data"):
                batches = [self._usable(next(loader)) for _ in group]
            with whole_or_not():
                self._train_step(batches)
                self.step += 1
            self.profile.step_done()
            bar.advance()
            if self.step % train.save_every == 0 and self.step % self.steps_per_epoch:
                self._save()
        if self.too_short.issuperset(sample.name for sample in data.samples):
            raise ValueError("every training clip has fewer steps than its glosses need for CTC; lower input.stride")
        self._look()
        scores = None
        if (self.epoch + 1) % train.evaluate_every == 0 or self.step >= self.total:
            with self.profile("scoring"):
                scores = self._score()
        with whole_or_not():
            self.epoch += 1
            if scores is not None:
                self._take(scores)
            if not self._ended() and self._worth_saving():  # the last state is saved as finished
                self._save()

    def _worth_saving(self) -> bool:
        """Whether training since the last save took ten times as long as the save, so that short epochs share one.

        With several processes, whose clocks differ, it is always true.
        """
        since = time.perf_counter() - self.saved_at
        return self.fabric.world_size > 1 or since >= SAVE_APART * self.save_seconds

    def timed_steps(self, count: int) -> float:
        """Mean seconds of `count` training steps spread over the first epoch, after one warm-up step."""
        size, data = self.recipe.train.accumulate, self.material.train
        plan = self.plan(0)
        groups = [plan[i : i + size] for i in range(0, len(plan), size)]
        chosen = [groups[i * len(groups) // (count + 1)] for i in range(count + 1)]
        loader = self.loader.batches(data, [batch for group in chosen for batch in group])
        started = 0.0
        for i, group in enumerate(chosen):
            if i == 1:
                started = self._now()
            self._train_step([self._usable(next(loader)) for _ in group])
        return (self._now() - started) / count

    def _now(self) -> float:
        """The current time, after waiting for the device to finish."""
        if self.fabric.device.type == "cuda":
            torch.cuda.synchronize(self.fabric.device)
        return time.perf_counter()

    def _usable(self, loaded: Loaded) -> Batch | None:
        """Move a training batch to the device, and record the problems that its worker found."""
        self.cut |= dict.fromkeys(loaded.cut, True)
        self.damaged |= dict(loaded.damaged)
        batch = usable(loaded, self.broken, self.recipe.corpus.on_broken)
        if batch is None:
            return None
        self._note_too_short(batch)
        return padded_to(batch, self.recipe.train.pad_to, self.objective.context.pad_id).to(self.fabric.device)

    def _classes(self) -> int | None:
        return None if self.material.glosses is None else len(self.material.glosses)

    def _note_too_short(self, batch: Batch) -> None:
        """Record clips with fewer steps than their glosses need, while the batch is still on the host."""
        if batch.glosses is None or batch.gloss_lengths is None:
            return
        steps = self.model.step_lengths(batch.lengths)  # type: ignore[operator]
        short = ctc_too_long(batch.glosses, steps, batch.gloss_lengths)
        names = [name for name, is_short in zip(batch.names, short.tolist()) if is_short]
        if names and self.recipe.loss.ctc_too_long == "stop":
            raise ValueError(
                f"clip {names[0]} has fewer steps than its glosses need for CTC; lower input.stride, drop the clip, or "
                f"set loss.ctc_too_long=skip"
            )
        self.too_short.update(names)

    def _train_step(self, loaded: list[Batch | None]) -> None:
        """One optimizer step over the micro-batches; it is skipped if the gradient is not finite."""
        train, fabric = self.recipe.train, self.fabric
        batches = [batch for batch in loaded if batch is not None]
        if not batches or (len(batches) < len(loaded) and fabric.world_size > 1):  # other ranks would wait
            if fabric.world_size > 1 or len(self.broken) >= len(self.material.train):
                first = next(iter(self.broken.items()))
                raise ValueError(f"no clip of a batch can be read; the first is {first[0]}: {first[1]}")
            return
        self.wrapped.train()
        self._seed()
        rate = set_rates(self.optimizer, self.step, self.total, train, self.adaptation.rate)
        seen: dict[str, Tensor] = {}
        weights = term_weights(self.recipe, self.epoch, self.adaptation)
        self.objective.progress = self.step / max(1, self.total - 1)
        shares = self._shares(batches)
        for i, batch in enumerate(batches):
            with self.profile("augmentation"):
                batch = self._augmented(batch)
            out_of_memory = memory_advice(self.recipe, batch, f"step {self.step} of training", training=True)
            with out_of_memory, fabric.no_backward_sync(self.wrapped, enabled=i + 1 < len(batches)):
                with self.profile("forward"):
                    terms = self.wrapped(batch)
                    parts = {name: value * shares[i][name] for name, value in terms.items()} if shares else terms
                    total = weighted_sum(parts, weights)
                with self.profile("backward"):
                    fabric.backward(carried(total))
            for name, value in (*parts.items(), ("loss", total)):
                seen[name] = seen[name] + value.detach() if name in seen else value.detach()
        drop_waiting(self.optimizer, self.step - self.epoch * self.steps_per_epoch, train)
        norm: Any = None
        if train.clip_norm is not None:
            norm = fabric.clip_gradients(
                self.wrapped, self.optimizer, max_norm=train.clip_norm, error_if_nonfinite=False
            )
        else:
            norm = total_norm(self.optimizer)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # over all shards
        with (
            self.profile("optimizer"),
            memory_advice(self.recipe, batches[-1], f"the optimizer at step {self.step}", training=True),
        ):
            self.refusals.step(norm, self.step, seen, [name for batch in batches for name in batch.names])
            self.optimizer.zero_grad(set_to_none=True)
        if (self.step + 1) % LOG_EVERY == 0 or self.step == 0:
            self._log(seen, rate, norm if train.clip_norm is not None else None)
            self._look()

    def _look(self) -> None:
        """Read which steps were skipped, at a point where the host waits for the device anyway."""
        self.refusals.look()
        self.refusals.check(self.steps_per_epoch, self.total)

    def _shares(self, batches: list[Batch]) -> list[dict[str, Tensor]]:
        """Weight of each batch in each term; empty for a step of one batch on one rank, where all weights are 1."""
        if len(batches) == 1 and self.fabric.world_size == 1:
            return []
        terms = self.recipe.terms
        return [dict(zip(terms, shares)) for shares in shares_of(batches, terms, self.objective.context, self.fabric)]

    def _log(self, seen: dict[str, Tensor], rate: float, norm: Any) -> None:
        """Log the step's losses over all batches and ranks; here the host waits for the device."""
        values: Any = torch.stack([value.float() for value in seen.values()])
        if self.fabric.world_size > 1:
            values = self.fabric.all_reduce(values, reduce_op="mean")  # shares include a factor of the number of ranks
        if not self.lead:
            return
        logged = dict(zip(seen, values.tolist())) | {"lr": rate}
        if norm is not None:
            logged["gradient_norm"] = float(norm)
        self.record.log("train", self.step + 1, self.epoch, logged)

    def _augmented(self, batch: Batch) -> Batch:
        settings = self.recipe.input.augment
        if settings.probability == 0:
            return batch
        if batch.inputs.ndim != 4:
            raise ValueError("input.augment works on frames, and this corpus gives features; set probability to 0")
        return augmented(batch, settings)

    def _seed(self) -> None:
        seed = (self.recipe.train.seed * 1_000_003 + self.step) * 1024 + self.fabric.global_rank
        # on a CPU torch.manual_seed would write down the call stack each time, for a CUDA that may be started later
        (torch.default_generator if self.fabric.device.type == "cpu" else torch).manual_seed(seed)

    def _score(self) -> dict[str, float]:
        """Score the dev split."""
        recipe = self.recipe
        self._seed()  # so that a resumed run samples the same negatives
        clips, frames = scoring_limits(self.plan(0, every_rank=True), self.material.train_lengths, recipe)
        plan = plan_batches(
            self.material.dev_lengths,
            batch_size=clips,
            batch_frames=frames,
            shuffle=False,
            rank=self.fabric.global_rank,
            ranks=self.fabric.world_size,
        )
        batches = read_batches(
            self.material.dev,
            plan,
            device=self.fabric.device,
            broken=self.broken,
            on_broken=recipe.corpus.on_broken,
            loader=self.loader,
            what="scoring dev",
            progress=self.progress and self.lead and len(plan) > 20,
            on_host=self._note_too_short,
            damaged=self.damaged,
        )
        whole = unsharded(self.wrapped) if self.sharded else nullcontext()
        with memory_advice(recipe, None, "scoring dev", training=True), whole:
            scored = score_batches(self.model, batches, recipe, precision=self.fabric.autocast)
        if not scored.clips and self.broken and self.fabric.world_size == 1:
            raise ValueError(
                f"no clip of the dev split can be used; the last: {': '.join(list(self.broken.items())[-1])}"
            )
        return self._merged(scored)

    def _take(self, scores: dict[str, float]) -> None:
        """Act on dev scores: best weights, patience, learning rate, log."""
        recipe = self.recipe
        name, sign = recipe.select.lstrip("-"), -1 if recipe.select.startswith("-") else 1
        if name not in scores:
            raise ValueError(f"train.select={recipe.select}: this stage scores {', '.join(sorted(scores))}")
        value = sign * scores[name]
        self.bad += 1
        if self.best is None or value > self.best:
            self.best, self.bad = value, 0
            tensors = self._whole(self.model.state_dict()) if self.sharded else None
            if self.lead:
                run_folder.save_weights(self.folder, self.model, tensors)
        self.adaptation.update(value, recipe)
        if self.lead:
            self.record.log("dev", self.step, self.epoch, scores)
            shown = "  ".join(f"{key} {value:.4g}" for key, value in scores.items())
            mark, self.star = ("", self.star) if self.bad else (self.star, "  *")
            say(f"epoch {self.epoch}  {shown}{mark}")

    def _merged(self, scored: Scored) -> dict[str, float]:
        """Combine the scores of all ranks, counting each clip once; computes BLEU etc. from sentences."""
        parts = [scored]
        if self.fabric.world_size > 1:
            parts = [scored] * self.fabric.world_size
            torch.distributed.all_gather_object(parts, scored)
        return dev_scores(parts, self.material.dev.samples, self.recipe)

    def _save(self, finished: bool = False) -> None:
        begun = time.perf_counter()
        self._write_state(finished)
        self.saved_at = time.perf_counter()
        self.save_seconds = self.saved_at - begun

    def _write_state(self, finished: bool) -> None:
        self.seconds = time.perf_counter() - self.started
        self.refusals.look()
        if self.fabric.world_size > 1:  # each rank has its own broken clips
            parts = [(self.broken, self.cut, self.damaged)] * self.fabric.world_size
            torch.distributed.all_gather_object(parts, (self.broken, self.cut, self.damaged))
            self.broken = {name: reason for broken, _, _ in parts for name, reason in broken.items()}
            self.cut = {name: True for _, cut, _ in parts for name in cut}
            self.damaged = {name: what for _, _, damaged in parts for name, what in damaged.items()}
        self.noted = self._noted()
        model, optimizer = self._whole(self.model.state_dict()), self._whole(self.optimizer.state_dict())
        if not self.lead:
            return
        state = {
            "recipe": recipe_to_dict(self.recipe),
            "finished": finished,
            "model": model,
            "optimizer": optimizer,
            "precision": self.fabric._precision.state_dict(),
            "corpus": self.fingerprints,
            "adaptation": asdict(self.adaptation),
            "refusals": self.refusals.state_dict(),
            "initialised": self.initialised,
            "noted": self.noted,
            **{name: getattr(self, name) for name in RESTORED},
        }
        run_folder.save_card(self.folder, self._card())  # before the finished state, which must come last
        run_folder.save_state(self.folder, state)

    def _noted(self) -> dict[str, dict[str, int]]:
        """Counts of terms over training, over all ranks; here the host waits for the device."""
        own = {term: {name: int(n) for name, n in counts.items()} for term, counts in self.objective.noted.items()}
        parts = [own]
        if self.fabric.world_size > 1:
            parts = [own] * self.fabric.world_size
            torch.distributed.all_gather_object(parts, own)
        return {
            term: {name: sum(part.get(term, {}).get(name, 0) for part in parts) for name in counts}
            for term, counts in own.items()
            if counts
        }

    def _whole(self, state: dict[str, Any]) -> dict[str, Any]:
        """The unsharded state; in a sharded run every rank must call this."""
        whole: dict[str, Any] = whole_tensors(state) if self.sharded else state
        return whole

    def _plugins(self) -> dict[str, str]:
        """Digests of the run's plugins."""
        return {plugin: loaded_plugins().get(plugin, "") for plugin in self.recipe.plugins}

    def _card(self) -> dict[str, Any]:
        data = self.material
        return {
            "stage": self.recipe.stage,
            "command": " ".join(sys.argv),
            "seed": self.recipe.train.seed,
            "commit": run_folder.git_commit(),
            "versions": run_folder.versions(),
            **dict(zip(("parameters", "trained_parameters"), count_parameters(self.model))),
            "plugins": self._plugins(),
            "feature_dim": data.feature_dim,
            "fps": data.fps,
            "poses": None if data.poses is None else data.poses.described(),
            "clips": {"train": len(data.train), "dev": len(data.dev)},
            "frames": {"train": sum(data.train_lengths), "dev": sum(data.dev_lengths)},
            "initialised": self.initialised,
            "steps": self.step,
            "epochs": self.epoch,
            "seconds": round(self.seconds, 1),
            "select": self.recipe.select,
            "best": self.best,
            "device": str(self.fabric.device),
            "ranks": self.fabric.world_size,
            "broken": self.broken,
            "damaged": self.damaged,
            "cut_sentences": len(self.cut),
            "refused_steps": self.refusals.count,
            **({"noted": self.noted} if self.noted else {}),
            **({"gloss_classes": self._classes(), "too_short_for_ctc": sorted(self.too_short)} if data.glosses else {}),
        }

    def _tell(self) -> None:
        if self.broken:
            shown = "; ".join(f"{name}: {reason}" for name, reason in list(self.broken.items())[:5])
            more = f" (and {len(self.broken) - 5} more, all in card.json)" if len(self.broken) > 5 else ""
            say(f"{len(self.broken)} clips could not be used and were skipped: {shown}{more}")
        say_damaged(self.damaged)
        if refused := self.refusals.count:
            say(f"{refused} of {self.step} steps had non-finite gradients and were skipped")
        if self.too_short:
            few = f"{len(self.too_short)} clips have too few frames for their glosses and were left out of CTC"
            say(f"{few}: {', '.join(sorted(self.too_short)[:5])}")
        for term, counts in self.noted.items():
            frames, pushed = counts.get("frames", 0), counts.get("frames_with_negative")
            if pushed is not None and 2 * pushed < frames:  # the pull without a push makes features equal
                effect = "mostly pulled neighbours together" if pushed else "pushed nothing apart"
                say(
                    f"loss.weights.{term}: {pushed} of {frames} frames had a negative, so the loss {effect}; "
                    f"lower loss.signcl.words_per_gloss or frame_margin_floor, or use longer clips"
                )
        if cut := len(self.cut):
            say(f"{cut} training sentences were cut to text.max_tokens={self.recipe.text.max_tokens} tokens")
        say(f"{self.folder}: {self.step} steps in {self.seconds:.0f} s")
