"""Tests that need a GPU: results equal to the CPU's, half precision, resumption, the loader, memory, two GPUs.

pytest -m gpu tests/gpu                             # on a machine with a GPU; skipped without one
SIGNCL_GPU_TESTS_ON=cpu pytest -m gpu tests/gpu     # a dry run on the CPU, as in tests/test_devices.py
"""

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from systems import CASES, batch_of, built, losses, recipe_of

from signcl import losses as functions
from signcl.data.loading import ClipDataset, clip_loader
from signcl.data.sections import AugmentRecipe
from signcl.density import gloss_distances, ratio_interval, sign_density_ratio
from signcl.density.forced_align import forced_align_batch
from signcl.systems.encoders import augment
from signcl.training import fit, loop
from signcl.training.recipe import save_recipe

ON = os.environ.get("SIGNCL_GPU_TESTS_ON", "cuda")
GPU = ON == "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(GPU and not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
needs_gpu = pytest.mark.skipif(not GPU, reason="shows nothing on a CPU")
ONE_OF_EACH = {case.name: case for case in reversed(CASES)}
SIGNCL = [
    {"variant": "paper"},
    {"variant": "paper", "distance_margin_mode": "relative"},
    {"variant": "paper", "same_sign": 0.75},
    {"variant": "paper", "negatives": torch.arange(4)[None].expand(5, 4) % 5},
    {"variant": "released"},
]


