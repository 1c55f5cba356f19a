"""Implement CuPy on host memory: arrays, recording streams, memory pools, our kernels by g++, a fake cublasLt.

It is as strict as the real one: NumPy arrays do not mix with its own, an implicit copy to the host is an error,
a capture records without computing and refuses matmul and transfers, and new memory is full of NaN. `machine`
counts what a step must avoid.

Work is done when it is asked for, but the host learns of it late: an event passes, and an asynchronous copy
arrives, when the host waits for them or has gone on by `machine.lag` graphs.
"""

import builtins
import collections
import contextlib
import ctypes
import itertools
import sys
import types
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from support.fake_cublaslt import FakeCublasLt

sys.path.insert(0, str(Path(__file__).parents[1] / "backends" / "kernels"))
import simt
from coordfit.backends.cupy_backend.backend import CupyBackend
from coordfit.backends.cupy_backend.cublaslt.library import CublasLtUnavailableError, Library
from coordfit.backends.cupy_backend.device import Device as GpuDevice

__version__ = "14.2.0"
_ALIGNED = 512


class CUDARuntimeError(RuntimeError):
    """The error of CuPy's name."""


class OutOfMemoryError(MemoryError):
    """The error of CuPy's name."""


class CompileException(Exception):  # noqa: N818 - CuPy's name
    """The error of CuPy's name."""


@dataclass
class Machine:
    """The fake device: its counters, its memory limit, and whether a stream is recording."""

    counts: Counter = field(default_factory=Counter)
    limit: int | None = None
    """Bytes of the largest allocation that succeeds."""
    capture: object = None
    capturing: list = field(default_factory=list)
    """Streams that take part: the one that began, and those that wait for an event of one that does."""
    schedule: str = "as asked for"
    """In which of the orders that events allow a graph is done: "first first" or "second first"."""
    invalidated: bool = False
    streams: list = field(default_factory=list)
    pool: object = None
    """The pool of `using_allocator`, or None for the one that all share."""
    shared_places: set = field(default_factory=set)
    """Addresses that the pool that all share has had, so that no other pool gives them out."""
    lag: int = 3
    """Graphs that the device is behind the host."""
    forbids_waiting: bool = False
    """Whether every wait for the device, but for work that other work stands behind, is a failed test."""
    asked: int = 0
    """Pieces of work that the device was asked for."""
    graphs: int = 0
    events: int = 0
    passed: int = 0
    """Events that the host knows of: all that were recorded up to this one."""
    copies: list = field(default_factory=list)
    """Copies on their way to the host: (the event that tells of them, from, to)."""

    def waits(self, what):
        """Count a wait until all work is done, after which the device is idle."""
        self.counts[what] += 1
        assert not self.forbids_waiting, f"{what}: the host waits for the device"
        self.arrive(self.events + 1)

    def arrive(self, event):
        """Mark all work before an event as done and known to the host."""
        self.passed = max(self.passed, min(event, self.events))
        for at, value, out in self.copies:
            if at <= event:
                out[...] = value
        self.copies = [copy for copy in self.copies if copy[0] > event]

    def refuse(self, what, invalidates=False):
        if self.capture is not None:
            self.invalidated = self.invalidated or invalidates
            raise (CUDARuntimeError if invalidates else RuntimeError)(f"{what} is not allowed while capturing")

    def do(self, work):
        """Run some work now, or add it to the graph that is being recorded."""
        if self.capture is not None:
            self.counts["recorded"] += 1
            stream = machine.streams[-1].ptr if machine.streams else 0
            if stream not in self.capturing:
                raise CUDARuntimeError("work for a stream that takes no part in what is recorded")
            self.capture.append((stream, work))
            return
        self.counts["run"] += 1
        self.asked += 1
        with np.errstate(all="ignore"):
            work()


machine = Machine()


# -- arrays ----------------------------------------------------------------------------------------------


def _memory(shape, dtype):
    """Return new memory, full of 0xFF bytes (NaN), aligned as CuPy's pool aligns it."""
    dtype = np.dtype(dtype)
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if machine.limit is not None and size > machine.limit:
        raise OutOfMemoryError(f"Out of memory allocating {size:,} bytes (allocated so far: 0 bytes).")
    if machine.capture is not None and machine.pool is None:
        raise RuntimeError("memory of the pool that all share was taken while capturing")
    host = _aligned(size)
    if machine.pool is None:
        machine.shared_places.add(host.ctypes.data)
    else:
        machine.pool.saved.append(host)
        while host.ctypes.data in machine.shared_places:
            host = _aligned(size)
            machine.pool.saved.append(host)
    return host.view(dtype).reshape(shape)


