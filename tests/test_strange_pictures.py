"""Pictures from anywhere: every kind of PNG, every mode of Pillow, TIFFs of another library, files that lie."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from coordfit import PictureError, load_picture

WIDTH, HEIGHT = 11, 6


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(colour_type, bit_depth, rows, *chunks, size=(WIDTH, HEIGHT), packed=None):
    """A PNG of rows of samples (H, W x samples), each row with a filter of its own, by the specification."""
    header = struct.pack(">IIBBBBB", *size, bit_depth, colour_type, 0, 0, 0)
    data = zlib.compress(filtered(rows, colour_type, bit_depth)) if packed is None else packed
    body = b"".join(chunk(kind, content) for kind, content in chunks)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def filtered(rows, colour_type, bit_depth):
    """Rows as bytes, filtered with None, Sub, Up, Average and Paeth in turn."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    distance = max(1, samples * bit_depth // 8)
    result, above = b"", None
    for y, row in enumerate(rows):
        if bit_depth == 16:
            here = np.frombuffer(row.astype(">u2").tobytes(), np.uint8).astype(int)
        else:
            bits = np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - bit_depth :]
            here = np.packbits(bits.reshape(-1)).astype(int)
        above = np.zeros_like(here) if above is None else above
        left = np.concatenate([np.zeros(distance, int), here])[: len(here)]
        corner = np.concatenate([np.zeros(distance, int), above])[: len(here)]
        guess = [0 * here, left, above, (left + above) // 2, paeth(left, above, corner)][y % 5]
        result += bytes([y % 5]) + ((here - guess) % 256).astype(np.uint8).tobytes()
        above = here
    return result


def paeth(left, above, corner):
    near = np.abs(np.stack([left, above, corner]) - (left + above - corner))
    return np.choose(np.argmin(near, axis=0), [left, above, corner])


def save(tmp_path, content, name="picture.png"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def assert_close(picture, expected, atol=1e-6):
    assert picture.pixels.shape == expected.shape
    np.testing.assert_allclose(picture.pixels, expected, atol=atol)


# --- right colours ------------------------------------------------------------------------------------------

KINDS = [(0, depth) for depth in (1, 2, 4, 8, 16)] + [(3, depth) for depth in (1, 2, 4, 8)]
KINDS += [(colour_type, depth) for colour_type in (2, 4, 6) for depth in (8, 16)]


@pytest.mark.parametrize("transparent", [False, True], ids=["opaque", "transparent"])
@pytest.mark.parametrize(("colour_type", "bit_depth"), KINDS)
def test_every_kind_of_png_has_its_colours(tmp_path, colour_type, bit_depth, transparent):
    rng = np.random.default_rng(colour_type * 100 + bit_depth)
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    values = rng.integers(0, 2**bit_depth, (HEIGHT, WIDTH, samples))
    if bit_depth == 16:
        values = np.maximum(values, 512)  # what is left of alpha in 8 bits is not 0
    chunks, expected = [], values / (2**bit_depth - 1)
    if colour_type == 3:
        palette = rng.integers(0, 256, (2**bit_depth, 3))
        chunks.append((b"PLTE", palette.astype(np.uint8).tobytes()))
        expected = palette[values[:, :, 0]] / 255
    if transparent and colour_type == 3:
        alpha = rng.integers(0, 256, 2**bit_depth)
        chunks.append((b"tRNS", alpha.astype(np.uint8).tobytes()))
        expected = np.concatenate([expected, alpha[values] / 255], axis=2)
    elif transparent and colour_type in (0, 2):
        chunks.append((b"tRNS", values[0, 0].astype(">u2").tobytes()))
        shown = (values != values[0, 0]).any(axis=2, keepdims=True)
        expected = np.concatenate([expected, shown], axis=2)
    if expected.shape[2] in (2, 4):
        expected = np.where(expected[:, :, -1:] == 0, 0.0, expected)  # what nobody sees has no colour
    content = png(colour_type, bit_depth, values.reshape(HEIGHT, -1), *chunks)
    picture = load_picture(save(tmp_path, content))
    told_as_8_bit = any("16-bit colour arrives" in note for note in picture.notes)
    assert told_as_8_bit == (bit_depth == 16 and colour_type != 0)
    assert_close(picture, expected, atol=1 / 255 if told_as_8_bit else 1e-6)


MODES = ("1", "CMYK", "F", "HSV", "I", "I;16", "I;16B", "I;16L", "I;16N", "L", "LA", "La", "LAB", "P", "PA")
MODES += ("RGB", "RGBA", "RGBX", "RGBa", "YCbCr")


@pytest.mark.parametrize("mode", sorted({*MODES, *Image.MODES}))
def test_every_mode_of_pillow_is_read(mode):
    picture = load_picture(Image.new(mode, (5, 3)))
    assert picture.pixels.shape[:2] == (3, 5)
    assert 0.0 <= picture.pixels.min() <= picture.pixels.max() <= 1.0


TIFFS = {
    "grey": ({"photometric": "minisblack"}, np.uint8, 1),
    "white is zero": ({"photometric": "miniswhite"}, np.uint8, 1),
    "16-bit": ({"photometric": "minisblack"}, np.uint16, 1),
    "16-bit, big-endian": ({"photometric": "minisblack", "byteorder": ">"}, np.uint16, 1),
    "16-bit, deflated": ({"photometric": "minisblack", "compression": "zlib", "predictor": True}, np.uint16, 1),
    "rgb": ({"photometric": "rgb"}, np.uint8, 3),
    "rgb, big-endian": ({"photometric": "rgb", "byteorder": ">"}, np.uint8, 3),
    "rgb, tiled": ({"photometric": "rgb", "tile": (16, 16)}, np.uint8, 3),
    "rgb, plane by plane": ({"photometric": "rgb", "planarconfig": "separate"}, np.uint8, 3),
    "rgba": ({"photometric": "rgb", "extrasamples": ["unassalpha"]}, np.uint8, 4),
    "float": ({"photometric": "minisblack"}, np.float32, 1),
}


@pytest.mark.parametrize("name", TIFFS)
def test_tiffs_of_another_library_have_their_colours(tmp_path, name):
    tifffile = pytest.importorskip("tifffile")
    options, dtype, channels = TIFFS[name]
    rng = np.random.default_rng(0)
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    values = rng.random((HEIGHT, WIDTH, channels)) * top
    values = np.maximum(values, 1 if top > 1 else 0).astype(dtype)  # nothing is fully transparent
    data = values[:, :, 0] if channels == 1 else values
    if options.get("planarconfig") == "separate":
        data = data.transpose(2, 0, 1)
    options = dict(options)
    with tifffile.TiffWriter(tmp_path / "a.tif", byteorder=options.pop("byteorder", "<")) as writer:
        writer.write(data, **options)
    expected = values / top
    if options["photometric"] == "miniswhite":
        expected = 1 - expected
    assert_close(load_picture(tmp_path / "a.tif"), expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (1, 3000)])
@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.bmp", "a.tif", "a.webp", "a.ppm", "a.tga"])
def test_the_smallest_pictures_of_each_format(tmp_path, name, size):
    values = np.random.default_rng(0).integers(0, 2, (size[1], size[0])).astype(np.uint8) * 255
    image = Image.fromarray(values)
    image.convert("RGB").save(tmp_path / name, **({"lossless": True} if name == "a.webp" else {}))
    pixels = load_picture(tmp_path / name).pixels
    assert_close(load_picture(tmp_path / name), np.repeat(values[:, :, None] / 255, pixels.shape[2], axis=2))


# --- files that lie -----------------------------------------------------------------------------------------


def tiff(*entries, following=0):
    """A little-endian TIFF of one directory of entries (tag, type, count, value), followed by another."""
    directory = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries))
    return head + directory + struct.pack("<I", following) + bytes(64)


