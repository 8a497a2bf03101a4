"""Uni-Sign: the published sizes, what a node reads, prompts of several languages, languages drawn by temperature."""

from collections import Counter

import numpy as np
import pytest
import torch

from signcl.data.batch import Batch, pack_positions
from signcl.data.planning import draw_by_group, plan_batches
from signcl.data.pose_layouts import FACE_CONTOURS, LAYOUTS, POINT_ORDERS
from signcl.data.text import VocabularyTokenizer
from signcl.losses import signcl_loss
from signcl.systems import Sizes
from signcl.systems.encoders import PartGraphs, build_visual
from signcl.systems.encoders.part_graphs import EYES, JAW, LIPS, _adjacency, graphs_of
from signcl.systems.parts.layers import MaskedBatchNorm1d
from signcl.systems.uni_sign import UniSign
from signcl.training.prepare import prepare
from signcl.training.recipe import recipe_from_dict
from signcl.training.runs import build_model


def batch_of(lengths, dim, seed=0):
    rows = torch.randn(sum(lengths), dim, generator=torch.Generator().manual_seed(seed))
    names = [f"c{i}" for i in range(len(lengths))]
    words = torch.full((len(lengths),), 3.0)
    return Batch(names, names, rows, pack_positions(lengths), torch.tensor(lengths), max(lengths), words)


def test_its_parameters_are_those_of_the_released_code():
    # stgcn_layers of the released repository, counted: body 1,516,876, hands 1,521,196 (shared), face 1,519,792, each
    # with its first linear map; 1,024 numbers of `part_para`. Three numbers a point, hidden size 256.
    visual = PartGraphs(354, 1024)  # COCO-WholeBody, x, y and confidence
    assert {kind: sum(p.numel() for p in part.parameters()) for kind, part in visual.parts.items()} == {
        "body": 1_516_876, "hand": 1_521_196, "face": 1_519_792,
    }  # fmt: skip
    assert sum(p.numel() for p in visual.parameters()) == 4_557_864 + 1_024


def test_the_nodes_are_the_published_points_of_coco_wholebody():
    order = POINT_ORDERS["coco_wholebody133"]
    body, left, right, face = graphs_of(order.layout)
    raw = {graph.name: [order.columns[n] for (n,) in graph.nodes] for graph in (body, left, right, face)}
    assert raw["left_hand"] == list(range(91, 112))
    assert raw["right_hand"] == list(range(112, 133))
    assert raw["face"] == [*range(23, 40, 2), *range(83, 91), 53]
    # Published: nose 0, ears 3 and 4 of the body; here the tip of the nose and the ends of the jaw, points of the face.
    assert raw["body"] == [53, 39, 23, 5, 6, 7, 8, 9, 10]
    assert (left.joint, right.joint, face.joint) == (7, 8, 0)
    own = POINT_ORDERS["uni_sign133"]
    body, left, right, face = graphs_of(own.layout)
    exact = {graph.name: [own.columns[n] for (n,) in graph.nodes] for graph in (body, left, right, face)}
    assert exact == raw | {"body": [0, *range(3, 11)]}
    assert {graph.root for graph in (body, left, right, face)} == {None}  # hands and face are relative already
    assert (left.joint, right.joint, face.joint) == (7, 8, 0)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_every_layout_has_its_graphs_and_every_node_hears_somebody(layout):
    graphs = graphs_of(LAYOUTS[layout])
    assert [graph.name for graph in graphs] == [
        name for name in ("body", "left_hand", "right_hand", "face") if name in LAYOUTS[layout].ranges()
    ]
    for graph in graphs:
        assert {n for edge in graph.edges for n in edge} == set(range(len(graph.nodes)))
        first, last = LAYOUTS[layout].ranges()[graph.name]
        if graph.name != "body":
            assert all(first <= n < last for node in graph.nodes for n in node)
    assert {*JAW, *LIPS, *EYES} <= set(FACE_CONTOURS)


def test_an_adjacency_by_hand():
    # 0 - 1 - 2: the ends hear themselves and the middle by a half each, the middle all three by a third.
    itself, neighbours = _adjacency(3, [(0, 1), (1, 2)])
    torch.testing.assert_close(itself.diag(), torch.tensor([1 / 2, 1 / 3, 1 / 2]))
    torch.testing.assert_close(neighbours[0, 1], torch.tensor(1 / 3))  # sent by 0, heard by 1
    torch.testing.assert_close(neighbours[1, 0], torch.tensor(1 / 2))
    torch.testing.assert_close((itself + neighbours).sum(dim=0), torch.ones(3))


