#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""House rules that are about text: length, names, macros, the SPDX line, paths of somebody's machine."""
import pathlib
import re
import subprocess
import sys

SOURCES = (".hpp", ".cpp", ".inc")
SPDX = {".hpp": "// SPDX-License-Identifier: MIT", ".cpp": "// SPDX-License-Identifier: MIT",
        ".inc": "// SPDX-License-Identifier: MIT",
        ".cmake": "# SPDX-License-Identifier: MIT"}
TEXT = SOURCES + (".md", ".cmake", ".txt", ".py", ".json", ".in", ".sh", "run")
BANNED = re.compile(r"(?<![A-Za-z0-9])(utils?|helpers?|impl2|misc|tmp2|foo|stuff)(?![A-Za-z0-9])", re.IGNORECASE)
DEFINE = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)", re.MULTILINE)
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"", re.DOTALL)
LEFT_OVER = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
# CTest would split such a name in two and run neither: the test would pass without being run.
SPLIT_TEST = re.compile(r'TEST_CASE\((?:"[^"]*"\s*)*"[^"]*;[^"]*"')
PRIVATE = re.compile(r"(?<![\w.}])/(home|root|work|Users|mnt)/\w")
ISA = re.compile(r"(sse|avx|vnni|neon|dotprod|i8mm|sve)")


def check_header(path, text):
    """Rules for headers of the library: length and macros. path is under include/repquant."""
    complaints = []
    lines = text.count("\n")
    first_comment = text.split("#pragma once")[0]
    if lines > 400 and not (path.startswith("kernel/") and ISA.search(path)):
        complaints.append(f"{path}: {lines} lines; over 400 must be split")
    elif lines > 200 and "Length:" not in first_comment:
        complaints.append(f"{path}: {lines} lines; over 200 the first comment says why ('/// Length: ...')")
    # .inc: text that is included more than once on purpose
    if ("#pragma once" in text) == path.endswith(".inc"):
        complaints.append(f"{path}: {'a' if path.endswith('.inc') else 'no'} #pragma once")
    if path != "core/config.hpp":
        complaints += [f"{path}: macro {m}; macros stand in core/config.hpp" for m in DEFINE.findall(text)]
    if re.search(r"\busing\s+namespace\b", COMMENT.sub("", text)):
        complaints.append(f"{path}: 'using namespace' in a header")
    if re.search(r"\b(std::cout|std::cerr|printf\s*\(|std::printf|puts\s*\()", COMMENT.sub("", text)):
        complaints.append(f"{path}: the library prints nothing")
    return complaints


def check_text(path, text):
    """Rules for every text file."""
    complaints = []
    suffix = pathlib.PurePath(path).suffix
    if suffix in SPDX and not text.startswith(SPDX[suffix]):
        complaints.append(f"{path}: first line is not '{SPDX[suffix]}'")
    if suffix in SOURCES and not path.startswith("tests/unit/") and not re.match(r"[^\n]*\n///", text):
        complaints.append(f"{path}: second line is not a '///' comment that says what the file is")
    complaints += [f"{path}: '{m}' says nothing; name the thing" for m in BANNED.findall(pathlib.PurePath(path).name)]
    if suffix in SOURCES:
        names = COMMENT.sub("", text)
        complaints += [f"{path}: name '{m}'" for m in sorted(set(re.findall(r"\b(?:my_\w+|\w*impl2\b|namespace\s+(?:utils?|helpers?|misc))", names)))]
    if path.startswith("tests/unit/"):
        complaints += [f"{path}: a semicolon in {m.group(0)}" for m in SPLIT_TEST.finditer(text)]
    complaints += [f"{path}: '{m}' left over" for m in sorted(set(LEFT_OVER.findall(text)))]
    complaints += [f"{path}: a path of one machine: {m.group(0)}..." for m in PRIVATE.finditer(text)]
    return complaints


def self_test():
    """Each planted mistake must be found, and only it."""
    head = "// SPDX-License-Identifier: MIT\n/// What it is.\n#pragma once\n"
    wrong = [f"clean: {c}" for c in check_header("codec/a.hpp", head) + check_text("codec/a.hpp", head)]
    planted = [
        (check_header, "codec/a.hpp", head + "\n" * 250),
        (check_header, "codec/a.hpp", head.replace("is.", "is.\n/// Length: a reason.") + "\n" * 450),
        (check_header, "codec/a.hpp", head + "#define REPQUANT_X 1\n"),
        (check_header, "codec/a.hpp", head.replace("#pragma once\n", "")),
        (check_header, "codec/a.hpp", head + "using namespace std;\n"),
        (check_header, "codec/a.hpp", head + "inline void f() { std::printf(text); }\n"),
        (check_text, "codec/a.hpp", head[3:]),
        (check_text, "codec/a.hpp", head.replace("///", "//")),
        (check_text, "codec/utils.hpp", head),
        (check_text, "codec/a.hpp", head + "int my_value;\n"),
        (check_text, "tests/unit/a_test.cpp", head + 'TEST_CASE("one; two") {}\n'),
        (check_text, "a.md", "TO" + "DO\n"),
        (check_text, "a.md", "see /ho" + "me/someone\n"),
    ]
    for i, (check, path, text) in enumerate(planted):
        found = check(path, text)
        if len(found) != 1:
            wrong.append(f"planted {i}: {found}")
    if check_header("kernel/gemm_avx2.hpp", head.replace("is.", "is.\n/// Length: a reason.") + "\n" * 450):
        wrong.append("a file for one instruction set may be long, with its reason")
    return wrong


def files(root):
    """The files of the project: what git knows or would add, else everything outside build folders."""
    try:
        listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=root,
                                capture_output=True, text=True, check=True).stdout.split("\n")
        paths = [root / name for name in listed if name]
    except (OSError, subprocess.CalledProcessError):
        paths = [p for p in root.rglob("*") if not {"build", ".git"} & set(p.relative_to(root).parts)]
    return [p for p in paths if p.is_file() and p.name.endswith(TEXT)]


def main():
    if "--self-test" in sys.argv:
        complaints = self_test()
        print("\n".join(complaints) or "every planted mistake is found")
        return 1 if complaints else 0
    root = pathlib.Path(__file__).resolve().parents[2]
    complaints = []
    count = 0
    for path in sorted(files(root)):
        name = str(path.relative_to(root))
        if name.startswith("examples/data/"):
            continue
        text = path.read_text()
        count += 1
        complaints += check_text(name, text)
        if name.startswith("include/repquant/"):
            complaints += check_header(name[len("include/repquant/"):], text)
    print("\n".join(complaints) or f"{count} files keep to the house rules")
    return 1 if complaints or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
