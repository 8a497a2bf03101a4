"""Published weights through the real loading code, on small random checkpoints that transformers itself has saved."""

import pytest
import torch
from systems import having
from transformers import MBartConfig, MBartForConditionalGeneration, ResNetConfig, ResNetModel

from signcl.data.text import build_tokenizer
from signcl.systems.encoders import initialise_visual
from signcl.systems.parts.checkpoints import read_tensors
from signcl.training.recipe import recipe_from_dict
from signcl.training.runs import build_model, initialise

TEXTS = ["am montag regen", "am dienstag sonne", "regen und sonne am montag"]
TOKENIZER = build_tokenizer("sentencepiece", TEXTS, vocab_size=60)
SIZES = {"visual": "resnet18", "conv_width": 32, "width": 32, "encoder_layers": 1, "decoder_layers": 1, "heads": 2,
         "ffn": 64, "text_layers": 2, "text_heads": 4, "text_ffn": 64, "text_activation": "gelu",
         "max_positions": 64}  # fmt: skip


SYSTEM = {"pretrain": "vlp", "finetune": "gfslt"}


@pytest.fixture(scope="module")
def mbart(tmp_path_factory):
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("mbart")
    config = MBartConfig(
        vocab_size=TOKENIZER.vocab_size, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=64,
        scale_embedding=True,
    )  # fmt: skip
    model = MBartForConditionalGeneration(config)
    model.save_pretrained(folder)
    TOKENIZER.save(folder)
    return folder, model.state_dict()


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(2)
    config = ResNetConfig(hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic")
    return ResNetModel(config)


def recipe(stage, **model):
    return recipe_from_dict(
        {
            "stage": stage,
            "model": {"name": SYSTEM[stage], **having(SYSTEM[stage], SIZES), **model},
            "decode": {"max_new_tokens": 20},
        }
    )


def test_the_text_encoder_of_pretraining_starts_from_an_mbart_folder(mbart):
    folder, weights = mbart
    r = recipe("pretrain", language_model=f"pretrained:{folder}")
    model = build_model(r, TOKENIZER, None)
    said = initialise(model, r)
    assert len(said) == 1
    own = model.state_dict()
    for layer in (0, 1):
        key = f"layers.{layer}.fc1.weight"
        assert torch.equal(own[f"text_encoder.{key}"], weights[f"model.encoder.{key}"])
    assert torch.equal(own["text_encoder.embed_tokens.weight"], weights["model.shared.weight"])


def test_the_word_table_of_finetuning_starts_from_an_mbart_folder(mbart):
    folder, weights = mbart
    r = recipe("finetune", language_model=f"pretrained:{folder}")
    model = build_model(r, TOKENIZER, None)
    initialise(model, r)
    assert torch.equal(model.state_dict()["mbart.model.shared.weight"], weights["model.shared.weight"])


@pytest.mark.parametrize("form", ["folder", "file", "wrapped"])
def test_the_frame_encoder_starts_from_a_resnet(resnet, form, tmp_path):
    if form == "folder":
        resnet.save_pretrained(tmp_path)
        source = tmp_path
    else:
        source = tmp_path / "resnet.pth"
        torch.save({"state_dict": resnet.state_dict()} if form == "wrapped" else resnet.state_dict(), source)
    r = recipe("finetune", visual_weights=f"pretrained:{source}")
    model = build_model(r, TOKENIZER, None).eval()
    initialise(model, r)
    frames = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = ((frames / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.no_grad():
        theirs = resnet.eval()(pixels).pooler_output.flatten(1)
        torch.testing.assert_close(model.visual(frames), theirs, rtol=1e-4, atol=1e-4)


def test_a_frame_encoder_from_a_run_needs_the_prefix():
    visual = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"^model.visual_weights: needs pretrained:FILE, pretrained:RUN .* 'runs/a'$"):
        initialise_visual(visual, "runs/a", lambda folder: pytest.fail("the run was taken all the same"))


def test_what_cannot_be_read_is_named(mbart, tmp_path):
    with pytest.raises(ValueError, match="needs pretrained:FILE"):
        read_tensors(str(tmp_path), "model.visual_weights")
    with pytest.raises(FileNotFoundError, match="has none of"):
        read_tensors(f"pretrained:{tmp_path}", "model.visual_weights")
    (tmp_path / "rubbish.pth").write_bytes(b"rubbish")
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        read_tensors(f"pretrained:{tmp_path}/rubbish.pth", "model.visual_weights")
    torch.save({"epoch": 3}, tmp_path / "nothing.pth")
    with pytest.raises(ValueError, match="holds no tensors"):
        read_tensors(f"pretrained:{tmp_path}/nothing.pth", "model.visual_weights")
    r = recipe("finetune", language_model=f"pretrained:{mbart[0]}", width=64, conv_width=64)
    with pytest.raises(ValueError, match="64"):
        initialise(build_model(r, TOKENIZER, None), r)


class Harmful:
    def __reduce__(self):
        import os

        return os.system, ("touch /tmp/signcl-harmed",)


def test_a_checkpoint_cannot_run_code(tmp_path):
    import os

    torch.save({"state_dict": Harmful()}, tmp_path / "harm.pth")
    with pytest.raises(ValueError, match=r"posix\.system.*read as data only"):
        read_tensors(f"pretrained:{tmp_path}/harm.pth", "model.visual_weights")
    assert not os.path.exists("/tmp/signcl-harmed")


def test_as_released_needs_the_language_model_that_overwrites(tmp_path):
    from signcl.training import run_folder

    r = recipe("pretrain", visual="small_cnn", visual_dim=16)
    run = tmp_path / "pre"
    run_folder.save_run_start(run, r, TOKENIZER)
    run_folder.save_weights(run, build_model(r, TOKENIZER, None))
    run_folder.save_card(run, {"feature_dim": None})
    fine = recipe("finetune", visual="small_cnn", visual_dim=16, init_from=str(run), form="as_released")
    with pytest.raises(ValueError, match=r"set model\.language_model too"):
        initialise(build_model(fine, TOKENIZER, None), fine)


def test_finetuning_needs_the_convolution_of_its_pretraining(tmp_path):
    from signcl.training import run_folder

    sizes = {"visual": "small_cnn", "visual_dim": 16}
    r, run = recipe("pretrain", conv="k5p2", **sizes), tmp_path / "pre"
    source = build_model(r, TOKENIZER, None)
    run_folder.save_run_start(run, r, TOKENIZER)
    run_folder.save_weights(run, source)
    run_folder.save_card(run, {"feature_dim": None})
    for kind in ("k3", "k5p2k5p2"):
        fine = recipe("finetune", conv=kind, init_from=str(run), **sizes)
        with pytest.raises(
            ValueError, match=rf"^model\.conv={kind}: the convolution of model\.init_from is k5p2; give"
        ):
            initialise(build_model(fine, TOKENIZER, None), fine)
    fine = recipe("finetune", conv="k5p2", init_from=str(run), **sizes)
    model = build_model(fine, TOKENIZER, None)
    initialise(model, fine)
    assert torch.equal(model.conv.conv1.weight, source.conv.conv1.weight)
    fine = recipe("finetune", conv="k3", init_from=str(run), init_parts=["visual"], **sizes)
    initialise(build_model(fine, TOKENIZER, None), fine)


def test_a_model_that_no_machine_holds_is_refused_before_it_is_built(tmp_path):
    # It used to take all memory, layer by layer.
    huge = {"width": 65536, "ffn": 1_000_000, "encoder_layers": 60, "decoder_layers": 60, "heads": 4}
    r = recipe_from_dict({"model": {"name": "gfslt", "visual": "feature_mlp", **huge}, "out": str(tmp_path)})
    with pytest.raises(ValueError, match=r"this model would have \d\.\d+e\+13 parameters, .* GB, and this machine has"):
        build_model(r, TOKENIZER, 8)
