import numpy as np
import pytest
from pixel_oracles import center_crop, encode, noise, pil_pixels

from imagenet_jax.config import base_config
from imagenet_jax.data import open_split
from imagenet_jax.errors import DataError

BAD = "train/cat/4.jpg"
BAD_INDEX = 2  # of cat 0, 2, 4, 6, 8, dog 1, 3, 5, 7, 9
UNREADABLE = {
    "empty": lambda content: b"",
    "no image": lambda content: noise(10, 10).tobytes(),
    "cut in the header": lambda content: content[:100],
    "cut in the pixels": lambda content: content[:-100],
    "missing": None,
}


def spoil(folder, name=BAD, how="no image"):
    """Makes an image unreadable."""
    if UNREADABLE[how] is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(UNREADABLE[how]((folder / name).read_bytes()))


def trained(config, rows, start, stop):
    return list(open_split(config, train=True).train_batches(rows, start, stop))


def evaluated(config, rows, batch_size=4):
    return list(open_split(config, train=False).eval_batches(rows, batch_size))


def assert_same(batches, expected):
    """Compares batches bit for bit."""
    for batch, other in zip(batches, expected, strict=True):
        assert batch.keys() == other.keys()
        for name in other:
            np.testing.assert_array_equal(batch[name], other[name], err_msg=name)


def assert_same_but_for(bad, batches, expected):
    """Compares batches where those images are masked out and all else is as expected."""
    for batch, other in zip(batches, expected, strict=True):
        is_bad = np.isin(other["index"], list(bad))
        np.testing.assert_array_equal(batch["index"], other["index"])
        np.testing.assert_array_equal(batch["mask"], other["mask"] & ~is_bad)
        for name in ("image", "label", "epoch"):
            np.testing.assert_array_equal(batch[name][~is_bad], other[name][~is_bad])


@pytest.mark.parametrize("batch_size", [3, 5, 16])
def test_evaluation_keeps_the_remainder(noise_config, batch_size):
    batches = evaluated(noise_config, np.arange(batch_size), batch_size)
    assert {len(array) for batch in batches for array in batch.values()} == {batch_size}
    joined = {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}
    assert joined["mask"].sum() == 10
    np.testing.assert_array_equal(joined["index"][joined["mask"]], np.arange(10))
    padding = {name: array[~joined["mask"]] for name, array in joined.items()}
    assert not padding["image"].any() and not padding["label"].any()
    assert (padding["index"] == -1).all()


@pytest.mark.parametrize("train", [True, False])
def test_a_row_holds_the_image_and_the_label_of_its_index(noise_config, noise_folder, rows, train):
    noise_config.data.train_crop = "center_crop"
    noise_config.data.eval_crop_fraction, noise_config.data.image_size = 0.75, 9
    files = [noise_folder / f"train/cat/{k}.jpg" for k in (0, 2, 4, 6, 8)]
    files += [noise_folder / f"train/dog/{k}.jpg" for k in (1, 3, 5, 7, 9)]
    pixels = [center_crop(pil_pixels(file.read_bytes()), 0.75).astype(int) for file in files]
    run = trained(noise_config, rows, 0, 5) if train else evaluated(noise_config, rows)
    seen = set()
    for batch in run:
        for image, label, mask, index in zip(
            *(batch[name] for name in ("image", "label", "mask", "index")), strict=True
        ):
            if mask:
                # Without the outer columns, whose colour depends on where the box ends.
                assert np.abs(image - pixels[index])[:, 1:-1].max() <= 2
                assert label == index // 5
                seen.add(int(index))
    assert seen == set(range(10))


def test_batches_have_the_documented_dtypes_and_shapes(noise_config, rows):
    for batch in (*trained(noise_config, rows, 0, 1), evaluated(noise_config, rows)[0]):
        assert {name: (a.dtype.name, a.shape) for name, a in batch.items()} == {
            "image": ("uint8", (4, 8, 8, 3)),
            "label": ("int32", (4,)),
            "mask": ("bool", (4,)),
            "index": ("int32", (4,)),
            "epoch": ("int32", (4,)),
        }


def test_an_image_that_takes_long_keeps_its_place(noise_config, noise_folder):
    (noise_folder / "train/cat/0.jpg").write_bytes(encode(noise(2000, 2000), "JPEG"))
    (batch,) = evaluated(noise_config, np.arange(10), 10)
    assert batch["index"].tolist() == list(range(10))


@pytest.mark.parametrize("start", [1, 3, 6])
def test_training_continues_bit_for_bit_from_any_step(noise_config, rows, start):
    whole = trained(noise_config, rows, 0, 8)
    assert_same(trained(noise_config, rows, start, 8), whole[start:])


