"""Colours have contrast with the background, and never carry a meaning alone."""

import itertools

import pytest

from pipeline.report.style import (
    COLOURS,
    DARK_BACKGROUND,
    LIGHT_BACKGROUND,
    LIGHT_DIVERGING,
    LIGHT_SEQUENTIAL,
    TEXT_ON_CELLS,
    looks,
)


def luminance(colour: str) -> float:
    """Return WCAG's relative luminance of ``#rrggbb``."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("background", [LIGHT_BACKGROUND, DARK_BACKGROUND])
def test_lines_and_bars_have_contrast(background: str) -> None:
    assert min(contrast(colour, background) for colour in COLOURS) >= 3


def test_numbers_in_cells_have_contrast() -> None:
    assert min(contrast(TEXT_ON_CELLS, colour) for colour in (*LIGHT_SEQUENTIAL, *LIGHT_DIVERGING)) >= 4.5


def test_nine_names_differ_in_colour_and_marker_and_keep_theirs() -> None:
    names = [f"paradigm {i}" for i in range(9)]
    styles = looks(names)
    for one, other in itertools.combinations(styles.values(), 2):
        assert one.colour != other.colour
        assert one.marker != other.marker
        assert one.paper_marker != other.paper_marker
    assert looks(names[:4]) == dict(itertools.islice(styles.items(), 4))
