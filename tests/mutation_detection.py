"""Breaks of detectors, masks and of several tasks at once; see `mutation_table`."""

BREAKS_OF_DETECTION = (
    (
        "a mask's part is at its edge",
        "models/detection/masks.py",
        "/ jnp.maximum(last - first, 1e-3) - 0.5",
        "/ jnp.maximum(last - first, 1e-3) - 0.0",
        ("models/detection/test_mask_rcnn.py::test_targets_of_masks_are_torchvisions",),
    ),
    (
        "pasted masks have no edge",
        "tasks/mask_pasting.py",
        "(box[2:] - box[:2]) / 2 * side / (side - 2)",
        "(box[2:] - box[:2]) / 2",
        ("models/detection/test_mask_rcnn.py::test_pixels_of_masks_are_torchvisions",),
    ),
    (
        "a mask is not mirrored with its box",
        "tasks/detection.py",
        "found[OBJECT_MASKS] = masks",
        "found[OBJECT_MASKS] = batch[OBJECT_MASKS]",
        ("tasks/test_instances.py::test_a_mask_is_mirrored_with_its_box",),
    ),
    (
        "run lengths have no sign",
        "data/sources/outlines.py",
        "value -= (bits & 16) << (shift - 4)",
        "value -= 0 * ((bits & 16) << (shift - 4))",
        ("data/sources/test_outlines.py::test_run_lengths_are_read_in_both_forms",),
    ),
    (
        "two hard negatives for each anchor with an object",
        "models/detection/ssd.py",
        "_NEGATIVES = 3",
        "_NEGATIVES = 2",
        ("models/detection/test_ssd.py::test_outputs_losses_and_boxes_are_torchvisions",),
    ),
    (
        "the best anchor of an object is not forced to it",
        "models/detection/matching.py",
        "return jnp.where(forced >= 0, forced, matched)",
        "return jnp.where(forced >= 99, forced, matched)",
        ("models/detection/test_ssd.py::test_outputs_losses_and_boxes_are_torchvisions",),
    ),
    (
        "a place goes to the first object that wants it",
        "models/detection/yolox.py",
        "jnp.where(wanted_by > 1, cheapest, mine.argmax(0))",
        "jnp.where(wanted_by > 99, cheapest, mine.argmax(0))",
        (
            "models/detection/test_yolox.py::"
            "test_places_are_assigned_as_one_object_after_another_would_be",
        ),
    ),
    (
        "YOLOX's own files stay blue first",
        "weights/detectors.py",
        "return parts[:, :, ::-1].reshape(kernel.shape)",
        "return parts.reshape(kernel.shape)",
        ("models/detection/test_yolox.py::test_its_own_files_are_read_for_rgb",),
    ),
    (
        "SSD's ground is never larger than the image",
        "data/images/object_crop.py",
        "ground = ground * (1 + (_MOST - 1) * draws[1])",
        "ground = ground * 1.0",
        ("data/images/test_object_crop.py::test_crops_are_distributed_as_torchvisions",),
    ),
    (
        "uncertain losses count more",
        "tasks/multi_task.py",
        "share = jnp.exp(-variances[name])",
        "share = jnp.exp(variances[name])",
        ("tasks/test_multi_task.py::test_learned_weights_are_those_of_the_paper",),
    ),
    (
        "areas stay those of the photo that was made smaller",
        "data/preparation/stored_objects.py",
        "objects.area) * scale",
        "objects.area) * 1.0",
        ("data/preparation/test_stored_objects.py::test_areas_are_those_of_what_is_stored",),
    ),
)
