import os
import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from engine.data.image import (
    IMAGE_SUFFIXES,
    MAX_BYTES,
    decode,
    image_size_of,
    on_white,
    open_image,
    read_rgb,
    write_rgb,
)
from engine.errors import UserError


def image(height=24, width=40):
    """Smooth, so that JPEG keeps it: red grows to the right, green downwards, blue is 200."""
    red, green = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([red, green, np.full_like(red, 200)], 2).astype(np.uint8)


def with_exif(jpeg, payload):
    """The JPEG with an APP1 segment in front."""
    size = (len(payload) + 2).to_bytes(2, "big")
    return jpeg[:2] + b"\xff\xe1" + size + payload + jpeg[2:]


def jpeg_bytes(path):
    write_rgb(str(path), image())
    return path.read_bytes()


def test_png_comes_back_exactly(tmp_path):
    write_rgb(str(tmp_path / "a.PNG"), image())
    back = read_rgb(str(tmp_path / "a.PNG"))
    assert back.dtype == np.uint8 and back.flags.c_contiguous
    np.testing.assert_array_equal(back, image())


def test_jpeg_comes_back_in_rgb_order_under_an_odd_name(tmp_path):
    path = tmp_path / "Zürich 北京\udcff.jpg"
    jpeg_bytes(path)
    back = read_rgb(str(path)).astype(int)
    # JPEG halves the colours' resolution; swapped channels would differ by far more.
    assert np.abs(back - image()).mean() < 4


@pytest.mark.parametrize("stored", [np.uint8, np.uint16])
def test_grey_and_sixteen_bits_become_three_channels_of_eight(tmp_path, stored):
    top = np.iinfo(stored).max
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((5, 7), top, stored))
    np.testing.assert_array_equal(read_rgb(str(tmp_path / "grey.png")), np.full((5, 7, 3), 255))


def read_by_pillow(path):
    """[H, W, 3] as Pillow reads it, upright."""
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB")).astype(int)


