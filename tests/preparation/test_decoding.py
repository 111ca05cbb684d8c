"""Decoding: equal to open_clip's own preprocessing where that is well defined, and the documented thing elsewhere."""

import io
import re
import struct
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
import open_clip
import pytest
from PIL import Image, ImageOps
from torchvision.transforms import CenterCrop, Compose, Resize

from pipeline.preparation.decoding import decode


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def flat(pixels: np.ndarray) -> list[int]:
    """The three channels of an image of one colour."""
    assert all(len(np.unique(channel)) == 1 for channel in pixels)
    return pixels[:, 0, 0].tolist()


def clip_preprocessing(size: int) -> Compose:
    """open_clip's for evaluation, without what makes a normalised tensor of the image."""
    whole = open_clip.image_transform(size, is_train=False, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert isinstance(whole, Compose)
    steps = whole.transforms
    assert isinstance(steps[0], Resize)
    assert isinstance(steps[1], CenterCrop)
    return Compose(steps[:3])


@pytest.mark.parametrize(
    ("height", "width"), [(300, 451), (451, 300), (97, 224), (224, 224), (31, 500), (640, 224), (225, 224), (50, 50)]
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_equals_clips_preprocessing(height: int, width: int, kind: str) -> None:
    content = saved(Image.fromarray(noise(height, width)), kind)
    expected = np.asarray(clip_preprocessing(224)(Image.open(io.BytesIO(content)))).transpose(2, 0, 1)
    np.testing.assert_array_equal(decode(content, 224, None), expected)


def test_greyscale_equals_clips_preprocessing() -> None:
    content = saved(Image.fromarray(noise(300, 280, 1)))
    expected = np.asarray(clip_preprocessing(224)(Image.open(io.BytesIO(content)))).transpose(2, 0, 1)
    np.testing.assert_array_equal(decode(content, 224, None), expected)


def test_an_image_of_the_right_size_is_not_touched() -> None:
    pixels = noise(28, 28)
    np.testing.assert_array_equal(decode(saved(Image.fromarray(pixels)), 28, 28), pixels.transpose(2, 0, 1))


def test_cmyk() -> None:
    content = saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF")  # red ink
    assert flat(decode(content, 8, None)) == [255, 0, 0]


def test_adobe_cmyk_jpeg_is_not_inverted() -> None:
    content = saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)
    red, green, blue = flat(decode(content, 16, None))
    assert red > 240
    assert max(green, blue) < 15


@pytest.mark.parametrize("transparency", [None, 0, bytes([0, 128])])
def test_palette(transparency: int | bytes | None) -> None:
    image = Image.new("P", (6, 6), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    options: dict[str, Any] = {} if transparency is None else {"transparency": transparency}
    assert flat(decode(saved(image, **options), 6, None)) == [10, 200, 30]


def test_palette_is_resized_as_colours_not_as_numbers() -> None:
    image = Image.fromarray(np.indices((32, 32)).sum(0).astype(np.uint8) % 2, "L").convert("P")
    image.putpalette([0, 0, 0, 200, 100, 50])
    assert np.abs(decode(saved(image), 16, None).mean((1, 2)) - [100, 50, 25]).max() < 3


@pytest.mark.parametrize(("mode", "colour"), [("RGBA", (10, 20, 30, 0)), ("LA", (40, 0))])
def test_transparency_is_dropped(mode: str, colour: tuple[int, ...]) -> None:
    expected = list(colour[:3]) if mode == "RGBA" else [40, 40, 40]
    assert flat(decode(saved(Image.new(mode, (5, 5), colour)), 5, None)) == expected


def test_two_colours() -> None:
    assert flat(decode(saved(Image.new("1", (5, 5), 1)), 5, None)) == [255, 255, 255]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_lose_the_lower_eight(kind: str) -> None:
    image = Image.fromarray(np.full((7, 7), 0x8123, np.uint16))
    assert image.mode == "I;16"
    assert flat(decode(saved(image, kind), 7, None)) == [0x81] * 3


@pytest.mark.parametrize("value", [1, 200, 255])
@pytest.mark.parametrize(("kind", "number"), [("PNG", np.uint16), ("TIFF", np.uint16), ("TIFF", np.int32)])
def test_wide_grey_with_eight_bit_values_is_as_clip_sees_it(kind: str, number: type, value: int) -> None:
    content = saved(Image.fromarray(np.full((7, 7), value, number)), kind)
    assert flat(decode(content, 7, None)) == [value] * 3
    assert np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).max() == value


def test_sixteen_bits_with_the_upper_eight_first() -> None:
    image = Image.frombytes("I;16B", (4, 4), b"\x81\x23" * 16)
    content = saved(image, "TIFF")
    assert Image.open(io.BytesIO(content)).mode == "I;16B"
    assert flat(decode(content, 4, None)) == [0x81] * 3


def test_sixteen_bits_of_a_pgm_lose_the_lower_eight() -> None:
    """Pillow gives 32-bit numbers for these, in the range of 16 bits."""
    assert flat(decode(b"P5 2 2 65535\n" + b"\x81\x23" * 4, 2, None)) == [0x81] * 3


def sixteen_bit_png(kind: int, *channels: int) -> bytes:
    """A file of one colour, put together by hand, as Pillow cannot write it; ``kind`` 2 is RGB, 4 is LA, 6 is RGBA."""
    row = b"\x00" + struct.pack(f">{len(channels)}H", *channels) * 4

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 4, 4, 16, kind, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(row * 4)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiff(pixels: np.ndarray, photometric: int, bits: int | None = None, sample_format: int = 1) -> bytes:
    """A TIFF of these numbers, ``[height, width, channels]``, put together by hand."""
    height, width, channels = pixels.shape
    content = pixels.tobytes()
    size = bits or pixels.itemsize * 8
    start = 8 + 2 + 12 * 10 + 4  # of what does not fit into the table of tags
    sizes = struct.pack(f"<{channels}H", *[size] * channels)
    formats = struct.pack(f"<{channels}H", *[sample_format] * channels)
    long = channels > 2
    tags = [
        *((256, 4, 1, width), (257, 4, 1, height)),
        (258, 3, channels, start if long else size),
        *((259, 3, 1, 1), (262, 3, 1, photometric), (273, 4, 1, start + 4 * channels), (277, 3, 1, channels)),
        *((278, 4, 1, height), (279, 4, 1, len(content))),
        (339, 3, channels, start + 2 * channels if long else sample_format),
    ]
    table = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + table + bytes(4) + sizes + formats + content


def test_sixteen_bit_colours() -> None:
    assert flat(decode(sixteen_bit_png(2, 0x1234, 0x80FF, 0xFF00), 4, None)) == [0x12, 0x80, 0xFF]
    colours = np.tile(np.array([0x1234, 0x80FF, 0xFF00], "<u2"), (4, 4, 1))
    assert flat(decode(tiff(colours, 2), 4, None)) == [0x12, 0x80, 0xFF]


@pytest.mark.parametrize("high", [256, 1023, 4095, 16383])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_of_a_doubtful_range_is_refused(kind: str, high: int) -> None:
    """Cameras and scanners save 10, 12 or 14 bits as 16: nearly black, if the lower eight are dropped."""
    pixels = np.zeros((5, 5), np.uint16)
    pixels[2, 2] = high
    message = f"^cannot be decoded: its pixels are 16-bit numbers up to {high}, whose range is unknown; save it with 8 "
    with pytest.raises(ValueError, match=message):
        decode(saved(Image.fromarray(pixels), kind), 5, None)
    pixels[2, 2] = 16384
    assert decode(saved(Image.fromarray(pixels), kind), 5, None).max() == 64


DARK_COLOURS = {
    "PNG RGB": sixteen_bit_png(2, 4000, 300, 0),
    "PNG RGBA": sixteen_bit_png(6, 4000, 300, 0, 65535),
    "PNG LA": sixteen_bit_png(4, 4000, 65535),
    "TIFF RGB": tiff(np.full((4, 4, 3), 4000, "<u2"), 2),
}


@pytest.mark.parametrize("kind", DARK_COLOURS)
def test_sixteen_bit_colours_of_a_doubtful_range_are_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=r"16-bit numbers up to 4095, whose range is unknown; save it with 8 bits$"):
        decode(DARK_COLOURS[kind], 4, None)