@pytest.fixture(autouse=True)
def exact_products():
    """Turns TF32 off, whatever earlier tests have set."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


# -- the same numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", SIGNCL, ids=str)
@pytest.mark.parametrize("length", [5, 40, 300])
def test_signcl_loss_is_that_of_the_cpu(options, length):
    if "negatives" in options and length != 5:
        options = options | {
            "negatives": torch.randint(length, (length, 4), generator=torch.Generator().manual_seed(1))
        }
    x = torch.randn(3, length, 64, generator=torch.Generator().manual_seed(0))
    lengths, margin = torch.tensor([length, length - 1, 5]), torch.tensor([2.0, 3.0, 1.0])
    found = []
    for place in ("cpu", ON):
        own = x.to(place, copy=True).requires_grad_()
        moved = {k: v.to(place) if isinstance(v, torch.Tensor) else v for k, v in options.items()}
        value = functions.signcl_loss(own, lengths.to(place), margin.to(place), **moved)
        value.backward()
        found.append((value.detach().cpu(), own.grad.cpu()))
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("distance", ["euclidean", "squared", "cosine"])
def test_density_is_that_of_the_cpu(dtype, distance):
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(3000, generator=generator) ** 2 * 40).long()
    rows = torch.randn(3000, 64, generator=generator) + 2 * torch.randn(40, 64, generator=generator)[labels]
    rows[7:40] = rows[7]  # copies, to test the code path for equal rows
    rows = rows.to(dtype)
    expected = sign_density_ratio(rows, labels, distance=distance)
    for block in (None, 512):
        found = sign_density_ratio(rows.to(ON), labels.to(ON), distance=distance, block=block)
        assert found.sdr.device.type == "cpu"
        torch.testing.assert_close(found.sdr, expected.sdr, rtol=1e-5, atol=1e-6)
    if dtype not in (torch.bfloat16,):
        brought = sign_density_ratio(rows.numpy(), labels.numpy(), distance=distance, device=ON)
        torch.testing.assert_close(brought.sdr, expected.sdr, rtol=1e-5, atol=1e-6)


def test_density_around_the_ratio_is_that_of_the_cpu():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40).repeat_interleave(20)
    rows = torch.randn(800, 64, generator=generator) + torch.randn(40, 64, generator=generator)[labels]
    mean = gloss_distances(rows.to(ON), labels.to(ON)).mean
    torch.testing.assert_close(mean, gloss_distances(rows, labels).mean, rtol=1e-5, atol=1e-6)
    there, here = (ratio_interval(rows.to(place), labels, samples=20) for place in (ON, "cpu"))
    assert (there.low, there.high) == pytest.approx((here.low, here.high), rel=1e-5)


@needs_gpu
def test_density_of_200000_rows_stays_in_bounded_memory(tmp_path):
    rows = np.lib.format.open_memmap(tmp_path / "rows.npy", "w+", np.float16, (200_000, 512))
    rows[:] = np.random.default_rng(0).standard_normal((2000, 512)).astype(np.float16).repeat(100, axis=0)
    rows[:, :8] += np.random.default_rng(1).standard_normal((200_000, 8)).astype(np.float16)
    torch.cuda.reset_peak_memory_stats()
    sign_density_ratio(rows, np.arange(200_000) // 100, device=ON)
    assert torch.cuda.max_memory_allocated() < 8 * 2**30


@pytest.mark.parametrize("case", ONE_OF_EACH.values(), ids=str)
def test_a_step_of_every_system_is_that_of_the_cpu(case, corpora, tmp_path):
    recipe = recipe_of(case, corpora, tmp_path / "run")
    found = []
    for place in ("cpu", ON):
        model, material = built(recipe)
        model.to(place).eval()  # no dropout
        batch = batch_of(material, recipe, [0, 1, 2]).to(place)
        terms = losses(model, batch, recipe)
        sum(terms.values()).backward()
        gradient = torch.stack([p.grad.float().norm().cpu() for p in model.parameters() if p.grad is not None])
        said = None if model.answers == "nothing" else model.answer(batch, recipe.decode)
        found.append((torch.stack([v.detach().cpu() for v in terms.values()]), gradient, said))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found[1][1], found[0][1], rtol=1e-2, atol=1e-3)
    assert found[0][2] is None or len(found[1][2]) == len(found[0][2])  # answers may differ after near ties


def test_alignment_and_augmentation_are_those_of_the_cpu():
    log_probs = torch.randn(2, 60, 9, generator=torch.Generator().manual_seed(0)).log_softmax(dim=2)
    found = forced_align_batch(log_probs.to(ON), [60, 40], [[1, 2, 2], [3, 4]])
    expected = forced_align_batch(log_probs, [60, 40], [[1, 2, 2], [3, 4]])
    assert [[(s.token, s.start, s.stop) for s in clip] for clip in found] == [
        [(s.token, s.start, s.stop) for s in clip] for clip in expected
    ]
    frames = torch.randint(256, (5, 32, 24, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    clips, settings = torch.tensor([0, 0, 1, 1, 1]), AugmentRecipe(probability=1.0)
    there, here = (
        augment(frames.to(place), clips.to(place), 2, torch.Generator().manual_seed(3), settings).cpu().int()
        for place in (ON, "cpu")
    )
    assert ((there - here).abs() <= 1).float().mean() > 0.99  # positions at edges may be rounded differently


# -- training ----------------------------------------------------------------------------------------------------------


def trained(corpora, folder, case=CASES[0], **train):
    """The weights after a few steps on the device."""
    recipe = recipe_of(case, corpora, folder, device=ON, max_steps=4, evaluate_every=2, **train)
    fit(recipe, progress=False)
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("precision", ["bf16-mixed", pytest.param("16-mixed", marks=needs_gpu)])
@pytest.mark.parametrize("case", [CASES[0], CASES[1]], ids=str)
def test_half_precision_trains_and_stays_finite(precision, case, corpora, tmp_path):
    weights = trained(corpora, tmp_path / "run", case, precision=precision)
    assert all(torch.isfinite(value).all() for value in weights.values() if value.is_floating_point())


@needs_gpu
def test_an_overflow_in_float16_skips_the_step_and_lowers_the_scale(corpora, tmp_path):
    recipe = recipe_of(CASES[0], corpora, tmp_path / "run", device=ON, max_steps=4, precision="16-mixed")
    made = loop.Loop(recipe, tmp_path / "run", None, progress=False)
    scaler = made.fabric._precision.scaler
    scaler._init_scale = 2.0**40  # any gradient times this is infinite in float16
    made.run()
    assert scaler.get_scale() < 2.0**40
    weights = load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.isfinite(value).all() for value in weights.values() if value.is_floating_point())


def test_a_stopped_run_goes_on_as_if_it_had_not(corpora, tmp_path, monkeypatch):
    whole = trained(corpora, tmp_path / "whole")
    step = loop.Loop._train_step

    def stopped(self, loaded):
        if self.step == 2:
            raise KeyboardInterrupt
        step(self, loaded)

    with monkeypatch.context() as patched:
        patched.setattr(loop.Loop, "_train_step", stopped)
        with pytest.raises(KeyboardInterrupt):
            trained(corpora, tmp_path / "run")
    for name, value in trained(corpora, tmp_path / "run").items():
        torch.testing.assert_close(value, whole[name], rtol=1e-4, atol=1e-5)


@needs_gpu
def test_batches_come_in_page_locked_memory(corpora, tmp_path):
    recipe = recipe_of(CASES[1], corpora, tmp_path / "run")
    _, material = built(recipe)
    data = ClipDataset(material.train.samples, material.tokenizer, recipe.reading, training=True)
    (loaded,) = clip_loader(data, [[0, 1]], workers=1, pin_memory=True)
    assert loaded.batch.inputs.is_pinned()
    assert loaded.batch.tokens.is_pinned()
    there = loaded.batch.to(ON)
    assert {v.device.type for v in vars(there).values() if isinstance(v, torch.Tensor)} == {"cuda"}
    assert there.host_lengths == loaded.batch.host_lengths


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_processes_change_nothing(workers, corpora, tmp_path):
    found = trained(corpora, tmp_path / "run", CASES[1], workers=workers)
    expected = trained(corpora, tmp_path / "alone", CASES[1])
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4)


def test_nothing_warns_about_the_precision_of_products(corpora, tmp_path):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        trained(corpora, tmp_path / "run")
    assert not [w for w in seen if "matmul_precision" in str(w.message)]


@needs_gpu
def test_a_full_gpu_is_one_line_with_the_keys_that_help(corpora, tmp_path):
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-6)
    try:
        with pytest.raises(ValueError, match="out of memory"):
            trained(corpora, tmp_path / "run", CASES[1])
    except torch.OutOfMemoryError:
        pytest.skip("not even the model fits the smallest share of this GPU")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@needs_gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_train_one_model(corpora, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    save_recipe(
        recipe_of(CASES[0], corpora, tmp_path / "run", device="cuda", devices=2, strategy="ddp", max_steps=3), recipe
    )
    done = subprocess.run(
        [sys.executable, "-m", "signcl", "fit", str(recipe)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    weights = load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.isfinite(value).all() for value in weights.values() if value.is_floating_point())
