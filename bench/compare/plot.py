#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Draws reports of compare as SVG: GOPS of the products against the bits of their weights, beside the limits of the
machine and the peers.

    plot.py REPORT.json OUT.svg [SHAPE]

One thread, one shape (default 197x768x768). Every number is one of the report.
"""
import json
import math
import sys
from html import escape

WIDTH, HEIGHT = 860, 560
LEFT, RIGHT, TOP, BOTTOM = 70, 250, 66, 70
INK, PALE = "#1f2328", "#d0d7de"
OURS = "#0b6e4f"
COLOURS = {
    "openblas_f32": "#8c4a2f",
    "onednn_u8s8": "#5b4b8a",
    "xnnpack_qs8": "#b0762a",
    "gemmlowp": "#7a7f87",
}
PEER_NAMES = {
    "openblas_f32": "OpenBLAS, float",
    "onednn_u8s8": "oneDNN, u8 x s8",
    "xnnpack_qs8": "XNNPACK, s8 x s8",
    "gemmlowp": "gemmlowp, u8 x u8",
}
# case, bits of the weights, what stands below the mark
CASES = [
    ("gemm_u8s8", 8, "u8 x s8"),
    ("gemm_u8s7", 7, "u8 x s7"),
    ("gemm_u8s6", 6, "u8 x s6"),
    ("gemm_u8s4", 4, "u8 x s4"),
]


def rows_of(report, shape):
    """Ours and every peer's GOPS by case; ours is the (lower) median over its forms (codes, sums, floats)."""
    ours, peers = {}, {}
    for row in report["rows"]:
        if row["shape"] != shape or row["unit"] != "GOPS":
            continue
        ours.setdefault(row["case"], []).append(row["ours"])
        peers.setdefault(row["case"], {})[row["peer_name"]] = (row["peer"], "wrong" in (row["note"] or ""))
    return {case: sorted(v)[(len(v) - 1) // 2] for case, v in ours.items()}, peers


def nice_top(value):
    step = 10 ** math.floor(math.log10(value))
    return next(step * m for m in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if step * m >= value)


def spread_labels(labels, gap):
    """Moves labels (y, ...) apart so that none covers another."""
    placed = []
    for label in sorted(labels):
        y = max(label[0], placed[-1][0] + gap if placed else label[0])
        placed.append((y, *label[1:]))
    return placed


def draw(report, shape):
    ours, peers = rows_of(report, shape)
    cases = [c for c in CASES if c[0] in ours]
    if not cases:
        sys.exit(f"plot.py: the report has no products of shape {shape}")
    wide = "AVX-512" in report.get("oneDNN", "") or report.get("peers held to") == "native"
    limits = {l["name"]: l["value"] for l in report["limits"] if l["unit"] == "GOPS" and (wide or "512" not in l["name"])}
    used = {row["limit_name"] for row in report["rows"] if row["shape"] == shape and row["limit_name"]}
    shown = {n: v for n, v in limits.items() if n in used or n.startswith("f32")}
    top = nice_top(1.05 * max([*shown.values(), *ours.values()]))
    right = WIDTH - RIGHT

    def x_of(bits):
        return LEFT + (9 - bits) / 6 * (right - LEFT)

    def y_of(gops):
        return HEIGHT - BOTTOM - gops / top * (HEIGHT - BOTTOM - TOP)

    out = []

    def line(x1, y1, x2, y2, colour, width=1.0, dash=None):
        d = f' stroke-dasharray="{dash}"' if dash else ""
        out.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
                   f'stroke-width="{width}"{d}/>')

    def text(x, y, words, size=12, anchor="start", colour=INK, weight="normal"):
        out.append(f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}" '
                   f'font-weight="{weight}">{escape(words)}</text>')

    text(LEFT, 26, f"Products of codes, {shape}, one thread", 16, weight="bold")
    text(LEFT, 46, f"{report['cpu']}; {report['ours']}; {report['timing']}", 11)
    for i in range(6):
        value = top * i / 5
        line(LEFT, y_of(value), right, y_of(value), PALE)
        text(LEFT - 8, y_of(value) + 4, f"{value:.0f}", 11, "end")
    text(16, TOP - 10, "GOPS", 11)
    for _, bits, name in cases:
        text(x_of(bits), HEIGHT - BOTTOM + 20, str(bits), 12, "middle")
        text(x_of(bits), HEIGHT - BOTTOM + 36, name, 11, "middle")
    text((LEFT + right) / 2, HEIGHT - 14, "bits of the weights", 12, "middle")

    labels = []
    for name, value in shown.items():
        line(LEFT, y_of(value), right, y_of(value), "#57606a", 1.2, "6 4")
        labels.append((y_of(value) + 4, f"limit: {name}", "#57606a", "normal"))
    ends = {}
    for case, bits, _ in cases:
        for peer, (value, wrong) in sorted(peers[case].items()):
            if peer not in COLOURS:
                continue
            x, y = x_of(bits), y_of(value)
            if peer in ends:
                line(*ends[peer], x, y, COLOURS[peer], 1.2)
            ends[peer] = (x, y)
            fill = "white" if wrong else COLOURS[peer]
            out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{fill}" stroke="{COLOURS[peer]}" '
                       f'stroke-width="1.8"/>')
    for peer, (_, y) in ends.items():
        labels.append((y + 4, PEER_NAMES[peer], COLOURS[peer], "normal"))
    points = [(x_of(bits), y_of(ours[case])) for case, bits, _ in cases]
    out.append('<polyline fill="none" stroke="%s" stroke-width="2.6" points="%s"/>'
               % (OURS, " ".join(f"{x:.1f},{y:.1f}" for x, y in points)))
    for (x, y), (case, _, _) in zip(points, cases):
        out.append(f'<rect x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10" fill="{OURS}"/>')
        text(x, y - 11, f"{ours[case]:.0f}", 12, "middle", OURS, "bold")
    labels.append((points[-1][1] + 4, "repquant, exact", OURS, "bold"))
    for y, words, colour, weight in spread_labels(labels, 15):
        text(right + 10, y, words, 12, "start", colour, weight)
    text(right + 10, HEIGHT - 14, "hollow: some int32 are wrong", 11)
    body = "\n".join(out)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
            f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="Helvetica, Arial, sans-serif">\n'
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n{body}\n</svg>\n')


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as f:
        report = json.load(f)
    picture = draw(report, sys.argv[3] if len(sys.argv) == 4 else "197x768x768")
    with open(sys.argv[2], "w", encoding="utf-8") as f:
        f.write(picture)


if __name__ == "__main__":
    main()
