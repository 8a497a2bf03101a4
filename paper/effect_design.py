"""The design of `paper.density_effect`: its arms, its blocks of runs and their questions.

Each block was fixed in `paper/preregistered.md` before its runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ALL_WORDS", "ARMS", "BLOCKS", "CHALLENGERS", "LONGER", "STARTS", "WORDS", "Arm", "Block", "Question"]

STARTS = {"random": "random weights", "signs": "an encoder of other signs"}
"""The starts, and how the page names them."""


@dataclass(frozen=True)
class Arm:
    """What a run trains with, from either start."""

    title: str
    """What the page says about it."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Weights of the loss terms besides translation."""
    signcl: Mapping[str, Any] = field(default_factory=dict)
    """`loss.signcl` values."""
    loss: Mapping[str, Any] = field(default_factory=dict)
    """Other values of the section `loss`, such as `word_signcl.stop_length`."""
    longer: float = 1.0
    """Training is this many times as long as in the core."""
    plain: str = "none"
    """The arm without a loss besides translation that its gain is measured against."""

    @property
    def has_margin(self) -> bool:
        """Whether a term reads the margins of `loss.signcl`."""
        return not self.weights.keys().isdisjoint(("signcl", "word_signcl"))

    def changes(self, margin: float) -> tuple[str, ...]:
        """The recipe overrides of its loss. `margin` is the mean distance between signs in the baseline."""
        terms = ", ".join(f"{name}: {weight}" for name, weight in {"translation": 1.0, **self.weights}.items())
        values = {"distance_margin": margin, **self.signcl} if self.has_margin else {}
        values = {f"signcl.{key}": value for key, value in values.items()} | dict(self.loss)
        return (f"loss.weights={{{terms}}}", *(f"loss.{key}={value}" for key, value in values.items()))


SIGNCL = {"signcl": 0.03}
ALL_WORDS, LONGER = ", all words", ", twice the steps"
"""Endings of the names of arms that repeat another arm with one change."""
ARMS = {
    "none": Arm("translation alone"),
    "pull": Arm("the pull of SignCL alone, weight .03", SIGNCL, {"part": "pull"}),
    "push": Arm("the push of SignCL alone, weight .03", SIGNCL, {"part": "push"}),
    "both": Arm("SignCL, weight .03; its margin is the mean distance between signs without SignCL", SIGNCL),
    "paper": Arm("SignCL with the paper's weight .01 and margin 64", {"signcl": 0.01}, {"distance_margin": 64.0}),
    "slow + SIGReg": Arm(
        "neighbouring frames together, and all features towards an isotropic Gaussian, instead of SignCL",
        {"slow": 0.3, "sigreg": 3.0},
    ),
    "slow + invariance + SIGReg": Arm(
        "the same, and two noisy views of a clip together", {"slow": 0.3, "invariance": 0.3, "sigreg": 3.0}
    ),
    "word-aware SignCL": Arm("SignCL, weight .03, which spares far frames of one word", {"word_signcl": 0.03}),
    "word contrast": Arm("frames of one word in different clips together, weight .1", {"word_contrast": 0.1}),
    f"word-aware SignCL{ALL_WORDS}": Arm(
        "the same as word-aware SignCL, and words of up to three letters are used too",
        {"word_signcl": 0.03},
        loss={"word_signcl.stop_length": 0},
    ),
    f"word contrast{ALL_WORDS}": Arm(
        "the same as word contrast, and words of up to three letters are used too",
        {"word_contrast": 0.1},
        loss={"word_contrast.stop_length": 0},
    ),
    f"none{LONGER}": Arm("the same as none, trained for twice the steps", longer=2, plain=f"none{LONGER}"),
    f"both{LONGER}": Arm("the same as both, trained for twice the steps", SIGNCL, longer=2, plain=f"none{LONGER}"),
    "both, margin 64": Arm("the same as both, with the paper's margin", SIGNCL, {"distance_margin": 64.0}),
    "both, weight .01": Arm("the same as both, with the paper's weight", {"signcl": 0.01}),
}
"""Every arm, in the order of the page. `slow + SIGReg` keeps the pull of SignCL and replaces its push."""


@dataclass(frozen=True)
class Question:
    """A primary contrast: `a − b`, or `(a − b) − (c − d)` for four arms."""

    arms: tuple[str, ...]
    text: str
    claim: str
    """What a supported contrast shows, for `paper/claims.md`."""


