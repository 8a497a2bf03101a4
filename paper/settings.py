"""Training settings of each corpus, and the options shared by the scripts. Fixed before any result was seen.

The synthetic corpus has 720 clips of 48 pixels (480 to train, 60 dev, 180 test). Half of its signs have a minimal-pair
twin, which makes density a real difficulty. Where the paper starts from ImageNet, every arm here starts from the same
frame encoder, trained on the signs of another lexicon by other signers (`OTHER_SIGNS`). Sizes and training lengths are
those of the shipped CPU recipes, except those that `Preset` sets for sweeps, surface and number signs, so that all runs
fit into 3 hours on 2 cores. `--preset gpu` uses larger clips and a ResNet. `COSTS` are measured seconds, from which
`python -m paper` computes its plan.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import math
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from paper.jobs import Extract, Fit, Place, folder_of, recipe_of, run_all
from paper.measured import key_of, measured_of_corpus
from paper.store import Missing
from paper.version import code_version, part_version
from signcl.cli.number_options import whole
from signcl.inference.clips import pick_device

__all__ = [
    "CORPORA",
    "JOBS",
    "PRESETS",
    "SEEDS",
    "Preset",
    "Setting",
    "Sweep",
    "add_arguments",
    "core_seconds",
    "describe",
    "encoder_job",
    "has_corpus",
    "i3d_job",
    "make_i3d",
    "place_of",
]


@dataclass(frozen=True)
class Setting:
    """The recipes for each role on a corpus."""

    title: str
    root: str
    recipes: dict[str, str]
    """Role -> shipped recipe: vlp, gfslt, nslt, joint-slt, recogniser, smkd; features-...: on extracted features."""
    gfslt_weight: float
    """Weight of SignCL in pretraining and finetuning."""
    licensed: bool = False
    clips: int = 0
    """Number of training clips, for plans."""
    published: dict[str, str] = field(default_factory=dict)
    """Kind of features -> published files in the corpus folder, with `{split}`."""
    extra: dict[str, str] = field(default_factory=dict)
    """Role -> recipe of optional rows (`--extractors`, `--systems`): srp, nslt2018, gaslt, pgp, sign2gpt. Also i3d (for
    the I3D row) and windows (for GASLT), whose frame encoder is used with published weights, without training."""


@dataclass(frozen=True)
class Sweep:
    """The runs of Tables 6 and 7 and Figure 7."""

    system: str
    """gfslt, started from VLP if the corpus has it; or features-nslt, on features of VLP."""
    length: tuple[str, ...] = ()
    """Recipe overrides that shorten training."""


SPLITS = {"dev_share": 1 / 12, "test_share": 1 / 4}
OTHER_SIGNS = {"clips": 800, "signs": 96, "signers": 8, "unseen_signers": 0, "seed": 1000}
"""A corpus with another lexicon and other signers, so no sign of the main corpus is learned from it."""


@dataclass(frozen=True)
class Preset:
    """Size of the runs on the synthetic corpus, and length of the runs of sweeps."""

    title: str
    corpus: dict[str, Any]
    """Settings of the synthetic corpus."""
    clips: tuple[str, ...] = ()
    """Recipe overrides of every run on its clips."""
    sweep: dict[str, Sweep] = field(default_factory=dict)
    """By corpus; default: GFSLT at the recipe's length."""
    surface_steps: int = 160
    """Optimizer steps of each run of the surface, for any share of the clips."""
    imu_steps: int = 240
    """Optimizer steps of each run on the number signs, for any share of the sequences."""
    encoder: dict[str, Any] | None = field(default_factory=lambda: dict(OTHER_SIGNS))
    """Settings of the corpus that the frame encoder is trained on; None: random initial weights."""
    device: str = "cpu"


