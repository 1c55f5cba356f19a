"""Implement cublasLt in NumPy, on host memory, with the same function names, arguments and status numbers.

Its functions are C callbacks, so that arguments go through the same ctypes conversions as with the real
library, and arrive as addresses and numbers. It reads and writes matrices and bias at their addresses, and
refuses what the real library refuses.
"""

import ctypes as C  # noqa: N812
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

SUCCESS, INVALID_VALUE, EXECUTION_FAILED, NOT_SUPPORTED = 0, 7, 13, 15
STATUS = {
    SUCCESS: (b"CUBLAS_STATUS_SUCCESS", b"success"),
    INVALID_VALUE: (b"CUBLAS_STATUS_INVALID_VALUE", b"the parameters conflict"),
    EXECUTION_FAILED: (b"CUBLAS_STATUS_EXECUTION_FAILED", b"the function failed to launch on the GPU"),
    NOT_SUPPORTED: (b"CUBLAS_STATUS_NOT_SUPPORTED", b"the requested functionality is not supported"),
}
UNKNOWN_STATUS = (b"unknown", b"no such status")
# Attributes by number: name and C type, whose size is checked as in the library.
ATTRIBUTES = {
    "MatmulDesc": {
        0: ("compute", C.c_int32),
        1: ("scale", C.c_int32),
        3: ("transpose_a", C.c_int32),
        4: ("transpose_b", C.c_int32),
        7: ("epilogue", C.c_uint32),
        8: ("bias", C.c_uint64),
        10: ("bias_stride", C.c_int64),
    },
    "MatrixLayout": {
        0: ("type", C.c_uint32),
        1: ("order", C.c_int32),
        2: ("rows", C.c_uint64),
        3: ("columns", C.c_uint64),
        4: ("ld", C.c_int64),
        5: ("batch", C.c_int32),
        6: ("stride", C.c_int64),
    },
    "MatmulPreference": {
        1: ("workspace", C.c_uint64),
        5: ("align_a", C.c_uint32),
        6: ("align_b", C.c_uint32),
        7: ("align_c", C.c_uint32),
        8: ("align_d", C.c_uint32),
    },
}
DEFAULTS = {
    "": {},
    "MatmulDesc": dict.fromkeys(("transpose_a", "transpose_b", "bias", "bias_stride"), 0) | {"epilogue": 1},
    "MatrixLayout": {"order": 0, "batch": 1, "stride": 0},
    "MatmulPreference": {"workspace": 0} | {f"align_{matrix}": 256 for matrix in "abcd"},
}
RELU, BIAS, BGRADA = 2, 4, 256
KNOWN_EPILOGUES = {1, 2, 4, 6, 256}
COLUMN_ORDER, ROW_ORDER = 0, 1
R32F, R64F, R16F, R16BF = 0, 1, 2, 14
COMPUTE_32F, COMPUTE_64F, COMPUTE_TF32 = 68, 70, 77
# (compute, scale, A and B, C and D)
SUPPORTED_TYPES = {
    (COMPUTE_64F, R64F, R64F, R64F),
    (COMPUTE_32F, R32F, R32F, R32F),
    (COMPUTE_TF32, R32F, R32F, R32F),
    (COMPUTE_32F, R32F, R16F, R16F),
    (COMPUTE_32F, R32F, R16F, R32F),
    (COMPUTE_32F, R32F, R16BF, R16BF),
    (COMPUTE_32F, R32F, R16BF, R32F),
}
STORED = {R32F: np.float32, R64F: np.float64, R16F: np.float16, R16BF: np.uint16}
WORKSPACE_STEP = 1 << 20  # bytes: algorithm i needs i of them
MAGIC = 0xC0B1A5


# -- memory ----------------------------------------------------------------------------------------------


def to_bfloat16(values):
    """Round float32 to the nearest bfloat16 (ties to even), as the upper 16 bits."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)


def from_bfloat16(bits):
    return (np.ascontiguousarray(bits, np.uint16).astype(np.uint32) << 16).view(np.float32)


def to_tf32(values):
    """Round float32 to the 10 bits of mantissa of a TF32 operand."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x0FFF + ((bits >> 13) & 1)) & 0xFFFFE000).astype(np.uint32).view(np.float32)


def memory(address, count, dtype):
    """Return `count` elements at an address, as an array that shares them."""
    dtype = np.dtype(dtype)
    return np.frombuffer((C.c_char * (count * dtype.itemsize)).from_address(address), dtype)


