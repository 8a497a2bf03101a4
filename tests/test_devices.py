"""On a device that is not the CPU: no mix of devices anywhere, and the same values (tests/other_device.py).

Also the messages for a missing device, precision or memory. Tests that need a real GPU are in tests/gpu.
"""

import importlib.util
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from other_device import DEVICE, OnDevice, other_device
from systems import CASES, batch_of, built, losses, recipe_of

from signcl import losses as functions
from signcl.cli import main
from signcl.data.batch import Span
from signcl.data.installed import version_of
from signcl.data.sections import AugmentRecipe
from signcl.density import (
    compare_ratios,
    gloss_distances,
    label_free_density,
    other_measures,
    pool_spans,
    ratio_interval,
    sdr_interval,
    shuffle_baseline,
    sign_density_ratio,
    to_rows,
)
from signcl.density.forced_align import forced_align_batch, peak_frames
from signcl.pages.nearness import confusable_pairs, medoids, nearest
from signcl.systems.encoders import augment
from signcl.training import fit
from signcl.training.devices import check_device, memory_advice
from signcl.training.optimizer import make_optimizer, set_rates
from signcl.training.recipe import TrainRecipe, recipe_from_dict
from signcl.training.refusals import Refusals, carried, total_norm
from signcl.training.runs import load_run

ONE_OF_EACH = {case.name: case for case in reversed(CASES)}
"""One row per system; its other rows compute with the same tensors."""


# -- the stand-in itself -----------------------------------------------------------------------------------------------


def test_the_other_device_refuses_what_cuda_refuses():
    with other_device():
        there, here = torch.ones(3, device=DEVICE), torch.ones(3)
        for mixed in (
            lambda: there + here,
            lambda: here.add_(there),
            lambda: torch.zeros((), dtype=torch.float64).add_(there.sum()),
            lambda: here[torch.tensor([0], device=DEVICE)],
            lambda: torch.cat([there, here]),
        ):
            with pytest.raises(RuntimeError, match="same device"):
                mixed()
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        assert (there + torch.tensor(1.0)).tolist() == [2.0, 2.0, 2.0]  # a number of the CPU is welcome
        assert isinstance(there[torch.tensor([0])], OnDevice)
        assert type(there.cpu()) is torch.Tensor


# -- losses ------------------------------------------------------------------------------------------------------------


def frames(batch: int = 2, length: int = 30) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, length, 6, generator=generator)
    return x, torch.tensor([length, length - 6]), torch.tensor([4.0, 3.0])


SIGNCL = [
    {"variant": "paper"},
    {"variant": "paper", "negatives": 3},
    {"variant": "paper", "negatives": torch.randint(30, (30, 2), generator=torch.Generator().manual_seed(0))},
    {"variant": "paper", "distance_margin_mode": "relative"},
    {"variant": "paper", "same_sign": 0.75},
    {"variant": "released"},
    {"variant": "released", "negatives": 2},
]


@pytest.mark.parametrize("options", SIGNCL, ids=str)
def test_signcl_on_another_device_is_that_of_the_cpu(options):
    x, lengths, margin = frames()
    if "negatives" in options and isinstance(options["negatives"], int):
        options = options | {"generator": torch.Generator().manual_seed(1)}
    here = x.clone().requires_grad_()
    expected = functions.signcl_loss(here, lengths, margin, **options)
    expected.backward()
    if "generator" in options:
        options["generator"].manual_seed(1)
    with other_device():
        there = x.to(DEVICE).requires_grad_()
        moved = {k: v.to(DEVICE) if isinstance(v, torch.Tensor) else v for k, v in options.items()}
        found = functions.signcl_loss(there, lengths.to(DEVICE), margin.to(DEVICE), **moved)
        found.backward()
        torch.testing.assert_close(found.detach().cpu(), expected.detach())
        torch.testing.assert_close(there.grad.cpu(), here.grad)


