"""Generates a fake PHOENIX-2014T release and fake published weights with the real layout, names, shapes and sizes.

They are used in rehearsals (`paper.rehearsal`), because the cost of training depends on sizes, not on content. The
numbers of clips, frames, words and glosses follow the release (docs/data.md). Frames show moving smooth shapes with
grain, so PNG files have about the size of weather forecast frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from signcl.data.files import atomic_write
from signcl.data.progress import track
from signcl.data.text import SentencePieceTokenizer

__all__ = ["FULL", "SMALL", "SPLITS", "Shapes", "write_release", "write_weights"]

SPLITS = {"train": 7096, "dev": 519, "test": 642}
"""Number of sentences in PHOENIX-2014T."""
FRAMES, FRAMES_SPREAD, FRAMES_RANGE = 116.6, 0.43, (16, 475)
"""Frames per training clip: mean, standard deviation of the logarithm, and range."""
WORDS, GLOSSES = 13.96, 7.79
"""Mean words and glosses per training sentence."""
LEXICON = {"words": 2887, "glosses": 1085}
PIECES = 2427
"""Word pieces of GFSLT's trimmed mBART, which has 2454 ids including special tokens and languages."""


@dataclass(frozen=True)
class Shapes:
    """Sizes of frames and of published networks."""

    picture: tuple[int, int]
    """Height and width of a frame, pixels."""
    frames: float
    """Mean frames per clip; other statistics are those of the release."""
    words: int
    """Number of different words in the corpus."""
    pieces: int
    mbart: dict[str, Any]
    dinov2: dict[str, Any]
    xglm: dict[str, Any]