def grey_tiff(width=8, height=8, *, offset=150, count=64, following=0):
    """A plain grey TIFF whose facts may be wrong."""
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 4, 1, offset), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, count)]
    return tiff(*entries, following=following) + bytes(64)


def saved_as(name, image=None, **options):
    content = io.BytesIO()
    (image or Image.new("RGB", (8, 8), "red")).save(content, name, **options)
    return content.getvalue()


def patched(content, offset, replacement):
    return content[:offset] + replacement + content[offset + len(replacement) :]


ROWS = np.zeros((HEIGHT, WIDTH))
LIES = {
    "text.png": b"hello, I am a picture\n",
    "html.jpg": b"<!doctype html><svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
    "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
    "program.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
    "document.pdf": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
    "archive.zip": b"PK\3\4" + bytes(100),
    "wider-than-its-data.png": png(0, 8, ROWS, size=(4000, HEIGHT)),
    "bomb.png": png(0, 8, ROWS, size=(60_000, 60_000)),
    "negative.png": png(0, 8, ROWS, size=(2**32 - 1, 2**32 - 1)),
    "no-pixels.png": png(0, 8, ROWS, size=(0, HEIGHT)),
    "no-such-depth.png": png(0, 7, ROWS, packed=zlib.compress(bytes(100))),
    "no-such-colour.png": png(5, 8, ROWS, packed=zlib.compress(bytes(100))),
    "no-palette.png": png(3, 8, ROWS),
    "not-packed.png": png(0, 8, ROWS, packed=b"not deflated at all"),
    "text-bomb.png": png(0, 8, ROWS, (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(100_000_000)))),
    "wrong-filter.png": png(0, 8, ROWS, packed=zlib.compress(bytes([9, *range(WIDTH)]) * HEIGHT)),
    "bomb.bmp": patched(saved_as("BMP"), 18, struct.pack("<ii", 60_000, 60_000)),
    "cut-short.bmp": patched(saved_as("BMP"), 18, struct.pack("<ii", 500, 500)),
    "bomb.gif": patched(saved_as("GIF"), 6, struct.pack("<HH", 65_535, 65_535)),
    "bomb.webp": patched(saved_as("WEBP", lossless=True), 21, b"\xff\xff\xff\x0f"),
    "bomb.tga": patched(saved_as("TGA"), 12, struct.pack("<HH", 65_535, 65_535)),
    "bomb.ppm": b"P6 1000000 1000000 255\n" + bytes(30),
    "cut-short.ppm": b"P6 100 100 255\n" + bytes(30),
    "too-bright.pgm": b"P5 2 2 70000\n" + bytes(30),
    "bomb.tif": grey_tiff(100_000, 100_000),
    "beyond-its-end.tif": grey_tiff(offset=2**31),
    "longer-than-it-is.tif": grey_tiff(8, 4000, count=32_000),
    "no-facts.tif": tiff((256, 4, 1, 8)),
    "endless-tag.tif": tiff((256, 4, 2**31, 8), (257, 4, 1, 8)),
    "bomb.jpg": saved_as("JPEG").replace(struct.pack(">HH", 8, 8), struct.pack(">HH", 65_000, 65_000), 1),
    "head-alone.jpg": saved_as("JPEG")[:160],
    "beyond-its-end.ico": patched(saved_as("ICO"), 18, struct.pack("<I", 2**31)),
}


