#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Reads the #include lines of the library and checks them against the layer table of CONTRIBUTING.md.

A header may include its own folder, the folders below, and the standard library. Eigen starts at matrix/;
xsimd is named in core/lane.hpp and kernel/ only; device headers use no heap, streams or threads. No header
includes a door, and includes make no circle. Every header stands behind a door, io/ and testing/ apart.
"""
import pathlib
import re
import sys

# From the lowest to the highest.
DEVICE = ["core", "codec", "granularity", "kernel", "infer"]
HOST = ["matrix", "calibrate", "layer", "reparam", "reconstruct", "train", "block"]
BELOW = {folder: set((DEVICE + HOST)[:i]) for i, folder in enumerate(DEVICE + HOST)}
for folder in HOST:
    BELOW[folder].add("parallel")
BELOW["parallel"] = {"core"}
# The engine takes an executor; the concept and the calling thread need nothing that a device lacks.
PARALLEL_ON_DEVICE = {"parallel/concept.hpp", "parallel/inline_executor.hpp"}
BELOW["io"] = set(DEVICE + HOST)
BELOW["testing"] = set(DEVICE)
FILES = {  # single files with rules of their own
    "testing/host_laws.hpp": set(DEVICE + HOST + ["parallel"]),
    "testing/observer_laws.hpp": set(DEVICE + ["calibrate"]),
    "run.hpp": set(DEVICE),
    "ptq.hpp": set(DEVICE + ["matrix", "calibrate", "layer", "reparam", "reconstruct", "parallel"]),
    "block.hpp": set(DEVICE + HOST + ["parallel"]),
    "train.hpp": set(DEVICE + HOST + ["parallel"]),
    "repquant.hpp": set(DEVICE + HOST + ["parallel"]),
    "version.hpp": set(),
}
DOORS = {"run.hpp", "ptq.hpp", "block.hpp", "train.hpp", "repquant.hpp"}
MAY_INCLUDE_DOOR = {("ptq.hpp", "run.hpp"), ("block.hpp", "ptq.hpp"), ("block.hpp", "run.hpp"),
                    ("train.hpp", "block.hpp"), ("repquant.hpp", "run.hpp"), ("repquant.hpp", "ptq.hpp"),
                    ("repquant.hpp", "block.hpp"), ("repquant.hpp", "train.hpp")}
NOT_ON_DEVICE = {"vector", "string", "iostream", "sstream", "fstream", "ostream", "istream", "map",
                 "unordered_map", "set", "unordered_set", "list", "deque", "memory", "functional", "thread",
                 "mutex", "future", "condition_variable", "regex", "any", "filesystem", "new", "random"}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^">]+)[">]', re.MULTILINE)


def folder_of(path):
    return path.split("/")[0] if "/" in path else path


def check(headers):
    """headers: {path under include/repquant: text}. Returns the complaints, one a line."""
    complaints = []
    edges = {}
    for path, text in sorted(headers.items()):
        folder = folder_of(path)
        if path not in FILES and folder not in BELOW:
            complaints.append(f"{path}: folder {folder} is not in the layer table")
            continue
        allowed = FILES.get(path, BELOW.get(folder, set()) | {folder})
        device = folder in DEVICE or path == "run.hpp" or (folder == "testing" and path not in FILES)
        edges[path] = []
        for quote, name in INCLUDE.findall(text):
            if quote == '"':
                complaints.append(f'{path}: "{name}" must be written <repquant/...>')
            elif name.startswith("repquant/"):
                target = name[len("repquant/"):]
                edges[path].append(target)
                if target not in headers:
                    complaints.append(f"{path}: {name} does not exist")
                if target in DOORS:
                    if (path, target) not in MAY_INCLUDE_DOOR:
                        complaints.append(f"{path}: includes the door {target}")
                elif folder == "infer" and target in PARALLEL_ON_DEVICE:
                    pass
                elif target != "version.hpp" and folder_of(target) not in allowed:
                    complaints.append(f"{path}: may not include {target}, which is not below it")
            elif name.startswith(("Eigen/", "unsupported/")):
                if device or folder in ("core", "parallel"):
                    complaints.append(f"{path}: {name}, but Eigen starts at matrix/")
            elif name.startswith("xsimd"):
                if path != "core/lane.hpp" and folder != "kernel":
                    complaints.append(f"{path}: {name} belongs into core/lane.hpp and kernel/")
            elif name.startswith("nlohmann/"):
                if folder != "io":
                    complaints.append(f"{path}: {name} belongs into io/")
            elif device and name in NOT_ON_DEVICE:
                complaints.append(f"{path}: <{name}> is not for the device")
    done = set()

    def walk(path, trail):
        if path in trail:
            complaints.append("circle: " + " -> ".join(trail[trail.index(path):] + [path]))
        elif path not in done:
            for target in edges.get(path, []):
                walk(target, trail + [path])
            done.add(path)

    for path in sorted(edges):
        walk(path, [])
    return complaints


def not_behind_a_door(headers):
    """Every device header is reached from run.hpp, every host header from repquant.hpp."""
    complaints = []
    for door, folders in (("run.hpp", DEVICE), ("repquant.hpp", DEVICE + HOST + ["parallel"])):
        reached = set()
        todo = [door]
        while todo:
            path = todo.pop()
            if path not in reached and path in headers:
                reached.add(path)
                todo += [n[len("repquant/"):] for _, n in INCLUDE.findall(headers[path]) if n.startswith("repquant/")]
        complaints += [f"{path}: not reached from {door}" for path in sorted(headers)
                       if folder_of(path) in folders and path not in reached]
    return complaints


def self_test():
    """Each planted mistake must be found, and only it."""
    good = {"core/a.hpp": "#include <cmath>\n", "codec/b.hpp": "#include <repquant/core/a.hpp>\n",
            "matrix/m.hpp": "#include <repquant/codec/b.hpp>\n#include <Eigen/Core>\n",
            "kernel/k.hpp": "#include <repquant/codec/b.hpp>\n#include <xsimd/xsimd.hpp>\n",
            "parallel/concept.hpp": "", "parallel/threads.hpp": "#include <thread>\n",
            "infer/i.hpp": "#include <repquant/parallel/concept.hpp>\n",
            "run.hpp": "#include <repquant/codec/b.hpp>\n", "ptq.hpp": "#include <repquant/run.hpp>\n"}
    planted = {
        "core/x.hpp": "#include <repquant/codec/b.hpp>\n", "codec/x.hpp": "#include <repquant/matrix/m.hpp>\n",
        "infer/x.hpp": "#include <Eigen/Core>\n", "codec/y.hpp": "#include <xsimd/xsimd.hpp>\n",
        "infer/y.hpp": "#include <repquant/parallel/threads.hpp>\n",
        "kernel/y.hpp": "#include <repquant/parallel/concept.hpp>\n", "kernel/x.hpp": "#include <vector>\n", "matrix/x.hpp": "#include <repquant/ptq.hpp>\n",
        "odd/x.hpp": "", "layer/x.hpp": '#include "b.hpp"\n', "layer/y.hpp": "#include <repquant/codec/no.hpp>\n",
        "train/x.hpp": "#include <repquant/block/s.hpp>\n", "calibrate/x.hpp": "#include <nlohmann/json.hpp>\n",
        "core/c.hpp": "#include <repquant/core/d.hpp>\n",
    }
    extra = {"train/x.hpp": {"block/s.hpp": ""}, "core/c.hpp": {"core/d.hpp": "#include <repquant/core/c.hpp>\n"}}
    wrong = [f"clean tree: {c}" for c in check(good)]
    unreached = not_behind_a_door({"run.hpp": "#include <repquant/core/a.hpp>\n", "core/a.hpp": "", "core/b.hpp": "",
                                   "repquant.hpp": "#include <repquant/run.hpp>\n"})
    if unreached != ["core/b.hpp: not reached from run.hpp", "core/b.hpp: not reached from repquant.hpp"]:
        wrong.append(f"planted core/b.hpp: {unreached}")
    for path, text in planted.items():
        found = check({**good, path: text, **extra.get(path, {})})
        if len(found) != 1:
            wrong.append(f"planted {path}: {found}")
    return wrong


def main():
    if "--self-test" in sys.argv:
        complaints = self_test()
        print("\n".join(complaints) or "every planted mistake is found")
        return 1 if complaints else 0
    root = pathlib.Path(__file__).resolve().parents[2] / "include" / "repquant"
    headers = {str(p.relative_to(root)): p.read_text() for p in root.rglob("*") if p.suffix in (".hpp", ".inc")}
    complaints = check(headers) + not_behind_a_door(headers)
    print("\n".join(complaints) or f"{len(headers)} headers keep to the layers")
    return 1 if complaints or not headers else 0


if __name__ == "__main__":
    sys.exit(main())