def turned_file(folder, kind, orientation, image):
    path = str(folder / f"a.{kind.lower()}")
    exif = Image.Exif()
    exif[274] = orientation
    options = {"JPEG": {"quality": 98, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    extra = {"tiffinfo": {274: orientation}} if kind == "TIFF" else {"exif": exif}
    Image.fromarray(image).save(path, kind, **options, **extra)
    return path


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_read_upright_as_pillow_turns_it(tmp_path, kind, orientation):
    path = turned_file(tmp_path, kind, orientation, image())
    found, upright = read_rgb(path), read_by_pillow(path)
    assert found.shape == upright.shape == (*image_size_of(path), 3)
    assert np.abs(found - upright).max() <= 3
    assert found.flags.c_contiguous


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("reduce", [2, 4, 8])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_reduced_image_is_the_mean_of_its_blocks(tmp_path, kind, reduce, orientation):
    whole = read_rgb(path := turned_file(tmp_path, kind, orientation, image(51, 77)))
    found = read_rgb(path, reduce).astype(float)
    height, width = whole.shape[:2]
    assert found.shape == (-(-height // reduce), -(-width // reduce), 3)
    rows, columns = height // reduce, width // reduce  # whole blocks
    blocks = whole[: rows * reduce, : columns * reduce].reshape(rows, reduce, columns, reduce, 3)
    assert np.abs(found[:rows, :columns] - blocks.mean((1, 3))).max() < 4


def test_cmyk_becomes_rgb(tmp_path):
    # Pillow writes CMYK as Adobe's programs do, inverted.
    Image.fromarray(image()).convert("CMYK").save(tmp_path / "ink.jpg", quality=98)
    expected = read_by_pillow(tmp_path / "ink.jpg")
    assert np.abs(read_rgb(str(tmp_path / "ink.jpg")) - expected).max() <= 3
    assert np.abs(expected - image()).mean() < 4


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "GIF", "BMP"])
@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_bits_greys_and_palettes_as_pillow_reads_them(tmp_path, kind, mode):
    path = tmp_path / f"a.{kind.lower()}"
    Image.fromarray(image()).convert(mode).save(path)
    np.testing.assert_array_equal(read_rgb(str(path)), read_by_pillow(path))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.ppm"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, name):
    deep = image().astype(np.uint16) * 257 - (image() > 9)
    cv2.imwrite(str(tmp_path / name), deep[..., ::-1])
    assert np.abs(read_rgb(str(tmp_path / name)).astype(int) - image()).max() <= 1


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_what_is_transparent_shows_white(tmp_path, name):
    clear = np.dstack([image(), np.linspace(0, 255, 24 * 40).reshape(24, 40).astype(np.uint8)])
    lossless = {"lossless": True, "exact": True} if name == "a.webp" else {}
    Image.fromarray(clear).save(tmp_path / name, **lossless)
    page = Image.new("RGBA", (40, 24), "white")
    expected = np.asarray(Image.alpha_composite(page, Image.fromarray(clear)).convert("RGB"))
    assert np.abs(read_rgb(str(tmp_path / name)).astype(int) - expected).max() <= 1


def test_transparent_palettes_and_deep_transparency_show_white_too(tmp_path):
    indexed = Image.new("P", (40, 24), 0)
    indexed.putpalette([200, 10, 10, 10, 200, 10])
    indexed.paste(1, (0, 0, 20, 24))
    for name in ("a.png", "a.gif"):
        indexed.save(tmp_path / name, transparency=0)
        found = read_rgb(str(tmp_path / name))
        assert found[5, 5].tolist() == [10, 200, 10] and found[5, 30].tolist() == [255] * 3
    half = np.full((24, 40, 4), 65535, np.uint16)
    half[..., :3], half[..., 3] = 0, 32768
    cv2.imwrite(str(tmp_path / "deep.png"), half)
    assert read_rgb(str(tmp_path / "deep.png"))[0, 0].tolist() == [127] * 3


def test_decompression_bombs_are_refused_by_their_header(tmp_path):
    path = tmp_path / "bomb.png"
    # 20000 x 15000 pixels = 300 million, in 41 bytes
    head = struct.pack(">4sIIBBBBB", b"IHDR", 20000, 15000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I4s", 99, b"IDAT"))
    for read in (read_rgb, image_size_of):
        with pytest.raises(UserError, match="bomb.png: 20000 x 15000 pixels, more than 200 mill"):
            read(str(path))
    with open(path, "wb") as file:
        file.truncate(MAX_BYTES + 1)  # sparse: takes no room
    with pytest.raises(UserError, match=r"1600000001 bytes, more than"):
        read_rgb(str(path))


def tiff_with_tags(tags):
    """A TIFF of 16 x 16 grey pixels of 8 bits, with these tags; the same one may stand twice."""
    pixels = bytes(range(256))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + struct.pack(
        "<H", len(tags)) + entries + bytes(4)  # fmt: skip


REST = [(258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 16), (279, 256)]


@pytest.mark.parametrize("sides", [(16, 40), (40, 16), (16, 16000), (16000, 16)])
def test_a_tiff_that_states_its_size_twice_has_one_or_none(tmp_path, sides):
    path = tmp_path / "twice.tif"
    path.write_bytes(tiff_with_tags([(t, side) for t in (256, 257) for side in sides] + REST))
    try:
        size = image_size_of(str(path))
        assert read_rgb(str(path)).shape == (*size, 3)
    except UserError as error:
        assert "pixels" in str(error) or "damaged" in str(error)


def test_a_stream_of_another_size_than_its_header_is_refused(tmp_path):
    path = tmp_path / "a.png"
    write_rgb(str(path), image())
    data, head = open_image(str(path))
    with pytest.raises(UserError, match="says 41 x 24 pixels, its stream has 40 x 24"):
        decode(str(path), data, head._replace(width=41))


def test_deep_transparency_is_laidon_white_in_little_memory(tmp_path):
    deep = np.full((3000, 1000, 4), 65535, np.uint16)
    deep[:1000, :, 3], deep[1000:, :, :3] = 0, 257 * 40
    whole = on_white(deep, multiplied=False)
    assert whole[:1000].min() == 255 and (whole[1000:] == 40).all()
    tracemalloc.start()
    on_white(deep, multiplied=False)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 5 * 3000 * 1000  # 3 bytes a pixel are returned; it was 29


def test_more_decoded_bytes_than_may_be_are_refused(tmp_path):
    head = struct.pack(">4sIIBBBBB", b"IHDR", 12000, 10000, 16, 6, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    path = tmp_path / "deep.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I4s", 99, b"IDAT"))
    with pytest.raises(UserError, match="12000 x 10000 pixels of 4 x 16 bits, more than 800 mill"):
        image_size_of(str(path))


def test_bytes_behind_the_end_are_fine(tmp_path):
    path = tmp_path / "phone.jpg"
    path.write_bytes(jpeg_bytes(path) + b"MotionPhoto\xff\xda" * 9)
    assert read_rgb(str(path)).shape == (24, 40, 3)


@pytest.mark.parametrize("thumbnail", [b"", b"Exif\0\0" + b"\xff\xd8\xff\xda\0\xff\xd9"])
@pytest.mark.parametrize("cut", [2, 60])
def test_truncated_jpeg(tmp_path, cut, thumbnail):
    path = tmp_path / "cut.jpg"
    whole = jpeg_bytes(path)
    path.write_bytes((with_exif(whole, thumbnail) if thumbnail else whole)[:-cut])
    with pytest.raises(UserError, match=r"cut\.jpg: the JPEG is cut short .*replace or remove"):
        read_rgb(str(path))


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("empty.jpg", b"", r"empty \(0 bytes\)"),
        ("text.jpg", b"hello world", r"no image \(11 bytes, first b'hell'\)"),
        ("cut.png", None, r"damaged PNG \(60 bytes\)"),
    ],
)
def test_bad_files_are_named_with_the_reason(tmp_path, name, data, reason, capfd):
    path = tmp_path / name
    if data is None:
        write_rgb(str(path), image())
        data = path.read_bytes()[:60]
    path.write_bytes(data)
    with pytest.raises(UserError, match=f"{name}: .*{reason}"):
        read_rgb(str(path))


