"""The recipes of the paper's settings run end to end, tiny, on a made-up corpus of the official layout."""

import shutil
from argparse import Namespace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from paper_tiny import made_up, options_of

from paper import __main__ as everything
from paper import plan, settings, table8
from paper.jobs import Place, recipe_of, run_all
from paper.store import DENSITY, FOUND
from signcl import evaluate, fit, load_recipe
from signcl.data.text import build_tokenizer
from signcl.systems.encoders import ResNet
from signcl.training import run_folder
from signcl.training.recipe import recipe_to_dict

RECIPES = Path(__file__).parents[1] / "recipes" / "phoenix14t"
TEXTS = ["am montag regen", "am dienstag sonne", "regen und sonne am montag", "und nun das wetter"]
SMALL = [
    "model.conv_width=32",
    "model.width=32",
    "model.encoder_layers=1",
    "model.decoder_layers=1",
    "model.heads=2",
    "model.decoder_heads=2",
    "model.ffn=32",
    "model.max_positions=160",
    "input.size=40",
    "input.crop=32",
    "train.devices=1",
    "train.strategy=auto",
    "train.precision=32-true",
    "train.workers=0",
    "train.max_steps=1",
    "train.device=cpu",
    "decode.max_new_tokens=8",
]
PUBLISHED = {"visual_weights": "resnet18.pth", "language_model": "mbart"}
TEXT_ENCODER = ["model.text_layers=1", "model.text_heads=2", "model.text_ffn=32"]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """PHOENIX-2014T's folders with noise for frames, a SentencePiece folder, a ResNet-18 file, an mBART folder."""
    from transformers import MBartConfig, MBartForConditionalGeneration

    top = tmp_path_factory.mktemp("paper")
    root = top / "phoenix"
    random = np.random.default_rng(0)
    (root / "annotations/manual").mkdir(parents=True)
    for split, count in (("train", 4), ("dev", 2), ("test", 2)):
        lines = ["name|video|start|end|speaker|orth|translation"]
        for i in range(count):
            name = f"{split}-{i}"
            folder = root / f"features/fullFrame-210x260px/{split}/{name}"
            folder.mkdir(parents=True)
            for frame in range(1, 9):
                picture = random.integers(0, 256, size=(52, 42, 3), dtype=np.uint8)
                cv2.imwrite(str(folder / f"images{frame:04d}.png"), picture)
            lines.append(f"{name}|{name}/1/*.png|-1|-1|Signer01|REGEN|{TEXTS[i]}")
        (root / f"annotations/manual/PHOENIX-2014-T.{split}.corpus.csv").write_text("\n".join(lines) + "\n")
    mbart = top / "mbart"
    mbart.mkdir()
    tokenizer = build_tokenizer("sentencepiece", TEXTS, vocab_size=60)
    tokenizer.save(mbart)
    config = MBartConfig(
        vocab_size=tokenizer.vocab_size, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=160,
        scale_embedding=True,
    )  # fmt: skip
    MBartForConditionalGeneration(config).save_pretrained(mbart)
    torch.save(ResNet(18).state_dict(), top / "resnet18.pth")
    return top


def changes(place: Path, out: str) -> list[str]:
    return [
        f"corpus.root={place}/phoenix",
        f"text.tokenizer=pretrained:{place}/mbart",
        f"out={place}/{out}",
        *SMALL,
    ]


@pytest.fixture(scope="module")
def pretrained(place) -> Path:
    weights = [
        f"model.visual_weights=pretrained:{place}/resnet18.pth",
        f"model.language_model=pretrained:{place}/mbart",
    ]
    recipe = load_recipe(RECIPES / "vlp-signcl.yaml", [*changes(place, "vlp"), *weights, *TEXT_ENCODER])
    return fit(recipe, progress=False)


def test_pretraining_starts_from_both_published_models(pretrained):
    said = run_folder.read_card(pretrained)["initialised"]
    assert len(said) == 2
    assert "frame encoder from" in said[0]
    assert "language model from" in said[1]


@pytest.mark.parametrize("name", ["gfslt-vlp-signcl", "gfslt-vlp-signcl-released"])
def test_finetuning_runs_and_is_scored(place, pretrained, name):
    options = [*changes(place, name), f"model.init_from={pretrained}"]
    if name.endswith("released"):
        options.append(f"model.language_model=pretrained:{place}/mbart")
    run = fit(load_recipe(RECIPES / f"{name}.yaml", options), progress=False)
    card = run_folder.read_card(run)
    assert card["parameters"] > 11_176_512
    assert any("left behind" in line for line in card["initialised"])
    scores = evaluate(run, "test", bootstrap=0, progress=False)
    assert scores["made"]["clips"] == 2
    assert scores["seen_in_training"]["sentences"] == 2


def finished(place: Path, name: str, *more: str) -> dict:
    """A recipe run for one step; its card."""
    recipe = load_recipe(RECIPES / f"{name}.yaml", [*changes(place, name), *more])
    return run_folder.read_card(fit(recipe, progress=False))


def test_the_pretrained_decoder_goes_through_both_stages(place):
    weights = [
        f"model.visual_weights=pretrained:{place}/resnet18.pth",
        f"model.language_model=pretrained:{place}/mbart",
    ]
    finished(place, "vlp-llmd", *weights, *TEXT_ENCODER)
    card = finished(place, "gfslt-vlp-signcl-llmd", f"model.init_from={place}/vlp-llmd")
    assert "start fresh: sign_emb" in card["initialised"][0]
    tensors = [run_folder.read_weights(place / name) for name in ("vlp-llmd", "gfslt-vlp-signcl-llmd")]
    assert (
        tensors[0]["decoder.layers.0.fc1.weight"].shape == tensors[1]["mbart.model.decoder.layers.0.fc1.weight"].shape
    )


