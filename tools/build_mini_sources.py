"""Make data/mini/*.npz from the original packages (npm, Debian, PyPI).

    python -m tools.build_mini_sources --cache CACHE

Needs npm, apt-get (on Debian 12, after `apt-get update`), dpkg-deb, and the Python packages resvg-py and scikit-learn.
Every package is pinned by version and SHA-256 in data/mini/sources.lock.json; `--relock` records what was downloaded
instead of checking it. The output depends on the packages alone. Licences of all sources: data/mini/LICENCES.md.
"""

import gzip
import importlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image, ImageDraw, ImageFont

from pipeline.io.files import atomic_write
from pipeline.sources.mini.icons import ICONS
from pipeline.sources.mini.near_duplicates import first_of_each
from tools.mini_packages import Packages

SIZE = 32
CHARACTERS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
EMOJI_CATEGORIES = ("Animals & Nature", "Food & Drink", "Objects", "Activities", "Travel & Places")
CLIPART_SKIPPED = re.compile(
    r"computer/(icons|buttons)|shapes|geography|special|unsorted|logos|buttons|signs_and_symbols/led"
)
ICON_LICENCES = {"MIT", "Apache-2.0", "ISC", "CC0-1.0", "CC-BY-4.0", "OFL-1.1", "BSD-3-Clause", "Unlicense"}
ICON_STYLE = re.compile(
    r"\d*(px)?|outlined?|filled?|line|solid|bold|thin|light|duotone|regular|round(ed)?|sharp|twotone|linear|broken|alt|duo|o"
)
FONT_LICENCE = re.compile(r"OFL-1\.[01]|SIL[ -]OFL|Open Font License|SIL-1\.1|Apache-2|Apache License", re.IGNORECASE)


def save(path: Path, **arrays: np.ndarray) -> None:
    """Write ``arrays`` without pickles; the bytes do not depend on the clock."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)  # pyright: ignore[reportArgumentType]
    print(f"{path.name}: {path.stat().st_size:,} bytes, " + ", ".join(f"{k} {v.shape}" for k, v in arrays.items()))


def sprite(image: Image.Image, size: int = SIZE) -> np.ndarray:
    """Return ``image`` fitted into ``size`` × ``size`` RGBA, centred, colours zero where transparent."""
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    small = np.asarray(image.convert("RGBA").resize((width, height), Image.Resampling.BOX))
    canvas = np.zeros((size, size, 4), dtype=np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    canvas[top : top + height, left : left + width] = small
    canvas[canvas[..., 3] == 0] = 0
    return canvas


def on_white(rgba: np.ndarray) -> np.ndarray:
    """Return RGBA sprites ``[n, size, size, 4]`` on white, as ``[n, 3, size, size]``."""
    alpha = rgba[..., 3:].astype(np.float32) / 255
    return np.rint(rgba[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8).transpose(0, 3, 1, 2)


def build_emoji(packages: Packages, out: Path) -> None:
    """Save concepts that both vendors draw; the 'clean' sheets do not contain other vendors' fallback images."""
    cells: dict[str, Image.Image] = {}
    entries: list[dict[str, Any]] = []
    for vendor in ("google", "twitter"):
        package = packages.npm(f"emoji-datasource-{vendor}") / "package"
        cells[vendor] = Image.open(package / "img" / vendor / "sheets-clean" / "64.png")
        entries = json.loads((package / "emoji.json").read_text(encoding="utf-8"))
    chosen = [
        entry
        for entry in sorted(entries, key=lambda entry: entry["unified"])
        if entry["category"] in EMOJI_CATEGORIES and entry["has_img_google"] and entry["has_img_twitter"]
    ]

    def cell(vendor: str, entry: dict[str, Any]) -> np.ndarray:
        left, top = entry["sheet_x"] * 66 + 1, entry["sheet_y"] * 66 + 1
        return sprite(cells[vendor].crop((left, top, left + 64, top + 64)))

    save(
        out / "emoji.npz",
        names=np.array([entry["name"].lower().replace("\u2019", "") for entry in chosen]),
        categories=np.array([entry["category"] for entry in chosen]),
        subcategories=np.array([entry["subcategory"] for entry in chosen]),
        noto=np.stack([cell("google", entry) for entry in chosen]),
        twemoji=np.stack([cell("twitter", entry) for entry in chosen]),
    )