@dataclass(frozen=True)
class Block:
    """Runs that are planned, trained and analysed together."""

    title: str
    trained: tuple[str, ...]
    """The arms that this block trains."""
    questions: tuple[Question, ...]
    """Asked from each start; Holm corrects for all of them together."""
    secondary: tuple[tuple[str, str], ...]
    """Contrasts that are not corrected."""
    first_seed: int = 100
    starts: tuple[str, ...] = tuple(STARTS)
    losses: tuple[str, ...] = ()
    """The losses that the rule may call a winner; empty: the rule is not asked."""

    @property
    def compared(self) -> tuple[str, ...]:
        """Every arm of the analysis; those that are not trained here come from the block with the same seeds."""
        named = {arm for question in self.questions for arm in question.arms}
        named |= {arm for pair in self.secondary for arm in pair} | set(self.trained)
        return tuple(arm for arm in ARMS if arm in named)

    @property
    def runs(self) -> int:
        """Number of runs in the analysis: 8 seeds of each arm from each start."""
        return 8 * len(self.compared) * len(self.starts)


def _over_none_and_signcl(*losses: str) -> tuple[Question, ...]:
    return tuple(
        Question((loss, other), question.format(loss=shown), claim.format(loss=shown))
        for loss in losses
        for shown in (loss.replace(ALL_WORDS, " with all words"),)
        for other, question, claim in (
            ("none", "Does {loss} raise BLEU-4?", "{loss} raises BLEU-4"),
            ("both", "Is {loss} better than SignCL?", "{loss} raises BLEU-4 over SignCL"),
        )
    )


CHALLENGERS = ("slow + invariance + SIGReg", "word-aware SignCL", "word contrast")
WORDS = tuple(f"{loss}{ALL_WORDS}" for loss in CHALLENGERS[1:])
SETTINGS = ("both, margin 64", "both, weight .01")
RAISES = Question(("both", "none"), "Does SignCL raise BLEU-4?", "SignCL raises BLEU-4")
BLOCKS = {
    "core": Block(
        "The core",
        ("none", "pull", "push", "both", "paper", "slow + SIGReg"),
        (
            RAISES,
            Question(
                ("both", "pull"),
                "Does the push of SignCL add to its pull?",
                "SignCL raises BLEU-4 over its pull alone",
            ),
            *_over_none_and_signcl("slow + SIGReg"),
        ),
        (("pull", "none"), ("push", "none"), ("paper", "none")),
        first_seed=0,
        losses=("both", "slow + SIGReg"),
    ),
    "challengers": Block(
        "The challengers, with fresh seeds",
        ("none", "both", "slow + SIGReg", *CHALLENGERS),
        (
            *_over_none_and_signcl(*CHALLENGERS),
            Question(
                ("slow + invariance + SIGReg", "slow + SIGReg"),
                "Does invariance add to slow + SIGReg?",
                "slow + invariance + SIGReg raises BLEU-4 over slow + SIGReg",
            ),
        ),
        (("both", "none"), ("slow + SIGReg", "none")),
        losses=CHALLENGERS,
    ),
    "all-words": Block(
        "The word losses again, with short words",
        WORDS,
        _over_none_and_signcl(*WORDS),
        tuple((loss, loss.removesuffix(ALL_WORDS)) for loss in WORDS),
        losses=WORDS,
    ),
    "longer": Block(
        "Twice the steps: does SignCL only make learning faster?",
        (f"none{LONGER}", f"both{LONGER}"),
        (
            Question(
                (f"both{LONGER}", f"none{LONGER}"),
                "Does SignCL raise BLEU-4 with twice the steps?",
                "SignCL raises BLEU-4 with twice the steps",
            ),
            Question(
                (f"both{LONGER}", f"none{LONGER}", "both", "none"),
                "Is its gain larger with twice the steps?",
                "the gain of SignCL is larger with twice the steps",
            ),
        ),
        ((f"none{LONGER}", "none"), (f"both{LONGER}", "both"), (f"none{LONGER}", "both")),
        starts=("random",),
    ),
    "settings": Block(
        "Weight and margin: which of the paper's values makes the difference?",
        SETTINGS,
        (
            *(
                Question(
                    arms,
                    f"Is the measured margin better than 64, with weight {weight}?",
                    f"SignCL gains more BLEU-4 with the measured margin than with 64, at weight {weight}",
                )
                for arms, weight in ((("both", SETTINGS[0]), ".03"), ((SETTINGS[1], "paper"), ".01"))
            ),
            *(
                Question(
                    arms,
                    f"Is weight .03 better than .01, with {margin}?",
                    f"SignCL gains more BLEU-4 with weight .03 than with .01, at {margin}",
                )
                for arms, margin in (
                    (("both", SETTINGS[1]), "the measured margin"),
                    ((SETTINGS[0], "paper"), "margin 64"),
                )
            ),
        ),
        (("both", "none"), (SETTINGS[0], "none"), (SETTINGS[1], "none"), ("paper", "none")),
        first_seed=0,
        starts=("random",),
    ),
}
"""Name -> block; `python -m paper.density_effect --NAME` trains all but the core, which needs no option."""
