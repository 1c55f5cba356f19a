"""Pictures from anywhere: every kind of PNG and TIFF, every mode of Pillow, other formats, files that lie."""

import dataclasses
import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support import picture_writers
from support.picture_writers import Tiff

from coordfit import PictureError, bundled_picture, load_picture

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


def saved_as(name, image=None, **options):
    content = io.BytesIO()
    (image or Image.new("RGB", (8, 8), "red")).save(content, name, **options)
    return content.getvalue()


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
    assert picture.bit_depth == max(8, bit_depth)
    assert_close(picture, expected)


MODES = ("1", "CMYK", "F", "HSV", "I", "I;16", "I;16B", "I;16L", "I;16N", "L", "LA", "La", "LAB", "P", "PA")
MODES += ("RGB", "RGBA", "RGBX", "RGBa", "YCbCr")


@pytest.mark.parametrize("mode", sorted({*MODES, *Image.MODES}))
def test_every_mode_of_pillow_is_read(mode):
    picture = load_picture(Image.new(mode, (5, 3)))
    assert picture.pixels.shape[:2] == (3, 5)
    assert 0.0 <= picture.pixels.min() <= picture.pixels.max() <= 1.0


# --- TIFF ---------------------------------------------------------------------------------------------------

NUM_COLOURS = {0: 1, 1: 1, 2: 3}
LAYOUTS = st.builds(
    Tiff,
    photometric=st.sampled_from(sorted(NUM_COLOURS)),
    order=st.sampled_from("<>"),
    planar=st.booleans(),
    compression=st.sampled_from([1, 5, 8, 32773]),
    differences=st.booleans(),
    tile=st.sampled_from([None, (16, 16), (16, 32)]),
    rows=st.integers(1, 25),
    extras=st.lists(st.sampled_from([0, 1, 2]), max_size=3).map(tuple),
)


def meant(samples, layout):
    """What samples (H, W, S) of a layout are as colours in [0, 1]."""
    values = samples.astype(np.float64) / (1 if samples.dtype.kind == "f" else np.iinfo(samples.dtype).max)
    colours = NUM_COLOURS[layout.photometric]
    colour = 1 - values[..., :colours] if layout.photometric == 0 else values[..., :colours]
    alphas = [index for index, kind in enumerate(layout.extras) if kind]
    if not alphas:
        return colour
    alpha = values[..., colours + alphas[0], None]
    hidden = alpha == 0
    if layout.extras[alphas[0]] == 1:  # too little alpha to divide by is none
        hidden = alpha < 0.5 / 65535
        colour = np.minimum(colour / np.where(hidden, 1, alpha), 1)
    shown = np.concatenate([colour, alpha], axis=2)
    return colour if (alpha == 1).all() else np.where(hidden, 0, shown)


@settings(max_examples=150, deadline=None)
@given(
    layout=LAYOUTS,
    dtype=st.sampled_from([np.uint8, np.uint16, np.float16, np.float32, np.float64]),
    size=st.tuples(st.integers(1, 20), st.integers(1, 35)),
    seed=st.integers(0, 99),
)
def test_every_tiff_is_read_as_its_samples_mean(tmp_path_factory, layout, dtype, size, seed):
    """Samples of 8 and 16 bits and floats, together or by plane, in strips or tiles, packed and differenced."""
    if np.dtype(dtype).kind == "f":
        layout = dataclasses.replace(layout, differences=False)
    number = NUM_COLOURS[layout.photometric] + len(layout.extras)
    samples = np.random.default_rng(seed).random((*size, number))
    samples = (samples * (1 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max)).astype(dtype)
    path = save(tmp_path_factory.mktemp("tiff"), layout.write(samples), "a.tif")
    picture = load_picture(path)
    assert_close(picture, meant(samples, layout), atol=2e-6)
    assert picture.bit_depth == (16 if dtype == np.uint16 else 8)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("photometric", [0, 1, 3])
