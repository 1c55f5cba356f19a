"""The tensor file gives back what was saved, bit for bit, or says in one line why it does not."""

import json
import random
import struct
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file, save

from coordfit.errors import ModelFileError, OutputError
from coordfit.files import tensor_file, tensor_header
from coordfit.files.tensor_file import load_tensors, map_tensors, read_metadata, save_tensors

TYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]
METADATA = {
    "config": {"sigma": 10.0, "depth": 4, "size": [128, 128]},
    "note": "é\n",
    "psnr": None,
    "ok": True,
}


def small_tensors():
    rng = np.random.default_rng(0)
    return {
        "encoding.B": rng.standard_normal((2, 3)).astype(np.float32),
        "layers.0.bias": np.zeros((1, 2)),
        "step": np.array(7),
    }


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.fixture
def saved(path):
    save_tensors(path, small_tensors(), METADATA)
    return path


def refusal(path, *words, **options):
    """Loading must raise `ModelFileError` with one line that names the file and has all `words`."""
    with pytest.raises(ModelFileError) as caught:
        load_tensors(path, **options)
    message = str(caught.value)
    assert message.isprintable()
    for word in (path, *words):
        assert str(word) in message
    return message


def same(a, b):
    """Equal names, types, shapes and bits."""
    return {n: (x.dtype, x.shape, x.tobytes()) for n, x in a.items()} == {
        n: (x.dtype, x.shape, x.tobytes()) for n, x in b.items()
    }


# --- round trip ---------------------------------------------------------------------------------------------


def test_what_was_saved_comes_back(saved):
    tensors, metadata = load_tensors(saved)
    assert same(tensors, small_tensors())
    assert metadata == METADATA


def test_the_file_is_plain_safetensors(saved):
    assert same(load_file(saved), small_tensors())


def test_the_order_of_the_tensors_does_not_count(saved, tmp_path):
    other = tmp_path / "other"
    save_tensors(other, dict(reversed(small_tensors().items())), METADATA)
    tensors, metadata = load_tensors(other)
    assert (same(tensors, small_tensors()), metadata) == (True, METADATA)
    assert json.loads(document_of(other))["sha256"] == json.loads(document_of(saved))["sha256"]


def test_no_tensors_and_no_metadata(path):
    save_tensors(path, {}, {})
    assert load_tensors(path) == ({}, {})


def layouts(array):
    """The same values in other memory layouts."""
    wide = np.zeros((*array.shape, 2), array.dtype)
    wide[..., 0] = array
    yield array
    yield np.asfortranarray(array) if array.ndim else array
    yield wide[..., 0]
    yield np.flip(np.flip(array).copy()) if array.ndim else array  # negative strides
    yield array.astype(array.dtype.newbyteorder(">"))
    yield np.asfortranarray(array.astype(array.dtype.newbyteorder(">"))) if array.ndim else array


arrays = st.sampled_from(TYPES).flatmap(
    lambda code: hnp.arrays(
        np.dtype(code),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
        elements=hnp.from_dtype(np.dtype(code), allow_nan=False, allow_infinity=False),
    )
)


