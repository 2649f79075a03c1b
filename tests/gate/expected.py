"""What an H100 should do with the kernels, from their machine code and its stated rates.

Nothing of it is measured. A rate is the least of what the instructions, the memory and the level-2
cache allow, with every latency hidden: a bound from above, and what a measurement is to be held
against.
"""

import collections
import re

TARGET = "sm_90a"
# A line of nvdisasm: the name of an instruction, and the rest.
INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.x]*)(.*)")
# NVIDIA, H100 SXM data sheet: bytes a second of its memory, and multiprocessors.
MEMORY, PROCESSORS = 3350e9, 132
# The clock by which the sheet's 1979 TFLOP/s in FP8 and 989.5 in BF16 are 8192 and 4096 operations a
# cycle of a multiprocessor.
CLOCK = 1979e12 / (PROCESSORS * 8192)
# A multiprocessor issues one instruction a cycle to each of four warps of 32 units.
ISSUES, UNITS = 4, 128
# An assumption: NVIDIA states no rate; bytes a second of the level-2 cache as people measure it.
CACHE = 5.5e12
# An assumption: the share of the sheet's peak that `mma` of registers reaches on Hopper, where `wgmma`
# alone reaches all of it, as people measure it.
REGISTERS = 0.62
# Operations of an instruction, warps that issue it together, and the share of the peak it reaches.
MATRIX = {
    "QGMMA.64x128x32": (2 * 64 * 128 * 32, 4, 8192, 1.0),
    "HGMMA.64x128x16.F32.BF16": (2 * 64 * 128 * 16, 4, 4096, 1.0),
    "HMMA.16816.F32.BF16": (2 * 16 * 8 * 16, 1, 4096, REGISTERS),
}
# Products, by operation and kernel: the sides of a cube's tile and the bytes of a number, by which the
# level-2 cache bounds them; none where what a cube loads is little beside what it computes.
PRODUCTS = {
    ("gemm F32", "gemm_warpgroups"): (128, 128, 1),
    ("grouped wgrad", "gemm_warpgroups"): (128, 128, 1),
    ("BF16 linear", "matrix_warpgroups"): (128, 128, 2),
    ("BF16 linear weight gradient", "matrix_warpgroups"): (128, 128, 2),
    ("large BF16 grouped linear", "matrix_warpgroups"): (128, 128, 2),
    ("BF16 grouped linear", "matrix_product"): (128, 128, 4),
    ("attention Bf16", "attend_matrix"): None,
    ("attention backward Bf16", "query_gradient_matrix"): None,
    ("attention backward Bf16", "key_gradient_matrix"): None,
}
# Of operations without a loop: numbers a unit, and bytes that it reads and writes for each.
ENTRIES = {
    "cast rows F32 E4M3 Tile F32": (64, 5 + 4 / 128),
    "cast both F32 E4M3 Tile F32": (64, 6 + 8 / 128),
    "cast blocks F32 E4M3 Tile F32": (64, 6),
    "gather and cast of rows of 7168": (64, 5 + 4 / 128),
    "gather and cast of both of 7168": (64, 6 + 8 / 128),
    "swiglu of 2048 and cast of rows": (64, 9 + 4 / 128),
    "swiglu of 2048 and cast of columns": (64, 9 + 4 / 128),
    "swiglu of 2048": (4, 12),
    "swiglu backward of 2048": (4, 20),
    "adamw F32": (4, 28),
    "adamw Bf16": (4, 20),
}


def loops(assembly):
    """Instructions of each loop, the shortest first: a counter of their names."""
    place, jumps, names = {}, [], []
    for line in assembly.splitlines():
        if label := re.match(r"^(\.L_x_\d+):", line):
            place[label[1]] = len(names)
        elif found := INSTRUCTION.match(line):
            if found[1].startswith("BRA") and (to := re.search(r"`\((\.L_x_\d+)\)", found[2])):
                jumps.append((len(names), to[1]))
            names.append(found[1])
    spans = {(place[to], at) for at, to in jumps if to in place and place[to] <= at}
    ordered = sorted(spans, key=lambda span: span[1] - span[0])
    return [collections.Counter(names[first:last + 1]) for first, last in ordered]


def product(kernel, tile):
    """Operations a second that a product may do, and by what it is bound."""
    name, (operations, warps, peak, share) = next(
        (name, about) for name, about in MATRIX.items() if kernel.count(name))

    def matrices(loop):
        return sum(n for found, n in loop.items() if found.startswith(name))

    # The shortest of the loops that have most.
    loop = max(kernel.loops, key=matrices)
    matrix, instructions = matrices(loop), sum(loop.values())
    # Each warp of those that multiply issues all of the loop.
    issue = ISSUES * matrix * operations / warps / instructions
    bounds = {"matrix units": peak * share, "instructions": issue}
    if tile:
        rows, columns, size = tile
        flops_a_byte = 2 * rows * columns / ((rows + columns) * size)
        bounds["level-2 cache"] = flops_a_byte * CACHE / (PROCESSORS * CLOCK)
    bound = min(bounds, key=bounds.get)
    said = f"{instructions / matrix:.0f} a `{name.split('.')[0]}`"
    return bounds[bound] * PROCESSORS * CLOCK, bound, said, peak


def table(kernels):
    """A row for each operation of PRODUCTS and ENTRIES."""
    own = [k for k in kernels if k.target == TARGET]

    def of(operation, name=None):
        """The largest form of an operation's kernel, or the largest of its kernels."""
        forms = (k for k in own if operation in k.operations and name in (None, k.name))
        return max(forms, key=lambda k: sum(k.instructions.values()))

    lines = ["| operation | kernel | instructions | bound by | at most | of the data sheet's |",
             "|---|---|--:|---|--:|--:|"]
    for (operation, name), tile in PRODUCTS.items():
        rate, bound, instructions, peak = product(of(operation, name), tile)
        lines.append(
            f"| {operation} | `{name}` | {instructions} | {bound} | "
            f"{rate / 1e12:.0f} TFLOP/s | {rate / (peak * PROCESSORS * CLOCK):.2f} |")
    for operation, (entries, size) in ENTRIES.items():
        kernel = of(operation)
        each = sum(kernel.instructions.values()) / entries
        issue = UNITS / each * size * PROCESSORS * CLOCK
        rate, bound = min((issue, "instructions"), (MEMORY, "memory"))
        lines.append(
            f"| {operation} | `{kernel.name}` | {each:.0f} a number | {bound} | "
            f"{rate / 1e9:.0f} GB/s | {rate / MEMORY:.2f} |")
    return "\n".join(lines)
