"""The breaks of what happens to images, and of networks; see `mutation_table`."""

OWN_KEY = "augment/test_augment.py::test_whatever_is_drawn_has_a_key_of_its_own"
PLACE = (
    "augment/test_augment.py::"
    "test_randomness_is_of_key_epoch_and_index_not_of_the_place_in_the_batch"
)
TAUGHT = (
    "training/test_distillation.py::"
    "test_a_step_is_that_of_torch_and_the_teacher_sees_the_same_mix[soft-3.0-0.7]"
)

BREAKS_OF_IMAGES = (
    (
        "the flip reuses the shift's key",
        "augment/__init__.py",
        "random_flip(image, fold_in(keys, 1))",
        "random_flip(image, fold_in(keys, 0))",
        (OWN_KEY,),
    ),
    (
        "mixup and CutMix have half of a batch by chance",
        "augment/mix.py",
        "jnp.arange(len(pairs)) % 2 == 1 if augment.switch_halves else None",
        "None",
        ("augment/test_mix.py::test_mixup_and_cutmix_have_half_of_a_batch_each[half]",),
    ),
    (
        "a face is turned the other way",
        "data/images/align.py",
        "(w * from_mean.conj()).sum()",
        "(w.conj() * from_mean).sum()",
        ("data/images/test_align.py::test_the_transform_is_umeyamas[3]",),
    ),
    (
        "the flip is upside down",
        "augment/geometry.py",
        "keys)\n    return jnp.where(flip[:, None, None, None], image[:, :, ::-1], image)",
        "keys)\n    return jnp.where(flip[:, None, None, None], image[:, ::-1], image)",
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
        "draw[-1, 0] < augment.erase",
        "draw[-1, 0] > augment.erase",
        ("augment/test_geometry.py::test_erasing_covers_one_box_of_a_share_of_the_images",),
    ),
    (
        "the jitter of TensorFlow scales brightness",
        "augment/color.py",
        "return image + shift[:, None, None, None]",
        "return image * (1 + shift[:, None, None, None])",
        ("augment/test_color.py::test_the_jitter_of_tensorflow_adds_and_cuts_at_its_end",),
    ),
    (
        "means are not divided by the deviations",
        "augment/color.py",
        "for part in (1 / (255 * std), mean / std)",
        "for part in (1 / (255 * std), mean)",
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
    (
        "both of a pair get one ratio",
        "augment/mix.py",
        'example_keys(key, batch["epoch"][which], batch["index"][which]), 4)',
        'example_keys(key, batch["epoch"][which], batch["index"][which] // 2), 4)',
        ("augment/test_mix.py::test_each_image_has_a_ratio_and_a_box_of_its_own",),
    ),
    (
        "each of several boxes has the whole area",
        "augment/geometry.py",
        "jnp.array(augment.erase_area) / count if most > 1",
        "jnp.array(augment.erase_area) if most > 1",
        ("augment/test_geometry.py::test_several_boxes_share_the_area_as_timms",),
    ),
    (
        "posterize keeps more the larger its magnitude is",
        "data/images/randaugment_timm.py",
        "_keep_bits(image, 4 - int(4 * share))",
        "_keep_bits(image, int(4 * share))",
        ("data/images/test_randaugment_timm.py::test_operations_are_timms[True]",),
    ),
    (
        "shortcuts are not blurred",
        "models/resnet.py",
        "x, stride = blur(x, stride), 1",
        "pass",
        (
            "models/test_equality.py::test_other_forms_are_the_references["
            "resnet50-{'stage_sizes': (1, 1, 1, 1), 'blur_pool': 'all'}]",
        ),
    ),
    (
        "norms that start at zero are drawn too",
        "models/resnet.py",
        "last_scale=nn.initializers.zeros if zero else None",
        "last_scale=None",
        (
            "models/test_initial_values.py::"
            "test_scales_of_norms_are_uniform_but_for_those_that_start_at_zero[True]",
        ),
    ),
    # The order of the data, and how they become a batch.
    (
        "a teacher's images are normalised as the run's are",
        "training/teacher.py",
        "augment.std, self.mean, self.std)",
        "augment.std, augment.mean, augment.std)",
        (TAUGHT,),
    ),
    (
        "an image is mirrored in the same way in every epoch",
        "augment/geometry.py",
        "flip = jax.vmap(jax.random.bernoulli)(keys) ^ (epoch % 2 == 1)",
        "flip = jax.vmap(jax.random.bernoulli)(keys)",
        (
            "augment/test_augment.py::"
            "test_an_alternating_flip_mirrors_each_image_in_every_other_epoch",
        ),
    ),
    (
        "filters are not divided by the roots of the eigenvalues",
        "models/airbench.py",
        "(vectors / np.sqrt(values + epsilon))",
        "vectors",
        ("models/test_airbench.py::test_patches_of_the_images_are_white_behind_the_first_kernel",),
    ),
)