def column_major(address, rows, columns, ld, dtype):
    """Return a column-major matrix (rows, columns) at an address, without touching other bytes."""
    flat = memory(address, (columns - 1) * ld + rows, dtype)
    itemsize = flat.itemsize
    return np.lib.stride_tricks.as_strided(flat, (rows, columns), (itemsize, ld * itemsize), writeable=True)


@dataclass
class Matrix:
    """A layout at an address."""

    address: int
    type: int
    order: int
    rows: int
    columns: int
    ld: int
    batch: int
    stride: int

    def member(self, index):
        dtype = np.dtype(STORED[self.type])
        address = self.address + index * self.stride * dtype.itemsize
        if self.order == ROW_ORDER:
            return column_major(address, self.columns, self.rows, self.ld, dtype).T
        return column_major(address, self.rows, self.columns, self.ld, dtype)

    def read(self, index, accumulator):
        values = self.member(index)
        return (from_bfloat16(values) if self.type == R16BF else values).astype(accumulator)

    def write(self, index, values):
        self.member(index)[...] = store(values, self.type)


def store(values, data_type):
    return to_bfloat16(values) if data_type == R16BF else values.astype(STORED[data_type])


# -- the library -----------------------------------------------------------------------------------------


@dataclass
class Query:
    """One configuration, for tests that refuse it."""

    epilogue: int
    compute: int
    operand: int
    output: int
    batch: int
    strides: tuple


