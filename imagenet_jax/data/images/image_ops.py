"""The operations that augmentation policies are made of, on Pillow images, as torchvision's.

They run on the host, where only the operation that was drawn is computed. In the compiled step
every image would pay for all fourteen: XLA's estimate for a TPU v5e is 11 us an image for a
rotation and 25 us for an equalization, of 555 us that ResNet-50 trains on it
(benchmarks/augmentations.py).
"""

from collections.abc import Callable

from PIL import Image, ImageEnhance, ImageOps

Fill = tuple[int, int, int] | None  # None: black
AFFINE, NEAREST = Image.Transform.AFFINE, Image.Resampling.NEAREST


def shear_x(image: Image.Image, magnitude: float, fill: Fill = None) -> Image.Image:
    """Row y is moved to the left by `magnitude` y pixels; `fill` comes in."""
    return image.transform(image.size, AFFINE, (1, magnitude, 0, 0, 1, 0), NEAREST, fillcolor=fill)


def shear_y(image: Image.Image, magnitude: float, fill: Fill = None) -> Image.Image:
    """Column x is moved up by `magnitude` x pixels; `fill` comes in."""
    return image.transform(image.size, AFFINE, (1, 0, 0, magnitude, 1, 0), NEAREST, fillcolor=fill)


def translate_x(image: Image.Image, magnitude: float, fill: Fill = None) -> Image.Image:
    """Moves the image right by `magnitude` pixels, rounded towards 0; `fill` comes in."""
    return image.transform(
        image.size, AFFINE, (1, 0, -int(magnitude), 0, 1, 0), NEAREST, fillcolor=fill
    )


def translate_y(image: Image.Image, magnitude: float, fill: Fill = None) -> Image.Image:
    """Moves the image down by `magnitude` pixels, rounded towards 0; `fill` comes in."""
    return image.transform(
        image.size, AFFINE, (1, 0, 0, 0, 1, -int(magnitude)), NEAREST, fillcolor=fill
    )


def rotate(image: Image.Image, magnitude: float, fill: Fill = None) -> Image.Image:
    """Turns the image by `magnitude` degrees, counter-clockwise; `fill` comes in."""
    return image.rotate(magnitude, NEAREST, fillcolor=fill)


def brightness(image: Image.Image, magnitude: float) -> Image.Image:
    """Blends with black: 1 + magnitude is the image's share."""
    return ImageEnhance.Brightness(image).enhance(1 + magnitude)


def color(image: Image.Image, magnitude: float) -> Image.Image:
    """Blends with grey: 1 + magnitude is the image's share."""
    return ImageEnhance.Color(image).enhance(1 + magnitude)


def contrast(image: Image.Image, magnitude: float) -> Image.Image:
    """Blends with the mean level: 1 + magnitude is the image's share."""
    return ImageEnhance.Contrast(image).enhance(1 + magnitude)


def sharpness(image: Image.Image, magnitude: float) -> Image.Image:
    """Blends with a smoothed image: 1 + magnitude is the image's share."""
    return ImageEnhance.Sharpness(image).enhance(1 + magnitude)


def posterize(image: Image.Image, magnitude: float) -> Image.Image:
    """Keeps the highest `magnitude` bits, 0 to 8; Pillow itself refuses 0, which is black."""
    bits = int(magnitude)
    return ImageOps.posterize(image, bits) if bits else Image.new(image.mode, image.size)


def solarize(image: Image.Image, magnitude: float) -> Image.Image:
    """Inverts all levels from `magnitude` on, 0 to 255."""
    return ImageOps.solarize(image, magnitude)


OPERATIONS: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "Identity": lambda image, magnitude: image,
    "ShearX": shear_x,
    "ShearY": shear_y,
    "TranslateX": translate_x,
    "TranslateY": translate_y,
    "Rotate": rotate,
    "Brightness": brightness,
    "Color": color,
    "Contrast": contrast,
    "Sharpness": sharpness,
    "Posterize": posterize,
    "Solarize": solarize,
    "AutoContrast": lambda image, magnitude: ImageOps.autocontrast(image),
    "Equalize": lambda image, magnitude: ImageOps.equalize(image),
    "Invert": lambda image, magnitude: ImageOps.invert(image),
}
