"""The recurrent NSLT against a plain loop over one clip's frames and words, written from the published formulas."""

import pytest
import torch
from systems import Words

from signcl.data.batch import Batch, pack_positions
from signcl.systems import Sizes
from signcl.systems.encoders import build_visual
from signcl.systems.nslt2018 import NSLT2018

LENGTHS, DIM, WIDTH = [7, 3, 5], 6, 8


def model_of(**values) -> NSLT2018:
    torch.manual_seed(0)
    config = NSLT2018.Config(width=WIDTH, layers=3, **values)
    model = NSLT2018(config, Sizes(tokenizer=Words(), visual=build_visual("identity", feature_dim=DIM))).double()
    with torch.no_grad():
        for value in model.parameters():  # biases that begin at 0 would hide where they stand
            value.add_(0.1 * torch.randn_like(value))
    return model.eval()


def clips() -> Batch:
    torch.manual_seed(1)
    lengths = torch.tensor(LENGTHS)
    tokens = torch.tensor([[4, 5, 6, 2], [7, 2, 0, 0], [8, 9, 2, 0]])
    return Batch(
        names=["a", "b", "c"],
        texts=["", "", ""],
        inputs=torch.randn(int(lengths.sum()), DIM, dtype=torch.float64),
        positions=pack_positions(LENGTHS),
        lengths=lengths,
        max_length=max(LENGTHS),
        num_words=torch.tensor([3, 1, 2]),
        tokens=tokens,
        token_lengths=torch.tensor([4, 2, 3]),
    )


def gru(reads, state, w_ih, w_hh, b_ih, b_hh):
    """One step, gate by gate: reset, update, candidate."""
    given, kept = (w_ih @ reads + b_ih).chunk(3), (w_hh @ state + b_hh).chunk(3)
    reset, update = (given[0] + kept[0]).sigmoid(), (given[1] + kept[1]).sigmoid()
    return (1 - update) * (given[2] + reset * kept[2]).tanh() + update * state


def plain_logits(model: NSLT2018, frames, words) -> torch.Tensor:
    """Scores of one sentence by loops over frames, layers and words."""
    rows = list(frames.flip(0) if model.config.reverse else frames)
    hidden = []
    for number, layer in enumerate(model.encoder):
        state, after = torch.zeros(WIDTH, dtype=torch.float64), []
        for row in rows:
            state = gru(row, state, *(getattr(layer, f"{name}_l0") for name in ("weight_ih", "weight_hh", "bias_ih",
                                                                                "bias_hh")))  # fmt: skip
            after.append(state if number == 0 else row + state)
        rows = after
        hidden.append(state)
    attended, scores, attention = torch.zeros(WIDTH, dtype=torch.float64), [], model.attention
    for word in [model.start_id, *words[:-1]]:
        state = torch.cat([model.words.weight[word], attended])
        for number, cell in enumerate(model.cells):
            hidden[number] = gru(state, hidden[number], cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
            state = hidden[number] if number == 0 else state + hidden[number]
        if attention.score is None:
            fits = torch.stack([state @ attention.key.weight @ row for row in rows])
        else:
            mixed = [(attention.key.weight @ row + attention.query.weight @ state).tanh() for row in rows]
            fits = torch.stack([attention.score.weight[0] @ one for one in mixed])
        found = sum(weight * row for weight, row in zip(fits.softmax(0), rows))
        attended = attention.out.weight @ torch.cat([state, found])
        scores.append(model.word_head.weight @ attended)
    return torch.stack(scores)


@pytest.mark.parametrize("reverse", [True, False])
@pytest.mark.parametrize("attention", ["luong", "bahdanau"])
def test_a_padded_batch_equals_the_plain_loop(attention, reverse):
    model, batch = model_of(attention=attention, reverse=reverse), clips()
    with torch.no_grad():
        logits = model(batch).logits
        for i, frames in enumerate(batch.inputs.split(LENGTHS)):
            words = batch.tokens[i, : batch.token_lengths[i]].tolist()
            # attention's weights are a float32 softmax, as everywhere in the package
            torch.testing.assert_close(
                logits[i, : len(words)], plain_logits(model, frames, words), atol=1e-6, rtol=1e-6
            )


def test_steps_are_in_the_order_of_time():
    model, batch = model_of(), clips()
    with torch.no_grad():
        before = model(batch).steps
        batch.inputs[LENGTHS[0] - 1] += 1.0  # the last frame of the first clip is read first: it changes every state
        last = (model(batch).steps - before).abs().sum(dim=2)
        batch.inputs[LENGTHS[0] - 1] -= 1.0
        batch.inputs[0] += 1.0  # its first frame is read last: it changes its own state alone
        first = (model(batch).steps - before).abs().sum(dim=2)
    assert (last[0] > 1e-9).all()
    assert (first[0] > 1e-9).tolist() == [True] + [False] * (LENGTHS[0] - 1)
    assert float(last[1:].sum()) == float(first[1:].sum()) == 0.0


def test_greedy_and_beam_answers_are_the_decoders_own():
    model, batch = model_of(), clips()
    greedy = model.generate(batch, num_beams=1, max_new_tokens=6)
    by_hand = torch.zeros(3, 0, dtype=torch.long)
    for _ in range(greedy.shape[1]):
        padded = torch.cat([by_hand, torch.full((3, 1), 3)], dim=1)
        with torch.no_grad():
            scores = model(Batch(**(vars(batch) | {"tokens": padded}))).logits[:, -1]
        scores[:, model.pad_id] = -torch.inf
        by_hand = torch.cat([by_hand, scores.argmax(dim=1)[:, None]], dim=1)
    for said, expected in zip(greedy.tolist(), by_hand.tolist()):
        stop = expected.index(model.end_id) + 1 if model.end_id in expected else len(expected)
        assert said[:stop] == expected[:stop]

    def log_p(ids: torch.Tensor) -> list[float]:
        """Of whole sentences, end mark included."""
        with torch.no_grad():
            logits = model(Batch(**(vars(batch) | {"tokens": ids}))).logits
        each = logits.float().log_softmax(dim=2).gather(2, ids[:, :, None])[:, :, 0]
        return each.masked_fill(ids == model.pad_id, 0.0).sum(dim=1).tolist()

    wide = model.generate(batch, num_beams=11, length_penalty=0.0, max_new_tokens=2)
    narrow = model.generate(batch, num_beams=1, length_penalty=0.0, max_new_tokens=2)
    assert all(more >= less - 1e-6 for more, less in zip(log_p(wide), log_p(narrow)))
