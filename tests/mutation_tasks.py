"""The breaks of tasks; see `mutation_table`."""

CLOSED_FORM = "training/test_one_step.py::test_head_and_auxiliary_head_move_by_their_gradients"
EVALUATION = (
    "training/test_one_step.py::test_evaluation_is_of_the_running_statistics_and_without_smoothing"
)
SUITES = "suites/test_suites.py::test_each_suite_is_what_numpy_makes_of_it"
TAUGHT = (
    "training/test_distillation.py::"
    "test_a_step_is_that_of_torch_and_the_teacher_sees_the_same_mix[soft-3.0-0.7]"
)


BREAKS_OF_TASKS = (
    (
        "an image is its own other image of a class",
        "tasks/metric_losses.py",
        "return Pairs(there & alike & ~itself, there & ~alike)",
        "return Pairs(there & alike, there & ~alike)",
        ("tasks/test_metric_losses.py::test_semi_hard_triplets_are_facenets[0-whole]",),
    ),
    (
        "a masked NaN spreads",
        "tasks/metrics.py",
        '"loss": jnp.where(mask, loss, 0).sum(),',
        '"loss": (mask * loss).sum(),',
        ("tasks/test_metrics.py::test_masked_nan_loss_does_not_spread",),
    ),
    (
        "padding counts",
        "tasks/metrics.py",
        '"count": mask.sum(dtype=jnp.int32),',
        '"count": jnp.int32(len(mask)),',
        ("tasks/test_metrics.py::test_masked_examples_do_not_count",),
    ),
    (
        "rows of the second device are taken for those of the first",
        "devices/parallel.py",
        "numbers if axis_name is None else numbers + count * jax.lax.axis_index(axis_name)",
        "numbers",
        ("tasks/test_embedding.py::test_eight_devices_compare_the_images_of_all",),
    ),
    (
        "a class gives the same images in every round",
        "data/per_class_order.py",
        "np.full_like(copy, done), block * self.per_class + copy",
        "np.full_like(copy, done), copy",
        (
            "data/test_per_class_order.py::"
            "test_a_class_goes_through_its_images_before_they_come_again",
        ),
    ),
    (
        "a pair counts in the group of its first image",
        "tasks/group_results.py",
        "np.where(ends[0] == ends[1], ends[0], -1)",
        "ends[0]",
        (
            "tasks/test_groups.py::"
            "test_counts_of_groups_are_those_of_their_pairs_one_by_one[0.02-left_out0]",
        ),
    ),
    (
        "a fold has its own best threshold",
        "tasks/verification.py",
        "best_threshold(self.distances[~mine], self.pairs.same[~mine])",
        "best_threshold(self.distances[mine], self.pairs.same[mine])",
        ("tasks/test_verification.py::test_each_fold_has_the_threshold_of_the_others",),
    ),
    (
        "boxes are not mirrored with their image",
        "tasks/detection.py",
        "boxes = augment.train_boxes(batch[BOXES], size, batch, key, self.config.augment)",
        "boxes = batch[BOXES]",
        ("tasks/test_detection.py::test_an_image_and_its_boxes_are_mirrored_together",),
    ),
    (
        "boxes of a mirror image are not mirrored back",
        "tasks/views.py",
        "(mirrored_boxes(boxes, size) if self.mirrored else boxes) / self.scale",
        "boxes / self.scale",
        ("tasks/test_detection.py::test_what_is_found_in_other_views_is_moved_back",),
    ),
    (
        "padding is an object",
        "models/detection/matching.py",
        "jnp.where(valid[..., None], iou, -1.0)",
        "iou",
        (
            "models/detection/test_detector.py::"
            "test_nothing_is_found_in_padding_and_gradients_are_finite_without_objects",
        ),
    ),
    (
        "a suppressed box suppresses others",
        "models/detection/nms.py",
        "(rivals & kept[:, None]).any(0)",
        "(rivals & valid[:, None]).any(0)",
        ("models/detection/test_nms.py::test_a_chain_is_followed_to_its_end",),
    ),
    (
        "the sample depends on the place in the batch",
        "models/detection/sampling.py",
        "lambda row, key: _of_image(row, key, count, share))(matched, keys)",
        "lambda row, key: _of_image(row, key, count, share))(matched, keys[::-1])",
        (
            "models/detection/test_faster_rcnn.py::"
            "test_the_sample_has_the_asked_for_shares_and_depends_on_the_images_key_alone",
        ),
    ),
    (
        "objects beyond the room are lost in silence",
        "data/sources/objects.py",
        "left_out = [int((~seen).sum()), int(seen.sum()) - len(kept)]",
        "left_out = [int((~seen).sum()), 0]",
        (
            "data/sources/test_objects.py::"
            "test_ten_thousand_images_lose_no_object_without_counting_it",
        ),
    ),
    (
        "Pascal VOC's pixels are numbered from 0",
        "data/sources/voc_xml.py",
        "checks.inside((left - 1, top - 1, right, bottom)",
        "checks.inside((left, top, right, bottom)",
        ("data/sources/test_box_files.py::test_vocs_layout",),
    ),
    (
        "ignored objects count",
        "tasks/box_meter.py",
        '"iscrowd": int(ignored)',
        '"iscrowd": 0',
        ("tasks/test_box_meter.py::test_the_objects_themselves_have_an_average_precision_of_one",),
    ),
    (
        "a map is not mirrored with its image",
        "tasks/segmentation.py",
        "levels = augment.train_map(levels, batch, key, self.config.augment)",
        "levels = levels",
        ("tasks/test_segmentation.py::test_an_image_and_its_map_are_mirrored_together",),
    ),
    (
        "pixels without a class count",
        "tasks/pixel_metrics.py",
        "said &= (pair[1] < num_classes).reshape(-1, 1)",
        "said &= True",
        ("tasks/test_segmentation.py::test_metrics_are_scikit_learns",),
    ),
    (
        "a map is a pixel beside its image",
        "data/images/preprocess.py",
        "nearest.append(((place[inside] + 0.5) * whole / side).astype(np.int64))",
        "nearest.append(((place[inside] - 0.5) * whole / side).astype(np.int64))",
        ("data/images/test_class_map.py::test_levels_can_stand_for_others",),
    ),
    (
        "the classes that a suite lacks are compared too",
        "suites/task.py",
        "jnp.where(targets.label == LEFT_OUT, -jnp.inf, predictions)",
        "predictions",
        (SUITES,),
    ),
    (
        "images without a right class count as wrong",
        "suites/task.py",
        "loss, mask & counts)",
        "loss, mask)",
        ("suites/test_suites.py::test_data_sets_of_tfds_are_found_by_their_names",),
    ),
    (
        "numbers of folders are put in alphabetical order",
        "suites/sets.py",
        "names = map(str, range(len(known)))",
        "names = sorted(map(str, range(len(known))))",
        (SUITES,),
    ),
    (
        "the red border of ObjectNet's images is seen",
        "suites/sets.py",
        "_BORDER = 2",
        "_BORDER = 0",
        (SUITES,),
    ),
    (
        "mCE is the mean error over AlexNet's mean error",
        "suites/results.py",
        'float(np.mean([one["ce"] for one in corruptions.values()]))',
        'result["error"] / float(np.mean([ALEXNET_ERROR[name] for name in corruptions]))',
        ("suites/test_suites.py::test_mce_is_that_of_hendrycks_and_dietterich",),
    ),
    (
        "suites are evaluated in training and not logged",
        "training/evaluations.py",
        "return found | self.suites",
        "return found",
        ("suites/test_in_training.py::test_suites_are_evaluated_each_time",),
    ),
    (
        "the second best class is right in the tables",
        "tasks/answers.py",
        '"correct": rank_of(logits, label) < 1',
        '"correct": rank_of(logits, label) < 2',
        (
            "inference/test_mistakes.py::"
            "test_tables_on_eight_devices_are_those_of_the_plain_model[jit]",
        ),
    ),
    (
        "rows and columns of the confusion matrix change places",
        "reports/mistakes.py",
        "row[both] * len(classes) + column[both]",
        "column[both] * len(classes) + row[both]",
        (
            "inference/test_mistakes.py::"
            "test_tables_on_eight_devices_are_those_of_the_plain_model[jit]",
        ),
    ),
    (
        "no auxiliary loss",
        "tasks/classes.py",
        "Term(self.config.loss.auxiliary * (1 - share), over",
        "Term(0.0, over",
        (CLOSED_FORM,),
    ),
    (
        "labels are not smoothed",
        "tasks/classification.py",
        "mixed_cross_entropy(logits, targets, loss.label_smoothing, ",
        "mixed_cross_entropy(logits, targets, 0.0, ",
        (CLOSED_FORM,),
    ),
    (
        "evaluation smooths labels",
        "tasks/classification.py",
        "loss = cross_entropy(predictions, targets.label)",
        "loss = cross_entropy(predictions, targets.label, self.config.loss.label_smoothing)",
        (EVALUATION,),
    ),
    (
        "micro-batches part the pairs",
        "tasks/classes.py",
        "augment.rows_together(self.config.augment)",
        "1",
        (
            "training/test_step.py::test_augmentation_does_not_depend_on_devices_and_micro_batches[pair-jit-2]",
        ),
    ),
    (
        "the loss of images made of two is divided by what is read",
        "tasks/classes.py",
        'self.kept(batch["mask"]).sum()',
        'batch["mask"].sum()',
        ("augment/test_mix.py::test_the_network_gets_half_of_what_is_read",),
    ),
    (
        "the loss of a teacher forgets the square of the temperature",
        "tasks/distillation.py",
        "return temperature**2 * (jnp.exp(other)",
        "return (jnp.exp(other)",
        (TAUGHT,),
    ),
    (
        "a teacher is in training mode",
        "training/teacher.py",
        "self.model.apply(variables, inputs, train=False)",
        'self.model.apply(variables, inputs, train=True, mutable=["batch_stats"])[0]',
        (TAUGHT,),
    ),
    (
        "weighted examples are divided by their number",
        "tasks/classes.py",
        'over = "weights" if self.class_weights',
        'over = "examples" if self.class_weights',
        ("training/test_one_step.py::test_classes_count_as_in_torch[0.1]",),
    ),
    (
        "the augmented views have the label too",
        "tasks/classes.py",
        "self.loss(logits[:: self.views], targets)",
        "self.loss(logits[1 :: self.views], targets)",
        ("tasks/test_losses.py::test_views_are_compared_as_timm_does",),
    ),
    (
        "all augmented views are the same",
        "data/images/preprocess.py",
        "self.data, self.seed, epoch, index, number)",
        "self.data, self.seed, epoch, index, 0)",
        (
            "data/images/test_policies.py::"
            "test_views_of_an_image_are_its_crop_and_what_the_policy_makes_of_that",
        ),
    ),
    (
        "a sum over classes for a mean",
        "tasks/losses.py",
        "jax.nn.logsumexp(logits, axis=-1) - logits.mean(-1)",
        "jax.nn.logsumexp(logits, axis=-1) - logits.sum(-1)",
        ("tasks/test_losses.py",),
    ),
    (
        "the weights of a mix change places",
        "tasks/losses.py",
        "targets.weight * loss + (1 - targets.weight) * other",
        "(1 - targets.weight) * loss + targets.weight * other",
        ("augment/test_mix.py::test_the_loss_is_the_cross_entropy_of_the_soft_target",),
    ),
    (
        "top 6 for top 5",
        "tasks/metrics.py",
        "(mask & (rank < 5))",
        "(mask & (rank <= 5))",
        ("tasks/test_metrics.py::test_counts_equal_scikit_learn",),
    ),
    (
        "NaN is correct",
        "tasks/metrics.py",
        "~(logits <= own)",
        "(logits > own)",
        ("tasks/test_metrics.py::test_nan_is_never_correct",),
    ),
    # What is shown.
    (
        "the first batch is drawn by another key than the step's",
        "training/first_batch.py",
        "jax.random.wrap_key_data(np.asarray(state.rng))",
        "jax.random.key(config.seed)",
        (
            "reports/test_tracking.py::"
            "test_tensorboard_has_the_first_batch_and_what_goes_wrong_once",
        ),
    ),
    (
        "the surest mistakes of several labels come last",
        "reports/label_mistakes.py",
        "np.argsort(-worst, kind",
        "np.argsort(worst, kind",
        ("tasks/test_multilabel.py::test_the_most_certain_mistakes_come_first",),
    ),
    (
        "a trial that failed is not in the picture",
        "sweep/picture.py",
        "if failed:",
        "if not failed:",
        ("sweep/test_sweep.py::test_a_run_without_a_number_fails_and_names_of_any_kind_are_drawn",),
    ),
    (
        "TensorBoard takes the runs of a trial for trials",
        "sweep/hparams.py",
        "group_name=trial, ",
        "group_name=str(folder), ",
        ("sweep/test_sweep.py::test_a_grid_over_seeds_ranks_by_the_mean[False]",),
    ),
    # Schedules and optimizers.
)
