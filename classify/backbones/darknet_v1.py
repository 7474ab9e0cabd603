"""YOLOv1's network (arXiv 1506.02640, figure 3): the 20 convolutions that were trained to classify.

Its last four convolutions and its fully connected layers are head=yolo_v1. Deviation: batch
normalisation, as in Darknet's own later files.
"""

from classify.backbones.darknet import DarknetStages

FIGURE_3 = (  # (kernel, width)
    ((7, 64),),
    ((3, 192),),
    ((1, 128), (3, 256), (1, 256), (3, 512)),
    ((1, 256), (3, 512)) * 4 + ((1, 512), (3, 1024)),
    ((1, 512), (3, 1024)) * 2,
)


class DarknetV1(DarknetStages):
    """Figure 3; its first convolution has stride 2."""

    table = FIGURE_3
    first_stride = 2
