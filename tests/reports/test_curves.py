import json

from matplotlib.colors import to_hex

from imagenet_jax.config import base_config
from imagenet_jax.reports import curves
from imagenet_jax.reports.curves import plot_curves, training_loss_note


def test_curves_are_over_epochs_in_a_colour_for_each_split(tmp_path, monkeypatch):
    lines = [
        {"step": 10, "epoch": 0.5, "train/loss": 2.0, "train/top1": 0.1, "learning_rate": 0.1},
        {"step": 20, "epoch": 1.0, "train/loss": 1.0, "train/top1": 0.2, "learning_rate": 0.2},
        {"step": 15, "eval/loss": 1.8, "eval/top1": 0.3},
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    drawn = []
    monkeypatch.setattr(curves, "replace_figure", lambda path, figure: drawn.append(figure))
    plot_curves(tmp_path, base_config(), "top1", "test")
    loss, top1, rate = drawn[0].axes
    assert [axis.get_ylabel() for axis in drawn[0].axes] == ["loss", "top1", "learning rate"]
    assert {axis.get_xlabel() for axis in drawn[0].axes} == {"epochs"}
    colours = set()
    for axis, value in ((loss, 1.8), (top1, 0.3)):
        train, evaluation = axis.lines
        assert list(train.get_xdata()) == [0.5, 1.0]
        assert (list(evaluation.get_xdata()), list(evaluation.get_ydata())) == ([0.75], [value])
        assert evaluation.get_label() == "evaluation: test"
        colours.add((to_hex(train.get_color()), to_hex(evaluation.get_color())))
    assert len(colours) == 1 and len(set(*colours)) == 2
    assert list(rate.lines[0].get_ydata()) == [0.1, 0.2]


def test_what_lifts_the_training_loss_is_named():
    config = base_config()
    config.loss.label_smoothing, config.data.train_crop, config.data.policy = 0.0, "none", ""
    assert training_loss_note(config) == ""
    config.loss.label_smoothing, config.augment.cutmix = 0.1, 1.0
    expected = "the training loss is lifted by smoothed labels, mixed images"
    assert training_loss_note(config) == expected
