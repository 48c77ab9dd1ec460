import pytest

from imagenet_jax.config import (
    apply_overrides,
    base_config,
    differences,
    flatten,
    from_json,
    load_config,
    to_json,
    validate,
)
from imagenet_jax.config.schema import SCHEMA
from imagenet_jax.errors import ConfigError


def test_defaults_are_valid_and_complete():
    config = base_config()
    validate(config)
    assert set(dict(flatten(config))) == set(SCHEMA)


@pytest.mark.parametrize("name", SCHEMA)
def test_every_field_says_what_it_means(name):
    assert len(SCHEMA[name].meaning) > 10


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("batch_size", "64", 64),
        ("optim.learning_rate", "1e-3", 1e-3),
        ("augment.flip", "false", False),
        ("model.name", "resnet18", "resnet18"),
        ("data.crop_area", "(0.25, 1)", (0.25, 1.0)),
        ("schedule.boundaries", "30 epochs,60 epochs", ("30 epochs", "60 epochs")),
        ("schedule.boundaries", "['30 epochs', '60 epochs']", ("30 epochs", "60 epochs")),
        ("optim.decayed", "lora_[ab],(kernel|gain)$", ("lora_[ab]", "(kernel|gain)$")),
        ("optim.decayed", "('a{1,2}', 'b,c')", ("a{1,2}", "b,c")),
        ("optim.decayed", "(a)|(b)", ("(a)|(b)",)),
        ("seed", " 1_0 ", 10),
        ("eval.every", "", ""),
        ("compiler_options", "xla_a=1, TPU v4: xla_b=x", ("xla_a=1", "TPU v4: xla_b=x")),
    ],
)
def test_override_has_the_type_of_the_field(name, text, value):
    config = base_config()
    apply_overrides(config, {name: text})
    validate(config)
    found = dict(flatten(config))[name]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("bach_size", "3", "did you mean 'batch_size'"),
        ("optim.lr", "3", "no field 'optim.lr'"),
        ("learning_rate", "3", "did you mean 'optim.learning_rate'"),
        ("batch_size", "many", "batch_size=many cannot be read; expected int, at least 1"),
        ("augment.flip", "maybe", "expected true or false"),
        ("data.crop_area", "a,b", "two numbers"),
        ("optim.decayed", "kernel(", "regular expressions"),
        ("batch_size", "9" * 5000, "expected int, at least 1"),
    ],
)
def test_bad_override_names_field_value_and_what_is_right(name, text, message):
    with pytest.raises(ConfigError, match=None) as error:
        apply_overrides(base_config(), {name: text})
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("batch_size", 0, "batch_size = 0 is not possible; expected at least 1"),
        ("eval.batch_size", 10**20, "expected at least 1, below 2^31"),
        ("ema_decay", 1.5, "from 0 to below 1"),
        ("optim.name", "adam", "one of sgd, adamw"),
        ("duration", "90", "as in '90 epochs'"),
        ("duration", "50 percent", "one of steps, epochs, examples"),
        ("schedule.warmup", "5 weeks", "steps, epochs, examples, percent"),
        ("data.crop_area", (0.5, 0.1), "0 < low <= high <= 1"),
        ("augment.std", (0.2, 0.0, 0.2), "three numbers above 0"),
        ("augment.std", (0.2, 0.2, float("inf")), "three numbers above 0"),
        ("augment.mean", (float("nan"), 0.0, 0.0), "three numbers"),
        ("augment.mean", ("a", "b", "c"), "three numbers"),
        ("data.crop_ratio", (0.5, float("inf")), "two numbers, 0 < low <= high"),
        ("optim.decayed", ("a{99999999999}",), "regular expressions"),
        ("data.fake_train_examples", 2**31, "between 1 and"),
        ("duration", "9" * 400 + " epochs", "as in '90 epochs'"),
        ("schedule.boundaries", ("30",), "durations"),
        ("eval.every", "0 epochs", "a number above 0 and one of steps"),
        ("checkpoint.every", "0.0 percent", "a number above 0 and one of steps"),
        ("data.local_area", (0.5, 3.0), "0 < low <= high <= 1"),
        ("optim.weight_decay_end", float("inf"), "-1, or at least 0"),
        ("compiler_options", ("--xla_a=1",), "NAME=VALUE or DEVICE_KIND: NAME=VALUE"),
    ],
)
def test_impossible_value_names_what_is_allowed(name, value, message):
    config = base_config()
    section, _, key = name.rpartition(".")
    (config[section] if section else config)[key] = value
    with pytest.raises(ConfigError) as error:
        validate(config)
    assert message in str(error.value)


def test_added_field_is_refused():
    config = base_config()
    with config.unlocked():
        config.convert_dict = False
    with pytest.raises(ConfigError, match="no field 'convert_dict'"):
        validate(config)


def test_repeats_are_no_more_than_a_batch():
    config = base_config()
    config.batch_size, config.data.repeats = 2, 3
    with pytest.raises(ConfigError, match=r"config\.data\.repeats = 3 is larger than .* = 2"):
        validate(config)
    config.batch_size = 4  # which they need not divide
    validate(config)


def test_json_round_trip_keeps_every_value():
    config = base_config()
    config.schedule.boundaries = ("30 epochs",)
    assert differences(config, from_json(to_json(config))) == []


def test_differences_name_fields_and_both_values():
    old, new = base_config(), base_config()
    new.optim.learning_rate = 0.7
    assert differences(old, new) == ["optim.learning_rate: 0.1 -> 0.7"]


def test_config_file_with_a_misspelt_field(tmp_path):
    file = tmp_path / "c.py"
    file.write_text(
        "from imagenet_jax.config import base_config\n"
        "def get_config():\n    c = base_config()\n    c.bach_size = 1\n    return c\n"
    )
    with pytest.raises(ConfigError, match=r"c.py: .*batch_size"):
        load_config(file)


def test_a_folder_does_not_hide_a_config(tmp_path, monkeypatch):
    (tmp_path / "quickstart").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_config("quickstart").data.name == "digits"


def test_missing_config_file_lists_its_neighbours(tmp_path):
    (tmp_path / "a.py").write_text("")
    with pytest.raises(ConfigError, match=r"b.py is no Python file; there are .*a.py"):
        load_config(tmp_path / "b.py")