_ENDS = ("encoder", "decoder")
FULL = Shapes(
    picture=(260, 210),
    frames=FRAMES,
    words=LEXICON["words"],
    pieces=PIECES,
    mbart={
        "d_model": 1024, **{f"{end}_layers": 12 for end in _ENDS}, **{f"{end}_attention_heads": 16 for end in _ENDS},
        **{f"{end}_ffn_dim": 4096 for end in _ENDS}, "activation_function": "gelu", "max_position_embeddings": 1024,
    },
    dinov2={"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "image_size": 518, "patch_size": 14},
    xglm={"num_layers": 24, "d_model": 2048, "attention_heads": 16, "ffn_dim": 8192, "vocab_size": 256_008},
)  # fmt: skip
"""Published sizes: mbart-large trimmed to PHOENIX's pieces, DINOv2 ViT-S/14, XGLM-1.7B."""
SMALL = Shapes(
    picture=(52, 42),
    frames=20.0,
    words=120,
    pieces=90,
    mbart={
        "d_model": 32, **{f"{end}_layers": 1 for end in _ENDS}, **{f"{end}_attention_heads": 2 for end in _ENDS},
        **{f"{end}_ffn_dim": 32 for end in _ENDS}, "activation_function": "gelu", "max_position_embeddings": 160,
    },
    dinov2={
        "hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 3, "mlp_ratio": 2, "image_size": 32,
        "patch_size": 8,
    },
    xglm={"num_layers": 1, "d_model": 32, "attention_heads": 2, "ffn_dim": 32, "vocab_size": 400},
)  # fmt: skip
"""For two CPU cores."""


def write_release(
    root: Path, share: float, shapes: Shapes = FULL, *, seed: int = 0, threads: int = 4
) -> dict[str, int]:
    """Writes a share of the fake release in the real layout; existing clips are kept.

    Args:
        root: the folder PHOENIX-2014T.
        share: share of the clips of each split; at least 4 clips per split.
        threads: number of threads that write frames.

    Returns:
        Number of clips in each split.
    """
    random = np.random.default_rng(seed)
    words, glosses = (
        _lexicon(random, shapes.words, "abcdefghijklmnoprstuvwz"),
        _lexicon(random, LEXICON["glosses"], "ABEGIKLMNORSTUW"),
    )
    counts = {split: max(4, round(share * clips)) for split, clips in SPLITS.items()}
    tasks: list[tuple[Path, int, int]] = []
    (root / "annotations/manual").mkdir(parents=True, exist_ok=True)
    for split, count in counts.items():
        lines = ["name|video|start|end|speaker|orth|translation"]
        for i in range(count):
            frames = _length(random, shapes.frames)
            name = f"{split}-{i:05d}"
            text = " ".join(_drawn(random, words, WORDS))
            orth = " ".join(_drawn(random, glosses, min(GLOSSES, frames / 8)))
            lines.append(f"{name}|{name}/1/*.png|-1|-1|Signer{1 + i % 9:02d}|{orth}|{text}")
            tasks.append((root / f"features/fullFrame-210x260px/{split}/{name}", frames, int(random.integers(2**31))))
        with atomic_write(root / f"annotations/manual/PHOENIX-2014-T.{split}.corpus.csv") as path:
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    cv2.setNumThreads(1)
    with ThreadPoolExecutor(threads) as pool, track("pictures", total=len(tasks)) as bar:
        for _ in pool.map(lambda task: _write_clip(*task, shapes.picture), tasks):
            bar.advance()
    return counts


def write_weights(
    folder: Path,
    root: Path,
    shapes: Shapes = FULL,
    *,
    of: Sequence[str] = ("vlp", "smkd", "pgp", "sign2gpt"),
    seed: int = 0,
) -> None:
    """Writes published weights with random values: resnet18.pth, MBart_trimmed, dinov2-small, xglm-1.7B.

    Args:
        root: the fake release; tokenizers are trained on its sentences.
        of: recipes that will start from the weights; XGLM, for sign2gpt, takes 3.5 GB at its published size.
    """
    from transformers import (
        Dinov2Config,
        Dinov2Model,
        MBartConfig,
        MBartForConditionalGeneration,
        XGLMConfig,
        XGLMForCausalLM,
    )

    from signcl.systems.encoders.frame_encoders import ResNet

    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    texts = _texts(root)
    if not (folder / "resnet18.pth").is_file():
        with atomic_write(folder / "resnet18.pth") as path:
            torch.save(ResNet(18).resnet.state_dict(), path)
    mbart = folder / "MBart_trimmed"
    starts = {name: any(stage.startswith(name) for stage in of) for name in ("vlp", "gfslt", "pgp", "sign2gpt")}
    if (starts["vlp"] or starts["gfslt"]) and not (mbart / "model.safetensors").is_file():
        mbart.mkdir(exist_ok=True)
        tokenizer = SentencePieceTokenizer.train(texts, vocab_size=shapes.pieces)
        (mbart / "sentencepiece.bpe.model").write_bytes(tokenizer.model)
        config = MBartConfig(vocab_size=tokenizer.vocab_size, scale_embedding=True, **shapes.mbart)
        MBartForConditionalGeneration(config).save_pretrained(mbart)
    if (starts["pgp"] or starts["sign2gpt"]) and not (folder / "dinov2-small" / "model.safetensors").is_file():
        Dinov2Model(Dinov2Config(**shapes.dinov2)).save_pretrained(folder / "dinov2-small")
    xglm = folder / "xglm-1.7B"
    if starts["sign2gpt"] and not (xglm / "config.json").is_file():
        _save_tokenizer(xglm, texts, shapes.xglm["vocab_size"])
        ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
        XGLMForCausalLM(XGLMConfig(**ids, **shapes.xglm)).to(torch.bfloat16).save_pretrained(xglm)


def _save_tokenizer(folder: Path, texts: list[str], most: int) -> None:
    """Saves a word tokenizer with XGLM's special tokens in the format of transformers."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = sorted({word for text in texts for word in text.split()})[: most - 4]
    vocabulary = {word: i for i, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    marks = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    folder.mkdir(parents=True, exist_ok=True)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks).save_pretrained(folder)


def _texts(root: Path) -> list[str]:
    lines = (root / "annotations/manual/PHOENIX-2014-T.train.corpus.csv").read_text(encoding="utf-8").splitlines()[1:]
    return [line.rsplit("|", 1)[1] for line in lines]


def _lexicon(random: np.random.Generator, size: int, letters: str) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < size:
        found["".join(random.choice(list(letters), size=int(random.integers(3, 11))))] = None
    return list(found)


def _drawn(random: np.random.Generator, lexicon: list[str], mean: float) -> list[str]:
    """Draws a sentence: its length from a Poisson distribution, its words by Zipf's law."""
    length = max(1, int(random.poisson(mean)))
    weights = 1 / np.arange(1, len(lexicon) + 1)
    return [lexicon[i] for i in random.choice(len(lexicon), size=length, p=weights / weights.sum())]


def _length(random: np.random.Generator, mean: float) -> int:
    """Draws the length of a clip from a log-normal with the release's spread and range, scaled to `mean`."""
    shortest, longest = (edge * mean / FRAMES for edge in FRAMES_RANGE)
    drawn = random.lognormal(np.log(mean) - FRAMES_SPREAD**2 / 2, FRAMES_SPREAD)
    return int(np.clip(round(drawn), max(8, shortest), longest))


def _write_clip(folder: Path, frames: int, seed: int, picture: tuple[int, int]) -> None:
    """Writes frames with a grey grainy background and three moving discs: two hands and a head."""
    last = folder / f"images{frames:04d}.png"
    if last.is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    height, width = picture
    ground = np.linspace(90, 150, height, dtype=np.float32)[:, None, None] * np.ones((1, width, 3), np.float32)
    grain = random.normal(0, 2.0, size=(4, height, width, 3)).astype(np.float32)
    phase, rate = random.uniform(0, 6.28, size=3), random.uniform(0.05, 0.2, size=3)
    for t in range(frames):
        image = (ground + grain[t % 4]).clip(0, 255).astype(np.uint8)
        for k, radius in enumerate((0.1, 0.08, 0.08)):
            x = int(width * (0.5 + (0.05 if k == 0 else 0.3) * np.sin(phase[k] + rate[k] * t)))
            y = int(height * (0.25 if k == 0 else 0.6 + 0.2 * np.cos(phase[k] + rate[k] * t)))
            cv2.circle(image, (x, y), int(radius * width), (120 + 30 * k, 150, 190), -1, cv2.LINE_AA)
        if not cv2.imwrite(str(folder / f"images{t + 1:04d}.png"), image, [cv2.IMWRITE_PNG_COMPRESSION, 1]):
            raise OSError(f"{folder}: no picture could be written; is the disk full?")