def test_tiffs_of_few_bits_have_their_colours(tmp_path, bits, photometric):
    rng = np.random.default_rng(bits)
    values = rng.integers(0, 2**bits, (HEIGHT, WIDTH))
    digits = np.unpackbits(values.astype(np.uint8)[..., None], axis=2)[..., 8 - bits :].reshape(HEIGHT, -1)
    packed = np.packbits(digits, axis=1)
    palette = rng.integers(0, 256, (3, 2**bits))
    tags = {"t256": [WIDTH], "t258": [bits]} | (
        {"t320": list(257 * palette.ravel())} if photometric == 3 else {}
    )
    path = save(tmp_path, Tiff(photometric).write(packed[..., None], **tags), "a.tif")
    grey = values[..., None] / (2**bits - 1)
    expected = palette.T[values] / 255 if photometric == 3 else 1 - grey if photometric == 0 else grey
    assert_close(load_picture(path), expected)


@pytest.mark.parametrize("scale", [1, 256, 257])
def test_a_tiff_of_256_colours_has_them_however_its_palette_is_scaled(tmp_path, scale):
    indices = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    palette = np.random.default_rng(0).permutation(256).repeat(3).reshape(256, 3)
    content = Tiff(3, extras=(2,)).write(
        np.repeat(indices, 2, axis=2) | 1, t320=list(scale * palette.T.ravel())
    )
    expected = np.concatenate([palette[indices[..., 0] | 1], indices | 1], axis=2) / 255
    assert_close(load_picture(save(tmp_path, content, "a.tif")), expected)


@pytest.mark.parametrize(
    ("mode", "compression"),
    [("CMYK", "raw"), ("CMYK", "tiff_lzw"), ("RGB", "jpeg"), ("L", "jpeg"), ("1", "group4"), ("1", "group3")],
)
def test_tiffs_that_pillow_reads_here_agree_with_another_reader(tmp_path, mode, compression):
    pytest.importorskip("imagecodecs")
    values = np.linspace(0, 255, 48 * 40 * 4).reshape(48, 40, 4).astype(np.uint8)
    image = Image.fromarray(values, "RGBA").convert("RGB").convert(mode)
    image.save(tmp_path / "a.tif", compression=compression)
    stored = tifffile.imread(tmp_path / "a.tif") / (1 if mode == "1" else 255)
    if mode == "CMYK":
        stored = (1 - stored[..., :3]) * (1 - stored[..., 3:])
    expected = stored[..., None] if stored.ndim == 2 else stored
    assert_close(load_picture(tmp_path / "a.tif"), expected, atol=1.01 / 255 if mode == "CMYK" else 1e-6)


