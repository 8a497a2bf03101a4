"""Pseudo-glosses: the loss against a plain loop, the words that become targets, vectors, and scoring on dev."""

import math

import pytest
import torch
from sklearn.metrics import average_precision_score
from sklearn.metrics import f1_score as sklearn_f1

from signcl.data.batch import Sample
from signcl.data.corpora import load_samples
from signcl.losses import pseudo_gloss_log_probs, pseudo_gloss_loss
from signcl.metrics import f1_score, mean_average_precision
from signcl.systems.targets.pseudo_glosses import PseudoGlosses, lemmas
from signcl.training.recipe import recipe_from_dict

TENTH = torch.tensor(0.1, dtype=torch.float64)
BOTH = (TENTH, TENTH)


def some(b=3, s=6, p=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    similarity = torch.rand(b, s, p, generator=generator, dtype=torch.float64) * 2 - 1
    targets = (torch.rand(b, p, generator=generator) < 0.4).double()
    return similarity, torch.tensor([s, s - 2, 1][:b]), targets


def test_one_step_and_one_gloss_by_hand():
    # One step: softmax over time is 1. z = 0.1 ln 3 / 0.1 = ln 3 against the null class's 0: p = 3 / 4.
    similarity = torch.tensor([[[0.1 * math.log(3.0)]]])
    for truth, expected in ((1.0, -math.log(0.75)), (0.0, -math.log(0.25))):
        loss = pseudo_gloss_loss(similarity, torch.tensor([1]), torch.tensor([[truth]]), *BOTH)
        assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_the_loss_is_a_plain_loop_of_probabilities():
    similarity, lengths, targets = some()
    total = 0.0
    for b in range(3):
        z = similarity[b, : lengths[b]]
        over_classes = torch.cat([z / 0.1, torch.zeros(len(z), 1)], dim=1).softmax(dim=1)[:, :-1]
        p = (over_classes * (z / 0.3).softmax(dim=0)).sum(dim=0)
        total += torch.nn.functional.binary_cross_entropy(p, targets[b]).item() / 3
    heats = TENTH, 3 * TENTH
    assert pseudo_gloss_loss(similarity, lengths, targets, *heats).item() == pytest.approx(total, rel=1e-9)
    found, absent = pseudo_gloss_log_probs(similarity, lengths, *heats)
    torch.testing.assert_close(found.exp() + absent.exp(), torch.ones_like(found))


def test_neither_padding_nor_batch_size_changes_it():
    similarity, lengths, targets = some()
    loss = pseudo_gloss_loss(similarity, lengths, targets, *BOTH)
    padded = torch.cat([similarity, torch.full((3, 4, 5), 0.99, dtype=torch.float64)], dim=1)
    torch.testing.assert_close(pseudo_gloss_loss(padded, lengths, targets, *BOTH), loss)
    doubled = pseudo_gloss_loss(similarity.repeat(2, 1, 1), lengths.repeat(2), targets.repeat(2, 1), *BOTH)
    torch.testing.assert_close(doubled, loss)


@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.01, 1e-6])
def test_extreme_cosines_give_finite_losses_and_gradients(temperature):
    similarity = torch.tensor([[[1.0, -1.0], [1.0, -1.0]], [[-1.0, 1.0], [0.0, 0.0]]], requires_grad=True)
    heat = torch.tensor(temperature, requires_grad=True)
    for targets in (torch.zeros(2, 2), torch.ones(2, 2), torch.eye(2)):
        loss = pseudo_gloss_loss(similarity, torch.tensor([2, 1]), targets, heat, heat)
        gradient, heating = torch.autograd.grad(loss, (similarity, heat))
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()
        assert torch.isfinite(heating)
    # wrong and sure: 1 - p = 1 / (1 + e^(1 / temperature)), which float32 cannot form for the colder ones
    worst = pseudo_gloss_loss(torch.ones(1, 1, 1), torch.tensor([1]), torch.zeros(1, 1), heat, heat)
    assert worst.item() == pytest.approx(1 / max(temperature, 0.01) + math.log1p(math.exp(-1 / max(temperature, 0.01))))


