"""Pre-extracted features: the package's own store, and readers of .npy, .npz, key points and the field's pickles.

`read_features(path, name)` answers for any of them; `write_store` turns anything into a store.
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
    "read_features",
    "finished_store",
    "side_by_side",
    "stored_names",
    "unfinished_meta",
    "with_features",
    "write_store",
]
