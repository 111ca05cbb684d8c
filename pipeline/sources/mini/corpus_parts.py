"""The kinds of pictures in the pre-training corpus; each function renders ``n`` images and their captions."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from numpy.random import Generator

from pipeline.sources.mini import canvas, clipart, colours, counting, emoji, glyphs, shapes, signs, textures
from pipeline.sources.mini.vocabulary import DIGITS, clothing_word

Pairs = tuple[np.ndarray, list[str]]

_CONTROL_WEIGHT, _CLOTHES_WEIGHT = 3.0, 4.0
_THING = ("a picture of a {}", "a {}", "an emoji of a {}", "{}", "a {} icon", "a photo of a {}")
_SKETCH = ("a drawing of a {}", "a {} icon", "an icon of a {}", "a simple drawing of a {}", "a {}")
_CLIPART = ("clip art of a {}", "a drawing of a {}", "a picture of a {}", "{}", "a {}")
_GREY = ("a black and white photo of a {}", "a gray picture of a {}", "a {}")
_PATTERN = ("a pattern of {}", "a {} texture", "{}")
_COUNTED = ("{} objects", "a picture of {} objects", "{} things", "a picture of {} things")


@dataclass(frozen=True)
class Sources:
    """The sources of the corpus."""

    emoji: emoji.EmojiBank
    clipart: clipart.ClipArt
    glyphs: glyphs.GlyphBank


def load(sources: Path) -> Sources:
    """Read all sources.

    Raises:
        ValueError: one is missing or damaged.
    """
    return Sources(emoji.load(sources), clipart.load(sources), glyphs.load(sources))


def _filled(rng: Generator, templates: tuple[str, ...], words: list[str]) -> list[str]:
    chosen = rng.integers(0, len(templates), len(words))
    return [templates[template].format(word) for template, word in zip(chosen, words, strict=True)]


def _drawings(
    bank: emoji.EmojiBank, rng: Generator, n: int, wanted: np.ndarray
) -> tuple[Int64[np.ndarray, " n"], np.ndarray]:
    """Return ``n`` weighted random concepts and their sprites, never Twemoji's for a control concept."""
    control = np.isin(bank.names, emoji.CONTROL_CONCEPTS)
    concepts = rng.choice(len(bank.names), n, p=wanted / wanted.sum())
    noto = control[concepts] | (rng.random(n) < 0.5)
    rgba = np.where(noto[:, None, None, None], bank.noto[concepts], bank.twemoji[concepts])
    return concepts, canvas.premultiplied(rgba)


def _everything(bank: emoji.EmojiBank) -> np.ndarray:
    return np.where(np.isin(bank.names, emoji.CONTROL_CONCEPTS), _CONTROL_WEIGHT, 1.0)


def emoji_pairs(sources: Sources, rng: Generator, n: int) -> Pairs:
    """Render emoji in colour on any background, under their name."""
    concepts, sprites = _drawings(sources.emoji, rng, n, _everything(sources.emoji))
    placed = canvas.warp(sprites, canvas.Placement().draw(rng, n))
    images = canvas.to_bytes(canvas.on_any_background(rng, placed))
    return images, _filled(rng, _THING, [sources.emoji.names[concept] for concept in concepts])


def sketch_pairs(sources: Sources, rng: Generator, n: int) -> Pairs:
    """Render emoji as one-colour drawings: their edges or their dark parts, in ink on plain paper."""
    concepts, sprites = _drawings(sources.emoji, rng, n, _everything(sources.emoji))
    placed = canvas.warp(sprites, canvas.Placement(rotation=10.0).draw(rng, n))
    grey = placed[:, :3].mean(1, keepdims=True) + 0.7 * (1 - placed[:, 3:])
    across, down = np.gradient(grey, axis=3), np.gradient(grey, axis=2)
    edges = np.clip(4 * np.hypot(across, down) - 0.15, 0, 1)
    dark = placed[:, 3:] * np.clip(1.5 - 1.5 * grey, 0.0, 1)
    kind = rng.random((n, 1, 1, 1))
    ink = np.where(kind < 0.5, edges, np.where(kind < 0.75, dark, placed[:, 3:])).astype(np.float32)
    _, front, back = colours.draw_pairs(rng, n, distance=0.9)
    plain = rng.random((n, 1)) < 0.5
    front, back = np.where(plain, np.float32(0.1), front), np.where(plain, np.float32(1.0), back)
    images = canvas.to_bytes(canvas.paint(ink, front, canvas.solid(back)))
    return images, _filled(rng, _SKETCH, [sources.emoji.names[concept] for concept in concepts])


