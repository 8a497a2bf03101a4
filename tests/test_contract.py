"""What the contract promises to systems that the package does not know: answers, gloss heads, starting weights."""

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from systems import Case, Words, recipe_of

from signcl import evaluate, fit
from signcl.data.text import GlossVocabulary
from signcl.evaluation.comparison import compare
from signcl.inference.alignment import align_run
from signcl.systems import SYSTEMS, Sizes, System, SystemConfig, system_class
from signcl.systems.base import Outputs
from signcl.systems.encoders import build_visual
from signcl.systems.parts.frames import feature_size, frame_features
from signcl.systems.terms.shared import recognition
from signcl.testing import check_system, write_tiny_corpus

Classifier, SLT, VLP = (system_class(name) for name in ("classifier", "slt", "vlp"))


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    return {False: write_tiny_corpus(tmp_path_factory.mktemp("features"))}


class Frames(System):
    """A gloss head on frame features."""

    @dataclass(frozen=True, kw_only=True)
    class Config(SystemConfig):
        """Nothing of its own."""

        name: str = "frames"

    title: ClassVar = "a gloss head on frame features"
    needs: ClassVar = "features and glosses"
    stage: ClassVar = "recognise"
    terms: ClassVar = {"recognition": recognition}
    answers: ClassVar = "glosses"

    def __init__(self, config, sizes):
        super().__init__(config, sizes)
        self.head = torch.nn.Linear(feature_size(self.visual), sizes.classes())

    def forward(self, batch):
        features, lengths = frame_features(self.visual, batch)
        log_probs = self.head(features).float().log_softmax(dim=2)
        return Outputs(features, lengths, features, lengths, log_probs=log_probs)


class OwnAnswer(Frames):
    """Finds glosses by its own rule, without log-probabilities to search."""

    @dataclass(frozen=True, kw_only=True)
    class Config(SystemConfig):
        """Nothing of its own."""

        name: str = "own_answer"

    def recognise(self, batch):
        raise AssertionError("its own answer needs no search")

    def answer(self, batch, decode):
        return ["HAUS"] * len(batch)


class Pretraining(Frames):
    """Gives no answers, and its term has the name of another system's term."""

    @dataclass(frozen=True, kw_only=True)
    class Config(SystemConfig):
        """Nothing of its own."""

        name: str = "pretraining"

    stage: ClassVar = "pretrain"
    answers: ClassVar = "nothing"


class OtherClassifier(Classifier):
    """A classifier by another name."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Classifier.Config):
        """As before."""

        name: str = "other_classifier"


class OtherVLP(VLP):
    """A pretraining derived from VLP."""

    @dataclass(frozen=True, kw_only=True)
    class Config(VLP.Config):
        """As before."""

        name: str = "other_vlp"


class Mistapped(Frames):
    """SignCL would use another tap than density."""

    @dataclass(frozen=True, kw_only=True)
    class Config(SystemConfig):
        """Nothing of its own."""

        name: str = "mistapped"

    def forward(self, batch):
        out = super().forward(batch)
        return replace(out, features=2 * out.features)


def run_of(kind, corpora, out, **corpus):
    name = kind.Config().name
    return fit(recipe_of(Case(name, corpus=corpus), corpora, out, epochs=1, evaluate_every=1), progress=False)


def test_the_least_recogniser_passes_every_check():
    # a linear head takes longer than the usual 20 epochs; the values given count
    check_system(Frames, recipe={"train": {"epochs": 60, "lr": 0.03, "evaluate_every": 60}})


def test_an_answer_of_its_own_is_asked_everywhere(corpora, tmp_path):
    with SYSTEMS.standing_in("own_answer", OwnAnswer):
        run = run_of(OwnAnswer, corpora, tmp_path / "run")
        evaluate(run, "dev", device="cpu", bootstrap=0, progress=False)
    said = [line.split("\t")[2] for line in (run / "predictions.dev.tsv").read_text().splitlines()[1:]]
    assert set(said) == {"HAUS"}


def test_a_pretraining_with_glosses_trains_and_is_scored(corpora, tmp_path):
    with SYSTEMS.standing_in("pretraining", Pretraining):
        run = run_of(Pretraining, corpora, tmp_path / "run")
        scores = evaluate(run, "dev", device="cpu", progress=False)
        assert scores["recognition"] > 0
        with pytest.raises(ValueError, match="recognises no glosses"):
            align_run(run, "dev", tmp_path / "spans.tsv", device="cpu", progress=False)


def test_a_gloss_head_is_built_where_a_term_trains_it():
    visual, glosses = build_visual("identity", feature_dim=8), GlossVocabulary(["A", "B"])
    for terms, built in ((("translation", "recognition"), True), (("translation", "another"), False)):
        model = SLT(SLT.Config(), Sizes(tokenizer=Words(), glosses=glosses, terms=terms, visual=visual))
        assert (model.gloss_head is not None) == model.recognises == built


def test_comparing_goes_by_what_a_system_answers(corpora, tmp_path):
    with SYSTEMS.standing_in("other_classifier", OtherClassifier):
        run = run_of(OtherClassifier, corpora, tmp_path / "run", isolated=True)
        evaluate(run, "dev", device="cpu", bootstrap=0, progress=False)
        assert [row["metric"] for row in compare(run, run, "dev", samples=10)] == ["exact_match"]


def test_a_system_derived_from_vlp_starts_gfslt(corpora, tmp_path):
    with SYSTEMS.standing_in("other_vlp", OtherVLP):
        run = run_of(OtherVLP, corpora, tmp_path / "run")
        recipe = recipe_of(Case("gfslt", {"init_from": str(run)}), corpora, tmp_path / "next", max_steps=1)
        fit(recipe, progress=False)


def test_the_tap_of_signcl_is_that_of_density():
    with pytest.raises(AssertionError, match="density and SignCL would differ"):
        check_system(Mistapped, checks=["taps"])