def _aligned(size):
    whole = np.full(size + _ALIGNED, 0xFF, np.uint8)
    start = -whole.ctypes.data % _ALIGNED
    return whole[start : start + size]


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):  # noqa: N801 - CuPy's name
    """An array of the fake device."""

    __array_priority__ = 100

    def __init__(self, host):
        self._host = host

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        if method != "__call__":
            return NotImplemented
        if ufunc is np.matmul:
            return matmul(*inputs)
        target = None if out is None else out[0]
        return _apply(lambda *a: ufunc(*a, **kwargs), inputs, target)

    shape = property(lambda self: self._host.shape)
    strides = property(lambda self: self._host.strides)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    flags = property(lambda self: self._host.flags)
    device = property(lambda self: "device 0 of the pretended machine")
    data = property(lambda self: types.SimpleNamespace(ptr=self._host.ctypes.data))

    def __len__(self):
        return len(self._host)

    def __repr__(self):
        return f"fake_cupy.{self._host!r}"

    def __getitem__(self, key):
        keys = key if isinstance(key, tuple) else (key,)
        if builtins.any(isinstance(k, ndarray | np.ndarray | list) for k in keys):
            raise TypeError("indexing by arrays is not pretended; bool masks would wait for the device")
        return ndarray(self._host[(*keys, ...) if Ellipsis not in keys else key])

    def __setitem__(self, key, value):
        target, value = self._host[key], _host_of(value)
        if not isinstance(target, np.ndarray):
            target = self._host[(*(key if isinstance(key, tuple) else (key,)), ...)]
        machine.do(lambda: np.copyto(target, value, casting="unsafe"))

    def _to_scalar(self, kind):
        machine.refuse("a copy to the host")
        machine.waits("to host")
        return kind(self._host)

    def __float__(self):
        return self._to_scalar(float)

    def __int__(self):
        return self._to_scalar(int)

    def __bool__(self):
        return self._to_scalar(bool)

    def fill(self, value):
        host = self._host
        machine.do(lambda: host.fill(value))

    def set(self, host, stream=None):
        machine.refuse("a copy from the host")
        assert (host.dtype, host.shape) == (self.dtype, self.shape), "CuPy's set() casts nothing"
        if stream is None:
            machine.waits("from host")
        else:
            machine.counts["from host, without waiting"] += 1
        self._host[...] = host

    def get(self, stream=None, out=None, blocking=True):
        if blocking:
            return asnumpy(self)
        machine.refuse("a copy to the host")
        assert (out.dtype, out.shape) == (self.dtype, self.shape), "CuPy's get() casts nothing"
        assert not out.flags.owndata, "only pinned memory is copied to without waiting"
        machine.counts["to host, without waiting"] += 1
        out.view(np.uint8)[...] = 0xFF  # early reads give NaN
        machine.copies.append((machine.events + 1, self._host.copy(), out))
        return out

    def reshape(self, *shape):
        return reshape(self, shape[0] if isinstance(shape[0], tuple) else shape)

    def astype(self, dtype):
        return _apply(lambda a: a.astype(dtype), (self,))


def _host_of(value):
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    return value


def _apply(function, inputs, out=None):
    """Apply a function of arrays, into new memory or into `out`; recorded during a capture."""
    hosts = [_host_of(value) for value in inputs]
    with np.errstate(all="ignore"):
        shape_only = np.asarray(function(*hosts))
    target = _memory(shape_only.shape, shape_only.dtype) if out is None else out._host
    machine.do(lambda: np.copyto(target, function(*hosts), casting="same_kind"))
    return ndarray(target) if out is None else out


def _lifted(function):
    return lambda *arrays, **options: _apply(lambda *hosts: function(*hosts, **options), arrays)


for _name in (
    *("abs", "sign", "clip", "sqrt", "tanh", "sin", "cos", "exp", "round", "maximum", "where", "sum", "mean"),
    *("take", "take_along_axis", "zeros_like", "isfinite", "all", "square", "log", "floor", "minimum"),
    *("astype", "ones_like", "argsort", "searchsorted", "cumsum", "log1p", "expm1"),
):
    globals()[_name] = _lifted(getattr(np, _name))


def concat(arrays, axis=0):
    return _apply(lambda *hosts: np.concatenate(hosts, axis=axis), arrays)