def test_a_clip_alone_gives_what_it_gives_in_a_padded_batch_and_no_frame_sees_far():
    torch.manual_seed(0)
    visual = PartGraphs(236, 32).eval()
    together = batch_of([15, 4, 1], 236)
    whole, lengths = visual.encode_clips(together)
    assert lengths.tolist() == [15, 4, 1]
    assert whole.shape == (3, 15, 32)
    assert not whole[1, 4:].any()
    for row, start, stop in ((0, 0, 15), (1, 15, 19), (2, 19, 20)):
        alone = batch_of([stop - start], 236)
        alone.inputs = together.inputs[start:stop]
        torch.testing.assert_close(visual.encode_clips(alone)[0][0], whole[row, : stop - start], atol=1e-5, rtol=0)
    moved = batch_of([15, 4, 1], 236)
    moved.inputs[14] += 1
    changed = (visual.encode_clips(moved)[0][0] - whole[0]).abs().amax(dim=1) > 1e-7
    assert changed.nonzero().flatten().tolist() == list(range(8, 15))  # three convolutions over 5 frames: 6 to a side


def test_a_hand_is_seen_from_its_wrist_but_the_body_knows_where_it_is():
    torch.manual_seed(0)
    visual = PartGraphs(236, 32).eval()
    first, last = LAYOUTS["coco_wholebody"].ranges()["left_hand"]
    one = batch_of([3], 236)
    two = batch_of([3], 236)
    points = two.inputs.unflatten(1, (-1, 2))
    points[:, first:last] += 5  # the whole hand elsewhere: it looks the same
    torch.testing.assert_close(visual.encode_clips(two)[0], visual.encode_clips(one)[0], atol=1e-5, rtol=0)
    points[:, 4] += 5  # the body's wrist: what the hand hears changes
    features, before = visual.encode_clips(two)[0], visual.encode_clips(one)[0]
    assert (features - before)[..., 8:16].abs().max() > 1e-4


def test_signcl_reaches_every_part_and_a_part_does_not_train_the_body():
    torch.manual_seed(0)
    visual = PartGraphs(354, 32)
    features, lengths = visual.encode_clips(batch_of([9, 7], 354))
    signcl_loss(features, lengths, 2.0, distance_margin=4.0).backward()
    still = [name for name, p in visual.named_parameters() if p.grad is None or not p.grad.any()]
    assert still in ([], ["offset"])  # an offset of all frames alike moves no distance
    visual.zero_grad()
    visual.encode_clips(batch_of([9, 7], 354))[0][..., 8:].sum().backward()  # without the body's own share
    assert not any(p.grad is not None and p.grad.any() for p in visual.parts["body"].parameters())


def test_what_does_not_fit_is_refused():
    with pytest.raises(
        ValueError, match=r"model\.visual_dim: part_graphs needs a multiple of 4, one quarter per part, got 30"
    ):
        build_visual("part_graphs", feature_dim=354, dim=30)
    with pytest.raises(ValueError, match=r"got rows of 36"):
        build_visual("part_graphs", feature_dim=36, dim=32)
    with pytest.raises(ValueError, match=r"needs key points \[N, 354\], got"):
        PartGraphs(354, 32).encode_clips(batch_of([3], 236))


# -- languages ---------------------------------------------------------------------------------------------------------


