"""The pages: `serve` (translate, report, explorer, choosing frames) and `explore` (one self-contained HTML file).

`signs` draws the frames of a sign, `explore` and `nearness` make the explorer, `task` holds what there is to annotate,
`uploads` and `guard` judge what comes in, `app` puts all behind addresses, `server` runs it. The pages themselves are
in `static/`: plain HTML, CSS and JavaScript without a build step. `explore` needs no extra, `serve` signcl[serve].
"""

from signcl.web.explore import explore
from signcl.web.server import serve

__all__ = ["explore", "serve"]
