"""What the site adds while it is built: a page for each pack from its README, every error message, and links that fit the site."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
MESSAGES = "<!-- every message -->"
MADE_FROM: dict[str, str] = {"index.md": "docs/index.md"}
"""Page -> the file of the repository that it is made from, for those that are not in docs/."""


def packs() -> list[str]:
    """Names of the built-in packs that have a README."""
    return sorted(path.parent.name for path in (ROOT / "domains").glob("*/README.md"))


def on_config(config: Any) -> Any:
    """The pages of packs and decisions go into the navigation; pages named there that do not exist yet are left out."""
    expanded = []
    for entry in config["nav"]:
        (title, inside), *_ = entry.items()
        if inside == "domains/":
            inside = ["domains/index.md", *(f"domains/{name}.md" for name in packs())]
        elif isinstance(inside, list):
            pages = [page for page in inside if page != "decisions/" and (ROOT / "docs" / page).is_file()]
            notes = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("*.md")) if "decisions/" in inside else []
            inside = [*pages, *([{"Decisions": [f"decisions/{name}" for name in notes]}] if notes else [])]
        expanded.append({title: inside})
    listed = {page for page in _pages(expanded)}
    rest = sorted(path.name for path in (ROOT / "docs").glob("*.md") if path.name not in listed)
    if rest:
        expanded.append({"More": rest})
    config["nav"] = expanded
    return config


def _pages(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    if isinstance(nav, dict):
        nav = list(nav.values())
    return [page for entry in nav for page in _pages(entry)]


def on_files(files: Any, config: Any) -> Any:
    """One page for each pack, made of its README, and an index of them with what its manifest says."""
    from mkdocs.structure.files import File

    rows = ["| pack | what for | licence |", "| --- | --- | --- |"]
    for name in packs():
        page = f"domains/{name}.md"
        MADE_FROM[page] = f"domains/{name}/README.md"
        files.append(File.generated(config, page, content=(ROOT / MADE_FROM[page]).read_text(encoding="utf-8")))
        rows.append(f"| [{name}]({name}.md) | {_manifest(name, 'intended_use')} | {_manifest(name, 'license')} |")
    text = (
        "# Domains\n\nThe packs that come with the factory. Each page is the pack's own README: what it asks, what it reads of yours, what it is not for, and what "
        "was measured.\nThe experiments behind the figures, failures included, are in the [log](../log.md).\n\n"
        + "\n".join(rows)
        + "\n"
    )
    MADE_FROM["domains/index.md"] = "docs/domains/index.md"
    files.append(File.generated(config, "domains/index.md", content=text))
    return files


def _manifest(name: str, key: str) -> str:
    import yaml

    manifest = yaml.safe_load((ROOT / "domains" / name / "pack.yaml").read_text(encoding="utf-8"))
    return str(manifest.get(key, "")).replace("\n", " ").replace("|", "\\|")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links to files outside the site become their names; links to READMEs of packs and the main one lead to their pages."""
    here = page.file.src_uri
    if MESSAGES in markdown:
        markdown = markdown.replace(MESSAGES, every_message())
    source = PurePosixPath(MADE_FROM.get(here, f"docs/{here}"))
    known = {file.src_uri for file in files}
    return "".join(
        _relinked(part, here, source, known)
        for part in re.split(r"(^```.*?^```$|`[^`\n]*`)", markdown, flags=re.MULTILINE | re.DOTALL)
    )


def _relinked(part: str, here: str, source: PurePosixPath, known: set[str]) -> str:
    if part.startswith("`"):
        return part

    def relink(match: re.Match[str]) -> str:
        mark, words, address = match.groups()
        path, _, anchor = address.partition("#")
        if not path or "://" in address or address.startswith("mailto:"):
            return match.group(0)
        target = os.path.normpath(source.parent / path)
        page = _page_of(target)
        if page not in known:
            return f"{words} (`{target}`)" if words.strip("`") != target else f"`{target}`"
        where = os.path.relpath(page, PurePosixPath(here).parent)
        keeps_anchor = anchor and target != "README.md"
        return f"{mark}[{words}]({where}{'#' + anchor if keeps_anchor else ''})"

    return LINK.sub(relink, part)


def _page_of(target: str) -> str:
    """The page of the site that shows a file of the repository, or a name that no page has."""
    if target == "README.md":
        return "index.md"
    readme = re.fullmatch(r"domains/(\w+)(/README\.md|/)?", target)
    if readme:
        return f"domains/{readme[1]}.md"
    if target.rstrip("/") == "docs/decisions":
        return "decisions/0001-data-room.md"
    return target.removeprefix("docs/") if target.startswith("docs/") else f"outside/{target}"


def every_message() -> str:
    """Every message of every class, as the code has it; `…` stands for what is filled in."""
    # MkDocs puts the search path back after loading a hook, so this cannot stand at the top.
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "docs")]
    import error_sites

    lines = ["## Every message\n", "Search this page for the words of a message; `…` stands for what is filled in.\n"]
    by_class: dict[str, dict[str, str]] = {}
    for site in error_sites.sites():
        if not site.is_elsewhere:
            by_class.setdefault(site.kind, {}).setdefault(site.message, site.path)
    for kind in error_sites.classes():
        if kind in by_class:
            lines += [f"### {kind}\n", "| message | raised in |", "| --- | --- |"]
            lines += [f"| {_cell(message)} | `{path}` |" for message, path in sorted(by_class[kind].items())]
            lines.append("")
    return "\n".join(lines)


def _cell(message: str) -> str:
    fence = "``" if "`" in message else "`"
    return f"{fence} {message} {fence}".replace("|", "\\|") if fence == "``" else f"`{message}`".replace("|", "\\|")
