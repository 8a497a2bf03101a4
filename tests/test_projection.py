"""Maps of feature space: settings come back, few rows work, figures are written in every format and can be read."""

import numpy as np
import pytest
import torch

from signcl.density.figures import density_figure, density_panels, impact_figure
from signcl.density.maps import Projection, tsne, umap


def clusters(rows=60, glosses=4, size=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % glosses
    centres = 4 * torch.randn(glosses, size, generator=generator)
    return centres[labels] + torch.randn(rows, size, generator=generator), [f"SIGN{k}" for k in labels.tolist()]


def test_separate_glosses_stay_separate_and_the_seed_fixes_the_map():
    features, labels = clusters()
    one = tsne(features, perplexity=10, seed=1, pca=8)
    assert one.coordinates.shape == (60, 2)
    apart = np.linalg.norm(one.coordinates[:, None] - one.coordinates[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert all(labels[i] == labels[j] for i, j in enumerate(apart.argmin(axis=1)))
    assert np.array_equal(tsne(features, perplexity=10, seed=1, pca=8).coordinates, one.coordinates)
    assert one.settings | {"version": "", "pca_variance": 0, "iterations": 0} == {
        "method": "t-SNE",
        "perplexity": 10,
        "pca": 8,
        "seed": 1,
        "rows": 60,
        "version": "",
        "pca_variance": 0,
        "iterations": 0,
    }
    assert 0.5 < one.settings["pca_variance"] <= 1


@pytest.mark.parametrize(("rows", "size"), [(3, 1), (4, 5), (10, 100)])
def test_few_rows_lower_the_perplexity_and_say_so(rows, size):
    features = torch.randn(rows, size, generator=torch.Generator().manual_seed(0))
    projection = tsne(features)
    assert np.isfinite(projection.coordinates).all()
    assert projection.settings["perplexity"] == pytest.approx(max((rows - 1) / 3, 1))
    assert "lowered from 30" in projection.settings["note"]


def test_scale_and_shift_of_the_features_do_not_matter():
    features, _ = clusters(rows=30)
    one, other = tsne(features.double(), seed=0), tsne(features.double() * 1e30 + 1e29, seed=0)
    assert np.isfinite(other.coordinates).all()
    assert other.settings == one.settings


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        (torch.zeros(2, 4), {}, "at least 3 rows"),
        (torch.zeros(5), {}, r"features \[N, D\]"),
        (torch.zeros(5, 4), {}, "5 equal rows"),
        (torch.tensor([[1.0], [float("nan")], [2.0]]), {}, "infinity in 1 of 3 rows"),
        (torch.eye(5), {"perplexity": 0}, "perplexity > 0"),
        (torch.eye(5), {"pca": 0}, "pca >= 1"),
    ],
)
def test_impossible_input_is_one_clear_line(features, options, message):
    with pytest.raises(ValueError, match=message):
        tsne(features, **options)


@pytest.fixture
def made():
    generator = np.random.default_rng(0)
    labels = [f"SIGN{k}" for k in generator.integers(20, size=300)]
    return Projection(generator.normal(size=(300, 2)).astype(np.float32), {"method": "t-SNE", "rows": 300}), labels


def test_figures_are_written_in_every_format_without_pyplot(tmp_path, made):
    import sys

    projection, labels = made
    loaded = "matplotlib.pyplot" in sys.modules
    for kind, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        density_figure(projection, labels, ["SIGN3", "SIGN5"], tmp_path / f"map.{kind}", title="Wörter")
        assert (tmp_path / f"map.{kind}").read_bytes().startswith(start)
    assert loaded or "matplotlib.pyplot" not in sys.modules
    density_figure(projection, labels, path=tmp_path / "map.tmp", format="png")
    assert (tmp_path / "map.tmp").read_bytes().startswith(b"\x89PNG")


def test_the_legend_names_the_chosen_glosses_with_counts_and_greys_the_rest(made):
    projection, labels = made
    figure = density_figure(projection, labels, ["SIGN3", "SIGN5"])
    (axes,) = figure.axes
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == [
        f"others (18 glosses, {300 - labels.count('SIGN3') - labels.count('SIGN5')})",
        f"SIGN3 ({labels.count('SIGN3')})",
        f"SIGN5 ({labels.count('SIGN5')})",
    ]
    assert "300 rows" in axes.get_xlabel()
    # By default the seven most frequent; every highlighted gloss has its own pair of colour and marker.
    (axes,) = density_figure(projection, labels).axes
    assert len(axes.collections) == 8
    (axes,) = density_figure(projection, labels, [f"SIGN{k}" for k in range(20)]).axes
    looks = {(c.get_facecolor().tobytes(), c.get_paths()[0].vertices.tobytes()) for c in axes.collections}
    assert len(looks) == len(axes.collections) == 20


def test_wrong_figures_are_refused(tmp_path, made):
    projection, labels = made
    with pytest.raises(ValueError, match="299 labels for 300 points"):
        density_figure(projection, labels[1:])
    with pytest.raises(ValueError, match=r"unknown: \['SUN'\]"):
        density_figure(projection, labels, ["SIGN1", "SUN"])
    with pytest.raises(ValueError, match="png, svg or pdf"):
        density_figure(projection, labels, path=tmp_path / "map.jpeg")


def test_open_tsne_keeps_neighbours_together_and_is_repeatable():
    pytest.importorskip("openTSNE", reason="openTSNE is not installed (extra maps)")
    features = np.repeat(np.eye(4) * 50, 30, axis=0) + np.random.default_rng(0).normal(size=(120, 4))
    found = tsne(features, engine="openTSNE", perplexity=10)
    assert found.settings["version"].startswith("openTSNE")
    assert found.settings["iterations"] == 750
    apart = np.linalg.norm(found.coordinates[:, None] - found.coordinates[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (apart.argmin(axis=1) // 30 == np.arange(120) // 30).all()
    assert (tsne(features, engine="openTSNE", perplexity=10).coordinates == found.coordinates).all()
    assert tsne(features, engine="auto", perplexity=10).settings["version"].startswith("scikit-learn"), "few rows"


def test_umap_is_made_where_it_is_installed_and_said_where_not():
    import importlib.util

    features = np.random.default_rng(0).normal(size=(40, 4))
    if importlib.util.find_spec("umap") is None:
        with pytest.raises(ValueError, match="pip install umap-learn"):
            umap(features)
    else:
        assert umap(features, neighbours=5).coordinates.shape == (40, 2)


def test_panels_share_one_legend_and_one_colour_per_gloss(tmp_path, made):
    projection, labels = made
    fewer = Projection(projection.coordinates[:100], projection.settings)
    figure = density_panels(
        [projection, fewer],
        [labels, labels[:100]],
        ["VLP", "+ SignCL"],
        ["SIGN3", "SIGN5"],
        tmp_path / "f2.pdf",
        sdr=[0.9259, None],
    )
    left, right = figure.axes
    assert left.get_xlabel() == "SDR = 92.59 %"
    assert right.get_xlabel() == ""
    assert [axes.get_title() for axes in figure.axes] == ["(a) VLP", "(b) + SignCL"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["SIGN3", "SIGN5", "others"]
    for one, other in zip(left.collections, right.collections):
        assert (one.get_facecolor() == other.get_facecolor()).all()
    assert (tmp_path / "f2.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(ValueError, match="needs labels, a title and a ratio"):
        density_panels([projection], [labels], [])
    with pytest.raises(ValueError, match="needs labels, a title"):
        density_panels([], [], [])
    with pytest.raises(ValueError, match="one label per point"):
        density_panels([fewer], [labels], ["x"])


def test_the_figure_of_the_impact_draws_bins_and_scores(tmp_path):
    from types import SimpleNamespace

    bins = [
        SimpleNamespace(sdr=0.5 + 0.1 * i, accuracy=0.8 - 0.1 * i, error=0.02 if i else float("nan")) for i in range(3)
    ]
    figure = impact_figure(
        {"SMKD": [bins[1], bins[0], bins[2]], "VLP": bins[1:]},
        {"SMKD": {"NSLT": 20.0}, "VLP": {"NSLT": 12.0}},
        tmp_path / "f3.svg",
    )
    left, right = figure.axes
    assert left.lines[0].get_xdata() == pytest.approx([50, 60, 70])
    assert left.lines[0].get_ydata() == pytest.approx([80, 70, 60])
    assert [bar.get_height() for bar in right.patches] == [20.0, 12.0]
    assert len(impact_figure({"SMKD": bins}).axes) == 1
    with pytest.raises(ValueError, match="needs bins"):
        impact_figure({})
    with pytest.raises(ValueError, match=r"missing: \[\('VLP', 'NSLT'\)\]"):
        impact_figure({"SMKD": bins}, {"SMKD": {"NSLT": 1.0}, "VLP": {}})


@pytest.mark.parametrize("kind", ["svg", "pdf", "png"])
def test_the_same_map_gives_the_same_file(tmp_path, made, kind):
    projection, labels = made
    for name in ("a", "b"):
        density_figure(projection, labels, path=tmp_path / f"{name}.{kind}")
    assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
