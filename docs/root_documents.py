"""Makes pages of the documents in the repository's root, where code hosts and people look for them first.

Links are written for the repository: README.md says `docs/tutorial.md`, a page in docs/ says `../CONTRIBUTING.md`. For
the site both become links between pages. mkdocs calls the functions by their names (`hooks` in mkdocs.yml).
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CODE_OF_CONDUCT.md": "code_of_conduct.md",
    "CONTRIBUTING.md": "contributing.md",
    "LICENSE": "license.txt",
    "SECURITY.md": "vulnerabilities.md",
}
_LINK = re.compile(r"(?<=\]\()(?P<target>[^)#:\s]+)(?=(?:#[^)\s]*)?\))")
_FENCED = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    for source, page in PAGES.items():
        if (ROOT / source).is_file():
            files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    sources = {target: source for source, target in PAGES.items()}
    source = sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    parts = _FENCED.split(markdown)
    return "".join(part if part.startswith("```") else _relinked(part, source, page.file.src_uri) for part in parts)


def _relinked(text: str, source: str, page: str) -> str:
    def relinked(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link["target"]))
        moved = PAGES.get(target) or target.removeprefix("docs/")
        return posixpath.relpath(moved, posixpath.dirname(page) or ".")

    return _LINK.sub(relinked, text)
