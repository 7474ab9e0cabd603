"""A server over an exported file: uvicorn --app-dir docs server:app, then POST an image to /."""

import os

import cv2
import numpy as np
from fastapi import FastAPI, HTTPException, Request

from onelook import load

app, model = FastAPI(), load(os.environ.get("MODEL", "model.onnx"))


@app.post("/")
async def predict(request: Request) -> dict:
    """The objects in an image."""
    data = np.frombuffer(await request.body(), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if data.size else None
    if image is None:
        raise HTTPException(400, "got no image, expected the bytes of a JPEG or PNG file")
    return model(image).to_dict()
