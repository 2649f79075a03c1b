"""Compiles the CUDA source of every kernel for four targets and looks at what came out.

usage: cuda.py SOURCES [--page PAGE] [--write]

SOURCES is a folder that the example `cuda_sources` of cubecl-kernels wrote. Each source goes through
NVRTC with CubeCL's options, ptxas and nvdisasm; a driver or a GPU is not needed. It is wrong where
one does not compile, spills registers, or has not the instructions that its path is for, and where
an operation of a target is not by the kernel that it should be by. PAGE is a Markdown page whose
tables, each between two marks, must be what was found; --write puts them there.

The compilers are those of the packages in `requirements.txt` beside this file.
"""

import argparse
import collections
import concurrent.futures
import ctypes
import json
import os
import pathlib
import re
import subprocess
import sys
import sysconfig
import tempfile
import time

import expected

TARGETS = ("sm_89", "sm_90a", "sm_100a", "sm_120a")
# What a kernel is for: instructions that must be there, by function and target.
INSTRUCTIONS = {
    "gemm_warpgroups": {"sm_90a": ["QGMMA.64x128x32", "UTMALDG"]},
    "gemm_mma": {
        "sm_89": ["QMMA."],
        "sm_100a": ["HMMA.16816.F32"],
        "sm_120a": ["QMMA."],
    },
    "matrix_warpgroups": {"sm_90a": ["HGMMA.64x128x16.F32.BF16", "UTMALDG"]},
    "matrix_product": dict.fromkeys(TARGETS, ["HMMA.16816.F32.BF16", "LDSM."]),
    "cast_blocks": dict.fromkeys(TARGETS, ["F2FP.SATFINITE.E"]),
    "pack_fp8": dict.fromkeys(TARGETS, ["F2FP.SATFINITE.E4M3"]),
} | {
    # BF16 products of registers that `ldmatrix` fills from what asynchronous copies brought.
    name: dict.fromkeys(TARGETS, ["HMMA.16816.F32.BF16", "LDSM.", "LDGSTS."])
    for name in ("attend_matrix", "query_gradient_matrix", "key_gradient_matrix")
}
# Which kernel E4M3 products are by.
PRODUCTS = {
    "sm_89": "gemm_mma", "sm_90a": "gemm_warpgroups", "sm_100a": "gemm_mma", "sm_120a": "gemm_mma",
}
OPERATIONS = [
    "gemm F32", "gemm Bf16", "gemm accumulated", "wgrad", "wgrad accumulated", "grouped gemm F32",
    "grouped gemm Bf16", "masked gemm F32", "masked gemm Bf16", "grouped wgrad",
    "grouped wgrad accumulated", "gemm of depth 131",
]
# What is in BF16 on every target: what is large, by warpgroups where there are any, and the rest.
LARGE_BF16 = [
    f"{of}linear{product}"
    for of in ("BF16 ", "large BF16 grouped ")
    for product in ("", " input gradient")
] + ["BF16 linear weight gradient", "BF16 head and cross entropy"]
BF16 = [
    f"{kind}linear{product}"
    for kind in ("odd BF16 ", "BF16 grouped ", "odd BF16 grouped ")
    for product in ("", " input gradient", " weight gradient")
] + ["large BF16 grouped linear weight gradient"]


