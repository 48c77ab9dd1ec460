"""The breaks that `mutations.py` tries: name, file, the line, the line broken, what has to fail.

The first five were noticed by no test once.
"""

CLOSED_FORM = "training/test_one_step.py::test_head_and_auxiliary_head_move_by_their_gradients"
DROPOUT = (
    "training/test_one_step.py::test_dropout_is_another_at_every_step_and_in_every_micro_batch"
)
EVALUATION = (
    "training/test_one_step.py::test_evaluation_is_of_the_running_statistics_and_without_smoothing"
)
EIGHT = "training/test_step.py::test_eight_devices_give_the_numbers_of_one[2-shard_map]"
OWN_KEY = "augment/test_augment.py::test_whatever_is_drawn_has_a_key_of_its_own"
PLACE = (
    "augment/test_augment.py::"
    "test_randomness_is_of_key_epoch_and_index_not_of_the_place_in_the_batch"
)
SUMS_TWICE = (
    "devices/test_sharding.py::test_a_block_of_a_cut_transformer_sums_twice_over_the_devices"
)
KEPT = "training/test_checkpoint.py::test_the_latest_and_the_best_are_kept"
DAMAGED = "training/test_checkpoint.py::test_damaged_newest_is_passed_over_with_a_warning"
INTERRUPTED = (
    "training/test_resume.py::test_interrupted_run_ends_with_the_bits_of_an_undisturbed_one"
)
TORCH_FILES = "weights/test_torch_file.py::test_files_that_torch_wrote_are_read_without_it"

