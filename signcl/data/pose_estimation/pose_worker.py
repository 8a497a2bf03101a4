"""The process that runs MediaPipe in a separate environment: reads frames on stdin, writes key points to stdout.

MediaPipe 0.10.21 needs numpy 1 and protobuf 4, but signcl needs newer versions. So the Python of `pose_environment`
runs this file as a script, and it imports nothing from signcl. The other end is `PoseProcess` in `pose_estimator`.

Requests and answers; numbers are little-endian:

    "hello"      no body              -> "ok" and a JSON object: the estimator and its versions
    "clip"       no body              -> "ok"; a new clip starts, so tracking is reset
    "frame" H W  H * W * 3 bytes RGB  -> "points" and K * 4 float32: x, y, depth in pixels, confidence
    any request                       -> "error" and a text, if it fails

A message consists of its name (8 bytes, padded with spaces), two uint32 (H and W of a frame; the length of the body and
0 in answers) and the body.
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
        "model_complexity": 1,  # its weights are in the wheel; those of 0 and 2 would be downloaded
        "smooth_landmarks": True,
        "refine_face_landmarks": False,
        "min_detection_confidence": 0.5,
        "min_tracking_confidence": 0.5,
    }

    def __init__(self):
        os.environ.setdefault("GLOG_minloglevel", "2")
        import mediapipe

        if not hasattr(mediapipe, "solutions"):
            raise ImportError(f"mediapipe {mediapipe.__version__} does not include the Holistic models; 0.10.21 does")
        self.version = mediapipe.__version__
        self.holistic = mediapipe.solutions.holistic.Holistic(static_image_mode=False, **self.SETTINGS)

    def described(self):
        """Everything that affects the points: the estimator, its version, its settings."""
        return {"estimator": "mediapipe-holistic", "version": self.version, **self.SETTINGS}

    def reset(self):
        """Resets tracking."""
        self.holistic.reset()

    def points(self, frame):
        """[H, W, 3] uint8 RGB -> [543, 4] float32: x, y and depth in pixels, confidence; zero if not found."""
        height, width = frame.shape[:2]
        found = self.holistic.process(frame)
        points, start = np.zeros((POINTS, 4), np.float32), 0
        for part, count in PARTS:
            landmarks = getattr(found, part)
            if landmarks is not None:
                # MediaPipe gives a confidence only for body points; it finds all points of a hand or face, or none.
                body = part == "pose_landmarks"
                points[start : start + count] = [
                    (p.x * width, p.y * height, p.z * width, p.visibility if body else 1.0)
                    for p in landmarks.landmark[:count]
                ]
            start += count
        return points


def serve(make, source, sink):
    """Answers requests until the other end closes the pipe.

    Args:
        make: creates the estimator, an object with `described`, `reset` and `points`.
        source, sink: binary files for requests and answers.
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
    answers = os.fdopen(os.dup(1), "wb")  # libraries of MediaPipe may print to stdout, which now goes to stderr
    os.dup2(2, 1)
    serve(Holistic, sys.stdin.buffer, answers)
