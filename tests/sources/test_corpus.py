"""The pre-training corpus: deterministic, captioned, and free of the tasks' images."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.sources.mini import corpus_parts, emoji, materialise
from pipeline.sources.mini.corpus import SHARES, Corpus, render_corpus

SOURCES = Path(__file__).parents[2] / "data" / "mini"


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return render_corpus(SOURCES, 2000, 0)


def test_form(corpus: Corpus) -> None:
    assert corpus.images.shape == (2000, 3, 32, 32)
    assert corpus.images.dtype == np.uint8
    assert corpus.caption_ids.dtype == np.int64
    assert len(corpus) == 2000
    assert len(set(corpus.captions)) == len(corpus.captions)
    assert set(corpus.caption_ids.tolist()) == set(range(len(corpus.captions)))
    assert all(caption and "{" not in caption for caption in corpus.captions)


def test_shares_are_a_whole() -> None:
    assert sum(share for _, share in SHARES) == pytest.approx(1.0)


def test_the_seed_fixes_every_byte(corpus: Corpus) -> None:
    again, other = render_corpus(SOURCES, 2000, 0), render_corpus(SOURCES, 2000, 1)
    assert np.array_equal(corpus.images, again.images)
    assert np.array_equal(corpus.caption_ids, again.caption_ids)
    assert corpus.captions == again.captions
    assert not np.array_equal(corpus.images, other.images)


def test_a_small_corpus_has_every_kind() -> None:
    assert len(render_corpus(SOURCES, 1, 0)) == len(SHARES)


def test_no_image_is_shared_with_a_task_of_the_same_origin(corpus: Corpus) -> None:
    seen = {image.tobytes() for image in corpus.images}
    for task in ("clipart", "emoji", "shapes", "signs", "textures"):
        for split in materialise(task, SOURCES).values():
            assert not seen & {image.tobytes() for image in split.images}


def test_control_concepts_are_shown_in_notos_drawing_only() -> None:
    names = ["koala", "accordion"]
    plain = np.full((2, 32, 32, 4), 255, np.uint8)
    bank = emoji.EmojiBank(names, ["Animals & Nature", "Objects"], ["", ""], noto=plain, twemoji=plain // 2)
    concepts, sprites = corpus_parts._drawings(bank, np.random.default_rng(0), 200, np.ones(2))
    from_noto = sprites[:, 3].mean((1, 2)) == 1
    assert "koala" in emoji.CONTROL_CONCEPTS
    assert from_noto[concepts == 0].all()
    assert 0.3 < from_noto[concepts == 1].mean() < 0.7


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"emoji\.npz: no such file"):
        render_corpus(tmp_path, 10, 0)
