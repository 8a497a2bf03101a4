"""Pre-extracted features: the package's own store, and readers of .npy, .npz and the field's pickles.

`read_features(path, name)` answers for any of them; `write_store` turns anything into a store.
"""

from signcl.features.sources import (
    ArrayFeatures,
    Features,
    check_size,
    count_feature_frames,
    feature_dim,
    open_features,
    read_features,
    with_features,
)
from signcl.features.store import (
    INDEX,
    FeatureStore,
    refuse_finished,
    stored_names,
    unfinished_meta,
    write_store,
)

__all__ = [
    "INDEX",
    "ArrayFeatures",
    "FeatureStore",
    "Features",
    "check_size",
    "count_feature_frames",
    "feature_dim",
    "open_features",
    "read_features",
    "refuse_finished",
    "stored_names",
    "unfinished_meta",
    "with_features",
    "write_store",
]
