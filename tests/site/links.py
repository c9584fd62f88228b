#!/usr/bin/env python3
"""Checks the built site: every link and image leads to a file of the site and, if it has an anchor, to an element of that name.

    python3 tests/site/links.py [FOLDER]     FOLDER is target/site by default
"""

import html.parser
import pathlib
import sys
import urllib.parse


class Page(html.parser.HTMLParser):
    """The names of a page's elements, and the targets of its links and images."""

    def __init__(self, text):
        super().__init__()
        self.names = set()
        self.targets = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id" or (tag == "a" and name == "name"):
                self.names.add(value)
            elif value and (tag, name) in {("a", "href"), ("img", "src"), ("link", "href"), ("script", "src")}:
                self.targets.append(value)


def main():
    site = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "target/site").resolve()
    # 404.html has its links from the root of the server, and print.html has all pages in one.
    pages = {path: Page(path.read_text(encoding="utf-8"))
             for path in site.rglob("*.html") if path.name not in {"404.html", "print.html", "toc.html"}}
    faults, count = [], 0
    for path, page in sorted(pages.items()):
        for target in page.targets:
            url = urllib.parse.urlsplit(target)
            if url.scheme or url.netloc:
                continue
            count += 1
            to = (path.parent / urllib.parse.unquote(url.path)).resolve() if url.path else path
            anchor = urllib.parse.unquote(url.fragment)
            if not to.is_file():
                faults.append(f"{path.relative_to(site)} links to {target}, and there is no such file")
            elif anchor and to in pages and anchor not in pages[to].names:
                faults.append(f"{path.relative_to(site)} links to {target}, and there is no such heading")
    print("\n".join(faults) or f"{len(pages)} pages, {count} links, each leads to a file and a heading")
    sys.exit(1 if faults or not pages else 0)


main()
