"""The breaks of learning without labels and with few; see `mutation_table`."""

SELF = "tasks/test_self_supervised.py::"
LOSSES = "tasks/test_view_losses.py::"
CROPS = "data/test_crop_views.py::"
MASKED = (
    "models/heads/test_masked_autoencoder.py::"
    "test_encoder_masks_decoder_and_loss_are_those_of_the_paper[token-learn]"
)

BREAKS_OF_PRETRAINING = (
    (
        "negatives are those of one device",
        "tasks/simclr.py",
        "others = self.gathered((vectors, jnp.repeat(targets.mask, 2)))",
        "others = vectors, jnp.repeat(targets.mask, 2)",
        (f"{SELF}test_eight_devices_compare_the_views_of_all[simclr-shard_map]",),
    ),
    (
        "a view is its own negative",
        "tasks/view_losses.py",
        "candidates = there[None] & (columns != places[:, None])",
        "candidates = there[None] & (columns >= 0)",
        (f"{LOSSES}test_simclr_tells_a_view_from_all_others_that_could_be_read",),
    ),
    (
        "what the teacher saw is compared with the same view",
        "tasks/view_losses.py",
        "same = jnp.eye(views, student.shape[1], dtype=bool)[None]",
        "same = jnp.zeros((1, views, student.shape[1]), bool)",
        (f"{LOSSES}test_dino_is_the_cross_entropy_of_all_pairs_of_different_views",),
    ),
    (
        "the views of an image have one key",
        "augment/crop_views.py",
        "lambda v: jax.random.fold_in(k, v)",
        "lambda v: jax.random.fold_in(k, 0 * v)",
        (f"{SELF}test_views_are_augmented_each_by_itself",),
    ),
    (
        "all crops of an image are the same",
        "data/crop_views.py",
        "return Rows(index, epoch + later, mask)",
        "return Rows(index, epoch + 0 * later, mask)",
        (f"{CROPS}test_each_view_is_the_crop_of_its_own_number",),
    ),
    (
        "small crops cover as much as large ones",
        "data/images/preprocess.py",
        "boxes.random_resized_crop(shape, uniform, data.local_area, data.crop_ratio)",
        "boxes.random_resized_crop(shape, uniform, data.crop_area, data.crop_ratio)",
        (f"{CROPS}test_each_view_is_the_crop_of_its_own_number",),
    ),
    (
        "the centre stays where it is",
        "models/heads/projector.py",
        "self.centre.value = self.momentum * self.centre.value + moved",
        "self.centre.value = self.centre.value + 0 * moved",
        (f"{SELF}test_prototypes_wait_and_the_centre_follows_the_teacher",),
    ),
    (
        "prototypes do not wait",
        "models/heads/projector.py",
        "kernel = jnp.where(frozen, jax.lax.stop_gradient(kernel), kernel)",
        "del frozen",
        (f"{SELF}test_prototypes_wait_and_the_centre_follows_the_teacher",),
    ),
    (
        "the decay of the average stays",
        "training/averages.py",
        "(1.0 + jnp.cos(jnp.pi * done)) / 2.0",
        "(1.0 + jnp.cos(0.0 * done)) / 2.0",
        (f"{SELF}test_the_average_is_kept_more_and_more_by_a_cosine",),
    ),
    (
        "weight decay stays",
        "training/optimizers/decay.py",
        "jnp.cos(jnp.pi * progress(count))",
        "jnp.cos(0.0 * progress(count))",
        ("training/test_optim.py::test_weight_decay_goes_to_its_end_by_a_cosine",),
    ),
    (
        "images that are not clear count",
        "tasks/consistency_losses.py",
        "return jnp.where(confident, loss, 0), confident",
        "return loss, confident",
        ("tasks/test_consistency_losses.py::test_clear_classes_are_learnt[0.7]",),
    ),
    (
        "the loss without labels is divided by the images with some",
        "tasks/semi_supervised.py",
        '"unlabelled": (batch["mask"] & ~labelled).sum(),',
        '"unlabelled": (batch["mask"] & labelled).sum(),',
        ("tasks/test_semi_supervised.py::test_the_loss_is_that_of_the_papers[fixmatch]",),
    ),
    (
        "the teacher sees what the student sees",
        "augment/views.py",
        "jax.random.fold_in(jax.random.fold_in(key, _VIEWS), number) if number else key",
        "key",
        ("tasks/test_semi_supervised.py::test_the_views_of_an_image[mean_teacher]",),
    ),
    (
        "hidden labels reach the batch",
        "data/sources/labelled.py",
        "return images, {**values, ONE: self._labels[index]}, mask",
        "return images, values, mask",
        ("data/test_labelled_order.py::test_batches_have_no_label_of_the_others",),
    ),
    (
        "both streams of a batch are at one place",
        "data/labelled_order.py",
        "np.arange(self.batch_size) - before + seen - done",
        "np.arange(self.batch_size) - before + done",
        (
            "data/test_labelled_order.py::"
            "test_each_batch_has_the_share_and_each_stream_its_own_epochs",
        ),
    ),
    (
        "other images have labels than those of a smaller number",
        "data/sources/labelled.py",
        "order = permutation(seed, _CHOICE, len(labels))",
        "order = permutation(seed, _CHOICE + data.labelled_per_class, len(labels))",
        (
            "data/test_labelled_order.py::"
            "test_the_chosen_images_are_balanced_and_follow_from_the_seed",
        ),
    ),
    (
        "all patches of an image are told, and not those that are hidden",
        "tasks/mae_pixels.py",
        "jnp.where(found.masked, error, 0).sum(1) / found.masked.sum(1)",
        "error.mean(1)",
        (MASKED,),
    ),
    (
        "the decoder has patches in the order in which the encoder saw them",
        "models/heads/masked_autoencoder.py",
        "jnp.take_along_axis(in_order, rank[..., None], 1)",
        "in_order",
        (MASKED,),
    ),
    (
        "the first patches of an image are seen, and not those of the least noise",
        "models/heads/masked_autoencoder.py",
        "Visible(image, order[:, :seen])",
        "Visible(image, rank[:, :seen])",
        (MASKED,),
    ),
    (
        "which patches are hidden is another matter on each device",
        "tasks/mae.py",
        'keys = example_keys(key, batch["epoch"], batch["index"])',
        'keys = example_keys(key, batch["epoch"], jnp.arange(batch["index"].shape[0]))',
        ("tasks/test_mae.py::test_eight_devices_hide_the_patches_that_one_does[shard_map-1]",),
    ),
    (
        "a class token's position stays with the first patch",
        "weights/masked_autoencoder.py",
        "if has else places[:, 1:]",
        "if has else places[:, :-1]",
        ("tasks/test_mae_run.py::test_every_pool_starts_from_every_encoder[True-avg-learn]",),
    ),
)
