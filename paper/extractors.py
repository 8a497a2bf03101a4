"""Frame features and their probes: what Tables 1, 9 and 10 and Figures 2 and 3 are made of, defined once.

A kind of features is a trained run and its frame encoder's output. `probe` is the recogniser on such features, with
the recipe of the corpus's recogniser: its WER is the "SLR" column of Table 1, its answers give each gloss its accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence

from paper.jobs import Extract, Fit
from paper.settings import CORPORA

__all__ = ["KINDS", "aligner", "extractors", "probe", "runs_of_kinds", "translators"]

KINDS = {"smkd": "SMKD", "vlp": "VLP", "vlp-signcl": "VLP + SignCL", "gfslt": "GFSLT", "gfslt-signcl": "GFSLT + SignCL"}
"""What each kind is called in a table."""


def runs_of_kinds(corpus: str, changes: Sequence[str] = ()) -> dict[str, Fit]:
    """The run behind each kind of features: gloss-based SMKD, gloss-free VLP, the same with SignCL.

    The number signs have no pretraining; GFSLT from random weights stands for VLP there.
    """
    recipes = CORPORA[corpus].recipes
    gloss_free = ("vlp", "vlp-signcl") if "vlp" in recipes else ("gfslt", "gfslt-signcl")
    own = {kind: ("model.init_from=",) if kind.startswith("gfslt") else () for kind in ("smkd", *gloss_free)}
    return {kind: Fit(recipes[kind], (*start, *changes)) for kind, start in own.items()}


def extractors(corpus: str, changes: Sequence[str] = ()) -> dict[str, Extract]:
    """Frame features of all splits, by kind."""
    return {kind: Extract(run) for kind, run in runs_of_kinds(corpus, changes).items()}


def probe(corpus: str, features: Extract, changes: Sequence[str] = ()) -> Fit:
    """The recogniser on extracted features."""
    recipes = CORPORA[corpus].recipes
    recipe = recipes.get("features-recogniser", recipes["recogniser"])
    return Fit(recipe, ("model.visual=identity", *changes), features=features)


def aligner(corpus: str, changes: Sequence[str] = (), *, transductive: bool = True) -> Fit:
    """The recogniser on SMKD features that aligns glosses; trained on train and test merged, as the paper's was."""
    plain = probe(corpus, extractors(corpus, changes)["smkd"], changes)
    merged = ("corpus.transductive=true",) if transductive else ()
    return Fit(plain.recipe, (*plain.changes, *merged), features=plain.features)


def translators(corpus: str, features: Extract, changes: Sequence[str] = ()) -> dict[str, Fit]:
    """NSLT and Joint-SLT on extracted features, those that the corpus has recipes of."""
    recipes = CORPORA[corpus].recipes
    found = {}
    for name, part in (("NSLT", "nslt"), ("Joint-SLT", "joint-slt")):
        if recipe := recipes.get(f"features-{part}", recipes.get(part)):
            found[name] = Fit(recipe, ("model.visual=identity", *changes), features=features)
    return found
