import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest
from PIL import Image

from engine.data import frames
from engine.data.ahead import Kept
from engine.data.augment import Augment
from engine.data.files import Files
from engine.data.frames import Animation, Stream, Video
from engine.data.image import read_rgb
from engine.data.loader import Loader
from engine.data.source import open_source
from engine.errors import UserError


def film(path, count=5):
    """A video of grey frames 0, 50, 100, ... at 10 a second."""
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 32))
    for i in range(count):
        video.write(np.full((32, 32, 3), 50 * i, np.uint8))
    video.release()
    return str(path)


def test_frames_come_in_any_order(tmp_path):
    video = Video(source=film(tmp_path / "film.avi"))
    assert len(video) == 5 and video.rate == 10
    for i in (0, 1, 4, 2, 2):
        assert abs(int(video.image(i).mean()) - 50 * i) < 5
    with pytest.raises(UserError, match="frame 9 of 5"):
        video.image(9)
    (tmp_path / "text.mp4").write_text("no film")
    with pytest.raises(UserError, match="not a video"):
        Video(source=str(tmp_path / "text.mp4"))


@pytest.mark.parametrize("stated", [3, 4, 2_000_000, 2**31 - 1])
def test_a_video_ends_where_its_frames_end(tmp_path, stated):
    path = tmp_path / "film.avi"
    film(path, 3)
    data = bytearray(path.read_bytes())
    for name, place in ((b"avih", 24), (b"strh", 40)):  # dwTotalFrames, dwLength
        data[data.index(name) + place : data.index(name) + place + 4] = stated.to_bytes(4, "little")
    path.write_bytes(data)
    video = Video(source=str(path))
    loader = Loader(dataset=video, augment=Augment(), size=(32, 32), batch_size=2)
    assert sum(len(batch.meta) for batch in loader) == len(video) == 3
    reasons = [row["reason"] for row in video.report]
    assert reasons == [f"{path}: ends after 3 of {stated} stated frames"] * (stated > 3)


def animation(path, **options):
    """Three frames of 6 x 4: red with a clear corner; red with a blue one; green."""
    images = [Image.new("RGBA", (6, 4), "red"), Image.new("RGBA", (6, 4), "red"),
              Image.new("RGBA", (6, 4), (0, 255, 0))]  # fmt: skip
    images[1].putpixel((0, 0), (0, 0, 255, 255))
    images[0].putpixel((5, 3), (0, 0, 0, 0))
    images[0].save(path, save_all=True, append_images=images[1:], duration=40, **options)
    return str(path)


@pytest.mark.parametrize(("name", "options"), [("a.gif", {}), ("a.webp", {"lossless": True})])
def test_an_animation_is_its_frames(tmp_path, name, options):
    data = open_source(source=animation(tmp_path / name, **options))
    assert isinstance(data, Animation) and (len(data), data.rate) == (3, 25)
    assert data.record(2).id == "a_000002"
    first, second, third = map(data.image, range(3))
    assert first[3, 5].tolist() == [255] * 3 and (first[:3] == (255, 0, 0)).all()
    assert np.array_equal(first, read_rgb(str(tmp_path / name)))
    assert second[0, 0].tolist() == [0, 0, 255] and second[0, 1].tolist() == [255, 0, 0]
    assert (third == (0, 255, 0)).all()
    assert np.array_equal(data.image(1), second)  # back again
    assert len(open_source(source=str(tmp_path / name), frames=2)) == 2


def test_what_a_source_is(tmp_path, monkeypatch):
    Image.new("RGB", (6, 4)).save(tmp_path / "still.gif")
    assert isinstance(open_source(source=str(tmp_path / "still.gif")), Files)
    video = open_source(source=film(tmp_path / "film.avi"), frames=2)
    assert isinstance(video, Video) and len(video) == 2
    with pytest.raises(UserError, match="frames=2: source=.* has images, no frames; leave it out"):
        open_source(source=str(tmp_path / "still.gif"), frames=2)
    (tmp_path / "cut.gif").write_bytes((tmp_path / "still.gif").read_bytes()[:16])
    with pytest.raises(UserError, match="cut.gif"):
        open_source(source=str(tmp_path / "cut.gif"))
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    assert open_source(source="0").path == "0" and open_source(source="0").stem == "camera0"
    assert open_source(source="rtsp://me:word@host/door?x=1").path == "rtsp://host/door?x=1"


