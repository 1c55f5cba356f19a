"""Read thousands of hostile models and pictures; allow only documented errors and bounded memory.

`python tests/support/fuzz.py models --seconds 300 --seed 1` (or `pictures`) runs until the time is up, in one
GiB of memory, and prints the counts. A failing case reports its seed; `--keep` writes its file to a folder.
`test_fuzz.py` runs some hundred cases of each in the normal suite.
"""

import argparse
import collections
import contextlib
import io
import json
import os
import random
import struct
import sys
import tempfile
import time
import tracemalloc
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from safetensors.numpy import save

from coordfit import ModelFileError, PictureError, fit
from coordfit.backends import get_backend
from coordfit.files import tensor_file, tensor_header
from coordfit.images import load_picture, save_picture
from coordfit.images.formats.png import quantize
from coordfit.tasks.load import load as load_model
from coordfit.training.checkpoint import load_checkpoint, save_checkpoint

MOST_PIXELS = 2_000_000
# What a case may hold at a time, beside the file: a picture of MOST_PIXELS in float32 RGBA, and its copies.
MOST_BYTES = {"models": 16e6, "pictures": 6 * 4 * 4 * MOST_PIXELS}

# What no reader of a stranger's file has to do: write, run, connect, unpickle.
_ACTS = (
    "os.exec", "os.fork", "os.link", "os.mkdir", "os.posix_spawn", "os.putenv", "os.remove", "os.rename",
    "os.rmdir", "os.symlink", "os.system", "os.truncate", "pickle.find_class", "shutil.move", "socket.connect",
    "socket.getaddrinfo", "subprocess.Popen",
)  # fmt: skip


class Watch:
    """Records acts of the process by Python's audit hooks; one per process, since hooks cannot be removed."""

    def __init__(self):
        self.on, self.acts = False, []
        sys.addaudithook(self._note)

    def _note(self, event, arguments):
        if not self.on:
            return
        if event in _ACTS:
            self.acts.append((event, str(arguments)[:200]))
        elif event == "open":
            path, mode, flags = arguments
            writes = isinstance(mode, str) and set(mode) & set("wax+")
            if writes or (mode is None and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
                self.acts.append((event, str(path)))

    @contextlib.contextmanager
    def watching(self):
        self.on, self.acts = True, []
        try:
            yield
        finally:
            self.on = False


# --- models -------------------------------------------------------------------------------------------------

_TEXTS = ("", "../../etc/passwd", "/", "a\0b", "\u202e", "<script>", "NaN", "x" * 5000, "\ud800")
_NUMBERS = (0, -1, 1, 2, 3, 2**31, 2**53, 2**63, 2**64, -(2**63), 10**30, 0.5, 1e308, -0.0, 5e-324)
_OTHERS = (None, True, False, [], {}, [[]], {"": {}}, [1, 2], {"a": 1})
_ARRAYS = (np.inf, -np.inf, np.nan, 3e38, -3e38, 1e-45, 0.0, 1.0)


def models():
    """Return a small model, checkpoint and model of tiles as bytes."""
    pixels = np.random.default_rng(0).random((3, 4, 3))
    options = {"steps": 1, "num_frequencies": 2, "hidden_size": 3, "depth": 2, "device": "numpy", "threads": 1}
    result = fit(pixels, **options)
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder, "model"), Path(folder, "checkpoint"), Path(folder, "tiles")
        result.save(paths[0])
        save_checkpoint(paths[1], result.model, result.state)
        fit(pixels, tiles=4, **options | {"activation": "sine"}).save(paths[2])
        return [path.read_bytes() for path in paths]


def split(whole):
    """Return header and body of a safetensors file."""
    size = 8 + int.from_bytes(whole[:8], "little")
    return json.loads(whole[8:size]), whole[size:]


