"""Runs an export of `signcl export` without signcl, with numpy and onnxruntime (or torch for .pt2 programs).

python exported_run.py EXPORT CLIP.npy [CLIP.npy ...], where clips are uint8 RGB [T, H, W, 3] or float features [T, D].
It uses greedy search. Every export contains a copy of this file.
"""

import json
import sys
from pathlib import Path

import numpy as np


def open_onnx(file, dtype, providers=None):
    """Open an ONNX program with onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if dtype == "float16":
        # the last level crashes on float16, in its NchwcTransformer: github.com/microsoft/onnxruntime/issues/28392
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    return onnxruntime.InferenceSession(str(file), options, providers=providers)


def load(folder, name):
    """Load a program of the export as a function of arrays."""
    if (folder / f"{name}.onnx").is_file():
        spec = json.loads((folder / "export.json").read_text(encoding="utf-8"))
        session = open_onnx(folder / f"{name}.onnx", spec["dtype"])
        names = [given.name for given in session.get_inputs()]
        return lambda *arrays: session.run(None, dict(zip(names, arrays)))
    import torch

    module = torch.export.load(folder / f"{name}.pt2").module(check_guards=False)
    return lambda *arrays: [found.detach().numpy() for found in module(*map(torch.from_numpy, arrays))]


def chosen(clip, given):
    """Select the frames and pixels of a clip as for the run's dev split."""
    rows = np.arange(min(given["first"], len(clip) - 1), len(clip), given["stride"])
    most = given["max_frames"] or len(rows)
    if len(rows) > most and given["thinning"] == "window":
        rows = rows[(len(rows) - most) // 2 :][:most]
    elif len(rows) > most:
        rows = rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]
    clip = clip[rows]
    if given["kind"] == "frames":
        height, width = given["height"], given["width"]
        top, left = (clip.shape[1] - height) // 2, (clip.shape[2] - width) // 2
        if top < 0 or left < 0 or (given["size"] and clip.shape[1:3] != (given["size"],) * 2):
            sys.exit(f"frames of {given['size'] or (height, width)} pixels are needed, got {clip.shape[1:3]}")
        clip = clip[:, top : top + height, left : left + width]
    if "window" in given:  # for I3D; repeats the last frame of a clip shorter than one window
        starts = np.arange(0, max(len(clip) - given["window"], 0) + 1, given["window_stride"])
        clip = clip[np.minimum(starts[:, None] + np.arange(given["window"]), len(clip) - 1)]
    return clip


def answers(folder, clips):
    """The answer for each clip: a sentence, glosses or one gloss."""
    spec = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    rows = [chosen(clip, spec["input"]) for clip in clips]
    if "visual" in spec["programs"]:
        visual = load(folder, "visual")
        rows = [visual(np.ascontiguousarray(row))[0] for row in rows]
    lengths = np.array([len(row) for row in rows])
    padded = np.zeros((len(rows), lengths.max(), rows[0].shape[1]), np.float32)
    for place, row in zip(padded, rows):
        place[: len(row)] = row
    states = dict(zip(spec["programs"]["encoder"]["outputs"], load(folder, "encoder")(padded, lengths)))
    if spec["answers"] == "nothing":  # of a segmenter: one letter per frame, O, B or I
        letters = np.array(list("OBI"))
        tags = {name: letters[states[name].argmax(axis=2)] for name in ("signs", "sentences")}
        return ["\t".join(f"{k} {''.join(v[i][:n])}" for k, v in tags.items()) for i, n in enumerate(lengths)]
    if spec["answers"] == "classes":
        return [spec["classes"][best] for best in states["log_probs"].argmax(axis=1)]
    if spec["answers"] == "glosses":  # best class per step, without repetitions and blanks (0)
        found = [row[:n].argmax(axis=1) for row, n in zip(states["log_probs"], states["step_lengths"])]
        return [" ".join(spec["classes"][c] for c, b in zip(r, [0, *r]) if c and c != b) for r in found]
    decoder, text = load(folder, "decoder"), spec["text"]
    read = [states[name] for name in spec["programs"]["decoder"]["inputs"] if name != "tokens"]
    tokens, ended = np.full((len(rows), 1), text["start_id"]), np.zeros(len(rows), bool)
    while tokens.shape[1] <= text["max_new_tokens"] and not ended.all():
        (log_probs,) = decoder(tokens, *read)
        best = log_probs.argmax(axis=1)
        if text["first_id"] is not None and tokens.shape[1] == 1:  # every sentence begins with its language
            best = np.full_like(best, text["first_id"])
        word = np.where(ended, text["pad_id"], best)
        tokens, ended = np.concatenate([tokens, word[:, None]], axis=1), ended | np.isin(word, text["end_ids"])
    return [sentence(row[1:].tolist(), text, folder) for row in tokens]


def sentence(ids, text, folder):
    """Decode token ids up to the first end token after a word."""
    kept = []
    for i in ids:
        if i == text["end_id"] and kept:
            break
        if i < len(text["pieces"]) and text["pieces"][i]:
            kept.append(i)
    if text["tokenizer"]:
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(folder / text["tokenizer"])).decode(kept, skip_special_tokens=True).strip()
    return text["between"].join(text["pieces"][i] for i in kept).strip()


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(f"usage: python {sys.argv[0]} EXPORT CLIP.npy ...")
    for line in answers(Path(sys.argv[1]), [np.load(path) for path in sys.argv[2:]]):
        print(line)
