"""Mean average precision, by the rules of VOC and of COCO."""
