"""What SignCL does to a sign that occurs twice in a clip, with and without `same_sign`.

    python benchmarks/repeats.py

Each clip signs A, B, A, with 12 frames per sign and 16 numbers per frame: the position of its sign plus noise. Gradient
descent on `signcl_loss` moves the features themselves (no encoder), so only the loss matters. Prints a Markdown table:
mean distances between the two A's and between A and B, relative to those before; mean and range over 3 seeds.
"""

from __future__ import annotations

import torch
from torch import Tensor

from signcl.losses import signcl_loss

FRAMES, SIZE, CLIPS = 12, 16, 8
SETTINGS = {"off": None, "0.5": 0.5, "0.6": 0.6, "0.75": 0.75, "0.9": 0.9}


def repeated_signs(seed: int) -> Tensor:
    """Clips A B A. [CLIPS, 3 * FRAMES, SIZE]"""
    generator = torch.Generator().manual_seed(seed)
    places = torch.randn(CLIPS, 2, 1, SIZE, generator=generator) * 0.5
    signs = places[:, [0, 1, 0]].expand(-1, -1, FRAMES, -1)
    return (signs + 0.2 * torch.randn(CLIPS, 3, FRAMES, SIZE, generator=generator)).flatten(1, 2)


def apart(x: Tensor) -> tuple[float, float]:
    """Mean distance between frames of the two A's, and between A and B."""
    signs = x.detach().unflatten(1, (3, FRAMES))
    return float(torch.cdist(signs[:, 0], signs[:, 2]).mean()), float(torch.cdist(signs[:, 0], signs[:, 1]).mean())


def moved(x: Tensor, same_sign: float | None, steps: int = 60, rate: float = 10.0) -> tuple[float, float]:
    """Both distances after `steps` of gradient descent, divided by those before."""
    before, lengths = apart(x), torch.full((len(x),), x.shape[1])
    for _ in range(steps):
        x = x.detach().requires_grad_()
        loss = signcl_loss(x, lengths, FRAMES / 4, distance_margin=8.0, same_sign=same_sign)
        (gradient,) = torch.autograd.grad(loss, x)
        x = x - rate * gradient
    after = apart(x)
    return after[0] / before[0], after[1] / before[1]


def main() -> None:
    """Print the table."""
    print("| `same_sign` | A to the other A | A to B |\n|---|---|---|")
    for name, value in SETTINGS.items():
        rows = torch.tensor([moved(repeated_signs(seed), value) for seed in range(3)])
        cells = [f"x {c.mean():.2f} ({c.min():.2f} to {c.max():.2f})" for c in rows.unbind(dim=1)]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