class Camera:
    """In the place of OpenCV's: `opens` says which tries to open it succeed, `sends` how many
    frames come after each of them."""

    opens, sends = (True,), (10**9,)
    tried = 0

    def __init__(self, *_):
        self.open = self.opens[min(Camera.tried, len(self.opens) - 1)]
        self.left = self.sends[min(Camera.tried, len(self.sends) - 1)] if self.open else 0
        Camera.tried += 1

    def isOpened(self):  # noqa: N802
        return self.open

    def get(self, _):
        return 0.0

    def read(self):
        self.left -= 1
        frame = np.full((240, 320, 3), self.left % 250, np.uint8)
        return (True, frame) if self.left >= 0 else (False, None)

    def release(self):
        self.open = False


@pytest.fixture
def camera(monkeypatch):
    def made(**attributes):
        for key, value in ({"tried": 0} | attributes).items():
            monkeypatch.setattr(Camera, key, value)
        monkeypatch.setattr(cv2, "VideoCapture", Camera)
        monkeypatch.setattr(frames, "PAUSE", 0.01)
        return Stream(source="rtsp://me:word@host/door")

    return made


def loader(stream, workers=1):
    kept = Kept(most=None)
    made = Loader(dataset=stream, augment=Augment(), size=(32, 32), batch_size=4, workers=workers,
                  kept=kept)  # fmt: skip
    return made, kept


def seen(stream):
    """The numbers of the frames that come, in order."""
    return [meta.index for batch in loader(stream)[0] for meta in batch.meta]


def test_a_stream_goes_on_until_it_is_stopped(camera):
    stream = camera()
    batches, kept = loader(stream)
    for number, batch in enumerate(batches):
        assert [meta.index for meta in batch.meta] == list(range(number * 4, number * 4 + 4))
        assert all(kept.take(meta.index).shape == (240, 320, 3) for meta in batch.meta)
        if number == 500:
            stream.stop()
            break
    assert kept.used <= 4 * 4 * 240 * 320 * 3  # two thousand frames later: those made ahead
    rest = [meta.index for meta in batch.meta]
    with pytest.raises(UserError, match=r"rtsp://host/door: stopped after \d+ frames"):
        stream.image(rest[-1] + 100)


def test_a_lost_stream_is_opened_again(camera, caplog):
    with caplog.at_level("INFO", "onelook"):
        stream = camera(opens=(True, False, False, True), sends=(5, 0, 0, 10**9))
        stream.length = 11
        assert seen(stream) == list(range(11)) and not stream.report
    assert caplog.messages == [
        "rtsp://host/door: lost after 5 frames, tried for 30 s", "rtsp://host/door: back"
    ]  # fmt: skip
    assert Camera.tried == 4


@pytest.mark.parametrize("opens", [False, True])
def test_a_stream_that_stays_lost_ends(camera, monkeypatch, opens):
    monkeypatch.setattr(frames, "BACK_WITHIN", 0.1)
    stream = camera(opens=(True, opens), sends=(6, 0))
    assert seen(stream) == list(range(6))
    assert "not back within 0 s" in stream.lost
    assert [row["reason"] for row in stream.report] == [
        "rtsp://host/door: lost, and not back within 0 s, after 6 frames"
    ]


def test_a_stream_that_never_was_is_refused(camera):
    with pytest.raises(UserError, match="source=rtsp://host/door: no stream answers there"):
        camera(opens=(False,))


class Page(BaseHTTPRequestHandler):
    """Twelve images of a webcam, grey 0, 20, 40, ..., as multipart/x-mixed-replace."""

    def log_message(self, *_):
        """No line."""

    def do_GET(self):  # noqa: N802
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.end_headers()
        for i in range(12):
            data = cv2.imencode(".jpg", np.full((48, 64, 3), 20 * i, np.uint8))[1].tobytes()
            head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            self.wfile.write(head.encode() + data + b"\r\n")


def test_a_webcam_over_http_is_read():
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stream = Stream(source=f"http://127.0.0.1:{server.server_port}/cam.mjpg", frames=20)
        means = [stream.image(i).mean() for i in range(20)]  # it is lost once, and opened again
        server.shutdown()
    assert means == pytest.approx([20 * (i % 12) for i in range(20)], abs=1)
    assert stream.name(3) == "cam_000003"
