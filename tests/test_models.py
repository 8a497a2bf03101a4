"""GFSLT and VLP: published sizes, padding, decoding, learning, and what one hands to the other."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from systems import make
from torch.nn import functional as F

from signcl.data.batch import Batch, pack_positions
from signcl.systems import system_class, system_names
from signcl.systems.encoders import Identity, ResNet, SmallCNN
from signcl.systems.gfslt import GFSLT
from signcl.systems.parts.transfer import load_language_model, transfer
from signcl.systems.recogniser import Recogniser
from signcl.systems.slt import SLT
from signcl.systems.vlp import VLP

PAD, START, END, MASK, VOCAB = 1, 3, 2, 4, 24
IDS = {"vocab_size": VOCAB, "pad_id": PAD, "start_id": START}
SMALL = {"width": 32, "conv_width": 32, "encoder_layers": 2, "decoder_layers": 2, "heads": 4, "ffn": 64}
TEXT = {"text_layers": 2, "text_heads": 4, "text_ffn": 64, "text_dropout": 0.1}


def batch_of(lengths: list[int], sentences: list[list[int]] | None = None, seed: int = 0, dim: int = 12) -> Batch:
    """Clips of random features with random sentences."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(sum(lengths), dim, generator=generator)
    if sentences is None:
        sentences = [[*[5 + i, 6, 7 + 2 * i, 8][: 1 + (n + i) % 4], END] for i, n in enumerate(lengths)]
    longest = max(map(len, sentences))
    tokens = torch.tensor([words + [PAD] * (longest - len(words)) for words in sentences])
    masked = tokens.clone()
    masked[:, 0] = MASK
    token_lengths = torch.tensor([len(words) for words in sentences])
    return Batch(
        names=[f"clip{i}" for i in range(len(lengths))],
        texts=[""] * len(lengths),
        inputs=rows,
        positions=pack_positions(lengths),
        lengths=torch.tensor(lengths),
        max_length=max(lengths),
        num_words=token_lengths,
        tokens=tokens,
        token_lengths=token_lengths,
        masked_tokens=masked,
        masked_token_lengths=token_lengths,
    )


def one_of(batch: Batch, row: int) -> Batch:
    """The same clip, alone: without the padding of its batch."""
    start = int(batch.lengths[:row].sum())
    frames, words = int(batch.lengths[row]), int(batch.token_lengths[row])
    one = batch_of([frames], [batch.tokens[row, :words].tolist()])
    one.inputs = batch.inputs[start : start + frames]
    return one


def gfslt(seed: int = 0, dim: int = 12, visual: torch.nn.Module | None = None, **changes) -> GFSLT:
    torch.manual_seed(seed)
    return make(GFSLT, visual or Identity(dim), **IDS, end_id=END, **(SMALL | changes))


def vlp(seed: int = 0, visual: torch.nn.Module | None = None, **changes) -> VLP:
    torch.manual_seed(seed)
    return make(VLP, visual or Identity(12), **IDS, **(SMALL | TEXT | changes))


def test_gfslt_has_the_parameters_of_the_official_finetuning_log():
    with torch.device("meta"):
        model = make(GFSLT, ResNet(18), vocab_size=2454, pad_id=1, start_id=2430, end_id=2)
    assert sum(p.numel() for p in model.parameters()) == 115_412_544


def test_sizes_with_the_pretrained_decoder_and_on_csl_daily_are_those_of_the_signcl_logs():
    # The logs print one number each; the vocabularies follow from it: 2308 rows in one table, 2 tables of 6036.
    with torch.device("meta"):
        sizes = {"decoder_layers": 12, "decoder_heads": 16, "activation": "gelu", "tie_embeddings": True}
        finetuning = make(GFSLT, ResNet(18), vocab_size=2308, pad_id=1, start_id=2, end_id=2, **sizes)
        pretraining = make(VLP, ResNet(18), vocab_size=6036, pad_id=1, start_id=2)
    assert sum(p.numel() for p in finetuning.parameters()) == 263_920_192
    counted = [p for name, p in pretraining.named_parameters() if not name.startswith(("decoder.", "lm_head."))]
    assert sum(p.numel() for p in counted) == 223_511_105


def test_vlp_has_the_parameters_of_the_official_pretraining_log():
    with torch.device("meta"):
        model = make(VLP, ResNet(18), vocab_size=2454, pad_id=1, start_id=2430)
        contrast_only = make(VLP, ResNet(18), vocab_size=2454, pad_id=1, start_id=2430, masked_text=False)
    sizes = {}
    for name, parameter in model.named_parameters():
        part = name.split(".")[0]
        sizes[part] = sizes.get(part, 0) + parameter.numel()
    text_decoder = sizes.pop("decoder") + sizes.pop("lm_head")  # a model and an optimizer of its own in the release
    assert sum(sizes.values()) == 216_175_169
    assert text_decoder == 53_957_632
    # V1 lacks the table that the released clip encoder carries and never reads
    assert sum(p.numel() for p in contrast_only.parameters()) == 216_175_169 - 2454 * 1024
    assert sizes == {
        "visual": 11_176_512,
        "conv": 7_870_464,
        "cls_token": 1024,
        "encoder": 38_843_392,
        "head": 1_048_576,
        "text_encoder": 154_722_304,
        "logit_scale": 1,
        "words": 2_512_896,
    }


