import io
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from engine.data import header
from engine.data.header import CMYK, GREY, PALETTE, RGB, Header

SIZE = (37, 21)  # (width, height), Pillow's order


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("mode", "kind", "colour", "bits"),
    [
        ("RGB", "JPEG", RGB, 8),
        ("L", "JPEG", GREY, 8),
        ("CMYK", "JPEG", CMYK, 8),
        ("RGB", "PNG", RGB, 8),
        ("L", "PNG", GREY, 8),
        ("1", "PNG", GREY, 1),
        ("I;16", "PNG", GREY, 16),
        ("P", "PNG", PALETTE, 8),
        ("RGB", "TIFF", RGB, 8),
        ("CMYK", "TIFF", CMYK, 8),
        ("I;16", "TIFF", GREY, 16),
        ("1", "TIFF", GREY, 1),
        ("P", "TIFF", PALETTE, 8),
        ("RGB", "BMP", RGB, 8),
        ("P", "BMP", PALETTE, 8),
        ("RGB", "WEBP", RGB, 8),
        ("P", "GIF", PALETTE, 8),
        ("RGB", "PPM", RGB, 8),
        ("L", "PPM", GREY, 8),
        ("1", "PPM", GREY, 1),
    ],
)
def test_what_pillow_wrote(mode, kind, colour, bits):
    image = Image.new(mode, SIZE)
    if mode == "P":
        image.putpalette([0, 0, 0, 255, 0, 0])  # no grey: such a palette is read as grey values
    found = header.parse(saved(image, kind))
    name = {"PPM": "pnm"}.get(kind, kind.lower())
    assert found == Header(name, 21, 37, colour, bits)


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 80}])
@pytest.mark.parametrize("extra", [{}, {"icc_profile": b"x" * 9}])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_every_kind_of_webp(mode, extra, options):
    data = saved(Image.new(mode, SIZE, (9, 9, 9, 90)[: len(mode)]), "WEBP", **extra, **options)
    assert header.parse(data) == Header("webp", 21, 37, alpha=mode == "RGBA")


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_seen(kind, mode):
    assert header.parse(saved(Image.new(mode, SIZE), kind)).alpha


def test_a_transparent_index_is_seen():
    for kind in ("PNG", "GIF"):
        assert header.parse(saved(Image.new("P", SIZE), kind, transparency=0)).alpha
        assert not header.parse(saved(Image.new("P", SIZE), kind)).alpha


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("value", range(1, 9))
def test_orientation_in_both_byte_orders(order, value):
    exif = Image.Exif()
    exif.endian = order
    exif[274] = value
    data = saved(Image.new("RGB", SIZE), "JPEG", exif=exif.tobytes())
    found = header.parse(data)
    assert found.orientation == value and found.stored == (21, 37)
    assert found.upright == ImageOps.exif_transpose(Image.open(io.BytesIO(data))).size[::-1]


@pytest.mark.parametrize("value", [0, 9, 200])
def test_an_orientation_out_of_range_asks_for_no_turn(value):
    exif = Image.Exif()
    exif[274] = value
    assert header.parse(saved(Image.new("RGB", SIZE), "JPEG", exif=exif)).orientation == 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM"])
def test_a_cut_header_is_none_and_no_cut_is_an_error(kind):
    data = saved(Image.effect_noise(SIZE, 50).convert("RGB"), kind)
    assert header.parse(data[:9]) is None
    for end in range(0, len(data), 7):
        found = header.parse(data[:end])
        assert found is None or found.stored == (21, 37)


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", b"\xff\xd8\xff", b"<svg/>", b"P6 x y 255\n", b"GIF89a" + bytes(9), b"II*\0"]
    + [b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBB", 13, b"IHDR", 5, 5, 8, 5)],
)
def test_no_image_has_no_header(data):
    assert header.parse(data) is None


def test_old_bmp_and_a_bmp_from_the_top_down():
    assert header.parse(b"BM" + bytes(12) + struct.pack("<IHHHH", 12, 7, 5, 1, 24)).stored == (5, 7)
    upside = b"BM" + bytes(12) + struct.pack("<IiiHH", 40, 7, -5, 1, 24) + bytes(24)
    assert header.parse(upside).stored == (5, 7)


def test_comments_in_a_ppm():
    assert header.parse(b"P6\n# by hand 9 9\n7 # wide\n5\n255\n") == Header("pnm", 5, 7)


def test_many_empty_segments_take_no_time():
    start = time.perf_counter()
    assert header.parse(b"\xff\xd8" + b"\xff\xe0\0\2" * 100_000) is None
    assert time.perf_counter() - start < 2


WHOLE = {
    kind: saved(Image.effect_noise(SIZE, 50).convert("RGB"), kind)
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
}
CHANGES = st.lists(st.tuples(st.integers(0, 199), st.integers(0, 255)), max_size=8)


@given(st.sampled_from(sorted(WHOLE)), CHANGES, st.integers(0, 4000))
def test_spoilt_bytes_are_a_header_or_none_never_an_error(kind, changes, end):
    data = bytearray(WHOLE[kind][: max(end, 200)])
    for at, value in changes:
        data[at % len(data)] = value
    found = header.parse(bytes(data))
    assert found is None or min(found.stored) > 0 and 1 <= found.orientation <= 8


@given(
    st.binary(max_size=400), st.sampled_from([b"\xff\xd8\xff", b"II*\0", b"RIFF....WEBP", b"P5 "])
)
def test_noise_is_a_header_or_none_never_an_error(noise, start):
    found = header.parse(start + noise)
    assert found is None or min(found.stored) > 0
