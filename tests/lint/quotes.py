#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Code in the documentation is code that is compiled and run: a code block behind `<!-- quote: FILE -->` must be
the lines of FILE between `// [quote]` and `// [end]`, whatever their indentation."""
import pathlib
import re
import sys
import textwrap

root = pathlib.Path(__file__).resolve().parents[2]


def quoted(path):
    text = (root / path).read_text()
    parts = re.findall(r"^[ \t]*// \[quote\]\n(.*?)^[ \t]*// \[end\]\n", text, re.S | re.M)
    if len(parts) != 1:
        sys.exit(f"{path}: {len(parts)} quotes, want 1")
    return textwrap.dedent(parts[0])


def main():
    wrong = found = 0
    for page in [root / "README.md", *sorted((root / "docs").rglob("*.md"))]:
        for file, code in re.findall(r"<!-- quote: (\S+) -->\n```cpp\n(.*?)```\n", page.read_text(), re.S):
            found += 1
            if code != quoted(file):
                wrong += 1
                print(f"{page.relative_to(root)}: the block quoted from {file} differs from it")
    if found == 0:
        sys.exit("no quotes found")
    print(f"{found} quotes, {wrong} differ")
    return 1 if wrong else 0


sys.exit(main())
