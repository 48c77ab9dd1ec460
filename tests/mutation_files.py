"""The breaks of data, weights, processes and what is shown; see `mutation_table`."""

TORCH_FILES = "weights/test_torch_file.py::test_files_that_torch_wrote_are_read_without_it"

BREAKS_OF_FILES = (
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
        "training on the held-out tenth",
        "data/sources/held_out.py",
        "np.flatnonzero(held_out != train)",
        "np.flatnonzero(held_out | train)",
        (
            "data/sources/test_held_out.py::"
            "test_a_tenth_of_each_class_is_held_out_of_files_without_splits",
        ),
    ),
    (
        "the crop is off the middle",
        "data/images/preprocess.py",
        "return -round((height - size) / 2), -round((width - size) / 2), height, width",
        "return -round((height - size) / 2), -round((width - size) / 4), height, width",
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
        "classes by their number",
        "inference/evaluate.py",
        "split.label_map = _labels(names, known)",
        "_labels(names, known)",
        (
            "inference/test_evaluate.py::test_a_part_of_imagenet_in_another_order_is_evaluated[synset]",
        ),
    ),
    (
        "fewer repeats use crops again",
        "training/position.py",
        "epoch_offset += next_epoch * (copies - repeats)",
        "epoch_offset += (next_epoch - 1) * (copies - repeats)",
        ("training/test_position.py::test_no_augmentation_comes_twice_when_repeats_change",),
    ),
    (
        "one of two splits stands for validation",
        "data/names.py",
        "or len(others) != 1",
        "or not others",
        ("data/test_catalog.py::test_no_split_stands_for_another_where_it_is_not_clear",),
    ),
    (
        "a model without BatchNorm is held to its groups",
        "training/checks.py",
        "if frozen or not has_norms:",
        "if frozen:",
        (
            "training/test_checks.py::test_groups_of_images_count_only_where_batch_statistics_are_"
            "computed",
        ),
    ),
    (
        "a PReLU's slope is above zero",
        "models/layers/prelu.py",
        "return jnp.where(x > 0, x, slope * x)",
        "return jnp.where(x > 0, slope * x, x)",
        (
            "models/heads/test_face_embedders.py::"
            "test_embeddings_are_the_references_by_its_names[mobilefacenet]",
        ),
    ),
    (
        "an embedding's file is one of classes",
        "weights/load.py",
        "if not may_lack_head:",
        "if False:",
        ("weights/test_embedders.py::test_a_classifier_takes_over_what_is_before_the_embedding",),
    ),
)
