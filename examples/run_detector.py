"""Runs a detector that `launch.py export --format=onnx` wrote; needs onnxruntime and numpy alone.

    pip install onnxruntime
    python run_detector.py FOLDER IMAGES.npy [FORMAT]

IMAGES.npy holds images as FOLDER/export.json says under "input", [N, S, S, 3]; FORMAT is onnx, or
onnx_int8. It prints what is found in each image, as a line of JSON: box (left, top, right, bottom
in pixels of the image), class and score. `suppressed` does the same with what a LiteRT file gives.
"""

import json
import sys
from pathlib import Path

import numpy as np


def suppressed(boxes, scores, rule):
    """What is told of an image, the best first: boxes [n, 4], classes and scores [n].

    Args:
      boxes, scores: raw_boxes [A, 4] and raw_scores [A, K] of the image.
      rule: "suppression" of the format in export.json.
    """
    if rule["classes_of_a_box"] == "best":
        best = np.arange(scores.shape[1])[None] == scores.argmax(1)[:, None]
        scores = np.where(best, scores, -1)
    found, start = [], 0
    for count in rule["boxes_of_groups"]:
        group = scores[start : start + count].ravel()
        first = np.argsort(-group, kind="stable")[: rule["candidates_of_a_group"]]
        found.append(first + start * scores.shape[1])
        start += count
    places = np.concatenate(found)
    order = np.argsort(-scores.ravel()[places], kind="stable")[: rule["candidates"]]
    anchors, classes = np.divmod(places[order], scores.shape[1])
    boxes, scores = boxes[anchors], scores[anchors, classes]
    kept, limit = [], rule["iou_threshold"]
    for k in np.flatnonzero(scores > rule["score_threshold"]):
        rivals = [other for other in kept if classes[other] == classes[k]]
        if limit >= 1 or not (overlaps(boxes[k], boxes[rivals]) > limit).any():
            kept.append(k)
    kept = kept[: rule["boxes_of_an_image"]]
    return boxes[kept], classes[kept], scores[kept]


def overlaps(box, others):
    """Intersection over union [n] of a box [4] and others [n, 4]."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    common = np.maximum(sides, 0).prod(1)
    union = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - common
    return common / np.where(union > 0, union, 1)


def main(folder, images, name="onnx"):
    import onnxruntime

    facts = json.loads(Path(folder, "export.json").read_text())
    of_format = facts["formats"][name]
    session = onnxruntime.InferenceSession(str(Path(folder, of_format["file"])))
    outputs = session.run(["raw_boxes", "raw_scores"], {"images": np.load(images)})
    for boxes, scores in zip(*outputs, strict=True):
        told = zip(*suppressed(boxes, scores, of_format["suppression"]), strict=True)
        objects = [
            {"box": box.tolist(), "class": facts["class_names"][label], "score": float(score)}
            for box, label, score in told
        ]
        print(json.dumps(objects))


if __name__ == "__main__":
    main(*sys.argv[1:])
