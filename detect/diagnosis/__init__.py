"""What a detector gets right and wrong, by hotcoco: https://derekallman.github.io/hotcoco.

A detection is right if it matches an object of its class at IoU 0.50, by COCO's rules (at most 100
detections an image, those of ignored objects left out). As detections are matched from the highest
score down, what is right at one threshold of the score stays right at every lower one.
"""