def test_a_tiff_of_twelve_bits_declares_its_range() -> None:
    pixels = np.frombuffer(b"\x80\x08\x00" * 8, np.uint8).reshape(4, 6, 1)  # 0x800 twice per three bytes
    content = tiff(pixels, 1, bits=12)
    content = content.replace(struct.pack("<HHII", 256, 4, 1, 6), struct.pack("<HHII", 256, 4, 1, 4))
    assert flat(decode(content, 4, None)) == [0x80] * 3


@pytest.mark.parametrize(
    ("content", "values"),
    [
        (b"P5 3 3 65535\n" + np.array([200, 0, 255] * 3, ">u2").tobytes(), {0}),
        (b"P5 3 3 1023\n" + np.array([0, 1023, 0] * 3, ">u2").tobytes(), {0, 255}),
        (b"P2 3 3 4095\n" + b"3 3 3 " * 3, {0}),
        (b"P5 3 3 15\n" + bytes([0, 5, 15] * 3), {0, 85, 255}),
    ],
)
def test_a_pgm_is_scaled_by_the_range_that_it_declares(content: bytes, values: set[int]) -> None:
    assert set(decode(content, 3, None).ravel().tolist()) == values


ODD_NUMBERS = {
    "MinIsWhite": (tiff(np.full((4, 4, 1), 60000, "<u2"), 0), "of which 0 is white (MinIsWhite)"),
    "MinIsWhite, dark": (tiff(np.full((4, 4, 1), 5, "<u2"), 0), "of which 0 is white (MinIsWhite)"),
    "signed, 16 bits": (tiff(np.full((4, 4, 1), 200, "<i2"), 1, sample_format=2), "signed numbers (SampleFormat 2)"),
    "signed, 8 bits": (tiff(np.full((4, 4, 1), -5, "i1"), 1, sample_format=2), "signed numbers (SampleFormat 2)"),
    "unsigned, 32 bits": (tiff(np.full((4, 4, 1), 4_000_000_000, "<u4"), 1), "from 4000000000 to 4000000000, whose"),
}