def test_every_other_loss_works_on_another_device():
    generator = torch.Generator().manual_seed(0)
    x, lengths, margin = frames()
    vectors, others = torch.randn(4, 6, generator=generator), torch.randn(4, 6, generator=generator)
    tokens = torch.tensor([[1, 2, 3], [2, 4, 0]])
    token_lengths = torch.tensor([3, 2])
    log_probs = torch.randn(2, 30, 6, generator=generator).log_softmax(dim=2)
    scale = torch.tensor(1.0)

    def every(move):
        f, n, m = move(x), move(lengths), move(margin)
        words = move(torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(1)))
        yield "infonce", functions.sign_infonce(f, n, m)
        yield "infonce released", functions.sign_infonce(f, n, m, variant="released")
        yield "clip", functions.clip_loss(move(vectors), move(others), move(scale))
        yield "released clip", functions.clip_loss(move(vectors), move(others), move(scale), target="released")
        ids = move(torch.tensor([1, 2, 1, 3]))
        yield "clip with twins", functions.clip_loss(move(vectors), move(others), move(scale), sentence_ids=ids)
        yield "token clip", functions.token_clip_loss(f, n, words, move(token_lengths), move(scale))
        yield "similarity", functions.sentence_similarity_loss(move(vectors), move(others))
        yield "ctc", functions.ctc_loss(move(log_probs), move(tokens), n, move(token_lengths))
        skipped = functions.ctc_loss(
            move(log_probs), move(tokens), move(torch.tensor([30, 1])), move(token_lengths), too_long="skip"
        )
        yield "ctc skip", skipped
        logits = move(torch.randn(2, 3, 9, generator=torch.Generator().manual_seed(2)))
        yield "words", functions.label_smoothed_cross_entropy(logits, move(tokens), 0, 0.2)
        yield "distillation", functions.distillation_loss(move(log_probs), move(log_probs * 2), n)
        yield (
            "pseudo-glosses",
            functions.pseudo_gloss_loss(f.clamp(-1, 1), n, move((x[:, 0] > 0).float()), move(scale), move(scale)),
        )
        yield "frame margin", functions.estimate_frame_margin(n, move(torch.tensor([5.0, 7.0])))
        layer = functions.SignCL(floor=2)
        yield "SignCL", layer(f, n, num_words=move(torch.tensor([5.0, 7.0])))

    expected = dict(every(lambda value: value))
    with other_device():
        for name, value in every(lambda value: value.to(DEVICE)):
            assert isinstance(value, OnDevice), name
            torch.testing.assert_close(value.cpu(), expected[name], msg=lambda text, name=name: f"{name}: {text}")


# -- density -----------------------------------------------------------------------------------------------------------


