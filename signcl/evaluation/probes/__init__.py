"""Probes that test whether the score of a translation run can be trusted.

`overlap` (sentences seen in training), `visual` (the score without the video), `dot` (the effect of scoring
conventions); and `changes`, the sentences on which two runs differ most. `probing` applies them to a run folder.
"""

from signcl.evaluation.probes.altered_video import ALTERED, Look, alter, another_clip, measure_look
from signcl.evaluation.probes.changes import changed_sentences, sentence_scores
from signcl.evaluation.probes.conventions import convention_table
from signcl.evaluation.probes.overlap import overlap_table
from signcl.evaluation.probes.probing import PROBES, changes, probe

__all__ = [
    "ALTERED",
    "PROBES",
    "Look",
    "alter",
    "another_clip",
    "changed_sentences",
    "changes",
    "convention_table",
    "measure_look",
    "overlap_table",
    "probe",
    "sentence_scores",
]
