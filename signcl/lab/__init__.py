"""The density lab on files: anybody's features with spans or glosses in (`sources`), one result out (`measure`), as
text, JSON, CSV, Markdown and LaTeX (`writing`).

`signcl.density` holds the arithmetic, this package what surrounds it; a run's own features come through
`signcl.analysis`.
"""

from signcl.lab.instances import Instances
from signcl.lab.measure import Settings, measure_instances
from signcl.lab.sources import Annotation, load_clips, load_instances

__all__ = ["Annotation", "Instances", "Settings", "load_clips", "load_instances", "measure_instances"]
