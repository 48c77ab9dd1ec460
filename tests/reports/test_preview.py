import numpy as np
from PIL import Image

from imagenet_jax.reports import preview as sheet


def test_each_row_shows_the_same_images_under_its_augmentation(tiny_config, tmp_path, monkeypatch):
    rows = {name: sheet.ROWS[name] for name in ("not augmented", "grayscale", "erase", "cutmix 1")}
    monkeypatch.setattr(sheet, "ROWS", rows)
    tiny_config.data.fake_train_examples = 8
    result = sheet.preview(tiny_config, tmp_path / "sheet.png", ("label",))
    assert result["rows"] == ["this config", *rows]
    picture = Image.open(result["path"])
    height = picture.height // len(result["rows"])
    lines = [np.asarray(picture)[k * height : (k + 1) * height, 190:] for k in range(5)]
    _, plain, grey, erased, cut = (line.astype(int) for line in lines)
    assert (np.ptp(grey, axis=-1) <= 1).all() and np.ptp(plain, axis=-1).max() > 50
    for changed in (erased, cut):
        assert 0.02 < (np.abs(changed - plain).max(-1) > 30).mean() < 0.9


def test_every_row_is_a_possible_config(tiny_config):
    for fields in sheet.ROWS.values():
        row = sheet.from_dict(sheet._plain(tiny_config).to_dict())
        sheet.apply_overrides(row, fields)
        for name, text in fields.items():
            section, field = name.split(".")
            assert str(row[section][field]).lower().removesuffix(".0") == text.removesuffix(".0")
