"""Extracted features: the feature store of this package, and readers of .npy, .npz, key points and published pickles.

`read_features(path, name)` reads all of these formats; `write_store` writes a store.
"""

from signcl.data.features.feature_files import (
    FILE_SUFFIXES,
    ArrayFeatures,
    Features,
    PoseFeatures,
    count_feature_frames,
    is_feature_file,
    look_at_features,
    open_features,
    part_reader,
    read_features,
    read_part,
    side_by_side,
    with_features,
)
from signcl.data.features.store import (
    INDEX,
    FeatureStore,
    finished_store,
    stored_names,
    unfinished_meta,
    write_store,
)

__all__ = [
    "FILE_SUFFIXES",
    "INDEX",
    "ArrayFeatures",
    "FeatureStore",
    "Features",
    "PoseFeatures",
    "count_feature_frames",
    "is_feature_file",
    "look_at_features",
    "read_part",
    "open_features",
    "part_reader",
    "read_features",
    "finished_store",
    "side_by_side",
    "stored_names",
    "unfinished_meta",
    "with_features",
    "write_store",
]
