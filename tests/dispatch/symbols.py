#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Reads objects: no function compiled for one instruction set may be picked for another, and none of its
instructions stand outside.

  symbols.py --units ARCHIVE            the units of repquant_add_dispatch
  symbols.py --products OBJECT          the products of all instruction sets, compiled without a flag
  symbols.py --self-test

Options --nm and --objdump name the tools.
"""
import argparse
import re
import subprocess
import sys

# The widest register that an object of a unit may name, and the one that it must: otherwise its flags were lost.
REGISTERS = {"scalar": 0, "sse2": 0, "sse4": 0, "avx2": 256, "avx_vnni": 256, "avx512": 512, "avx512_vnni": 512,
             "neon": 0, "neon_dotprod": 0, "neon_i8mm": 0}
MEMBER = re.compile(r"^(?:.*[/(])?([\w.]+)\.(?:cpp\.)?o\)?:(?:\s+file format.*)?$")
SYMBOL = re.compile(r"^[0-9a-f]+ (\w) (\S+)$")
FUNCTION = re.compile(r"^[0-9a-f]+ <([^>]+)>:$")
WIDTHS = ((512, re.compile(r"%zmm\d")), (256, re.compile(r"%ymm\d")))


def weak_complaints(nm_text):
    """Weak symbols of a unit whose name does not say the unit: another unit's copy could take their place."""
    complaints, member = [], None
    for line in nm_text.splitlines():
        heading, symbol = MEMBER.match(line), SYMBOL.match(line)
        if heading:
            member = heading.group(1).removesuffix(".cpp")
        elif symbol and symbol.group(1) in "WVuw" and member != "units":
            tag = f"repquant_{member}"
            if f"{len(tag)}{tag}" not in symbol.group(2):
                complaints.append(f"{member}: weak symbol {symbol.group(2)}")
    return complaints


def widths(objdump_text):
    """{(member, function): widest register named in it}."""
    widest, member, function = {}, None, None
    for line in objdump_text.splitlines():
        heading, start = MEMBER.match(line), FUNCTION.match(line)
        if heading:
            member = heading.group(1).removesuffix(".cpp")
        elif start:
            function = start.group(1)
            widest[member, function] = 0
        elif function:
            for bits, register in WIDTHS:
                if register.search(line):
                    widest[member, function] = max(widest[member, function], bits)
    return widest


def unit_complaints(nm_text, objdump_text, x86):
    complaints = weak_complaints(nm_text)
    widest = {}
    for (member, _), bits in widths(objdump_text).items():
        widest[member] = max(widest.get(member, 0), bits)
    widest.pop("units", None)  # the list of them, compiled with the flags of the program
    for member, bits in widest.items():
        if member not in REGISTERS:
            complaints.append(f"{member}: not a unit that is known here")
        elif bits != REGISTERS[member] and x86:
            complaints.append(f"{member}: registers of {bits} bits, {REGISTERS[member]} expected")
    if len(widest) < 3:
        complaints.append(f"only {sorted(widest)} were read")
    return complaints


def product_complaints(objdump_text):
    """Wide registers stand in functions of their instruction set alone, and both kinds are there."""
    complaints, seen = [], set()
    for (_, function), bits in widths(objdump_text).items():
        allowed = 512 if "gemm_avx512" in function else 256 if "gemm_avx" in function else 0
        seen.add(bits)
        if bits > allowed:
            complaints.append(f"{function}: registers of {bits} bits")
    if not {256, 512} <= seen:
        complaints.append(f"registers of only {sorted(seen)} bits were read")
    return complaints


def self_test():
    """Each planted mistake must be found."""
    nm = "\navx2.cpp.o:\n0000 W _ZN13repquant_avx26detail1fEv\n0000 T repquant_engine_avx2\n"
    code = "\nunits.cpp.o:     file format elf64-x86-64\n0000 <g>:\n 0: c3 ret\n"
    for name, register in (("sse2", "xmm"), ("avx2", "ymm"), ("avx512", "zmm")):
        code += f"\n{name}.cpp.o:     file format elf64-x86-64\n0000 <f>:\n 0: 00 vpaddd %{register}1,%{register}2\n"
    kernels = "0000 <gemm_avx2_f>:\n 0: vpaddd %ymm1\n0000 <gemm_avx512_f>:\n 0: vpaddd %zmm1\n0000 <base>:\n 0: ret\n"
    wrong = [f"clean: {c}" for c in unit_complaints(nm, code, True) + product_complaints(kernels)]
    planted = {
        "a weak function of the standard library": weak_complaints(nm + "0000 W _ZNSt4spanIfE4dataEv\n"),
        "a weak function of another unit": weak_complaints(nm + "0000 W _ZN15repquant_avx5121fEv\n"),
        "a wide register in a narrow unit": unit_complaints(nm, code.replace("%xmm1", "%ymm1"), True),
        "a unit without its registers": unit_complaints(nm, code.replace("%zmm", "%xmm"), True),
        "nothing read": unit_complaints("", "", True),
        "a wide register outside": product_complaints(kernels.replace("0: ret", "0: vpaddd %ymm1")),
        "512 bits in AVX2": product_complaints(kernels.replace("ymm", "zmm")),
        "no kernels": product_complaints("0000 <base>:\n 0: ret\n"),
    }
    return wrong + [f"not found: {what}" for what, complaints in planted.items() if not complaints]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--units")
    parser.add_argument("--products")
    parser.add_argument("--nm", default="nm")
    parser.add_argument("--objdump", default="objdump")
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()

    def output(*command):
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    complaints = []
    if options.self_test:
        complaints += self_test()
    if options.units:
        code = output(options.objdump, "-d", "--no-show-raw-insn", options.units)
        complaints += unit_complaints(output(options.nm, "--defined-only", options.units), code, "x86-64" in code)
    if options.products:
        complaints += product_complaints(output(options.objdump, "-d", "--no-show-raw-insn", options.products))
    print("\n".join(complaints) or "every function keeps to its instruction set")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