def signs() -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of twelve glosses, some of them copies of one another, a gloss of more rows than `SMALL`."""
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(300, generator=generator) ** 2 * 12).long()
    rows = torch.randn(300, 20, generator=generator) + 2 * torch.randn(12, 20, generator=generator)[labels]
    rows[5:20] = rows[5]
    return rows, labels


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"distance": "squared"},
        {"distance": "cosine"},
        {"inter": "instance"},
        {"cap": 20},
        {"weights": torch.arange(1.0, 301)},
        {"others": False, "min_count": 15},
    ],
    ids=str,
)
def test_density_on_another_device_is_that_of_the_cpu(options, monkeypatch):
    monkeypatch.setattr("signcl.density.pairs.SMALL_DEVICE", 32)  # both ways within a gloss
    rows, labels = signs()
    expected = sign_density_ratio(rows, labels, block=64, **options)
    with other_device():
        there = sign_density_ratio(rows.to(DEVICE), labels.to(DEVICE), block=64, **options)
        brought = sign_density_ratio(rows.numpy(), labels.numpy(), device=DEVICE, block=64, **options)
        for found in (there, brought):
            for name in ("gloss_ids", "counts", "intra", "inter", "sdr"):
                value = getattr(found, name)
                assert type(value) is torch.Tensor, f"{name} is documented to be on the CPU"
                torch.testing.assert_close(value, getattr(expected, name), rtol=1e-5, atol=1e-7)
            assert to_rows(found)[0]["gloss"] == to_rows(expected)[0]["gloss"]


def test_what_is_around_the_ratio_works_on_another_device():
    rows, labels = signs()
    with other_device():
        x, y = rows.to(DEVICE), labels.to(DEVICE)
        mean = gloss_distances(x, y, block=64).mean
        assert type(mean) is torch.Tensor
        torch.testing.assert_close(mean, gloss_distances(rows, labels, block=64).mean, rtol=1e-5, atol=1e-6)
        assert shuffle_baseline(x, y).mean == pytest.approx(shuffle_baseline(rows, labels).mean, rel=1e-6)
        found, expected = (ratio_interval(f, g, samples=5) for f, g in ((x, y), (rows, labels)))
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-6)
        assert sdr_interval(sign_density_ratio(x, y), samples=5).mean == pytest.approx(expected.mean, rel=1e-6)
        assert compare_ratios(x, 2 * x, y, samples=5).difference == pytest.approx(0, abs=1e-6)
        assert other_measures(x, y).values == pytest.approx(other_measures(rows.numpy(), labels.numpy()).values)
        clips = [rows[:60], rows[60:120]]
        assert label_free_density([c.to(DEVICE) for c in clips]) == label_free_density([c.numpy() for c in clips])
        for choice in ("centre", "mean", "medoid"):
            spans = [Span("A", 0, 4), Span("B", 4, 20)]
            torch.testing.assert_close(pool_spans(x, spans, choice).cpu(), pool_spans(rows, spans, choice))
        np.testing.assert_array_equal(nearest(x, 3), nearest(rows, 3))
        assert medoids(x, y) == medoids(rows, labels)
        assert confusable_pairs(x, y, 2)[0].a == confusable_pairs(rows, labels, 2)[0].a


def test_spans_are_aligned_on_another_device():
    log_probs = torch.randn(2, 30, 6, generator=torch.Generator().manual_seed(0)).log_softmax(dim=2)
    expected = forced_align_batch(log_probs, [30, 20], [[1, 2, 2], [3]])
    with other_device():
        there = log_probs.to(DEVICE)
        assert forced_align_batch(there, torch.tensor([30, 20], device=DEVICE), [[1, 2, 2], [3]]) == expected
        assert peak_frames(there[0], expected[0]) == peak_frames(log_probs[0], expected[0])


def test_products_are_exact_where_a_program_allows_tf32():
    rows, labels = signs()
    expected, before = sign_density_ratio(rows, labels), torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert torch.equal(sign_density_ratio(rows, labels).sdr, expected.sdr)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


# -- systems -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ONE_OF_EACH.values(), ids=str)
def test_a_step_and_an_answer_of_every_system_on_another_device(case, corpora, tmp_path, monkeypatch):
    recipe = recipe_of(case, corpora, tmp_path / "run", max_steps=1)
    model, material = built(recipe)
    model.eval()
    batch = batch_of(material, recipe, [0, 1])
    torch.manual_seed(0)
    expected = {name: value.detach() for name, value in losses(model, batch, recipe).items()}
    decode = replace(recipe.decode, max_new_tokens=2)
    said = None if model.answers == "nothing" else model.answer(batch, decode)
    with other_device():
        model.to(DEVICE)
        there = batch.to(DEVICE)
        torch.manual_seed(0)
        terms = losses(model, there, recipe)
        for name, value in terms.items():
            torch.testing.assert_close(value.detach().cpu(), expected[name], rtol=1e-4, atol=1e-5)
        if said is not None:
            assert model.answer(there, decode) == said
        if model.recognises:
            assert model.glosses_of(there, decode)
        for tap in model.TAPS:
            assert isinstance(model.tapped(there, tap).rows, OnDevice), tap
        fabric = Fabric(accelerator="cpu", devices=1)
        monkeypatch.setattr("lightning_fabric.fabric._has_meta_device_parameters_or_buffers", lambda _: False)
        optimizer = fabric.setup_optimizers(make_optimizer(model, recipe.train))
        refusals = Refusals(model, optimizer, fabric)
        carried(sum(terms.values())).backward()
        set_rates(optimizer, 0, 1, recipe.train, 1.0)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        refusals.step(total_norm(optimizer), 0, terms, batch.names)
        refusals.look()
        assert refusals.count == 0


def test_frames_are_augmented_on_another_device():
    inputs = torch.randint(256, (5, 12, 10, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    clips, settings = torch.tensor([0, 0, 1, 1, 1]), AugmentRecipe(probability=1.0)
    expected = augment(inputs, clips, 2, torch.Generator().manual_seed(3), settings)
    with other_device():
        there = augment(inputs.to(DEVICE), clips.to(DEVICE), 2, torch.Generator().manual_seed(3), settings)
        assert isinstance(there, OnDevice)
        assert (there.cpu().int() - expected.int()).abs().max() <= 1


# -- what is not there -------------------------------------------------------------------------------------------------


def gpus(monkeypatch, number: int, *, bfloat16: bool = True) -> None:
    """Make torch report this number of GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: number)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bfloat16)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))


def test_a_gpu_that_is_not_there_is_one_line(corpora, tmp_path, monkeypatch, capsys):
    gpus(monkeypatch, 0)
    recipe = recipe_of(CASES[0], corpora, tmp_path / "run", device="cuda")
    with pytest.raises(ValueError, match=r"train.device=cuda needs a CUDA GPU.*--train.device=cpu"):
        fit(recipe, progress=False)
    assert check_device(replace(recipe.train, device="auto")) == "cpu"


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({"devices": 4}, "train.devices=4 needs as many GPUs on this machine, but there are 2.*accumulate=2 "),
        ({"precision": "bf16-mixed"}, "compute capability 8.0 or above, and Tesla T4 has 7.5.*16-mixed"),
        ({"precision": "16-mixed", "device": "cpu"}, "16-mixed needs a GPU"),
        ({"device": "mps"}, "train.device=mps needs an Apple GPU"),
    ],
    ids=str,
)
def test_what_the_gpus_here_cannot_do_is_said_with_what_they_can(train, said, monkeypatch):
    gpus(monkeypatch, 2, bfloat16=False)
    with pytest.raises(ValueError, match=said):
        check_device(replace(TrainRecipe(device="cuda"), **train))
    assert check_device(TrainRecipe(device="cuda", devices=2, precision="16-mixed")) == "cuda"


