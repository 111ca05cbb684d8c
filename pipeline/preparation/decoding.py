"""Decode image files to uint8 RGB arrays of one size, by CLIP's preprocessing (docs/data.md)."""

from io import BytesIO

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from pipeline.errors import one_line

Pixels = UInt8[np.ndarray, "3 size size"]

# Pillow's other readers are excluded: some run programs.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")


# The transpositions that turn an image upright, by the value of EXIF's orientation tag.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_DOUBTFUL = 1 << 14  # 16-bit numbers that are all below this may be of 10, 12 or 14 bits
_MOST_PIXELS = 178_956_970  # Pillow's own limit for an image that it opens


def decode(content: bytes, size: int, native: int | None) -> Pixels:
    """Return an image file's pixels, ``[3, size, size]``.

    Args:
        content: the file.
        size: height and width of the result.
        native: height and width that the image must have, if the task declares one size for all.

    Raises:
        ValueError: the file is broken, not an image of :data:`FORMATS`, or of another size than ``native``.
    """
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            wide_colours = _has_wide_colours(image)
            image.load()
            pixels = to_rgb(image)
            if wide_colours:  # of which Pillow keeps the upper eight bits
                _check_range(int(np.asarray(pixels).max()) << 8 | 255)
            orientation = _orientation(image)
    except UnidentifiedImageError:
        raise ValueError(f"cannot be decoded: {_what_it_is(content)}") from None
    except Exception as error:  # Pillow's readers raise many kinds of errors for broken files
        raise ValueError(f"cannot be decoded: {one_line(error) or type(error).__name__}") from None
    if orientation in _UPRIGHT:
        pixels = pixels.transpose(_UPRIGHT[orientation])
    if native is not None and pixels.size != (native, native):
        raise ValueError(f"is {pixels.height} x {pixels.width}, but its task says that all are {native} x {native}")
    short, long = sorted(pixels.size)
    if size * (size * long // short) > _MOST_PIXELS:
        raise ValueError(f"is {pixels.height} x {pixels.width}: too narrow to be resized to {size} pixels")
    return np.ascontiguousarray(np.asarray(resize_and_crop(pixels, size)).transpose(2, 0, 1))


def _orientation(image: Image.Image) -> int:
    """Return EXIF's orientation tag, or 1 (upright) if there is none that can be read."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # broken tags raise many kinds of errors
        return 1
    return orientation if isinstance(orientation, int) else 1


def _what_it_is(content: bytes) -> str:
    """Describe a file that Pillow does not recognise."""
    start = content[:512].lstrip().lower()
    if not content:
        return "it is empty"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; run `git lfs pull` where it came from"
    if start.startswith((b"<!doctype html", b"<html")):
        return "it is a web page"
    return f"it is not an image of the formats {', '.join(FORMATS)}"


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an image with eight bits of red, green and blue.

    Greyscale is repeated, transparency is dropped with the colours below it kept, and CMYK is converted without a
    colour profile. Wide greyscale whose values fit into eight bits keeps them; else 16 bits lose the lower eight.
    A PGM, and a TIFF of 9 to 15 bits, declare their range, which becomes that of eight bits.

    Raises:
        ValueError: the pixels are floating-point, signed, inverted, or of an unknown range.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        _check_kind(image)
    if image.mode.startswith("I"):
        wide = np.asarray(image)
        if image.mode == "I" and _is_unsigned(image):
            wide = wide.view(np.uint32)
        low, high = int(wide.min()), int(wide.max())
        if low < 0 or high > 65535 or (high > 255 and image.mode == "I" and image.format != "PPM"):
            raise ValueError(
                f"its pixels are 32-bit numbers from {low} to {high}, whose range is unknown; save it with 8 or 16 bits"
            )
        bits = _declared_bits(image)
        if bits is None and high > 255:
            _check_range(high)
            bits = 16
        return Image.fromarray((wide >> (bits - 8 if bits else 0)).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers; save it with 8 or 16 bits")
    if image.mode in ("P", "PA"):  # through RGBA, as Pillow requires for palettes with transparent colours
        image = image.convert("RGBA")
    return image.convert("RGB")


def _check_kind(image: TiffImagePlugin.TiffImageFile) -> None:
    """Refuse numbers whose meaning Pillow ignores."""
    if _tag(image, TiffImagePlugin.SAMPLEFORMAT) == 2 and _tag(image, TiffImagePlugin.BITSPERSAMPLE) < 32:
        raise ValueError("its pixels are signed numbers (SampleFormat 2); save it with 8 bits, unsigned")
    if image.mode.startswith("I") and _tag(image, TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:
        raise ValueError("its pixels are wide numbers of which 0 is white (MinIsWhite); save it with 8 bits")


def _declared_bits(image: Image.Image) -> int | None:
    """Return the bits that wide greyscale uses, if its file says so."""
    if image.format == "PPM":  # Pillow stretches the file's range to this
        return 16
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = _tag(image, TiffImagePlugin.BITSPERSAMPLE)
        return bits if 8 < bits < 16 else None
    return None


def _is_unsigned(image: Image.Image) -> bool:
    """Return whether a TIFF says that its numbers are unsigned, which Pillow's mode ``I`` does not keep."""
    return isinstance(image, TiffImagePlugin.TiffImageFile) and _tag(image, TiffImagePlugin.SAMPLEFORMAT) == 1


def _tag(image: TiffImagePlugin.TiffImageFile, number: int) -> int:
    """Return the first value of a tag, 1 if it is absent, as TIFF says of those asked for here."""
    value = image.tag_v2.get(number, 1)
    return value[0] if isinstance(value, tuple) else value


def _has_wide_colours(image: Image.Image) -> bool:
    """Return whether an image that is not yet loaded has 16 bits per channel, of which Pillow keeps eight."""
    if not isinstance(image, ImageFile.ImageFile) or image.mode not in ("RGB", "RGBA", "RGBX", "LA"):
        return False
    return image.format in ("PNG", "TIFF") and any(";16" in str(tile.args) for tile in image.tile)


def _check_range(high: int) -> None:
    """Refuse 16-bit numbers up to ``high`` that may be of fewer bits, and would become nearly black."""
    if high < _DOUBTFUL:
        raise ValueError(f"its pixels are 16-bit numbers up to {high}, whose range is unknown; save it with 8 bits")


def resize_and_crop(image: Image.Image, size: int) -> Image.Image:
    """Resize the shorter side to ``size``, bicubic and antialiased; return the square in the middle."""
    width, height = image.size
    if (width, height) == (size, size):
        return image
    short = min(width, height)
    width, height = int(size * width / short), int(size * height / short)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))
