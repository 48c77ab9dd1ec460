"""Verification by group: against counts pair by pair, as fairlearn's MetricFrame makes them."""

import numpy as np
import pytest

from imagenet_jax.errors import ConfigError, DataError
from imagenet_jax.tasks.embedding_meter import EmbeddingMeter
from imagenet_jax.tasks.group_files import GroupFile, find_groups, read_groups
from imagenet_jax.tasks.group_results import group_lines, group_rows
from imagenet_jax.tasks.table import check_settings
from imagenet_jax.tasks.verification import PairList
from imagenet_jax.training.checks import check_source

IDENTITIES = ("ann", "bob", "cid", "dan", "eve", "fay")


def metered(groups, far=0.02, listed=None, left_out=()):
    """A meter with 120 images of six people, in whose second half faces are alike."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 6
    centres = rng.normal(size=(6, 4))
    centres[3:] = centres[3] + 0.4 * centres[3:]
    rows = centres[labels] + 0.5 * rng.normal(size=(120, 4))
    embedding = np.float32(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    names = [f"val/{IDENTITIES[label]}/{n}.jpg" for n, label in enumerate(labels)]
    found = find_groups(GroupFile("list", "age", groups(names)), names, labels, IDENTITIES, "val")
    meter = EmbeddingMeter(1000, listed, found, far)
    there = np.array([n not in left_out for n in range(120)])
    arrays = {"index": np.arange(120), "embedding": embedding, "label": labels}
    meter.add({name: array[there] for name, array in arrays.items()})
    return meter


def by_identity(names):
    ages = {"ann": "old", "bob": "old", "cid": "young", "dan": "young", "eve": "young"}
    return {**ages, "gus": "old", "fay": ""}


def limits_of(meter):
    """The threshold of each pair's fold, and that of the false-accept rate, by trying all."""
    found = meter.verification
    distances, (_, _, same, fold) = found.distances, found.pairs
    limits = np.zeros(len(same))
    for number in range(10):
        rest = fold != number
        tried = np.unique(distances[rest])
        tried = [-1, *((tried[1:] + tried[:-1]) / 2), 3]
        right = [((distances[rest] <= limit) == same[rest]).sum() for limit in tried]
        limits[fold == number] = tried[int(np.argmax(right))]
    rate = max(meter.group_far, 1 / (~same).sum())
    strict = [d for d in distances if (distances[~same] <= d).mean() <= rate]
    return limits, max(strict)


@pytest.mark.parametrize(("far", "left_out"), [(0.02, ()), (0.2, (3, 7, 50)), (1e-4, ())])
def test_counts_of_groups_are_those_of_their_pairs_one_by_one(far, left_out):
    meter = metered(by_identity, far, left_out=left_out)
    result = meter.metrics()
    ages, pairs = by_identity(()), meter.pairs
    limits, limit = limits_of(meter)
    age_of = [ages[IDENTITIES[label]] for label in meter.arrays["label"]]
    assert [group["group"] for group in result["groups"]] == ["old", "young"]
    within = 0
    for group in result["groups"]:
        counted = dict.fromkeys(("same", "other", "right", "false_accepts", "false_rejects"), 0)
        for k, (one, two) in enumerate(zip(pairs.first, pairs.second, strict=True)):
            if age_of[one] != group["group"] or age_of[two] != group["group"]:
                continue
            distance, same = meter.verification.distances[k], pairs.same[k]
            counted["same" if same else "other"] += 1
            counted["right"] += (distance <= limits[k]) == same
            counted["false_accepts"] += not same and distance <= limit
            counted["false_rejects"] += same and distance > limit
        same, other = counted.pop("same"), counted.pop("other")
        within += same + other
        assert min(same, other) >= 30
        assert {name: group[name] for name in counted} == counted
        assert (group["same_pairs"], group["other_pairs"]) == (same, other)
        assert group["images"] == age_of.count(group["group"])
        assert group["pairs"] == same + other
        assert group["accuracy"] == pytest.approx(counted["right"] / (same + other))
        assert group["far"] == pytest.approx(counted["false_accepts"] / other)
        assert group["frr"] == pytest.approx(counted["false_rejects"] / same)
        assert group["tar"] == pytest.approx(1 - group["frr"])
    about = result["grouping"]
    assert about["pairs_between"] == len(pairs.same) - within
    assert about["threshold"] == limit
    others = meter.verification.distances[~pairs.same]
    assert about["far"] == pytest.approx((others <= limit).mean()) and about["far"] > 0
    assert (about["images_without_group"], about["names_not_found"]) == (20, 1)
    assert about["not_found"] == ["gus"] and len(about["ungrouped"]) == 3
    old, young = result["groups"]
    assert far < 0.01 or old["far"] != young["far"]


def test_one_group_of_all_has_the_overall_result():
    result = metered(lambda names: dict.fromkeys(names, "all")).metrics()
    (group,) = result["groups"]
    assert (group["pairs"], group["images"]) == (result["num_pairs"], 120)
    assert group["accuracy"] == pytest.approx(result["accuracy"])
    assert group["far"] == result["grouping"]["far"]
    assert result["grouping"]["pairs_between"] == 0 and result["grouping"]["kind"] == "images"


