"""Files of arrays: what others write is read, and what is written others read."""

import wave
import zipfile

import numpy as np
import pytest
import tifffile
from PIL import Image

import coordfit
from coordfit.errors import OutputError, SignalError
from coordfit.signals.facts import Frame
from coordfit.sources.reading import is_array_file, read_signal
from coordfit.sources.writing import suffix_for, write_array

rng = np.random.default_rng(0)
VOLUME = rng.integers(0, 60_000, (4, 5, 6)).astype(np.uint16)
FRAME = Frame(("z", "y", "x"), (0.0,) * 3, (1.0,) * 3, has_channels=False, dtype="uint16")


def restored(signal):
    return signal.frame.as_source(signal.frame.restored(signal.pixels.astype(float)))


def wav(path, values, width, rate=8000):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(values.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        levels = values.astype("<i4") if width == 3 else values
        data = levels.tobytes()
        file.writeframes(b"".join(data[k : k + 3] for k in range(0, len(data), 4)) if width == 3 else data)


def test_numpy_files_are_read(tmp_path):
    np.save(tmp_path / "a.npy", VOLUME)
    np.savez(tmp_path / "one.npz", VOLUME)
    np.savez_compressed(tmp_path / "two.npz", first=VOLUME[0], second=VOLUME)
    for name, key in (("a.npy", None), ("one.npz", None), ("two.npz", "second")):
        signal = read_signal(tmp_path / name, "zyx", key=key, spacing={"z": 2.0})
        np.testing.assert_array_equal(restored(signal)[..., 0], VOLUME)
        assert signal.frame.spacing == (2.0, 1.0, 1.0)
        assert signal.name == name
    with pytest.raises(SignalError, match="has the arrays first, second; name one of them"):
        read_signal(tmp_path / "two.npz")
    with pytest.raises(SignalError, match="no array 'third'; it has first, second"):
        read_signal(tmp_path / "two.npz", key="third")
    with pytest.raises(SignalError, match=r"key names an array of an \.npz"):
        read_signal(tmp_path / "a.npy", key="third")


def test_objects_are_never_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(SignalError, match="cannot be read as an array"):
        read_signal(tmp_path / "a.npy")


@pytest.mark.parametrize("layout", ["pages", "imagej", "one page", "float", "channels", "ome"])
def test_tiffs_are_read_with_their_axes_and_depth(tmp_path, layout):
    file = tmp_path / "a.ome.tif" if layout == "ome" else tmp_path / "a.tif"
    expected, axes = VOLUME, ("z", "y", "x")
    if layout == "pages":
        tifffile.imwrite(file, VOLUME, photometric="minisblack")
    elif layout == "imagej":
        tifffile.imwrite(file, VOLUME, imagej=True, metadata={"axes": "TYX"})
        axes = ("t", "y", "x")
    elif layout == "one page":
        expected, axes = VOLUME[0], ("y", "x")
        tifffile.imwrite(file, expected)
    elif layout == "float":
        expected = (VOLUME.astype(np.float32) - 3e4) * 17
        tifffile.imwrite(file, expected, compression="zlib", photometric="minisblack")
    elif layout == "channels":
        expected = rng.integers(0, 4000, (5, 6, 9)).astype(np.uint16)
        tifffile.imwrite(file, expected, photometric="minisblack", planarconfig="contig")
        axes = ("y", "x")
    else:
        tifffile.imwrite(file, VOLUME, ome=True, photometric="minisblack", metadata={"axes": "ZYX"})
    signal = read_signal(file)
    assert signal.frame.axes == axes
    found = restored(signal) if layout == "channels" else restored(signal)[..., 0]
    np.testing.assert_allclose(found, expected, rtol=2e-7, atol=0.1 if layout == "float" else 0)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_sounds_are_read_as_they_are(tmp_path, width, channels):
    kind = {1: np.uint8, 2: np.int16, 3: np.int32, 4: np.int32}[width]
    limits = (0, 256) if width == 1 else (-(2 ** (8 * width - 1)), 2 ** (8 * width - 1))
    values = rng.integers(*limits, (40, channels)).astype(kind)
    wav(tmp_path / "a.wav", values, width)
    signal = read_signal(tmp_path / "a.wav")
    np.testing.assert_allclose(restored(signal), values, rtol=1e-6, atol=200 if width == 4 else 0.5)
    assert signal.frame.axes == ("t",)
    assert signal.frame.spacing == (1 / 8000,)


def test_other_sounds_are_read_by_soundfile(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    values = rng.uniform(-1.0, 1.0, (50, 2)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", values, 44_100, subtype="FLOAT")
    signal = read_signal(tmp_path / "a.wav")
    np.testing.assert_allclose(restored(signal), values, atol=1e-6)
    assert signal.frame.spacing == (1 / 44_100,)


def test_openexr_is_read_in_the_order_of_colours(tmp_path, monkeypatch):
    OpenEXR = pytest.importorskip("OpenEXR")
    values = rng.uniform(0.0, 50.0, (5, 7, 3)).astype(np.float32)
    channels = {name: values[..., k].copy() for k, name in enumerate("RGB")}
    OpenEXR.File({"type": OpenEXR.scanlineimage}, channels).write(str(tmp_path / "a.exr"))
    signal = read_signal(tmp_path / "a.exr")
    np.testing.assert_allclose(restored(signal), values, rtol=1e-5, atol=1e-5)
    monkeypatch.setattr("coordfit.sources.reading.MOST_VALUES", 104)
    with pytest.raises(SignalError, match="has 105 values, more than 104"):
        read_signal(tmp_path / "a.exr")


def test_a_folder_of_frames_is_a_video_in_the_order_of_numbers(tmp_path):
    frames = rng.integers(0, 255, (11, 5, 6, 3)).astype(np.uint8)
    for k, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"frame {k}.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    signal = read_signal(tmp_path, "t,y,x")
    np.testing.assert_array_equal(restored(signal), frames)
    Image.fromarray(frames[0, :3]).save(tmp_path / "frame 11.png")
    with pytest.raises(SignalError, match=r"frames must be alike: .*frame 11.png is uint8 \(3, 6, 3\)"):
        read_signal(tmp_path)


def test_a_picture_can_be_read_as_an_array(tmp_path):
    picture = rng.integers(0, 255, (5, 6, 3)).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    np.testing.assert_array_equal(restored(read_signal(tmp_path / "a.png")), picture)


@pytest.mark.parametrize(
    ("name", "data", "match"),
    [
        ("a.npy", b"nonsense", "cannot be read as an array"),
        ("a.npz", b"PK nonsense", "cannot be read as an array"),
        ("a.tif", b"II*\0nonsense", "cannot be read as an array"),
        ("a.wav", b"RIFFnonsense", "cannot be read as an array"),
        ("a.png", b"nonsense", "not a picture"),
    ],
)
def test_damaged_files_are_refused_in_one_line(tmp_path, name, data, match):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SignalError, match=match) as caught:
        read_signal(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_claim_of_a_large_array_is_refused_before_it_is_read(tmp_path):
    file = tmp_path / "a.npy"
    np.save(file, np.zeros(4))
    data = file.read_bytes().replace(b"(4,), }", b"(4,) * 0")
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999,), }"
    file.write_bytes(data[:8] + len(header).to_bytes(2, "little") + header + bytes(32))
    with pytest.raises(SignalError, match=r"cannot be read as an array|more than"):
        read_signal(file)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", data[:8] + len(header).to_bytes(2, "little") + header)
    with pytest.raises(SignalError, match="has 99999999999 values, more than"):
        read_signal(tmp_path / "a.npz")
    with pytest.raises(SignalError, match="there is no file"):
        read_signal(tmp_path / "none.npy")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SignalError, match="has no pictures"):
        read_signal(tmp_path / "empty")


