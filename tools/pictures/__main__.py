"""Draw the pictures of docs/images again: ``python -m tools.pictures`` or ``make pictures``."""

from pathlib import Path

from tools.pictures.house import draw_house
from tools.pictures.stages import draw_stages

PICTURES = {"house.svg": draw_house, "stages.svg": draw_stages}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        Path("docs/images", name).write_text(draw(), encoding="utf-8")