@pytest.mark.parametrize(
    "options", [{"bigtiff": True}, {"tile": (16, 16), "compression": "zlib", "predictor": True}]
)
def test_tiffs_of_tifffile_have_their_colours(tmp_path, options):
    samples = np.random.default_rng(0).integers(0, 65536, (37, 53, 3), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", **options)
    np.testing.assert_array_equal(load_picture(tmp_path / "a.tif").levels, samples)


def test_a_pillow_image_of_a_tiff_is_read_like_its_file(tmp_path):
    samples = np.arange(30, dtype=np.uint16).reshape(2, 5, 3) * 2000
    path = save(tmp_path, Tiff(2, planar=True).write(samples), "a.tif")
    with Image.open(path) as image:  # which Pillow would decode to noise
        np.testing.assert_array_equal(load_picture(image).levels, samples)


def signed(dtype):
    return Tiff().write(np.zeros((2, 3, 1), dtype))


ZEROS = np.zeros((4, 4, 1), np.uint8)
REFUSED_TIFFS = {
    "int8": signed(np.int8),
    "int16": signed(np.int16),
    "int32": signed(np.int32),
    "uint32": signed(np.uint32),
    "uint64": signed(np.uint64),
    "12 bits": Tiff(2).write(np.repeat(ZEROS, 3, 2), t258=[12] * 3),
    "(5, 6, 5)": Tiff(2).write(np.repeat(ZEROS, 3, 2), t258=[5, 6, 5]),
    "SEPARATED": Tiff(5, planar=True).write(np.repeat(ZEROS, 4, 2)),
    "YCBCR": Tiff(6).write(np.repeat(ZEROS, 3, 2)),
    "CIELAB": Tiff(8).write(np.repeat(ZEROS, 3, 2)),
    "ZSTD": Tiff().write(ZEROS, t259=[50000]),
    "WEBP": Tiff().write(ZEROS, t259=[50001]),
    "2 samples": Tiff().write(np.repeat(ZEROS, 2, 2)),
    "more than 256": Tiff(3).write(ZEROS.astype(np.uint16), t320=[0] * 3),
    "predictor 9": Tiff(2).write(np.repeat(ZEROS, 4, 2), t317=[9]),
    "FLOATINGPOINT": Tiff().write(ZEROS.astype(np.float32), t317=[3]),
    "reverse order": Tiff().write(ZEROS, t266=[2]),
    "volume": Tiff().write(ZEROS, t32997=[2]),
    "lacks some": Tiff(rows=2).write(ZEROS, t273=[8], t279=[8]),
    "damaged tags": Tiff().write(ZEROS, t259=[1, 1]),
    "values from 0 to 7": Tiff().write(
        ZEROS.astype(np.float32) + np.arange(4)[:, None, None].astype("f4") * 7 / 3
    ),
}


@pytest.mark.parametrize("reason", REFUSED_TIFFS)
def test_tiffs_of_other_layouts_are_refused_with_the_reason_and_the_cure(tmp_path, reason):
    with pytest.raises(PictureError) as caught:
        load_picture(save(tmp_path, REFUSED_TIFFS[reason], "a.tif"))
    assert reason in str(caught.value)
    assert "save it as PNG" in str(caught.value) or "scale it" in str(caught.value)


# --- other formats ------------------------------------------------------------------------------------------

COLOURS = np.random.default_rng(0).integers(1, 256, (HEIGHT, WIDTH, 4)).astype(np.uint8)
FORMATS = {
    "a.bmp": (picture_writers.bmp, 3),
    "a.ppm": (picture_writers.ppm, 3),
    "grey.tga": (picture_writers.tga, 1),
    "grey-alpha.tga": (picture_writers.tga, 2),
    "rgb.tga": (picture_writers.tga, 3),
    "rgba.tga": (picture_writers.tga, 4),
    "a.pcx": (picture_writers.pcx, 3),
    "grey.sgi": (picture_writers.sgi, 1),
    "rgb.sgi": (picture_writers.sgi, 3),
    "rgba.sgi": (picture_writers.sgi, 4),
    "rgb.qoi": (picture_writers.qoi, 3),
    "rgba.qoi": (picture_writers.qoi, 4),
    "a.ico": (picture_writers.ico, 4),
    "a.gif": (picture_writers.gif, 1),
}


@pytest.mark.parametrize("name", FORMATS)
def test_files_written_by_the_specification_have_their_colours(tmp_path, name):
    write, channels = FORMATS[name]
    levels = COLOURS[..., -channels:]
    pixels = load_picture(save(tmp_path, write(levels), name)).pixels
    expected = levels / 255
    np.testing.assert_allclose(pixels, expected.repeat(pixels.shape[2] // channels, axis=2), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {"quality": 95, "subsampling": 0}),
        ("a.webp", {"quality": 90}),
        ("lossless.webp", {"lossless": True}),
        ("a.avif", {"quality": 90}),
        ("a.jp2", {"quality_mode": "rates", "quality_layers": [5]}),
        ("lossless.j2k", {"irreversible": False}),
        ("a.png", {}),
        ("a.gif", {}),
    ],
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_files_of_a_photograph_agree_with_another_reader(tmp_path, name, options, mode):
    imagecodecs = pytest.importorskip("imagecodecs")
    photograph = Image.fromarray(np.rint(255 * bundled_picture(32).pixels).astype(np.uint8)).convert(mode)
    try:
        photograph.save(tmp_path / name, **options)
    except (KeyError, OSError, ValueError):
        pytest.skip("this Pillow lacks the format")
    suffix = name.split(".")[1]
    codec = {"jpg": "jpeg8", "jp2": "jpeg2k", "j2k": "jpeg2k"}.get(suffix, suffix)
    other = getattr(imagecodecs, f"{codec}_decode")((tmp_path / name).read_bytes())
    other = other.reshape(32, 32, -1)
    pixels = load_picture(tmp_path / name).pixels
    difference = abs(pixels - other[..., : pixels.shape[2]] / 255)
    assert difference.max() <= (4.1 / 255 if name in ("a.avif", "a.webp", "a.jpg") else 1e-6)
    assert difference.mean() < 1 / 255


def test_a_frame_smaller_than_the_canvas_is_transparent_outside(tmp_path):
    frame = np.full((2, 4, 1), 77, np.uint8)
    expected = np.zeros((6, 8, 2))
    expected[2:4, 4:8] = 77 / 255, 1
    path = save(tmp_path, picture_writers.gif(frame, (8, 6), (4, 2)), "a.gif")
    pixels = load_picture(path).pixels
    np.testing.assert_allclose(pixels[..., [0, -1]], expected, atol=1e-6)
    inner = io.BytesIO()
    Image.new("RGB", (4, 2), (77, 77, 77)).save(inner, "WEBP", lossless=True)
    content = picture_writers.small_frame_webp((inner.getvalue(), 4, 2), (8, 6), (4, 2))
    assert_close(load_picture(save(tmp_path, content, "a.webp")), expected[..., [0, 0, 0, 1]])
    with Image.open(path) as image:
        np.testing.assert_array_equal(load_picture(image).pixels, pixels)


def test_a_tga_that_declares_no_alpha_is_not_all_transparent(tmp_path):
    levels = COLOURS.copy()
    levels[..., 3] = 0
    pixels = load_picture(save(tmp_path, picture_writers.tga(levels, alpha_bits=0), "a.tga")).pixels
    np.testing.assert_allclose(pixels, levels[..., :3] / 255, atol=1e-6)
    levels[0, 0, 3] = 255  # written by a program that means it
    assert load_picture(save(tmp_path, picture_writers.tga(levels, alpha_bits=0), "a.tga")).has_alpha


def test_colour_of_more_bits_than_an_avif_is_read_with_is_told(tmp_path):
    imagecodecs = pytest.importorskip("imagecodecs")
    pytest.importorskip("PIL.AvifImagePlugin")
    levels = np.arange(32 * 32 * 3, dtype=np.uint16).reshape(32, 32, 3) % 1024
    path = save(tmp_path, imagecodecs.avif_encode(levels, bitspersample=10), "a.avif")
    assert load_picture(path).notes == ("colours of more than 8 bits are read with 8",)


def test_a_later_frame_of_16_bits_is_refused(tmp_path):
    frames = [np.full((4, 4, 3), level, np.uint16) for level in (300, 40000)]
    head = png(2, 16, frames[0].reshape(4, -1), (b"acTL", struct.pack(">II", 2, 0)), size=(4, 4))
    control = [struct.pack(">IIIIIHHBB", number, 4, 4, 0, 0, 1, 10, 0, 0) for number in (0, 1)]
    data = struct.pack(">I", 2) + zlib.compress(filtered(frames[1].reshape(4, -1), 2, 16))
    at, end = head.index(b"IDAT") - 4, head.index(b"IEND") - 4
    later = chunk(b"fcTL", control[1]) + chunk(b"fdAT", data)
    path = save(tmp_path, head[:at] + chunk(b"fcTL", control[0]) + head[at:end] + later + head[end:])
    np.testing.assert_array_equal(load_picture(path).levels, frames[0])
    with Image.open(path) as image:
        image.seek(1)
        with pytest.raises(PictureError, match="16 bits"):
            load_picture(image)


def jpeg_2000(palette):
    """A lossless JPEG 2000 of indices, with a palette in which colours may come twice."""
    content = saved_as(
        "JPEG2000", Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4) % 4), irreversible=False
    )
    at = content.index(b"jp2h") - 4
    length = struct.unpack_from(">I", content, at)[0]
    table = struct.pack(">HB", len(palette), 3) + b"\7\7\7" + b"".join(map(bytes, palette))
    channels = b"".join(struct.pack(">HBB", 0, 1, index) for index in range(3))
    inner = content[at + 8 : at + length].replace(struct.pack(">I", 17), struct.pack(">I", 16))
    inner += struct.pack(">I4s", len(table) + 8, b"pclr") + table
    inner += struct.pack(">I4s", len(channels) + 8, b"cmap") + channels
    return content[:at] + struct.pack(">I4s", len(inner) + 8, b"jp2h") + inner + content[at + length :]


