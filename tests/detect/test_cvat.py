"""CVAT's shapes give boxes; what gives none is reported by file and row."""

import pytest
import sets

from detect.datasets.cvat import CVAT
from engine.errors import UserError


def written(root, body, name="a.png", last=""):
    """A set of two images, the first with these shapes, the second with a cat and the last."""
    sets.images(root, ["a", "b"])
    image = f'<image name="{name}" width="64" height="48">{body}</image>'
    other = f'<image name="b.png" width="64" height="48">{CAT}{last}</image>'
    (root / "annotations.xml").write_text(f"<annotations>{image}{other}</annotations>")
    return root


def read(root, **options):
    return CVAT(root=str(root), split="train", val_share=0, **options)


CAT = sets._cvat_box("cat", 1, 2, 3.5, 4)
SHAPES = {
    '<polygon label="x" points="5.5,6.0;20.25,3.0;9.0,30.0"/>': [5.5, 3, 20.25, 30],
    '<polyline label="x" points="5,6;20,3"/>': [5, 3, 20, 6],
    '<ellipse label="x" cx="20" cy="10" rx="5" ry="4"/>': [15, 6, 25, 14],
    '<mask label="x" rle="1, 2" left="3" top="4" width="10" height="20"/>': [3, 4, 13, 24],
    '<cuboid label="x" xtl1="1" ytl1="2" xbl1="1" ybl1="9" xtr1="8" ytr1="2" xbr1="8" ybr1="9" '
    'xtl2="4" ytl2="1" xbl2="4" ybl2="7" xtr2="11" ytr2="1" xbr2="11" ybr2="7"/>': [1, 1, 11, 9],
    # 20 x 10 around (20, 20), upright after a quarter turn: 10 x 20
    '<box label="x" xtl="10" ytl="15" xbr="30" ybr="25" rotation="90.0"/>': [15, 10, 25, 30],
}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda text: text[1:8].split()[0])
def test_a_shape_gives_the_box_around_it(tmp_path, shape):
    data = read(written(tmp_path, shape))
    assert data.record(0).boxes.tolist() == [pytest.approx(SHAPES[shape])]
    assert data.classes == ["cat", "x"] and data.record(0).size == (48, 64)
    assert data.notes == ["1 shapes are no upright boxes: the box around each"]


def test_upright_boxes_are_not_noted_and_attributes_are_no_shapes(tmp_path):
    upright = CAT.replace("<box ", '<box rotation="0.0" ')
    data = read(written(tmp_path, upright + CAT.replace("1", "2")))
    assert data.notes == [] and len(data.record(0).labels) == 2
    assert data.record(0).boxes.tolist()[0] == [1, 2, 3.5, 4]


def test_tags_are_counted_and_images_without_shapes_stay(tmp_path):
    data = read(written(tmp_path, '<tag label="day" source="manual"></tag>'))
    assert data.classes == ["cat"] and len(data) == 2 and len(data.record(0).labels) == 0
    assert data.notes == ["1 tags of whole images have no box: passed over"]


WRONG = {
    '<points label="x" points="5,6"/>': "shape 3: b.png: a shape <points> has no box",
    '<skeleton label="x"/>': "shape 3: b.png: a shape <skeleton> has no box",
    '<box xtl="1" ytl="1" xbr="2" ybr="2"/>': "shape 3: b.png: a <box> without a label",
    '<box label="x" xtl="1" ytl="1" ybr="2"/>': "shape 3: b.png: xbr is '', expected a number",
    '<box label="x" xtl="9" ytl="1" xbr="2" ybr="2"/>': "shape 3: b.png: box .* is inverted",
    '<box label="x" xtl="1" ytl="1" xbr="2" ybr="2" rotation="a"/>': "rotation is 'a'",
    '<polygon label="x" points="5,6;7"/>': "points are '5,6;7', expected x,y;x,y of a polygon",
    '<polygon label="x"/>': "points are ''",
    '<ellipse label="x" cx="20" cy="10" rx="-5" ry="4"/>': "is inverted",
}


@pytest.mark.parametrize("shape", WRONG)
def test_a_bad_shape_is_named_by_file_and_number(tmp_path, shape):
    written(tmp_path, CAT, last=shape)
    with pytest.raises(UserError, match=rf"annotations\.xml, .*{WRONG[shape]}"):
        read(tmp_path)
    data = read(tmp_path, on_error="skip")
    (row,) = data.report
    assert (row["row"], row["action"]) == (3, "left out") and len(data.record(1).labels) == 1


def test_images_that_are_not_there_or_there_twice(tmp_path):
    written(tmp_path, CAT, name="gone.png")
    with pytest.raises(UserError, match=r"annotations\.xml, image 1: no image gone\.png in"):
        read(tmp_path)
    assert len(read(tmp_path, on_error="skip")) == 1
    with pytest.raises(UserError, match=r"image 2: b\.png is there already"):
        read(written(tmp_path / "two", CAT, name="b.png"))
    sets.images(tmp_path, ["c"])
    with pytest.raises(UserError, match=r"image 1: filename '\.\./c\.png' is none below"):
        read(written(tmp_path / "out", CAT, name="../c.png"))


def test_images_that_the_file_does_not_list_are_noted(tmp_path):
    written(tmp_path, CAT)
    sets.images(tmp_path, ["c"])
    assert read(tmp_path).notes == [f"1 images in {tmp_path} are not in the XML: left out"]


def test_images_in_no_subset_are_noted_where_others_are(tmp_path):
    sets.write_cvat(tmp_path, {"train": "a", "": "bc"})
    data = read(tmp_path)
    assert len(data) == 1
    assert data.notes == ["2 images are in no subset, the others are: left out"]


FILES = {
    "<annotation></annotation>": r"expected <annotations> as the root, got <annotation>",
    "<annotations></annotations>": "no <image> in it; export as CVAT for images",
    '<annotations><track label="x"></track></annotations>': "tracks of a video: export as CVAT for",
    '<annotations><image name="a.png">': "not XML",
    '<!DOCTYPE x [<!ENTITY a "b">]><annotations></annotations>': "a DOCTYPE is refused",
}


@pytest.mark.parametrize("text", FILES)
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "annotations.xml").write_text(text)
    with pytest.raises(UserError, match=FILES[text]):
        read(tmp_path)


def test_the_file_is_named_where_it_is_not_clear(tmp_path):
    (tmp_path / "one.xml").write_text("")
    (tmp_path / "two.xml").write_text("")
    with pytest.raises(UserError, match=r"2 XML files in it, expected annotations\.xml, or set"):
        read(tmp_path)
    with pytest.raises(UserError, match="gone.xml: No such file"):
        read(tmp_path, annotations=str(tmp_path / "gone.xml"))