@pytest.mark.parametrize("case", ODD_NUMBERS)
def test_numbers_of_another_meaning_are_refused_by_name(case: str) -> None:
    content, text = ODD_NUMBERS[case]
    with pytest.raises(ValueError, match=re.escape(text)):
        decode(content, 4, None)


def test_eight_bits_of_which_0_is_white() -> None:
    assert flat(decode(tiff(np.full((4, 4, 1), 5, np.uint8), 0), 4, None)) == [250] * 3


def test_exif_orientation_is_followed() -> None:
    pixels = np.zeros((8, 12, 3), np.uint8)
    pixels[:, :6] = 255  # the left half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees to the right: the upper half is white then
    turned = decode(saved(Image.fromarray(pixels), "PNG", exif=exif), 8, None)
    assert turned[:, :2].min() > 200
    assert turned[:, -2:].max() < 55


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_as_pillow_turns_it(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(Image.fromarray(noise(12, 12)), "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content)))).transpose(2, 0, 1)
    np.testing.assert_array_equal(decode(content, 12, None), expected)


TIFF_HEAD = b"Exif\0\0II*\0\x08\0\0\0"
ODD_TAGS = {
    "XMP that is not UTF-8": b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta>\xa8\xff</x:xmpmeta>",
    "XMP with an odd orientation": b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="\xff"/>',
    "empty EXIF": b"Exif\0\0",
    "EXIF of noughts": b"Exif\0\0" + bytes(20),
    "EXIF beyond its end": b"Exif\0\0II*\0\xff\xff\0\0",
    "EXIF that is cut": TIFF_HEAD + b"\x01\0\x12",
    "unknown orientation": TIFF_HEAD + b"\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0\0\0\0\0",
    "orientation in words": TIFF_HEAD + b"\x01\0\x12\x01\x02\0\x04\0\0\0abc\0\0\0\0\0",
    "two orientations": TIFF_HEAD + b"\x01\0\x12\x01\x03\0\x02\0\0\0\x06\0\x03\0\0\0\0\0",
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("tag", ODD_TAGS)
def test_odd_tags_leave_the_image_as_clip_sees_it(tag: str) -> None:
    plain = saved(Image.fromarray(noise(40, 30)), "JPEG")
    payload = ODD_TAGS[tag]
    content = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + plain[2:]
    np.testing.assert_array_equal(decode(content, 16, None), decode(plain, 16, None))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_damage_of_any_kind_is_one_kind_of_error(kind: str) -> None:
    content = saved(Image.fromarray(noise(12, 9)), kind)
    random = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(content)
        for position in random.integers(0, min(len(content), 200), 3):
            damaged[position] = random.integers(256)
        for candidate in (bytes(damaged), content[: random.integers(len(content))]):
            with suppress(ValueError):
                assert decode(candidate, 8, None).shape == (3, 8, 8)


def test_animation_shows_its_first_frame() -> None:
    frames = [Image.new("RGB", (5, 5), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    assert flat(decode(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), 5, None)) == [255, 0, 0]


BROKEN = {
    "nothing": b"",
    "text": b"this is not an image",
    "half a JPEG": saved(Image.fromarray(noise(64, 64)), "JPEG")[:900],
    "half a PNG": saved(Image.fromarray(noise(64, 64)))[:900],
    "no end of header": b"\x89PNG\r\n\x1a\n\x00\x00",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    "floating point": saved(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"),
    "32 bits of an unknown range": saved(Image.fromarray(np.full((4, 4), 3000, np.int32)), "TIFF"),
    "negative numbers": saved(Image.fromarray(np.full((4, 4), -1, np.int32)), "TIFF"),
    "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n",
    "web page": b"\n<!DOCTYPE html><html></html>",
    "more than 16 bits": saved(Image.fromarray(np.full((4, 4), 70000, np.int32)), "TIFF"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_what_cannot_be_decoded(broken: str) -> None:
    with pytest.raises(ValueError, match=r"^cannot be decoded: ") as error:
        decode(BROKEN[broken], 32, None)
    line = str(error.value)
    assert "\n" not in line
    assert "0x" not in line


@pytest.mark.parametrize(
    ("broken", "text"), [("nothing", "it is empty"), ("Git LFS pointer", "git lfs pull"), ("web page", "a web page")]
)
def test_what_is_no_image_is_recognised(broken: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        decode(BROKEN[broken], 32, None)


def test_a_line_is_not_blown_up() -> None:
    with pytest.raises(ValueError, match=r"^is 1 x 9000: too narrow to be resized to 224 pixels$"):
        decode(saved(Image.new("L", (9000, 1))), 224, None)


def test_size_other_than_promised() -> None:
    with pytest.raises(ValueError, match=r"^is 20 x 28, but its task says that all are 28 x 28$"):
        decode(saved(Image.fromarray(noise(20, 28))), 28, 28)


def test_every_mode_becomes_square_rgb() -> None:
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"):
        image = Image.fromarray(np.zeros((9, 30), np.uint16)) if mode == "I;16" else Image.new(mode, (30, 9))
        content = saved(image, "TIFF")
        assert decode(content, 12, None).shape == (3, 12, 12), mode