@dataclass
class FakeCublasLt:
    """The functions; `calls` counts their calls by name, `live` holds the objects not yet destroyed.

    Parameters
    ----------
    refuses : callable
        Whether the heuristic refuses a Query; set by tests of the autotuner.
    refuses_addends : bool
        Whether a run with C in other memory than D fails; the heuristic knows nothing of it.
    num_algorithms : int
        Number of algorithms of the heuristic; 0 is its other way to refuse.
    broken_algorithms : set of int
        Algorithms that the heuristic offers and that fail when they run.
    """

    refuses: object = lambda query: False
    refuses_addends: bool = False
    num_algorithms: int = 3
    broken_algorithms: set = field(default_factory=set)
    calls: Counter = field(default_factory=Counter)
    live: dict = field(default_factory=dict)
    ran: list = field(default_factory=list)
    ran_epilogue: int = 0
    created: int = 0
    faults: list = field(default_factory=list)

    def __post_init__(self):
        pointer, number, size = C.c_void_p, C.c_int, C.c_size_t
        self._texts = []
        self._export("cublasLtGetVersion", size, [], lambda: 130102)
        for position, name in enumerate(("cublasLtGetStatusName", "cublasLtGetStatusString")):
            self._export_text(name, {status: texts[position] for status, texts in STATUS.items()}, position)
        self._export_objects("", [])
        self._export_objects("MatmulDesc", [("compute", number), ("scale", number)])
        layout = [("type", number), ("rows", C.c_uint64), ("columns", C.c_uint64), ("ld", C.c_int64)]
        self._export_objects("MatrixLayout", layout)
        self._export_objects("MatmulPreference", [])
        heuristic = [pointer] * 7 + [number, pointer, pointer]
        self._export("cublasLtMatmulAlgoGetHeuristic", number, heuristic, self._heuristic)
        fact = [pointer, number, pointer, size, pointer]
        self._export("cublasLtMatmulAlgoConfigGetAttribute", number, fact, self._fact)
        self._export("cublasLtMatmul", number, [pointer] * 13 + [pointer, size, pointer], self._matmul)

    def _export(self, name, result, arguments, body):
        def counted(*values):
            self.calls[name] += 1
            try:
                return body(*values)
            except Exception as fault:  # an exception cannot pass through C; tests look here
                self.faults.append(fault)
                return EXECUTION_FAILED

        setattr(self, name, C.CFUNCTYPE(result, *arguments)(counted))

    def _export_text(self, name, texts, position):
        # A callback returns the address of a string, which must stay alive.
        saved = {status: C.create_string_buffer(text) for status, text in texts.items()}
        unknown = C.create_string_buffer(UNKNOWN_STATUS[position])
        self._texts.append((saved, unknown))
        self._export(name, C.c_void_p, [C.c_int], lambda status: C.addressof(saved.get(status, unknown)))

    def _export_objects(self, kind, fields):
        def create(out, *values):
            self.created += 1
            identity = 0x5000_0000 + 16 * self.created
            self.live[identity] = (
                kind,
                DEFAULTS[kind] | dict(zip([f for f, _ in fields], values, strict=True)),
            )
            C.c_void_p.from_address(out).value = identity
            return SUCCESS

        def destroy(identity):
            return SUCCESS if self.live.pop(identity, (None,))[0] == kind else INVALID_VALUE

        def set_attribute(identity, number, value, size):
            known = ATTRIBUTES[kind].get(number)
            if known is None or C.sizeof(known[1]) != size or self.live[identity][0] != kind:
                return INVALID_VALUE
            self.live[identity][1][known[0]] = known[1].from_address(value).value
            return SUCCESS

        void = C.c_void_p
        self._export(f"cublasLt{kind}Create", C.c_int, [void, *(ctype for _, ctype in fields)], create)
        self._export(f"cublasLt{kind}Destroy", C.c_int, [void], destroy)
        if kind:
            arguments = [void, C.c_int, void, C.c_size_t]
            self._export(f"cublasLt{kind}SetAttribute", C.c_int, arguments, set_attribute)

    def _look_up(self, kind, identity):
        found, attributes = self.live[identity]
        if found != kind:
            raise TypeError(f"{identity:#x} is a {found or 'handle'}, not a {kind or 'handle'}")
        return attributes

    def _heuristic(self, handle, desc, a, b, c, d, preference, wanted, results, count):
        if wanted < 1:
            return INVALID_VALUE
        self._look_up("", handle)
        desc = self._look_up("MatmulDesc", desc)
        a, b, c, d = (self._look_up("MatrixLayout", layout) for layout in (a, b, c, d))
        preference = self._look_up("MatmulPreference", preference)
        if status := fault_of(desc, a, b, c, d):
            return status
        if self.refuses(
            Query(
                desc["epilogue"],
                desc["compute"],
                a["type"],
                d["type"],
                d["batch"],
                (a["stride"], b["stride"], d["stride"]),
            )
        ):
            return NOT_SUPPORTED
        fitting = [i for i in range(self.num_algorithms) if i * WORKSPACE_STEP <= preference["workspace"]]
        alignment = [preference[f"align_{matrix}"] for matrix in "abcd"]
        alignment.append(lowest_bit(desc["bias"]))
        for slot, index in enumerate(fitting[:wanted]):
            write_result(results + 96 * slot, index, fingerprint(desc, a, b, d), alignment)
        C.c_int.from_address(count).value = len(fitting[:wanted])
        return SUCCESS

    def _fact(self, algorithm, attribute, value, size, written):
        index = int(memory(algorithm, 2, np.uint64)[1])
        known = {0: index, 1: 20, 2: 1 + index}  # which, a tile of 128x128, splits of the inner axis
        if attribute not in known or size != 4:
            return INVALID_VALUE
        C.c_uint32.from_address(value).value = known[attribute]
        C.c_size_t.from_address(written).value = size
        return SUCCESS

    def _matmul(self, handle, desc, alpha, a, la, b, lb, beta, c, lc, d, ld, algorithm, ws, ws_bytes, stream):
        self._look_up("", handle)
        desc = self._look_up("MatmulDesc", desc)
        layouts = [self._look_up("MatrixLayout", layout) for layout in (la, lb, lc, ld)]
        if status := fault_of(desc, *layouts):
            return status
        if self.refuses_addends and c != d and memory_of_scale(beta, desc) != 0:
            return NOT_SUPPORTED
        magic, index, mark, *alignment = memory(algorithm, 8, np.uint64).tolist()
        if magic != MAGIC or mark != fingerprint(desc, layouts[0], layouts[1], layouts[3]):
            return INVALID_VALUE
        if ws_bytes < index * WORKSPACE_STEP or (ws_bytes and (ws or 1) % 256):
            return INVALID_VALUE
        # Four alignments share a number.
        needed = [alignment[i // 4] >> 16 * (i % 4) & 0xFFFF for i in range(5)]
        addresses = (a, b, c, d, desc["bias"])
        if index in self.broken_algorithms or any(
            address and address % bytes_ for address, bytes_ in zip(addresses, needed, strict=True)
        ):
            return EXECUTION_FAILED
        matrices = [Matrix(address, **x) for address, x in zip((a, b, c, d), layouts, strict=True)]
        with np.errstate(all="ignore"):  # a GPU overflows without a word
            compute(desc, memory_of_scale(alpha, desc), memory_of_scale(beta, desc), *matrices)
        self.ran.append((index, stream))
        self.ran_epilogue = desc["epilogue"]
        return SUCCESS


def fault_of(desc, a, b, c, d):
    """Return the status for a configuration: 7 if it contradicts itself, 15 if it is not supported."""
    epilogue = desc["epilogue"]
    inner = {size(a, desc["transpose_a"], 1), size(b, desc["transpose_b"], 0)}
    rows, columns = size(a, desc["transpose_a"], 0), size(b, desc["transpose_b"], 1)
    if len(inner) > 1 or c != d or (rows, columns) != (d["rows"], d["columns"]):
        return INVALID_VALUE
    if len({x["batch"] for x in (a, b, d)}) > 1:
        return INVALID_VALUE
    if any(x["ld"] < x["columns" if x["order"] else "rows"] for x in (a, b, d)):
        return INVALID_VALUE
    types = (desc["compute"], desc["scale"], a["type"], d["type"])
    if types not in SUPPORTED_TYPES or a["type"] != b["type"] or epilogue not in KNOWN_EPILOGUES:
        return NOT_SUPPORTED
    # With anything but a plain product all matrices are column-major.
    if epilogue != 1 and any(x["order"] != COLUMN_ORDER for x in (a, b, d)):
        return NOT_SUPPORTED
    if epilogue == BGRADA and desc["transpose_a"]:
        return NOT_SUPPORTED
    if epilogue & (BIAS | BGRADA) and not desc["bias"]:
        return NOT_SUPPORTED
    return SUCCESS


def size(layout, transposed, axis):
    return layout[("rows", "columns")[axis ^ bool(transposed)]]


def lowest_bit(address):
    return (address | 256) & -(address | 256)


def fingerprint(desc, a, b, d):
    """Return a number for the configuration of an algorithm, which is invalid for any other."""
    parts = [value for key, value in sorted(desc.items()) if key != "bias"]
    for layout in (a, b, d):
        parts += [value for _, value in sorted(layout.items())]
    return hash(tuple(parts)) & 0xFFFF_FFFF


def write_result(address, index, mark, alignment):
    packed = [0, 0]
    for i, bytes_ in enumerate(alignment):
        packed[i // 4] |= bytes_ << 16 * (i % 4)
    memory(address, 8, np.uint64)[:] = [MAGIC, index, mark, *packed, 0, 0, 0]
    memory(address + 64, 1, np.uint64)[:] = index * WORKSPACE_STEP
    memory(address + 72, 1, np.int32)[:] = SUCCESS


def memory_of_scale(address, desc):
    return memory(address, 1, STORED[desc["scale"]])[0]


def compute(desc, alpha, beta, a, b, c, d):
    """Compute `D = alpha op(A) op(B) + beta C`, then the epilogue, member by member."""
    accumulator = STORED[desc["scale"]]
    for index in range(d.batch):
        left, right = a.read(index, accumulator), b.read(index, accumulator)
        if desc["compute"] == COMPUTE_TF32:
            left, right = to_tf32(left), to_tf32(right)
        left = left.T if desc["transpose_a"] else left
        right = right.T if desc["transpose_b"] else right
        result = alpha * (left @ right)
        if beta != 0:  # with 0, C is not read: it may hold NaN
            result = result + beta * c.read(index, accumulator)
        d.write(index, finish(desc, result, left, d, index))


def finish(desc, result, a, d, index):
    """Apply the epilogue to the product of a member."""
    epilogue = desc["epilogue"]
    rows = len(result)
    itemsize = np.dtype(STORED[d.type]).itemsize
    vector = desc["bias"] + index * desc["bias_stride"] * itemsize
    if epilogue == BGRADA:
        memory(vector, rows, STORED[d.type])[:] = store(a.sum(axis=1), d.type)
        return result
    if epilogue & BIAS:
        bias = memory(vector, rows, STORED[d.type])
        bias = from_bfloat16(bias) if d.type == R16BF else bias
        result = result + bias.astype(result.dtype)[:, None]
    if epilogue & RELU:
        # The library's ReLU turns NaN into 0.
        result = np.where(result > 0, result, 0)
    return result
