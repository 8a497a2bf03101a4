"""Compare forced alignment with flashlight-text: its lexicon decoder, given only a clip's glosses, must find our path.

The lexicon holds one word, the gloss sequence; the best hypothesis that contains this word once is the best path. The
decoder gives the last label of a word only one frame, so a closing label with its own frame is added after the clip.
flashlight-text is not a dependency: install it into a temporary environment that can import torch, e.g.

    python -m venv /tmp/oracle && /tmp/oracle/bin/pip install flashlight-text
    PYTHONPATH=.:.venv/lib/python3.11/site-packages /tmp/oracle/bin/python benchmarks/align_oracle.py
"""

from itertools import groupby

import numpy as np
import torch
from flashlight.lib.text.decoder import CriterionType, LexiconDecoder, LexiconDecoderOptions, SmearingMode, Trie, ZeroLM

from signcl.density.forced_align import forced_align

CLASSES, CLIPS, BEAM = 6, 200, 200_000


def theirs(log_probs: torch.Tensor, tokens: list[int]) -> tuple[list[int], float]:
    """Labels of the frames and the score of flashlight's best hypothesis."""
    frames = len(log_probs)
    closed = torch.full((frames + 1, CLASSES + 1), -60.0)
    closed[:frames, :CLASSES] = log_probs
    closed[frames, CLASSES] = 0.0
    trie = Trie(CLASSES + 1, 0)
    trie.insert([*tokens, CLASSES], 0, 0.0)
    trie.smear(SmearingMode.MAX)
    options = LexiconDecoderOptions(BEAM, CLASSES + 1, 1e9, 0.0, 0.0, -1e9, 0.0, False, CriterionType.CTC)
    decoder = LexiconDecoder(options, trie, ZeroLM(), 0, 0, -1, [], False)
    emissions = np.ascontiguousarray(closed.numpy())
    found = decoder.decode(emissions.ctypes.data, frames + 1, CLASSES + 1)
    legal = [(h.score, list(h.tokens)[1:-2]) for h in found if [word for word in h.words if word >= 0] == [0]]
    score, path = max((s, p) for s, p in legal if [token for token, _ in groupby(p) if token] == tokens)
    return path, score


def main() -> None:
    same, worst = 0, 0.0
    for seed in range(CLIPS):
        generator = torch.Generator().manual_seed(seed)
        count = 3 + seed % 4
        tokens = torch.randint(1, CLASSES, (count,), generator=generator).tolist()
        log_probs = (2 * torch.randn(3 * count + seed % 5, CLASSES, generator=generator)).log_softmax(-1)
        path = [0] * len(log_probs)
        for span in forced_align(log_probs, tokens):
            path[span.start : span.stop] = [int(span.token)] * (span.stop - span.start)
        their_path, their_score = theirs(log_probs, tokens)
        same += path == their_path
        worst = max(worst, abs(sum(float(log_probs[t, k]) for t, k in enumerate(path)) - their_score))
    print(f"{CLIPS} clips, the same path on {same}, largest difference of scores {worst:.2g}")


if __name__ == "__main__":
    main()