BREAKS = (
    (
        "the flip reuses the shift's key",
        "augment/__init__.py",
        "random_flip(image, fold_in(keys, 1))",
        "random_flip(image, fold_in(keys, 0))",
        (OWN_KEY,),
    ),
    (
        "the same dropout at every step",
        "training/step.py",
        "key = jax.random.fold_in(rng, state.step)",
        "key = rng",
        (DROPOUT,),
    ),
    (
        "no auxiliary loss",
        "tasks/classes.py",
        "Term(self.config.loss.auxiliary, over",
        "Term(0.0, over",
        (CLOSED_FORM,),
    ),
    (
        "statistics are not averaged",
        "training/step.py",
        'new = {"params": params, "batch_stats": batch_stats}',
        'new = {"params": params, "batch_stats": state.ema["batch_stats"]}',
        (CLOSED_FORM,),
    ),
    (
        "fc2 is cut along its outputs",
        "devices/sharding.py",
        r'(r"mlp\w*/fc2/kernel$", 0)',
        r'(r"mlp\w*/fc2/kernel$", 1)',
        (SUMS_TWICE,),
    ),
    # The step.
    (
        "the same dropout in every micro-batch",
        "training/step.py",
        "jax.random.split(key, count)",
        "jnp.stack([key] * count)",
        (DROPOUT,),
    ),
    (
        "a mean over the micro-batch",
        "training/step.py",
        "jnp.where(mask, weighted, 0).sum() / denominators[terms[name].over]",
        "jnp.where(mask, weighted, 0).sum() / mask.sum()",
        ("training/test_step.py::test_accumulated_gradient_is_that_of_the_whole_batch[jit]",),
    ),
    (
        "a mean over the device's share",
        "training/step.py",
        "denominators = over_devices(task.denominators(batch))",
        "denominators = task.denominators(batch)",
        (EIGHT,),
    ),
    (
        "statistics are summed over devices",
        "training/step.py",
        "lambda x: x / jax.lax.axis_size(axis_name), batch_stats",
        "lambda x: x, batch_stats",
        (EIGHT,),
    ),
    (
        "the average's decay starts elsewhere",
        "training/step.py",
        "(1.0 + state.step) / (10.0 + state.step)",
        "(1.0 + state.step) / (1.0 + state.step)",
        (CLOSED_FORM,),
    ),
    (
        "labels are not smoothed",
        "tasks/classification.py",
        "targets, self.config.loss.label_smoothing",
        "targets, 0.0",
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
        "a frozen backbone's statistics move",
        "training/step.py",
        "train=tuning.trains_backbone",
        "train=True",
        ("training/test_tuning.py::test_a_frozen_backbone_is_really_frozen",),
    ),
    (
        "micro-batches part the pairs",
        "tasks/classes.py",
        "2 if augment.is_mixing(self.config.augment) else 1",
        "1",
        (
            "training/test_step.py::test_augmentation_does_not_depend_on_devices_and_micro_batches[pair-jit-2]",
        ),
    ),
    (
        "the state is copied",
        "devices/parallel.py",
        "donate_argnums=(0,) if donate else ()",
        "donate_argnums=()",
        ("training/test_step.py::test_the_state_is_donated",),
    ),
    (
        "a vector of all dtypes is cut at the wrong ends",
        "devices/parallel.py",
        "parts = jnp.split(jax.lax.psum(vector, axis_name), ends[:-1])",
        "parts = jnp.split(jax.lax.psum(vector, axis_name), len(ends))",
        ("devices/test_parallel.py::test_all_reduce_sums_every_leaf",),
    ),
    # Augmentation.
    (
        "the flip is upside down",
        "augment/geometry.py",
        "image[:, :, ::-1]",
        "image[:, ::-1]",
        ("augment/test_augment.py::test_flip_mirrors_about_half_and_leaves_the_rest",),
    ),
    (
        "the largest shift is never drawn",
        "augment/geometry.py",
        "jax.random.randint(key, (2,), 0, 2 * pad + 1)",
        "jax.random.randint(key, (2,), 0, 2 * pad)",
        ("augment/test_augment.py::test_translate_shows_every_shifted_window_of_the_padded_image",),
    ),
    (
        "every epoch is augmented alike",
        "augment/keys.py",
        "jax.random.fold_in(jax.random.fold_in(key, e), i)",
        "jax.random.fold_in(key, i)",
        (f"{PLACE}[erasing]",),
    ),
    (
        "erasing of the others",
        "augment/geometry.py",
        "(draw[4, 0] < augment.erase)",
        "(draw[4, 0] > augment.erase)",
        ("augment/test_geometry.py::test_erasing_covers_one_box_of_a_share_of_the_images",),
    ),
    (
        "means are not divided by the deviations",
        "augment/color.py",
        "(1 / (255 * std)) - mean / std",
        "(1 / (255 * std)) - mean",
        ("augment/test_augment.py::test_normalize_equals_numpy",),
    ),
    (
        "one of two instead of three",
        "augment/color.py",
        "which = (3 * uniform(fold_in(keys, 1))).astype(jnp.int32)",
        "which = (2 * uniform(fold_in(keys, 1))).astype(jnp.int32)",
        (
            "augment/test_color.py::test_three_augment_makes_a_third_grey_a_third_solarized_and_"
            "blurs_the_rest",
        ),
    ),
    (
        "the partner's label is one's own",
        "augment/mix.py",
        "[:, ::-1].reshape(label.shape)",
        ".reshape(label.shape)",
        (
            "augment/test_mix.py::test_mixup_blends_neighbours_with_the_weight_of_their_labels",
            "augment/test_mix.py::test_cutmix_swaps_a_box_and_weighs_by_its_area",
        ),
    ),
    (
        "the weight is not the area's",
        "augment/mix.py",
        "kept = 1 - box[2] * box[3] / (height * width)",
        "kept = share",
        ("augment/test_mix.py::test_cutmix_swaps_a_box_and_weighs_by_its_area",),
    ),
    (
        "padding is mixed in",
        "augment/mix.py",
        'batch["mask"].reshape(-1, 2).all(1)',
        'batch["mask"].reshape(-1, 2).any(1)',
        ("augment/test_mix.py::test_rows_that_do_not_count_are_not_mixed_in",),
    ),
    # The order of the data, and how they become a batch.
    (
        "every epoch in the same order",
        "data/order.py",
        "shuffled(self.seed, int(number), self.num_examples, place[of_epoch])",
        "shuffled(self.seed, 0, self.num_examples, place[of_epoch])",
        ("data/test_order.py::test_batches_run_across_the_ends_of_epochs",),
    ),
    (
        "seed and epoch change places",
        "data/shuffle.py",
        "np.array([seed, epoch], np.uint64)).random_raw(num_examples)",
        "np.array([epoch, seed], np.uint64)).random_raw(num_examples)",
        ("data/test_order.py::test_the_order_is_that_of_earlier_versions",),
    ),
    (
        "one example beyond the last",
        "data/order.py",
        "mask = position < self.num_examples",
        "mask = position <= self.num_examples",
        ("data/test_order.py::test_evaluation_has_each_example_once_then_padding",),
    ),
    (
        "copies of an example are alike",
        "data/order.py",
        "epoch = epoch * self.repeats + copy",
        "epoch = epoch * self.repeats",
        (
            "data/test_order.py::test_repeated_augmentation_has_each_example_so_often_in_a_batch_"
            "and_a_pass",
        ),
    ),
    (
        "training on what was held out",
        "data/sources/parts.py",
        "order[~held_out if train else held_out]",
        "order[held_out]",
        ("data/sources/test_parts.py",),
    ),
    (
        "the crop is off the middle",
        "data/images/preprocess.py",
        "top, left = round((height - size) / 2), round((width - size) / 2)",
        "top, left = round((height - size) / 2), round((width - size) / 4)",
        (
            "data/images/test_preprocess.py::test_without_antialias_the_short_side_is_resized_as_well",
        ),
    ),
    (
        "evaluation from a smaller JPEG",
        "data/images/preprocess.py",
        "if self.train and self.data.draft and",
        "if self.data.draft and",
        ("data/images/test_preprocess.py::test_evaluation_is_never_decoded_at_a_fraction",),
    ),
    # Losses and metrics.
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
    # Schedules and optimizers.
    (
        "biases decay",
        "training/optim.py",
        'found.search("/".join(key.key for key in path)) is not None',
        "True",
        ("training/test_optim.py::test_sgd_is_torchs_formula_with_decay_on_kernels_only",),
    ),
    (
        "the end is no share of the peak",
        "training/optim.py",
        "optax.linear_schedule(peak, peak * schedule.end, rest)",
        "optax.linear_schedule(peak, schedule.end, rest)",
        ("training/test_optim.py::test_linear_down_to_the_end_share",),
    ),
    (
        "drops are counted from the warmup's end",
        "training/optim.py",
        "(steps(duration) - warmup for duration",
        "(steps(duration) for duration",
        ("training/test_optim.py::test_step_drops_are_counted_from_the_start_of_the_run",),
    ),
    (
        "the update is clipped, not the gradient",
        "training/optim.py",
        "return optax.chain(clip, update)",
        "return optax.chain(update, clip)",
        ("training/test_optim.py::test_clip_norm_bounds_the_first_update",),
    ),
    # Sharding.
    (
        "slices get no part of the batch",
        "devices/sharding.py",
        "sizes[DATA_AXIS] *= slices",
        "sizes[DATA_AXIS] *= 1",
        ("devices/test_sharding.py::test_mesh_shape",),
    ),
    (
        "along fsdp all see the same images",
        "devices/sharding.py",
        "if axis != TENSOR_AXIS",
        "if axis == DATA_AXIS",
        ("devices/test_sharding.py::test_the_batch_is_spread_over_all_but_the_axis_tensor",),
    ),
    (
        "heads that could be spread are refused",
        "devices/sharding.py",
        "if heads and heads % size:",
        "if heads and size % heads:",
        ("devices/test_sharding.py::test_heads_that_the_devices_divide_are_spread",),
    ),
    (
        "heads that do not divide pass",
        "devices/sharding.py",
        "if heads and heads % size:",
        "if heads and heads < size:",
        ("devices/test_sharding.py::test_what_cannot_be_spread_is_refused",),
    ),
    (
        "small arrays are spread too",
        "devices/sharding.py",
        "math.prod(shape) >= _SMALLEST_SHARDED",
        "math.prod(shape) <= _SMALLEST_SHARDED",
        ("devices/test_sharding.py::test_a_device_holds_its_share_of_the_state",),
    ),
    # Checkpoints.
    (
        "a NaN is saved",
        "training/checkpoint.py",
        "if not finite:",
        "if finite is None:",
        ("training/test_checkpoint.py::test_state_that_is_not_finite_is_not_saved",),
    ),
    (
        "what was read is not checked",
        "training/checkpoint.py",
        'return "" if found == written else',
        'return "" if found is not None else',
        ("training/test_checkpoint.py::test_another_state_than_was_written_is_damaged",),
    ),
    (
        "the oldest is taken first",
        "training/checkpoint.py",
        "steps = sorted(self._manager.all_steps(), reverse=True)",
        "steps = sorted(self._manager.all_steps())",
        (KEPT,),
    ),
    (
        "the best is the latest",
        "training/checkpoint.py",
        "[best, *(step for step in steps if step != best)]",
        "steps",
        (KEPT,),
    ),
    (
        "the best is not kept",
        "training/checkpoint_manager.py",
        "AnyPreservationPolicy([LatestN(keep), best])",
        "AnyPreservationPolicy([LatestN(keep)])",
        (KEPT,),
    ),
    (
        "Orbax gets what is donated",
        "training/checkpoint.py",
        "copy = self._copy(state)",
        "copy = state",
        ("training/test_checkpoint.py::test_training_goes_on_while_orbax_takes_a_copy",),
    ),
    (
        "damaged ones stay in the way",
        "training/checkpoint.py",
        "if set_aside_damaged:",
        "if not set_aside_damaged:",
        (f"{DAMAGED}[cut_short]",),
    ),
    (
        "a run begins its data again",
        "training/loop.py",
        "run.train_split.train_batches(rows, run.step, total, offset)",
        "run.train_split.train_batches(rows, 0, total, offset)",
        (INTERRUPTED,),
    ),
    (
        "a prevented evaluation is forgotten",
        "training/run.py",
        '"evaluation_due": self.evaluation_due,',
        '"evaluation_due": False,',
        ("training/test_resume.py::test_evaluations_that_signals_prevent_are_done_on_resume",),
    ),
    (
        "the position counts steps of today's size",
        "training/position.py",
        "distinct_offset=distinct - step * (batch_size // repeats),",
        "distinct_offset=0,",
        (
            "training/test_resume.py::test_another_batch_size_goes_on_with_the_examples_not_yet_seen",
        ),
    ),
    (
        "the rate counts steps of today's size",
        "training/optim.py",
        "rate(step + course.shift)",
        "rate(step)",
        (
            "training/test_resume.py::test_another_batch_size_goes_on_with_the_examples_not_yet_seen",
        ),
    ),
    (
        "a number that is another process's now keeps the lock",
        "hosts/holder.py",
        "return _runs(self.pid) and _started(self.pid) == self.started",
        "return _runs(self.pid)",
        (
            "hosts/test_lock.py::test_the_lock_of_a_dead_process_of_this_machine_is_taken_over_at_once",
        ),
    ),
    (
        "all stop a place later than they could",
        "hosts/preemption.py",
        "self._place >= self._stop_at",
        "self._place > self._stop_at",
        ("hosts/test_preemption.py::test_all_stop_at_the_first_place_that_none_has_passed",),
    ),
    # Weights.
    (
        "height and width change places",
        "weights/torch_layout.py",
        "array.transpose((3, 2, 0, 1) if",
        "array.transpose((3, 2, 1, 0) if",
        ("weights/test_torch_layout.py::test_names_and_axes_are_torchs",),
    ),
    (
        "channels change places",
        "weights/torch_layout.py",
        "array.transpose((2, 3, 1, 0) if",
        "array.transpose((2, 3, 0, 1) if",
        ("weights/test_torch_layout.py::test_export_and_import_are_exact",),
    ),
    (
        "strides are forgotten",
        "weights/torch_file.py",
        "[stride * values.itemsize for stride in strides]",
        "[values.itemsize * stride for stride in sorted(strides, reverse=True)]",
        (TORCH_FILES,),
    ),
    (
        "all begin where the storage does",
        "weights/torch_file.py",
        "values[offset:], shape",
        "values, shape",
        (TORCH_FILES,),
    ),
    (
        "a grey image has a third of the colour",
        "weights/adapt.py",
        "return array.sum(2, keepdims=True)",
        "return array.mean(2, keepdims=True)",
        ("training/test_tuning.py::test_another_size_other_classes_and_grey_images",),
    ),
    # Evaluation.
    (
        "the batch is rounded down",
        "data/order.py",
        "return -(-size // multiple) * multiple",
        "return size // multiple * multiple",
        ("data/test_order.py::test_batches_are_as_even_as_can_be",),
    ),
    (
        "devices count apart",
        "training/step.py",
        "sums, observed = jax.lax.psum(sums, axis_name),",
        "sums, observed = sums,",
        ("inference/test_evaluate.py::test_partitioners_count_the_same[shard_map-7]",),
    ),
    (
        "the average is not evaluated",
        "training/state.py",
        'return self.ema or {"params"',
        'return {"params"',
        ("training/test_step.py::test_ema_is_the_running_average_of_the_parameters",),
    ),
    (
        "padding is observed",
        "training/evaluate.py",
        "array[mask] for name",
        "array for name",
        (
            "tasks/test_multilabel.py::"
            "test_metrics_are_scikit_learns_whatever_the_batches[8-24-jit]",
        ),
    ),
    (
        "classes by their number",
        "inference/evaluate.py",
        "split.label_map = _labels(split.source.class_names, trained.task.class_names)",
        "_labels(split.source.class_names, trained.task.class_names)",
        (
            "inference/test_evaluate.py::test_a_part_of_imagenet_in_another_order_is_evaluated[synset]",
        ),
    ),
)
