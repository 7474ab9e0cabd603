"""Darknet's cfg files of the published YOLOs, and files of random numbers in their order.

Written after https://github.com/pjreddie/darknet (cfg/, src/parser.c) and by nothing of ours, so
that OpenCV's reader of both can judge what `engine.weights.darknet` makes of a file.
"""

import numpy as np

V2_COCO = "0.57273,0.677385, 1.87446,2.06253, 3.33843,5.47434, 7.88282,3.52778, 9.77052,9.16828"
V2_VOC = "1.3221,1.73145, 3.19275,4.00944, 5.05587,8.09892, 9.47112,4.84053, 11.2364,10.0071"
V3 = "10,13, 16,30, 33,23, 30,61, 62,45, 59,119, 116,90, 156,198, 373,326"
TINY = "10,14, 23,27, 37,58, 81,82, 135,169, 344,319"


def conv(filters, size, stride=1, leaky=True):
    section = {"filters": filters, "size": size, "stride": stride, "pad": 1}
    norm = {"batch_normalize": 1, "activation": "leaky"} if leaky else {"activation": "linear"}
    return "convolutional", section | norm


def pool(stride=2):
    return "maxpool", {"size": 2, "stride": stride}


def route(*layers):
    return "route", {"layers": ",".join(map(str, layers))}


def yolo(mask, anchors, classes):
    number = len(anchors.split(",")) // 2
    section = {"mask": mask, "anchors": anchors, "classes": classes, "num": number}
    return "yolo", section | {"thresh": 0, "nms_threshold": 0}  # both OpenCV's: all scores, no NMS


def yolo_v2(classes, anchors):
    widths = [[32], [64], [128, 64, 128], [256, 128, 256], [512, 256] * 2 + [512],
              [1024, 512] * 2 + [1024]]  # fmt: skip
    rows = []
    for i, row in enumerate(widths):
        rows += [pool()] if i else []
        rows += [conv(width, 1 if j % 2 else 3) for j, width in enumerate(row)]
    region = {"anchors": anchors, "classes": classes, "coords": 4, "num": 5, "softmax": 1,
              "thresh": 0, "nms_threshold": 0}  # fmt: skip
    return [*rows, conv(1024, 3), conv(1024, 3), route(-9), conv(64, 1), ("reorg", {"stride": 2}),
            route(-1, -4), conv(1024, 3), conv(5 * (5 + classes), 1, leaky=False),
            ("region", region)]  # fmt: skip


def yolo_v3(classes, anchors=V3):
    rows = [conv(32, 3)]
    for width, blocks in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)):
        rows.append(conv(width, 3, stride=2))
        shortcut = ("shortcut", {"from": -3, "activation": "linear"})
        rows += [conv(width // 2, 1), conv(width, 3), shortcut] * blocks
    for width, mask, back in ((512, "6,7,8", 0), (256, "3,4,5", 61), (128, "0,1,2", 36)):
        if back:
            rows += [route(-4), conv(width, 1), ("upsample", {"stride": 2}), route(-1, back)]
        rows += [conv(width, 1), conv(2 * width, 3)] * 3
        rows += [conv(3 * (5 + classes), 1, leaky=False), yolo(mask, anchors, classes)]
    return rows


def yolo_v3_tiny(classes, mask="0,1,2", anchors=TINY):
    rows = [conv(16, 3)]
    for width in (32, 64, 128, 256, 512):
        rows += [pool(), conv(width, 3)]
    out = conv(3 * (5 + classes), 1, leaky=False)
    return [*rows, pool(stride=1), conv(1024, 3), conv(256, 1), conv(512, 3), out,
            yolo("3,4,5", anchors, classes), route(-4), conv(128, 1), ("upsample", {"stride": 2}),
            route(-1, 8), conv(256, 3), out, yolo(mask, anchors, classes)]  # fmt: skip


def text(rows, size):
    """The cfg file."""
    net = ("net", {"batch": 1, "subdivisions": 1, "width": size, "height": size, "channels": 3})
    return "\n".join(
        f"[{kind}]\n" + "".join(f"{key}={value}\n" for key, value in section.items())
        for kind, section in [net, *rows]
    )


def shapes(rows):
    """(channels, section, whether a shortcut follows) of each convolution."""
    widths, found = [], []
    for i, (kind, section) in enumerate(rows):
        last = widths[-1] if widths else 3
        if kind == "convolutional":
            adds = i + 1 < len(rows) and rows[i + 1][0] == "shortcut"
            found.append((last, section, adds))
            last = section["filters"]
        elif kind == "route":
            layers = map(int, section["layers"].split(","))
            last = sum(widths[i + layer if layer < 0 else layer] for layer in layers)
        elif kind == "reorg":
            last *= 4
        widths.append(last)
    return found


def numbers(rows, seed=0, less_eps=0.0):
    """Random numbers of every layer in Darknet's order, with which no map runs away.

    `less_eps` is added to variances: what a reader adds less to them.
    """
    rng = np.random.default_rng(seed)
    found = []
    for channels, section, adds in shapes(rows):
        width, size = section["filters"], section["size"]
        found.append(rng.normal(0, 0.1, width))  # shift, or bias
        if "batch_normalize" in section:
            found.append(rng.uniform(0.8, 1.2, width) * (0.2 if adds else 1))  # scale
            found.append(rng.normal(0, 0.1, width))  # mean
            found.append(rng.uniform(0.5, 1.5, width) + less_eps)  # variance
        fan_in = channels * size * size
        gain = 2 if "batch_normalize" in section else 0.04
        found.append(rng.normal(0, (gain / fan_in) ** 0.5, width * fan_in))
    return np.concatenate(found).astype(np.float32)


def write(path, values, minor=2):
    """A file with Darknet's header: until version 0.2 the images seen have 4 bytes, then 8."""
    seen = np.array([32013312], np.int64 if minor >= 2 else np.int32)
    path.write_bytes(
        np.array([0, minor, 0], np.int32).tobytes() + seen.tobytes() + values.tobytes()
    )
    return path