def test_an_image_is_cropped_anew_each_epoch(noise_config):
    noise_config.batch_size = 10
    first, second = trained(noise_config, np.arange(10), 0, 2)
    first, second = (b["image"][np.argsort(b["index"])] for b in (first, second))
    assert (first != second).any((1, 2, 3)).all()


def test_two_processes_load_the_batches_of_one(noise_config, rows):
    for run in (lambda r: trained(noise_config, r, 0, 5), lambda r: evaluated(noise_config, r)):
        one, low, high = run(rows), run(rows[:2]), run(rows[2:])
        both = [
            {name: np.concatenate([a[name], b[name]]) for name in a}
            for a, b in zip(low, high, strict=True)
        ]
        assert_same(both, one)


@pytest.mark.parametrize("how", UNREADABLE)
@pytest.mark.parametrize("train", [True, False])
def test_an_unreadable_image_stops_the_run_by_name(noise_config, noise_folder, rows, how, train):
    split = open_split(noise_config, train)
    spoil(noise_folder, how=how)
    batches = split.train_batches(rows, 0, 5) if train else split.eval_batches(rows, 4)
    with pytest.raises(DataError, match=f"unreadable image: {noise_folder}/{BAD}: "):
        list(batches)


@pytest.mark.parametrize("how", UNREADABLE)
def test_evaluation_can_leave_an_unreadable_image_out(
    noise_config, noise_folder, rows, how, caplog
):
    noise_config.data.bad_images = "skip"
    expected = evaluated(noise_config, rows)
    split = open_split(noise_config, train=False)
    spoil(noise_folder, how=how)
    assert_same_but_for({BAD_INDEX}, list(split.eval_batches(rows, 4)), expected)
    assert [f"{noise_folder}/{BAD}" in r.message for r in caplog.records] == [True]
    assert caplog.records[0].levelname == "WARNING"


def test_training_leaves_unreadable_images_out_of_every_epoch(
    noise_config, noise_folder, rows, caplog
):
    noise_config.data.bad_images = "skip"
    expected = trained(noise_config, rows, 0, 10)
    spoil(noise_folder)
    spoil(noise_folder, "train/dog/1.jpg")
    batches = trained(noise_config, rows, 0, 10)
    assert_same_but_for({BAD_INDEX, 5}, batches, expected)
    epochs = np.concatenate([b["epoch"][~b["mask"]] for b in batches])
    assert epochs.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(caplog.records) == 2  # each is named once, not at every epoch
    assert_same(trained(noise_config, rows, 6, 10), batches[6:])


