"""A linear classifier of frozen features, as every evaluation by them has it."""

from typing import Any

import numpy as np

from imagenet_jax.errors import DataError


def fit_linear(features: np.ndarray, labels: np.ndarray) -> Any:
    """A multinomial logistic regression on standardised features, of scikit-learn.

    Args:
      features: float32 [N, D].
      labels: int [N].

    Returns:
      What has `predict`.

    Raises:
      DataError: if all are of one class.
    """
    if len(np.unique(labels)) < 2:
        raise DataError(
            f"a linear probe tells classes apart, and the {len(labels):,} images that it learns "
            "from are of one"
        )
    # Here and not above: half of the time of all imports, which few need.
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scaled = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    return scaled.fit(features, labels)
