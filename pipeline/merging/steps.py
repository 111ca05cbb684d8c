"""The steps of a merge: a method and modifiers, by name and with options, checked before anything runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.config import Choices, MergingImages, MergingSettings
from pipeline.errors import UserError
from pipeline.merging.registry import Method, merging, merging_with_images, modifier
from pipeline.paradigms.extensions import load_extension


@dataclass(frozen=True)
class Step:
    """A merging method or modifier by name, with the options that differ from its defaults."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


def check_steps(method: Step, modifiers: Sequence[Step] = ()) -> None:
    """Check the names and options of a method and modifiers that have only task vectors to look at.

    Raises:
        UserError: one is unknown or wrong, or needs images.
    """
    chosen = _find(method)
    if chosen.needs or _runs_encoder(chosen):
        others = ", ".join(name for name in merging.names() if not merging.find(name).needs)
        raise UserError(f"{merging.kind} {method.name}: needs images of every task; choose from {others}")
    for step in modifiers:
        modifier.find(step.name).options(step.options)


def read_steps(settings: MergingSettings, space: str, root: Path = Path()) -> tuple[Step, list[Step]]:
    """Return a paradigm's method and modifiers, after running its extension.

    Args:
        settings: the paradigm's ``merging``.
        space: where it is ``evaluated_in``.
        root: the repository, to which an extension's path is relative.

    Raises:
        UserError: the extension cannot be loaded, a name is unknown, an option is wrong, or a method cannot work with
            the images that it is given, or in the paradigm's space.
    """
    if settings.extension:
        load_extension(settings.extension, root)
    method, *modifiers = (Step(step.name, step.options) for step in (settings, *settings.modifiers))
    _check_images(_find(method), settings, space)
    for step in modifiers:
        modifier.find(step.name).options(step.options)
    return method, modifiers


def _find(step: Step) -> Method:
    """Return a method, of task vectors alone or with images, whose options are legal."""
    with_encoder = merging_with_images.names()
    legal = sorted([*merging.names(), *with_encoder])
    if step.name not in legal:
        raise UserError(f"unknown {merging.kind} {step.name!r}; choose from {', '.join(legal)}")
    method = (merging_with_images if step.name in with_encoder else merging).find(step.name)
    method.options(step.options)
    return method


def _runs_encoder(method: Method) -> bool:
    """Return whether a method runs the encoder on images itself."""
    return method.name in merging_with_images.names()


def _check_images(method: Method, settings: MergingSettings, space: str) -> None:
    """Check that a method gets the images that it needs, and no others.

    Raises:
        UserError: it does not, or it would run the encoder in a way that it cannot.
    """
    where, given = f"{method.kind} {method.name}", settings.images
    runs_encoder = _runs_encoder(method)
    if not runs_encoder and method.needs is None:
        if given is not None:
            raise UserError(f"{where}: looks at no images; set images to null")
        return
    needed = MergingImages(statistic=method.needs, split="train", count=None if runs_encoder else 256, seed=0)
    if given is None or given.statistic != method.needs:
        entries = ", ".join(f"{k}: {'null' if v is None else v}" for k, v in needed.model_dump(mode="json").items())
        raise UserError(f"{where}: needs images of every task; set images to {{ {entries} }}")
    if runs_encoder and settings.modifiers:
        raise UserError(f"{where}: takes no modifiers; set modifiers to []")
    if runs_encoder and space == "tangent":
        raise UserError(f"{where}: moves the encoder's weights; set evaluated_in to weight, or choose {_IN_TANGENT}")


# In tangent space every layer's input is that at θ₀, so RegMean++ would be RegMean.
_IN_TANGENT = "regmean or fisher"


def check_mergings(chosen: Choices, root: Path = Path()) -> None:
    """Check how the chosen paradigms merge.

    Raises:
        UserError: as for :func:`read_steps`; the line begins with the parameter.
    """
    for name in chosen.merged_paradigms():
        settings = chosen.paradigm[name].merging
        assert settings is not None
        try:
            read_steps(settings, chosen.paradigm[name].evaluated_in, root)
        except UserError as error:
            raise UserError(f"paradigm.{name}.merging: {error}") from None
