import numpy as np
import pytest
import tensorflow as tf

from imagenet_jax.data.sources.example_proto import parse_example


def serialized(**features):
    kinds = {bytes: ("bytes_list", tf.train.BytesList), int: ("int64_list", tf.train.Int64List)}
    kinds[float] = ("float_list", tf.train.FloatList)
    feature = {}
    for name, values in features.items():
        field, make = kinds[type(values[0])]
        feature[name] = tf.train.Feature(**{field: make(value=values)})
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


@pytest.mark.parametrize("size", [0, 1, 127, 128, 20_000, 300_000])
def test_bytes_and_numbers_are_what_tensorflow_wrote(size):
    image = np.random.default_rng(size).bytes(size)
    numbers = [0, 1, 127, 128, -1, 2**63 - 1, -(2**63)]
    record = serialized(image=[image], label=numbers, file_name=["Ä.jpg".encode()], w=[0.5, 2.0])
    found = parse_example(record)
    assert [bytes(value) for value in found["image"]] == [image]
    assert found["label"] == numbers and found["w"] == [0.5, 2.0]
    assert str(found["file_name"][0], "utf-8") == "Ä.jpg"


def test_several_values_and_none():
    record = serialized(words=[b"one", b"", b"three"])
    assert [bytes(word) for word in parse_example(record)["words"]] == [b"one", b"", b"three"]
    assert parse_example(b"") == {}


def test_integers_may_be_unpacked():
    """As an encoder of protobuf version 2 writes them: key 0x08 before each."""
    numbers = b"\x08\x05\x08\xac\x02"
    feature = b"\x1a" + bytes([len(numbers)]) + numbers
    entry = b"\x0a\x01a\x12" + bytes([len(feature)]) + feature
    features = b"\x0a" + bytes([len(entry)]) + entry
    record = b"\x0a" + bytes([len(features)]) + features
    assert list(tf.train.Example.FromString(record).features.feature["a"].int64_list.value) == [
        5,
        300,
    ]
    assert parse_example(record) == {"a": [5, 300]}


def test_a_number_where_bytes_belong_is_refused():
    record = serialized(image=[b"xy"])
    assert record.count(b"\x0a\x02xy") == 1  # key 0x0a: bytes
    with pytest.raises(ValueError, match=r"no tf\.train\.Example"):
        parse_example(record.replace(b"\x0a\x02xy", b"\x08\x02\x08\x02"))


def test_a_record_cut_anywhere_or_of_noise_raises_value_error_if_anything():
    record = serialized(image=[b"x" * 50], label=[3], file_name=[b"a.jpg"])
    rng = np.random.default_rng(0)
    damaged = [record[:length] for length in range(len(record))]
    damaged += [rng.bytes(30) for _ in range(500)]
    failed = 0
    for content in damaged:
        try:
            parse_example(content)
        except ValueError as error:
            failed += str(error) == "the record is no tf.train.Example"
    assert failed > len(record) - 20