def clipart_sprite(path: Path) -> np.ndarray | None:
    """Return the drawing in a file; None if it has hundreds of megapixels, is a thin line or almost empty."""
    try:
        with Image.open(path) as image:
            drawing = sprite(image) if max(image.size) <= 8 * min(image.size) else None
    except Image.DecompressionBombError:
        return None
    return drawing if drawing is not None and drawing[..., 3].mean() > 8 else None


def build_clipart(packages: Packages, out: Path) -> None:
    """Save all useful folders of Open Clip Art, without near-duplicates."""
    root = packages.debian("openclipart-png") / "usr/share/openclipart/png"
    files = [path for path in sorted(root.rglob("*.png")) if not CLIPART_SKIPPED.match(str(path.relative_to(root)))]
    sprites, paths = [], []
    for path in files:
        drawing = clipart_sprite(path)
        if drawing is not None:
            sprites.append(drawing)
            paths.append(path.relative_to(root).with_suffix("").as_posix())
    stack = np.stack(sprites)
    kept = first_of_each(on_white(stack))
    print(f"clip art: {len(files)} files, {len(stack)} usable, {len(kept)} without near-duplicates")
    save(out / "clipart.npz", images=stack[kept], paths=np.array(paths)[kept])


def idx_images(path: Path, size: int) -> np.ndarray:
    """Return the first ``size`` items of a gzipped IDX file."""
    raw = gzip.decompress(path.read_bytes())
    dimensions = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(raw[3])]
    data = np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * raw[3]).reshape(dimensions)
    return data[:size]


def build_fashion(packages: Packages, out: Path) -> None:
    """Save the first images of Fashion-MNIST's own train and test files."""
    root = packages.debian("dataset-fashion-mnist") / "usr/share/datasets/fashion-mnist"
    arrays = {}
    for split, file, size in (("train", "train", 2500), ("test", "t10k", 2000)):
        arrays[f"{split}_images"] = idx_images(root / f"{file}-images-idx3-ubyte.gz", size)
        arrays[f"{split}_labels"] = idx_images(root / f"{file}-labels-idx1-ubyte.gz", size)
    save(out / "fashion.npz", **arrays)


def build_optdigits(packages: Packages, out: Path) -> None:
    """Save scikit-learn's copy of the writer-independent test set of UCI optdigits, in its order; values 0 to 16."""
    table = np.loadtxt(
        packages.python("scikit-learn", "sklearn/datasets/data/digits.csv.gz"), delimiter=",", dtype=np.uint8
    )
    save(out / "optdigits.npz", images=table[:, :-1].reshape(-1, 8, 8), labels=table[:, -1])


