"""The temporal convolution and its batch norm: padding changes nothing, and a plain computation agrees."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from signcl.data.batch import frame_mask
from signcl.systems.parts.cpu_half import cpu_half
from signcl.systems.parts.layers import CONVS, BiLSTM, MaskedBatchNorm1d, TemporalConv, kind_of

REFERENCES = Path(__file__).parent / "references"


def clip(frames: int, dim: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(frames, dim, generator=torch.Generator().manual_seed(seed + 100 * frames))


def padded(clips: list[torch.Tensor], extra: int = 0, value: float = float("nan")) -> torch.Tensor:
    longest = max(map(len, clips)) + extra
    out = torch.full((len(clips), longest, clips[0].shape[1]), value)
    for row, frames in enumerate(clips):
        out[row, : len(frames)] = frames
    return out


def conv_by_hand(conv: TemporalConv, frames: torch.Tensor, left: int = 8, copies: int = 16) -> torch.Tensor:
    """One clip, lengthened frame by frame and passed through plain torch modules in evaluation."""
    total = -(-len(frames) // 4) * 4 + copies
    longer = [frames[0]] * left + list(frames)
    longer += [frames[-1]] * (total - len(longer))
    hidden = torch.stack(longer).T[None]
    for layer, norm in ((conv.conv1, conv.norm1), (conv.conv2, conv.norm2)):
        hidden = nn.functional.conv1d(hidden, layer.weight, layer.bias)
        hidden = nn.functional.batch_norm(hidden, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        hidden = nn.functional.max_pool1d(torch.relu(hidden), 2)
    return hidden[0].T


def test_conv_agrees_with_a_plain_one_on_every_length():
    torch.manual_seed(0)
    conv = TemporalConv(3, 5).eval()
    lengths = [1, 2, 3, 4, 5, 7, 8, 16, 21]
    clips = [clip(n) for n in lengths]
    steps, step_lengths = conv(padded(clips), torch.tensor(lengths))
    # n = 1 -> 2 steps, 4 -> 2, 5 -> 3, 21 -> 7: ceil(n / 4) + 1
    assert step_lengths.tolist() == [2, 2, 2, 2, 3, 3, 3, 5, 7]
    assert steps.shape == (9, 7, 5)
    assert conv.num_steps(21) == 7
    for row, (frames, count) in enumerate(zip(clips, step_lengths.tolist(), strict=True)):
        torch.testing.assert_close(steps[row, :count], conv_by_hand(conv, frames))
        assert (steps[row, count:] == 0).all()


@pytest.mark.parametrize(("official", "edge"), [("gfslt", "replicate"), ("vac", "vac")])
@pytest.mark.parametrize(("number", "kind"), [(0, "k3"), (1, "k5p2"), (2, "k5p2k5p2")])
def test_every_kind_gives_the_steps_of_the_official_loader_and_convolution(official, edge, number, kind):
    kept = load_file(REFERENCES / "temporal_convs.safetensors")
    conv = TemporalConv(3, 4, kind=kind, edge=edge).double().eval()
    names = {"0": "conv1", "1": "norm1", "4": "conv2", "5": "norm2"}  # of their nn.Sequential
    prefix = f"{official}.{number}.weights.temporal_conv."
    state = {}
    for key, value in kept.items():
        if key.startswith(prefix):
            layer, part = key.removeprefix(prefix).split(".")
            state[f"{names[layer]}.{part}"] = value
    conv.load_state_dict(state)
    lengths = [1, 3, 4, 5, 10, 21]
    clips = [kept[f"clip.{n}"].double() for n in lengths]
    steps, step_lengths = conv(padded(clips).double(), torch.tensor(lengths))
    assert step_lengths.tolist() == conv.step_lengths(torch.tensor(lengths)).tolist()
    assert step_lengths.tolist() == [conv.num_steps(n) for n in lengths]
    for row, n in enumerate(lengths):
        wanted = kept[f"{official}.{number}.steps.{n}"]
        assert step_lengths[row] == len(wanted)
        torch.testing.assert_close(steps[row, : len(wanted)], wanted, rtol=1e-9, atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(1, 24), min_size=1, max_size=4),
    st.integers(0, 9),
    st.sampled_from(["replicate", "vac", "none"]),
    st.sampled_from(sorted(CONVS)),
)
def test_more_padding_changes_nothing_in_training_either(lengths, extra, edge, kind):
    clips = [clip(n, seed=i) for i, n in enumerate(lengths)]
    results = []
    for more in (0, extra):
        torch.manual_seed(0)
        conv = TemporalConv(3, 4, edge=edge, kind=kind)
        steps, step_lengths = conv(padded(clips, more), torch.tensor(lengths))
        steps = steps[:, : int(step_lengths.max())]
        steps.square().sum().backward()
        results.append((steps, conv.norm1.running_var.clone(), [*conv.buffers()][-2], conv.conv1.weight.grad))
    for one, other in zip(*results, strict=True):
        assert one.isfinite().all()
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_edges_of_vac_give_a_step_for_four_frames():
    torch.manual_seed(0)
    conv = TemporalConv(3, 5, edge="vac").eval()
    lengths = [1, 4, 5, 8, 21]
    clips = [clip(n) for n in lengths]
    steps, step_lengths = conv(padded(clips), torch.tensor(lengths))
    assert step_lengths.tolist() == [1, 1, 2, 2, 6]  # ceil(n / 4)
    for row, (frames, count) in enumerate(zip(clips, step_lengths.tolist(), strict=True)):
        torch.testing.assert_close(steps[row, :count], conv_by_hand(conv, frames, left=6, copies=12))


@pytest.mark.parametrize("edge", ["replicate", "vac", "none"])
@pytest.mark.parametrize(("kind", "seen", "step"), [("k5p2k5p2", 16, 5), ("k5p2", 6, 9), ("k3", 3, 12)])
def test_a_step_stands_in_the_middle_of_the_frames_that_it_sees(edge, kind, seen, step):
    torch.manual_seed(0)
    conv = TemporalConv(3, 64, edge=edge, kind=kind).eval()
    frames = clip(48)
    lengths = torch.tensor([48])
    frames = frames.clone().requires_grad_()
    conv(frames[None], lengths)[0][0, step].sum().backward()
    found = frames.grad.abs().sum(dim=1).nonzero().flatten()
    stride, centre = conv.geometry()
    assert len(found) == seen
    assert (float(found[0]) + float(found[-1]) + 1) / 2 == centre + step * stride


def packed(lstm: nn.LSTM, steps: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    rows = nn.utils.rnn.pack_padded_sequence(steps, lengths, batch_first=True, enforce_sorted=False)
    return nn.utils.rnn.pad_packed_sequence(lstm(rows)[0], batch_first=True, total_length=steps.shape[1])[0]


def test_the_two_way_lstm_is_torchs_own_on_packed_clips():
    torch.manual_seed(0)
    theirs = nn.LSTM(3, 4, num_layers=2, bidirectional=True, batch_first=True)
    ours = BiLSTM(3, 8, layers=2)
    for layer in range(2):
        for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            for direction, suffix in ((ours.forwards, ""), (ours.backwards, "_reverse")):
                getattr(direction[layer], f"{part}_l0").data = getattr(theirs, f"{part}_l{layer}{suffix}").data.clone()
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    assert sum(p.numel() for p in ours.parameters()) == 2 * (16 * (3 + 4) + 32) + 2 * (16 * (8 + 4) + 32)
    lengths = torch.tensor([5, 9, 1])
    steps = torch.randn(3, 11, 3)
    found, wanted = ours(steps, lengths), packed(theirs, steps, lengths)
    torch.testing.assert_close(found, wanted)  # both are zero at padding
    found.square().sum().backward()
    wanted.square().sum().backward()
    torch.testing.assert_close(ours.backwards[0].weight_ih_l0.grad, theirs.weight_ih_l0_reverse.grad)
    torch.testing.assert_close(ours.forwards[1].weight_hh_l0.grad, theirs.weight_hh_l1.grad)


def test_the_two_way_lstm_never_reads_padding():
    torch.manual_seed(0)
    lstm, lengths = BiLSTM(3, 4, layers=2), torch.tensor([5, 9])
    clips = [clip(5), clip(9)]
    clean, dirty = lstm(padded(clips, value=0.0), lengths), lstm(padded(clips, extra=4), lengths)
    assert torch.equal(dirty[:, :9], clean)
    assert not dirty[0, 5:].any()
    dirty.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in lstm.parameters())
    with pytest.raises(ValueError, match="even width and at least 1 layer, got width 5"):
        BiLSTM(3, 5)


def test_without_edge_copies_steps_follow_the_plain_rule():
    conv = TemporalConv(3, 4, edge="none").eval()
    lengths = torch.tensor([1, 15, 16, 19, 20, 24, 100])
    # (((n - 4) // 2) - 4) // 2, at least that of 16 frames
    expected = [1, 1, 1, 1, 2, 3, 22]
    assert conv.step_lengths(lengths).tolist() == expected
    steps, step_lengths = conv(torch.randn(7, 100, 3), lengths)
    assert step_lengths.tolist() == expected
    assert steps.shape[1] == 22


def test_the_shortest_clip_without_copies_is_as_long_as_a_step_sees():
    # k5p2: (n - 4) // 2 of at least 6; k3: n - 2 of at least 3
    lengths = torch.tensor([1, 3, 5, 6, 7, 8, 20])
    assert TemporalConv(3, 4, kind="k5p2", edge="none").step_lengths(lengths).tolist() == [1, 1, 1, 1, 1, 2, 8]
    conv = TemporalConv(3, 4, kind="k3", edge="none").eval()
    steps, step_lengths = conv(torch.randn(7, 20, 3), lengths)
    assert step_lengths.tolist() == [1, 1, 3, 4, 5, 6, 18]
    assert steps.shape[1] == 18


def test_as_released_pads_with_one_and_normalizes_padding_too():
    torch.manual_seed(0)
    released = TemporalConv(3, 4, as_released=True)
    clips = [clip(5), clip(12)]
    steps, step_lengths = released(padded(clips), torch.tensor([5, 12]))
    longer = torch.stack(
        [
            torch.cat([clips[0][:1].expand(8, 3), clips[0], clips[0][-1:].expand(11, 3), torch.ones(4, 3)]),  # 24 real
            torch.cat([clips[1][:1].expand(8, 3), clips[1], clips[1][-1:].expand(8, 3)]),  # 28
        ]
    )
    hidden = longer.transpose(1, 2)
    for layer in (released.conv1, released.conv2):
        hidden = torch.relu(nn.BatchNorm1d(4)(layer(hidden)))
        hidden = nn.functional.max_pool1d(hidden, 2)
    assert step_lengths.tolist() == [3, 4]
    torch.testing.assert_close(steps, hidden.transpose(1, 2))


def test_conv_refuses_features_of_another_size():
    with pytest.raises(ValueError, match="size 3, got 4"):
        TemporalConv(3, 4)(torch.zeros(1, 5, 4), torch.tensor([5]))
    with pytest.raises(ValueError, match="'replicate', 'vac' or 'none', got 'zero'"):
        TemporalConv(3, 4, edge="zero")
    with pytest.raises(ValueError, match="one of k5p2k5p2, k5p2, k3, got 'k7'"):
        TemporalConv(3, 4, kind="k7")


def test_norm_without_padding_is_torchs_own():
    torch.manual_seed(0)
    values = torch.randn(4, 3, 6) * 5 + 2
    plain, masked, unmasked = nn.BatchNorm1d(3), MaskedBatchNorm1d(3), MaskedBatchNorm1d(3)
    assert plain.state_dict().keys() == masked.state_dict().keys()
    everything = frame_mask(torch.full((4,), 6), 6)
    grads = []
    for norm, mask in ((plain, ()), (masked, (everything,)), (unmasked, (None,))):
        own = values.clone().requires_grad_()
        for _ in range(2):
            out = norm(own, *mask)
        (out**3).sum().backward()
        grads.append((out, own.grad, norm.weight.grad, norm.running_mean, norm.running_var, norm.num_batches_tracked))
    for other in grads[1:]:
        for mine, theirs in zip(other, grads[0], strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(masked.eval()(values, everything), plain.eval()(values))


def test_norm_with_padding_is_torchs_own_over_the_real_rows():
    torch.manual_seed(0)
    values, mask = torch.randn(3, 2, 5), frame_mask(torch.tensor([5, 1, 3]), 5)
    rows = values.transpose(1, 2)[mask]  # [9, 2]
    plain, masked = nn.BatchNorm1d(2), MaskedBatchNorm1d(2)
    out = masked(values, mask).transpose(1, 2)[mask]
    torch.testing.assert_close(out, plain(rows))
    torch.testing.assert_close(masked.running_var, plain.running_var)


def test_norm_of_a_single_real_row_uses_the_running_statistics():
    norm = MaskedBatchNorm1d(2)
    norm.running_mean.fill_(1.0)
    values = torch.tensor([[[3.0, 99.0], [1.0, 99.0]]])
    out = norm(values, torch.tensor([[True, False]]))
    torch.testing.assert_close(out[0, :, 0], torch.tensor([2.0, 0.0]), rtol=1e-4, atol=1e-5)
    assert norm.running_mean.tolist() == [1.0, 1.0]
    assert norm.running_var.tolist() == [1.0, 1.0]
    alone = norm(values[:, :, :1])  # nn.BatchNorm1d raises here
    torch.testing.assert_close(alone, out[:, :, :1])


def test_norm_keeps_half_precision_and_counts_in_single():
    values = torch.full((2, 1, 4000), 300.0, dtype=torch.float16)  # a sum of 2,400,000 does not fit float16
    values[0] += 8
    out = MaskedBatchNorm1d(1)(values, torch.ones(2, 4000, dtype=torch.bool))
    assert out.dtype == torch.float16
    torch.testing.assert_close(out[:, 0, 0], torch.tensor([1.0, -1.0]).half(), rtol=1e-2, atol=1e-2)


def _rank(rank: int, store: str, values: torch.Tensor, mask: torch.Tensor, results: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    own = values[rank : rank + 1].clone().requires_grad_()
    norm = MaskedBatchNorm1d(2, sync=True)
    out = norm(own, mask[rank : rank + 1])
    (out[:, :, mask[rank]] ** 3).sum().backward()
    torch.save((out.detach(), own.grad, norm.running_var), f"{results}{rank}")
    torch.distributed.destroy_process_group()


def test_norm_over_two_ranks_is_the_norm_of_the_whole_batch(tmp_path):
    torch.manual_seed(0)
    values, mask = torch.randn(2, 2, 5), frame_mask(torch.tensor([5, 2]), 5)
    arguments = (str(tmp_path / "store"), values, mask, str(tmp_path / "rank"))
    torch.multiprocessing.start_processes(_rank, args=arguments, nprocs=2, start_method="fork")
    whole, norm = values.clone().requires_grad_(), MaskedBatchNorm1d(2)
    out = norm(whole, mask)
    (out.transpose(1, 2)[mask] ** 3).sum().backward()
    for rank in range(2):
        theirs, grad, running_var = torch.load(tmp_path / f"rank{rank}")
        torch.testing.assert_close(theirs[0], out[rank])
        torch.testing.assert_close(grad[0], whole.grad[rank], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(running_var, norm.running_var)


def test_recurrent_layers_run_in_bfloat16_on_any_cpu():
    layer, rows = nn.LSTM(8, 8, batch_first=True), torch.randn(2, 5, 8)
    before = torch.backends.mkldnn.enabled
    with torch.autocast("cpu", torch.bfloat16), cpu_half():
        states, _ = layer(rows)
    states.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
    assert torch.backends.mkldnn.enabled == before


def test_the_kind_of_a_checkpoint_is_told_by_its_kernels():
    for number, kind in enumerate(("k3", "k5p2", "k5p2k5p2")):
        assert (
            kind_of(load_file(REFERENCES / "temporal_convs.safetensors"), f"vac.{number}.weights.temporal_conv.")
            == kind
        )
    with pytest.raises(ValueError, match=r"has the kernels \[7\]; k5p2k5p2, k5p2, k3 are known"):
        kind_of({"0.weight": torch.zeros(2, 2, 7)}, "")