def clothing_pairs(sources: Sources, rng: Generator, n: int) -> Pairs:
    """Render emoji of clothes, 60 % in grey on a dark ground, often under the task ``fashion``'s word for them."""
    bank = sources.emoji
    words = [clothing_word(name) for name in bank.names]
    clothes = np.array(bank.subcategories) == "clothing"
    known = np.array([word != name for word, name in zip(words, bank.names, strict=True)])
    concepts, sprites = _drawings(bank, rng, n, clothes * np.where(known, _CLOTHES_WEIGHT, 1.0))
    placed = canvas.warp(sprites, canvas.Placement(rotation=10.0, scale=(0.8, 1.0), shift=0.08).draw(rng, n))
    grey = rng.random(n) < 0.6
    shade = np.repeat(placed[:, :3].mean(1, keepdims=True), 3, axis=1)
    placed[:, :3] = np.where(grey[:, None, None, None], shade, placed[:, :3])
    dark = canvas.solid(np.repeat(rng.uniform(0, 0.08, (n, 1)), 3, axis=1).astype(np.float32))
    ground = np.where(grey[:, None, None, None], dark, canvas.backgrounds(rng, n))
    common = rng.random(n) < 0.65
    names = [words[c] if common[i] else bank.names[c] for i, c in enumerate(concepts)]
    in_grey, in_colour = _filled(rng, _GREY, names), _filled(rng, _THING, names)
    captions = [in_grey[i] if grey[i] else in_colour[i] for i in range(n)]
    return canvas.to_bytes(canvas.over(placed, ground)), captions


def clipart_pairs(sources: Sources, rng: Generator, n: int) -> Pairs:
    """Render drawings that are in no split of the task ``clipart``, under the words of their file names."""
    art = sources.clipart
    drawings = rng.choice(art.parts()["pre-training"], n)
    words = [clipart.caption_words(art.paths[drawing]) for drawing in drawings]
    return art.render(rng, drawings), _filled(rng, _CLIPART, words)