def write_corpus(root, languages=("de", "en")):
    """Two languages, one small: the same signs, and words that tell which language was asked for."""
    words = {"de": ["regen", "sonne"], "en": ["rain", "sun"], "": ["regen", "sonne"]}
    random = np.random.default_rng(0)
    for split in ("train", "dev"):
        lines = ["name\tpath\ttext\tlanguage"]
        for i in range(12):
            language = languages[0] if i % 6 else languages[-1]
            row = np.full((6, 12), float(i % 2), np.float32) + random.normal(size=(6, 12)).astype(np.float32) * 0.1
            np.save(root / f"{split}{i}.npy", row.astype(np.float32))
            lines.append(f"{split}{i}\t{split}{i}.npy\t{words[language][i % 2]}\t{language}")
        (root / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return root


def recipe_of(root, **model):
    lm = {"layers": 1, "width": 16, "heads": 2, "ffn": 32, **model.pop("lm", {})}
    return recipe_from_dict({
        "out": str(root / "run"), "corpus": {"name": "folder", "root": str(root)}, "text": {"tokenizer": "character"},
        "model": {"name": "uni_sign", "visual": "feature_mlp", "visual_dim": 16, "lm": lm, **model},
        "train": {"batch_size": 4, "device": "cpu"},
    })  # fmt: skip


def test_the_prompt_names_the_language_of_each_clip(tmp_path):
    recipe = recipe_of(write_corpus(tmp_path), languages={"de": "deutsch"})
    data = prepare(recipe)
    model = build_model(recipe, data.tokenizer, data.feature_dim).eval()
    batch = data.dev[[0, 1]].batch
    assert batch.languages == ("en", "de")
    assert model.prompts(batch) == [
        "Translate sign language video to en: </s>{signs}",
        "Translate sign language video to deutsch: </s>{signs}",
    ]
    with torch.no_grad():
        other = data.dev[[0, 1]].batch
        other.languages = ("de", "de")
        assert not torch.equal(model(batch).logits[0], model(other).logits[0])
        assert torch.equal(model(batch).features, model(other).features)
    batch.languages = ("", "de")
    with pytest.raises(ValueError, match=r"dev0: its language is unknown, but model\.lm\.prompt needs one; set"):
        model.prompts(batch)


@pytest.mark.parametrize("shared", [True, False])
def test_sync_norm_shares_the_statistics_of_the_part_graphs(shared):
    sizes = Sizes(tokenizer=VocabularyTokenizer(["regen"]), feature_dim=207)
    model = UniSign(UniSign.Config(visual_dim=8, sync_norm=shared), sizes)
    norms = [part for part in model.visual.modules() if isinstance(part, MaskedBatchNorm1d)]
    assert len(norms) > 20
    assert {norm.sync for norm in norms} == {shared}


def test_languages_that_the_tokenizer_cannot_tell_apart_are_refused(tmp_path):
    recipe = recipe_of(write_corpus(tmp_path), languages={"de": "ZZ", "en": "QQ"})
    data = prepare(recipe)
    model = build_model(recipe, data.tokenizer, data.feature_dim)
    with pytest.raises(ValueError, match="the tokenizer has the same ids for 'QQ' and 'ZZ'"):
        model.prompts(data.dev[[0, 1]].batch)


def test_a_prompt_without_a_place_for_the_language_takes_no_names(tmp_path):
    with pytest.raises(ValueError, match=r"model\.languages are names for \{language\} in model\.lm\.prompt"):
        recipe_of(tmp_path, lm={"prompt": "now: {signs}"}, language="German")


def test_temperature_draws_by_hand():
    # 8 and 2 clips. T = 1: as they are. T = 2: sqrt 8 : sqrt 2 = 2 : 1, of 10: 6.67 and 3.33, so 7 and 3.
    groups = ["a"] * 8 + ["b"] * 2
    assert draw_by_group(groups, 1.0) == list(range(10))
    counts = Counter(draw_by_group(groups, 2.0, epoch=3))
    assert sum(counts[i] for i in range(8)) == 7
    assert sorted((counts[8], counts[9])) == [1, 2]
    assert max(counts[i] for i in range(8)) == 1
    assert Counter(groups[i] for i in draw_by_group(groups, 1e6)) == {"a": 5, "b": 5}
    assert draw_by_group(groups, 2.0, epoch=3) == draw_by_group(groups, 2.0, epoch=3)
    assert len({tuple(draw_by_group(groups, 2.0, epoch=e)) for e in range(5)}) > 1


def test_a_plan_takes_what_was_drawn():
    drawn = [0, 0, 2, 3]
    plan = plan_batches([5, 6, 7, 8], batch_size=2, drawn=drawn)
    assert sorted(i for batch in plan for i in batch) == drawn


def test_a_temperature_needs_languages(tmp_path):
    root = write_corpus(tmp_path, languages=("de", "de"))
    recipe = recipe_of(root)
    recipe.train.language_temperature = 5.0
    with pytest.raises(ValueError, match="weighs the languages of a corpus, and corpus folder has only de"):
        prepare(recipe)