SHORT = {"synthetic": Sweep("features-nslt"), "imu_numbers": Sweep("gfslt", ("train.max_steps=240",))}
PUBLISHED = dict.fromkeys(("phoenix14t", "csl_daily"), Sweep("gfslt", ("train.epochs=80",)))  # paper section A.2.1
LARGE = ("model.visual=resnet18", "model.chunk=256", "train.precision=bf16-mixed", "train.workers=4", "train.lr=0.0003")
PRESETS = {
    "cpu": Preset("48 px, small CNN, 720 clips", {"clips": 720, "size": 48, **SPLITS}, (), SHORT | PUBLISHED),
    "gpu": Preset(
        "112 px, ResNet-18, 3000 clips",
        {"clips": 3000, "size": 112, "signs": 96},
        ("input.size=112", *LARGE),
        PUBLISHED,
        surface_steps=3000,
        imu_steps=1200,
        encoder=OTHER_SIGNS | {"clips": 3000},
        device="cuda",
    ),
    "gpu-large": Preset(
        "224 px, ResNet-18, 10000 clips",
        {"clips": 10000, "size": 224, "signs": 120},
        ("input.size=224", "input.cache_gb=0", *LARGE),
        PUBLISHED,
        surface_steps=8000,
        imu_steps=1200,
        encoder=OTHER_SIGNS | {"clips": 3000},
        device="cuda",
    ),
}
"""Fixed before any result was seen. Only `cpu` has been run; the others are for one GPU with at least 24 GB."""


COSTS = {
    "pretrain": 0.60,
    "pretrain-signcl": 0.70,
    "vlp-token": 0.57,
    "finetune": 0.25,
    "finetune-signcl": 0.27,
    "isolated": 0.28,
    "smkd": 0.23,
    "cnn_ctc": 0.25,
    "isolated-i3d": 1.4,
    "nslt2018": 0.25,
    "gaslt": 0.25,
    "pgp": 0.30,
    "sign2gpt": 0.30,
    "nslt": 0.25,
    "spamo": 0.30,
    "spamo-warmup": 0.50,
    "uni-sign": 0.30,
    "recogniser": 0.25,
    "joint-slt": 0.30,
    "features-recogniser": 0.03,
    "features-nslt": 0.045,
    "features-nslt-signcl": 0.045,
    "features-joint-slt": 0.045,
    "imu_numbers": 0.16,
    "imu_numbers/finetune": 0.095,
    "imu_numbers/finetune-signcl": 0.095,
    "imu_numbers/uni-sign": 0.33,
}
"""Seconds per optimizer step at the CPU sizes, by recipe of the synthetic corpus and for all recipes on the number
signs. Measured with one thread per run and two parallel runs on 2 otherwise idle cores (November 2026). `isolated-i3d`,
like `isolated`, counts steps of full clips, which contain several signs each. Values of nslt2018, gaslt, pgp,
sign2gpt, nslt, spamo and uni-sign on the synthetic corpus are guesses.
"""
OVERHEAD = 8.0
"""Seconds of a run besides its steps: start, scoring dev and test, density."""
EXTRACTING = 10.0
"""Seconds to extract all splits."""


def core_seconds(job: Fit | Extract, place: Place) -> float | None:
    """Estimated seconds of a run on a CPU; None if no similar run has been measured."""
    if isinstance(job, Extract):
        return EXTRACTING
    corpus, _, name = job.recipe.partition("/")
    name = name.removesuffix(".yaml")
    cost = COSTS.get(f"{corpus}/{name}", COSTS.get(corpus if corpus == "imu_numbers" else name))
    if place.device != "cpu" or place.clips or cost is None or corpus not in ("synthetic", "imu_numbers"):
        return None
    if job.features is not None and not name.startswith("features-"):
        cost = COSTS["features-joint-slt"]
    recipe = recipe_of(job, place)
    clips = max(1, round(recipe.corpus.fraction * CORPORA[corpus].clips))
    steps = math.ceil(clips / recipe.train.batch_size) * recipe.train.epochs
    return OVERHEAD + cost * min(steps, recipe.train.max_steps or steps)


