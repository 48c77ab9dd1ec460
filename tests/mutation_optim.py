"""Breaks of optimizers, schedules, rules and guard rails, as in `mutation_table`."""

BREAKS_OF_OPTIMIZERS = (
    (
        "biases decay",
        "training/rules.py",
        "return re.search(pattern, name) is not None",
        "return True",
        ("training/test_optim.py::test_sgd_is_torchs_formula_with_decay_on_kernels_only",),
    ),
    (
        "the end is no share of the peak",
        "training/schedules.py",
        "optax.linear_schedule(peak, peak * end, steps)",
        "optax.linear_schedule(peak, end, steps)",
        ("training/test_schedules.py::test_linear_down_to_the_end_share",),
    ),
    (
        "drops are counted from the warmup's end",
        "training/schedules.py",
        "steps(duration) - begin)",
        "steps(duration))",
        ("training/test_schedules.py::test_step_drops_are_counted_from_the_start_of_the_run",),
    ),
    (
        "the update is clipped, not the gradient",
        "training/optim.py",
        "    update = optax.chain(clip, update)",
        "    update = optax.chain(update, clip)",
        ("training/test_optim.py::test_clip_norm_bounds_the_first_update",),
    ),
    (
        "the ratio of LAMB is upside down",
        "training/optimizers/trust.py",
        "size / jnp.where(known, length, 1)",
        "length / jnp.where(known, size, 1)",
        ("training/test_optimizers.py::test_lamb_is_timms_without_its_clip",),
    ),
    (
        "Muon moves the head",
        "training/optimizers/muon.py",
        "return kernel and not (head or stem) and",
        "return kernel and not stem and",
        ("training/test_optimizers.py::test_muon_is_its_authors_and_adam_for_the_rest[False-rms]",),
    ),
    (
        "the gradients' point is evaluated",
        "training/optimizers/schedule_free.py",
        "y + (1 / found.beta - 1) * (y - z)",
        "y",
        ("training/test_optimizers.py::test_schedule_free_is_the_papers[schedule_free_sgd]",),
    ),
    (
        "a skipped update moves",
        "training/guard.py",
        "jnp.where(good, new, old)",
        "jnp.where(good, new, new)",
        ("training/test_guard.py::test_an_update_that_is_not_finite_leaves_all_but_the_schedule",),
    ),
    (
        "the threshold of targets is twice as high",
        "tasks/losses.py",
        "(target > threshold).astype",
        "(target > 2 * threshold).astype",
        ("training/test_golden_updates.py::test_two_updates_are_the_sources[rsb:a2]",),
    ),
    (
        "a stair of whole epochs begins an epoch late",
        "training/schedules.py",
        "more = 0.02 + 0.5 * (",
        "more = 0.02 + 0.0 * (",
        (
            "test_recipes.py::"
            "test_the_learning_rate_is_that_of_the_source[timm_efficientnet_b0:timm]",
        ),
    ),
    (
        "the course begins with the run",
        "training/schedules.py",
        "begin = warmup if schedule.warmup_prefix else 0",
        "begin = warmup",
        ("training/test_schedules.py::test_courses_of_published_recipes_at_every_step[deit]",),
    ),
    (
        "the peak is not held",
        "training/schedules.py",
        "begin += hold",
        "begin += 0",
        ("training/test_schedules.py::test_nvidias_warmup_by_epochs[8]",),
    ),
    (
        "the first rule counts",
        "training/rules.py",
        "for rule in rules_of(optim):\n        value",
        "for rule in rules_of(optim)[::-1]:\n        value",
        ("training/test_rules.py::test_rules_change_rate_and_decay_of_what_they_find",),
    ),
    (
        "the rate counts steps of today's size",
        "training/schedules.py",
        "return _later(rate, course.shift) if course.shift else rate",
        "return rate",
        (
            "training/test_resume.py::test_another_batch_size_goes_on_with_the_examples_not_yet_seen",
        ),
    ),
    (
        "lookahead ends ahead of its average",
        "training/optimizers/lookahead.py",
        "returns = moves | (done > 1 - 1e-6)",
        "returns = moves",
        (
            "training/test_optim.py::"
            "test_lookahead_goes_back_to_the_average_every_so_many_steps_and_at_the_end[3.0]",
        ),
    ),
)
