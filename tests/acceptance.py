#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks a report of `quantize_vit --report FILE` against what the project promises for its 2,000 images."""
import json
import sys

FLOAT = 88.65  # of 2,000 images; the float network is fixed
LEAST = {8: 88.4, 6: 88.2, 4: 87.5}  # repquant, integer engine; one standard error is 0.7
UNBALANCED = 0.3  # points between the plain and the unbalanced network


def main():
    with open(sys.argv[1]) as file:
        rows = [r for r in json.load(file)["rows"] if "top1" in r]
    found = {(r["network"], r["recipe"], r["weight_bits"], r["engine"]): r for r in rows}
    passed = failed = 0

    def check(name, value, ok):
        nonlocal passed, failed
        passed, failed = passed + bool(ok), failed + (not ok)
        print(f"{'ok    ' if ok else 'FAILED'}  {name}: {value:.2f}")

    for network in ("plain", "unbalanced"):
        row = found[network, "float", 32, "float"]
        check(f"{network}, images", row["images"], row["images"] == 2000)
        check(f"{network}, float top-1", row["top1"], abs(row["top1"] - FLOAT) < 0.005)
    for bits, least in LEAST.items():
        top1 = [found[n, "repquant", bits, "integer"]["top1"] for n in ("plain", "unbalanced")]
        check(f"plain, repquant W{bits}A{bits}, at least {least}", top1[0], top1[0] >= least)
        check(f"unbalanced W{bits}A{bits} against plain, within {UNBALANCED}", top1[1] - top1[0],
              abs(top1[1] - top1[0]) <= UNBALANCED)
        # fed back, logits lose about half
        error = [found["plain", r, bits, "integer"]["logits_error_percent"] for r in ("feedback", "repquant")]
        check(f"plain, logits error of W{bits}A{bits} fed back over repquant", error[0] / error[1],
              error[0] <= 0.7 * error[1])
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
