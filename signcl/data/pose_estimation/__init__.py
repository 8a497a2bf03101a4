"""Key points from video: runs MediaPipe Holistic in a separate process and environment, and manages .pose folders.

`extract_poses` fills a folder and can resume after an interruption; `Estimator` handles single clips. The folder
records which extractor made its files (`folder_extractor`), and so does a run trained on them.
"""

from signcl.data.pose_estimation.browser_holistic import (
    BROWSER_EXTRACTOR,
    INSTALL_BROWSER,
    browser_differs,
    find_browser_holistic,
    install_browser_holistic,
)
from signcl.data.pose_estimation.pose_environment import environment_folder, make_environment
from signcl.data.pose_estimation.pose_estimator import Extractor, PoseProcess, start_holistic
from signcl.data.pose_estimation.pose_folder import (
    PoseReport,
    clips_in,
    extract_poses,
    folder_extractor,
    look_at_poses,
)
from signcl.data.pose_estimation.pose_kind import PoseKind, check_extractor, check_kind, kind_of
from signcl.data.pose_estimation.pose_of_clip import Estimated, Estimator, estimate, finish, pose_bytes

__all__ = [
    "BROWSER_EXTRACTOR",
    "INSTALL_BROWSER",
    "Estimated",
    "Estimator",
    "Extractor",
    "PoseKind",
    "PoseProcess",
    "PoseReport",
    "browser_differs",
    "check_extractor",
    "check_kind",
    "clips_in",
    "environment_folder",
    "estimate",
    "extract_poses",
    "find_browser_holistic",
    "finish",
    "folder_extractor",
    "install_browser_holistic",
    "kind_of",
    "look_at_poses",
    "make_environment",
    "pose_bytes",
    "start_holistic",
]