def test_an_image_damaged_in_part_is_left_out_where_a_crop_meets_the_damage_only(
    noise_config, noise_folder, rows, caplog
):
    """And that does not depend on where the stream was started."""
    noise_config.data.bad_images = "skip"
    encoded = encode(noise(200, 200), "JPEG", quality=95)
    (noise_folder / BAD).write_bytes(encoded[: len(encoded) * 3 // 4])
    batches = trained(noise_config, rows, 0, 50)
    of_bad = np.concatenate([b["mask"][b["index"] == BAD_INDEX] for b in batches])
    assert len(of_bad) == 20
    assert 0 < of_bad.sum() < 20
    (record,) = caplog.records
    assert record.message.endswith(
        f"{BAD}: jpeg::Uncompress failed. Invalid JPEG data or crop window."
    )
    assert_same(trained(noise_config, rows, 27, 50), batches[27:])


def test_any_number_of_unreadable_images_can_be_left_out(noise_config, noise_folder, rows, caplog):
    noise_config.data.bad_images = "skip"
    expected = evaluated(noise_config, rows)
    bad = {0: "cat/0", 1: "cat/2", 2: "cat/4", 3: "cat/6", 5: "dog/1", 9: "dog/9"}
    for name in bad.values():  # all of the first batch, one of each other
        spoil(noise_folder, f"train/{name}.jpg")
    assert_same_but_for(bad, evaluated(noise_config, rows), expected)
    messages = [record.message for record in caplog.records]
    assert len(messages) == 6
    for name, message in zip(bad.values(), messages, strict=True):
        assert f"{noise_folder}/train/{name}.jpg" in message


def test_images_of_another_size_are_named(noise_config, noise_folder, rows):
    noise_config.data.eval_crop = "none"
    with pytest.raises(DataError, match=r"cat/0\.jpg: .* not data.image_size = 8; set a crop"):
        evaluated(noise_config, rows)


@pytest.fixture
def stored_config(noise_config, noise_folder):
    """`noise_config` with its images stored at image_size, one of them grey, and no crop."""
    for k, file in enumerate(sorted(noise_folder.rglob("*.jpg"))):
        pixels = noise(8, 8, seed=k)
        file.write_bytes(encode(pixels[..., 0] if k == 1 else pixels))
    noise_config.data.train_crop = noise_config.data.eval_crop = "none"
    return noise_config


@pytest.mark.parametrize("spoiled", [False, True])
def test_cached_batches_equal_those_decoded_each_time(stored_config, noise_folder, rows, spoiled):
    stored_config.data.bad_images = "skip"
    if spoiled:
        spoil(noise_folder)
    runs = []
    for cache in (False, True):
        stored_config.data.cache = cache
        runs.append((trained(stored_config, rows, 2, 8), evaluated(stored_config, rows)))
    (train, evaluation), (cached_train, cached_evaluation) = runs
    assert_same(cached_train, train)
    assert sum(b["mask"].sum() for b in cached_evaluation) == 10 - spoiled
    padding = {-1}  # what its rows hold is not promised
    assert_same_but_for(padding, cached_evaluation, evaluation)


def test_a_cached_split_reads_its_files_once(stored_config, noise_folder, rows):
    stored_config.data.cache = True
    split = open_split(stored_config, train=False)
    first = list(split.eval_batches(rows, 4))
    for file in noise_folder.rglob("*.jpg"):
        file.unlink()
    assert_same(list(split.eval_batches(rows, 4)), first)


def test_caching_names_an_unreadable_image(stored_config, noise_folder, rows):
    stored_config.data.cache = True
    spoil(noise_folder)
    with pytest.raises(DataError, match=f"{noise_folder}/{BAD}"):
        trained(stored_config, rows, 0, 1)


@pytest.fixture
def many_config(tmp_path):
    """Seventy PNGs of 8x8 pixels in one class, stored as they are used."""
    for k in range(70):
        file = tmp_path / f"train/any/{k:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode(noise(8, 8, seed=k)))
    config = base_config()
    config.data.name, config.data.image_size = f"folder:{tmp_path}", 8
    config.data.eval_split, config.data.max_bad_fraction = "train", 1.0
    config.data.train_crop = config.data.eval_crop = "none"
    return config


@pytest.mark.parametrize("batch_size", [1, 31, 32, 33, 64, 67, 127])
def test_batches_of_any_size_hold_their_rows(many_config, batch_size):
    """Whatever the size of the chunks that they are made of."""
    many_config.batch_size = batch_size
    pixels = np.array([noise(8, 8, seed=k) for k in range(70)])
    for batch in trained(many_config, np.arange(batch_size), 3, 6):
        assert batch["mask"].all() and len(batch["index"]) == batch_size
        np.testing.assert_array_equal(batch["image"], pixels[batch["index"]])
    index = [
        b["index"][b["mask"]] for b in evaluated(many_config, np.arange(batch_size), batch_size)
    ]
    np.testing.assert_array_equal(np.concatenate(index), np.arange(70))


@pytest.mark.parametrize(("workers", "prefetch"), [(1, 1), (2, 8), (5, 2)])
def test_workers_and_prefetch_do_not_change_the_batches(noise_config, rows, workers, prefetch):
    expected = trained(noise_config, rows, 0, 6)
    noise_config.data.workers, noise_config.data.prefetch = workers, prefetch
    assert_same(trained(noise_config, rows, 0, 6), expected)


def test_bad_images_of_several_chunks_are_left_out_of_their_rows_only(many_config, tmp_path):
    many_config.data.bad_images = "skip"
    rows = np.arange(70)  # three chunks
    expected = evaluated(many_config, rows, 70)
    bad = {0, *range(24, 48), 69}  # among them a whole chunk
    for k in bad:
        (tmp_path / f"train/any/{k:02}.png").write_bytes(b"")
    assert_same_but_for(bad, evaluated(many_config, rows, 70), expected)


def test_a_failure_that_passes_is_no_bad_image(many_config, caplog):
    split = open_split(many_config, train=False)
    expected = list(split.eval_batches(np.arange(70), 70))
    read, calls = split.source.read, []

    def failing_once(index):
        calls.append(index)
        if len(calls) == 2:
            raise OSError("connection reset")
        return read(index)

    split.source.read = failing_once
    assert_same(list(split.eval_batches(np.arange(70), 70)), expected)
    assert ["failed" in record.message for record in caplog.records] == [True]
    assert not split.unreadable
