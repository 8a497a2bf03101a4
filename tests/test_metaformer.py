"""The sign encoder of Sign2GPT: local attention as a plain loop has it, rotary positions, averages, padding."""

import cmath

import pytest
import torch

from signcl.systems.parts.metaformer import LocalAttention, MetaformerBlock, SignEncoder, average_pairs, rotate
from signcl.systems.parts.transformer import sinusoids


def test_rotary_positions_turn_pairs_and_know_distances_alone():
    torch.manual_seed(0)
    rows = torch.randn(6, 8, dtype=torch.float64)
    turned = rotate(rows)
    for t in range(6):
        for i in range(4):  # as complex numbers: times e^(i t theta)
            pair = complex(rows[t, i], rows[t, i + 4]) * cmath.exp(1j * t * 10000 ** (-2 * i / 8))
            assert turned[t, i].item() == pytest.approx(pair.real, abs=1e-6)
            assert turned[t, i + 4].item() == pytest.approx(pair.imag, abs=1e-6)
    q, k = torch.randn(2, 1, 8, dtype=torch.float64).expand(2, 9, 8)
    products = rotate(q) @ rotate(k).T
    torch.testing.assert_close(products[0, 3], products[5, 8], atol=1e-6, rtol=0)
    assert (products[0, 3] - products[0, 4]).abs() > 1e-3