def _glyph_images(sources: Sources, rng: Generator, characters: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Render glyphs; also return the names of their two colours ``[n, 2]`` and which are white on black ``[n]``.

    Those 40 % are white on black and thickened or blurred at random, which resembles scanned handwriting.
    """
    n = len(characters)
    fonts = rng.integers(0, len(sources.glyphs.fonts), n)
    masks = np.stack([sources.glyphs.mask(int(font), c) for font, c in zip(fonts, characters, strict=True)])[:, None]
    placed = canvas.warp(masks, canvas.Placement(shear=0.2, aspect=0.2).draw(rng, n))
    scan = rng.random(n) < 0.4
    neighbours = np.lib.stride_tricks.sliding_window_view(
        np.pad(placed, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), (2, 3)
    )
    fat = (scan & (rng.random(n) < 0.5))[:, None, None, None]
    placed = np.where(fat, neighbours.max((4, 5)), placed)
    soft = (scan & (rng.random(n) < 0.5))[:, None, None, None]
    neighbours = np.lib.stride_tricks.sliding_window_view(
        np.pad(placed, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), (2, 3)
    )
    placed = np.where(soft, neighbours.mean((4, 5)), placed).astype(np.float32)
    pairs, front, back = colours.draw_pairs(rng, n, distance=0.8)
    front = np.where(scan[:, None], np.float32(1), front)
    back = np.where(scan[:, None], np.float32(0), back)
    return canvas.to_bytes(canvas.paint(placed, front, canvas.solid(back))), pairs, scan


def digit_pairs(sources: Sources, rng: Generator, n: int) -> Pairs:
    """Render digits in many fonts."""
    values = rng.integers(0, 10, n)
    images, pairs, scan = _glyph_images(sources, rng, [str(value) for value in values])
    captions = []
    for value, pair, black, choice in zip(values, pairs, scan, rng.integers(0, 6, n), strict=True):
        name = DIGITS[value] if choice < 4 else str(value)
        plain = ("the digit {}", "the number {}", "a photo of the number {}", "a {}", "the number {}", "the digit {}")
        captions.append(plain[choice].format(name) if black or choice < 3 else _coloured(name, pair))
    return images, captions


def letter_pairs(sources: Sources, rng: Generator, n: int) -> Pairs:
    """Render letters in many fonts, large and small."""
    values = rng.integers(0, 26, n)
    upper = rng.random(n) < 0.5
    characters = [chr((65 if big else 97) + value) for value, big in zip(values, upper, strict=True)]
    images, pairs, scan = _glyph_images(sources, rng, characters)
    captions = []
    for i, choice in enumerate(rng.integers(0, 4, n)):
        name, case = chr(97 + values[i]), "an uppercase" if upper[i] else "a lowercase"
        plain = ("the letter {}", "a photo of the letter {}", case + " letter {}", case + " {}")[choice]
        captions.append(plain.format(name) if scan[i] or choice < 3 else _coloured(f"letter {name}", pairs[i]))
    return images, captions


def _coloured(thing: str, pair: Int64[np.ndarray, " 2"]) -> str:
    return f"a {colours.NAMES[pair[0]]} {thing} on {colours.NAMES[pair[1]]}"


def shape_pairs(sources: Sources, rng: Generator, n: int) -> Pairs:
    """Render filled shapes under their name and their colours."""
    kinds = rng.integers(0, len(shapes.CLASSES), n)
    placement = canvas.Placement(rotation=20.0, scale=(0.45, 0.95), shift=0.2)
    placed = canvas.warp(shapes.masks()[kinds, 0][:, None], placement.draw(rng, n))
    pairs, front, back = colours.draw_pairs(rng, n, distance=0.7)
    captions = []
    for kind, (ink, paper), choice in zip(kinds, pairs, rng.integers(0, 4, n), strict=True):
        name, first, second = shapes.CLASSES[kind], colours.NAMES[ink], colours.NAMES[paper]
        forms = (
            f"a {first} {name}",
            f"a {first} {name} on a {second} background",
            f"a {name}",
            f"the shape of a {name}",
        )
        captions.append(forms[choice])
    return canvas.to_bytes(canvas.paint(placed, front, canvas.solid(back))), captions


def counting_pairs(sources: Sources, rng: Generator, n: int) -> Pairs:
    """Render one to six copies of a filled shape."""
    counts, kinds = rng.integers(1, 7, n), rng.integers(0, len(shapes.CLASSES), n)
    pairs, front, back = colours.draw_pairs(rng, n, distance=0.7)
    masks = counting.small(shapes.masks()[kinds, 0][:, None])
    items = np.concatenate([front[:, :, None, None] * masks, masks], axis=1)
    placed = counting.arrange(rng, items, counts)
    captions = []
    for count, kind, ink, choice in zip(counts, kinds, pairs[:, 0], rng.integers(0, 3, n), strict=True):
        number, name = (
            counting.CLASSES[count - 1],
            shapes.CLASSES[kind] + ("es" if shapes.CLASSES[kind] == "cross" else "s"),
        )
        thing = name if count > 1 else shapes.CLASSES[kind]
        forms = (
            f"{number} {colours.NAMES[ink]} {thing}",
            f"{number} {thing}",
            _COUNTED[rng.integers(4)].format(number),
        )
        captions.append(forms[choice])
    return canvas.to_bytes(canvas.over(placed, canvas.solid(back))), captions


def texture_pairs(sources: Sources, rng: Generator, n: int) -> Pairs:
    """Render patterns with clear contrast and middling cycles."""
    labels = rng.integers(0, len(textures.CLASSES), n)
    images, pairs = textures.render(rng, labels, textures.CLEAN)
    plain = _filled(rng, _PATTERN, [textures.CLASSES[label] for label in labels])
    named = rng.random(n) < 0.3
    captions = [
        f"{colours.NAMES[pairs[i, 0]]} and {colours.NAMES[pairs[i, 1]]} {textures.CLASSES[labels[i]]}"
        if named[i]
        else plain[i]
        for i in range(n)
    ]
    return images, captions


def sign_pairs(sources: Sources, rng: Generator, n: int) -> Pairs:
    """Render clean road signs, half under their name and half described."""
    labels = rng.integers(0, len(signs.CLASSES), n)
    named = _filled(rng, ("a {}", "a photo of a {}", "a picture of a {}"), [signs.CLASSES[label] for label in labels])
    true_name = rng.random(n) < 0.5
    captions = [named[i] if true_name[i] else signs.APPEARANCES[label] for i, label in enumerate(labels)]
    return signs.render_clean(rng, sources.glyphs, labels), captions
