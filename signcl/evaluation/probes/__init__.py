"""Can a score be trusted? Probes of a translation run, each a table of its own beside the score.

`overlap` (sentences that training has seen), `visual` (what is left without the video), `dot` (what conventions of
scoring do); and `changes`, the sentences on which two runs differ most. `running` brings them to a run folder.
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