def stack(arrays, axis=0):
    return _apply(lambda *hosts: np.stack(hosts, axis=axis), arrays)


def matmul(a, b):
    if machine.capture is not None:
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
    machine.counts["matmul"] += 1
    return _apply(np.matmul, (a, b))


linalg = types.SimpleNamespace(
    **{name: _lifted(getattr(np.linalg, name)) for name in ("cholesky", "inv", "solve")}
)


def reshape(array, shape):
    view = array._host.reshape(shape)
    if np.may_share_memory(view, array._host):
        return ndarray(view)
    return _apply(lambda a: a.reshape(shape), (array,))


def swapaxes(array, first, second):
    return ndarray(array._host.swapaxes(first, second))


def matrix_transpose(array):
    return ndarray(array._host.swapaxes(-1, -2))


def broadcast_to(array, shape):
    return ndarray(np.broadcast_to(array._host, shape))


def ascontiguousarray(array):
    return array if array.flags.c_contiguous else _apply(np.copy, (array,))


def empty(shape, dtype=np.float64):
    return ndarray(_memory(shape, dtype))


def zeros(shape, dtype=np.float64):
    array = empty(shape, dtype)
    array.fill(0)
    return array


def ones(shape, dtype=np.float64):
    array = empty(shape, dtype)
    array.fill(1)
    return array


def eye(n, dtype=np.float64):
    return _apply(lambda: np.eye(n, dtype=dtype), ())


def arange(start, stop, dtype=None):
    return _apply(lambda: np.arange(start, stop, dtype=dtype), ())


def asarray(array, dtype=None):
    if isinstance(array, ndarray):
        return array if dtype in (None, array.dtype) else array.astype(dtype)
    machine.refuse("a copy from the host")
    machine.waits("from host")
    host = np.asarray(array, dtype)
    made = ndarray(_memory(host.shape, host.dtype))
    made._host[...] = host
    return made


def asnumpy(array):
    machine.refuse("a copy to the host")
    machine.waits("to host")
    return np.array(_host_of(array) if isinstance(array, ndarray) else array)


float32, float64, int64, uint32, uint8, int32, float16, uint16 = (
    getattr(np, n) for n in ("float32", "float64", "int64", "uint32", "uint8", "int32", "float16", "uint16")
)


def copyto(target, source):
    target[...] = source


def get_default_memory_pool():
    return types.SimpleNamespace(used_bytes=lambda: 0, free_all_blocks=lambda: None)


# -- streams, events, graphs -----------------------------------------------------------------------------


class Graph:
    """The recorded work of a stream."""

    def __init__(self, nodes):
        self.nodes = nodes
        self.launches = 0

    def launch(self, stream=None):
        self.launches += 1
        machine.counts["graph launches"] += 1
        machine.asked += 1
        machine.graphs += 1
        with np.errstate(all="ignore"):
            for node in self.in_order():
                node()

    def in_order(self):
        """Return the work in the order of the machine's schedule, bound only by streams and events."""
        if machine.schedule == "as asked for":
            return [node for _, node in self.nodes if callable(node)]
        queues, found, recorded = {}, [], set()
        for stream, node in self.nodes:
            queues.setdefault(stream, collections.deque()).append(node)
        streams = sorted(queues, reverse=machine.schedule == "second first")

        def is_ready(queue):
            return queue and (callable(queue[0]) or queue[0][0] == "record" or queue[0][1] in recorded)

        while ready := next((queues[s] for s in streams if is_ready(queues[s])), None):
            node = ready.popleft()
            if callable(node):
                found.append(node)
            elif node[0] == "record":
                recorded.add(node[1])
        assert not builtins.any(queues.values()), "an event that is never recorded"
        return found


