"""The breaks of explanations; see `mutation_table`."""

METHODS = "inference/explanation/test_methods.py::"
EXPLAIN = "inference/explanation/test_explain.py::"
MISTAKES = "inference/explanation/test_explained_mistakes.py::"

BREAKS_OF_EXPLANATIONS = (
    (
        "channels of Grad-CAM all count the same",
        "inference/explanation/grad_cam.py",
        "return jax.nn.relu((weights * x.astype(jnp.float32)).sum(-1))",
        "return jax.nn.relu(x.astype(jnp.float32).sum(-1))",
        (f"{METHODS}test_grad_cam_is_that_of_two_other_implementations[lenet]",),
    ),
    (
        "the points of the integral count the same",
        "inference/explanation/gradients.py",
        "total[image] += weights[step] * gradient",
        "total[image] += gradient / steps",
        (f"{METHODS}test_other_maps_are_captums[lenet]",),
    ),
    (
        "attention without its shortcut",
        "inference/explanation/attention.py",
        "whole = (of_block.mean(1) + one) / 2 @ whole",
        "whole = of_block.mean(1) @ whole",
        (f"{METHODS}test_attention_rollout_is_the_product_of_what_timm_attends_to[one token]",),
    ),
    (
        "a window beside the one that is hidden gets its fall",
        "inference/explanation/occlusion.py",
        "total[:, down, across] += fall[:, None, None]",
        "total[:, across, down] += fall[:, None, None]",
        (f"{METHODS}test_other_maps_are_captums[lenet]",),
    ),
    (
        "maps lie at the corner of the photo",
        "inference/explanation/photos.py",
        "return ((corners - whole[:2]) / scale).ravel()",
        "return (corners / scale).ravel()",
        (f"{EXPLAIN}test_facts_arrays_and_a_picture",),
    ),
    (
        "the best box is explained, whichever is asked for",
        "inference/explanation/targets.py",
        "number = numbers[wanted.box - 1]",
        "number = numbers[0]",
        (f"{EXPLAIN}test_a_box_has_the_score_that_is_told[fcos]",),
    ),
    (
        "other views are explained with the image",
        "inference/explanation/explainer.py",
        'config.eval.tta, config.eval.scales = "", (1.0,)',
        "pass",
        (f"{EXPLAIN}test_the_answer_for_the_image_alone_is_explained",),
    ),
    (
        "the true class has the map of the predicted one",
        "inference/explanation/mistakes.py",
        "yield _Tile(index, Wanted(int(label)), caption)",
        "yield _Tile(index, Wanted(int(found.predicted[place])), caption)",
        (f"{MISTAKES}test_of_a_classifier_both_classes_are_shown",),
    ),
)
