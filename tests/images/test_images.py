"""Reading and writing pictures, on real files made here; expected colours are computed without Pillow."""

import dataclasses
import hashlib
import io
import logging
import os
import struct
import tracemalloc
import warnings
import zlib
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, PngImagePlugin
from support import needs
from support.picture_writers import Tiff

from coordfit.errors import ConfigError, OutputError, PictureError
from coordfit.images import MAX_PIXELS, Picture, bundled_picture, load_picture, save_picture


def levels(*shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def png_bytes(colour_type, bit_depth, width, height, data, *extra):
    """A PNG from scanlines, filter bytes included, and extra chunks: for what Pillow cannot write."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    middle = b"".join(chunk(*each) for each in extra)
    body = chunk(b"IHDR", header) + middle + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def deep_png(colour_type, samples, *extra):
    """A 16-bit PNG of samples (H, W, C)."""
    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    return png_bytes(colour_type, 16, width, height, rows, *extra)


def saved(tmp_path, image, name="picture.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def mode_of(path):
    with Image.open(path) as image:
        return image.mode


def little_tiff(data, **tags):
    """A TIFF of one strip of data from tags such as t258=8, for what Pillow cannot write."""
    numbers = {int(name[1:]): value for name, value in tags.items()} | {259: 1, 273: 500, 279: len(data)}
    entries = b""
    for tag, values in sorted(numbers.items()):
        values = values if isinstance(values, tuple) else (values,)
        entries += struct.pack("<HHI", tag, 3, len(values)) + struct.pack(f"<{len(values)}H", *values).ljust(
            4, b"\0"
        )
    return (b"II*\0" + struct.pack("<IH", 8, len(numbers)) + entries).ljust(500, b"\0") + data


def written(tmp_path, content, name="picture.png"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def assert_levels(picture, expected, top=255, atol=1e-6):
    expected = np.asarray(expected, np.float64)
    assert picture.pixels.dtype == np.float32
    assert picture.pixels.shape == expected.shape
    np.testing.assert_allclose(picture.pixels, expected / top, rtol=0, atol=atol)


def refused(source, *words, **options):
    """Load what cannot be loaded: one line, naming what it is."""
    with pytest.raises(PictureError) as caught:
        load_picture(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


# --- Pillow's modes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("LA", 2), ("RGB", 3), ("RGBA", 4)])
def test_plain_modes(tmp_path, mode, channels):
    expected = levels(5, 7, channels)
    if channels in (2, 4):
        expected[..., -1] |= 1  # nowhere fully transparent
    image = Image.fromarray(expected[..., 0] if channels == 1 else expected)
    assert image.mode == mode
    picture = load_picture(saved(tmp_path, image))
    assert_levels(picture, expected)
    assert (picture.height, picture.width, picture.channels) == (5, 7, channels)
    assert picture.has_alpha == (channels in (2, 4))
    assert (picture.bit_depth, picture.name, picture.notes) == (8, "picture.png", ())


def test_bilevel(tmp_path):
    expected = levels(6, 11) > 127
    picture = load_picture(saved(tmp_path, Image.fromarray(expected)))
    assert_levels(picture, expected[..., None], top=1)
    assert picture.bit_depth == 8


def palette_image(transparency=None):
    image = Image.fromarray(np.array([[0, 1, 2], [2, 1, 0]], np.uint8)).convert("P")
    image.putdata([0, 1, 2, 2, 1, 0])
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


A, B, C = (10, 20, 30), (40, 50, 60), (70, 80, 90)


def test_palette(tmp_path):
    assert_levels(load_picture(saved(tmp_path, palette_image())), [[A, B, C], [C, B, A]])


def test_palette_with_one_transparent_colour(tmp_path):
    picture = load_picture(saved(tmp_path, palette_image(1)))
    clear = (0, 0, 0, 0)
    assert_levels(picture, [[(*A, 255), clear, (*C, 255)], [(*C, 255), clear, (*A, 255)]])
    assert picture.notes == ("colour of 2 fully transparent pixels set to 0",)


def test_palette_with_alpha_table(tmp_path):
    path = saved(tmp_path, palette_image(bytes([255, 100, 7])))
    with Image.open(path) as image:
        assert isinstance(image.info["transparency"], bytes)
    a, b, c = (*A, 255), (*B, 100), (*C, 7)
    assert_levels(load_picture(path), [[a, b, c], [c, b, a]])


def test_palette_with_alpha_channel(tmp_path):
    image = palette_image().convert("PA")
    image.putalpha(Image.fromarray(np.array([[255, 9, 255], [255, 255, 8]], np.uint8)))
    path = saved(tmp_path, image, "picture.tif")
    assert mode_of(path) == "PA"
    assert_levels(load_picture(path), [[(*A, 255), (*B, 9), (*C, 255)], [(*C, 255), (*B, 255), (*A, 8)]])


def test_premultiplied_grey(tmp_path):
    stored = np.array([[[50, 100], [0, 0], [200, 200]]], np.uint8)
    content = little_tiff(stored.tobytes(), t256=3, t257=1, t258=(8, 8), t262=1, t277=2, t278=1, t338=1)
    path = written(tmp_path, content, "picture.tif")
    assert_levels(load_picture(path), [[[127.5, 100], [0, 0], [255, 200]]])


def test_premultiplied_colour():
    stored = np.array([[[50, 20, 0, 100], [9, 9, 9, 0], [250, 1, 2, 200]]], np.uint8)
    image = Image.frombytes("RGBa", (3, 1), stored.tobytes())
    assert_levels(load_picture(image), [[[127.5, 51, 0, 100], [0, 0, 0, 0], [255, 1.275, 2.55, 200]]])


def test_padded_colour():
    expected = levels(4, 3, 4)
    assert_levels(load_picture(Image.frombytes("RGBX", (3, 4), expected.tobytes())), expected[..., :3])


def ycbcr_to_rgb(values):
    y, cb, cr = (values[..., i].astype(float) - (0, 128, 128)[i] for i in range(3))
    return np.clip(np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], -1), 0, 255)


def hsv_to_rgb(values):
    h, s, v = (values[..., i].astype(float) / 255 for i in range(3))
    waves = [np.clip(abs((h * 6 + shift) % 6 - 3) - 1, 0, 1) for shift in (0, 4, 2)]
    return 255 * np.stack([v * (1 - s * (1 - wave)) for wave in waves], -1)


def cmyk_to_rgb(values):
    return (255.0 - values[..., :3]) * (255.0 - values[..., 3:]) / 255


@pytest.mark.parametrize(
    ("mode", "convert", "tolerance"),
    [("YCbCr", ycbcr_to_rgb, 1.5), ("CMYK", cmyk_to_rgb, 1.5), ("HSV", hsv_to_rgb, 3.0)],
)
def test_converted_modes(mode, convert, tolerance):
    channels = 4 if mode == "CMYK" else 3
    stored = levels(8, 9, channels)
    picture = load_picture(Image.frombytes(mode, (9, 8), stored.tobytes()))
    assert_levels(picture, convert(stored), atol=tolerance / 255)
    assert picture.notes == (f"converted from {mode} to RGB",)


def test_lab(tmp_path):
    # L 0..255 stands for 0..100, a and b are signed bytes: a grey ramp, and one clear red
    stored = np.array([[[0, 0, 0], [137, 0, 0], [255, 0, 0], [136, 80, 67]]], np.uint8)
    image = Image.frombytes("LAB", (4, 1), stored.tobytes())
    refused(saved(tmp_path, image, "picture.tif"), "CIELAB")  # Pillow's conversion is off by up to 29 levels
    picture = load_picture(image)
    # CIE: L* = 53.7 is Y = 0.217, sRGB 0.503; (53.3, 80, 67) is sRGB red but for the white point
    expected = np.array([[[0, 0, 0], [0.503] * 3, [1, 1, 1], [1, 0, 0]]])
    np.testing.assert_allclose(picture.pixels, expected, atol=0.05)


@pytest.mark.parametrize("name", ["picture.jpg", "picture.tif"])
def test_cmyk_file(tmp_path, name):
    stored = np.broadcast_to(np.array([200, 30, 60, 40], np.uint8), (16, 16, 4))
    image = Image.frombytes("CMYK", (16, 16), stored.tobytes())
    path = saved(tmp_path, image, name, **({"quality": 100} if name.endswith("jpg") else {}))
    assert mode_of(path) == "CMYK"
    assert_levels(load_picture(path), cmyk_to_rgb(stored), atol=3 / 255)


@pytest.mark.parametrize(("name", "mode"), [("a.png", "I;16"), ("a.tif", "I;16"), ("a.pgm", "I")])
def test_16_bit_grey(tmp_path, name, mode):
    expected = levels(4, 6, 1, dtype=np.uint16)
    if name == "a.pgm":
        path = written(tmp_path, b"P5 6 4 65535\n" + expected.astype(">u2").tobytes(), name)
    else:
        path = saved(tmp_path, Image.fromarray(expected[..., 0]), name)
    assert mode_of(path) == mode
    picture = load_picture(path)
    assert_levels(picture, expected, top=65535, atol=1e-7)
    assert picture.bit_depth == 16


def test_16_bit_grey_big_endian(tmp_path):
    expected = levels(4, 6, 1, dtype=np.uint16)
    image = Image.frombytes("I;16B", (6, 4), expected.astype(">u2").tobytes())
    assert mode_of(saved(tmp_path, image, "a.tif")) == "I;16B"
    assert_levels(load_picture(tmp_path / "a.tif"), expected, top=65535)
    assert_levels(load_picture(image), expected, top=65535)


def test_12_bit_grey(tmp_path):
    samples = bytes([0xFF, 0xF1, 0x23])  # the samples 0xFFF and 0x123
    content = little_tiff(samples, t256=2, t257=1, t258=12, t262=1, t277=1, t278=1)
    assert_levels(load_picture(written(tmp_path, content, "a.tif")), [[[0xFFF], [0x123]]], top=4095)


@pytest.mark.parametrize(("colour_type", "channels"), [(4, 2), (2, 3), (6, 4)])
def test_16_bit_colour_keeps_its_16_bits(tmp_path, colour_type, channels):
    samples = levels(3, 5, channels, dtype=np.uint16)
    samples[..., -1] |= 0x100
    path = written(tmp_path, deep_png(colour_type, samples))
    with Image.open(path) as image:
        for picture in (load_picture(path), load_picture(image)):
            np.testing.assert_array_equal(picture.levels, samples)
            assert (picture.levels.dtype, picture.bit_depth, picture.notes) == (np.uint16, 16, ())
        seen = np.asarray(image)  # the caller's image is what Pillow makes of it
        np.testing.assert_array_equal(seen[..., [0, 3]] if channels == 2 else seen, samples >> 8)


@pytest.mark.parametrize("top", [65535, 1023])
def test_a_16_bit_portable_pixmap_keeps_its_levels(tmp_path, top):
    samples = np.minimum(levels(2, 3, 3, dtype=np.uint16), top)
    data = samples.astype(">u2").tobytes()
    path = written(tmp_path, b"P6 3 2 %d\n" % top + data, "a.ppm")
    picture = load_picture(path)
    assert_levels(picture, samples, top=top, atol=1e-7)
    assert picture.bit_depth == 16
    refused(written(tmp_path, b"P6 3 2 %d\n" % top + data[:-1], "short.ppm"), "short.ppm")
    refused(written(tmp_path, b"P6 3 2 %d\n" % top + b"\xff" * 18 * 2, "a.ppm")) if top < 65535 else None
    refused(written(tmp_path, b"P3 1 1 %d\n1 2 3\n" % top, "text.ppm"), "text", "PNG")


def test_bitmap_of_5_6_and_5_bits_is_complete(tmp_path):
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    info = struct.pack("<IiiHHIIiiII", 40, 2, 1, 1, 16, 3, 4, 0, 0, 0, 0) + masks
    data = struct.pack("<HH", 0xF800, 0x07FF)
    head = b"BM" + struct.pack("<IHHI", 14 + len(info) + len(data), 0, 0, 14 + len(info))
    picture = load_picture(written(tmp_path, head + info + data, "a.bmp"))
    assert_levels(picture, [[[255, 0, 0], [0, 255, 255]]])
    assert picture.notes == ()


@pytest.mark.parametrize("side", [16, 170])  # the second looks like a TGA by the bytes of its length
def test_icon(tmp_path, side):
    expected = levels(side, side, 3)
    assert_levels(
        load_picture(saved(tmp_path, Image.fromarray(expected), "a.ico", sizes=[(side, side)])), expected
    )


@pytest.mark.parametrize("values", [[[0, 70000]], [[-1, 5]]])
def test_32_bit_levels_are_refused(tmp_path, values):
    path = saved(tmp_path, Image.fromarray(np.array(values, np.int32)), "deep.tif")
    refused(path, "deep.tif", "int32", "save it as")
    with Image.open(path) as image:
        image.load()
        refused(image.copy(), str(values[0][0]), str(values[0][1]), "16 bits")


def test_float_file(tmp_path):
    values = np.random.default_rng(0).random((3, 4), np.float32)
    picture = load_picture(saved(tmp_path, Image.fromarray(values), "a.tif"))
    np.testing.assert_array_equal(picture.pixels[..., 0], values)
    path = saved(tmp_path, Image.fromarray(values * 200), "high.tif")
    refused(path, "high.tif", "divide by 255")


# --- one colour declared transparent ------------------------------------------------------------------------


def keyed(colour_type, bit_depth, data, key, width):
    """A PNG of one row, with the level or colour that is transparent."""
    return png_bytes(colour_type, bit_depth, width, 1, b"\0" + data.tobytes(), (b"tRNS", key))


@pytest.mark.parametrize(
    ("bit_depth", "data", "key", "expected"),
    [
        (8, [7, 8, 9], 8, [7, None, 9]),
        (1, [0b01000000], 1, [0, None, 0]),
        (2, [0b01_10_11_00], 2, [85, None, 255]),
        (4, [0x3A, 0xF0], 10, [51, None, 255]),
    ],
)
def test_transparent_grey(tmp_path, bit_depth, data, key, expected):
    path = written(tmp_path, keyed(0, bit_depth, np.array(data, np.uint8), struct.pack(">H", key), 3))
    assert_levels(load_picture(path), [[[0, 0] if e is None else [e, 255] for e in expected]])


def test_transparent_16_bit_grey(tmp_path):
    content = keyed(0, 16, np.array([300, 301, 65535], ">u2"), struct.pack(">H", 301), 3)
    picture = load_picture(written(tmp_path, content))
    assert_levels(picture, [[[300, 65535], [0, 0], [65535, 65535]]], top=65535)
    assert picture.bit_depth == 16


def test_transparent_rgb(tmp_path):
    content = keyed(2, 8, np.array([1, 2, 3, 1, 2, 4], np.uint8), struct.pack(">HHH", 1, 2, 4), 2)
    assert_levels(load_picture(written(tmp_path, content)), [[[1, 2, 3, 255], [0, 0, 0, 0]]])


def test_transparent_16_bit_rgb_is_compared_by_all_16_bits(tmp_path):
    data = np.array([9000, 2000, 3001, 9000, 2000, 3000], ">u2")
    content = keyed(2, 16, data, struct.pack(">HHH", 9000, 2000, 3000), 2)
    expected = [[[9000, 2000, 3001, 65535], [0, 0, 0, 0]]]
    assert_levels(load_picture(written(tmp_path, content)), expected, top=65535)


# --- orientation, frames, profiles --------------------------------------------------------------------------

UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.tif", "lzw.tif", "a.webp"])
def test_orientation(tmp_path, orientation, name):
    stored = levels(2, 5, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = (
        {"lossless": True} if name == "a.webp" else {"compression": "tiff_lzw"} if name == "lzw.tif" else {}
    )
    path = saved(tmp_path, Image.fromarray(stored), name, exif=exif, **options)
    picture = load_picture(path)
    assert_levels(picture, UPRIGHT[orientation](stored))
    told = ("turned upright as its EXIF orientation says",) if orientation > 1 else ()
    assert picture.notes == told


@pytest.mark.parametrize("orientation", range(1, 9))
def test_16_bit_colour_is_turned_upright(tmp_path, orientation):
    stored = levels(2, 5, 3, dtype=np.uint16)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name, content in {
        "a.tif": Tiff(2, planar=True).write(stored, t274=[orientation]),
        "a.png": deep_png(2, stored, (b"eXIf", exif.tobytes()[6:])),
    }.items():
        picture = load_picture(written(tmp_path, content, name))
        np.testing.assert_array_equal(picture.levels, UPRIGHT[orientation](stored))
        assert len(picture.notes) == (orientation > 1)


def test_orientation_of_a_pillow_image_and_of_16_bits(tmp_path):
    stored = levels(2, 5, 1, dtype=np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path, Image.fromarray(stored[..., 0]), exif=exif)
    with Image.open(path) as image:
        assert_levels(load_picture(image), UPRIGHT[6](stored), top=65535)
        assert image.size == (5, 2)  # the caller's image is as it was


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
def test_an_orientation_in_xmp_alone_is_told_as_that(tmp_path, name):
    stored = levels(16, 24, 3) // 128 * 255
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    options = {"a.png": {}, "a.jpg": {"xmp": xmp}, "a.webp": {"xmp": xmp, "lossless": True}, "a.tif": {}}[name]
    if name == "a.png":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
    if name == "a.tif":
        options["tiffinfo"] = {700: xmp}
    picture = load_picture(saved(tmp_path, Image.fromarray(stored), name, **options))
    assert picture.pixels.shape == (24, 16, 3)
    assert picture.notes == ("turned upright as its XMP orientation says",)


def test_colours_that_a_png_declares_otherwise_are_told(tmp_path):
    row = np.zeros((1, 3), np.uint8)

    def notes(*chunks):
        return load_picture(written(tmp_path, png_bytes(2, 8, 1, 1, b"\0" + row.tobytes(), *chunks))).notes

    srgb = b"".join(struct.pack(">I", n) for n in (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))
    wide = b"".join(struct.pack(">I", n) for n in (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))
    linear = (b"gAMA", struct.pack(">I", 100000))
    assert notes((b"gAMA", struct.pack(">I", 45455)), (b"cHRM", srgb)) == ()
    assert notes(linear) == ("gamma of 1 not applied",)
    assert notes((b"cHRM", wide)) == ("primaries other than those of sRGB not applied",)
    assert notes((b"sRGB", b"\0"), linear, (b"cHRM", wide)) == ()


def test_damaged_exif_is_survived(tmp_path):
    stored = levels(2, 5, 3)
    path = saved(tmp_path, Image.fromarray(stored), exif=b"Exif\0\0nonsense")
    picture = load_picture(path)
    assert_levels(picture, stored)
    assert "damaged EXIF data ignored" in picture.notes


def test_animated_gif(tmp_path):
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "lime", "blue")]
    path = saved(tmp_path, frames[0], "a.gif", save_all=True, append_images=frames[1:])
    picture = load_picture(path)
    assert_levels(picture, np.broadcast_to([255, 0, 0], (3, 4, 3)))
    assert picture.notes == ("first of 3 frames",)


def test_damaged_later_frame(tmp_path, monkeypatch):
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "lime", "blue")]
    path = saved(tmp_path, frames[0], "a.gif", save_all=True, append_images=frames[1:])

    def broken(image):
        image.seek(1)
        raise struct.error("damaged")

    monkeypatch.setattr("PIL.GifImagePlugin.GifImageFile.n_frames", property(broken))
    assert_levels(load_picture(path), np.broadcast_to([255, 0, 0], (3, 4, 3)))


def test_multi_page_tiff(tmp_path):
    pages = [Image.new("L", (4, 3), level) for level in (10, 20)]
    path = saved(tmp_path, pages[0], "a.tif", save_all=True, append_images=pages[1:])
    picture = load_picture(path)
    assert_levels(picture, np.full((3, 4, 1), 10))
    assert picture.notes == ("first of 2 frames",)


def test_colour_profile_is_told(tmp_path):
    path = saved(tmp_path, Image.new("RGB", (2, 2)), icc_profile=b"profile")
    assert load_picture(path).notes == ("embedded colour profile not applied",)


def test_jpeg(tmp_path):
    path = saved(tmp_path, Image.new("RGB", (16, 8), (200, 100, 50)), "a.jpg", quality=100)
    assert_levels(load_picture(path), np.broadcast_to([200, 100, 50], (8, 16, 3)), atol=2 / 255)


# --- arrays -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "bit_depth"), [(np.uint8, 8), (np.uint16, 16), (">u2", 16)])
def test_integer_arrays(dtype, bit_depth):
    array = levels(4, 5, 3, dtype=np.dtype(dtype).newbyteorder("=")).astype(dtype)
    picture = load_picture(array)
    assert_levels(picture, array, top=2**bit_depth - 1, atol=1e-7)
    assert (picture.bit_depth, picture.name) == (bit_depth, "array")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, bool])
def test_other_arrays(dtype):
    array = np.array([[0, 1, 1], [1, 0, 0]], dtype)
    assert_levels(load_picture(array), array[..., None], top=1)
    assert load_picture(array).bit_depth == 8


def test_the_array_is_not_shared():
    array = np.full((2, 2, 4), 0.5, np.float32)
    array[0, 0, 3] = 0
    before = array.copy()
    picture = load_picture(array)
    np.testing.assert_array_equal(array, before)
    array[:] = 0
    assert picture.pixels[1, 1, 0] == 0.5
    with pytest.raises(ValueError, match="read-only"):
        picture.pixels[0] = 1


def test_rounding_errors_are_clipped():
    assert load_picture(np.array([[1 + 1e-7, -1e-7]])).pixels.ravel().tolist() == [1, 0]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([[0.0, 255.0]]), ["0 to 255", "divide by 255"]),
        (np.array([[0.0, 60000.0]]), ["divide by its highest possible level", "65535 for 16"]),
        (np.array([[0.0, 1e6]]), ["shift and scale"]),
        (np.array([[0.0, 3.0]]), ["shift and scale"]),
        (np.array([[-1.0, 1.0]]), ["add 1 and divide by 2"]),
        (np.array([[-3.0, 1.0]]), ["shift and scale"]),
        (np.array([[0.2, 1.02]]), ["clip(array, 0, 1)"]),
        (np.array([[-0.003, 0.9]]), ["clip(array, 0, 1)"]),
        (np.array([[-1.01, 0.9]]), ["add 1 and divide by 2, then clip"]),
        (np.array([[-2.0, 257.0]]), ["divide by 255, then clip"]),
        (np.array([[0.0, np.nan]]), ["NaN"]),
        (np.array([[0.0, np.inf]]), ["infinite"]),
        (np.zeros((2, 2), np.int64), ["int64", "uint8"]),
        (np.zeros((2, 2), complex), ["complex128", "make it uint8"]),
        (np.zeros((2, 2), object), ["object"]),
        (np.zeros((3, 20, 30)), ["(3, 20, 30)", "transpose(1, 2, 0)"]),
        (np.zeros((20, 30, 5)), ["(20, 30, 5)"]),
        (np.zeros((4, 4, 5)), ["(4, 4, 5)"]),
        (np.zeros(5), ["(5,)"]),
        (np.zeros((0, 5)), ["no pixels"]),
        (np.zeros((5, 0, 3)), ["no pixels"]),
        (np.ma.masked_array(np.zeros((2, 2)), True), ["filled"]),
        ([[0.0, 1.0]], ["list"]),
        (None, ["NoneType"]),
        (b"a.png", ["bytes"]),
    ],
)
def test_arrays_that_are_no_pictures(array, words):
    refused(array, *words)


@pytest.mark.parametrize(
    "shape", [(3, 8, 9), (1, 8, 8), (1, 8, 8, 3), (5, 8, 9, 4), (2, 3, 8, 9), (1, 1, 8, 9)]
)
def test_the_cure_for_a_shape_makes_a_picture(shape):
    message = refused(np.zeros(shape))
    cure = message[message.rindex("array") :]
    assert load_picture(eval(cure, {"array": np.zeros(shape)})).pixels.ndim == 3


def test_shapes_without_a_clear_cure_get_none():
    for shape in [(4, 4, 5), (3, 4, 5), (5,), (20, 30, 7), (2, 2, 2, 2, 2)]:
        assert refused(np.zeros(shape)).endswith(str(shape))


@pytest.mark.parametrize(
    ("told", "cure"),
    [
        ("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.", ".detach()"),
        ("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy", ".cpu()"),
        ("Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct", ".get()"),
        ("Got unsupported ScalarType BFloat16", ".float()"),
        ("something else", "something else"),
    ],
)
def test_an_array_of_another_library_is_told_how_to_become_one_of_numpy(told, cure):
    class Tensor:
        def __array__(self, *_, **__):
            raise TypeError(told)

    assert "PNG" not in refused(Tensor(), "the Tensor", cure)


# --- alpha --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [2, 4])
def test_opaque_alpha_is_dropped(channels):
    array = levels(3, 4, channels)
    array[..., -1] = 255
    picture = load_picture(array)
    assert_levels(picture, array[..., :-1])
    assert picture.notes == ("opaque alpha channel dropped",)


def test_hidden_colour_is_removed():
    picture = load_picture(np.array([[[9, 8, 7, 0], [9, 8, 7, 1], [0, 0, 0, 0]]], np.uint8))
    assert_levels(picture, [[[0, 0, 0, 0], [9, 8, 7, 1], [0, 0, 0, 0]]])
    assert picture.notes == ("colour of 1 fully transparent pixels set to 0",)


def test_background():
    array = np.array([[[100, 0, 200, 0], [100, 0, 200, 51], [100, 0, 200, 255]]], np.uint8)
    picture = load_picture(array, background="#ff8000")
    assert_levels(picture, [[[255, 128, 0], [224, 102.4, 40], [100, 0, 200]]])
    assert picture.notes[-1] == "alpha composited on #ff8000"


def test_background_of_grey():
    array = np.array([[[100, 51]]], np.uint8)
    assert_levels(load_picture(array, background="white"), [[[224]]])
    assert_levels(load_picture(array, background="red"), [[[224, 20, 20]]])


def test_background_without_alpha_changes_nothing():
    array = levels(3, 4, 3)
    assert load_picture(array, background="red").digest == load_picture(array).digest


@pytest.mark.parametrize("background", ["blurple", "#12", "#ff000080", "transparent", 5])
def test_background_that_is_none(background):
    with pytest.raises(ConfigError, match="background"):
        load_picture(np.zeros((2, 2)), background=background)


# --- size ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (128, (85, 128)),
        (np.int64(10), (7, 10)),
        (1, (1, 1)),
        ((30, 20), (20, 30)),
        ([3, 4], (4, 3)),
        (902, (600, 902)),
    ],
)
def test_size(size, expected):
    picture = load_picture(levels(300, 451, 1), size=size)
    assert picture.pixels.shape == (*expected, 1)
    assert picture.notes == (f"resampled from 451x300 to {expected[1]}x{expected[0]}",)


def test_its_own_size_changes_nothing():
    array = levels(30, 45, 3)
    picture = load_picture(array, size=45)
    assert_levels(picture, array)
    assert picture.notes == ()


@pytest.mark.parametrize("size", [0, -3, 2.5, True, "32", (3,), (3, 0), (3, 4, 5), (3.0, 4)])
def test_sizes_that_are_none(size):
    with pytest.raises(ConfigError, match="size"):
        load_picture(np.zeros((2, 2)), size=size)


def lanczos(length, target):
    """The (target, length) matrix of an antialiased Lanczos-3 resampling, written from its definition."""
    scale = max(1, length / target)
    centres = (np.arange(target)[:, None] + 0.5) * length / target
    x = (np.arange(length)[None, :] + 0.5 - centres) / scale
    weights = np.where(abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("target", [(7, 9), (40, 50)])
def test_resampling_keeps_16_bits(target):
    array = levels(20, 30, 3, dtype=np.uint16) // 2 + 12000  # nothing to clip
    expected = np.einsum("yh,hwc,xw->yxc", lanczos(20, target[0]), array / 65535, lanczos(30, target[1]))
    picture = load_picture(array, size=target[::-1])
    np.testing.assert_allclose(picture.pixels, np.clip(expected, 0, 1), atol=2e-6)
    assert picture.bit_depth == 16


def test_resampling_does_not_overshoot():
    array = np.zeros((8, 8))
    array[:, 4:] = 1
    pixels = load_picture(array, size=64).pixels
    assert pixels.min() == 0
    assert pixels.max() == 1


def test_resampling_lets_no_hidden_colour_bleed():
    array = np.zeros((16, 16, 4), np.uint8)
    array[:, :8] = [255, 0, 0, 255]
    array[:, 8:] = [0, 255, 0, 0]
    picture = load_picture(array, size=6)
    visible = picture.pixels[..., 3] > 0.001
    np.testing.assert_allclose(picture.pixels[visible][:, :3], [[1, 0, 0]] * visible.sum(), atol=1e-3)
    assert picture.pixels[0, 2, 3] > 0.2
    assert not picture.pixels[picture.pixels[..., 3] == 0].any()


def test_resampling_weighs_colour_by_alpha():
    array = np.array([[[1, 0, 0, 1], [0, 1, 0, 0.2]]])
    np.testing.assert_allclose(load_picture(array, size=(1, 1)).pixels, [[[5 / 6, 1 / 6, 0, 0.6]]], atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 17), (17, 1)])
@pytest.mark.parametrize("size", [None, 1, 5, 40])
def test_thin_pictures(tmp_path, shape, size):
    path = saved(tmp_path, Image.fromarray(levels(*shape, 3)))
    picture = load_picture(path, size=size)
    assert max(picture.pixels.shape[:2]) == (size or max(shape))
    assert min(picture.pixels.shape) >= 1


# --- files that are no pictures -----------------------------------------------------------------------------


def test_missing_folder_empty_and_others(tmp_path):
    refused(tmp_path / "none.png", "none.png", "no file")
    refused(tmp_path, tmp_path.name, "folder")
    refused(written(tmp_path, b"", "empty.png"), "empty.png", "0 bytes")
    refused(written(tmp_path, b"hello\n" * 9, "text.png"), "text.png", "not a picture")
    refused(tmp_path / "text.png" / "inner.png", "inner.png")
    refused("bad\0name.png", "name.png")
    refused(tmp_path / "two\nlines.png", "no file")
    refused("https://example.org/a.png", "https://example.org/a.png is an address", "to a file first")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "fifo.png")
    refused(tmp_path / "fifo.png", "fifo.png", "pipe or device")


def test_no_permission(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.new("L", (2, 2)))
    monkeypatch.setattr(
        Path, "open", lambda *_, **options: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
    )
    refused(path, "picture.png", "no permission")


def test_non_ascii_path(tmp_path):
    folder = tmp_path / needs.file_name("Bilder für später")
    folder.mkdir()
    path = saved(folder, Image.new("L", (2, 2), 51), "kätzchen 猫.png")
    assert_levels(load_picture(str(path)), np.full((2, 2, 1), 51))
    assert load_picture(path).name == "kätzchen 猫.png"
    save_picture(path, np.ones((1, 1, 1)))
    assert load_picture(path).width == 1


@pytest.mark.parametrize(
    ("name", "options"), [("a.png", {}), ("a.jpg", {}), ("a.gif", {}), ("a.tif", {}), ("a.webp", {})]
)
def test_truncated_files(tmp_path, name, options):
    path = saved(tmp_path, Image.fromarray(levels(40, 50, 3)), name)
    content = path.read_bytes()
    whole = load_picture(path)
    for kept in [1, 8, 20, 33, 60, len(content) // 4, len(content) // 2, len(content) * 9 // 10]:
        path.write_bytes(content[:kept])
        refused(path, name)
    for kept in range(len(content) - 20, len(content)):
        path.write_bytes(content[:kept])
        try:
            picture = load_picture(path)
        except PictureError:
            continue
        # what was cut off is the end mark alone
        assert picture.digest == whole.digest


def test_damaged_bytes_raise_nothing_else(tmp_path):
    rng = np.random.default_rng(5)
    for name in ["a.png", "a.tif", "a.gif", "a.jpg", "a.bmp", "a.ico", "a.tga", "a.webp"]:
        path = saved(tmp_path, Image.fromarray(levels(16, 16, 3)), name)
        content = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(40):
            damaged = content.copy()
            damaged[rng.integers(0, min(len(content), 400), 3)] = rng.integers(0, 256, 3)
            path.write_bytes(damaged.tobytes())
            try:
                load_picture(path, max_pixels=10**6)
            except PictureError:
                continue


@pytest.mark.parametrize(
    "error", [struct.error, SyntaxError, ValueError, KeyError, IndexError, RuntimeError, EOFError]
)
def test_whatever_a_decoder_raises(tmp_path, monkeypatch, error):
    path = saved(tmp_path, Image.new("L", (2, 2)))

    def load(image):
        raise error("first line\nsecond line")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    refused(path, "picture.png", "second line")


def test_interrupts_pass_through(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.new("L", (2, 2)))
    monkeypatch.setattr(Image, "open", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        load_picture(path)


def test_postscript_is_not_run(tmp_path):
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    refused(written(tmp_path, content, "a.eps"), "a.eps", "save it as PNG")


# --- bombs --------------------------------------------------------------------------------------------------


def test_bomb(tmp_path):
    path = written(tmp_path, png_bytes(0, 8, 50000, 50000, b"\0" * 100), "bomb.png")
    refused(path, "bomb.png", str(50000**2))


@pytest.mark.parametrize("side", [8001, 9500, 12000])  # the second and third lie where Pillow only warns
def test_too_many_pixels_are_refused_before_decoding(tmp_path, side, monkeypatch):
    path = written(tmp_path, png_bytes(0, 8, side, side, b"\0" * 100), "large.png")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda image: pytest.fail("decoded"))
    refused(path, "large.png", str(side * side))
    assert side**2 > MAX_PIXELS


def test_a_bomb_found_while_decoding(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.new("L", (2, 2)))

    def warn(image):
        warnings.warn("Image size (9876 pixels) exceeds limit", Image.DecompressionBombWarning, stacklevel=2)

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load_end", warn)
    refused(path, "picture.png", "9876 pixels")


def test_max_pixels(tmp_path):
    path = saved(tmp_path, Image.new("L", (20, 10)))
    assert load_picture(path, max_pixels=200).width == 20
    refused(path, "20x10", "200 pixels", "199", "max_pixels", max_pixels=199)
    with pytest.raises(ConfigError, match=r"size asks for 40x20 = 800 pixels, .* 200 pixels are the most"):
        load_picture(path, size=40, max_pixels=200)
    with Image.open(path) as image:
        refused(image, "20x10", max_pixels=199)


def test_max_pixels_can_be_raised_beyond_pillows_warning(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.new("L", (20, 10)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 150)
    refused(path, "200 pixels", max_pixels=120)
    assert load_picture(path, max_pixels=200).width == 20
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 99)
    refused(path, "200 pixels", "Pillow", max_pixels=200)


# --- warnings, digest, Pillow images ------------------------------------------------------------------------


def test_warnings_become_notes(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.new("L", (2, 2)))
    load = Image.Image.load

    def warn(image):
        warnings.warn("odd\nbut fine", stacklevel=2)
        return load(image)

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load_end", warn)
    assert load_picture(path).notes == ("Pillow says: odd but fine",)


def test_nothing_is_printed(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(logging.root, "handlers", [])  # as where nobody has set up logging
    content = little_tiff(bytes(9), t256=3, t257=1, t258=8, t262=2, t277=99, t278=1)
    refused(written(tmp_path, content, "a.tif"), "a.tif")
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs a list of open files")
def test_no_file_stays_open(tmp_path):
    path = saved(tmp_path, Image.new("L", (2, 2)))
    load_picture(path)
    path.write_bytes(path.read_bytes()[:40])
    refused(path)
    opened = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.exists()]
    assert path not in opened


def test_name_that_is_no_unicode():
    image = Image.new("L", (2, 2))
    image.filename = b"/folder/caf\xe9.png"
    assert load_picture(image).name == "caf?.png"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_picture_keeps_its_levels_and_colours_are_what_is_looked_at(dtype):
    array = np.full((4, 6, 3), 0.5, dtype) if dtype == np.float32 else levels(4, 6, 3).astype(dtype)
    picture = load_picture(array)
    assert picture.levels.dtype == dtype
    assert not np.shares_memory(picture.levels, array)
    white = 1 if dtype == np.float32 else np.iinfo(dtype).max
    np.testing.assert_array_equal(picture.colours[1:3, ::2], array[1:3, ::2] / np.float32(white))
    np.testing.assert_array_equal(picture.colours.reshape(-1, 3)[5], picture.pixels[0, 5])
    with pytest.raises(ValueError, match="read-only"):
        picture.pixels[0] = 0


def test_a_file_is_decoded_into_its_levels_alone(tmp_path):
    """Beside Pillow's own 4 bytes a pixel there are 3 for the levels, and never the levels twice."""
    side = 1500
    path = saved(tmp_path, Image.effect_mandelbrot((side, side), (-2, -1, 1, 1), 9).convert("RGB"))
    tracemalloc.start()
    picture = load_picture(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert picture.levels.shape == (side, side, 3)
    assert 3 * side**2 <= peak < 4.5 * side**2


def test_digest():
    array = levels(4, 6, 3)
    digest = load_picture(array).digest
    assert digest == load_picture(array.copy()).digest
    assert digest == hashlib.sha256(b"4x6x3\n" + (array / 255).astype("<f4").tobytes()).hexdigest()
    assert digest != load_picture(array.reshape(6, 4, 3)).digest
    array[3, 5, 2] ^= 1
    assert digest != load_picture(array).digest


def test_picture_is_frozen():
    picture = load_picture(np.zeros((2, 3)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        picture.name = "other"
    assert isinstance(picture, Picture)


def test_pillow_images(tmp_path):
    array = levels(3, 4, 3)
    assert_levels(load_picture(Image.fromarray(array)), array)
    assert load_picture(Image.fromarray(array)).name == "array"
    with Image.open(saved(tmp_path, Image.fromarray(array), "a b.png")) as image:
        assert load_picture(image).name == "a b.png"
    refused(Image.new("RGB", (0, 5)), "no pixels")
    image = Image.open(tmp_path / "a b.png")
    image.close()
    refused(image, "Pillow image")


# --- saving -------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    data=st.data(),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4)),
    bit_depth=st.sampled_from([8, 16]),
)
def test_saved_pngs_come_back(tmp_path_factory, data, shape, bit_depth):
    dtype = np.uint8 if bit_depth == 8 else np.uint16
    array = data.draw(arrays(dtype, shape))
    path = tmp_path_factory.mktemp("saved") / "a.png"
    save_picture(path, array / np.float32(np.iinfo(dtype).max), bit_depth=bit_depth)
    if shape[2] in (1, 3):
        np.testing.assert_array_equal(load_picture(path).levels, array)
    image = Image.open(path)
    if bit_depth == 8 or shape[2] == 1:
        np.testing.assert_array_equal(np.asarray(image).reshape(shape), array)
    else:
        kept = np.asarray(image)[..., [0, 3]] if shape[2] == 2 else np.asarray(image)
        np.testing.assert_array_equal(kept, array >> 8)
    image.close()


def test_saving_in_several_parts(tmp_path):
    array = levels(700, 3, 3)
    save_picture(tmp_path / "A.PNG", array / 255)
    assert_levels(load_picture(tmp_path / "A.PNG"), array)


@pytest.mark.parametrize("name", ["a.tif", "a.tiff", "a.webp", "a.bmp"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_other_lossless_formats(tmp_path, name, channels):
    array = levels(5, 6, channels)
    array[..., -1] |= 1
    path = tmp_path / name
    if channels == 4 and name == "a.bmp":
        with pytest.raises(PictureError, match="no alpha"):
            save_picture(path, array / 255)
        assert not path.exists()
        return
    save_picture(path, array / 255)
    expected = array.repeat(3, axis=2) if channels == 1 and name == "a.webp" else array
    assert_levels(load_picture(path), expected)


def test_jpeg_is_saved(tmp_path):
    save_picture(tmp_path / "a.jpg", np.full((8, 8, 3), 0.25))
    np.testing.assert_allclose(load_picture(tmp_path / "a.jpg").pixels, 0.25, atol=2 / 255)


def test_jpeg_keeps_colour_at_full_resolution(tmp_path):
    pixels = np.zeros((8, 8, 3))
    pixels[:, ::2, 0] = pixels[:, 1::2, 2] = 0.5
    save_picture(tmp_path / "a.jpg", pixels)
    np.testing.assert_allclose(load_picture(tmp_path / "a.jpg").pixels, pixels, atol=0.1)


def test_saving_carries_no_metadata(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "a secret place"
    source = saved(tmp_path, Image.new("RGB", (3, 3)), exif=exif, icc_profile=b"profile")
    save_picture(tmp_path / "out.png", load_picture(source).pixels)
    with Image.open(tmp_path / "out.png") as image:
        assert image.info == {}


@pytest.mark.parametrize(
    ("name", "pixels", "bit_depth", "words"),
    [
        ("a.png", np.zeros(4), 8, "H, W"),
        ("a.png", np.zeros((2, 2, 5)), 8, "H, W"),
        ("a.png", np.zeros((0, 2, 3)), 8, "H, W"),
        ("a.png", np.zeros((2, 2, 3), np.uint8), 8, "uint8"),
        ("a.png", np.full((2, 2, 3), np.nan), 8, "NaN"),
        ("a.png", np.zeros((2, 2, 3)), 12, "bit depth"),
        ("a.jpg", np.zeros((2, 2, 2)), 8, "alpha"),
        ("a.tif", np.zeros((2, 2, 3)), 16, "16 bits"),
        ("a.webp", np.zeros((1, 20000, 3)), 8, "WEBP"),
        ("a.xyz", np.zeros((2, 2, 3)), 8, "suffix"),
        ("a", np.zeros((2, 2, 3)), 8, "suffix"),
    ],
)
def test_what_cannot_be_saved(tmp_path, name, pixels, bit_depth, words):
    with pytest.raises(PictureError, match=words):
        save_picture(tmp_path / name, pixels, bit_depth=bit_depth)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.png"
    save_picture(path, np.ones((300, 2, 1)))
    before = path.read_bytes()
    pixels = np.ones((300, 2, 1))
    pixels[-1] = np.nan  # found only when most rows are written
    with pytest.raises(PictureError):
        save_picture(path, pixels)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["a.png"]


def test_saving_into_no_folder(tmp_path):
    with pytest.raises(OutputError, match="none"):
        save_picture(tmp_path / "none" / "a.png", np.ones((1, 1, 1)))


# --- the bundled pictures -----------------------------------------------------------------------------------

DIGESTS = {
    128: "a4a196e332e8599f7200a063f74b56ce73c143e7e0b348254a1144fe44670cc9",
    32: "d42a30bfbedad2aaac6d3cc4dbee14585ef9c397b5364098244f8a81109f4301",
}
DATA = resources.files("coordfit") / "data"


@pytest.mark.parametrize("size", [32, 128])
def test_bundled_picture(size):
    content = (DATA / f"chelsea-{size}.png").read_bytes()
    assert hashlib.sha256(content).hexdigest() == DIGESTS[size]
    assert DIGESTS[size] in (DATA / "LICENSE.md").read_text(encoding="utf-8")
    picture = bundled_picture(size)
    assert picture.pixels.shape == (size, size, 3)
    assert (picture.name, picture.notes) == (f"chelsea-{size}.png", ())


def test_bundled_pictures_follow_their_recipe():
    pytest.importorskip("skimage", exc_type=ImportError)
    source = (resources.files("skimage") / "data" / "chelsea.png").read_bytes()
    crop = Image.open(io.BytesIO(source)).crop((75, 0, 375, 300))
    for size in (128, 32):
        expected = np.asarray(crop.resize((size, size), Image.Resampling.LANCZOS))
        assert_levels(bundled_picture(size), expected)


def test_bundled_picture_has_two_sizes():
    assert bundled_picture().width == 128
    with pytest.raises(ConfigError, match="64"):
        bundled_picture(64)


def test_a_picture_is_taken_as_it_is():
    picture = bundled_picture(32)
    again = load_picture(picture)
    np.testing.assert_array_equal(again.pixels, picture.pixels)
    assert (again.name, again.bit_depth) == (picture.name, picture.bit_depth)
    assert load_picture(picture, size=16).pixels.shape == (16, 16, 3)
