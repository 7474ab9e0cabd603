import cv2
import numpy as np
import pytest

from engine.data.image import IMAGE_SUFFIXES, read_rgb, write_rgb
from engine.errors import UserError


def picture(height=24, width=40):
    """Smooth, so that JPEG keeps it: red grows to the right, green downwards, blue is 200."""
    red, green = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([red, green, np.full_like(red, 200)], 2).astype(np.uint8)


def with_exif(jpeg, payload):
    """The JPEG with an APP1 segment in front."""
    size = (len(payload) + 2).to_bytes(2, "big")
    return jpeg[:2] + b"\xff\xe1" + size + payload + jpeg[2:]


def jpeg_bytes(path):
    write_rgb(str(path), picture())
    return path.read_bytes()


def test_png_comes_back_exactly(tmp_path):
    write_rgb(str(tmp_path / "a.PNG"), picture())
    back = read_rgb(str(tmp_path / "a.PNG"))
    assert back.dtype == np.uint8 and back.flags.c_contiguous
    np.testing.assert_array_equal(back, picture())


def test_jpeg_comes_back_in_rgb_order_under_an_odd_name(tmp_path):
    path = tmp_path / "Zürich 北京\udcff.jpg"
    jpeg_bytes(path)
    back = read_rgb(str(path)).astype(int)
    # JPEG halves the colours' resolution; swapped channels would differ by far more.
    assert np.abs(back - picture()).mean() < 4


@pytest.mark.parametrize("stored", [np.uint8, np.uint16])
def test_grey_and_sixteen_bits_become_three_channels_of_eight(tmp_path, stored):
    top = np.iinfo(stored).max
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((5, 7), top, stored))
    np.testing.assert_array_equal(read_rgb(str(tmp_path / "grey.png")), np.full((5, 7, 3), 255))


def test_exif_rotation_is_not_applied(tmp_path):
    path = tmp_path / "a.jpg"
    # TIFF header, one entry: tag 0x0112 (orientation), SHORT, 1 value, 6 (turn by 90 degrees).
    entry = b"\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00"
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry + b"\0\0\0\0"
    path.write_bytes(with_exif(jpeg_bytes(path), exif))
    turned = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    assert turned is not None and turned.shape == (40, 24, 3)  # the EXIF data is well formed
    assert read_rgb(str(path)).shape == (24, 40, 3)


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
        ("text.jpg", b"hello world", r"no picture \(11 bytes, first b'hell'\)"),
        ("cut.png", None, "damaged or no picture"),
    ],
)
def test_bad_files_are_named_with_the_reason(tmp_path, name, data, reason, capfd):
    path = tmp_path / name
    if data is None:
        write_rgb(str(path), picture())
        data = path.read_bytes()[:60]
    path.write_bytes(data)
    with pytest.raises(UserError, match=f"{name}: .*{reason}"):
        read_rgb(str(path))


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match=r"none\.jpg: No such file"):
        read_rgb(str(tmp_path / "none.jpg"))
    with pytest.raises(UserError, match="Is a directory"):
        read_rgb(str(tmp_path))


def test_write_refuses_other_suffixes_and_missing_folders(tmp_path):
    with pytest.raises(UserError, match=r"a\.gif: end its name in \.jpg, \.jpeg or \.png"):
        write_rgb(str(tmp_path / "a.gif"), picture())
    with pytest.raises(UserError, match=r"no/a\.png: No such file or directory"):
        write_rgb(str(tmp_path / "no" / "a.png"), picture())


def test_suffixes_are_lower_case():
    assert all(s == s.lower() and s.startswith(".") for s in IMAGE_SUFFIXES)


def test_every_real_jpeg_is_whole(shared_data):
    for path in sorted((shared_data / "bccd" / "JPEGImages").iterdir())[:20]:
        assert read_rgb(str(path)).shape == (480, 640, 3)
