"""What is in a data set: images per class, unreadable ones, duplicates, sizes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imagenet_jax.atomic import replacing
from imagenet_jax.data.preparation.shards import Fact

_SHOWN = 5  # names of a kind that the text shows; the report has all


def report_of(
    facts: Mapping[str, Sequence[Fact]], class_names: Sequence[str], has_objects: bool = False
) -> dict[str, Any]:
    """The facts of the splits of a data set, summed up.

    Args:
      facts: by the names of the splits.
      class_names: by their numbers.
      has_objects: whether labels are those of objects.

    Returns:
      num_classes;
      splits: {name: {num_examples, num_bytes, unreadable: ["NAME: reason"], without_label,
        images_per_class: {class: count}, without unreadable ones; where images have objects also
        objects_per_class and objects_of_sizes, small below 32 x 32, large from 96 x 96 pixels}};
      duplicates: lists of "SPLIT/NAME" of files with the same bytes, and
        duplicates_across_splits, how many of the lists have more than one split;
      image_sizes: {width, height, short_side: {min, median, max}} in pixels.
    """
    splits, same, sizes = {}, defaultdict(list), []
    for split, of_split in facts.items():
        good = [fact for fact in of_split if not fact.error]
        labels = [label for fact in good for label in sorted({*fact.labels})]
        counts = np.bincount(labels, minlength=len(class_names))
        splits[split] = {
            "num_examples": len(good),
            "num_bytes": sum(fact.size for fact in good),
            "unreadable": sorted(f"{f.name}: {f.error}" for f in of_split if f.error),
            "without_label": sum(not fact.labels for fact in good),
            "images_per_class": dict(zip(class_names, counts.tolist(), strict=True)),
            **(_of_objects(good, class_names) if has_objects else {}),
        }
        for fact in good:
            same[fact.sha1].append((split, fact.name))
            sizes.append((fact.width, fact.height, min(fact.width, fact.height)))
    duplicates = sorted(sorted(group) for group in same.values() if len(group) > 1)
    columns = zip(("width", "height", "short_side"), np.array(sizes).reshape(-1, 3).T, strict=True)
    return {
        "num_classes": len(class_names),
        "splits": splits,
        "duplicates": [[f"{split}/{name}" for split, name in group] for group in duplicates],
        "duplicates_across_splits": sum(
            len({split for split, _ in group}) > 1 for group in duplicates
        ),
        "image_sizes": {
            name: {
                "min": int(values.min()),
                "median": float(np.median(values)),
                "max": int(values.max()),
            }
            for name, values in columns
            if len(values)
        },
    }


def _of_objects(facts: Sequence[Fact], class_names: Sequence[str]) -> dict[str, Any]:
    """How many objects there are of each class, and of COCO's sizes."""
    labels = [label for fact in facts for label in fact.labels]
    counts = np.bincount(labels, minlength=len(class_names))
    sides = np.sqrt([area for fact in facts for area in fact.areas])
    small, large = int((sides < 32).sum()), int((sides >= 96).sum())
    sizes = {"small": small, "medium": len(sides) - small - large, "large": large}
    per_class = dict(zip(class_names, counts.tolist(), strict=True))
    return {"objects_per_class": per_class, "objects_of_sizes": sizes}


def report_text(report: Mapping[str, Any]) -> str:
    """The report for people."""
    lines = [f"{report['name']} ({report['file_format']}) is in {report['path']}"]
    for split, facts in report["splits"].items():
        counts = facts["images_per_class"]
        least, most = min(counts, key=counts.get), max(counts, key=counts.get)
        lines += [
            f"  {split}: {facts['num_examples']:,} images, {facts['num_bytes'] / 1e6:,.1f} MB",
            f"    {report['num_classes']:,} classes of {counts[least]:,} ({least}) to "
            f"{counts[most]:,} ({most}) images, median {np.median(list(counts.values())):,.0f}",
            *([f"    without label: {none:,}"] if (none := facts.get("without_label")) else []),
            *_objects_lines(facts),
            *_some("unreadable, left out", facts["unreadable"]),
        ]
    for reason, names in report.get("left_out", {}).items():
        lines += _some(f"left out, {reason}", names)
    groups = [" = ".join(group) for group in report["duplicates"]]
    lines += _some("files with the same content", groups)
    if report["duplicates_across_splits"]:
        lines.append(f"    {report['duplicates_across_splits']:,} of them are in several splits!")
    if report["image_sizes"]:
        sizes = report["image_sizes"]
        lines.append(
            "  pixels: "
            + ", ".join(
                f"{name.replace('_', ' ')} {s['min']:,} to {s['max']:,} (median {s['median']:,.0f})"
                for name, s in sizes.items()
            )
        )
    return "\n".join(lines)


def _objects_lines(facts: Mapping[str, Any]) -> list[str]:
    counts = facts.get("objects_per_class")
    if not counts:
        return []
    most = sorted(counts, key=counts.get, reverse=True)[:_SHOWN]
    named = ", ".join(f"{name} {counts[name]:,}" for name in most)
    sizes = ", ".join(f"{count:,} {size}" for size, count in facts["objects_of_sizes"].items())
    return [f"    {sum(counts.values()):,} objects: {named}", f"    of these {sizes}"]


def _some(title: str, names: Sequence[str]) -> list[str]:
    shown = [f"      {name}" for name in names[:_SHOWN]]
    if len(names) > _SHOWN:
        shown.append(f"      and {len(names) - _SHOWN:,} more in verification.json")
    return [f"    {title}: {len(names):,}", *shown]


def plot_sizes(facts: Mapping[str, Sequence[Fact]], title: str, path: Path) -> None:
    """Width against height of all images, and the histogram of their short sides, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.colors import LogNorm

    sizes = [(f.width, f.height) for of_split in facts.values() for f in of_split if not f.error]
    width, height = np.array(sizes).reshape(-1, 2).T
    figure, (plane, sides) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    edge = max(float(np.quantile(np.maximum(width, height), 0.99)) * 1.1, 8)
    bins = np.linspace(0, edge, 60)
    clipped = np.minimum(width, edge), np.minimum(height, edge)  # the last bin holds the rest
    *_, picture = plane.hist2d(*clipped, bins=[bins, bins], norm=LogNorm(), cmap="viridis")
    plane.plot([0, edge], [0, edge], color="0.5", linewidth=0.8, linestyle=":")
    plane.set(xlabel="width (pixels)", ylabel="height (pixels)", aspect="equal")
    figure.colorbar(picture, ax=plane, label="images")
    short = np.minimum(width, height)
    sides.hist(np.minimum(short, edge), bins=bins, color="C0")
    sides.axvline(np.median(short), color="C3", label=f"median {np.median(short):,.0f}")
    sides.set(xlabel="short side (pixels)", ylabel="images")
    sides.legend(frameon=False)
    figure.suptitle(title, parse_math=False)
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=120)
    plt.close(figure)