def test_a_light_translator_hands_its_visual_part_to_a_language_model(place):
    finished(place, "fla-llm-stage1", f"model.visual_weights=pretrained:{place}/resnet18.pth")
    card = finished(
        place,
        "fla-llm-stage2",
        f"model.init_from={place}/fla-llm-stage1",
        f"model.language_model=pretrained:{place}/mbart",
    )
    assert "unchanged: sign_emb" in card["initialised"][1]
    first, second = (run_folder.read_weights(place / f"fla-llm-stage{n}") for n in (1, 2))
    visual = [name for name in first if name.startswith(("visual.", "conv."))]
    assert all(torch.equal(first[name], second[name]) for name in visual), "frozen, batch norm statistics included"
    assert len(visual) > 100


def test_table_8_runs_unchanged_on_the_official_layout(place, tmp_path, capsys):
    """Whoever has the corpus names it with --root: all eight arms, sdr only where someone gives spans."""
    # published weights of the text side; those of the frame encoder, 45 MB a run, are loaded by the tests above
    weights = ["model.visual=small_cnn", "model.visual_weights=", f"model.language_model=pretrained:{place}/mbart"]
    own = [c for c in changes(place, "x") if not c.startswith(("out=", "corpus.root="))]
    options = options_of(tmp_path, "phoenix14t", "--root", f"{place}/phoenix", "--device", "cpu", "--seeds", "1",
                         "--changes", *own, *TEXT_ENCODER, *weights)  # fmt: skip
    where = settings.place_of(options)
    arms = table8.jobs("phoenix14t", options.changes)
    two = [arms[name].seeded(0) for name in ("000", "110")]  # without VLP, and from VLP with SignCL
    assert [result.density for result in run_all(two, where).values()] == [None, None], "without spans no density"
    bare = dict.fromkeys((*DENSITY, *FOUND))
    made = table8.table(options, made_up(options, arms.values(), **bare))
    assert len(made.rows) == 8
    assert {row[3] for row in made.rows} == {"–"}
    assert not any("SDR" in claim.text for claim in made.claims)
    assert any("no spans" in note for note in made.notes)
    spans = tmp_path / "spans.test.tsv"
    spans.write_text("name\tgloss\tstart\tstop\n" + "".join(f"test-{i}\t{g}\t{a}\t{a + 2}\n" for i in range(2)
                     for g, a in (("REGEN", 0), ("SONNE", 3), ("REGEN", 5))))  # fmt: skip
    options.spans = str(tmp_path / "spans.{split}.tsv")
    with_spans = settings.place_of(Namespace(**{key: value for key, value in vars(options).items() if key != "store"}))
    before, after = run_all(two, where), run_all(two, with_spans)
    assert all(result.density["sdr"] > 0 for result in after.values())
    assert [r.scores for r in before.values()] == [r.scores for r in after.values()], "the same runs"
    told = ("sdr of spans", {"spans": options.spans}, 61.5)
    again = table8.table(options, made_up(options, arms.values(), measured=told, **bare))
    assert all(float(row[3]) > 0 for row in again.rows)
    assert [row[5] for row in again.rows] == [row[5] for row in made.rows]
    words = ["--corpus", "phoenix14t", "--root", f"{place}/phoenix", "--out", str(tmp_path / "runs"), "--plan"]
    assert everything.main(words) == 2
    assert "phoenix14t on a CPU would take months; give --device cuda" in capsys.readouterr().err
    assert everything.main([*words, "--device", "cuda", "--spans", options.spans]) == 0
    said = capsys.readouterr().err
    assert "table8 on phoenix14t: 33 runs to make, about 0 min and 33 runs of unknown length" in said
    assert "trust on phoenix14t: 0 runs to make" in said, "they are those of Table 8"
    assert "synthetic" not in said
    step = plan.Step("table8", "phoenix14t")
    parsed = everything.arguments_of(step, Namespace(**vars(options) | {"root": f"{place}/phoenix", "jobs": None}))
    assert parsed[-4:] == ["--spans", options.spans, "--root", f"{place}/phoenix"]
    other = place / "phoenix-other"
    shutil.copytree(place / "phoenix", other)
    table = other / "annotations/manual/PHOENIX-2014-T.test.corpus.csv"
    table.write_text(table.read_text().replace("montag", "freitag"))
    assert settings.corpus_id(other, "phoenix14t") != where.corpus_id


@pytest.mark.parametrize("corpus", ["phoenix14t", "csl_daily", "synthetic"])
def test_arms_without_vlp_differ_in_signcl_alone(corpus, tmp_path):
    arms, where = table8.jobs(corpus, []), Place(tmp_path, tmp_path, "", "cuda")
    plain, signcl = (recipe_to_dict(recipe_of(arms[name], where)) for name in ("000", "001"))
    assert plain["loss"]["weights"] != signcl["loss"]["weights"]
    for recipe in (plain, signcl):
        for key in ("loss", "out"):
            recipe.pop(key)
        assert (recipe["train"]["devices"], recipe["train"]["accumulate"]) == (1, 1 if corpus == "synthetic" else 4)
    assert plain == signcl
