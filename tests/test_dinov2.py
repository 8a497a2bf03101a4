"""DINOv2 as frame encoder: frozen but for its adapters, published weights under both names, chunks."""

import json

import pytest
import torch
from transformers import Dinov2Config, Dinov2Model

from signcl.data.text import VocabularyTokenizer
from signcl.systems.encoders import DINOV2_SIZES, DINOv2, build_visual
from signcl.systems.targets import Targets
from signcl.systems.targets.pseudo_glosses import PseudoGlosses
from signcl.training import run_folder, runs
from signcl.training.recipe import recipe_from_dict
from signcl.training.runs import build_model, initialise

TINY = {**DINOV2_SIZES["tiny"], "num_hidden_layers": 3, "hidden_size": 24, "num_attention_heads": 2}
TARGETS = Targets({"pseudo_gloss": PseudoGlosses(["a", "b"], "words")})
WORDS = VocabularyTokenizer(["a", "b"])


def frames(count=4, size=48, seed=0):
    return torch.randint(
        0, 256, (count, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def normalized(pictures):
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return ((pictures / 255 - mean) / std).permute(0, 3, 1, 2)


def test_the_published_size_trains_its_adapters_alone():
    with torch.device("meta"):
        encoder = DINOv2(DINOV2_SIZES["small"])
    trained = {name: p.numel() for name, p in encoder.named_parameters() if p.requires_grad}
    frozen = sum(p.numel() for p in encoder.parameters() if not p.requires_grad)
    assert encoder.dim == 384
    assert frozen == 22_056_576  # ViT-S/14 with its 37 x 37 positions
    assert sum(trained.values()) == 3 * 4 * (6 * 384 + 2 * (384 + 1536)) == 73_728
    assert all(any(f"layer.{i}." in name for i in (9, 10, 11)) and ".lora_" in name for name in trained)


def plain_of(encoder):
    """transformers' own, with the weights of ours."""
    plain = Dinov2Model(Dinov2Config(**TINY)).eval()
    plain.load_state_dict({k: v for k, v in encoder.vit.state_dict().items() if ".lora_" not in k})
    return plain


def test_the_class_token_is_the_frame_vector():
    torch.manual_seed(0)
    encoder = DINOv2(TINY).eval()
    with torch.no_grad():
        theirs = plain_of(encoder)(normalized(frames())).last_hidden_state[:, 0]
        torch.testing.assert_close(encoder(frames()), theirs, atol=1e-5, rtol=1e-4)


def test_positions_of_another_size_are_interpolated_as_in_the_first_release(monkeypatch):
    torch.manual_seed(0)
    encoder = DINOv2(TINY).eval()
    with torch.no_grad():
        theirs = plain_of(encoder)(normalized(frames(size=56))).last_hidden_state[:, 0]
        ours = encoder(frames(size=56))
        monkeypatch.setattr("signcl.systems.encoders.dinov2.GRID_OFFSET", 0.0)  # what transformers does
        torch.testing.assert_close(encoder(frames(size=56)), theirs, atol=1e-5, rtol=1e-4)
    assert 1e-5 < (ours - theirs).abs().max() < 0.1


def test_chunks_recompute_the_same_dropout_and_the_same_gradient():
    torch.manual_seed(0)
    encoder = DINOv2(TINY, lora_dropout=0.5, chunk=2).train()
    names = [name for name, p in encoder.named_parameters() if p.requires_grad]
    with torch.no_grad():
        for name, p in encoder.named_parameters():
            if name.endswith(".up.weight"):
                p.normal_(std=0.5)
    gradients = []
    for recompute in (True, False):
        torch.manual_seed(7)
        encoder.zero_grad()
        if recompute:
            rows = encoder(frames())
        else:  # the same parts in the same order, nothing thrown away
            rows = torch.cat([encoder._from_pixels(part) for part in frames().tensor_split(2)])
        rows.square().sum().backward()
        gradients.append([p.grad.clone() for p in encoder.parameters() if p.requires_grad])
    for name, first, second in zip(names, *gradients):
        torch.testing.assert_close(first, second, msg=lambda m, n=name: f"{n}: {m}")
    assert all(g.any() for g in gradients[0])
    assert all(p.grad is None for p in encoder.parameters() if not p.requires_grad)


def recipe(**model):
    return recipe_from_dict({"stage": "pretrain", "model": {"name": "pgp", "visual": "dinov2", "width": 16, "heads": 2,
                             "ffn": 16, **model}})  # fmt: skip


def started(r, **described):
    torch.manual_seed(3)
    model = build_model(r, WORDS, None, targets=TARGETS, **described)
    return model.eval(), initialise(model, r)


def test_a_folder_of_transformers_starts_it_and_the_run_is_whole_without(tmp_path):
    torch.manual_seed(1)
    theirs = Dinov2Model(Dinov2Config(**TINY)).eval()
    theirs.save_pretrained(tmp_path / "dino")
    r = recipe(visual_weights=f"pretrained:{tmp_path}/dino", dinov2={"lora_blocks": 1})
    model, said = started(r)
    assert len(said) == 1
    assert "no tensor missing" in said[0]
    with torch.no_grad():
        expected = theirs(normalized(frames())).last_hidden_state[:, 0]
        torch.testing.assert_close(model.visual(frames()), expected, atol=1e-5, rtol=1e-4)
    run = tmp_path / "run"
    run_folder.save_run_start(run, r, WORDS, None, TARGETS)
    run_folder.save_weights(run, model)
    run_folder.save_card(run, {"feature_dim": None})
    for file in (tmp_path / "dino").iterdir():
        file.unlink()
    (tmp_path / "dino").rmdir()
    loaded = runs.load_run(run)
    with torch.no_grad():
        assert torch.equal(loaded.model.visual(frames()), model.visual(frames()))
    assert json.loads((run / "architecture.json").read_text())["visual"]["hidden_size"] == 24


def original_names(model):
    """The tensors of a Dinov2Model under the names of the first release, query, key and value in one."""
    outer = {"embeddings.cls_token": "cls_token", "embeddings.mask_token": "mask_token",
             "embeddings.position_embeddings": "pos_embed",
             "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
             "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
             "layernorm.weight": "norm.weight", "layernorm.bias": "norm.bias"}  # fmt: skip
    state, out = model.state_dict(), {}
    for name, value in state.items():
        if name in outer:
            out[outer[name]] = value
        elif ".q_proj." in name:
            qkv = [state[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            out[name.replace("encoder.layer", "blocks").replace("attention.q_proj", "attn.qkv")] = torch.cat(qkv)
        elif ".k_proj." not in name and ".v_proj." not in name:
            new = name.replace("encoder.layer", "blocks").replace("attention.o_proj", "attn.proj")
            out[new.replace("layer_scale1.lambda1", "ls1.gamma").replace("layer_scale2.lambda1", "ls2.gamma")] = value
    return out


def test_the_names_of_the_first_release_start_it(tmp_path):
    torch.manual_seed(1)
    theirs = Dinov2Model(Dinov2Config(**DINOV2_SIZES["tiny"])).eval()
    names = original_names(theirs)
    assert {"blocks.0.attn.qkv.weight", "blocks.3.ls2.gamma", "blocks.1.mlp.fc1.bias", "pos_embed"} <= set(names)
    torch.save(names, tmp_path / "dinov2_pretrain.pth")
    model, said = started(recipe(visual_weights=f"pretrained:{tmp_path}/dinov2_pretrain.pth"))
    assert "original names" in said[0]
    with torch.no_grad():
        expected = theirs(normalized(frames())).last_hidden_state[:, 0]
        torch.testing.assert_close(model.visual(frames()), expected, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match=r"tensors do not fit this DINOv2, .*set model.dinov2.vit to the size"):
        started(recipe(visual_weights=f"pretrained:{tmp_path}/dinov2_pretrain.pth", dinov2={"vit": "small"}))
    del names["blocks.1.norm1.bias"]
    torch.save(names, tmp_path / "broken.pth")
    with pytest.raises(ValueError, match=r"first encoder.layer.1.norm1.bias is missing"):
        started(recipe(visual_weights=f"pretrained:{tmp_path}/broken.pth"))


def test_the_published_names_on_the_hub_are_read(tmp_path):
    """facebook/dinov2-small was saved with `attention.attention.query`, which transformers has since renamed."""
    from safetensors.torch import save_file

    torch.manual_seed(1)
    theirs = Dinov2Model(Dinov2Config(**TINY)).eval()
    theirs.save_pretrained(tmp_path)
    hub = {}
    for name, value in theirs.state_dict().items():
        for letter, word in (("q", "query"), ("k", "key"), ("v", "value")):
            name = name.replace(f"attention.{letter}_proj", f"attention.attention.{word}")
        hub[name.replace("attention.o_proj", "attention.output.dense")] = value.contiguous()
    assert "encoder.layer.0.attention.attention.query.weight" in hub
    save_file(hub, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model, _ = started(recipe(visual_weights=f"pretrained:{tmp_path}"))
    with torch.no_grad():
        expected = theirs(normalized(frames())).last_hidden_state[:, 0]
        torch.testing.assert_close(model.visual(frames()), expected, atol=1e-5, rtol=1e-4)


def test_what_does_not_fit_is_said(tmp_path):
    with pytest.raises(ValueError, match="needs 0 to the 3 blocks of this DINOv2, got 4"):
        DINOv2(TINY, lora_blocks=4)
    assert not any(p.requires_grad for p in DINOv2(TINY, lora_blocks=0).parameters())
    with pytest.raises(ValueError, match=r"model.visual=dinov2 needs video frames"):
        build_visual("dinov2", feature_dim=8)
    with pytest.raises(ValueError, match=r"with a config.json, and no such hub id"):
        started(recipe(visual_weights=f"pretrained:{tmp_path}/none"))