@given(array=arrays, layout=st.integers(0, 5), read_only=st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_layout_comes_back_bit_for_bit(path, array, layout, read_only):
    given_array = list(layouts(array))[layout]
    given_array.flags.writeable = given_array.flags.writeable and not read_only
    before = given_array.copy()
    save_tensors(path, {"x": given_array, "after": np.arange(3)}, {})
    tensors, _ = load_tensors(path)
    got = tensors["x"]
    assert same(tensors, {"x": array, "after": np.arange(3)})
    assert got.dtype.isnative
    assert got.flags.c_contiguous
    assert got.flags.writeable
    assert got.base is None
    assert given_array.tobytes() == before.tobytes()


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


keys = st.text().filter(lambda text: text not in tensor_header.RESERVED_KEYS)


@given(metadata=st.dictionaries(keys, values, max_size=4))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_metadata_comes_back(path, metadata):
    save_tensors(path, {"x": np.zeros(1)}, metadata)
    assert repr(load_tensors(path)[1]) == repr(metadata)


# --- what cannot be saved -----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("code", ["f2", "f4", "f8"])
def test_a_diverged_model_does_not_replace_a_good_one(saved, value, code):
    before = saved.read_bytes()
    with pytest.raises(ModelFileError, match=r"model\.safetensors: tensor w holds NaN"):
        save_tensors(saved, {"w": np.array([0, value], code)}, {})
    assert saved.read_bytes() == before


@pytest.mark.parametrize("array", [np.zeros(2, bool), np.zeros(2, complex), np.array(["a"]), np.array([None])])
def test_types_that_cannot_be_stored(path, array):
    with pytest.raises(TypeError, match="tensor w has the type"):
        save_tensors(path, {"w": array}, {})
    assert not path.exists()


@pytest.mark.parametrize("name", ["", "__metadata__/x", "a b", "a\n", "../x", ".x", "ü", "x" * 201])
def test_names_that_cannot_be_stored(path, name):
    with pytest.raises(ValueError, match="no name for a tensor"):
        save_tensors(path, {name: np.zeros(1)}, {})


def test_metadata_that_cannot_be_stored(path, monkeypatch):
    for name in ("format", "format_version", "sha256"):
        with pytest.raises(ValueError, match=name):
            save_tensors(path, {}, {name: 1})
    deep = 0
    for _ in range(40):
        deep = [deep]
    with pytest.raises(ValueError, match="too deeply"):
        save_tensors(path, {}, {"deep": deep})
    monkeypatch.setattr(tensor_header, "MAX_HEADER_BYTES", 1000)
    with pytest.raises(ValueError, match="over the limit of 1000"):
        save_tensors(path, {}, {"long": "x" * 1000})
    with pytest.raises(TypeError, match="JSON cannot tell"):
        save_tensors(path, {}, {"x": object()})
    assert not path.exists()


def test_a_name_that_safetensors_keeps_for_itself(path):
    with pytest.raises(ValueError, match="no name for a tensor"):
        save_tensors(path, {"__metadata__": np.zeros(1)}, {})


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        save_tensors(tmp_path / "no" / "m", {}, {})


# --- damage -------------------------------------------------------------------------------------------------


def test_a_file_cut_at_any_byte_is_refused(saved):
    whole = saved.read_bytes()
    for size in range(len(whole)):
        saved.write_bytes(whole[:size])
        refusal(saved)


def test_a_file_with_more_at_its_end_is_refused(saved):
    whole = saved.read_bytes()
    for more in (b"\0", b" ", bytes(1000), whole):
        saved.write_bytes(whole + more)
        refusal(saved)


def is_refused(path, content):
    """Whether `content` was refused in one line; if it loads, it must be what was saved."""
    path.unlink()  # file systems take a millisecond to write over what is there
    path.write_bytes(content)
    message = ""
    try:
        tensors, metadata = load_tensors(path)
    except ModelFileError as error:
        message = str(error)
    else:
        assert same(tensors, small_tensors())
        assert metadata == METADATA
    assert message.isprintable()
    return bool(message)


def test_a_changed_byte_is_found(saved):
    whole, draw = saved.read_bytes(), random.Random(1)
    refused = 0
    for _ in range(2000):
        changed = bytearray(whole)
        changed[draw.randrange(len(whole))] ^= draw.randrange(1, 256)
        refused += is_refused(saved, bytes(changed))
    assert refused > 1950  # the rest fell on white space, or changed the case of an escape or exponent


def test_a_changed_bit_in_a_tensor_is_always_found(saved):
    whole = saved.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    for position in range(start, len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 1
        saved.write_bytes(changed)
        refusal(saved, "checksum")


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_refused(path, content):
    path.write_bytes(content)
    refusal(path)
    path.write_bytes(struct.pack("<Q", len(content) + 1) + b"{" + content)
    refusal(path)


# --- crafted files ------------------------------------------------------------------------------------------


def document_of(path):
    """Our JSON text in a file."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size])["__metadata__"]["coordfit"]


def put(path, header, body=b""):
    """Write a safetensors file of a crafted header (text, or an object to be told as JSON)."""
    text = (header if isinstance(header, str) else json.dumps(header)).encode("utf-8", "surrogatepass")
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def put_document(path, document, tensors=None):
    """Write a well-made safetensors file around a crafted document (text, or an object told as JSON)."""
    text = document if isinstance(document, str) else json.dumps(document)
    path.write_bytes(save(tensors or {}, {"coordfit": text}))


def signed(document, entries=()):
    """The document with the checksum that fits it, as an attacker can make it."""
    return {**document, "sha256": tensor_file._digest(entries, document)}


GOOD = {"format": "coordfit", "format_version": 1}


def put_tensor(path, name="x", dtype="F32", shape=(1,), body=bytes(4), offsets=None):
    """Write a file of one crafted tensor, with a checksum that fits."""
    document = signed(GOOD, [(name, dtype, tuple(shape), body)])
    entry = {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets or (0, len(body)))}
    put(path, {"__metadata__": {"coordfit": json.dumps(document)}, name: entry}, body)


@pytest.mark.parametrize("load", [load_tensors, map_tensors, read_metadata])
@pytest.mark.parametrize(
    ("second", "size", "told"),
    [
        ((8, 16), 16, ""),
        ((9, 17), 17, "do not touch"),
        ((7, 15), 15, "do not touch"),
        ((8, 16), 17, "too long"),
        ((8, 16), 15, "cut short"),
    ],
    ids=["good", "gap", "overlap", "more", "less"],
)
def test_tensors_fill_a_file_without_a_gap(path, load, second, size, told):
    """With a checksum that fits, as an attacker can make it: of the tensors alone, wherever they are."""
    body = bytes(range(size))
    parts = {"a": (0, 8), "b": second}
    entries = [(name, "U8", (8,), body[slice(*part)]) for name, part in parts.items()]
    header = {name: {"dtype": "U8", "shape": [8], "data_offsets": [*part]} for name, part in parts.items()}
    put(path, {"__metadata__": {"coordfit": json.dumps(signed(GOOD, entries))}} | header, body)
    if told:
        with pytest.raises(ModelFileError, match=told):
            load(path)
    else:
        load(path)


def test_the_crafted_files_load_where_nothing_is_wrong_with_them(path):
    put_document(path, signed(GOOD))
    assert load_tensors(path) == ({}, {})
    put_tensor(path)
    assert load_tensors(path)[0]["x"] == np.zeros(1, np.float32)


def test_files_that_are_not_there_or_not_files(tmp_path):
    refusal(tmp_path / "missing", "does not exist")
    refusal(tmp_path, "is a folder")
    (tmp_path / "empty").touch()
    refusal(tmp_path / "empty", "is no safetensors file")
    with pytest.raises(ModelFileError, match="no possible file name"):
        load_tensors("nul\0byte")
    with pytest.raises(ModelFileError, match=r"two\\nlines"):
        load_tensors(tmp_path / "two\nlines")


@pytest.mark.skipif(sys.platform == "win32", reason="needs devices")
@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_devices_are_not_read(device):
    refusal(device, "is a device or a pipe")


def test_other_formats_are_refused(path):
    np.savez(path.with_suffix(".npz"), x=np.zeros(3))
    refusal(path.with_suffix(".npz"), "is no safetensors file")
    path.write_bytes(save({"x": np.zeros(3)}))
    refusal(path, "coordfit did not write it")
    path.write_bytes(save({"x": np.zeros(3)}, {"format": "pt"}))
    refusal(path, "coordfit did not write it")


def test_a_file_over_the_limit_is_not_read(saved, monkeypatch):
    size = saved.stat().st_size
    load_tensors(saved, max_bytes=size)
    monkeypatch.setattr(type(saved), "open", None)
    refusal(saved, f"has {size} bytes", f"limit of {size - 1}", max_bytes=size - 1)


@pytest.mark.parametrize("load", [load_tensors, map_tensors])
def test_what_a_file_declares_is_told_before_its_tensors_are_read(saved, monkeypatch, load):
    seen = {}

    def check(declared, metadata):
        seen.update({name: (array.dtype, array.shape) for name, array in declared.items()})
        assert metadata == METADATA
        raise ModelFileError("unwanted")

    monkeypatch.setattr(tensor_file, "_digest", None)
    with pytest.raises(ModelFileError, match="unwanted"):
        load(saved, check)
    assert seen == {name: (array.dtype, array.shape) for name, array in small_tensors().items()}


def test_declared_tensors_take_no_memory(path):
    size = 3 * 2**30
    entry = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    put(path, {"__metadata__": {"coordfit": json.dumps(signed(GOOD))}, "x": entry})
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + size)

    def check(declared, metadata):
        assert declared["x"].shape == (size,)
        raise ModelFileError("unwanted")

    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match="unwanted"):
            load_tensors(path, check)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("load", [load_tensors, map_tensors, read_metadata])
def test_more_tensors_than_any_model_has_are_refused_by_their_number(path, load):
    names = [f"t{number}" for number in range(5000)]
    entries = [(name, "U8", (1,), b"\0") for name in names]
    header = {
        name: {"dtype": "U8", "shape": [1], "data_offsets": [number, number + 1]}
        for number, name in enumerate(names)
    }
    document = json.dumps(signed(GOOD, entries))
    put(path, {"__metadata__": {"coordfit": document}} | header, bytes(len(names)))
    with pytest.raises(ModelFileError, match="has 5001 tensors, over the limit of 4096"):
        load(path)
    with pytest.raises(ValueError, match="5001 tensors"):
        save_tensors(path, dict.fromkeys(names, np.zeros(1, np.uint8)), {})


def test_a_map_holds_one_file_open_for_all_tensors(path):
    save_tensors(path, {f"t{number}": np.full(3, number, np.uint8) for number in range(200)}, {})
    tensors, _ = map_tensors(path)
    bases = set()
    for array in tensors.values():
        while hasattr(array, "base"):
            array = array.base
        bases.add(id(array))
    assert len(bases) == 1
    assert tensors["t199"].tolist() == [199] * 3


@pytest.mark.parametrize("size", [2**63, 2**64 - 1, 100_000_001, 2**22 + 1])
def test_a_header_that_claims_too_much(path, size):
    path.write_bytes(struct.pack("<Q", size) + b"{}" + bytes(100))
    refusal(path, "over the limit")


def test_a_newer_version_is_told(path):
    put_document(path, {"format": "coordfit", "format_version": 2, "sha512": "another way"})
    refusal(path, "format version 2", "up to 1", "newer")


@pytest.mark.parametrize("version", [0, -1, True, 1.0, "1", None, [1]])
def test_an_impossible_version(path, version):
    put_document(path, signed({**GOOD, "format_version": version}))
    refusal(path, "does not tell its format")


@pytest.mark.parametrize("digest", [None, "", "0" * 64, 5, [], "missing"])
def test_a_wrong_checksum(path, digest):
    put_document(path, GOOD if digest == "missing" else {**GOOD, "sha256": digest})
    refusal(path, "checksum")
    with pytest.raises(ModelFileError, match="checksum"):
        map_tensors(path)


DEEP = 100_000
BAD_JSON = {
    "nan": '{"a": NaN}',
    "infinity": '{"a": -Infinity}',
    "huge number": '{"a": 1e999}',
    "huge integer": '{"a": ' + "9" * 5000 + "}",
    "twice": '{"a": 1, "a": 1}',
    "twice inside": '{"a": [{"b": 1, "b": 2}]}',
    "deep lists": '{"a": ' + "[" * DEEP + "]" * DEEP + "}",
    "deep objects": '{"a": ' * DEEP + "1" + "}" * DEEP,
    "deeper than allowed": '{"a": ' + "[" * 40 + "]" * 40 + "}",
    "open": '{"a": 1',
    "trailing": '{"a": 1} x',
    "control": '{"a": "\n"}',
}


@pytest.mark.parametrize("text", BAD_JSON.values(), ids=BAD_JSON.keys())
def test_json_that_is_not_strict_or_too_deep(path, text):
    put(path, text)
    refusal(path, "damaged header")
    put_document(path, text)
    refusal(path, "damaged metadata")


@pytest.mark.parametrize("text", ["", "[]", "5", "null", '"x"', " "])
def test_metadata_that_is_no_object(path, text):
    put_document(path, text)
    refusal(path, "damaged metadata")


def test_text_that_is_not_unicode(path):
    path.write_bytes(struct.pack("<Q", 7) + b'{"\xff":1}')
    refusal(path, "damaged header")
    put(path, r'{"__metadata__": {"coordfit": "\ud800"}}')
    refusal(path, "damaged metadata")


def test_metadata_of_another_shape(path):
    for metadata in ([], "x", None, {"coordfit": {}}, {"coordfit": 1}, {"Coordfit": "{}"}):
        put(path, {"__metadata__": metadata})
        refusal(path, "coordfit did not write it")


@pytest.mark.parametrize("dtype", ["BF16", "BOOL", "C64", "F8_E4M3", "F4", "", "f32", "F128", 5, None])
def test_types_that_are_never_written(path, dtype):
    put_tensor(path, dtype=dtype)
    refusal(path, "tensor x of unknown type")


@pytest.mark.parametrize("name", ["", "../../x", "a b", "<script>", "\u202e", "x" * 1000])
def test_names_that_are_never_written(path, name):
    put_tensor(path, name=name)
    refusal(path, "impossible name")


@pytest.mark.parametrize(
    ("shape", "body", "offsets"),
    [
        ((2**40,), b"", (0, 2**42)),  # huge, and not there
        ((2**62, 4), b"", (0, 0)),  # the product overflows to nothing
        ((2**63, 2), b"", (0, 0)),
        ((2**70,), b"", (0, 0)),
        ((2,), bytes(4), None),  # more than there is
        ((1,), bytes(8), None),  # less than there is
        ((1,), bytes(8), (0, 4)),  # a part that belongs to no tensor
        ((1,), bytes(8), (4, 8)),
        ((1,), bytes(4), (4, 0)),
        ((-1,), bytes(4), None),
        ((1.0,), bytes(4), None),
        ((True,), bytes(4), None),
        (("1",), bytes(4), None),
        ((1,) * 65, bytes(4), None),  # more axes than NumPy has
        ((0, 2**63), b"", None),
        ((0, *[2**31] * 3), b"", None),
    ],
)
def test_impossible_shapes(path, shape, body, offsets):
    put_tensor(path, shape=shape, body=body, offsets=offsets)
    refusal(path)


def test_tensors_that_overlap(path):
    entries = [("a", "F32", (1,), bytes(4)), ("b", "F32", (1,), bytes(4))]
    document = json.dumps(signed(GOOD, entries))
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    put(path, {"__metadata__": {"coordfit": document}, "a": entry, "b": entry}, bytes(4))
    refusal(path, "damaged")


def test_a_tensor_that_is_there_twice(path):
    document = json.dumps(json.dumps(signed(GOOD)))
    entry = '"x": {"dtype": "F32", "shape": [1], "data_offsets": [%d, %d]}'
    put(path, f'{{"__metadata__": {{"coordfit": {document}}}, {entry % (0, 4)}, {entry % (4, 8)}}}', bytes(8))
    refusal(path, "a key is there twice")


@pytest.mark.parametrize("entry", [None, [], "x", {}, {"dtype": "F32"}, {"dtype": "F32", "shape": 5}])
def test_entries_of_another_shape(path, entry):
    put(path, {"__metadata__": {"coordfit": json.dumps(signed(GOOD))}, "x": entry})
    refusal(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("code", ["F16", "F32", "F64"])
def test_numbers_that_are_none(path, value, code):
    body = np.array([value], tensor_header.DTYPES[code]).tobytes()
    put_tensor(path, dtype=code, body=body)
    refusal(path, "NaN or infinity in tensor x")


def resigned(entries):
    return tensor_file._digest(entries, GOOD)


def test_the_checksum_tells_name_type_shape_and_bytes_apart():
    entries = [
        [("a", "F32", (2,), bytes(8))],
        [("b", "F32", (2,), bytes(8))],
        [("a", "I32", (2,), bytes(8))],
        [("a", "F32", (1, 2), bytes(8))],
        [("a", "F32", (2,), bytes(7) + b"\1")],
        [("a", "F32", (1,), bytes(4)), ("b", "F32", (1,), bytes(4))],
        [],
    ]
    assert len({resigned(e) for e in entries}) == len(entries)
    assert resigned(entries[5]) == resigned(entries[5][::-1])


def test_no_memory_is_told(saved, monkeypatch):
    def full(*args):
        raise MemoryError

    monkeypatch.setattr(tensor_file, "deserialize", full)
    refusal(saved, "more memory than there is")