BASELINES = ("nslt2018", "gaslt", "pgp", "sign2gpt")
"""Recipes of the systems that Tables 2 and 3 quote, except GFSLT, which is an arm of Table 8."""
CORPORA = {
    "synthetic": Setting(
        "synthetic corpus",
        "runs/paper/synthetic/corpus",
        {
            "vlp": "synthetic/pretrain.yaml",
            "vlp-signcl": "synthetic/pretrain-signcl.yaml",
            "gfslt": "synthetic/finetune.yaml",
            "gfslt-signcl": "synthetic/finetune-signcl.yaml",
            "joint-slt": "synthetic/joint-slt.yaml",
            "recogniser": "synthetic/recogniser.yaml",
            "smkd": "synthetic/smkd.yaml",
            "features-recogniser": "synthetic/features-recogniser.yaml",
            "features-joint-slt": "synthetic/features-joint-slt.yaml",
            "features-nslt": "synthetic/features-nslt.yaml",
            "features-nslt-signcl": "synthetic/features-nslt-signcl.yaml",
        },
        0.01,
        clips=480,
        extra={
            "srp": "synthetic/cnn_ctc.yaml",
            "i3d": "synthetic/i3d-features.yaml",
            **{part: f"synthetic/{part}.yaml" for part in BASELINES},
        },
    ),
    "imu_numbers": Setting(
        "Persian number signs (sensor glove)",
        "../shared/data/imu-number-signs",
        {
            "gfslt": "imu_numbers/finetune.yaml",
            "gfslt-signcl": "imu_numbers/finetune-signcl.yaml",
            "nslt": "imu_numbers/nslt.yaml",
            "joint-slt": "imu_numbers/joint-slt.yaml",
            "recogniser": "imu_numbers/recogniser.yaml",
            "smkd": "imu_numbers/smkd.yaml",
            "nslt-signcl": "imu_numbers/nslt-signcl.yaml",
        },
        0.01,
        clips=560,
    ),
    "phoenix14t": Setting(
        "PHOENIX-2014T",
        "data/phoenix14t",
        {
            "vlp": "phoenix14t/vlp.yaml",
            "vlp-signcl": "phoenix14t/vlp-signcl.yaml",
            "gfslt": "phoenix14t/gfslt.yaml",
            "gfslt-signcl": "phoenix14t/gfslt-vlp-signcl-finetune.yaml",
            "nslt": "phoenix14t/nslt.yaml",
            "nslt-signcl": "phoenix14t/nslt-signcl.yaml",
            "joint-slt": "phoenix14t/joint-slt.yaml",
            "recogniser": "phoenix14t/recogniser.yaml",
            "smkd": "phoenix14t/smkd.yaml",
            "features-recogniser": "phoenix14t/recogniser.yaml",
            "features-joint-slt": "phoenix14t/joint-slt.yaml",
            "features-nslt": "phoenix14t/nslt.yaml",
            "features-nslt-signcl": "phoenix14t/nslt-signcl.yaml",
        },
        0.01,
        licensed=True,
        clips=7096,
        published={"srp": "phoenix14t.pami0.{split}"},
        extra={
            "i3d": "phoenix14t/i3d-features.yaml",
            "windows": "phoenix14t/i3d-features.yaml",
            **{part: f"phoenix14t/{part}.yaml" for part in BASELINES},
        },
    ),
    "csl_daily": Setting(
        "CSL-Daily",
        "data/csl_daily",
        {
            "vlp": "csl_daily/vlp.yaml",
            "vlp-signcl": "csl_daily/vlp-signcl.yaml",
            "gfslt": "csl_daily/gfslt.yaml",
            "gfslt-signcl": "csl_daily/gfslt-vlp-signcl-finetune.yaml",
            "nslt": "csl_daily/nslt.yaml",
            "nslt-signcl": "csl_daily/nslt-signcl.yaml",
            "joint-slt": "csl_daily/joint-slt.yaml",
            "recogniser": "csl_daily/recogniser.yaml",
            "smkd": "csl_daily/smkd.yaml",
            "features-recogniser": "csl_daily/recogniser.yaml",
            "features-joint-slt": "csl_daily/joint-slt.yaml",
            "features-nslt": "csl_daily/nslt.yaml",
            "features-nslt-signcl": "csl_daily/nslt-signcl.yaml",
        },
        0.01,
        licensed=True,
        clips=18401,
        extra={
            "windows": "csl_daily/i3d-features.yaml",
            **{part: f"csl_daily/{part}.yaml" for part in BASELINES},
        },
    ),
}


SEEDS, JOBS = whole(low=1, high=1000), whole(low=1, high=256)
"""The types of `--seeds` and `--jobs`."""