@pytest.mark.parametrize(("start", "held", "sign"), [(1e-4, 0.01, -1), (3.0, 1.0, 1)])
def test_a_temperature_beyond_its_bounds_is_held_and_can_come_back(start, held, sign):
    similarity, lengths, targets = some()
    heats = [torch.tensor(start, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    wrong = 1 - targets if sign < 0 else (similarity.amax(dim=1) > 0.5).double()
    loss = pseudo_gloss_loss(similarity, lengths, wrong, *heats)
    bound = torch.tensor(held, dtype=torch.float64)
    assert loss.item() == pseudo_gloss_loss(similarity, lengths, wrong, bound, bound).item()
    loss.backward()
    moved = [heat.grad for heat in heats]
    assert any(gradient * sign > 0 for gradient in moved)  # a step against the gradient brings it back
    assert all(gradient * sign >= 0 for gradient in moved)


def test_what_does_not_fit_is_refused():
    similarity, lengths, targets = some()
    with pytest.raises(ValueError, match=r"targets \[B, P\] that fit similarity \[3, 6, 5\]"):
        pseudo_gloss_loss(similarity, lengths, targets[:, :4], *BOTH)
    with pytest.raises(ValueError, match=r"step_lengths must be one number per clip, \[3\], got \[2\]"):
        pseudo_gloss_loss(similarity, lengths[:2], targets, *BOTH)


def test_average_precision_and_f1_are_those_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    for levels in (5, 1000):  # with ties and almost without
        scores = torch.randint(0, levels, (30, 7), generator=generator) / levels
        truth = (torch.rand(30, 7, generator=generator) < 0.3).float()
        truth[:, 3] = 0  # no clip has it: left out
        kept = [c for c in range(7) if c != 3]
        expected = 100 * average_precision_score(truth[:, kept].numpy(), scores[:, kept].numpy(), average="macro")
        assert mean_average_precision(scores, truth) == pytest.approx(expected)
        micro = sklearn_f1(truth.numpy(), (scores >= 0.5).numpy(), average="micro")
        assert f1_score(scores, truth) == pytest.approx(100 * micro)
    assert math.isnan(mean_average_precision(scores, torch.zeros(30, 7)))
    assert f1_score(torch.zeros(2, 2), torch.zeros(2, 2)) == 0


def test_words_become_lemmas_by_the_rule_that_is_named():
    text = "Am Montag regnet es in den Bergen."
    assert lemmas(text, "words") == ["am", "montag", "regnet", "es", "in", "den", "bergen"]
    assert lemmas(text, "rules:de") == ["am", "montag", "regn", "es", "in", "den", "berg"]
    assert lemmas("She buys two old houses, walking", "rules:en") == ["she", "buys", "two", "old", "hous", "walk"]
    assert lemmas("他们去学校。2 次", "characters") == ["他", "们", "去", "学", "校", "2", "次"]
    assert lemmas("他们去学校。我", "bigrams") == ["他们", "们去", "去学", "学校", "我"]
    with pytest.raises(ValueError, match="got 'rules:xx'"):
        lemmas(text, "rules:xx")


def test_common_rare_and_short_words_are_dropped():
    texts = ["der regen kommt", "der regen geht", "der schnee", "ein sturm", "ein wind in nord"]
    made = PseudoGlosses.train(texts, max_share=0.5, stop_length=3, stop_share=0.3)
    # der: 3 of 5 sentences is beyond max_share; ein: 2 of 5 and three letters; in: 1 of 5, not common enough to be a
    # function word; most frequent first, then by the alphabet
    assert made.vocabulary == ["regen", "geht", "in", "kommt", "nord", "schnee", "sturm", "wind"]
    assert PseudoGlosses.train(texts, min_count=2, stop_length=0).vocabulary == ["ein", "regen"]
    assert made.note("model") == (
        "model: uses 8 words; takes ein for function words, because they are short and frequent; "
        "if they are signed, set model.stop_length=0"
    )
    assert PseudoGlosses.train(texts, stop_length=0).note() == "", "nothing to tell"
    targets = made([Sample("a", "Regen regen Wind Hagel"), Sample("b", "hagel")])
    assert targets.tolist() == [[1, 0, 0, 0, 0, 0, 0, 1], [0] * 8]
    with pytest.raises(ValueError, match=r"no pseudo-gloss is left of 10 in 5 sentences; raise max_share"):
        PseudoGlosses.train(texts, min_count=4)


def write_texts(root, **splits):
    for split, texts in splits.items():
        lines = ["name\tpath\ttext", *(f"{split}{i}\tx.npy\t{text}" for i, text in enumerate(texts))]
        (root / f"{split}.tsv").write_text("\n".join(lines) + "\n")


def test_the_vocabulary_is_that_of_training_and_leaks_only_as_released(tmp_path):
    train = ["regen kommt", "sturm kommt nicht"]
    write_texts(tmp_path, train=train, dev=["hagel"], test=["nebel und hagel"])
    samples = [Sample(f"train{i}", text) for i, text in enumerate(train)]

    def made(**pgp):
        model = {"name": "pgp", "max_share": 1.0, "stop_length": 0, **pgp}
        recipe = recipe_from_dict({"stage": "pretrain", "corpus": {"root": str(tmp_path)}, "model": model})

        def texts_of(split):
            return [s.text for s in load_samples("folder", tmp_path, split)]

        return PseudoGlosses.build(recipe.model, samples, texts_of, tmp_path)

    (tmp_path / "x.npy").touch()
    assert set(made().vocabulary) == {"regen", "kommt", "sturm", "nicht"}
    assert set(made(vocabulary="as_released").vocabulary) == {
        "regen",
        "kommt",
        "sturm",
        "nicht",
        "hagel",
        "nebel",
        "und",
    }


def test_saved_and_loaded_targets_are_the_same(tmp_path):
    made = PseudoGlosses.train(["regen und wind", "wind", "sonne"], stop_length=0, max_share=1.0)
    made.save(tmp_path)
    recipe = recipe_from_dict({"stage": "pretrain", "model": {"name": "pgp"}})
    loaded = PseudoGlosses.load(recipe, tmp_path)
    samples = [Sample("a", "wind und sonne")]
    assert torch.equal(made(samples), loaded(samples))
    (tmp_path / "pseudo_glosses.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        PseudoGlosses.load(recipe, tmp_path)
    with pytest.raises(FileNotFoundError, match="which a run of pgp writes"):
        PseudoGlosses.load(recipe, tmp_path / "nowhere")


def test_word_vectors_are_read_by_name_and_what_is_missing_is_said(tmp_path):
    made = PseudoGlosses(["regen", "montag", "2000", "hagel"], "words")
    file = tmp_path / "wiki.vec"
    file.write_text("2000 3\nund 1 1 1\nregen 3 0 4\nMontag 0 2 0\n2000 0 0 5\nRegen 9 9 9\n", encoding="utf-8")
    vectors, said = made.vectors(str(file), 3)
    assert said == "3 of 4; random for hagel"
    torch.testing.assert_close(vectors[:3], torch.tensor([[0.6, 0, 0.8], [0, 1, 0], [0, 0, 1]]))
    assert vectors[3].norm().item() == pytest.approx(1)
    with pytest.raises(ValueError, match=r"line 3: needs a word and 4 numbers \(model.prototype_dim\), got 3"):
        made.vectors(str(file), 4)
    with pytest.raises(ValueError, match="has none of the 1 pseudo-glosses"):
        PseudoGlosses(["nebel"], "words").vectors(str(file), 3)
    with pytest.raises(FileNotFoundError, match="no file"):
        made.vectors(str(tmp_path / "no.vec"), 3)


def test_a_spacy_model_gives_lemmas_of_content_words(tmp_path):
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed")
    nlp = spacy.blank("de")
    ruler = nlp.add_pipe("attribute_ruler")
    for word, tag, lemma in (
        ("Berge", "NOUN", "Berg"),
        ("den", "DET", "der"),
        ("kalte", "ADJ", "kalt"),
        ("x", "NUM", ""),
    ):
        ruler.add([[{"TEXT": word}]], {"POS": tag, "LEMMA": lemma})
    nlp.to_disk(tmp_path / "model")
    assert lemmas("den kalte Berge x", f"spacy:{tmp_path}/model") == ["kalt", "berg", "x"]


def test_a_spacy_model_that_is_not_there_is_one_line():
    with pytest.raises(ValueError, match=r"lemmatiser=spacy:no_such_model needs .*spacy.*; without it use rules:de"):
        lemmas("x", "spacy:no_such_model")