def test_groups_of_one_kind_of_pairs_and_of_none():
    """One person alone, so that there are no others; two images; and one."""

    def groups(names):
        ann = [name for name in names if "/ann/" in name]
        bob, cid = (next(name for name in names if f"/{who}/" in name) for who in ("bob", "cid"))
        dan = next(name for name in names if "/dan/" in name)
        return {**dict.fromkeys(ann, "ann"), bob: "two", cid: "two", dan: "one"}

    rng = np.random.default_rng(1)
    pairs = np.stack([rng.integers(0, 120, 4000), rng.integers(0, 120, 4000)])
    pairs = pairs[:, pairs[0] != pairs[1]]
    listed = PairList(*pairs, pairs[0] % 6 == pairs[1] % 6, np.arange(pairs.shape[1]) % 10)
    result = metered(groups, listed=listed).metrics()
    ann, one, two = result["groups"]
    assert ann["same_pairs"] == ann["pairs"] > 30 and ann["other_pairs"] == 0
    assert ann["far"] is None and ann["frr"] == ann["false_rejects"] / ann["pairs"]
    assert one["pairs"] == one["right"] == 0 and one["images"] == 1
    assert [one[name] for name in ("accuracy", "far", "frr", "tar")] == [None] * 4
    assert two["same_pairs"] == 0 and two["accuracy"] is None and two["images"] == 2
    lines = "\n".join(group_lines(result))
    assert f"{ann['frr']:.2%} ({ann['false_rejects']} of {ann['pairs']})" in lines
    assert (
        f"{ann['tar']:.2%}" in lines
        and "too few (0 of 0)" in lines
        and "too few: fewer than 30 pairs" in lines
    )
    head, *rows = group_rows(result["groups"])
    assert [dict(zip(head, row, strict=True))["far"] for row in rows] == ["", "", ""]


def test_many_groups_show_those_with_most_pairs():
    result = metered(lambda names: {name: f"{n % 24}" for n, name in enumerate(names)}).metrics()
    assert len(result["groups"]) == 24
    lines = group_lines(result)
    assert "  and 4 groups with fewer pairs" in lines
    shown = [line.split()[0] for line in lines[2:22]]
    pairs = {group["group"]: group["pairs"] for group in result["groups"]}
    assert min(pairs[name] for name in shown) >= max(
        count for name, count in pairs.items() if name not in shown
    )


def test_numbers_that_are_images_and_identities_are_what_more_of_them_fit():
    names, labels = [f"{n}" for n in range(20)], np.arange(20) % 4
    people = ("0", "1", "2", "3")

    def found(listed):
        return find_groups(GroupFile("list", "age", listed), names, labels, people, "val")

    assert found({"0": "a", "1": "b", "9": "b"}).kind == "images"
    assert found({"0": "a", "1": "b"}).number.tolist() == [0, 1, -1, -1] * 5
    assert found({"0": "a", "1": "b"}).ungrouped == ("2", "3", "6")


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", "", "line 1: the columns are none; expected 'name'"),
        ("image,age\na,old\n", "", "the columns are 'image', 'age'; expected 'name'"),
        ("name\na\n", "", "the columns are 'name'; expected 'name' and one"),
        ("name,age,age\na,1,2\n", "", "no two called the same"),
        ("name,age,sex\na,1,2\n", "", "several columns of groups, 'age', 'sex'; set"),
        ("name,age,sex\na,1,2\n", "agee", "'agee' is no column .* did you mean 'age'"),
        ("name,age\na\n", "", "line 2: 'a'; expected 'name,age', 2 columns"),
        ("name,age\na,1\na,2\n", "", "line 3: 'a' is in '2' here and in '1' in a line before"),
        ("name,age\na,\n", "", "has no name with a group in column 'age'"),
        ("name,age\n\udce4,1\n", "", "cannot be read: .*utf-8"),
    ],
)
def test_damaged_lists_are_named_with_their_line(tmp_path, text, column, message):
    file = tmp_path / "groups.csv"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=message):
        read_groups(str(file), column)


def test_a_column_is_chosen_and_any_separator_read(tmp_path):
    file = tmp_path / "groups.csv"
    file.write_text("age;name;sex\n1;a b;\n\n2; c ;f\n", encoding="utf-8-sig")
    assert read_groups(str(file), "age").group_of == {"a b": "1", "c": "2"}
    assert read_groups(str(file), "sex").group_of == {"a b": "", "c": "f"}


def test_what_cannot_be_is_said_before_anything_starts(loop_config, tmp_path):
    config = loop_config
    config.task, config.embedding.groups = "embedding", str(tmp_path / "no.csv")
    with pytest.raises(DataError, match=r"embedding\.groups = .*no\.csv' cannot be read: No such"):
        check_source(config, here=True)
    config.embedding.groups, config.embedding.group_column = "", "age"
    config.data.per_class = 4
    with pytest.raises(ConfigError, match=r"group_column = 'age' is a column of the file"):
        check_settings(config)
    with pytest.raises(DataError, match=r"names 1 images or identities, as 'ann', .* as 'an'"):
        find_groups(GroupFile("list", "age", {"ann": "1"}), ["a.jpg"], np.zeros(1, int), ["an"], "")
    with pytest.raises(DataError, match="no name of val has a group in column 'age'"):
        listed = GroupFile("list", "age", {"ann": "", "bob": "1"})
        find_groups(listed, ["a.jpg"], np.zeros(1, int), ["ann", "bob"], "val")