FULL = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB"


def out_of_memory(*arguments, **named):
    raise torch.OutOfMemoryError(FULL)


def test_a_step_out_of_memory_names_the_keys_with_their_numbers(corpora, tmp_path, monkeypatch):
    recipe = recipe_of(CASES[1], corpora, tmp_path / "run")
    monkeypatch.setattr("signcl.training.optimizer.Objective.forward", out_of_memory)
    with pytest.raises(ValueError, match="out of memory in step 0 of training with 4 clips") as failed:
        fit(recipe, progress=False)
    for part in (
        "CUDA out of memory. Tried to allocate 2.00 GiB; try",
        "train.batch_size=2 (now 4) with train.accumulate=2 (now 1)",
        "train.batch_frames=",
        "model.chunk=17 (frames encoded at a time, now all at once)",
        "train.precision=bf16-mixed (now 32-true)",
        "24x24 px",
    ):
        assert part in str(failed.value)
    assert "\n" not in str(failed.value)


def test_evaluate_and_extract_out_of_memory_say_what_to_lower(corpora, tmp_path, monkeypatch, capsys):
    recipe = recipe_of(CASES[0], corpora, tmp_path / "run", max_steps=1, evaluate_every=1)
    fit(recipe, progress=False)
    monkeypatch.setattr(type(load_run(tmp_path / "run").model), "features", out_of_memory)
    monkeypatch.setattr(type(load_run(tmp_path / "run").model), "generate_scored", out_of_memory)
    monkeypatch.setattr(type(load_run(tmp_path / "run").model), "tapped", out_of_memory)
    capsys.readouterr()
    run = str(tmp_path / "run")
    for words in (
        ["evaluate", run, "--split", "dev"],
        ["extract", run, "-o", str(tmp_path / "store"), "--split", "dev"],
    ):
        assert main([*words, "--device", "cpu", "--batch-size", "2"]) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert "out of memory" in said
        assert "--batch-size of signcl evaluate and extract, now 2" in said
        assert "train.accumulate" not in said  # nothing trains here


def test_nothing_to_lower_says_so():
    recipe = recipe_from_dict({"model": {"name": "slt"}, "train": {"batch_size": 1, "precision": "bf16-mixed"}})
    with (
        pytest.raises(ValueError, match="try a smaller model or a larger GPU"),
        memory_advice(recipe, None, "training"),
    ):
        out_of_memory()


def test_the_precision_of_products_is_chosen_by_the_recipe(corpora, tmp_path):
    before = torch.get_float32_matmul_precision()
    try:
        for asked in ("high", "highest"):
            recipe = recipe_of(CASES[0], corpora, tmp_path / asked, max_steps=1, matmul_precision=asked)
            fit(recipe, progress=False)
            assert torch.get_float32_matmul_precision() == asked
    finally:
        torch.set_float32_matmul_precision(before)


def test_the_tests_for_a_gpu_run(corpora, tmp_path, monkeypatch):
    """Some of them on the CPU; the whole file is imported."""
    monkeypatch.setenv("SIGNCL_GPU_TESTS_ON", "cpu")
    spec = importlib.util.spec_from_file_location("gpu_tests", Path(__file__).parent / "gpu" / "test_gpu.py")
    tests = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tests)
    assert tests.ON == "cpu"
    tests.test_signcl_loss_is_that_of_the_cpu({"variant": "paper"}, 5)
    tests.test_density_around_the_ratio_is_that_of_the_cpu()
    tests.test_alignment_and_augmentation_are_those_of_the_cpu()
    tests.test_a_step_of_every_system_is_that_of_the_cpu(ONE_OF_EACH["recogniser"], corpora, tmp_path)
    tests.test_nothing_warns_about_the_precision_of_products(corpora, tmp_path / "warned")


# -- from a source tree ------------------------------------------------------------------------------------------------


def test_the_command_works_from_a_source_tree_that_is_not_installed(tmp_path):
    root = Path(__file__).parents[1]
    packages = Path(np.__file__).parents[1]
    for entry in packages.iterdir():  # everything that is installed but this package
        if "signcl" not in entry.name and entry.suffix != ".pth":
            (tmp_path / entry.name).symlink_to(entry)
    done = subprocess.run(
        [sys.executable, "-S", "-m", "signcl", "--version"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == f"signcl {version_of('signcl')}", done.stderr


def test_the_version_is_that_of_the_project():
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{version_of("signcl")}"\n' in project
    assert version_of("torch") == torch.__version__
    assert version_of("no-such-package") == "not installed"