@pytest.fixture
def little_memory():
    """What is claimed in a hundred bytes is not believed: no case holds more than 20 MB."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("name", LIES)
def test_files_that_lie_are_refused_in_one_line(tmp_path, capfd, name):
    path = save(tmp_path, LIES[name], name)
    with pytest.raises(PictureError) as caught:
        load_picture(path)
    message = str(caught.value)
    assert str(path) in message
    assert message.isprintable()
    assert ": " in message  # what to do, after what is wrong
    if name.startswith("bomb") and not name.endswith("webp"):
        assert "pixels" in message
    assert capfd.readouterr().out == ""


GREY = png(0, 8, ROWS)
TRUTHS = {
    "longer-than-it-is.png": (patched(GREY, GREY.index(b"IDAT") - 4, b"\x7f\xff\xff\xff"), (HEIGHT, WIDTH)),
    "a-gif.png": (saved_as("GIF"), (8, 8)),
    "a-png.jpg": (png(2, 8, np.zeros((HEIGHT, 3 * WIDTH))), (HEIGHT, WIDTH)),
    "no-suffix": (saved_as("BMP"), (8, 8)),
    "more-at-its-end.png": (png(0, 8, ROWS) + b"#!/bin/sh\n" * 100, (HEIGHT, WIDTH)),
    # Pillow takes what is missing for black where the packed data end as they should.
    "higher-than-its-data.png": (png(0, 8, ROWS, size=(WIDTH, 400)), (400, WIDTH)),
    "circular.tif": (grey_tiff(following=8), (8, 8)),  # its directory follows itself
    "frames.gif": (saved_as("GIF", save_all=True, append_images=[Image.new("RGB", (8, 8))] * 40), (8, 8)),
    "frames.png": (saved_as("PNG", save_all=True, append_images=[Image.new("RGB", (8, 8))] * 3), (8, 8)),
    "frames.webp": (saved_as("WEBP", save_all=True, append_images=[Image.new("RGB", (8, 8))] * 3), (8, 8)),
    "pages.tif": (saved_as("TIFF", save_all=True, append_images=[Image.new("L", (3, 3))] * 3), (8, 8)),
    "frames.mpo": (saved_as("MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))]), (8, 8)),
}


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("name", TRUTHS)
def test_odd_files_that_are_pictures_are_read(tmp_path, name):
    content, shape = TRUTHS[name]
    picture = load_picture(save(tmp_path, content, name))
    assert picture.pixels.shape[:2] == shape
    assert ("frames" in name or "pages" in name) == any(note.startswith("first of ") for note in picture.notes)
    if name.startswith(("frames", "pages")):
        np.testing.assert_allclose(picture.pixels[0, 0], [1, 0, 0], atol=0.01)
