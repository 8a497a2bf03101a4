"""The contrast of steps and words: by plain loops, in blocks, over ranks, and as a term of the pretraining."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fresh_process import run_on_ranks
from systems import having, losses

from signcl import fit, load_recipe
from signcl.losses import Selection, clip_loss, selected_negatives, token_clip_loss, token_similarity
from signcl.systems.terms import LossRecipe, TermContext
from signcl.systems.vlp import VLP
from signcl.training import run_folder, runs
from signcl.training.dev_scores import score_batches, summarise
from signcl.training.prepare import prepare
from signcl.training.recipe import recipe_from_dict
from signcl.training.runs import build_model

WORDS = ["regen", "sonne", "wind", "morgen", "norden", "und"]
SCALE = torch.tensor(math.log(10.0))
TERMS_OF_VLP = VLP.terms


def pairs(clips=4, sentences=3, steps=7, tokens=5, size=6, seed=0):
    random = torch.Generator().manual_seed(seed)
    video = torch.randn(clips, steps, size, generator=random, dtype=torch.float64).requires_grad_()
    text = torch.randn(sentences, tokens, size, generator=random, dtype=torch.float64).requires_grad_()
    return (video, torch.randint(1, steps + 1, (clips,), generator=random),
            text, torch.randint(1, tokens + 1, (sentences,), generator=random))  # fmt: skip


def by_loop(video, video_lengths, text, text_lengths, temperature):
    """Pair by pair, step by step, word by word."""
    by_steps, by_words = [], []
    for i, steps in enumerate(video_lengths.tolist()):
        for j, words in enumerate(text_lengths.tolist()):
            s = [[F.cosine_similarity(video[i, k], text[j, u], dim=0) for u in range(words)] for k in range(steps)]
            rows = [torch.stack(row) for row in s]
            columns = [torch.stack(column) for column in zip(*s)]
            for lines, found in ((rows, by_steps), (columns, by_words)):
                found.append(sum((line / temperature).softmax(0) @ line for line in lines) / len(lines))
    shape = (len(video), len(text))
    return torch.stack(by_steps).view(shape), torch.stack(by_words).view(shape)


@pytest.mark.parametrize("block", [1, 150, 1 << 24])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_similarities_and_gradients_are_those_of_plain_loops_in_any_blocks(temperature, block):
    data = pairs()
    ours, loop = token_similarity(*data, temperature=temperature, block=block), by_loop(*data, temperature)
    for found, wanted in zip(ours, loop):
        torch.testing.assert_close(found, wanted)
    weight = torch.rand(4, 3, dtype=torch.float64)
    gradients = [torch.autograd.grad(((a + 2 * b) * weight).sum(), (data[0], data[2])) for a, b in (ours, loop)]
    torch.testing.assert_close(gradients[0], gradients[1])


def test_one_word_and_one_step_by_hand():
    # One step along x; words along x and y: s = 1, 0. Softmax at temperature 1: e / (e + 1).
    # By steps: e / (e + 1). By words: each word has the one step, so the mean of 1 and 0.
    video, text = torch.tensor([[[2.0, 0.0]]]), torch.tensor([[[1.0, 0.0], [0.0, 3.0]]])
    by_steps, by_words = token_similarity(video, torch.tensor([1]), text, torch.tensor([2]), temperature=1.0)
    assert by_steps.item() == pytest.approx(math.e / (math.e + 1))
    assert by_words.item() == pytest.approx(0.5)


def test_the_loss_is_the_contrast_of_both_tables():
    data = pairs(sentences=4)
    by_steps, by_words = by_loop(*data, 0.07)
    own = torch.arange(4)
    wanted = (F.cross_entropy(10 * by_steps, own) + F.cross_entropy(10 * by_words.T, own)) / 2
    torch.testing.assert_close(token_clip_loss(*data, SCALE.double()), wanted)


def test_of_one_step_and_one_word_it_is_the_contrast_of_clips():
    data, ids = pairs(sentences=4, steps=1, tokens=1), torch.tensor([3, 5, 3, 8])
    for target in ("one_hot", "released"):
        ours = token_clip_loss(*data, SCALE, sentence_ids=ids, target=target)
        torch.testing.assert_close(
            ours, clip_loss(data[0][:, 0], data[2][:, 0], SCALE, sentence_ids=ids, target=target)
        )


def test_equal_sentences_are_no_negatives_and_a_batch_of_one_is_zero():
    video, lengths, text, text_lengths = pairs(sentences=4)
    twins = torch.tensor([0, 1, 0, 2])
    text = text.detach().clone()
    text[2], text_lengths[2] = text[0], text_lengths[0]
    masked = token_clip_loss(video, lengths, text, text_lengths, SCALE, sentence_ids=twins)
    assert masked < token_clip_loss(video, lengths, text, text_lengths, SCALE)
    one = token_clip_loss(video[:1], lengths[:1], text[:1], text_lengths[:1], SCALE)
    assert one == 0


def test_padding_changes_nothing_even_if_it_is_not_a_number():
    video, lengths, text, text_lengths = pairs(sentences=4)
    wide, long = F.pad(video, (0, 0, 0, 6), value=math.nan), F.pad(text, (0, 0, 0, 3), value=math.nan)
    loss = token_clip_loss(video, lengths, text, text_lengths, SCALE)
    padded = token_clip_loss(wide, lengths, long, text_lengths, SCALE)
    torch.testing.assert_close(padded, loss)
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(padded, (video, text)))


def test_it_is_float32_under_autocast_and_the_scale_learns():
    data = [part.float() if part.is_floating_point() else part for part in pairs(sentences=4)]
    scale = SCALE.clone().requires_grad_()
    plain = token_clip_loss(*data, scale)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(token_clip_loss(*data, scale), plain)
    assert torch.autograd.grad(plain, scale)[0] != 0


def test_what_does_not_fit_is_refused():
    video, lengths, text, text_lengths = pairs()
    with pytest.raises(ValueError, match="temperature above 0, got 0"):
        token_similarity(video, lengths, text, text_lengths, temperature=0)
    with pytest.raises(ValueError, match=r"needs steps \[B, S, E\]"):
        token_similarity(video[0], lengths, text, text_lengths)
    with pytest.raises(ValueError, match="one sentence per clip, got 4 clips and 3"):
        token_clip_loss(video, lengths, text, text_lengths, SCALE)


SCRIPT = """
import sys, torch
from lightning_fabric import Fabric
from signcl.losses import token_clip_loss
from signcl.training.optimizer import gather_rows

