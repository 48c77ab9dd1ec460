"""The breaks of learning without labels; see `mutation_table`."""

SELF = "tasks/test_self_supervised.py::"
LOSSES = "tasks/test_view_losses.py::"
CROPS = "data/test_crop_views.py::"

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
)