@pytest.mark.parametrize("read", [read_rgb, image_size_of])
def test_missing_file_and_folder(tmp_path, read):
    with pytest.raises(UserError, match=r"none\.jpg: No such file"):
        read(str(tmp_path / "none.jpg"))
    with pytest.raises(UserError, match="expected a regular file, got a folder"):
        read(str(tmp_path))
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UserError, match="expected a regular file, got a pipe"):
        read(str(tmp_path / "pipe.jpg"))
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(UserError, match=r"empty \(0 bytes\)"):
        read(str(tmp_path / "empty.jpg"))


def test_write_refuses_other_suffixes_and_what_is_no_folder(tmp_path):
    with pytest.raises(UserError, match=r"a\.gif: end its name in \.jpg, \.jpeg or \.png"):
        write_rgb(str(tmp_path / "a.gif"), image())
    (tmp_path / "no").write_bytes(b"")
    with pytest.raises(UserError, match=r"no/a\.png: (Not a directory|File exists)"):
        write_rgb(str(tmp_path / "no" / "a.png"), image())


def test_suffixes_are_lower_case():
    assert all(s == s.lower() and s.startswith(".") for s in IMAGE_SUFFIXES)


def test_every_real_jpeg_is_whole(shared_data):
    for path in sorted((shared_data / "bccd" / "JPEGImages").iterdir())[:20]:
        assert read_rgb(str(path)).shape == (480, 640, 3)
