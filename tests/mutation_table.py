"""The breaks that `mutations.py` tries: name, file, the line, the line broken, what has to fail.

Here those of training and of devices; others are in `mutation_optim`, `mutation_tasks`,
`mutation_detection` and their like.
"""

from mutation_detection import BREAKS_OF_DETECTION
from mutation_explanations import BREAKS_OF_EXPLANATIONS
from mutation_files import BREAKS_OF_FILES
from mutation_images import BREAKS_OF_IMAGES
from mutation_optim import BREAKS_OF_OPTIMIZERS
from mutation_pretraining import BREAKS_OF_PRETRAINING
from mutation_tasks import BREAKS_OF_TASKS

CLOSED_FORM = "training/test_one_step.py::test_head_and_auxiliary_head_move_by_their_gradients"
DROPOUT = (
    "training/test_one_step.py::test_dropout_is_another_at_every_step_and_in_every_micro_batch"
)
EIGHT = "training/test_step.py::test_eight_devices_give_the_numbers_of_one[2-shard_map]"
SUMS_TWICE = (
    "devices/test_sharding.py::test_a_block_of_a_cut_transformer_sums_twice_over_the_devices"
)
KEPT = "training/test_checkpoint.py::test_the_latest_and_the_best_are_kept"
DAMAGED = "training/test_checkpoint.py::test_damaged_newest_is_passed_over_with_a_warning"
INTERRUPTED = (
    "training/test_resume.py::test_interrupted_run_ends_with_the_bits_of_an_undisturbed_one"
)

BREAKS = (
    (
        "the same dropout at every step",
        "training/step.py",
        "key = jax.random.fold_in(rng, state.step)",
        "key = rng",
        (DROPOUT,),
    ),
    (
        "statistics are not averaged",
        "training/averages.py",
        'moved(state.ema["batch_stats"], batch_stats)',
        'state.ema["batch_stats"]',
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
        "found = parallel.all_reduce(found, axis_name)",
        "pass",
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
        "training/averages.py",
        "(1.0 + moves) / (10.0 + moves)",
        "(1.0 + moves) / (1.0 + moves)",
        (CLOSED_FORM,),
    ),
    (
        "a frozen backbone's statistics move",
        "training/step.py",
        "train=tuning.trains_backbone",
        "train=True",
        ("training/test_tuning.py::test_a_frozen_backbone_is_really_frozen",),
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
        "sharpness is looked for downhill",
        "training/step.py",
        "lambda p, g: p + scale * g",
        "lambda p, g: p - scale * g",
        (
            "training/test_guard.py::test_sam_is_the_gradient_of_the_worst_point_and_nothing_else_of_it[jit]",
        ),
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
        "training/stages.py",
        "steps = max(stage.start, step), min(stage.stop, stop)",
        "steps = stage.start, min(stage.stop, stop)",
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
        "stream_offset=stream - step * batch_size,",
        "stream_offset=0,",
        (
            "training/test_resume.py::test_another_batch_size_goes_on_with_the_examples_not_yet_seen",
        ),
    ),
    (
        "devices count apart",
        "training/step.py",
        "sums, observed = jax.lax.psum(sums, axis_name),",
        "sums, observed = sums,",
        ("inference/test_evaluate.py::test_partitioners_count_the_same[shard_map-7]",),
    ),
    (
        "copies in place of averages end too early",
        "training/averages.py",
        "-(-start // config.ema_every)",
        "start // config.ema_every",
        ("training/test_averages.py::test_torchvisions_average_is_restarted_through_the_warmup",),
    ),
    (
        "the average of equal weights forgets its start",
        "training/program.py",
        "duration = self.config.swa_start or self.config.ema_start",
        "duration = self.config.ema_start",
        ("training/test_step.py::test_the_equal_average_is_the_mean_of_its_steps[shard_map]",),
    ),
    (
        "statistics for an average keep those before",
        "training/batch_statistics.py",
        "config.model.bn_momentum = _KEPT",
        "pass",
        ("training/test_batch_statistics.py::test_statistics_are_those_of_update_bn[jit-1]",),
    ),
    (
        "the average is not evaluated",
        "training/state.py",
        "return self.ema\n",
        'return {"params": self.params, "batch_stats": self.batch_stats}\n',
        ("training/test_step.py::test_ema_is_the_running_average_of_the_parameters[1]",),
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
        "a stage has the size of the one before",
        "training/stages.py",
        "own = split.at(program.config)",
        "own = split",
        (
            "training/test_stages.py::"
            "test_the_stream_changes_with_the_stages_and_evaluation_does_not",
        ),
    ),
    *BREAKS_OF_OPTIMIZERS,
    *BREAKS_OF_IMAGES,
    *BREAKS_OF_TASKS,
    *BREAKS_OF_PRETRAINING,
    *BREAKS_OF_DETECTION,
    *BREAKS_OF_EXPLANATIONS,
    *BREAKS_OF_FILES,
)
