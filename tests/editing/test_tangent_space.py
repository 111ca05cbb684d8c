"""Edits of the linearised encoder, against direct propagation of each edit's own direction."""

from collections.abc import Callable

import torch

from pipeline.editing import TaskVector
from pipeline.editing.spaces import TangentSpace
from pipeline.models.encoders import ImageEncoder
from pipeline.tangent import GenericTangent
from pipeline.tasks import LabelledImages

CPU = torch.device("cpu")


def test_every_edit_equals_its_own_propagation(
    make_encoder: Callable[[], ImageEncoder],
    make_vector: Callable[..., TaskVector],
    make_images: Callable[..., LabelledImages],
) -> None:
    """The second vector holds only attention tensors; the third is moved by no edit."""
    vectors = [make_vector(0), make_vector(1, part="attn"), make_vector(2)]
    coefficients = torch.tensor([[0.0, 0.0, 0.0], [0.7, 0.0, 0.0], [-0.4, 1.3, 0.0]])
    images = torch.from_numpy(make_images(5).images)
    batches = [images[:3], images[3:]]
    space = TangentSpace(make_encoder(), vectors, CPU)
    found = {(edit, batch): e.clone() for edit, batch, e in space.embeddings(coefficients, batches)}
    assert set(found) == {(edit, batch) for edit in range(3) for batch in range(2)}

    reference = make_encoder().requires_grad_(False)
    for (edit, batch), embedded in found.items():
        direction = {name: torch.zeros(1, *p.shape) for name, p in reference.visual.named_parameters()}
        for coefficient, vector in zip(coefficients[edit].tolist(), vectors, strict=True):
            for name, tensor in vector.tensors.items():
                direction[name][0] += coefficient * tensor
        primal, moved = GenericTangent(reference.visual)(reference.normalise(batches[batch]), direction)
        torch.testing.assert_close(embedded, primal + moved[0], rtol=1e-4, atol=1e-5)


def test_no_edit_is_the_encoder_itself(
    make_encoder: Callable[[], ImageEncoder],
    make_vector: Callable[..., TaskVector],
    make_images: Callable[..., LabelledImages],
) -> None:
    images = torch.from_numpy(make_images(4).images)
    space = TangentSpace(make_encoder(), [make_vector(0)], CPU)
    ((_, _, embedded),) = space.embeddings(torch.zeros(1, 1), [images])
    torch.testing.assert_close(embedded, make_encoder().requires_grad_(False)(images), rtol=1e-5, atol=1e-6)