class Toolkit:
    """NVRTC, ptxas and nvdisasm of the packages."""

    def __init__(self):
        root = pathlib.Path(sysconfig.get_path("purelib")) / "nvidia" / "cu13"
        if not root.is_dir():
            sys.exit(f"cuda.py: no {root}: install the packages of requirements.txt")
        self.ptxas, self.nvdisasm = root / "bin" / "ptxas", root / "bin" / "nvdisasm"
        self.includes = [root / "include", root / "include" / "cccl"]
        self.nvrtc = ctypes.CDLL(str(next((root / "lib").glob("libnvrtc.so.*"))))
        self.nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p

    def ptx(self, source, target):
        """The PTX of a source, as CubeCL's runtime asks NVRTC for it; raises what NVRTC says."""
        program = ctypes.c_void_p()
        create = self.nvrtc.nvrtcCreateProgram
        self.check(create(ctypes.byref(program), source.encode(), None, 0, None, None))
        try:
            options = [f"--gpu-architecture={target}", "-lineinfo"]
            options += [f"--include-path={folder}" for folder in self.includes]
            array = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
            if self.nvrtc.nvrtcCompileProgram(program, len(options), array) != 0:
                raise RuntimeError(self.text(program, "ProgramLog"))
            return self.text(program, "PTX")
        finally:
            self.nvrtc.nvrtcDestroyProgram(ctypes.byref(program))

    def text(self, program, what):
        size = ctypes.c_size_t()
        self.check(getattr(self.nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
        buffer = ctypes.create_string_buffer(size.value)
        self.check(getattr(self.nvrtc, f"nvrtcGet{what}")(program, buffer))
        return buffer.value.decode(errors="replace")

    def check(self, code):
        if code != 0:
            raise RuntimeError(f"NVRTC: {self.nvrtc.nvrtcGetErrorString(code).decode()}")

    def machine_code(self, ptx, target):
        """What ptxas reports of a kernel, and its instructions."""
        with tempfile.TemporaryDirectory() as folder:
            written, binary = pathlib.Path(folder) / "k.ptx", pathlib.Path(folder) / "k.cubin"
            written.write_text(ptx)
            report = run([self.ptxas, "-v", f"-arch={target}", written, "-o", binary])
            return report, run([self.nvdisasm, "-c", binary])


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{pathlib.Path(command[0]).name}: {done.stderr.strip()}")
    return done.stderr + done.stdout


class Kernel:
    """A source, and what became of it."""

    def __init__(self, entry, folder):
        self.__dict__.update(entry)
        self.source = (folder / self.file).read_text()
        # Without the types it is for, and the digits of its form.
        self.name = re.sub(r"_([fon]|n[ab])_.*$", "", re.sub(r"_[0-9a-f]{8}$", "", self.function))
        self.problems = []

    def compile(self, toolkit):
        began = time.monotonic()
        try:
            ptx = toolkit.ptx(self.source, self.target)
            report, assembly = toolkit.machine_code(ptx, self.target)
        except RuntimeError as error:
            self.problems.append(str(error))
            return self
        finally:
            self.seconds = time.monotonic() - began
        self.registers = number(r"Used (\d+) registers", report)
        self.spilled = number(r"(\d+) bytes spill stores", report)
        self.stack = number(r"(\d+) bytes stack frame", report)
        self.static_bytes = number(r"(\d+) bytes smem", report)
        self.instructions = collections.Counter(
            found[1] for found in map(expected.INSTRUCTION.match, assembly.splitlines()) if found
        )
        self.loops = expected.loops(assembly)
        if self.spilled:
            self.problems.append(f"spills {self.spilled} bytes of registers")
        for wanted in INSTRUCTIONS.get(self.name, {}).get(self.target, []):
            if not any(found.startswith(wanted) for found in self.instructions):
                self.problems.append(f"has no {wanted}")
        return self

    def count(self, name):
        return sum(n for found, n in self.instructions.items() if found.startswith(name))


def number(pattern, text):
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


def wrong_paths(kernels):
    """Operations that are by another kernel than a target should have them by."""
    by = {(k.target, operation): k.name for k in kernels for operation in k.operations
          if k.name.startswith("gemm_")}
    for target, wanted in PRODUCTS.items():
        for operation in OPERATIONS:
            found = by.get((target, operation), "nothing")
            if found != wanted:
                yield f"{target}: {operation} is by {found}, should be by {wanted}"
    bf16 = {(k.target, operation, k.name) for k in kernels for operation in k.operations}
    for target in PRODUCTS:
        large = "matrix_warpgroups" if target == "sm_90a" else "matrix_product"
        for operation in LARGE_BF16 + BF16:
            wanted = large if operation in LARGE_BF16 else "matrix_product"
            if (target, operation, wanted) not in bf16:
                yield f"{target}: {operation} is not by {wanted}"


def unused(kernels):
    """Kernels that a target should have and that no operation launches there."""
    found = {(k.name, k.target) for k in kernels}
    for name, targets in INSTRUCTIONS.items():
        for target in targets:
            if (name, target) not in found:
                yield f"{target}: nothing launches {name}"


def table(kernels):
    """A row for each kernel: the most of all its forms, by target."""
    targets = sorted({k.target for k in kernels}, key=lambda t: int(re.sub(r"\D", "", t)))
    lines = ["| kernel | units | forms | " + " | ".join(targets) + " |",
             "|---|--:|--:|" + "---|" * len(targets)]
    for name in sorted({k.name for k in kernels}):
        own = [k for k in kernels if k.name == name]
        units = "/".join(str(u) for u in sorted({k.units for k in own}))
        forms = max(sum(k.target == target for k in own) for target in targets)
        cells = [cell([k for k in own if k.target == target]) for target in targets]
        lines.append(f"| `{name}` | {units} | {forms} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(own):
    if not own:
        return "-"
    shared = max(max(k.shared_bytes, k.static_bytes) for k in own)
    text = f"{max(k.registers for k in own)}"
    if shared:
        text += f", {-(-shared // 1024)} KB" if shared >= 1024 else f", {shared} B"
    if spilled := max(k.spilled for k in own):
        text += f", {spilled} B spilled"
    largest = max(own, key=lambda k: sum(k.instructions.values()))
    text += f", {sum(largest.instructions.values())} instructions"
    named = [(name, max(k.count(name) for k in own)) for name in ["QGMMA", "HGMMA", "QMMA", "HMMA", "UTMALDG"]]
    said = ", ".join(f"{n} {name}" for name, n in named if n)
    return text + (f" ({said})" if said else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sources", type=pathlib.Path)
    parser.add_argument("--page", type=pathlib.Path)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    toolkit = Toolkit()
    entries = json.loads((options.sources / "kernels.json").read_text())
    kernels = [Kernel(entry, options.sources) for entry in entries]
    if not kernels:
        sys.exit("cuda.py: there is no source")
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        kernels = list(pool.map(lambda kernel: kernel.compile(toolkit), kernels))
    problems = [f"{k.file} ({k.operations[0]}): {p}" for k in kernels for p in k.problems]
    took = sum(k.seconds for k in kernels)
    problems += wrong_paths(kernels)
    problems += unused(kernels)
    for target, path, matrix in sorted({(k.target, k.path, k.matrix) for k in kernels}):
        print(f"{target}: products in FP8 by {path}, in BF16 by {matrix}")
    if problems:
        sys.exit("cuda.py: " + "\ncuda.py: ".join(problems))
    tables = {"cuda.py": table(kernels), "expected.py": expected.table(kernels)}
    print("\n\n".join(tables.values()))
    targets = len({k.target for k in kernels})
    print(f"{len(kernels)} kernels of {targets} targets; {took:.0f} s of compilers")
    if options.page:
        page = was = options.page.read_text()
        for name, found in tables.items():
            begin, end = (f"<!-- {mark}: tests/gate/{name} -->" for mark in ("begin", "end"))
            before, rest = page.split(begin)
            page = f"{before}{begin}\n\n{found}\n\n{end}{rest.split(end)[1]}"
        if options.write:
            options.page.write_text(page)
        elif page != was:
            sys.exit(f"cuda.py: the tables of {options.page} are not these; --write puts them there")


if __name__ == "__main__":
    main()
