"""Key points that are sent to `signcl serve`: .pose files, and those that the page finds in the browser."""

from pathlib import Path

import numpy as np
import pytest

from signcl.data.pose_files import read_points
from signcl.data.pose_layouts import LAYOUTS
from signcl.inference.translation import load_model, translate
from signcl.pages.uploads import Limits, Refused, kind_of, read_upload

CLIP = Path(__file__).parents[1] / "signcl/training/shipped/poses/samples/clip-1.npy"


def write_named(path: Path, layout: str, points: np.ndarray, seen: np.ndarray, fps: float = 25.0) -> Path:
    """A .pose file of one of our layouts. points [T, K, 2 or 3], seen [T, K]"""
    from pose_format import Pose
    from pose_format.numpy.pose_body import NumPyPoseBody
    from pose_format.pose_header import PoseHeader, PoseHeaderComponent, PoseHeaderDimensions

    parts = [
        PoseHeaderComponent(
            part.component, list(part.points or map(str, range(part.count))), [], [(0, 0, 0)], "XYZC"[-points.shape[2] - 1 :]
        )
        for part in LAYOUTS[layout].parts
    ]
    body = NumPyPoseBody(fps, np.ma.masked_array(points[:, None]), seen[:, None].astype(np.float32))
    with path.open("wb") as file:
        Pose(PoseHeader(0.2, PoseHeaderDimensions(64, 64, 0), parts), body).write(file)
    return path


@pytest.fixture(scope="module")
def shipped():
    """`demo:poses`, which reads COCO-WholeBody."""
    return load_model("demo:poses", device="cpu")


@pytest.fixture
def coco(tmp_path) -> Path:
    """The shipped sample clip as a .pose file, under a name without ending, as the server has it."""
    _, points, seen = read_points(CLIP)["clip-1"].placed()
    write_named(tmp_path / "sent.pose", "coco_wholebody", points[:, 0], seen[:, 0])
    return (tmp_path / "sent.pose").rename(tmp_path / "clip")


def refused(path, run, limits=None, **more) -> Refused:
    with pytest.raises(Refused) as found:
        read_upload(path, run, limits or Limits(), print, **more)
    assert "\n" not in str(found.value)
    assert str(path.parent) not in str(found.value)
    return found.value


def test_a_pose_file_that_is_sent_gives_the_rows_and_sentence_of_the_command(shipped, coco):
    notes = []
    rows = read_upload(coco, shipped.run, Limits(), notes.append)
    np.testing.assert_allclose(rows, read_upload_of_array(shipped), atol=1e-6)
    assert translate(shipped, rows).text == translate(shipped, CLIP).text
    assert coco.is_file()
    assert notes == []


def read_upload_of_array(shipped):
    from signcl.data.batch import Sample
    from signcl.data.loading import load_raw

    return load_raw(Sample("clip-1", "", features=CLIP), shipped.run.recipe.input)


def test_x(shipped, coco):
    print(kind_of(coco.read_bytes()[:16]))
    coco.write_bytes(coco.read_bytes()[:-1000])
    print(refused(coco, shipped.run))
    write_named(coco, "mediapipe", np.random.rand(5, 178, 3), np.ones((5, 178)))
    print(refused(coco, shipped.run))
    print(refused(coco, shipped.run, part=(0.0, 1.0)))
    print(refused(coco, shipped.run, extractor="{"))
    coco.write_bytes(b"nothing")
    print(refused(coco, shipped.run))