def joined(header, body):
    """Return the file of a header and a body, valid or not."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + body


def signed(tensors, document):
    """Return the file of tensors and a document, with a valid checksum, as an attacker can make it."""
    entries = [
        (name, tensor_header.CODES.get(array.dtype, "F32"), array.shape, array.tobytes())
        for name, array in tensors.items()
    ]
    with contextlib.suppress(ValueError):  # what cannot be digested is left with the old checksum
        document = document | {"sha256": tensor_file._digest(entries, document)}
    return save(tensors, {"coordfit": json.dumps(document)})


def changed_bytes(whole, draw):
    """Return bytes with a few changed, removed, inserted, repeated or moved."""
    data = bytearray(whole)
    for _ in range(draw.choice((1, 1, 1, 2, 8))):
        at, length = draw.randrange(len(data) + 1), draw.choice((1, 1, 2, 4, 8, 40))
        part = data[at : at + length]
        way = draw.randrange(5)
        if way == 0:
            data[at : at + 1] = bytes([draw.randrange(256)])
        elif way == 1:
            del data[at : at + length]
        elif way == 2:
            data[at:at] = draw.choice((draw.randbytes(length), bytes(length), b"\xff" * length))
        elif way == 3:
            data[at:at] = part * draw.choice((1, 2, 50))
        else:
            to = draw.randrange(len(data) + 1)
            data[to : to + len(part)] = part
        if not data:
            break
    return bytes(data)


def changed_json(value, draw):
    """Return a copy of a JSON value with one node replaced, renamed, removed, doubled or nested."""
    value = json.loads(json.dumps(value))
    places = []

    def walk(node):
        if isinstance(node, dict | list):
            for key in node if isinstance(node, dict) else range(len(node)):
                places.append((node, key))
                walk(node[key])

    walk(value)
    node, key = draw.choice(places)
    way = draw.randrange(6)
    if way == 0:
        node[key] = draw.choice(_TEXTS)
    elif way == 1:
        node[key] = draw.choice(_NUMBERS)
    elif way == 2:
        node[key] = draw.choice(_OTHERS)
    elif way == 3:
        del node[key]
    elif way == 4 and isinstance(node, dict):
        node[draw.choice((*_TEXTS, "config", "layers.9.weight", "encoding.B"))] = node[key]
    else:
        for _ in range(draw.choice((1, 5, 40, 500))):
            node[key] = [node[key]]
    return value


def changed_tensors(tensors, draw):
    """Return the tensors with one of other values, shape or type, renamed, or removed."""
    tensors, name = dict(tensors), draw.choice(list(tensors))
    array, way = tensors[name], draw.randrange(6)
    if way == 0:
        array = array.copy()
        array.flat[draw.randrange(array.size)] = draw.choice(_ARRAYS)
    elif way == 1:
        array = np.full_like(array, draw.choice(_ARRAYS))
    elif way == 2:
        array = np.resize(array, draw.choice([(0,), (), (1,), (3, 0), (0, 2**20), (7,), (2, 2), (1,) * 9]))
    elif way == 3:
        array = array.astype(draw.choice(["<f2", "<f8", "<i4", "<u1", "<i8"]))
    elif way == 4:
        tensors[draw.choice(["x", "layers.2.weight", "optimizer.x.layers.0.bias", "encoding.B"])] = array
    else:
        del tensors[name]
        return tensors
    tensors[name] = array
    return tensors


def model_mutant(wholes, draw):
    """Return one hostile model: its kind and its bytes."""
    whole = draw.choice(wholes)
    header, body = split(whole)
    document = json.loads(header["__metadata__"]["coordfit"])
    names = [name for name in header if name != "__metadata__"]
    kind = draw.choice(("bytes", "header", "text", "document", "tensors"))
    if kind == "bytes":
        return kind, changed_bytes(whole, draw)
    if kind == "header":
        return kind, joined(changed_json(header, draw), body)
    if kind == "text":  # of the header, which no longer need be JSON
        return kind, joined(changed_bytes(json.dumps(header).encode(), draw), body)
    tensors = {}
    for name in names:
        entry = header[name]
        first, last = entry["data_offsets"]
        dtype = {"F16": "<f2", "F32": "<f4"}[entry["dtype"]]
        tensors[name] = np.frombuffer(body[first:last], dtype).reshape(entry["shape"])
    if kind == "document":
        return kind, signed(tensors, changed_json(document, draw))
    with np.errstate(all="ignore"):
        return kind, signed(changed_tensors(tensors, draw), document)


def use_model(path, backend):
    """Load a model and render it as a user would; return whether it loaded, or the refusal."""
    told = "loaded"
    try:
        model = load_model(path, backend=backend)
        picture = model.render(2, 3)
        assert picture.shape == (2, 3, model.picture.channels)
        try:
            quantize(picture)  # as each writer does
        except PictureError as error:
            told = "drew NaN"
            check_line(error)
    except ModelFileError as error:
        told = "refused"
        check_line(error)
    try:
        load_checkpoint(path)
    except ModelFileError as error:
        check_line(error)
    return told


# --- pictures -----------------------------------------------------------------------------------------------


def pictures():
    """Return small files of every format that Pillow writes here, with their suffixes."""
    draw = np.random.default_rng(0)
    rgb = Image.fromarray(draw.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    rgba = Image.fromarray(draw.integers(0, 256, (7, 9, 4), dtype=np.uint8))
    floats = rgb.convert("F").point(lambda level: level * (1 / 255) + 0)
    deep = Image.fromarray(draw.integers(0, 65536, (7, 9), dtype=np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = {"save_all": True, "append_images": [rgb.rotate(90, expand=False)]}
    deep_frames = {"save_all": True, "append_images": [deep]}
    wanted = [
        (rgb, "PNG", {}), (rgba, "PNG", {}), (deep, "PNG", {}), (rgb.quantize(5), "PNG", {"transparency": 2}),
        (rgb.convert("1"), "PNG", {}), (rgb, "PNG", {"exif": exif}), (rgb, "PNG", frames),
        (rgb, "JPEG", {"exif": exif}), (rgb, "JPEG", {"progressive": True}), (rgb.convert("CMYK"), "JPEG", {}),
        (rgb, "GIF", frames), (rgb, "WEBP", {}), (rgba, "WEBP", {"lossless": True}), (rgb, "WEBP", frames),
        (rgb, "TIFF", {}), (rgb, "TIFF", {"compression": "tiff_lzw"}), (deep, "TIFF", deep_frames),
        (rgb.convert("CMYK"), "TIFF", {"compression": "tiff_adobe_deflate"}), (rgb, "BMP", {}),
        (rgba, "TGA", {"compression": "tga_rle"}),
        (rgb, "PPM", {}), (deep, "PPM", {}), (rgb.resize((16, 16)), "ICO", {}), (rgb, "PCX", {}),
        (rgba, "SGI", {}), (rgb, "JPEG2000", {}), (rgba, "QOI", {}), (rgb, "AVIF", {}),
        (rgb.convert("1"), "TIFF", {"compression": "group4"}), (rgb, "TIFF", {"compression": "jpeg"}),
        (floats, "TIFF", {}), (rgb, "MPO", frames),
    ]  # fmt: skip
    Image.init()
    made = []
    for image, name, options in wanted:
        if name not in Image.SAVE:  # a Pillow built without it
            continue
        content = io.BytesIO()
        with contextlib.suppress(OSError, ValueError, KeyError):  # encoders that a build lacks
            image.save(content, name, **options)
            made.append(content.getvalue())
    return made + deep_pictures(draw.integers(0, 65536, (8, 9, 4), dtype=np.uint16))


def deep_pictures(colours):
    """Return small files of 16-bit RGBA (H, W, 4), which Pillow cannot write."""
    made = [b"P6 9 8 65535\n" + colours[..., :3].astype(">u2").tobytes()]
    for channels in (2, 3, 4):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "a.png")
            save_picture(path, colours[..., :channels] / np.float32(65535), bit_depth=16)
            made.append(path.read_bytes())
    planar = {"planarconfig": "separate", "extrasamples": ["unassalpha"]}
    deflated = {"compression": "zlib", "predictor": True, "tile": (16, 16), "extrasamples": ["assocalpha"]}
    for options, data in ((planar, colours.transpose(2, 0, 1)), (deflated, colours)):
        content = io.BytesIO()
        tifffile.imwrite(content, data, photometric="rgb", rowsperstrip=None, **options)
        made.append(content.getvalue())
    return made


def picture_mutant(wholes, draw):
    """Return one damaged picture: its kind and its bytes; half of the damage is in the header."""
    whole = draw.choice(wholes)
    kind = draw.choice(("bytes", "head", "head", "cut"))
    if kind == "cut":
        return kind, whole[: draw.randrange(len(whole))]
    if kind == "head":
        head = draw.choice((24, 64, 200))
        return kind, changed_bytes(whole[:head], draw) + whole[head:]
    return kind, changed_bytes(whole, draw)


def use_picture(path, backend):
    """Read a picture; return whether it loaded, or the refusal."""
    try:
        picture = load_picture(path, max_pixels=MOST_PIXELS)
    except PictureError as error:
        check_line(error)
        return "refused"
    pixels = picture.pixels
    assert pixels.dtype == np.float32
    assert pixels.ndim == 3
    assert 1 <= picture.channels <= 4
    assert 1 <= picture.height * picture.width <= MOST_PIXELS
    assert picture.bit_depth in (8, 16)
    assert 0.0 <= pixels.min() <= pixels.max() <= 1.0  # which NaN is not
    assert all(note.isprintable() for note in picture.notes)
    return "loaded"


# --- both ---------------------------------------------------------------------------------------------------

TARGETS = {"models": (models, model_mutant, use_model), "pictures": (pictures, picture_mutant, use_picture)}


def check_line(error):
    """Assert that an error's text is one printable line."""
    text = str(error)
    assert text.isprintable(), f"not one printable line: {text!r}"
    assert len(text) < 1000, f"{len(text)} letters"


