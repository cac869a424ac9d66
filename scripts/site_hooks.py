"""What mkdocs does besides: pages link to files outside docs/, so these come along."""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# [text](../deploy/aws/README.md#anchor), and not a whole address.
_LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<path>(?!\w+:)[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
_BESIDE = "repository"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add every file that a page links to and that is outside the docs, and those it links to."""
    docs = Path(config.docs_dir)
    waiting = [Path(file.abs_src_path) for file in files.documentation_pages() if file.abs_src_path]
    seen = set(waiting)
    while waiting:
        page = waiting.pop()
        for link in _LINK.finditer(page.read_text()):
            found = (page.parent / link["path"]).resolve()
            if found in seen or not found.is_file() or found.is_relative_to(docs):
                continue
            seen.add(found)
            files.append(_beside(found, config))
            if found.suffix == ".md":
                waiting.append(found)
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let links to files outside the docs lead to where they are on the site."""
    source = page.file.abs_src_path
    if source is None:
        return markdown
    folder, docs = Path(source).parent, ROOT / "docs"
    here = posixpath.dirname(page.file.src_uri)

    def led(link: re.Match[str]) -> str:
        found = (folder / link["path"]).resolve()
        if not found.is_relative_to(ROOT) or not found.exists():
            return link[0]
        if found.is_relative_to(docs):
            there = found.relative_to(docs).as_posix()
            there += "/README.md" if found.is_dir() else ""
        elif found.is_dir():
            # A folder outside has no page.
            return link["text"]
        else:
            there = _uri(found)
        return f"[{link['text']}]({posixpath.relpath(there, here or '.')}{link['anchor'] or ''})"

    return _LINK.sub(led, markdown)


def _beside(found: Path, config: MkDocsConfig) -> File:
    return File.generated(config, _uri(found), abs_src_path=os.fspath(found))


def _uri(found: Path) -> str:
    return f"{_BESIDE}/{found.relative_to(ROOT).as_posix()}"
