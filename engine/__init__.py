"""Trains, evaluates and runs any network; knows no task."""

import os

# OpenCV reads it when it is loaded: no decoder makes more than `engine.data.image.MAX_PIXELS`.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", "200000000")
