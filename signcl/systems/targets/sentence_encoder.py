"""A pretrained sentence encoder from a folder or hub id, in the layout of transformers or sentence-transformers.

It takes the mean over the tokens of the last layer, without padding, and applies the dense layers that the layout names
(distiluse: 768 -> 512 with tanh). It does not normalise, since only cosines are used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from signcl.data.json_files import read_json
from signcl.systems.parts.checkpoints import read_data

__all__ = ["SentenceEncoder", "source_stamp"]

BATCH = 64
LONGEST = 512
"""Maximum tokens, unless the layout or the model has a lower limit."""
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
MODULES = [{"type": str, "path": str}]
LIMIT = {"max_seq_length?": int | None}
DENSE = {"in_features": int, "out_features": int, "bias?": bool, "activation_function?": str}
ACTIVATIONS = {"Tanh": nn.Tanh, "Identity": nn.Identity, "ReLU": nn.ReLU, "GELU": nn.GELU, "Sigmoid": nn.Sigmoid}


class SentenceEncoder:
    """Encodes sentences as vectors; see `load`.

    Args:
        tokenizer, model: from transformers.
        dense: layers after the mean; empty for none.
        longest: maximum number of tokens; longer sentences are truncated.
    """

    def __init__(self, tokenizer: Any, model: nn.Module, dense: nn.Module, longest: int) -> None:
        self.tokenizer, self.model, self.dense, self.longest = tokenizer, model.eval(), dense.eval(), longest

    @classmethod
    def load(cls, source: str) -> SentenceEncoder:
        """Load from a folder or hub id.

        Raises:
            ValueError, OSError: nothing found, a pooling other than the mean, or an unknown layer.
        """
        from transformers import AutoModel, AutoTokenizer

        modules = _json(source, "modules.json", MODULES) or []
        kinds = {m["type"].rsplit(".", 1)[-1]: m["path"] for m in modules}
        inner = kinds.get("Transformer", "")
        place: dict[str, Any] = {"subfolder": inner} if inner else {}
        try:
            model = AutoModel.from_pretrained(source, trust_remote_code=False, **place)
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **place)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(
                f"model.sentence_encoder=pretrained:{source}: no folder or hub id with a model and a tokenizer "
                f"for transformers ({reason}); tfidf needs none"
            ) from None
        model = getattr(model, "encoder", model) if model.config.is_encoder_decoder else model
        layers: list[nn.Module] = []
        for module in modules:
            kind = module["type"].rsplit(".", 1)[-1]
            if kind == "Pooling":
                _only_mean(source, _json(source, f"{module['path']}/config.json", {}) or {})
            elif kind == "Dense":
                layers += _dense(source, module["path"])
            elif kind not in ("Transformer", "Normalize"):
                raise ValueError(f"{source}/modules.json has a layer {kind}; Transformer, Pooling and Dense are known")
        own = _json(source, f"{inner}/sentence_bert_config.json" if inner else "sentence_bert_config.json", LIMIT) or {}
        limits = [own.get("max_seq_length"), getattr(model.config, "max_position_embeddings", None), LONGEST]
        limits.append(tokenizer.model_max_length)
        return cls(tokenizer, model, nn.Sequential(*layers), min(limit for limit in limits if limit))

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """One vector per sentence; sentences of similar length are batched together. [n, E] float32"""
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        rows: list[Tensor] = []
        for start in range(0, len(texts), BATCH):
            chosen = [texts[i] for i in order[start : start + BATCH]]
            tokens = self.tokenizer(chosen, padding=True, truncation=True, max_length=self.longest, return_tensors="pt")
            states = self.model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
            real = tokens["attention_mask"][:, :, None].to(states.last_hidden_state)
            mean = (states.last_hidden_state * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)
            rows.append(self.dense(mean).float())
        place = torch.empty(len(texts), dtype=torch.long)
        place[order] = torch.arange(len(texts))
        return torch.cat(rows)[place]


def _dense(source: str, folder: str) -> list[nn.Module]:
    """A linear layer and its activation, from a sentence-transformers folder."""
    config = _json(source, f"{folder}/config.json", DENSE) or {}
    name = config.get("activation_function", "torch.nn.modules.activation.Tanh").rsplit(".", 1)[-1]
    if name not in ACTIVATIONS:
        raise ValueError(f"{source}/{folder}: activation {name}; {', '.join(ACTIVATIONS)} are known")
    layer = nn.Linear(config["in_features"], config["out_features"], bias=config.get("bias", True))
    paths = [path for n in WEIGHTS if (path := _file(source, f"{folder}/{n}")) is not None]
    if not paths:
        raise FileNotFoundError(f"{source}/{folder} has none of {', '.join(WEIGHTS)}")
    weights = read_data(paths[0])
    layer.load_state_dict({key.removeprefix("linear."): value for key, value in weights.items()})
    return [layer, ACTIVATIONS[name]()]


def _only_mean(source: str, config: dict[str, Any]) -> None:
    """Raise ValueError for a pooling other than the mean over tokens."""
    used = [key for key, value in config.items() if key.startswith("pooling_mode_") and value]
    used += [config["pooling_mode"]] if isinstance(config.get("pooling_mode"), str) else []
    if used and used not in (["pooling_mode_mean_tokens"], ["mean"]):
        raise ValueError(f"{source} pools by {', '.join(used)}; the mean over tokens is needed here")


def _json(source: str, name: str, shape: Any) -> Any:
    path = _file(source, name)
    return None if path is None else read_json(path, shape, f"copy {source} again")


def _file(source: str, name: str) -> Path | None:
    """A file of a folder or hub id; None if it does not exist."""
    if Path(source).is_dir():
        path = Path(source) / name
        return path if path.is_file() else None
    from transformers.utils.hub import cached_file

    try:
        found = cached_file(source, name, _raise_exceptions_for_missing_entries=False)
    except OSError:
        return None
    return None if found is None else Path(str(found))


def source_stamp(source: str) -> str:
    """A stamp that changes when the files of a folder change; for a hub id, its name."""
    folder = Path(source)
    files = sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else []
    lines = [f"{p.relative_to(folder)} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in files]
    return hashlib.sha256("\n".join([source, *lines]).encode()).hexdigest()[:16]
