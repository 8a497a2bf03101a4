"""A synthetic corpus of signed sentences: real video files with frame-exact annotation.

An articulated figure signs sentences from a small grammar. Each sign is a bundle of phonological parameters; some
signs form minimal pairs. The corpus is the default, the test bed, and an instrument for experiments: every setting in
`SyntheticSettings` can be changed independently. It is not a sign language; docs/data.md says what carries over to
real signing.

    settings.py settings, random draws   words.py -> lexicon.py -> grammar.py   signers.py
    plan.py every clip, in integers      hands.py, body.py motion   render.py -> scene.py pixels   making.py files
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from signcl.data.annotation import table_files as tables
from signcl.data.corpora import folder
from signcl.data.corpora._layout import Layout
from signcl.data.corpora.synthetic.lexicon import PARAMETERS, Sign, build_lexicon, difference
from signcl.data.corpora.synthetic.making import MadeCorpus, make_corpus
from signcl.data.corpora.synthetic.plan import ClipPlan, CorpusPlan, plan_corpus
from signcl.data.corpora.synthetic.settings import VERSION, SyntheticSettings

if TYPE_CHECKING:
    from signcl.data.annotation.table_files import OnError
    from signcl.data.batch import Sample

__all__ = [
    "PARAMETERS",
    "VERSION",
    "ClipPlan",
    "CorpusPlan",
    "MadeCorpus",
    "Sign",
    "SyntheticSettings",
    "build_lexicon",
    "difference",
    "make_corpus",
    "plan_corpus",
    "samples",
]

LAYOUT = Layout(
    files=("lexicon.json",),
    about="a synthetic corpus drawn by this package",
    published="`signcl corpus make DIR` draws one; for a recipe, `signcl recipes show NAME` has the options",
    needs="what `signcl corpus make` has written, all of it",
)


def samples(root: Path, split: str, *, on_error: OnError | None = None) -> list[Sample]:
    """Reads the sentences of one split of a corpus written by `make_corpus`.

    Args:
        root: the corpus folder.
        split: train, dev or test.
        on_error: called with each broken row; by default the first error is raised.

    Raises:
        ValueError: the corpus does not exist or is incomplete.
    """
    root = Path(root)
    if (root / "corpus.json").exists() and split in ("train", "dev", "test") and not (root / f"{split}.tsv").exists():
        raise ValueError(f"{root}: this synthetic corpus is not finished; run `signcl corpus make` on it again")
    return folder.samples(root, split, on_error=on_error or tables.stop)
