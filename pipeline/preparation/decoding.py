"""Image files as uint8 RGB arrays of one size, by CLIP's preprocessing; docs/data.md says what odd images become."""

from io import BytesIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

Pixels = UInt8[np.ndarray, "3 size size"]

# Not Pillow's others, some of which run programs.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")


def decode(content: bytes, size: int, native: int | None) -> Pixels:
    """An image file's pixels, ``[3, size, size]``.

    Args:
        content: the file.
        size: height and width of the result.
        native: height and width that the image must have, if all of its dataset are said to have the same.

    Raises:
        ValueError: the file is broken, no image of :data:`FORMATS`, or of another size than ``native``.
    """
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            pixels = to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise ValueError(f"cannot be decoded: no image of the formats {', '.join(FORMATS)}") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot be decoded: {' '.join(str(error).split())}") from None
    if native is not None and pixels.size != (native, native):
        raise ValueError(f"is {pixels.height} x {pixels.width}, but its task says that all are {native} x {native}")
    return np.ascontiguousarray(np.asarray(resize_and_crop(pixels, size)).transpose(2, 0, 1))


def to_rgb(image: Image.Image) -> Image.Image:
    """Eight bits of red, green and blue.

    Greyscale is repeated, 16 bits lose the lower eight, transparency is dropped with the colours below it kept, and
    CMYK is converted without a colour profile.

    Raises:
        ValueError: the pixels are no numbers of at most 16 bits.
    """
    if image.mode.startswith("I"):
        wide = np.asarray(image)
        if wide.min() < 0 or wide.max() > 65535:
            raise ValueError("its pixels have more than 16 bits")
        return Image.fromarray((wide >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers")
    if image.mode in ("P", "PA"):  # through RGBA, as Pillow wants it where a palette has transparent colours
        image = image.convert("RGBA")
    return image.convert("RGB")


def resize_and_crop(image: Image.Image, size: int) -> Image.Image:
    """Bicubic, antialiased, the shorter side to ``size``; then the square in the middle."""
    width, height = image.size
    if (width, height) == (size, size):
        return image
    short = min(width, height)
    width, height = int(size * width / short), int(size * height / short)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))