def glyph(font: ImageFont.FreeTypeFont, character: str) -> np.ndarray:
    """Return ``character`` in white on black, its ink at most 26 pixels wide and high, centred."""
    canvas = Image.new("L", (800, 800))
    ImageDraw.Draw(canvas).text((400, 400), character, fill=255, font=font, anchor="mm")
    box = canvas.getbbox()
    if box is None:
        return np.zeros((SIZE, SIZE), dtype=np.uint8)
    ink = canvas.crop(box)
    scale = 26 / max(ink.size)
    ink = ink.resize((max(1, round(ink.width * scale)), max(1, round(ink.height * scale))), Image.Resampling.BOX)
    tile = Image.new("L", (SIZE, SIZE))
    tile.paste(ink, ((SIZE - ink.width) // 2, (SIZE - ink.height) // 2))
    return np.asarray(tile)


def font_faces(package: Path, count: int) -> Iterator[tuple[str, ImageFont.FreeTypeFont]]:
    """Yield at most ``count`` families of a font package with the most regular face of each."""
    families: dict[str, list[tuple[int, str, ImageFont.FreeTypeFont]]] = {}
    for path in sorted(path for path in package.rglob("*") if path.suffix.lower() in {".ttf", ".otf"}):
        if path.is_symlink():
            continue
        font = ImageFont.truetype(str(path), 180)
        family, style = (part or "" for part in font.getname())
        rank = 0 if style in {"Regular", "Book", "Roman", "Normal"} else 1 if style == "Medium" else 2
        families.setdefault(family, []).append((rank, path.name, font))
    for family in sorted(families)[:count]:
        yield family, min(families[family], key=lambda face: face[:2])[2]


def build_glyphs(packages: Packages, out: Path) -> None:
    """Save digits and letters of every font family in the lock whose package is under the OFL or the Apache licence."""
    names, bank = [], []
    for package in sorted(name for name in packages.lock if name.startswith("fonts-")):
        root = packages.debian(package)
        notice = next(root.glob("usr/share/doc/*/copyright")).read_text(encoding="utf-8", errors="replace")
        if not FONT_LICENCE.search(notice):
            raise SystemExit(f"{package}: neither OFL nor Apache in its copyright file")
        for family, font in font_faces(root, 3):
            glyphs = np.stack([glyph(font, character) for character in CHARACTERS])
            distinct = len({tile.tobytes() for tile in glyphs[:10]})
            if (
                distinct == 10
                and glyphs.mean(axis=(1, 2)).min() > 4
                and family not in names
                and "Keyboard" not in family
            ):
                names.append(family)
                bank.append(glyphs)
    save(out / "glyphs.npz", glyphs=np.stack(bank), fonts=np.array(names), characters=np.array(list(CHARACTERS)))


def icon_word(name: str) -> str:
    """Return the concept of an icon name such as ``home-outline`` or ``20-filled-house``; empty if not one word."""
    words = [word for word in name.split("-") if not ICON_STYLE.fullmatch(word)]
    return words[0] if len(words) == 1 else ""


def draw_icon(body: str, icon: dict[str, Any], default: dict[str, Any]) -> np.ndarray:
    """Return the ink of an icon, uint8 ``[32, 32]``."""
    width, height = (icon.get(side, default.get(side, 16)) for side in ("width", "height"))
    left, top = (icon.get(side, default.get(side, 0)) for side in ("left", "top"))
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{left} {top} {width} {height}" color="black">{body}</svg>'
    png = importlib.import_module("resvg_py").svg_to_bytes(
        svg_string=svg, width=128, height=128, skip_system_fonts=True
    )
    image = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    box = image.getchannel("A").getbbox()
    return sprite(image.crop(box), 28)[..., 3] if box else np.zeros((28, 28), np.uint8)


def build_icons(packages: Packages, out: Path) -> None:
    """Save one-colour icons of everyday things from the freely licensed icon sets, without near-duplicates."""
    root = packages.npm("@iconify/json") / "package/json"
    words = {word: label for label, (_, synonyms) in enumerate(ICONS) for word in synonyms}
    images, labels, sets = [], [], []
    for path in sorted(root.glob("*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        info = data["info"]
        if info.get("palette") or info["license"].get("spdx") not in ICON_LICENCES:
            continue
        for name, icon in sorted(data["icons"].items()):
            if icon_word(name) in words and not icon.get("hidden"):
                images.append(np.pad(draw_icon(icon["body"], icon, data), 2))
                labels.append(words[icon_word(name)])
                sets.append(data["prefix"])
    stack = np.stack(images)
    kept = first_of_each(np.repeat(255 - stack[:, None], 3, axis=1))
    kept = kept[stack[kept].mean(axis=(1, 2)) > 8]
    print(f"icons: {len(stack)} drawn, {len(kept)} without near-duplicates, {len(set(sets))} sets")
    save(
        out / "icons.npz",
        images=stack[kept],
        labels=np.array(labels, dtype=np.uint8)[kept],
        sets=np.array(sets)[kept],
    )


BUILDERS = {
    "emoji": build_emoji,
    "clipart": build_clipart,
    "fashion": build_fashion,
    "optdigits": build_optdigits,
    "icons": build_icons,
    "glyphs": build_glyphs,
}


def main(
    cache: Annotated[Path, typer.Option(help="directory for the downloaded packages")],
    out: Annotated[Path, typer.Option(help="where the .npz files go")] = Path("data/mini"),
    only: Annotated[list[str] | None, typer.Option(help=f"just these: {', '.join(BUILDERS)}")] = None,
    relock: Annotated[bool, typer.Option(help="record the packages' SHA-256 instead of checking it")] = False,
) -> None:
    """Download, check and convert all sources."""
    cache.mkdir(parents=True, exist_ok=True)
    lock_path = Path("data/mini/sources.lock.json")
    packages = Packages(cache.resolve(), json.loads(lock_path.read_text(encoding="utf-8")), relock)
    for name, build in BUILDERS.items():
        if not only or name in only:
            build(packages, out)
    if relock:
        lock_path.write_text(json.dumps(packages.lock, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
