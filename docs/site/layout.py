"""Hooks of MkDocs (`hooks` in mkdocs.yml): pages that fit a laptop beside both menus, and a phone.

Commands keep their remarks in sight, wide drawings get smaller letters, code in tables breaks only between words, and
docstrings link to the pages that they name. A formula of a docstring that is lost in a box fails the build.
"""

import re
from html import unescape

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

WIDE = ("index.md", "paper-vs-code.md")
"""Without the menu at the left: it would hold the home page alone; the tables have five columns of text."""
SEARCHED = {"glossary": 2.0, "paper/results/": 0.3, "paper/pilots": 0.3, "decisions": 0.5, "CHANGELOG": 0.5}
"""How far up the search lists a page, where that is not 1: definitions first, records last."""
COLUMNS = 88  # letters of a line of code beside both menus, at LETTER
LETTER, SMALLEST = 0.64, 0.5  # sizes of letters in code, rem; the first is also in site.css
SHORT = 20  # letters of code in a table that never break

SHELL = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
REMARK = re.compile(r"(?P<command>[^#\n]*[^#\s]) {2,}(?P<remark># .*)")
BOXED = re.compile(r"<details class=\"[^\"]*\" open>\s*<summary>(.{0,60})", re.DOTALL)
BLOCK = re.compile(
    r'(?P<start>(?:<div class="(?P<kind>[^"]*)">)?<pre>(?:<span></span>)?)<code>(?P<text>.*?)</code></pre>', re.DOTALL
)
CELL = re.compile(r"<t[dh][^>]*>.*?</t[dh]>", re.DOTALL)
CODE = re.compile(r"<code>([^<]*)</code>")
JOINT = re.compile(r"(?<=[\w\]])([._/=(,:-])(?=\w)")  # a line may break behind these
PAGE = re.compile(r"(?<![\w/`\"=>.])docs/([\w/-]+\.md)")
log = get_plugin_logger("layout")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    place = page.file.src_uri
    if place in WIDE:
        page.meta["hide"] = ["navigation"]
    for start, boost in SEARCHED.items():
        if place.startswith(start):
            page.meta["search"] = {"boost": boost}
    return SHELL.sub(remarks_above, markdown)


def remarks_above(block: re.Match[str]) -> str:
    """A block of commands; if a line is wider than the page, the remarks behind the commands move above them."""
    lines = block[1].splitlines()
    if any(len(line) > COLUMNS for line in lines):
        lines = [REMARK.sub(r"\g<remark>\n\g<command>", line) for line in lines]
    return "```sh\n" + "\n".join(lines) + "\n```"


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    boxed = BOXED.search(html)
    if boxed:
        log.warning(f"{page.file.src_uri}: a line `word:` of a docstring has become a box: {boxed[1]!r}")
    html = BLOCK.sub(fitting, CELL.sub(breakable, html))
    return with_links(html, files) if page.file.src_uri.startswith("reference/") else html


def fitting(block: re.Match[str]) -> str:
    """A code block that is wider than the page, in smaller letters, as far as they stay readable."""
    lines = unescape(re.sub(r"<[^>]*>", "", block["text"])).splitlines()
    widest = max(map(len, lines), default=0)
    if widest <= COLUMNS or (block["kind"] or "").startswith("language-sh"):  # commands wrap, see site.css
        return block[0]
    size = max(SMALLEST, LETTER * COLUMNS / widest)
    return f'{block["start"]}<code style="font-size: {size:.3f}rem">{block["text"]}</code></pre>'


def breakable(cell: re.Match[str]) -> str:
    """Lets long code in a table break after its dots and underscores, and nowhere inside a word.

    Markdown wants `\\|` for a bar in a table; GitHub shows a bar, Python-Markdown would show both.
    """

    def broken(code: re.Match[str]) -> str:
        text = code[0].replace("\\|", "|")
        return JOINT.sub(r"\1<wbr>", text) if len(code[1]) > SHORT else text

    return CODE.sub(broken, cell[0])


def with_links(html: str, files: Files) -> str:
    """The pages that docstrings name by their path, as links."""

    def link(name: re.Match[str]) -> str:
        page = files.get_file_from_path(name[1])
        return f'<a href="../{page.url}">{name[0]}</a>' if page else name[0]

    return PAGE.sub(link, html)
