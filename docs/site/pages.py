"""Hooks of MkDocs (`hooks` in mkdocs.yml): the site holds every page of the repository, not only those in docs/.

Pages link to each other by paths in the repository, so that they can be read there too. Here README becomes the home
page, the pages of `paper` and `benchmarks` join, linked files are published beside them, a notebook becomes a page with
its stored outputs, and the page of commands is written from the parser. Links follow. A link to a file that is not
there fails the build.
"""

import argparse
import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority, get_plugin_logger
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from signcl.cli import make_parser
from signcl.cli.parsing import every_parser

ROOT = Path(__file__).parents[2]
HOME = "README.md"
COMMANDS = "reference/commands.md"
CARDS = "signcl/training/shipped/"
RENAMED = {HOME: "index.md", "paper/README.md": "paper/evidence.md"} | {
    f"{CARDS}{run.name}/README.md": f"shipped-runs/{run.name}.md" for run in (ROOT / CARDS).iterdir() if run.is_dir()
}
"""A page README.md would be the index of its section."""
MADE_ON_DEMAND = ("signcl corpus make", "signcl corpus pack", "signcl corpus join")
PARTS = (
    "docs/",
    "recipes/",
    "paper/",
    "benchmarks/",
    CARDS,
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "CITATION.cff",
    "LICENSE",
)
"""What may be published: a link to anything else is an error."""
ALWAYS = (
    HOME,
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "paper/README.md",
    "paper/claims.md",
    "paper/method.md",
    "paper/density_effect.md",
    "paper/pilots.md",
    "paper/preregistered.md",
    "benchmarks/RESULTS.md",
)
ITEM = re.compile(r"(?:-|\d\.) +(?=\S)")
LOST = re.compile(r"<p>(?:(?!</p>).)*?\n(?:[-*] |\d\. |\|).{0,50}", re.DOTALL)
log = get_plugin_logger("pages")
LINK = re.compile(r"(?<=\])\((?P<path>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            text = notebook_page(ROOT / "docs" / file.src_uri)
            files.append(File.generated(config, file.src_uri.replace(".ipynb", ".md"), content=text))
    files.append(File.generated(config, COMMANDS, content=commands_page()))
    waiting = [f"docs/{file.src_uri}" for file in files if file.generated_by is None and file.is_documentation_page()]
    seen = set(waiting)
    for name in (*ALWAYS, *(linked for page in waiting for linked in links_of(page)), *waiting):
        add(name, files, config, seen)
    return files


def add(name: str, files: Files, config: MkDocsConfig, seen: set[str]) -> None:
    """Publish a file of the repository, and what it links to."""
    if name in seen or (name.startswith("docs/") and files.get_file_from_path(address(name))):
        return
    seen.add(name)
    files.append(File.generated(config, address(name), abs_src_path=str(ROOT / name)))
    for linked in links_of(name):
        add(linked, files, config, seen)


def links_of(name: str) -> Iterator[str]:
    """Files of the repository that a page links to."""
    if name.endswith(".md"):
        for link in LINK.finditer((ROOT / name).read_text(encoding="utf-8")):
            target = target_of(name, link["path"])
            if target:
                yield target


def target_of(name: str, path: str) -> str | None:
    """The path in the repository of a link on the page `name`; None where no such file can be published."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(path)))
    return target if target.startswith(PARTS) and (ROOT / target).is_file() else None


def address(name: str) -> str:
    """Where a file of the repository stands on the site, before it is built."""
    return RENAMED.get(name) or name.removeprefix("docs/").replace(".ipynb", ".md")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    place = page.file.src_uri
    name = next(
        (name for name in (*RENAMED, place) if address(name) == place and (ROOT / name).is_file()), f"docs/{place}"
    )

    def moved(link: re.Match[str]) -> str:
        target = target_of(name, link["path"])
        if target is None:
            inside = posixpath.normpath(posixpath.join(posixpath.dirname(place), unquote(link["path"])))
            if not re.match(r"[a-z]+:", link["path"]) and files.get_file_from_path(inside) is None:
                log.warning(f"{name}: the link to {link['path']} leads out of the site; add its folder to PARTS")
            return link[0]  # an outside address, or a page that is made here
        return f"({posixpath.relpath(address(target), posixpath.dirname(place) or '.')}{link['anchor'] or ''})"

    return indented(LINK.sub(moved, markdown))


def indented(markdown: str) -> str:
    """What stands inside a list item, by four spaces: MkDocs wants that, GitHub only the item's own."""
    lines, shift, fenced, loose = [""], "", False, False
    for line in markdown.split("\n"):
        item = None if fenced and not shift else ITEM.match(line)
        if item:
            if loose and lines[-1].strip():
                lines.append("")  # an item after a paragraph of the item before
            shift = " " * (4 - len(item[0]))
        elif line.strip() and not line.startswith("  "):
            shift = ""
        loose = bool(shift) and (loose or not line.strip())
        if line.strip().startswith("```"):
            fenced = not fenced
        lines.append(line if item or not line.strip() else shift + line)
    return "\n".join(lines[1:])


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> None:
    lost = LOST.search(re.sub(r"<pre.*?</pre>", "", html, flags=re.DOTALL))
    if lost:
        log.warning(f"{page.file.src_uri}: a list or a table is shown as text: {lost[0][-60:]!r}")


@event_priority(-100)  # after the search has written its index
def on_post_build(config: MkDocsConfig) -> None:
    index = Path(config.site_dir, "search", "search_index.json")
    index.with_suffix(".js").write_text(f"var __index = {index.read_text(encoding='utf-8')}", encoding="utf-8")


def notebook_page(path: Path) -> str:
    """Markdown of a notebook: its texts, its code, and the outputs that are stored in it."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                picture = "".join(data["image/png"]).replace("\n", "")
                parts.append(f'<img alt="The figure that the code above draws" src="data:image/png;base64,{picture}">')
            else:
                parts.append("```text\n" + "".join(output.get("text", data.get("text/plain", ""))).rstrip() + "\n```")
    parts.append(f'<a href="{path.name}" download>Download this notebook</a>')
    return "\n\n".join(parts) + "\n"


def commands_page() -> str:
    """Every command and option, from the parser itself."""
    parts = [
        "# Commands",
        "Written from the help of the command line. Verbs that take a recipe also take its keys as options.",
    ]
    for words in (
        (),
        ("corpus", "make"),
        ("corpus", "pack"),
        ("corpus", "join"),
    ):  # these build their options on demand
        for verb in every_parser(make_parser(words)):
            if verb.prog == " ".join(("signcl", *words)) or (not words and verb.prog not in MADE_ON_DEMAND):
                verb.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=88)  # as wide as the page
                parts.append(f"## {verb.prog}\n\n```text\n{verb.format_help().rstrip()}\n```")
    return "\n\n".join(parts) + "\n"
