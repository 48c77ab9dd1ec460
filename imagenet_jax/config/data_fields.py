"""The fields of the data and of augmentation: config.data and config.augment."""

import math

from imagenet_jax.config.field import Field, choice, interval, number

MOST = 2**31 - 1  # examples: batches hold their numbers as int32
RESAMPLED = ("nearest", "bilinear", "bicubic")  # interpolations of a turned or sheared image
METHODS = (*RESAMPLED, "area", "lanczos")
CROPS = ("center_crop", "resize_center_crop", "resize", "letterbox", "align", "none")


def _are_shares(value: tuple[float, ...]) -> bool:
    return len(value) <= 3 and all(0 <= share <= 1 for share in value)


DATA: dict[str, Field] = {
    "data.name": Field(
        "imagenet2012",
        "the name of a TFDS data set, fake, folder:PATH, zip:PATH, csv:PATH, tfrecord:DIR; for "
        "segmentation masks:PATH, for detection coco:PATH, voc:PATH, yolo:PATH",
    ),
    "data.dir": Field("", "TFDS data directory; '': $TFDS_DATA_DIR or ~/tensorflow_datasets"),
    "data.train_split": Field("train", "split (TFDS) or sub-folder trained on"),
    "data.eval_split": Field(
        "validation",
        "split (TFDS) or sub-folder evaluated on; a single one called val, valid, dev, eval or "
        "evaluation stands for validation, and the other way round; where this and train_split are "
        "the defaults and there is none, test does, or a tenth of each class of the only split",
    ),
    "data.folds": Field(
        0,
        "cross-validation: parts of train_split, one of which is evaluated on; 0: none",
        "0 or at least 2",
        lambda v: v == 0 or v >= 2,
    ),
    "data.fold": number(0, "which of the folds is evaluated on, from 0; trained on the others", 0),
    "data.image_size": number(224, "height and width in pixels that the model sees", 1, 2**14),
    "data.train_size": number(
        0, "height and width in pixels of training images; 0: image_size", 0, 2**14
    ),
    "data.train_crop": choice(
        "random_resized_crop",
        ("random_resized_crop", "resize_random_crop", "scale_jitter", "ssd_crop", *CROPS),
        "how training images get to their size, on the host; see data/images/preprocess.py",
    ),
    "data.train_resize": number(
        0,
        "resize_random_crop: height and width in pixels to which training images are squeezed "
        "before the crop, 512 for 480 in BiT's fine-tuning",
        0,
        2**14,
    ),
    "data.crop_area": interval(
        (0.08, 1.0), "random_resized_crop: range of the share of the image's area", 1
    ),
    "data.crop_ratio": interval((3 / 4, 4 / 3), "random_resized_crop: range of width / height"),
    "data.jitter": interval(
        (0.5, 2.0), "scale_jitter: range of the factor of a side's length, see data.jitter_side"
    ),
    "data.jitter_side": choice(
        "long", ("long", "short"), "scale_jitter: the side of an image that is image_size at 1"
    ),
    "data.pad_fill": Field(
        (124, 116, 104),
        "letterbox, scale_jitter, ssd_crop, align: what is beside an image, ImageNet's mean colour",
        "three levels of 0 to 255",
        lambda v: len(v) == 3 and all(0 <= level <= 255 for level in v),
    ),
    "data.landmarks": Field(
        "",
        "align: a CSV file with the columns name (of images), left_eye_x, left_eye_y, right_eye_x, "
        "right_eye_y, and so for nose, left_mouth, right_mouth, in pixels of the photo",
    ),
    "data.mosaic": number(
        0.0,
        "detection, instances, segmentation: share of the training images that are made of parts "
        "of four",
        0,
        1,
    ),
    "data.copy_paste": number(
        0.0,
        "instances: share of the training images that get half of the objects of another one",
        0,
        1,
    ),
    "data.max_objects": number(
        100,
        "detection: objects that an image has room for; of more the largest are trained on, and an "
        "evaluation stops",
        1,
        1000,
    ),
    "data.eval_crop": choice(
        "center_crop",
        CROPS,
        "how evaluation images get to image_size; see data/images/preprocess.py",
    ),
    "data.eval_crop_fraction": Field(
        0.875,
        "center_crop: side of the crop over the image's short side; resize_center_crop: "
        "image_size over the resized short side",
        "above 0, at most 1",
        lambda v: 0 < v <= 1,
    ),
    "data.eval_resize": number(
        0,
        "resize_center_crop: short side in pixels before the crop; 0: image_size / "
        "eval_crop_fraction, rounded down",
        0,
    ),
    "data.resize_method": choice(
        "bilinear",
        (*METHODS, "random"),
        "interpolation; random: bilinear or bicubic, drawn for each training image",
    ),
    "data.eval_resize_method": choice(
        "", ("", *METHODS), "interpolation of evaluation images; '': resize_method"
    ),
    "data.resize_antialias": Field(
        False, "filter before shrinking: Pillow's resize; else OpenCV's, which is faster"
    ),
    "data.draft": Field(
        True,
        "training: decode a JPEG's crop at 1/2, 1/4 or 1/8 of its size where that is no "
        "smaller than the image that is made of it",
    ),
    "data.exif_orientation": Field(True, "turn photos upright as their EXIF data say"),
    "data.max_pixels": number(2**27, "larger images count as unreadable", 1),
    "data.cache": Field(False, "decode the whole data set once and keep it in memory"),
    "data.bad_images": choice(
        "fail",
        ("fail", "skip"),
        "an image that cannot be read: stop, or name it and go on with weight 0 in its place",
    ),
    "data.max_bad_fraction": number(
        0.05, "bad_images = skip: largest share of a split's images that may be unreadable", 0, 1
    ),
    "data.rotate": number(0.0, "training: random rotation by up to this many degrees", 0, 180),
    "data.translate": number(0.0, "training: random shift by up to this share of a side", 0, 1),
    "data.policy": choice(
        "",
        (
            *("", "randaugment", "randaugment_tf", "randaugment_timm", "trivialaugment", "augmix"),
            *("autoaugment", "autoaugment_tf", "autoaugment_cifar10", "autoaugment_svhn"),
        ),
        "training: augmentation policy on the host; see data/images/policies.py",
    ),
    "data.policy_ops": number(
        2, "randaugment, randaugment_tf, randaugment_timm: operations in a row", 1, 8
    ),
    "data.policy_magnitude": number(
        9.0,
        "randaugment: whole, 0 to 30; augmix: whole, 1 to 10; randaugment_tf: its level, of 10 and "
        "beyond; randaugment_timm: at most data.policy_magnitude_max",
        0,
        30,
    ),
    "data.policy_magnitude_std": number(
        0.5,
        "randaugment_timm: standard deviation of the magnitude, which is cut to 0 to "
        "data.policy_magnitude_max",
        0,
    ),
    "data.policy_magnitude_max": number(
        10.0, "randaugment_timm: largest magnitude (mmax), 10 being the scale's end", 0, 30
    ),
    "data.policy_increasing": Field(
        True, "randaugment_timm: operations change more the larger the magnitude is (inc1)"
    ),
    "data.policy_prob": number(
        0.5, "randaugment_timm: chance that a drawn operation is applied", 0, 1
    ),
    "data.policy_fill": Field(
        (124, 116, 104),
        "randaugment_timm: what comes in where an image is moved, timm's being the mean colour",
        "three levels of 0 to 255",
        lambda v: len(v) == 3 and all(0 <= level <= 255 for level in v),
    ),
    "data.sampling": choice(
        "",
        ("", "balanced"),
        "training: every example once an epoch, or every class equally often, an epoch being as "
        "many examples as the split has",
    ),
    "data.per_class": number(
        0,
        "training: images of each class in a batch, so that a batch has batch_size / per_class "
        "classes; of a class with fewer some come again, augmented anew; 0: as data.sampling says",
        0,
    ),
    "data.held_out_classes": Field(
        (),
        "embedding: classes that are never trained on and alone evaluated on (open set), by their "
        "names or as FIRST..LAST, numbers of classes in the order of the data set",
        "names or ranges, as in ('7..9',)",
        lambda v: all(isinstance(name, str) and name for name in v) and len({*v}) == len(v),
    ),
    "data.repeats": number(
        1, "training: how often an example comes in a row, each time augmented anew", 1
    ),
    "data.views": number(
        1,
        "training: images made of each example with one crop and flip; the first is as it is, the "
        "others each as data.policy, data.rotate and data.translate draw; see loss.jsd",
        1,
        16,
    ),
    "data.crops": number(
        1,
        "training: random crops of each example, as data.crop_area says, each a view of it for "
        "learning without labels",
        1,
        16,
    ),
    "data.local_crops": number(
        0, "training: further crops of each example, smaller ones (DINO's multi-crop)", 0, 64
    ),
    "data.local_size": number(96, "height and width of data.local_crops in pixels", 1, 2**14),
    "data.local_area": interval((0.05, 0.4), "share of the image's area of data.local_crops", 1),
    "data.workers": number(0, "threads that read and decode; 0: one per CPU core", 0),
    "data.prefetch": number(2, "batches made ahead by the host", 1),
    "data.fake_train_examples": number(1281167, "fake: size of the training split", 1, MOST),
    "data.fake_eval_examples": number(50000, "fake: size of the evaluation split", 1, MOST),
    "data.fake_classes": number(1000, "fake: number of classes", 2, 10**6),
    "augment.flip": Field(True, "mirror half of the training images"),
    "augment.flip_alternates": Field(
        False,
        "each image is mirrored in every other epoch, not by chance: all are seen in both ways in "
        "two epochs (airbench)",
    ),
    "augment.pad": number(0, "random translation by up to this many pixels", 0, 2**14),
    "augment.pad_mode": choice("constant", ("constant", "reflect"), "what is shifted in"),
    "augment.brightness": number(
        0.0, "colour jitter: range of the factor around 1, or see augment.jitter", 0
    ),
    "augment.contrast": number(0.0, "colour jitter: range of the factor around 1", 0),
    "augment.saturation": number(0.0, "colour jitter: range of the factor around 1", 0),
    "augment.hue": number(0.0, "colour jitter: largest turn, as a share of the circle", 0, 0.5),
    "augment.jitter": choice(
        "torchvision",
        ("torchvision", "tensorflow"),
        "form of the colour jitter, in random order; tensorflow: brightness is added, contrast "
        "turns about each channel's mean, saturation is that of HSV (Inception, slim)",
    ),
    "augment.jitter_share": number(1.0, "share of the images with colour jitter", 0, 1),
    "augment.grayscale": number(0.0, "share of the training images made grey", 0, 1),
    "augment.solarize": number(0.0, "share whose levels from 128 on are inverted", 0, 1),
    "augment.blur": number(0.0, "share blurred by a Gaussian", 0, 1),
    "augment.view_blur": Field(
        (),
        "learning without labels: shares of the first, the second and of further crops that are "
        "blurred; (): augment.blur of each",
        "one to three numbers of 0 to 1, as in (1.0, 0.1, 0.5); of the last one on all the same",
        _are_shares,
    ),
    "augment.view_solarize": Field(
        (),
        "the same of solarisation; (): augment.solarize of each",
        "one to three numbers of 0 to 1, as in (0.0, 0.2, 0.0); of the last one on all the same",
        _are_shares,
    ),
    "augment.blur_sigma": interval((0.1, 2.0), "range of the Gaussian's sigma in pixels"),
    "augment.lighting": number(
        0.0, "standard deviation of the noise along the colours' axes (AlexNet: 0.1); 0: none", 0
    ),
    "augment.noise": number(0.0, "standard deviation of noise added to RGB in [0, 1]", 0),
    "augment.three_augment": Field(
        False, "grey, solarize or blur, one of them for each image (DeiT III)"
    ),
    "augment.erase": number(0.0, "share of the training images with a box erased", 0, 1),
    "augment.erase_area": interval((0.02, 0.33), "range of the erased box's share of the image", 1),
    "augment.erase_ratio": interval((0.3, 3.3), "range of the erased box's height / width"),
    "augment.erase_count": number(
        1, "most boxes erased of an image, which share the area; timm's recount", 1, 16
    ),
    "augment.erase_mode": choice(
        "zero", ("zero", "color", "pixel"), "the mean colour, one random colour, or noise"
    ),
    "augment.mixup": number(0.0, "alpha of mixup; 0: none", 0),
    "augment.cutmix": number(0.0, "alpha of CutMix; 0: none", 0),
    "augment.switch_prob": number(0.5, "share of CutMix where both are on", 0, 1),
    "augment.switch_halves": Field(
        False,
        "mixup for half of the images and CutMix for the other half of each batch (EfficientNetV2, "
        "NFNets), not by the chance switch_prob; needs both",
    ),
    "augment.mix_prob": number(1.0, "share of the batches, pairs or images that are mixed", 0, 1),
    "augment.mix_per": choice(
        "pair",
        ("pair", "batch", "image", "half"),
        "what shares one drawn ratio; timm's modes pair, batch, elem and half: of a pair one image "
        "is made, so that the network gets half of batch_size, and no photo is used twice",
    ),
    "augment.mixup_fold": Field(
        False, "mixup: each image keeps at least half of itself (big_vision, EfficientNetV2)"
    ),
    "augment.colout": Field(
        0.0,
        "share of the rows and of the columns left out of training images, the same in a batch "
        "(Composer: 0.05); 0: none",
        "from 0 to 0.5",
        lambda v: 0 <= v <= 0.5,
    ),
    "augment.mean": Field(
        (0.485, 0.456, 0.406),
        "subtracted from RGB in [0, 1]",
        "three numbers",
        lambda v: len(v) == 3 and all(map(math.isfinite, v)),
    ),
    "augment.std": Field(
        (0.229, 0.224, 0.225),
        "RGB in [0, 1] is divided by it",
        "three numbers above 0",
        lambda v: len(v) == 3 and all(map(math.isfinite, v)) and min(v) > 0,
    ),
}
