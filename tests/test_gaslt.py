"""GASLT: gloss attention against plain loops and grid_sample, similarity transfer, vectors of sentences and words."""

import gzip
import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from systems import losses, make, terms_on
from test_slt import DIM, SMALL, WORDS, some_batch, write_corpus
from torch.utils._python_dispatch import TorchDispatchMode

from signcl import evaluate, fit
from signcl.data.batch import Sample, frame_mask
from signcl.data.loading import ClipDataset, collate
from signcl.data.text import VocabularyTokenizer, build_tokenizer, is_spaced
from signcl.data.text.word_vectors import read_vectors
from signcl.inference.translation import load_model, translate
from signcl.losses import sentence_similarity_loss
from signcl.systems.encoders import build_visual
from signcl.systems.gaslt import GASLT, LocalAttention, neighbours
from signcl.systems.targets.sentence_encoder import SentenceEncoder
from signcl.systems.targets.sentences import PretrainedVectors, TfidfVectors
from signcl.systems.terms import weighted_sum
from signcl.training import runs
from signcl.training.recipe import recipe_from_dict, recipe_samples
from signcl.training.runs import build_model, initialise

LENGTHS = [1, 2, 9, 5, 12]
T, WIDTH, HEADS = 12, 12, 3


def attention(edge="stop", keys=7, seed=0):
    torch.manual_seed(seed)
    made = LocalAttention(WIDTH, HEADS, 0.0, keys=keys, edge=edge)
    with torch.no_grad():
        made.offset.weight.mul_(8)  # offsets of several frames, past both ends of the clip
        made.offset.bias.normal_(0, 2)
    return made


def states_of(lengths, padded=T, seed=1):
    torch.manual_seed(seed)
    return torch.randn(len(lengths), padded, WIDTH), torch.tensor(lengths)


def taken(rows, place, length, edge):
    """The row at a real-valued position of a clip, in plain Python. rows [T, d]"""
    padded = len(rows)
    if edge == "released":
        place = place % max(length - 1, 1)  # Python's remainder has the sign of the divisor, as torch's
        place = place * padded / max(padded - 1, 1) - 0.5
        low = math.floor(place)
        total = torch.zeros(rows.shape[1])
        for frame, share in ((low, 1 - (place - low)), (low + 1, place - low)):
            if 0 <= frame < padded:
                total += 0.5 * share * rows[frame]
        return total
    place = place % length if edge == "wrap" else min(max(place, 0), length - 1)
    low = math.floor(place)
    high = (low + 1) % length if edge == "wrap" else min(low + 1, length - 1)
    return (1 - (place - low)) * rows[low] + (place - low) * rows[high]