def jpeg_2000_of(sample):
    """A JPEG 2000 that gives its samples another depth and sign: bits - 1, and 128 if signed."""
    content = saved_as("JPEG2000", Image.new("RGB", (4, 4)))
    first = content.index(b"\xff\x4f\xff\x51") + 42
    return patched(content, first, bytes([sample, 1, 1]) * 3)


def psd():
    header = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 4, 4, 8, 3) + struct.pack(">III", 0, 0, 0)
    return header + b"\0\0" + bytes(48)


def refused_formats():
    return {
        "palette.jp2": (jpeg_2000([(0, 0, 0), (0, 0, 0), (255, 0, 0), (0, 255, 0)]), "palette"),
        "deep.jp2": (jpeg_2000_of(15), "samples"),
        "signed.jp2": (jpeg_2000_of(128 + 7), "samples"),
        "few-bits.jp2": (jpeg_2000_of(3), "samples"),
        "deep.sgi": (picture_writers.sgi(COLOURS[..., :3].astype(np.uint16)), "16 bits"),
        "layers.psd": (psd(), "format"),
        "a.dds": (saved_as("DDS"), "format"),
        "a.xbm": (saved_as("XBM", Image.new("1", (8, 8))), "format"),
    }


@pytest.mark.parametrize(
    "name",
    ["palette.jp2", "deep.jp2", "signed.jp2", "few-bits.jp2", "deep.sgi", "layers.psd", "a.dds", "a.xbm"],
)
def test_what_pillow_reads_wrongly_or_no_test_covers_is_refused(tmp_path, name):
    content, reason = refused_formats()[name]
    path = save(tmp_path, content, name)
    with pytest.raises(PictureError, match=reason) as caught:
        load_picture(path)
    assert "save it as PNG" in str(caught.value)
    with Image.open(path) as image:
        with pytest.raises(PictureError, match="PNG"):
            load_picture(image)
        if reason == "format":
            assert load_picture(image.copy()).pixels.ndim == 3  # the caller's own pixels


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
    "bomb-tile.tif": Tiff(compression=8, tile=(16, 16)).write(ZEROS, t322=[65520], t323=[65520]),
    "samples.tif": Tiff().write(ZEROS, t277=[65535], t258=[8]),
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


class Packed(Tiff):
    """A TIFF whose one strip is these packed bytes."""

    def _pack(self, part):
        return self.data


def packed_tiff(compression, data):
    layout = Packed(compression=compression, rows=4)
    layout.data = data
    return layout.write(ZEROS)


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
    "more-than-its-strip.tif": (packed_tiff(8, zlib.compress(bytes(50_000_000))), (4, 4)),
    "more-than-its-packbits.tif": (packed_tiff(32773, b"\x81\0" * 400_000), (4, 4)),
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
