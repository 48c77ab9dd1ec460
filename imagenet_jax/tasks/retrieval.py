"""Of each image the nearest others: how many of them are of its class?"""

import numpy as np

_AT_ONCE = 1024  # images that are compared with all


def retrieval(embedding: np.ndarray, labels: np.ndarray) -> dict[str, float | int]:
    """Recall and average precision of each image among all others.

    Args:
      embedding: float32 [N, D] of length 1.
      labels: int [N].

    Returns:
      recall_at_1 and recall_at_5, the share of the images that have one of their class among so
      many nearest; map_at_r, the mean of the average precision of the R nearest, R being how many
      others there are of the class (Musgrave et al. 2020, https://arxiv.org/abs/2003.08505);
      without_match, images that are the only one of their class and have no share in these. NaN
      where all are.
    """
    embedding = np.nan_to_num(np.float32(embedding))
    order, counts = np.unique(labels, return_inverse=True, return_counts=True)[1:]
    others = counts[order] - 1
    ranks = max(int(others.max(initial=0)), min(5, len(labels) - 1))
    found: dict[str, list[np.ndarray]] = {"recall_at_1": [], "recall_at_5": [], "map_at_r": []}
    for start in range(0, len(labels), _AT_ONCE):
        rows = np.arange(start, min(start + _AT_ONCE, len(labels)))
        rows = rows[others[rows] > 0]
        if not len(rows):
            continue
        right = labels[nearest(embedding, rows, ranks)] == labels[rows][:, None]
        found["recall_at_1"].append(right[:, :1].any(1))
        found["recall_at_5"].append(right[:, :5].any(1))
        precision = np.cumsum(right, 1) / np.arange(1, ranks + 1)
        counted = right & (np.arange(ranks) < others[rows][:, None])
        found["map_at_r"].append((precision * counted).sum(1) / others[rows])
    means = {
        name: float(np.concatenate(parts).mean()) if parts else float("nan")
        for name, parts in found.items()
    }
    return means | {"without_match": int((others == 0).sum())}


def nearest(embedding: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """The `count` nearest others of some rows, the nearest first, int64 [n, count].

    Args:
      embedding: float32 [N, D] of length 1.
      rows: int64 [n].
      count: below N.
    """
    near = embedding[rows] @ embedding.T
    near[np.arange(len(rows)), rows] = -np.inf
    if count < near.shape[1] - 1:
        some = np.argpartition(-near, count - 1, 1)[:, :count]
    else:
        some = np.broadcast_to(np.arange(near.shape[1]), near.shape)
    by_distance = np.argsort(-np.take_along_axis(near, some, 1), 1, kind="stable")
    return np.take_along_axis(some, by_distance, 1)[:, :count]
