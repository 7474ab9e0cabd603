"""Faster R-CNN (arXiv 1506.01497) with a pyramid (arXiv 1612.03144) on torchvision's two stages.

The first stage (RPN) is a detector of one class, "object": its slots are anchors, its detections
are the proposals. The second stage pools the pyramid under each proposal and predicts its class and
box. torchvision's matching and sampling go image by image, with device syncs; losses are batched.

Deviations from torchvision: anchors are spaced by the backbone's strides, whatever the image's
size; the pyramid takes the maps of any backbone; slots on ignored objects are no negatives.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection import rpn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from detect.anchors import last_map_per_stride
from detect.findings import BoxFindings
from detect.postprocess import describe
from detect.two_stage import (
    Proposals,
    Regions,
    SampledRois,
    Sampling,
    fixed_seed,
    ignore_overlapping,
    roi_pooler,
)
from engine.config.ranges import (
    BoxClasses,
    Channels,
    Grid,
    Kept,
    PartialShare,
    PositiveShare,
    Scales,
    Stride,
)
from engine.errors import UserError
from engine.structures import BACKGROUND, IGNORE, Assigned, Objects, Output

ANCHORS = Sampling(positive=0.7, negative=0.3, count=256, share=0.5)
REGIONS = Sampling(positive=0.5, negative=0.5, count=512, share=0.25)


class FasterRCNN(BoxFindings, nn.Module):
    """Proposals from anchors on a pyramid, then class and box of each proposal.

    Args:
        first_stride: stride of the finest map that the pyramid takes. After its coarsest there is
            one more level, by subsampling, for anchors only.
        pyramid_channels: channels of the pyramid.
        hidden: width of the second stage's two layers.
        resolution: side of the grid that a region is pooled to.
        scales: anchor sides in cells; ratios: height / width.
        anchor_sampling, region_sampling: thresholds and sampling of anchors and of regions; each
            object's best anchors are always positive.
        proposals: how many boxes go to the second stage.
        score, iou, max_detections: of detections, as in `detect.postprocess.Postprocess`.
    """

    outputs = frozenset({"logits", "boxes", "regions"})
    anchor_key = "head.scales and head.ratios"
    score_key = "head.score"

    def __init__(
        self,
        *,
        channels: Sequence[int],
        strides: Sequence[int],
        num_classes: BoxClasses,
        first_stride: Stride = 4,
        pyramid_channels: Channels = 256,
        hidden: Channels = 1024,
        resolution: Grid = 7,
        scales: Scales = (8.0,),
        ratios: Scales = (0.5, 1.0, 2.0),
        anchor_sampling: Sampling | None = None,
        proposals: Proposals | None = None,
        region_sampling: Sampling | None = None,
        score: PartialShare = 0.05,
        iou: PositiveShare = 0.5,
        max_detections: Kept = 100,
    ) -> None:
        super().__init__()
        if not scales or not ratios:
            raise UserError(
                f"head: scales={list(scales)}, ratios={list(ratios)}: expected at least one of each"
            )
        self.anchor_sampling = anchor_sampling or ANCHORS
        self.region_sampling = region_sampling or REGIONS
        self.maps = _maps(strides, first_stride)
        pooled = [strides[i] for i in self.maps]
        self.strides = [*pooled, 2 * pooled[-1]]
        self.pyramid = FeaturePyramidNetwork(
            [channels[i] for i in self.maps], pyramid_channels, extra_blocks=LastLevelMaxPool()
        )
        sizes = tuple(tuple(scale * s for scale in scales) for s in self.strides)
        self.rpn = (proposals or Proposals()).build_rpn(
            rpn.AnchorGenerator(sizes, (tuple(ratios),) * len(sizes)),
            rpn.RPNHead(pyramid_channels, len(scales) * len(ratios)),
            self.anchor_sampling,
        )
        self.protocol = describe(score, "class_wise", f"IoU above {iou:g}", max_detections)
        self.stage = RoIHeads(
            roi_pooler(pooled, resolution),
            TwoMLPHead(pyramid_channels * resolution**2, hidden),
            FastRCNNPredictor(hidden, num_classes + 1),
            **self.region_sampling.torchvision_arguments,
            bbox_reg_weights=None,
            score_thresh=score,
            nms_thresh=iou,
            detections_per_img=max_detections,
        )

    def forward(self, features: list[Tensor], image_size: tuple[int, int]) -> Output:
        """One slot per anchor, finest level first, with one logit, its objectness."""
        maps = self.pyramid({str(i): features[level] for i, level in enumerate(self.maps)})
        levels = self.rpn.head(list(maps.values()))
        logits, code = rpn.concat_box_prediction_layers(*levels)
        batch = len(features[0])
        slots, cells = self._anchors(list(maps.values()), image_size)
        output = Output(
            logits.view(batch, -1, 1),
            code.view(batch, -1, 4),
            slots=torch.cat(slots),
            cells=torch.cat(cells),
        )
        counts = [len(s) for s in slots]
        boxes = self.propose(output.float(), counts, image_size)  # type: ignore[call-arg]
        return output._replace(regions=Regions(boxes, maps, image_size, self.stage))

    def _anchors(
        self, maps: list[Tensor], image_size: tuple[int, int]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Anchors, centred on the cells' upper left corners, and sizes of the cells, by level."""
        self.rpn.anchor_generator.set_cell_anchors(torch.float32, maps[0].device)
        grids = [list(x.shape[2:]) for x in maps]
        steps: list = [[s, s] for s in self.strides]
        slots = self.rpn.anchor_generator.grid_anchors(grids, steps)
        sides = [(image_size[1] / columns, image_size[0] / rows) for rows, columns in grids]
        cells = [s.new_tensor(side).expand(len(s), 2) for s, side in zip(slots, sides, strict=True)]
        return slots, cells

    @torch.compiler.disable  # the number of proposals depends on the data
    @torch.no_grad()
    def propose(
        self, output: Output, levels: list[int], image_size: tuple[int, int]
    ) -> list[Tensor]:
        """Proposals [P, 4] of each image: the first stage's boxes after NMS within each level.

        Args:
            output: of the first stage, in float32.
            levels: number of slots of each level.
            image_size: (height, width).
        """
        batch = len(output.boxes)
        anchors = [output.slots] * batch
        boxes = self.rpn.box_coder.decode(output.boxes.flatten(0, 1), anchors)
        return self.rpn.filter_proposals(
            boxes.view(batch, -1, 4), output.logits[..., 0], [image_size] * batch, levels
        )[0]

    def assign(self, output: Output, objects: Objects) -> Assigned:
        """Assign a random sample of anchors and regions; without training, always the same one."""
        counted, ignored = objects.select(~objects.ignore), objects.select(objects.ignore)
        images = range(len(output.logits))
        boxes = [counted.boxes[counted.batch_index == i] for i in images]
        labels = [counted.labels[counted.batch_index == i] for i in images]
        ignored_boxes = [ignored.boxes[ignored.batch_index == i] for i in images]
        with fixed_seed(output.slots.device, not self.training):
            anchors = self._assign_anchors(output, boxes, ignored_boxes)
            regions = self._assign_regions(output, boxes, labels, ignored_boxes)
            return anchors._replace(regions=regions)

    def _assign_anchors(
        self, output: Output, boxes: list[Tensor], ignored_boxes: list[Tensor]
    ) -> Assigned:
        slots = [output.slots] * len(boxes)
        targets = [{"boxes": b} for b in boxes]
        labels, matched = self.rpn.assign_targets_to_anchors(slots, targets)
        labels = [
            ignore_overlapping(of_image, output.slots, ignored, self.anchor_sampling.negative)
            for of_image, ignored in zip(labels, ignored_boxes, strict=True)
        ]
        positive, negative = (torch.stack(m).bool() for m in self.rpn.fg_bg_sampler(labels))
        sampled = torch.where(positive, 0, torch.where(negative, BACKGROUND, IGNORE))  # [B, A]
        truth = torch.where(positive[..., None], torch.stack(matched), output.slots)  # [B, A, 4]
        return Assigned(sampled, torch.stack(list(self.rpn.box_coder.encode(list(truth), slots))))

    def _assign_regions(
        self,
        output: Output,
        boxes: list[Tensor],
        labels: list[Tensor],
        ignored_boxes: list[Tensor],
    ) -> SampledRois:
        proposals = self.stage.add_gt_proposals(output.regions.boxes, boxes)
        from_1 = [x + 1 for x in labels]  # 0 is the background
        matched, targets = self.stage.assign_targets_to_proposals(proposals, boxes, from_1)
        targets = [
            ignore_overlapping(of_image, p, ignored, self.region_sampling.positive)
            for of_image, p, ignored in zip(targets, proposals, ignored_boxes, strict=True)
        ]
        chosen = self.stage.subsample(targets)
        rois = [p[c] for p, c in zip(proposals, chosen, strict=True)]
        truth = [
            torch.cat([b, b.new_tensor([[0.0, 0.0, 1.0, 1.0]])])[m[c]]  # there may be no object
            for b, m, c in zip(boxes, matched, chosen, strict=True)
        ]
        code = torch.cat(list(self.stage.box_coder.encode(truth, rois)))
        classes = torch.cat([t[c] for t, c in zip(targets, chosen, strict=True)]) - 1
        return SampledRois(rois, classes, code)

    def decode(self, output: Output) -> Objects:
        """Detections of the second stage."""
        return output.regions.decode()


def _maps(strides: Sequence[int], first: int) -> list[int]:
    """Indices of the backbone's maps that the pyramid takes."""
    maps = [i for i in last_map_per_stride(strides) if strides[i] >= first]
    kept = [strides[i] for i in maps]
    if not kept or any(b != 2 * a for a, b in zip(kept, kept[1:], strict=False)):
        raise UserError(
            f"head faster_rcnn needs maps of stride {first} or more (head.first_stride), each "
            f"twice the one before; the backbone's have {list(strides)}: pick another backbone="
        )
    return maps