class Stream:
    """A stream; the work of all streams is done at once, in the order of the calls."""

    _numbers = itertools.count(1)

    def __init__(self, non_blocking=False, ptr=None):
        self.ptr = next(self._numbers) if ptr is None else ptr

    def __enter__(self):
        machine.streams.append(self)
        return self

    def __exit__(self, *error):
        machine.streams.pop()

    def synchronize(self):
        machine.refuse("a wait for a stream", invalidates=True)
        machine.waits("synchronize")

    def begin_capture(self, mode=None):
        if self.ptr == 0:
            raise RuntimeError("cannot capture on the default stream")
        if machine.capture is not None:
            raise CUDARuntimeError("cudaErrorIllegalState")
        machine.capture, machine.invalidated, machine.capturing = [], False, [self.ptr]

    def wait_event(self, event):
        machine.counts["waits of streams"] += 1
        if machine.capture is None:
            return
        if (event.stream, ("record", event.time)) not in machine.capture:
            machine.invalidated = True
            raise CUDARuntimeError("cudaErrorStreamCaptureIsolation: an event of before the capture")
        if self.ptr not in machine.capturing:
            machine.capturing.append(self.ptr)
        machine.capture.append((self.ptr, ("wait", event.time)))

    def end_capture(self):
        nodes, machine.capture = machine.capture, None
        for stream in machine.capturing[1:]:
            last = [node for at, node in nodes if at == stream][-1]
            if callable(last) or last[0] == "wait" or (self.ptr, ("wait", last[1])) not in nodes:
                raise CUDARuntimeError("cudaErrorStreamCaptureUnjoined: a stream was not joined")
        if machine.invalidated:
            raise CUDARuntimeError("cudaErrorStreamCaptureInvalidated: operation failed")
        return Graph(nodes)

    def is_capturing(self):
        return machine.capture is not None


_NULL = Stream(ptr=0)


class Event:
    """A position in a stream."""

    def __init__(self, disable_timing=False):
        self.time, self._has_time = None, not disable_timing

    def record(self, stream=None):
        machine.events += 1
        self.time, self._asked, self._graphs = machine.events, machine.asked, machine.graphs
        self.stream = (stream or cuda.get_current_stream()).ptr
        if self.stream in machine.capturing and machine.capture is not None:
            machine.capture.append((self.stream, ("record", self.time)))

    @property
    def done(self):
        if machine.graphs - self._graphs >= machine.lag:
            machine.arrive(self.time)
        return self.time <= machine.passed

    def synchronize(self):
        machine.refuse("a wait for an event", invalidates=True)
        machine.counts["event waits"] += 1
        if not self.done and machine.asked == self._asked:
            machine.waits("waits for the latest work")
        machine.arrive(self.time)


class Device:
    """The fake device."""

    def __init__(self, index):
        self.id = index

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def synchronize(self):
        machine.refuse("a wait for the device", invalidates=True)
        machine.waits("synchronize")


class MemoryPool:
    """A pool that never frees memory, since a graph's memory lives as long as the pool."""

    def __init__(self):
        self.saved = []

    def malloc(self, size):
        raise AssertionError("only `using_allocator` asks")


@contextlib.contextmanager
def using_allocator(malloc):
    before, machine.pool = machine.pool, malloc.__self__
    try:
        yield
    finally:
        machine.pool = before


def _elapsed_time(start, end):
    assert start._has_time
    assert end._has_time
    if not (start.done and end.done):
        raise CUDARuntimeError("cudaErrorNotReady: device not ready")
    return 0.001 * (end.time - start.time)


cuda = types.SimpleNamespace(
    Device=Device,
    Stream=Stream,
    Event=Event,
    Graph=Graph,
    MemoryPool=MemoryPool,
    using_allocator=using_allocator,
    get_current_stream=lambda: machine.streams[-1] if machine.streams else _NULL,
    get_elapsed_time=_elapsed_time,
    alloc_pinned_memory=bytearray,
    get_local_runtime_version=lambda: 13000,
    memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
    compiler=types.SimpleNamespace(CompileException=CompileException),
    runtime=types.SimpleNamespace(
        driverGetVersion=lambda: 13000,
        runtimeGetVersion=lambda: 13000,
        getDeviceCount=lambda: 1,
        getDeviceProperties=lambda index: {
            "name": b"host memory",
            "major": 9,
            "minor": 0,
            "totalGlobalMem": 1 << 30,
        },
        is_hip=False,
    ),
)


# -- our kernels, and cublasLt ---------------------------------------------------------------------------

# Threads of a block, which run concurrently in g++'s version of kernels with barriers. Sums depend on their
# number only by rounding, and threads cost more here than on a GPU.
_THREADS = 32
_shims = []


def shim():
    """Return the kernels, compiled once for all tests of a process."""
    if not _shims:
        folder = Path(__file__).parents[2] / ".pytest_cache" / "d" / "coordfit-kernels"
        folder.mkdir(parents=True, exist_ok=True)
        _shims.append(simt.Shim(folder))
        _shims[0].compile_all()
    return _shims[0]


