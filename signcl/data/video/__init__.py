"""Reads and writes clips: converts video files and folders of frame images to uint8 RGB arrays and back.

Reading is strict: a clip that is cut off, empty or not a video is an error that names the file and says how much of it
could be read. Augmentation and normalization are done in batches on the device (`signcl.systems.encoders`).
"""

from signcl.data.video.pictures import Frames, contact_sheet, resize_frames, sample_indices
from signcl.data.video.reading import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    DamagedClip,
    VideoInfo,
    clip_rate,
    count_clip_frames,
    frames_at,
    probe,
    read_frames,
    read_into,
    remarks,
)
from signcl.data.video.timing import other_rate
from signcl.data.video.tracks import DAMAGED, Damaged
from signcl.data.video.writing import video_bytes, write_video

__all__ = [
    "DAMAGED",
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "Damaged",
    "DamagedClip",
    "Frames",
    "VideoInfo",
    "clip_rate",
    "contact_sheet",
    "count_clip_frames",
    "frames_at",
    "other_rate",
    "probe",
    "read_frames",
    "read_into",
    "remarks",
    "resize_frames",
    "sample_indices",
    "video_bytes",
    "write_video",
]