torch.set_num_threads(1)
fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
fabric.launch()

class Towers(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.video, self.text = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)

    def forward(self, steps, step_lengths, tokens, token_lengths, ids):
        parts = (self.video(steps), step_lengths, self.text(tokens), token_lengths, ids)
        *rows, numbers = (gather_rows(fabric, part) for part in parts)
        return token_clip_loss(*rows, torch.tensor(1.0), sentence_ids=numbers)

torch.manual_seed(0)
towers = Towers()
data = torch.load(sys.argv[2])
own = slice(0, 3) if fabric.global_rank == 0 else slice(3, 5)
own = [part[own] for part in data]
own[0], own[2] = own[0][:, : own[1].max()], own[2][:, : own[3].max()]  # padded to this rank's longest only
wrapped = fabric.setup_module(towers)
fabric.backward(wrapped(*own))
if fabric.global_rank == 0:
    torch.save({name: p.grad for name, p in towers.named_parameters()}, sys.argv[1])
"""


def test_gradients_over_two_ranks_of_other_lengths_are_those_of_one_batch(tmp_path):
    found, given = tmp_path / "gradients.pt", tmp_path / "data.pt"
    torch.manual_seed(1)
    data = (torch.randn(5, 6, 4), torch.tensor([6, 2, 5, 3, 1]), torch.randn(5, 4, 4), torch.tensor([1, 3, 2, 2, 4]),
            torch.tensor([0, 1, 2, 1, 4]))  # fmt: skip
    torch.save(data, given)
    run_on_ranks(SCRIPT, found, given)
    torch.manual_seed(0)
    video, text = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)
    token_clip_loss(video(data[0]), data[1], text(data[2]), data[3], torch.tensor(1.0), sentence_ids=data[4]).backward()
    gradients = torch.load(found)
    for name, tower in (("video", video), ("text", text)):
        for part in ("weight", "bias"):
            torch.testing.assert_close(gradients[f"{name}.{part}"], getattr(tower, part).grad)


def write_corpus(root: Path) -> Path:
    """Each word is a direction in feature space, held for 5 to 8 frames."""
    root.mkdir()
    random = np.random.default_rng(0)
    directions = random.normal(size=(len(WORDS), 8)) * 3
    for split, count in (("train", 16), ("dev", 6)):
        lines = ["name\tpath\ttext"]
        for i in range(count):
            chosen = random.permutation(len(WORDS))[: random.integers(2, 5)]
            rows = np.concatenate([np.repeat(directions[[c]], random.integers(5, 9), axis=0) for c in chosen])
            np.save(root / f"{split}{i}.npy", rows.astype(np.float32))
            lines.append(f"{split}{i}\t{split}{i}.npy\t{' '.join(WORDS[c] for c in chosen)}")
        (root / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("tokens") / "corpus")


MODEL = {"visual": "feature_mlp", "visual_dim": 16, "width": 32, "conv_width": 32, "encoder_layers": 1,
         "decoder_layers": 1, "heads": 2, "ffn": 32, "text_layers": 1, "text_heads": 2, "text_ffn": 32,
         "dropout": 0.0, "text_dropout": 0.0}  # fmt: skip


def recipe(corpus, out, weights, **train):
    return recipe_from_dict({
        "stage": "pretrain", "out": str(out), "corpus": {"name": "folder", "root": str(corpus)},
        "model": {"name": "vlp", **MODEL}, "loss": {"weights": weights},
        "train": {"epochs": 2, "batch_size": 8, "device": "cpu", "lr": 2e-3, "schedule": "constant", **train},
    })  # fmt: skip


@pytest.mark.parametrize(
    "weights", [{"token_clip": 1.0}, {"token_clip": 1.0, "clip": 0.5, "masked_text": 1.0, "signcl": 0.01}], ids=len
)
def test_every_weight_of_the_model_is_trained_by_the_terms_it_was_built_for(corpus, tmp_path, weights):
    r = recipe(corpus, tmp_path / "run", weights)
    material = prepare(r)
    batch = material.train[[0, 1, 2, 3]].batch
    model = build_model(r, material.tokenizer, 8)
    terms = losses(model, batch, r)
    assert terms.keys() == weights.keys()
    terms["token_clip"].backward(retain_graph=True)
    assert sum(float(p.grad.abs().sum()) for p in model.visual.parameters()) > 0
    sum(terms.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []  # DDP would wait for it
    assert (model.logit_scale is None) == ("clip" not in weights)


def test_token_contrast_alone_learns_which_sentence_is_whose_and_starts_a_translation(corpus, tmp_path):
    run = fit(recipe(corpus, tmp_path / "run", {"token_clip": 1.0}, epochs=25, evaluate_every=25), progress=False)
    dev = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines() if '"dev"' in line][-1]
    assert dev["token_retrieval"] > 50  # chance: 17
    assert "retrieval" not in dev
    r = recipe(corpus, tmp_path / "next", {"token_clip": 1.0})
    loaded = runs.load_run(run)
    batch = prepare(r).dev[[0, 1, 2]].batch
    shares = [score_batches(loaded.model, [prepare(r).dev[rows].batch], r) for rows in ([0, 1, 2], [3, 4, 5])]
    assert summarise(shares, r)["token_retrieval"] == pytest.approx(dev["token_retrieval"])
    with torch.no_grad():
        alone = loaded.model.eval()(prepare(r).dev[[1]].batch)
        together = loaded.model(batch)
    steps, tokens = alone.step_embeddings.shape[1], alone.token_embeddings.shape[1]
    torch.testing.assert_close(together.step_embeddings[1, :steps], alone.step_embeddings[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(together.token_embeddings[1, :tokens], alone.token_embeddings[0], atol=1e-4, rtol=0)
    finetuning = recipe_from_dict({
        "stage": "finetune", "out": str(tmp_path / "slt"), "corpus": {"name": "folder", "root": str(corpus)},
        "model": {**having("gfslt", MODEL), "name": "gfslt", "init_from": str(run)},
        "train": {"max_steps": 1, "device": "cpu"},
    })  # fmt: skip
    said = run_folder.read_card(fit(finetuning, progress=False))["initialised"]
    assert "token_logit_scale" in said[-1].split("left behind")[1]


def test_selection_by_token_retrieval_needs_the_term(corpus, tmp_path):
    assert recipe(corpus, tmp_path, {"token_clip": 1.0}, select="token_retrieval").train.select
    with pytest.raises(ValueError, match=r"train\.select=token_retrieval"):
        recipe(corpus, tmp_path, {"clip": 1.0}, select="token_retrieval")
    with pytest.raises(ValueError, match=r"loss\.token_temperature: needs a number above 0"):
        recipe_from_dict({"loss": {"token_temperature": 0.0}})


@pytest.mark.parametrize("name", ["phoenix14t", "csl_daily", "synthetic"])
def test_the_recipes_weigh_it(name):
    r = load_recipe(Path(__file__).parents[1] / "recipes" / name / "vlp-token.yaml")
    assert r.loss.weights["token_clip"] == 1.0
    assert "clip" not in r.loss.weights


# -- negatives chosen by their similarity over training ----------------------------------------------------------------


def selected_by_loop(similarity, allowed, progress, share, spread, skip):
    """Row by row, negative by negative."""
    chosen = []
    for row, may in zip(similarity.tolist(), allowed.tolist()):
        ranked = sorted((j for j in range(len(row)) if may[j]), key=lambda j: row[j])
        n = len(ranked)
        kept = math.ceil(round(share * n, 6))
        even = math.ceil(round(spread * kept, 6))
        window = kept - even
        reach = max(n - math.floor(round(skip * n, 6)), window)
        first = round(progress * (reach - window))
        hard = ranked[first : first + window]
        others = [j for j in ranked if j not in hard]
        spaced = [j for q, j in enumerate(others) if (q + 1) * even // len(others) > q * even // len(others)]
        assert len(spaced) == even
        chosen.append([j in hard or j in spaced for j in range(len(row))])
    return torch.tensor(chosen)


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    ("share", "spread", "skip"), [(0.5, 0.5, 0.1), (1.0, 0.2, 0.0), (0.3, 1.0, 0.5), (0.01, 0.01, 0.9)]
)
def test_selected_negatives_are_those_of_plain_loops(progress, share, spread, skip):
    random = torch.Generator().manual_seed(1)
    similarity = torch.rand(12, 12, generator=random)
    allowed = ~torch.eye(12, dtype=torch.bool) & (torch.rand(12, 12, generator=random) > 0.2)
    allowed[3] = False  # a clip whose sentence is every other's too
    found = selected_negatives(similarity, allowed, Selection(progress, share, spread, skip))
    assert found.equal(selected_by_loop(similarity, allowed, progress, share, spread, skip))


def test_the_window_moves_from_easy_to_hard_and_never_holds_the_hard_ones_alone():
    # 11 sentences, the own one first; 10 negatives with similarity .1 to 1. Half of them take part: 3 of every hardness
    # and 2 of the window. Outside the window are 8: places 2, 5 and 7 of them.
    similarity = torch.arange(0, 1.1, 0.1)[None]
    allowed = similarity > 0.05
    at = {p: selected_negatives(similarity, allowed, Selection(p)).nonzero()[:, 1].tolist() for p in (0.0, 1.0)}
    assert at == {0.0: [1, 2, 5, 8, 10], 1.0: [3, 6, 8, 9, 10]}


def test_a_selection_of_all_is_the_plain_loss_and_one_left_out_has_no_gradient():
    video, video_lengths, text, text_lengths = pairs(clips=5, sentences=5)
    plain = token_clip_loss(video, video_lengths, text, text_lengths, SCALE)
    every = token_clip_loss(video, video_lengths, text, text_lengths, SCALE, selection=Selection(1.0, share=1.0))
    torch.testing.assert_close(every, plain)
    chosen = token_clip_loss(video, video_lengths, text, text_lengths, SCALE, selection=Selection(1.0, 0.25, 1.0))
    by_steps, by_words = token_similarity(video, video_lengths, text, text_lengths)
    loop = []
    for table in (by_steps, by_words.T):
        kept = selected_by_loop(table, ~torch.eye(5, dtype=torch.bool), 1.0, 0.25, 1.0, 0.1) | torch.eye(5).bool()
        rows = [(-10 * row[i] + (10 * row[kept[i]]).logsumexp(0)) for i, row in enumerate(table)]
        loop.append(sum(rows) / len(rows))
    torch.testing.assert_close(chosen, sum(loop) / 2)
    assert chosen < plain


def test_a_selection_leaves_single_clips_and_twins_at_zero():
    video, video_lengths, text, text_lengths = pairs(clips=2, sentences=2)
    twins = torch.tensor([7, 7])
    alone = token_clip_loss(video[:1], video_lengths[:1], text[:1], text_lengths[:1], SCALE, selection=Selection(0.5))
    same = token_clip_loss(
        video, video_lengths, text, text_lengths, SCALE, sentence_ids=twins, selection=Selection(0.5)
    )
    assert alone == same == 0
    with pytest.raises(ValueError, match="needs progress in"):
        selected_negatives(torch.zeros(2, 2), torch.ones(2, 2, dtype=torch.bool), Selection(1.5))


def test_negatives_are_chosen_in_training_and_all_taken_on_dev():
    recipe = {"weights": {"token_clip": 1.0}, "token_clip": {"negatives": "curriculum", "share": 0.4}}
    settings = recipe_from_dict({"model": {"name": "vlp"}, "stage": "pretrain", "loss": recipe}).loss.sections
    loss = LossRecipe(sections=settings)
    term = TERMS_OF_VLP["token_clip"]
    video, video_lengths, text, text_lengths = pairs(clips=6, sentences=6)
    out = SimpleNamespace(
        step_embeddings=video, step_lengths=video_lengths, token_embeddings=text, token_logit_scale=SCALE
    )
    batch = SimpleNamespace(token_lengths=text_lengths, sentence_ids=torch.arange(6))
    own = settings["token_clip"]
    dev, first, last = (term(out, batch, TermContext(loss, settings=own, progress=p)) for p in (None, 0.0, 1.0))
    torch.testing.assert_close(dev, token_clip_loss(video, video_lengths, text, text_lengths, SCALE))
    assert first < last < dev


def test_keys_of_the_curriculum_need_it():
    with pytest.raises(ValueError, match=r"loss\.token_clip\.share: belongs to loss\.token_clip\.negatives=curriculum"):
        recipe_from_dict(
            {
                "model": {"name": "vlp"},
                "stage": "pretrain",
                "loss": {"token_clip": {"share": 0.4}, "weights": {"token_clip": 1.0}},
            }
        )
