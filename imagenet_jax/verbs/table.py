"""The table of verbs; the first is the default."""

from imagenet_jax.verbs.average import AVERAGE
from imagenet_jax.verbs.benchmark import BENCHMARK
from imagenet_jax.verbs.compress import COMPRESS
from imagenet_jax.verbs.evaluate import EVALUATE
from imagenet_jax.verbs.explain import EXPLAIN
from imagenet_jax.verbs.export import EXPORT
from imagenet_jax.verbs.fields import FIELDS
from imagenet_jax.verbs.models import MODELS
from imagenet_jax.verbs.predict import PREDICT
from imagenet_jax.verbs.prepare import PREPARE
from imagenet_jax.verbs.recipes import RECIPES
from imagenet_jax.verbs.serve import SERVE
from imagenet_jax.verbs.study import STUDY
from imagenet_jax.verbs.sweep import SWEEP
from imagenet_jax.verbs.train import TRAIN
from imagenet_jax.verbs.verb import Verb
from imagenet_jax.verbs.verify import VERIFY

VERBS: dict[str, Verb] = {
    "train": TRAIN,
    "evaluate": EVALUATE,
    "predict": PREDICT,
    "verify": VERIFY,
    "explain": EXPLAIN,
    "average": AVERAGE,
    "export": EXPORT,
    "serve": SERVE,
    "compress": COMPRESS,
    "models": MODELS,
    "fields": FIELDS,
    "recipes": RECIPES,
    "prepare": PREPARE,
    "benchmark": BENCHMARK,
    "study": STUDY,
    "sweep": SWEEP,
}
