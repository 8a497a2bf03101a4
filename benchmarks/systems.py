"""Time one training step and one beam-4 answer of every system, at the size of its CPU recipe and at the paper's.

    python benchmarks/systems.py                          # all systems, both sizes
    python benchmarks/systems.py --size small --systems slt gfslt
    python benchmarks/systems.py --device cuda --precision bf16-mixed --clips 8 --frames 120

Every figure comes from a separate process (peak memory is that of the process without the imports), on synthetic clips
of one length, with random weights: no published weights are needed. Sentences have 20 tokens (the end token is
blocked); the number of glosses varies. `plain` is the simplest transformers-only form of the same computation (padded
frames through one ResNet, `nn.Conv1d`, an mBART of the same layers, `generate`; no SignCL, no gradient clipping),
measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WORDS = [f"wort{i}" for i in range(200)]
UNUSED = {
    "text.tokenizer": "word",
    "model.language_model": "",
    "model.visual_weights": "",
    "model.init_from": "",
    "model.form": "fixed",
    "input.augment.probability": 0.0,
    "input.cache_gb": 1.0,
    "train.devices": 1,
    "train.strategy": "auto",
    "train.workers": 0,
    "train.accumulate": 1,
    "corpus.name": "folder",
    "corpus.options": "{}",
    "corpus.features": "",
    "train.batch_frames": "null",
}
"""Replaces recipe values that need files or a certain machine, so that every size can be timed anywhere."""


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="*", default=[])
    parser.add_argument("--size", choices=("small", "paper", "both"), default="both")
    parser.add_argument("--clips", type=int, default=2, help="clips per batch")
    parser.add_argument("--frames", type=int, default=64, help="frames per clip")
    parser.add_argument("--steps", type=int, default=5, help="timed steps, after two warm-up steps")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--compile", action="store_true", help="use torch.compile")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", metavar="JSON", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(**json.loads(options.one))))
        return
    from signcl.training.catalogue import list_systems

    sizes = ("small", "paper") if options.size == "both" else (options.size,)
    common = {k: getattr(options, k) for k in ("clips", "frames", "steps", "threads", "device", "precision", "compile")}
    rows = []
    for system in list_systems(options.systems):
        for size in sizes:
            if size not in system["sizes"]:
                continue
            recipe = system["sizes"][size]["recipe"]
            for plain in (False, True) if system["system"] in PLAIN else (False,):
                row = {"system": system["system"], "size": size, "recipe": recipe, "plain": plain}
                rows.append(row | _in_a_process({"recipe": recipe, "plain": plain, **common}))
                if not options.json:
                    print(_line(rows[-1]), flush=True)
    if options.json:
        print(json.dumps(rows, indent=2))


def _in_a_process(task: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, "--one", json.dumps(task)], capture_output=True, text=True)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no output"])[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def _line(row: dict[str, Any]) -> str:
    head = f"{row['system']:<12}{row['size']:<7}{'plain' if row['plain'] else 'ours':<7}"
    if "error" in row:
        return head + row["error"]
    answer = " " * 28
    if row["answer"] is not None:
        answer = f"{row['clips'] / row['answer']:8.2f} clips/s ({row['tokens']:>2} long)"
    return (
        f"{head}{row['parameters']:>13,}  step {row['clips'] / row['step']:8.2f} clips/s  answer {answer}  "
        f"peak {row['peak_mib']:6,.0f} MiB"
    )


def measure(
    recipe: str,
    plain: bool,
    clips: int,
    frames: int,
    steps: int,
    threads: int,
    device: str,
    precision: str,
    compile: bool,
) -> dict[str, Any]:
    """Median seconds of a step and of an answer, and peak memory, in this process."""
    import torch

    from signcl.data.loading import clip_loader
    from signcl.training.loop import Loop
    from signcl.training.recipe import load_recipe, recipe_path

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        changes = UNUSED | {
            "corpus.root": folder,
            "out": f"{folder}/run",
            "train.device": device,
            "train.precision": precision,
            "train.batch_size": clips,
            "train.compile": compile,
        }
        shipped = load_recipe(recipe_path(recipe)).model
        if shipped.name == "classifier":  # one sign per clip
            changes["corpus.isolated"] = True
        if shipped.name in ("pgp", "sign2gpt"):
            changes |= {"model.lemmatiser": "words", "model.vectors": ""}
        if shipped.lm.name:  # the published sizes of XGLM-1.7B with random weights and the vocabulary of these clips
            sizes = {"architecture": "xglm", "layers": 24, "width": 2048, "heads": 16, "ffn": 8192, "name": ""}
            changes |= {f"model.lm.{key}": value for key, value in sizes.items()}
        loaded = load_recipe(recipe_path(recipe), [f"--{key}={_yaml(value)}" for key, value in changes.items()])
        write_corpus(Path(folder), loaded, clips, frames)
        before = _peak(device)
        loop = Loop(loaded, Path(loaded.out), None, progress=False)
        loop.lead = False  # nothing is written
        batch = next(iter(clip_loader(loop.material.train, [list(range(clips))]))).batch
        assert batch is not None
        batch = batch.to(loop.fabric.device)
        work = Plain(loop, batch) if plain else Ours(loop, batch)
        step = _median(work.step, steps, device)
        answer = _median(work.answer, max(2, steps // 2), device) if work.can_answer else None
        peak = _peak(device) - before
        return {
            "step": step,
            "answer": answer,
            "tokens": work.tokens,
            "clips": clips,
            "peak_mib": peak,
            "parameters": work.parameters,
        }


def _yaml(value: Any) -> str:
    return {True: "true", False: "false"}.get(value, value) if isinstance(value, bool) else str(value)


def _median(work: Any, steps: int, device: str) -> float:
    import torch

    seconds = []
    for _ in range(steps + 2):
        started = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[2:])


def _peak(device: str) -> float:
    """Peak memory in MiB: of the GPU if there is one, otherwise the largest resident size of this process."""
    import torch

    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_corpus(root: Path, recipe: Any, clips: int, frames: int) -> None:
    """Write clips of one length with sentences of twelve words, as the frames or features that the recipe needs."""
    import numpy as np

    random = np.random.default_rng(0)
    for split in ("train", "dev", "test"):
        lines = ["name\tpath\ttext\tgloss\tspans"]
        for i in range(max(clips, 8)):  # enough sentences for rules that drop words which occur in most of them
            name = f"{split}{i}"
            if recipe.model.visual in ("identity", "feature_mlp"):
                rows = random.normal(size=(frames, 36 if recipe.model.visual == "feature_mlp" else 1024))
                np.save(root / f"{name}.npy", rows.astype(np.float32))
                path = f"{name}.npy"
            else:
                from signcl.data.video import write_video

                side = recipe.input.size or 256
                write_video(root / f"{name}.mp4", random.integers(0, 256, (frames, side, side, 3)).astype(np.uint8))
                path = f"{name}.mp4"
            text = " ".join(random.choice(WORDS, 12))
            spans = " ".join(f"G{n}:{n * frames // 6}-{(n + 1) * frames // 6}" for n in range(6))
            lines.append(f"{name}\t{path}\t{text}\t{' '.join(f'G{n}' for n in range(6))}\t{spans}")
        (root / f"{split}.tsv").write_text("\n".join(lines) + "\n")


class Ours:
    """A step and an answer as in `signcl fit` and `signcl translate`."""

    tokens = 0

    def __init__(self, loop: Any, batch: Any) -> None:
        self.loop, self.batch = loop, batch
        self.parameters = sum(p.numel() for p in loop.model.parameters())
        self.can_answer = hasattr(loop.model, "generate") or hasattr(loop.model, "recognise")

    def step(self) -> None:
        """One optimizer step."""
        self.loop._train_step([self.batch])

    def answer(self) -> None:
        """Beam 4: a sentence of 20 tokens, or the glosses of a recogniser."""
        import torch

        from signcl.systems import Decode

        model = self.loop.model.eval()
        with torch.no_grad():
            if hasattr(model, "generate"):
                heads = [
                    m
                    for m in model.modules()
                    if getattr(m, "out_features", 0) == self.loop.material.tokenizer.vocab_size
                ]
                hooks = [head.register_forward_hook(self._no_end) for head in heads]
                self.tokens = model.generate(self.batch, num_beams=4, max_new_tokens=20).shape[1]
                for hook in hooks:
                    hook.remove()
            else:
                found = model.recognised(self.batch, Decode(gloss_beams=4))
                self.tokens = max(len(line.split()) for line in found)

    def _no_end(self, head: Any, given: Any, scores: Any) -> Any:
        """Block the end token, so that every answer has the maximum length."""
        scores = scores.clone()
        scores[..., self.loop.material.tokenizer.end_id] = -1e9
        return scores


class Plain:
    """The same sizes with transformers' parts only: padded frames, plain convolutions, an mBART, `generate`."""

    can_answer = True
    tokens = 20

    def __init__(self, loop: Any, batch: Any) -> None:
        import torch
        from torch import nn
        from transformers import MBartConfig, MBartForConditionalGeneration, ResNetConfig, ResNetModel

        m, self.batch, self.device = loop.recipe.model, batch, loop.fabric.device
        torch.manual_seed(0)
        self.pixels = batch.inputs.ndim == 4
        parts: dict[str, nn.Module] = {}
        dim = batch.inputs.shape[-1]
        if self.pixels and m.visual == "resnet18":
            config = ResNetConfig(depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512], layer_type="basic")
            parts["visual"], dim = ResNetModel(config), 512
        elif self.pixels:
            parts["visual"], dim = loop.model.visual, loop.model.visual.dim  # our CNNs have no transformers version
        if m.name == "gfslt":

            def conv(a: int, b: int) -> list[nn.Module]:
                return [nn.Conv1d(a, b, 5, padding=2), nn.BatchNorm1d(b), nn.ReLU(), nn.MaxPool1d(2)]

            parts["conv"] = nn.Sequential(*conv(dim, m.conv_width), *conv(m.conv_width, m.conv_width))
            dim = m.conv_width
        parts["linear"] = nn.Linear(dim, m.width)
        parts["mbart"] = MBartForConditionalGeneration(MBartConfig(
            vocab_size=loop.material.tokenizer.vocab_size, d_model=m.width, encoder_layers=m.encoder_layers,
            decoder_layers=m.decoder_layers, encoder_attention_heads=m.heads, decoder_attention_heads=m.heads,
            encoder_ffn_dim=m.ffn, decoder_ffn_dim=m.ffn, tie_word_embeddings=False, pad_token_id=0,
            forced_eos_token_id=None,
        ))  # fmt: skip
        self.net = nn.ModuleDict(parts).to(self.device)
        self.parameters = sum(p.numel() for p in self.net.parameters())
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=1e-4)

    def _inputs(self) -> Any:
        import torch

        from signcl.data.batch import unpack

        b = self.batch
        rows = b.inputs
        if self.pixels:
            if "visual" in self.net and hasattr(self.net["visual"], "config"):
                images = rows.permute(0, 3, 1, 2).float() / 255
                rows = self.net["visual"](images).pooler_output.flatten(1)
            else:
                rows = self.net["visual"](rows)
        features = unpack(rows, b.positions, len(b), b.max_length)
        if "conv" in self.net:
            features = self.net["conv"](features.transpose(1, 2)).transpose(1, 2)
        return self.net["linear"](features), torch.ones(features.shape[:2], device=features.device, dtype=torch.long)

    def step(self) -> None:
        """One optimizer step."""
        self.net.train()
        inputs, mask = self._inputs()
        loss = self.net["mbart"](inputs_embeds=inputs, attention_mask=mask, labels=self.batch.tokens).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def answer(self) -> None:
        """Beam 4, 20 tokens."""
        import torch

        self.net.eval()
        with torch.no_grad():
            inputs, mask = self._inputs()
            self.net["mbart"].generate(
                inputs_embeds=inputs, attention_mask=mask, num_beams=4, min_new_tokens=20, max_new_tokens=20,
                decoder_start_token_id=1,
            )  # fmt: skip


PLAIN = ("gfslt", "slt")
"""Systems with a transformers-only form."""

if __name__ == "__main__":
    main()
