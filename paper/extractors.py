"""Defines the frame features and probes used by Tables 1, 9 and 10 and Figures 2 and 3.

Most kinds of features are the output of a trained run's frame encoder. `SRP` and `I3D` are published files or a
published encoder, if the corpus has them. `probe` is the recogniser trained on features, with the corpus's recogniser
recipe: its WER is the "SLR" column of Table 1, and its answers give the accuracy of each gloss.

SRP: the paper's features come from a CNN-LSTM-HMM trained on glosses, whose code was never released. On PHOENIX-2014T
the released files are read. On the synthetic corpus they are replaced by `cnn_ctc`: a frame encoder that learns glosses
by CTC, without the tricks of SMKD (docs/systems/cnn_ctc.md). I3D: a classifier of isolated signs of another vocabulary:
WLASL on PHOENIX-2014T, another lexicon on the synthetic corpus (docs/systems/i3d.md).
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence

from paper.jobs import Extract, Files, Fit, Place, Result
from paper.measured import measured
from paper.settings import CORPORA, make_i3d

__all__ = [
    "KINDS",
    "add_kinds",
    "aligner",
    "at_tap",
    "borrowed",
    "chosen",
    "extractors",
    "look",
    "probe",
    "ready",
    "runs_of_kinds",
    "title",
    "translators",
    "windows",
]

KINDS = {
    "srp": "SRP",
    "smkd": "SMKD",
    "smkd-signcl": "SMKD + SignCL",
    "i3d": "I3D",
    "vlp": "VLP",
    "vlp-signcl": "VLP + SignCL",
    "gfslt": "GFSLT",
    "gfslt-signcl": "GFSLT + SignCL",
}
"""Name of each kind in the tables."""
STAND_IN = {"synthetic": "SRP (cnn_ctc)"}
"""Name of SRP in the tables of a corpus that has no released features and uses another network instead."""


def runs_of_kinds(corpus: str, changes: Sequence[str] = ()) -> dict[str, Fit]:
    """The run that gives each kind of features: gloss-based SMKD, gloss-free VLP, and VLP with SignCL.

    The number signs have no pretraining, so GFSLT from random weights replaces VLP there.
    """
    recipes = CORPORA[corpus].recipes
    gloss_free = ("vlp", "vlp-signcl") if "vlp" in recipes else ("gfslt", "gfslt-signcl")
    own = {kind: ("model.init_from=",) if kind.startswith("gfslt") else () for kind in ("smkd", *gloss_free)}
    return {kind: Fit(recipes[kind], (*start, *changes)) for kind, start in own.items()}


def extractors(corpus: str, changes: Sequence[str] = ()) -> dict[str, Extract]:
    """The extraction of frame features of all splits, by kind."""
    return {kind: Extract(run) for kind, run in runs_of_kinds(corpus, changes).items()}


def borrowed(corpus: str, place: Place | None, changes: Sequence[str] = ()) -> dict[str, Extract | Files]:
    """SRP and I3D features, as far as the corpus has them."""
    setting, found = CORPORA[corpus], dict[str, Extract | Files]()
    if "srp" in setting.published:
        found["srp"] = Files(setting.published["srp"])
    elif "srp" in setting.extra:
        found["srp"] = Extract(Fit(setting.extra["srp"], tuple(changes)))
    if "i3d" in setting.extra:
        found["i3d"] = windows(setting.extra["i3d"], place, changes)
    return found


def windows(recipe: str, place: Place | None, changes: Sequence[str] = ()) -> Extract:
    """Features of an I3D without further training: the weights of its recipe, or the run that replaces them."""
    own = (f"model.visual_weights=pretrained:{place.i3d}", "model.visual=i3d") if place and place.i3d else ()
    return Extract(Fit(recipe, (*own, *changes)), trained=False)


def title(kind: str, corpus: str) -> str:
    """Name of a kind in the tables of a corpus."""
    return STAND_IN.get(corpus, KINDS[kind]) if kind == "srp" else KINDS[kind]


def look(corpus: str, features: Extract | Files, changes: Sequence[str] = ()) -> tuple[Fit, str]:
    """The run and tap at which the density of features is measured: their own run, or else the input of their probe."""
    if isinstance(features, Extract) and features.trained:
        return features.run, features.tap
    return probe(corpus, features, changes), "visual"


def at_tap(found: Sequence[Result], tap: str, place: Place) -> list[Result]:
    """Adds the density at a tap to results; those at the tap `features` already have it."""
    return list(found) if tap == "features" else [_measured(result, tap, place) for result in found]


def _measured(result: Result, tap: str, place: Place) -> Result:
    found = measured("sdr", result, place, lambda: _ratio(result, tap, place), tap=tap, spans=place.spans)
    return dataclasses.replace(result, density=None if found is None else {"sdr": found})


def _ratio(result: Result, tap: str, place: Place) -> float | None:
    """SDR of the test signs at a tap, percent; None if the corpus has no spans."""
    from signcl.data.annotation.span_table import attach_spans
    from signcl.density import sign_density_ratio
    from signcl.inference.run_density import sign_instances
    from signcl.training.recipe import recipe_samples
    from signcl.training.runs import load_run

    run = load_run(result.folder)
    samples = recipe_samples(run.recipe, "test")
    if place.spans is not None:
        samples = attach_spans(samples, place.spans.replace("{split}", "test"))
    samples = [sample for sample in samples if sample.spans]
    if not samples:
        return None
    signs = sign_instances(run, samples, ["centre"], tap=tap, device=place.device, progress=False)[0]
    return 100 * sign_density_ratio(signs.features, signs.numbers()[1]).mean


def ready(kinds: Mapping[str, Extract | Files], options: argparse.Namespace, place: Place) -> None:
    """Trains the I3D if it is missing, and checks that published files are present.

    Raises:
        ValueError: missing files.
    """
    if place.reading:
        return
    for kind, features in kinds.items():
        if isinstance(features, Files) and (files := features.missing(place.root)):
            others = " ".join(other for other in kinds if other != kind)
            raise ValueError(
                f"{KINDS[kind]} features of {options.corpus} are the files {features.pattern} in {place.root}, but "
                f"{files[0].name} is missing; get it as docs/systems/cnn_ctc.md describes, or omit these features with "
                f"--extractors {others}"
            )
    if "i3d" in kinds:
        make_i3d(options, place)


def add_kinds(parser: argparse.ArgumentParser) -> None:
    """Adds the option that selects extractors."""
    kinds = [kind for kind in KINDS if not kind.startswith("gfslt")]
    parser.add_argument("--extractors", nargs="+", choices=kinds, metavar="NAME",
                        help=f"make only these rows, in a separate table: {', '.join(kinds)}")  # fmt: skip


def chosen(kinds: Mapping[str, Extract | Files], options: argparse.Namespace) -> dict[str, Extract | Files]:
    """The kinds selected by the options; all if none are named.

    Raises:
        ValueError: a kind that the corpus does not have.
    """
    names = getattr(options, "extractors", None) or list(kinds)
    if unknown := [name for name in names if name not in kinds]:
        raise ValueError(f"--extractors: {options.corpus} has {', '.join(kinds)}, got {', '.join(unknown)}")
    return {name: features for name, features in kinds.items() if name in names}


def probe(corpus: str, features: Extract | Files, changes: Sequence[str] = ()) -> Fit:
    """The recogniser on extracted features."""
    recipes = CORPORA[corpus].recipes
    recipe = recipes.get("features-recogniser", recipes["recogniser"])
    return Fit(recipe, ("model.visual=identity", *changes), features=features)


def aligner(corpus: str, changes: Sequence[str] = (), *, transductive: bool = True) -> Fit:
    """The recogniser on SMKD features that aligns glosses; trained on train and test merged, as in the paper."""
    plain = probe(corpus, extractors(corpus, changes)["smkd"], changes)
    merged = ("corpus.transductive=true",) if transductive else ()
    return Fit(plain.recipe, (*plain.changes, *merged), features=plain.features)


def translators(corpus: str, features: Extract, changes: Sequence[str] = ()) -> dict[str, Fit]:
    """NSLT and Joint-SLT on extracted features, if the corpus has recipes for them."""
    recipes = CORPORA[corpus].recipes
    found = {}
    for name, part in (("NSLT", "nslt"), ("Joint-SLT", "joint-slt")):
        if recipe := recipes.get(f"features-{part}", recipes.get(part)):
            found[name] = Fit(recipe, ("model.visual=identity", *changes), features=features)
    return found