def test_gfslt_shapes_and_zero_padding():
    batch = batch_of([9, 20, 1])
    out = gfslt()(batch)
    assert out.features.shape == (3, 20, 12)
    assert out.steps.shape == (3, 6, 32)
    assert out.logits.shape == (*batch.tokens.shape, VOCAB)
    assert out.step_lengths.tolist() == [4, 6, 2]
    assert (out.features[0, 9:] == 0).all()
    torch.testing.assert_close(out.features[0, :9], batch.inputs[:9])


def test_a_clip_alone_scores_as_in_a_padded_batch():
    batch, model = batch_of([9, 40, 1, 16]), gfslt().eval()
    together = model(batch)
    for row in range(4):
        alone = model(one_of(batch, row))
        words = int(batch.token_lengths[row])
        torch.testing.assert_close(alone.logits[0], together.logits[row, :words], rtol=1e-4, atol=1e-4)


def test_a_clip_alone_embeds_as_in_a_padded_batch():
    batch, model = batch_of([9, 40, 1, 16]), vlp().eval()
    together = model(batch)
    for row in range(4):
        alone = model(one_of(batch, row))
        words = int(batch.token_lengths[row])
        torch.testing.assert_close(alone.video_embedding[0], together.video_embedding[row], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(alone.text_embedding[0], together.text_embedding[row], rtol=1e-4, atol=1e-4)
        restored = together.masked_logits[row, :words]
        torch.testing.assert_close(alone.masked_logits[0], restored, rtol=1e-4, atol=1e-4)


def test_padding_does_not_touch_training_statistics():
    batch = batch_of([9, 16])
    results = []
    for longest in (16, 40):
        model = gfslt()
        features = torch.full((2, longest, 12), 7.0)
        features[0, :9], features[1, :16] = batch.inputs[:9], batch.inputs[9:]
        model.sign_emb(*model.conv(features, batch.lengths))
        results.append((model.conv.norm2.running_var, model.sign_emb.norm.running_mean))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def greedy_by_hand(model: GFSLT, batch: Batch, steps: int) -> list[list[int]]:
    sentences = []
    for row in range(len(batch)):
        words: list[int] = []
        while len(words) < steps and END not in words:
            one = one_of(batch, row)
            one.tokens = torch.tensor([[*words, PAD]])  # the last input is predicted from, its value is not read
            one.token_lengths = torch.tensor([len(words) + 1])
            words.append(int(model(one).logits[0, -1].argmax()))
        sentences.append(words)
    return sentences


def test_greedy_generation_is_argmax_by_hand():
    batch, model = batch_of([9, 24, 1]), gfslt(seed=1).eval()
    with torch.no_grad():
        model.mbart.lm_head.weight[END] *= 3  # so that some sentences end early
        expected = greedy_by_hand(model, batch, 8)
    generated = model.generate(batch, num_beams=1, max_new_tokens=8)
    padded = [words + [PAD] * (generated.shape[1] - len(words)) for words in expected]
    assert generated.tolist() == padded


def test_beams_do_not_see_padding():
    batch, model = batch_of([9, 40, 1]), gfslt(seed=2).eval()
    together = model.generate(batch, num_beams=3, max_new_tokens=6)
    for row in range(3):
        alone = model.generate(one_of(batch, row), num_beams=3, max_new_tokens=6)[0].tolist()
        padded = alone + [PAD] * (together.shape[1] - len(alone))
        assert together[row].tolist() == padded


def test_generation_refuses_what_it_has_no_positions_for():
    model = gfslt(max_positions=16).eval()
    with pytest.raises(ValueError, match=r"max_new_tokens in 1..15 .* got 1 and 16"):
        model.generate(batch_of([9]), num_beams=1, max_new_tokens=16)


def test_four_clips_are_learned_by_heart_from_pixels():
    sentences = [[5, 6, 7, END], [8, 5, END], [9, 10, 11, 12, END], [7, 7, 13, END]]
    batch = batch_of([12, 20, 9, 14], sentences)
    batch.inputs = torch.randint(0, 256, (55, 24, 24, 3), dtype=torch.uint8)
    model = gfslt(visual=SmallCNN(32), width=64, conv_width=64, dropout=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 60)  # the running statistics catch up at its end
    for _ in range(60):
        loss = F.cross_entropy(model(batch).logits.flatten(0, 1), batch.tokens.flatten(), ignore_index=PAD)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    assert loss < 0.1
    model.eval()
    for beams in (1, 4):
        words = model.generate(batch, num_beams=beams, max_new_tokens=10).tolist()
        assert [[w for w in row if w != PAD] for row in words] == sentences


def test_every_parameter_has_a_gradient():
    batch = batch_of([9, 20])
    for model, loss_of in (
        (gfslt(tie_embeddings=True), lambda out: out.logits.square().mean()),
        (gfslt(form="as_released"), lambda out: out.logits.square().mean()),
        (vlp(masked_text=False), lambda out: (out.video_embedding * out.text_embedding).sum() * out.logit_scale),
        (
            vlp(sign_emb=True),
            lambda out: (
                (out.video_embedding * out.text_embedding).sum() * out.logit_scale + out.masked_logits.square().mean()
            ),
        ),
    ):
        loss_of(model(batch)).backward()
        assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_restoring_the_masked_sentence_trains_the_decoder_and_the_text_encoder_only_if_asked():
    for asked in (False, True):
        model = vlp(visual=SmallCNN(12), masked_text_trains_encoder=asked)
        batch = batch_of([9, 4])
        batch.inputs = torch.zeros(13, 16, 16, 3, dtype=torch.uint8)
        model(batch).masked_logits.square().mean().backward()
        moved = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
        assert moved == {"words", "decoder", "lm_head"} | ({"text_encoder"} if asked else set())


def test_half_precision_is_finite():
    batch = batch_of([9, 20])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = gfslt()(batch)
        pretrained = vlp()(batch)
    out.logits.float().sum().backward()
    assert out.logits.isfinite().all()
    assert pretrained.video_embedding.isfinite().all()


@pytest.mark.parametrize("tied", [False, True])
def test_weights_have_one_name_each_and_come_back(tmp_path, tied):
    batch = batch_of([9, 20])
    for system in (gfslt, vlp):
        model = system(tie_embeddings=tied).eval()
        save_file(model.state_dict(), tmp_path / "model.safetensors")  # refuses two names for one tensor
        other = system(seed=5, tie_embeddings=tied).eval()
        other.load_state_dict(load_file(tmp_path / "model.safetensors"))
        field = "logits" if system is gfslt else "masked_logits"
        assert torch.equal(getattr(model(batch), field), getattr(other(batch), field))


def test_transfer_carries_everything_but_the_sign_embedding():
    source, target = vlp(), gfslt(seed=9)
    untouched = target.sign_emb.linear.weight.clone()
    report = transfer(source, target)
    assert {name.split(".")[0] for name in report.fresh_target} == {"sign_emb"}
    assert {name.split(".")[0] for name in report.not_transferred_source} == {
        "cls_token",
        "head",
        "text_encoder",
        "logit_scale",
    }
    assert set(report.transferred) | set(report.fresh_target) == set(target.state_dict())
    for mine, theirs in (
        (target.mbart.lm_head.weight, source.lm_head.weight),
        (target.mbart.model.shared.weight, source.words.weight),
        (target.mbart.model.decoder.layers[1].fc1.weight, source.decoder.layers[1].fc1.weight),
        (target.mbart.model.encoder.layers[1].fc1.weight, source.encoder.layers[1].fc1.weight),
        (target.conv.norm2.running_var, source.conv.norm2.running_var),
        (target.sign_emb.linear.weight, untouched),
    ):
        assert torch.equal(mine, theirs)
    # the clip's own token stood at position 0: step i keeps the row it had at position i + 1
    rows, old = target.mbart.model.encoder.embed_positions.weight, source.encoder.embed_positions.weight
    assert torch.equal(rows[2:-1], old[3:])
    assert "start fresh: sign_emb" in str(report)


def test_transfer_from_a_state_dict_and_with_a_pretrained_sign_embedding():
    source, target = vlp(sign_emb=True), gfslt(seed=9)
    report = transfer(source.state_dict(), target)
    assert report.fresh_target == ()
    assert torch.equal(target.sign_emb.linear.weight, source.sign_emb.linear.weight)


def test_transfer_from_version_1_starts_the_decoder_fresh_with_the_text_encoders_words():
    source, target = vlp(masked_text=False), gfslt(seed=9)
    report = transfer(source, target)
    parts = {".".join(name.split(".")[:3]) for name in report.fresh_target}
    assert parts == {
        "sign_emb.linear.weight",
        "sign_emb.linear.bias",
        "mbart.model.decoder",
        "mbart.lm_head.weight",
    } | {name for name in report.fresh_target if name.startswith("sign_emb.norm")}
    assert torch.equal(target.mbart.model.shared.weight, source.text_encoder.embed_tokens.weight)


def test_transfer_as_released_drops_the_word_head_and_overwrites_the_words():
    source, target = vlp(), gfslt(seed=9)
    head, raw = target.mbart.lm_head.weight.clone(), torch.full((VOCAB, 32), 0.5)
    report = transfer(source, target, as_released=True, raw_words=raw)
    assert "lm_head.weight" in report.not_transferred_source
    assert "words.weight" in report.not_transferred_source
    assert torch.equal(target.mbart.lm_head.weight, head)
    assert torch.equal(target.mbart.model.shared.weight, raw)
    assert torch.equal(target.mbart.model.encoder.embed_positions.weight, source.encoder.embed_positions.weight)
    assert "mbart.model.decoder.embed_positions.weight" in report.fresh_target


def test_transfer_refuses_other_sizes_by_name_and_changes_nothing():
    target = gfslt()
    before = {key: value.clone() for key, value in target.state_dict().items()}
    with pytest.raises(ValueError, match=r"tensors do not fit .* \[32\] in the target\).* same model sizes"):
        transfer(vlp(width=64, conv_width=64), target)
    with pytest.raises(ValueError, match=r"mbart.model.encoder.layers.1.* \(absent in the source\)"):
        transfer(vlp(encoder_layers=1), target)
    with pytest.raises(ValueError, match="pretraining run of model vlp, this one holds conv, mbart, sign_emb"):
        transfer(gfslt().state_dict(), target)
    for key, value in target.state_dict().items():
        assert torch.equal(value, before[key])


def test_a_published_language_model_starts_text_encoder_and_words():
    from transformers import MBartForConditionalGeneration

    from signcl.systems.parts.mbart import mbart_config

    sizes = {"vocab_size": VOCAB, "pad_id": PAD, "width": 32, "encoder_layers": 2, "decoder_layers": 1, "heads": 4}
    numbers = {"ffn": 64, "dropout": 0.1, "attention_dropout": 0.0, "activation": "gelu", "max_positions": 1024}
    mbart = MBartForConditionalGeneration(mbart_config(**sizes, **numbers)).eval()
    pretraining, finetuning = vlp(text_activation="gelu").eval(), gfslt()
    report = load_language_model(pretraining, mbart.state_dict())
    assert report.fresh_target == ()
    words = mbart.model.shared.weight
    assert torch.equal(pretraining.words.weight, words)
    assert torch.equal(pretraining.text_encoder.embed_tokens.weight, words)
    batch = batch_of([9, 20])
    mbart.set_input_embeddings(mbart.model.shared)
    states = mbart.model.encoder(input_ids=batch.tokens, attention_mask=batch.tokens.ne(PAD)).last_hidden_state
    ours = pretraining.encode_text(batch.tokens, batch.token_lengths)
    torch.testing.assert_close(ours[0, :3], states[0, :3])
    load_language_model(finetuning, mbart.state_dict())
    assert torch.equal(finetuning.mbart.model.shared.weight, words)
    with pytest.raises(ValueError, match="needs an mBART with word embeddings; the tensors are a"):
        load_language_model(finetuning, {"a": words})
    with pytest.raises(ValueError, match=r"absent in the source"):
        load_language_model(vlp(text_layers=3), mbart.state_dict())


def test_models_say_what_they_need():
    batch = batch_of([9, 20])
    batch.tokens = None
    with pytest.raises(ValueError, match=r"GFSLT needs batch.tokens"):
        gfslt()(batch)
    with pytest.raises(ValueError, match=r"VLP needs batch.tokens"):
        vlp()(batch)
    batch = batch_of([9, 20])
    batch.masked_tokens = None
    with pytest.raises(ValueError, match=r"needs batch.masked_tokens; set model.masked_text to false"):
        vlp()(batch)
    with pytest.raises(ValueError, match=r"a clip of 60 frames gives 16 steps, but model.max_positions is 12"):
        gfslt(max_positions=12)(batch_of([60]))
    with pytest.raises(ValueError, match=r"a sentence of 5 tokens needs model.max_positions"):
        gfslt(max_positions=4)(batch_of([9], [[5, 6, 7, 8, END]]))
    with pytest.raises(ValueError, match=r"model.heads: 5 does not divide model.width 32"):
        gfslt(heads=5)
    with pytest.raises(ValueError, match=r"conv_width equal to model.width"):
        vlp(conv_width=16)
    with pytest.raises(ValueError, match="got 'gfslr'; did you mean gfslt"):
        system_class("gfslr")


def test_every_named_system_is_there():
    systems = {"gfslt": GFSLT, "recogniser": Recogniser, "slt": SLT, "vlp": VLP}
    assert systems.items() <= {name: system_class(name) for name in system_names()}.items()