@pytest.mark.parametrize("window", [1, 3, 7])
def test_local_attention_is_a_plain_loop(window):
    torch.manual_seed(0)
    width, heads, lengths = 12, 3, [9, 5, 1]
    layer = LocalAttention(width, heads, window).eval()
    rows = torch.randn(3, 9, width)
    mask = torch.arange(9)[None] < torch.tensor(lengths)[:, None]
    found = layer(rows, mask)
    assert torch.isfinite(found).all()
    query, key, value = layer.qkv(rows).chunk(3, dim=2)
    for b, length in enumerate(lengths):
        for t in range(length):
            near = [s for s in range(length) if abs(s - t) <= window // 2]
            heads_out = []
            for h in range(heads):
                part = slice(h * 4, h * 4 + 4)
                turned_q, turned_k = rotate(query[b, :, part]), rotate(key[b, :, part])
                weights = torch.stack([turned_q[t] @ turned_k[s] / 2 for s in near]).softmax(0)
                heads_out.append(sum(w * value[b, s, part] for w, s in zip(weights, near)))
            torch.testing.assert_close(found[b, t], layer.out(torch.cat(heads_out)), atol=1e-5, rtol=1e-4)


def test_a_frame_does_not_see_beyond_its_window():
    torch.manual_seed(0)
    layer, mask = LocalAttention(8, 2, 7), torch.ones(1, 20, dtype=torch.bool)
    rows = torch.randn(1, 20, 8, requires_grad=True)
    layer(rows, mask)[0, 10].sum().backward()
    reached = rows.grad[0].abs().sum(dim=1) > 0
    assert reached.nonzero().flatten().tolist() == list(range(7, 14))


def test_a_row_at_padding_attends_to_itself_and_to_real_rows():
    torch.manual_seed(0)
    layer = LocalAttention(8, 2, 3).eval()
    rows = torch.randn(1, 6, 8)
    mask = torch.arange(6)[None] < 3
    found = layer(rows, mask)
    value = layer.out(layer.qkv(rows).chunk(3, dim=2)[2])
    torch.testing.assert_close(found[0, 4:], value[0, 4:])  # rows 4 and 5 have no real neighbour
    assert (found[0, 3] - value[0, 3]).abs().max() > 1e-3  # row 3 sees row 2


def test_a_step_is_a_third_of_three_rows():
    # By hand: (0 + 3 + 6) / 3 = 3 at the edge, then (6 + 9 + 12) / 3 = 9, then (12 + 15 + 0) / 3 = 9.
    rows = torch.tensor([3.0, 6, 9, 12, 15]).view(1, 5, 1)
    assert average_pairs(rows).flatten().tolist() == [3, 9, 9]


def test_an_even_clip_has_a_step_beyond_its_end():
    torch.manual_seed(0)
    encoder = SignEncoder(6, width=16, heads=2, ffn=24, layer_scale=1.0, blocks=(0, 0), dropout=0.0).eval()
    rows = torch.randn(1, 4, 6)
    steps, lengths = encoder(rows, torch.tensor([4]))
    assert lengths.tolist() == [3] == encoder.step_lengths(torch.tensor([4])).tolist()
    placed = torch.cat([encoder.embed(rows, torch.tensor([4])), torch.zeros(1, 2, 16)], dim=1) + sinusoids(6, 16)
    torch.testing.assert_close(steps[0, 2], placed[0, 3:6].sum(dim=0) / 3)


def test_a_block_norms_the_sum():
    torch.manual_seed(0)
    block = MetaformerBlock(4, 2, 8, window=3, layer_scale=0.3, drop_path=0.5, dropout=0.5, activation="gelu").eval()
    rows, mask = torch.randn(1, 5, 4), torch.ones(1, 5, dtype=torch.bool)
    first = block.norm1(rows + 0.3 * block.attention(rows, mask))
    torch.testing.assert_close(block(rows, mask), block.norm2(first + 0.3 * block.feed_forward(first)))


def test_padding_changes_neither_steps_nor_training_statistics():
    torch.manual_seed(0)
    encoder = SignEncoder(6, width=16, heads=2, ffn=24, layer_scale=1.0, drop_path=0.0, dropout=0.0)
    encoder.norm.running_mean.uniform_(-1, 1)
    encoder.norm.running_var.uniform_(0.5, 2)
    rows = torch.randn(2, 11, 6)
    lengths = torch.tensor([11, 4])
    wide = torch.cat([rows, torch.randn(2, 6, 6)], dim=1)
    for training in (False, True):
        encoder.train(training)
        steps, step_lengths = encoder(rows, lengths)
        assert step_lengths.tolist() == [6, 3] == encoder.step_lengths(lengths).tolist()
        assert not steps[1, 3:].any()
        torch.testing.assert_close(encoder(wide, lengths)[0][:, :6], steps, atol=1e-5, rtol=0)
    encoder.eval()
    alone, _ = encoder(rows[1:, :4], torch.tensor([4]))
    torch.testing.assert_close(encoder(rows, lengths)[0][1, :3], alone[0], atol=1e-5, rtol=0)


def test_the_parameter_counts_of_the_docstrings():
    d, w, f, n = 384, 512, 2048, 4
    with torch.device("meta"):
        encoder = SignEncoder(d, width=w, ffn=f)
    counted = sum(p.numel() for p in encoder.parameters())
    block = 4 * w * w + 11 * w + 2 * w * f + f
    assert counted == (d * w + 3 * w) + n * block == 12_811_776


def test_drop_path_leaves_parts_out_for_whole_clips_and_keeps_the_mean():
    torch.manual_seed(0)
    block = MetaformerBlock(4, 2, 8, window=3, layer_scale=1.0, drop_path=0.5, dropout=0.0, activation="gelu").train()
    kept = block._dropped(torch.ones(2000, 3, 4))
    assert set(kept.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(kept, kept[:, :1, :1].expand_as(kept))
    assert kept.mean().item() == pytest.approx(1.0, abs=0.1)
    assert torch.equal(block.eval()._dropped(kept), kept)


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="to be even, got 6 and 2"):
        LocalAttention(6, 2, 7)
    with pytest.raises(ValueError, match="odd number of frames, got 4"):
        LocalAttention(8, 2, 4)
    with pytest.raises(ValueError, match="needs one of relu, gelu, got 'tanh'"):
        SignEncoder(4, width=8, heads=2, ffn=8, activation="tanh")