def add_arguments(parser: argparse.ArgumentParser, corpora: tuple[str, ...] = tuple(CORPORA), seeds: int = 3) -> None:
    """Adds the options shared by all scripts."""
    parser.add_argument("--corpus", choices=corpora, default=corpora[0])
    parser.add_argument("--root", help="the corpus folder, if it is not the default one")
    parser.add_argument("--seeds", type=SEEDS, default=seeds)
    parser.add_argument("--jobs", type=JOBS, help="parallel runs, one thread each; default: 2 on a CPU, 1 on a GPU")
    parser.add_argument("--preset", choices=tuple(PRESETS), default="cpu", help="size of runs on the synthetic corpus")
    parser.add_argument("--device", help="default: the device of the preset")
    parser.add_argument("--spans", help="table of spans for density, instead of the corpus's; {split} is replaced")
    parser.add_argument("--out", type=Path, default=Path("runs/paper"), help="folder for runs")
    parser.add_argument("--results", type=Path, default=Path("paper/results"), help="folder for tables")
    parser.add_argument("--changes", nargs="*", default=[], metavar="KEY=VALUE", help="recipe overrides for every run")
    parser.add_argument("--from-results", action="store_true", help="train nothing; use the numbers in --results")
    add_only_missing(parser)


def add_only_missing(parser: argparse.ArgumentParser) -> None:
    """Adds the option that continues on another machine from committed numbers."""
    about = "do not repeat runs whose numbers are in --results, made by the same recipe, corpus and code"
    parser.add_argument("--only-missing", action="store_true", help=about)


def for_steps(steps: int) -> tuple[str, ...]:
    """Recipe overrides of a run of this many steps, which is scored after the last one only."""
    return f"train.max_steps={steps}", "train.epochs=1000", "train.evaluate_every=1000"


def jobs_at_a_time(jobs: int | None, device: str) -> int:
    """Number of parallel runs: `jobs` if given, else up to 2 on a CPU and 1 on a GPU."""
    return jobs or (min(2, os.cpu_count() or 1) if device == "cpu" else 1)


def usable_device(preset: str, device: str) -> str:
    """The device, if this machine has it; checked before a corpus is drawn, which takes long.

    Raises:
        ValueError: this machine does not have the device.
    """
    try:
        pick_device(device)
    except ValueError as error:
        raise ValueError(f"--preset {preset} needs --device={device}: {error}, or another --preset") from None
    return device


def has_corpus(corpus: str, root: str | None = None) -> bool:
    """Whether the corpus is available; the synthetic one can always be generated."""
    return (corpus == "synthetic" and root is None) or Path(root or CORPORA[corpus].root).is_dir()


def place_of(options: argparse.Namespace, *, make: bool = True, **other: Any) -> Place:
    """The place of runs on a corpus. Generates the synthetic corpus if it is missing.

    Args:
        make: false: generate and train nothing; a corpus that does not exist yet then has no content hash.
        other: settings that replace the preset's for the synthetic corpus; they give another corpus in another folder.
    """
    setting, preset = CORPORA[options.corpus], PRESETS[options.preset]
    synthetic = options.corpus == "synthetic"
    name = options.corpus if not synthetic or options.preset == "cpu" else f"synthetic-{options.preset}"
    other = {key: value for key, value in other.items() if value != default_of(options, key)}
    out = options.out / "-".join([name, *(f"{key}-{value:g}" for key, value in other.items())])
    root = Path(options.root or (out / "corpus" if synthetic else setting.root))
    device, clips = options.device or preset.device, preset.clips if synthetic else ()
    jobs = jobs_at_a_time(options.jobs, device)
    store = getattr(options, "store", None)  # set by scripts that write a table
    reading = store is not None and store.reading
    make = make and not reading
    if make:
        usable_device(options.preset, device)
    encoder = i3d = None
    if synthetic and preset.encoder:
        encoder, i3d = (out / "encoder", out / "i3d") if reading else _starts(options, make=make)
    place = Place(out, root, "", device, jobs, clips, encoder, options.spans, i3d, out.name, store=store)
    if encoder is not None:
        place = replace(place, encoder_key=key_of(*encoder_job(options, make=False)), i3d_key=key_of(*i3d_job(options)))
    if reading:
        with contextlib.suppress(Missing):  # missing runs are reported when they are requested
            place = replace(place, corpus_id=measured_of_corpus("content", place, str))
        return place
    if not make and not root.is_dir():
        return place
    if make and synthetic and options.root is None:
        make_synthetic(root, **(preset.corpus | other))
    if not root.is_dir():
        raise SystemExit(f"{options.corpus} is needed at {root}, but there is no such folder; name it with --root")
    if setting.licensed and options.device is None and device == "cpu":
        raise SystemExit(f"{options.corpus} on a CPU would take months; give --device cuda, or --device cpu to insist")
    place = replace(place, corpus_id=corpus_id(root, options.corpus if setting.licensed else ""))
    measured_of_corpus("content", place, lambda: place.corpus_id)
    return place


