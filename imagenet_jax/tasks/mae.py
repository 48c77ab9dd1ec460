"""Learning to fill in the patches of images that are hidden: masked autoencoders."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from imagenet_jax import augment
from imagenet_jax.augment.keys import example_keys, fold_in
from imagenet_jax.config.mae_fields import seen_patches
from imagenet_jax.data import Split
from imagenet_jax.data.sources.classes import ONE
from imagenet_jax.models.heads.masked_autoencoder import (
    Masked,
    MaskedAutoencoder,
    Reconstruction,
    create_masked_autoencoder,
)
from imagenet_jax.reports.reconstructions import grey_patches, write_reconstructions
from imagenet_jax.reports.sheet import pixels_of
from imagenet_jax.tasks.classes import network_options
from imagenet_jax.tasks.few_images import FewMeter, few_of_batch, few_sums, without_few
from imagenet_jax.tasks.mae_checks import check_mae, patch_size
from imagenet_jax.tasks.mae_pixels import reconstructed_images, reconstruction_errors
from imagenet_jax.tasks.pretraining import Known, Pretraining
from imagenet_jax.tasks.task import Batch, Meter, Outcome, Sums, Term

_NOISE = 6  # what the keys of examples are folded with; `augment` has the numbers before


class Shown(NamedTuple):
    """What evaluation knows of images: labels int32 [B], numbers in the split int32 [B], and the
    images float32 [B, S, S, 3] themselves."""

    label: jax.Array | None
    index: jax.Array
    image: jax.Array


class Judged(NamedTuple):
    """What evaluation looks at: features float32 [B, D] of whole images, and what is made of the
    same ones when patches are hidden."""

    features: jax.Array
    reconstruction: Reconstruction


@dataclasses.dataclass(frozen=True)
class MaskedAutoencoding(Pretraining):
    """He et al. 2021, https://arxiv.org/abs/2111.06377, with the fields of config.mae.

    The loss is the mean squared error over the patches that are hidden. Which these are is a
    function of (key, epoch, index) in training, and of the index alone in evaluation, so that
    metrics and pictures of different epochs are of the same patches.
    """

    head_has_norms = False
    eval_metrics: ClassVar[Mapping[str, bool]] = {**Pretraining.eval_metrics, "loss": False}

    def model(self, devices: int = 1) -> MaskedAutoencoder:
        """The ViT config.model.name with a decoder.

        Raises:
          ConfigError: for fields that contradict each other.
        """
        check_mae(self.config)
        how = self.config.mae
        return create_masked_autoencoder(
            self.config.model.name,
            mask_ratio=how.mask_ratio,
            decoder_depth=how.decoder_depth,
            decoder_width=how.decoder_width,
            decoder_heads=how.decoder_heads,
            **network_options(self.config, devices),
        )

    def inputs(
        self, batch: Batch, key: jax.Array | None, step: jax.Array | None, *, train: bool
    ) -> tuple[Masked, Known | Shown]:
        """Images float32 [B, S, S, 3], and noise that says which of their patches are hidden."""
        if train:
            return self.training_inputs(batch, key, step)
        image, index = self.image_inputs(batch["image"]), batch["index"]
        keys = example_keys(jax.random.key(0), jnp.zeros_like(index), index)
        return self._masked(image, keys), Shown(batch.get(ONE), index, image)

    def training_inputs(
        self, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[Masked, Known]:
        del step
        image = augment.train_image(batch, key, self.config.augment)
        keys = example_keys(key, batch["epoch"], batch["index"])
        return self._masked(image, keys), Known(batch.get(ONE))

    def _masked(self, image: jax.Array, keys: jax.Array) -> Masked:
        """Images [B, H, W, 3] with noise of their keys [B]."""
        patches = image.shape[1] * image.shape[2] // patch_size(self.config) ** 2
        draw = jax.vmap(lambda key: jax.random.uniform(key, (patches,)))
        return Masked(image, draw(fold_in(keys, _NOISE)))

    def seen(self, inputs: Masked, targets: Any) -> tuple[np.ndarray, list[str]]:
        """As the encoder sees them: what is hidden is grey."""
        pixels, texts = super().seen(inputs.image, targets)
        rank = np.argsort(np.argsort(inputs.noise, 1), 1)
        masked = rank >= seen_patches(rank.shape[1], self.config.mae.mask_ratio)
        return grey_patches(pixels, masked), texts

    def terms(self) -> dict[str, Term]:
        return {"loss": Term(1.0, "examples")}

    def denominators(self, batch: Batch, key: jax.Array | None = None) -> dict[str, jax.Array]:
        del key
        return {"examples": batch["mask"].sum()}

    def losses(
        self,
        apply: Callable[..., tuple[Reconstruction, dict[str, Any]]],
        inputs: Masked,
        targets: Known,
    ) -> Outcome:
        del targets
        found, updated = apply(inputs)
        errors = reconstruction_errors(inputs.image, found, **self._pixels)
        return Outcome({"loss": errors}, found, updated)

    @property
    def _pixels(self) -> dict[str, Any]:
        """How `mae_pixels` takes patches."""
        size, norm = patch_size(self.config), self.config.mae.norm_pixels
        return {"size": size, "norm_pixels": norm}

    def sums(self, outcome: Outcome, targets: Known, mask: jax.Array) -> Sums:
        """count, loss, and feature_std of the patches that are seen."""
        return {
            "count": mask.sum(dtype=jnp.int32),
            "loss": jnp.where(mask, outcome.numerators["loss"], 0).sum(),
            "feature_std": self.feature_std_sum(outcome.outputs.features, mask),
        }

    def predict(self, apply: Callable[..., Any], inputs: jax.Array | Masked) -> Any:
        """Features float32 [B, D] of images; of `Masked` ones what is `Judged`."""
        if not isinstance(inputs, Masked):
            return apply(inputs)
        return Judged(apply(inputs.image), apply(inputs))

    def evaluation_sums(
        self, predictions: jax.Array | Judged, targets: Shown, mask: jax.Array
    ) -> Sums:
        """The loss, and some images for `metered`; of features alone only how many there are."""
        counts = {"count": mask.sum(dtype=jnp.int32)}
        if not isinstance(predictions, Judged):
            return counts
        found, image = predictions.reconstruction, targets.image
        errors = reconstruction_errors(image, found, **self._pixels)
        few = few_of_batch(targets.index, mask, self.axis_name)
        drawn = reconstructed_images(*few.of((image, found)), **self._pixels)
        images = few_sums(few, image=drawn, masked=few.of(found.masked))
        return {**counts, "loss": jnp.where(mask, errors, 0).sum(), **images}

    def metered(self, sums: Mapping[str, np.ndarray], meter: Meter | None) -> dict[str, np.ndarray]:
        if isinstance(meter, FewMeter):
            meter.add_few(sums)
        return without_few(sums)

    def summarize(self, sums: Iterable[Mapping[str, np.ndarray]]) -> dict[str, float | int]:
        """As of all such tasks, without what is for pictures."""
        return super().summarize(map(without_few, sums))

    def observe(self, predictions: jax.Array | Judged, targets: Shown) -> dict[str, jax.Array]:
        if isinstance(predictions, Judged):
            predictions = predictions.features
        return super().observe(predictions, Known(targets.label))

    def meter(self, split: Split) -> FewMeter:
        return FewMeter(super().meter(split))

    def report(self, meter: FewMeter, split: Split, folder: Path) -> dict[str, Any]:
        """What is written of the features, and reconstruction.png."""
        report = super().report(meter.inner, split, folder) if meter.inner else {}
        index, arrays = meter.few()
        if not len(index):
            return report
        drawn = pixels_of(arrays["image"], self.config.augment)
        images = split.images(index), drawn, arrays["masked"] > 0
        files = write_reconstructions(*images, folder)
        return {"folder": str(folder), **report, "files": [*report.get("files", ()), *files]}

    @staticmethod
    def report_lines(report: Mapping[str, Any]) -> list[str]:
        files = ", ".join(report.get("files", ()))
        return [f"what it makes of images is in {report['folder']}: {files}"] if files else []

    @staticmethod
    def rows(result: Mapping[str, Any]) -> dict[str, str]:
        error = {"loss": f"{result['loss']:.4f}, mean squared error of what is hidden"}
        return {**Pretraining.rows(result), **(error if "loss" in result else {})}


TASK = MaskedAutoencoding
