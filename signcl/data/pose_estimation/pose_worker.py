"""The process that runs MediaPipe, in an environment of its own: frames in on stdin, key points out on stdout.

MediaPipe 0.10.21 needs numpy 1 and protobuf 4, which this package does not. So this file is run as a script by the
Python of `pose_environment`, and imports nothing of the package. `PoseProcess` in `pose_estimator` is the other end.

What travels, numbers little-endian:

    in      "hello"           no body             -> "ok" and a JSON object: what estimates, with its versions
            "clip"            no body             -> "ok": forget the clip before
            "frame" H W       H * W * 3 bytes RGB -> "points" and K * 4 float32: x, y, depth in pixels, confidence
    out     "error" and a text, in place of any answer

Each message is 8 bytes of its name, padded with spaces, two uint32 (H and W; or the length of the body and 0), and the
body.
"""

import json
import os
import platform
import struct
import sys

import numpy as np

HEAD = struct.Struct("<8sII")
PARTS = (("pose_landmarks", 33), ("face_landmarks", 468), ("left_hand_landmarks", 21), ("right_hand_landmarks", 21))
POINTS = sum(count for _, count in PARTS)


class Holistic:
    """MediaPipe Holistic: one person, tracked from frame to frame."""

    SETTINGS = {  # noqa: RUF012  (this file has to run without the rest of the package)
        "model_complexity": 1,  # the one whose weights are in the wheel; 0 and 2 would be downloaded
        "smooth_landmarks": True,
        "refine_face_landmarks": False,
        "min_detection_confidence": 0.5,
        "min_tracking_confidence": 0.5,
    }

    def __init__(self):
        os.environ.setdefault("GLOG_minloglevel", "2")
        import mediapipe

        if not hasattr(mediapipe, "solutions"):
            raise ImportError(f"mediapipe {mediapipe.__version__} has no Holistic with its models; 0.10.21 has")
        self.version = mediapipe.__version__
        self.holistic = mediapipe.solutions.holistic.Holistic(static_image_mode=False, **self.SETTINGS)

    def described(self):
        """What decides the points: the estimator, its version, its settings."""
        return {"estimator": "mediapipe-holistic", "version": self.version, **self.SETTINGS}

    def reset(self):
        """Forget who was tracked."""
        self.holistic.reset()

    def points(self, frame):
        """[H, W, 3] uint8 RGB -> [543, 4] float32: x, y and depth in pixels, confidence; zero where not found."""
        height, width = frame.shape[:2]
        found = self.holistic.process(frame)
        points, start = np.zeros((POINTS, 4), np.float32), 0
        for part, count in PARTS:
            landmarks = getattr(found, part)
            if landmarks is not None:
                # MediaPipe rates the points of the body alone; it gives hands and face whole, or not at all.
                body = part == "pose_landmarks"
                points[start : start + count] = [
                    (p.x * width, p.y * height, p.z * width, p.visibility if body else 1.0)
                    for p in landmarks.landmark[:count]
                ]
            start += count
        return points


def serve(make, source, sink):
    """Answer messages until the other end closes.

    Args:
        make: makes the estimator: an object with `described`, `reset` and `points`.
        source, sink: binary files.
    """
    try:
        estimator = make()
    except Exception as error:
        _answer(sink, "error", f"{type(error).__name__}: {error}".encode())
        return
    while True:
        head = source.read(HEAD.size)
        if len(head) < HEAD.size:
            return
        name, height, width = HEAD.unpack(head)
        try:
            if name.strip() == b"hello":
                said = {**estimator.described(), "python": platform.python_version(), "numpy": np.__version__}
                _answer(sink, "ok", json.dumps(said).encode())
            elif name.strip() == b"clip":
                estimator.reset()
                _answer(sink, "ok", b"")
            else:
                pixels = source.read(height * width * 3)
                if len(pixels) < height * width * 3:
                    return
                frame = np.frombuffer(pixels, np.uint8).reshape(height, width, 3)
                points = np.ascontiguousarray(estimator.points(frame), np.float32)
                _answer(sink, "points", points.tobytes())
        except Exception as error:
            _answer(sink, "error", f"{type(error).__name__}: {error}".encode())


def _answer(sink, name, body):
    sink.write(HEAD.pack(name.encode().ljust(8), len(body), 0) + body)
    sink.flush()


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "wb")  # MediaPipe's libraries may print to stdout: that goes to stderr now
    os.dup2(2, 1)
    serve(Holistic, sys.stdin.buffer, answers)