def _starts(options: argparse.Namespace, *, make: bool) -> tuple[Path, Path]:
    """The folders of the runs of the frame encoder and the I3D that other runs start from."""
    return encoder_run(options, make=make), folder_of(*i3d_job(options))


def encoder_job(options: argparse.Namespace, *, make: bool = True) -> tuple[Fit, Place]:
    """The training run of the frame encoder that every run on synthetic clips starts from, and its place."""
    preset = PRESETS[options.preset]
    out = options.out / ("encoder" if options.preset == "cpu" else f"encoder-{options.preset}")
    if make:
        make_synthetic(out / "corpus", **(preset.encoder or {}), size=preset.corpus["size"])
    content = corpus_id(out / "corpus") if (out / "corpus").is_dir() else ""
    device = options.device or preset.device
    jobs = jobs_at_a_time(options.jobs, device)
    place = Place(out, out / "corpus", content, device, jobs, preset.clips)
    return Fit("synthetic/isolated.yaml"), place


def encoder_run(options: argparse.Namespace, *, make: bool = True) -> Path:
    """The folder of the frame encoder's run; trains it if it is missing."""
    job, place = encoder_job(options, make=make)
    if make:
        run_all([job], place)
    return folder_of(job, place)


def i3d_job(options: argparse.Namespace) -> tuple[Fit, Place]:
    """The training run of the I3D that gives the I3D features, and its place: isolated signs of the other lexicon.

    It has a single seed, as in the paper, whose I3D was trained once on other signers (WLASL) and not adapted to
    PHOENIX-2014T.
    """
    _, place = encoder_job(options, make=False)
    size = PRESETS[options.preset].corpus["size"]
    return Fit("synthetic/isolated-i3d.yaml", (f"input.size={size}",)), replace(place, clips=())


def make_i3d(options: argparse.Namespace, place: Place) -> None:
    """Trains the I3D if `place` uses it and it is missing."""
    if place.i3d is not None and not place.reading:
        job, where = i3d_job(options)
        run_all([job], where)


def default_of(options: argparse.Namespace, knob: str) -> Any:
    """The preset's value of a setting of the synthetic corpus."""
    from signcl.data.corpora.synthetic import SyntheticSettings

    return PRESETS[options.preset].corpus.get(knob, getattr(SyntheticSettings(), knob))


def make_synthetic(root: Path, *, poses: bool = False, **settings: Any) -> None:
    """Generates a synthetic corpus, and its key points if `poses`, unless it exists; equal settings give equal clips on
    every machine."""
    from signcl.data.corpora.synthetic import SyntheticSettings, make_corpus

    make_corpus(root, SyntheticSettings(**settings), poses=poses)


def corpus_id(root: Path, licensed: str = "") -> str:
    """Hash of a corpus's tables and settings files, which determine its clips.

    Args:
        licensed: name of a licensed corpus; the hash then covers the sentences, glosses and clip lengths that its
            reader gives.
    """
    digest = hashlib.sha1()
    if licensed:
        from signcl.data.loading import load_samples

        for split in ("train", "dev", "test"):
            for sample in load_samples(licensed, root, split):
                digest.update(repr((split, sample.name, sample.text, sample.gloss, sample.num_frames)).encode())
        return digest.hexdigest()[:10]
    for path in sorted(p for p in root.iterdir() if p.suffix in (".tsv", ".csv", ".json", ".txt") and p.is_file()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:10]


def describe(options: argparse.Namespace, place: Place, **more: Any) -> dict[str, Any]:
    """How a table was made. `code` is the code version of its runs, not of the script that read their numbers."""
    facts = {"corpus": options.corpus, "corpus content": place.corpus_id, "seeds": options.seeds}
    return facts | {
        "code": " ".join(place.store.codes()) if place.store else code_version(),
        "statistics": part_version("signcl/metrics/bootstrap.py", "paper/statistics.py"),
        **({"preset": options.preset} if options.preset != "cpu" else {}),
        **({"changes": " ".join(options.changes)} if options.changes else {}),
        **more,
    }


def as_dict(setting: Setting) -> dict[str, Any]:
    """The setting as a dictionary."""
    return asdict(setting)