@dataclass
class Count:
    """Counts of the outcomes so far."""

    told: collections.Counter = field(default_factory=collections.Counter)
    peak: float = 0.0

    def __str__(self):
        rows = ", ".join(f"{kind} {what}: {number}" for (kind, what), number in sorted(self.told.items()))
        return f"{self.told.total()} cases, {self.peak / 1e6:.1f} MB at most; {rows}"


class Fuzzer:
    """Cases of one target in a folder, each checked by itself.

    Parameters
    ----------
    target
        "models" or "pictures".
    trace_every
        The memory of each such case is traced, which takes ten times as long.
    """

    def __init__(self, target, folder, watch, trace_every=1):
        make, self.mutate, self.use = TARGETS[target]
        self.wholes, self.target, self.watch = make(), target, watch
        self.path, self.count, self.trace_every = Path(folder, "case"), Count(), trace_every
        self.backend = get_backend("numpy", threads=1)
        for whole in self.wholes:  # plugins are imported, and buffers made, before memory and acts are counted
            self.path.write_bytes(whole)
            assert self._use() == "loaded"

    def _use(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return self.use(self.path, self.backend)

    def run(self, seed):
        """Run one case; any error raised here is a finding."""
        kind, content = self.mutate(self.wholes, random.Random(seed))
        self.judge(kind, content)

    def judge(self, kind, content):
        """Check one case of these bytes."""
        self.path.unlink(missing_ok=True)  # file systems take a millisecond to write over what is there
        self.path.write_bytes(content)
        if self.count.told.total() % self.trace_every == 0:
            tracemalloc.start()
        try:
            with self.watch.watching():
                told = self._use()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert not self.watch.acts, f"did more than read: {self.watch.acts}"
        assert peak < MOST_BYTES[self.target] + 8 * len(content), f"held {peak / 1e6:.0f} MB"
        self.count.told[kind, told] += 1
        self.count.peak = max(self.count.peak, peak)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1, help="of the first case; each has the next one")
    parser.add_argument("--cases", type=int, default=sys.maxsize)
    parser.add_argument("--keep", type=Path, help="folder for the files of cases that failed")
    options = parser.parse_args()
    failed, seed = 0, options.seed
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(options.target, folder, Watch(), trace_every=20)
        _limit_memory(2**30)
        ends = time.monotonic() + options.seconds
        while time.monotonic() < ends and seed - options.seed < options.cases:
            try:
                fuzzer.run(seed)
            except Exception as error:
                failed += 1
                print(f"seed {seed}: {type(error).__name__}: {str(error)[:300]}", flush=True)
                if options.keep:
                    options.keep.mkdir(parents=True, exist_ok=True)
                    (options.keep / f"{options.target}-{seed}").write_bytes(fuzzer.path.read_bytes())
            seed += 1
        print(f"{options.target}, seeds from {options.seed}: {fuzzer.count}; {failed} failed")
    return bool(failed)


def _limit_memory(more):
    """Limit the growth of this process in bytes, if the system supports that."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + more, resource.RLIM_INFINITY))


if __name__ == "__main__":
    sys.exit(main())