# -- writing -----------------------------------------------------------------------------------------------


def test_what_is_written_others_read(tmp_path):
    values = VOLUME.astype(np.float32) + 0.3
    for name in ("a.npy", "a.npz", "a.tif"):
        write_array(tmp_path / name, values, FRAME)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), values)
    with np.load(tmp_path / "a.npz") as archive:
        np.testing.assert_array_equal(archive["values"], values)
        assert archive["axes"].tolist() == ["z", "y", "x"]
    stored = tifffile.imread(tmp_path / "a.tif")
    assert stored.dtype == np.uint16
    np.testing.assert_array_equal(stored, VOLUME)
    assert read_signal(tmp_path / "a.tif").frame.axes == ("z", "y", "x")


def test_a_sound_comes_back(tmp_path):
    values = rng.integers(-30_000, 30_000, (100, 2)).astype(np.int16)
    wav(tmp_path / "a.wav", values, 2, rate=16_000)
    signal = read_signal(tmp_path / "a.wav")
    write_array(tmp_path / "b.wav", restored(signal).astype(float), signal.frame)
    again = read_signal(tmp_path / "b.wav")
    np.testing.assert_array_equal(restored(again), values)
    assert again.frame == signal.frame
    with pytest.raises(OutputError, match="a sound has one axis"):
        write_array(tmp_path / "c.wav", VOLUME, FRAME)
    assert not (tmp_path / "c.wav").exists()
    with pytest.raises(OutputError, match=r"arrays go to \.npy, \.npz"):
        write_array(tmp_path / "c.mat", VOLUME, FRAME)


def test_names_say_what_is_an_array():
    assert is_array_file("a.NPY")
    assert not is_array_file("a.tif")
    assert (suffix_for("a.TIF"), suffix_for("a.exr")) == (".tif", ".npy")


def test_an_array_of_a_run_is_written_in_its_own_kind(tmp_path):
    tifffile.imwrite(tmp_path / "volume.tif", VOLUME, photometric="minisblack")
    signal = read_signal(tmp_path / "volume.tif")
    values = signal.frame.restored(signal.pixels.astype(float))[..., 0]
    result = coordfit.fit_array(values.astype(np.uint16), name="volume.tif", steps=5, hidden_size=8)
    result.write_pictures(tmp_path)
    assert tifffile.imread(tmp_path / "reconstruction.tif").dtype == np.uint16
    with Image.open(tmp_path / "comparison.png") as sheet:
        assert sheet.width > 100