class RawModule:
    """Kernels of one source text, found by their expressions in the code that g++ compiled."""

    def __init__(self, code, options, name_expressions):
        parts = [part.partition("\n") for part in code.split('#line 1 "')[1:]]
        parts = {head.rstrip('"'): text for head, _, text in parts}
        self._file = list(parts)[-1]
        formulas = {name: text for name, text in parts.items() if not name.endswith(".cu")}
        self._formulas = [types.SimpleNamespace(name=name, text=text) for name, text in formulas.items()]
        assert "-std=c++17" in options
        self._known = name_expressions

    def get_function(self, expression):
        assert expression in self._known
        names = expression.replace(">", "").split(", ")
        formulas = [f for name in names for f in self._formulas if f.name == name]
        function = shim().get_function(self._file, expression, formulas)
        name = expression.partition("<")[0]
        cooperative = name in simt.COOPERATIVE

        def launch(grid, block, arguments):
            by_value = [a for a in arguments if isinstance(a, np.ndarray)]
            assert builtins.all(a.size == 1 for a in by_value), "CuPy takes host arrays of one element alone"
            arguments = [a._host if isinstance(a, ndarray) else a for a in arguments]
            for array in (a for a in arguments if isinstance(a, np.ndarray)):
                assert np.lib.array_utils.byte_bounds(array), "an array without memory"
            # Views of members have gaps between them, which kernels skip by their strides.
            places = [_Address(a) if isinstance(a, np.ndarray) else a for a in arguments]
            threads = min(block[0], _THREADS) if cooperative else block[0]
            machine.counts[name] += 1
            # These loop, and write no partial sums for each block.
            grid = (1, *grid[1:]) if name in ("optimizer_step", "sum_partials") else grid
            machine.do(lambda: function(grid, (threads, 1, 1), places))

        return launch


class _Address:
    """The address of an array for the shim; keeps the array alive."""

    def __init__(self, array):
        self.array = array


_as_c = simt.as_c


def _as_c_too(argument):
    if isinstance(argument, _Address):
        return ctypes.c_void_p(argument.array.ctypes.data)
    return _as_c(argument)


simt.as_c = _as_c_too


class RecordedCublasLt(FakeCublasLt):
    """The fake library, whose products are recorded with a stream, with their current descriptors."""

    def _matmul(self, handle, desc, alpha, a, la, b, lb, beta, c, lc, d, ld, algorithm, ws, ws_bytes, stream):
        def arguments(alpha, beta, algorithm):
            return handle, desc, alpha, a, la, b, lb, beta, c, lc, d, ld, algorithm, ws, ws_bytes, stream

        if (stream or 0) != cuda.get_current_stream().ptr:
            raise AssertionError("a product on another stream than the current one")
        if machine.capture is None:
            machine.counts["run"] += 1
            return super()._matmul(*arguments(alpha, beta, algorithm))
        # All that the library reads during a call: a replay must see the same.
        copies = [
            ctypes.create_string_buffer(ctypes.string_at(where, size), size)
            for where, size in ((alpha, 8), (beta, 8), (algorithm, 64))
        ]
        known = {i: (self.live[i][0], dict(self.live[i][1])) for i in (handle, desc, la, lb, lc, ld)}

        def replay():
            live, self.live = self.live, known
            try:
                status = FakeCublasLt._matmul(self, *arguments(*map(ctypes.addressof, copies)))
            finally:
                self.live = live
            assert status == 0, f"a recorded product gives status {status}"

        machine.do(replay)
        return 0


class DeviceOnHost(GpuDevice):
    """The pretended device with its own cublasLt, in which `lt.refuses` refuses products."""

    output_threads = _THREADS  # which decides the number of partial sums

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.lt = RecordedCublasLt()

    def load_cublaslt(self):
        return Library(self.lt)


class DeviceWithoutLt(DeviceOnHost):
    """A machine with CuPy and cuBLAS, but without a loadable cublasLt."""

    def load_cublaslt(self):
        raise CublasLtUnavailableError("no cublasLt library: it is not pretended")


class CupyOnHost(CupyBackend):
    """The CuPy backend on this module."""

    device_class = DeviceOnHost

    def __init__(self, fused="auto", index=0, precision="float32", autotune=False, two_streams=False):
        super().__init__(fused, index, precision, autotune, two_streams)
        self.lt = self.gpu.lt

    @staticmethod
    def import_library():
        return sys.modules[__name__]


class CupyWithoutLt(CupyOnHost):
    """The same without cublasLt."""

    device_class = DeviceWithoutLt


why_unavailable = simt.why_no_compiler
