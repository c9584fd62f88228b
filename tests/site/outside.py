#!/usr/bin/env python3
"""A preprocessor of mdBook: brings the files outside of docs/ that a page links to into the book, as chapters of its last part.

On a code host these links lead to the files themselves. A site has no files besides the book's, so each file becomes a chapter:
Markdown as it is, anything else as a block of code. Links to folders become plain text.
"""

import json
import pathlib
import posixpath
import re
import sys

LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
PART = "Files of the repository"
LANGUAGES = {".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".sh": "sh"}


class Outside:
    """The files outside of docs/ that pages link to, with the paths of their chapters."""

    def __init__(self, root):
        self.root = root
        self.found = {}

    def chapter(self, file):
        """The path of a file's chapter in the book."""
        if file not in self.found:
            self.found[file] = "files/" + (file if file.endswith(".md") else file + ".md")
        return self.found[file]

    def links(self, text, page, chapter):
        """The text of `page` (a path from the root) with its links as they are in `chapter` (a path from docs/)."""

        def replaced(link):
            words, target, anchor = link.group(1), link.group(2), link.group(3) or ""
            if "://" in target or target.startswith("mailto:"):
                return link.group(0)
            file = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
            path = self.root / file
            if path.is_dir():
                return words
            if not path.is_file():
                sys.exit(f"{page} links to {target}, and there is no such file")
            to = posixpath.relpath(file, "docs") if file.startswith("docs/") else self.chapter(file)
            return f"[{words}]({posixpath.relpath(to, posixpath.dirname(chapter) or '.')}{anchor})"

        # The odd parts are blocks of code.
        parts = re.split(r"(^ *```.*?^ *```[^\n]*$)", text, flags=re.MULTILINE | re.DOTALL)
        return "".join(part if at % 2 else LINK.sub(replaced, part) for at, part in enumerate(parts))

    def content(self, file):
        """The content of a file's chapter."""
        text = (self.root / file).read_text(encoding="utf-8")
        if file.endswith(".md"):
            return self.links(text, file, self.chapter(file))
        language = LANGUAGES.get(pathlib.PurePosixPath(file).suffix, "text")
        return f"# {file}\n\n````{language}\n{text.rstrip()}\n````\n"


def chapters(items):
    for item in items:
        if isinstance(item, dict) and "Chapter" in item:
            yield item["Chapter"]
            yield from chapters(item["Chapter"]["sub_items"])


def main():
    if len(sys.argv) > 1 and sys.argv[1] == "supports":
        sys.exit(0)
    context, book = json.load(sys.stdin)
    outside = Outside(pathlib.Path(context["root"]))
    items = book["items"] if "items" in book else book["sections"]
    for chapter in chapters(items):
        if chapter["path"]:
            chapter["content"] = outside.links(chapter["content"], "docs/" + chapter["path"], chapter["path"])
    added = []
    # Files link to further files, which the list then gets.
    while len(added) < len(outside.found):
        file = list(outside.found)[len(added)]
        path = outside.chapter(file)
        chapter = {"name": file, "content": outside.content(file), "number": None, "sub_items": [], "path": path,
                   "source_path": None, "parent_names": []}
        added.append({"Chapter": chapter})
    items.append({"PartTitle": PART})
    items.extend(sorted(added, key=lambda item: item["Chapter"]["name"]))
    json.dump(book, sys.stdout)


main()