@pytest.mark.parametrize("keys", [7, 4, 1])
@pytest.mark.parametrize("edge", ["stop", "wrap", "released"])
@torch.no_grad()
def test_gloss_attention_is_a_plain_double_loop(edge, keys):
    made = attention(edge, keys)
    states, lengths = states_of(LENGTHS)
    found = made.among(states, frame_mask(lengths, T))
    size = WIDTH // HEADS
    first = {("released", 7): -4, ("released", 4): -2, ("released", 1): -1}.get((edge, keys), -((keys - 1) // 2))
    for b, length in enumerate(LENGTHS):
        query, key, value = made.query(states[b]), made.key(states[b]), made.value(states[b])
        offsets = made.offset(query)
        for t in range(length):
            heads = []
            for h in range(HEADS):
                part = slice(h * size, (h + 1) * size)
                places = [t + first + k + float(offsets[t, h * keys + k]) for k in range(keys)]
                scores = [
                    float(query[t, part] @ taken(key[:, part], p, length, edge)) / math.sqrt(size) for p in places
                ]
                weights = torch.tensor(scores).softmax(dim=0)
                heads.append(sum(w * taken(value[:, part], p, length, edge) for w, p in zip(weights, places)))
            torch.testing.assert_close(found[b, t], made.out(torch.cat(heads)), atol=1e-4, rtol=1e-4)


def test_places_by_hand():
    # a clip of 5 frames: 0.25 lies a quarter of the way from frame 0 to 1; -1 is before it, 4.5 past its last frame 4
    places, lengths = torch.tensor([[0.25, -1.0, 4.5, 3.0]]), torch.tensor([5])
    frames, share = neighbours(places, lengths, 8, "stop")
    assert frames.tolist() == [[[0, 1], [0, 1], [4, 4], [3, 4]]]
    torch.testing.assert_close(share, torch.tensor([[[0.75, 0.25], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]]))
    frames, share = neighbours(places, lengths, 8, "wrap")
    assert frames.tolist() == [[[0, 1], [4, 0], [4, 0], [3, 4]]]
    torch.testing.assert_close(share[0, 2], torch.tensor([0.5, 0.5]))
    # released: 3 mod 4 = 3, 3 * 8 / 7 - 0.5 = 2.93, and half of it
    frames, share = neighbours(places, lengths, 8, "released")
    assert frames[0, 3].tolist() == [2, 3]
    torch.testing.assert_close(share[0, 3], torch.tensor([0.5 * (1 - 13 / 14), 0.5 * 13 / 14]))
    tiny, _ = neighbours(torch.tensor([[-1e-9]]), lengths, 8, "wrap")  # the remainder rounds to 5.0 itself
    assert int(tiny.max()) < 5


@torch.no_grad()
def test_released_places_are_those_of_grid_sample():
    lengths, places = torch.tensor(LENGTHS), torch.randn(len(LENGTHS), 20) * 9
    rows = torch.randn(len(LENGTHS), 4, 1, T)  # images one row high, as released
    frames, share = neighbours(places, lengths, T, "released")
    own = rows[:, :, 0].gather(2, frames.flatten(1)[:, None].expand(-1, 4, -1)).unflatten(2, (20, 2)) * share[:, None]
    wrapped = places % (lengths - 1).clamp(min=1)[:, None]
    grid = torch.stack([wrapped / (T - 1) * 2 - 1, torch.ones_like(wrapped)], dim=-1)[:, None]
    theirs = F.grid_sample(rows, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[:, :, 0]
    torch.testing.assert_close(own.sum(dim=3), theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("edge", ["stop", "wrap"])
def test_padding_is_never_read_and_clips_do_not_meet(edge):
    made = attention(edge)
    states, lengths = states_of(LENGTHS)
    whole = made.among(states, frame_mask(lengths, T))
    worse = torch.cat([states, torch.zeros(len(LENGTHS), 3, WIDTH)], dim=1)
    worse = worse.masked_fill(~frame_mask(lengths, T + 3)[:, :, None], torch.nan)
    again = made.among(worse, frame_mask(lengths, T + 3))
    for b, length in enumerate(LENGTHS):
        alone = made.among(states[b : b + 1, :length], torch.ones(1, length, dtype=torch.bool))
        torch.testing.assert_close(alone[0], whole[b, :length])
        torch.testing.assert_close(again[b, :length], whole[b, :length])


@pytest.mark.parametrize("edge", ["stop", "wrap", "released"])
def test_the_gradient_is_that_of_small_changes_offsets_included(edge):
    made = attention(edge, keys=3).double()
    states, lengths = states_of([4, 1], padded=5)
    states = states.double().requires_grad_()
    real = frame_mask(lengths, 5)
    assert torch.autograd.gradcheck(lambda x: made.among(x, real)[real], (states,), eps=1e-7, atol=1e-4)
    made.among(states, real).square().sum().backward()
    assert float(made.offset.weight.grad.abs().sum()) > 0


def test_no_tensor_grows_with_the_square_of_the_clip():
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for part in out if isinstance(out, tuple | list) else [out]:
                if isinstance(part, torch.Tensor):
                    largest = max(largest, part.numel())
            return out

    made, padded = attention(), 3000
    states, lengths = states_of([padded], padded=padded)
    with Watch():
        made.among(states, frame_mask(lengths, padded)).sum().backward()
    assert largest <= padded * 7 * 2 * 2 * WIDTH < padded * padded


def model_of(seed=0, **options):
    torch.manual_seed(seed)
    sizes = {"width": 32, "encoder_layers": 2, "decoder_layers": 2, "heads": 4, "ffn": 48, **options}
    visual = build_visual("identity", feature_dim=DIM)
    return make(GASLT, visual, vocab_size=11, pad_id=0, start_id=1, end_id=2, **sizes).eval()


@pytest.mark.parametrize("options", [{}, {"edge": "wrap"}, {"word_dim": 10, "keys": 4}], ids=str)
def test_a_clip_alone_is_translated_as_in_a_padded_batch(options):
    batch, samples, arrays, _ = some_batch([1, 23, 12])
    model = model_of(**options)
    for norm in (model.encoder.embedding.norm, model.decoder.embedding.norm):
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
    together = model(batch)
    for i, (sample, array) in enumerate(zip(samples, arrays)):
        alone = collate([sample], [array])
        length = int(batch.token_lengths[i])
        alone.tokens, alone.token_lengths = batch.tokens[i : i + 1, :length], batch.token_lengths[i : i + 1]
        torch.testing.assert_close(model(alone).logits[0], together.logits[i, :length], atol=1e-4, rtol=0)
        for beams in (1, 4):
            row = model.generate(batch, num_beams=beams, length_penalty=-1.0, max_new_tokens=9)[i].tolist()
            found = model.generate(alone, num_beams=beams, length_penalty=-1.0, max_new_tokens=9)[0].tolist()
            assert found == [token for token in row if token != 0]


def test_the_released_form_depends_on_the_padding_and_has_no_nan_for_one_frame():
    batch, samples, arrays, _ = some_batch([1, 23, 12])
    model = model_of(form="as_released")
    together = model(batch)
    assert torch.isfinite(together.logits).all()
    assert torch.isfinite(model(collated(samples[:1], arrays[:1], batch)).logits).all()
    alone = model(collated(samples[2:], arrays[2:], batch, 2))
    assert (alone.steps[0] - together.steps[2, :12]).abs().max() > 1e-3


def collated(samples, arrays, batch, row=0):
    made = collate(samples, arrays)
    made.tokens, made.token_lengths = batch.tokens[row : row + 1], batch.token_lengths[row : row + 1]
    return made


def test_parameter_counts_by_formula_and_at_the_original_sizes():
    d, w, f, h, k, e, layers, v = 1024, 512, 2048, 8, 7, 300, 2, 3000
    encoder = d * w + w + 2 * w + layers * (4 * w * w + 9 * w + 2 * w * f + f + w * h * k + h * k) + 2 * w
    words = v * e + e * w + w
    decoder = words + 2 * w + layers * (8 * w * w + 15 * w + 2 * w * f + f) + 2 * w + v * w
    with torch.device("meta"):
        visual = build_visual("identity", feature_dim=d)
        model = make(GASLT, visual, vocab_size=v, pad_id=0, start_id=1, end_id=2, word_dim=e)
    assert sum(p.numel() for p in model.parameters()) == encoder + decoder == 17_889_296
    assert model.encoder.layers[0].attention.first == -3
    assert model.encoder.dropout.p == 0.1


def recipe(corpus, out, *, model=None, weights=None, **train):
    return recipe_from_dict({
        "stage": "finetune",
        "out": str(out),
        "corpus": {"name": "folder", "root": str(corpus)},
        "model": {"name": "gaslt", **SMALL, **(model or {})},
        "loss": {"weights": weights or {"translation": 1.0, "sentence_similarity": 1.0}, "label_smoothing": 0.0},
        "train": {"epochs": 2, "batch_size": 4, "device": "cpu", "lr": 5e-3, "optimizer": "adam", "weight_decay": 0,
                  "schedule": "constant", **train},
        "decode": {"beams": 4, "max_new_tokens": 12, "length_penalty": -1.0},
    })  # fmt: skip


@pytest.mark.parametrize("form", ["fixed", "as_released"])
@pytest.mark.slow
def test_four_clips_are_learned_by_heart_and_a_loaded_run_says_the_same(form, tmp_path):
    four = write_corpus(tmp_path / "four", {"train": 4, "dev": 1})
    header, *rows = (four / "train.tsv").read_text().splitlines()
    copies = [f"copy{n}-{row}" for n in range(15) for row in rows]
    (four / "dev.tsv").write_text("\n".join([header, *rows]) + "\n")
    (four / "train.tsv").write_text("\n".join([header, *copies]) + "\n")
    r = recipe(four, tmp_path / "run", model={"form": form}, epochs=5, evaluate_every=5, bucket=False)
    folder = fit(r, progress=False)
    run = runs.load_run(folder)
    data = ClipDataset(
        recipe_samples(run.recipe, "dev"), run.tokenizer, run.recipe.reading, training=False, targets=run.targets
    )
    batch = data[[0, 1, 2, 3]].batch
    with torch.no_grad():
        terms = losses(run.model, batch, run.recipe)
    assert float(weighted_sum(terms, run.recipe.loss.weights)) < 0.1
    assert runs.load_run(folder).model.generate(batch).equal(run.model.generate(batch))
    assert evaluate(folder, "dev", bootstrap=0, progress=False)["bleu4"] == pytest.approx(100)
    said = translate(load_model(folder, device="cpu"), four / "train0.npy").text
    assert said == data.samples[0].text


# -- similarity transfer -----------------------------------------------------------------------------------------------


def test_similarity_by_hand():
    # clips at a right angle, cosine 0; sentences at 60 degrees, cosine 1/2: (0 - 1/2)^2
    clips = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    sentences = torch.tensor([[1.0, 0.0], [0.5, math.sqrt(0.75)]])
    torch.testing.assert_close(sentence_similarity_loss(clips, sentences), torch.tensor(0.25))
    assert float(sentence_similarity_loss(clips, torch.tensor([[1.0], [0.0]]))) == 0  # no word known: cosine 0


def test_similarity_is_a_plain_double_loop():
    torch.manual_seed(0)
    clips, sentences = torch.randn(6, 5), torch.randn(6, 9)
    errors = [
        float(F.cosine_similarity(clips[i], clips[j], 0) - F.cosine_similarity(sentences[i], sentences[j], 0)) ** 2
        for i in range(6)
        for j in range(i + 1, 6)
    ]
    assert float(sentence_similarity_loss(clips, sentences)) == pytest.approx(sum(errors) / 15, abs=1e-6)


def test_similarity_of_one_clip_is_exactly_zero_with_a_gradient():
    clips = torch.randn(1, 5, requires_grad=True)
    loss = sentence_similarity_loss(clips, torch.randn(1, 3))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(clips.grad, torch.zeros(1, 5))
    for wrong in (torch.randn(2, 3), torch.randn(3)):
        with pytest.raises(ValueError, match="needs a vector per clip"):
            sentence_similarity_loss(clips, wrong)


def test_the_term_pools_real_frames_alone_and_wants_its_targets():
    batch, *_ = some_batch([7, 23, 12])
    model, recipe = model_of(), recipe_from_dict({"model": {"name": "gaslt"}})
    out = model(batch)
    with pytest.raises(ValueError, match=r"needs batch\.targets"):
        terms_on(out, batch, recipe)
    batch.targets["sentence_similarity"] = torch.randn(3, 5)
    found = terms_on(out, batch, recipe)["sentence_similarity"]
    means = torch.stack([out.steps[i, :n].mean(dim=0) for i, n in enumerate([7, 23, 12])])
    torch.testing.assert_close(found, sentence_similarity_loss(means, batch.targets["sentence_similarity"]))
    again = terms_on(out, batch, recipe, gather=lambda rows: torch.cat([rows, rows]))
    twice = sentence_similarity_loss(torch.cat([means] * 2), torch.cat([batch.targets["sentence_similarity"]] * 2))
    torch.testing.assert_close(again["sentence_similarity"], twice)


# -- vectors of sentences ----------------------------------------------------------------------------------------------


def test_tf_idf_by_hand_and_again_from_a_folder(tmp_path):
    made = TfidfVectors.train(["regen und wind", "regen und sonne", "Regen ."])
    row = dict(zip(made.vocabulary, made(["wind regen regen"])[0].tolist()))
    rare, common = math.log(4 / 2) + 1, 2 * (math.log(4 / 4) + 1)  # wind in 1 of 3 sentences, regen in 3, here twice
    assert row["wind"] == pytest.approx(rare / math.hypot(rare, common))
    assert row["regen"] == pytest.approx(common / math.hypot(rare, common))
    made.save(tmp_path)
    loaded = TfidfVectors.load(tmp_path)
    assert torch.equal(made(["sonne und"]), loaded(["sonne und"]))
    assert not loaded(["nie gehört"]).any()
    (tmp_path / "sentence_similarity.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no sentence_similarity\.json"):
        TfidfVectors.load(tmp_path)


def test_tf_idf_of_a_language_without_spaces_counts_characters():
    texts = ["你 们 好 。", "我们很好", "下雨"]
    made = TfidfVectors.train(texts)
    assert {"你", "你们", "好"} <= set(made.vocabulary)
    near, far = (made(texts) @ made(["你们好"]).T).flatten()[[0, 2]].tolist()
    assert near > 0.5 > far == 0
    assert not is_spaced(texts)
    assert is_spaced(["regen und 雨", "wind", "sonne"])


def write_encoder(folder, *, dense=True, pooling="pooling_mode_mean_tokens", hidden=16):
    """A tiny random BERT as transformers saves it, in sentence-transformers' layout where `dense`."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(words), hidden_size=hidden, num_hidden_layers=2, num_attention_heads=2,
                        intermediate_size=24, max_position_embeddings=20)  # fmt: skip
    BertModel(config).save_pretrained(folder)
    if dense:
        kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense")]
        modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 6}))
        for name in ("1_Pooling", "2_Dense"):
            (folder / name).mkdir()
        (folder / "1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": hidden, pooling: True}))
        activation = "torch.nn.modules.activation.Tanh"
        sizes = {"in_features": hidden, "out_features": 5, "bias": True, "activation_function": activation}
        (folder / "2_Dense/config.json").write_text(json.dumps(sizes))
        linear = torch.nn.Linear(hidden, 5)
        torch.save({f"linear.{k}": v for k, v in linear.state_dict().items()}, folder / "2_Dense/pytorch_model.bin")
    return folder


@pytest.mark.parametrize("dense", [True, False])
@torch.no_grad()
def test_a_pretrained_encoder_pools_real_tokens_and_passes_its_dense_layer(dense, tmp_path):
    from transformers import BertModel, BertTokenizerFast

    folder = write_encoder(tmp_path / "encoder", dense=dense)
    texts = ["regen", "regen und wind und sonne und norden", "wind sonne", "nie gehört"]
    found = SentenceEncoder.load(str(folder))(texts)
    bert, tokenizer = BertModel.from_pretrained(folder).eval(), BertTokenizerFast.from_pretrained(folder)
    for text, row in zip(texts, found):
        ids = tokenizer(text, truncation=True, max_length=6 if dense else 20)["input_ids"]
        wanted = bert(torch.tensor([ids])).last_hidden_state[0].mean(dim=0)
        if dense:
            weights = torch.load(folder / "2_Dense/pytorch_model.bin")
            wanted = torch.tanh(weights["linear.weight"] @ wanted + weights["linear.bias"])
        torch.testing.assert_close(row, wanted, atol=1e-5, rtol=1e-4)


def test_what_is_no_sentence_encoder_is_refused(tmp_path):
    folder = write_encoder(tmp_path / "cls", pooling="pooling_mode_cls_token")
    with pytest.raises(ValueError, match="pools by pooling_mode_cls_token; the mean"):
        SentenceEncoder.load(str(folder))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no folder or hub id with a model and a tokenizer"):
        SentenceEncoder.load(str(tmp_path / "empty"))
    folder = write_encoder(tmp_path / "strange")
    (folder / "modules.json").write_text(json.dumps([{"path": "", "type": "sentence_transformers.models.CNN"}]))
    with pytest.raises(ValueError, match="has a layer CNN"):
        SentenceEncoder.load(str(folder))


def test_sentence_vectors_are_kept_in_the_run_folder_and_the_encoder_is_not_asked_again(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", {"train": 6, "dev": 3, "test": 3})
    encoder = write_encoder(tmp_path / "encoder")
    model = {"sentence_encoder": f"pretrained:{encoder}"}
    r = recipe(corpus, tmp_path / "run", model=model, max_steps=2, epochs=3)
    folder = fit(r, progress=False)
    again = PretrainedVectors.again(str(encoder), folder)
    sentences = {s.text for split in ("train", "dev") for s in recipe_samples(r, split)}
    assert set(again.known) == sentences
    shutil.move(encoder, tmp_path / "moved")
    run = runs.load_run(folder)
    samples = recipe_samples(r, "dev")
    fresh = SentenceEncoder.load(str(tmp_path / "moved"))([s.text for s in samples])
    torch.testing.assert_close(run.targets(samples)["sentence_similarity"], fresh)
    assert evaluate(folder, "test", bootstrap=0, progress=False)["made"]["clips"] == 3  # scores need no vectors
    with pytest.raises(ValueError, match="no folder or hub id with a model"):
        run.targets([Sample("new", "norden norden norden")])
    assert not PretrainedVectors.again(str(tmp_path / "moved"), folder).known  # another encoder: nothing is reused


# -- vectors of words --------------------------------------------------------------------------------------------------


def vectors_file(path, vectors, header=True):
    lines = [f"{word} {' '.join(map(str, row))}" for word, row in vectors.items()]
    size = len(next(iter(vectors.values())))
    path.write_text("\n".join([f"{len(vectors)} {size}"] * header + lines) + "\n", encoding="utf-8")
    return path


def test_word_vectors_are_read_from_text_and_binary(tmp_path):
    vectors = {"regen": [1.0, 2.5, -3.0], "▁wind": [0.5, 0.0, 1e-3], "a\xa0b": [4.0, 5.0, 6.0]}
    plain = vectors_file(tmp_path / "v.txt", vectors)
    bare = vectors_file(tmp_path / "v.vec", vectors, header=False)
    with gzip.open(tmp_path / "v.txt.gz", "wb") as file:
        file.write(plain.read_bytes())
    packed = b"".join(w.encode() + b" " + np.array(row, "<f4").tobytes() + b"\n" for w, row in vectors.items())
    (tmp_path / "v.bin").write_bytes(b"3 3\n" + packed)
    for path in (plain, bare, tmp_path / "v.txt.gz", tmp_path / "v.bin"):
        found = read_vectors(path)
        assert found.keys() == vectors.keys()
        for word, row in vectors.items():
            np.testing.assert_allclose(found[word], row, rtol=1e-6)
        assert read_vectors(path, ["regen", "nie"]).keys() == {"regen"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"regen 1 2\nwind 1\n", "line 2 has 1 numbers where 2 are needed"),
        ("b.txt", b"regen 1 zwei\n", "could not convert"),
        ("c.bin", b"3 3\nregen ", "ends before the last of 3 words"),
        ("d.txt", b"regen 1 nan\n", "NaN or infinite"),
        ("e.bin", b"\x80\x81", "no word vectors"),
    ],
)
def test_what_holds_no_word_vectors_is_named(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_vectors(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no file of word vectors"):
        read_vectors(tmp_path / "absent.txt")


def test_the_word_table_starts_from_a_file(tmp_path):
    path = vectors_file(tmp_path / "v.txt", {"regen": [1.0, 2.0, 3.0], "wind": [4.0, 5.0, 6.0]})
    tokenizer = VocabularyTokenizer(["regen", "sonne", "wind"])
    own = {"word_dim": 3, "word_vectors": f"pretrained:{path}"}
    r = recipe("corpus", "run", model={"visual": "identity", **own})
    model = build_model(r, tokenizer, DIM)
    before = model.decoder.words.weight.clone()
    (said,) = initialise(model, r, tokenizer)
    assert "2 of 8 words found; 6 keep random vectors, e.g. <unk> <mask> sonne" in said
    assert model.decoder.words.weight[[5, 7]].tolist() == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    assert torch.equal(model.decoder.words.weight[6], before[6])
    r = replace(r, model=replace(r.model, word_dim=4))
    with pytest.raises(ValueError, match=r"vectors of size 3, but word embeddings have 4; set model\.word_dim=3"):
        initialise(build_model(r, tokenizer, DIM), r, tokenizer)
    with pytest.raises(ValueError, match="has none of the 6 words"):
        initialise(model, r, VocabularyTokenizer(["schnee"]))


def test_pieces_are_named_as_word_vectors_name_them():
    tokenizer = build_tokenizer("sentencepiece", ["regen und wind", "wind und sonne"] * 5, vocab_size=40)
    pieces = tokenizer.pieces()
    ids = tokenizer.encode("wind und regen")[:-2]
    assert "".join(pieces[i] for i in ids) == "▁wind▁und▁regen"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"keys": 0}, r"model\.keys: needs a number from 1 to 1000, got 0"),
        ({"word_dim": -1}, r"model\.word_dim: needs a number from 1 to 65536"),
        ({"edge": "ring"}, r"model\.edge: needs one of stop, wrap, got 'ring'"),
        ({"embedding_dropout": 2.0}, r"embedding_dropout: needs a number of at least 0 and below 1, got 2\.0"),
        ({"sentence_encoder": "bert"}, "needs tfidf or pretrained:FOLDER, got 'bert'"),
        ({"word_vectors": "v.txt"}, r"needs pretrained:FILE, got 'v\.txt'"),
        ({"signcl_tap": "layer7"}, "needs one of embedding, layer1, layer2, got 'layer7'"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(model, message):
    with pytest.raises(ValueError, match=message):
        recipe_from_dict({"model": {"name": "gaslt", **model}})


def test_a_tied_head_needs_words_of_the_models_width():
    with pytest.raises(ValueError, match=r"tie_embeddings needs word vectors of model\.width 32, got 10"):
        model_of(word_dim=10, tie_embeddings=True)
    with pytest.raises(ValueError, match="slt has recognition"):
        recipe_from_dict({"model": {"name": "gaslt"}, "loss": {"weights": {"translation": 1, "recognition": 1}}})
