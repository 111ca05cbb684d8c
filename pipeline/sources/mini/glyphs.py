"""Digits and letters of many font families."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.sources.mini.sources import read_arrays


@dataclass(frozen=True)
class GlyphBank:
    """glyphs: uint8 ``[fonts, 62, 32, 32]``, white on black; characters: those shown, ``0-9a-zA-Z``."""

    glyphs: np.ndarray
    fonts: list[str]
    characters: str

    def mask(self, font: int, character: str) -> np.ndarray:
        """Return one glyph as float32 ``[32, 32]`` in 0 … 1."""
        return self.glyphs[font, self.characters.index(character)].astype(np.float32) / 255


def load(sources: Path) -> GlyphBank:
    """Read the bank.

    Raises:
        ValueError: the source is missing or damaged.
    """
    glyphs, fonts, characters = read_arrays(sources / "glyphs.npz", "glyphs", "fonts", "characters")
    return GlyphBank(glyphs, fonts.tolist(), "".join(characters.tolist()))
