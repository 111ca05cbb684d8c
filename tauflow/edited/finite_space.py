"""Edit spaces whose embeddings are checked: an edit that overflows is an error, and no accuracy."""

from collections.abc import Iterator, Sequence

from jaxtyping import Float
from torch import Tensor
from torch.linalg import vector_norm

from pipeline.editing.spaces import Coefficients, EditSpace
from pipeline.errors import UserError


class FiniteSpace:
    """An edit space that raises where an embedding has no direction.

    Its length matters as well: normalised by an infinite one it is zero, which any head takes for its first class.
    """

    def __init__(self, space: EditSpace) -> None:
        self.size, self.device, self.batch_size = space.size, space.device, space.batch_size
        self._space = space

    def embeddings(
        self, coefficients: Coefficients, batches: Sequence[Tensor]
    ) -> Iterator[tuple[int, int, Float[Tensor, "n features"]]]:
        """See :class:`pipeline.editing.spaces.EditSpace`.

        Raises:
            UserError: an embedding, or its length, is NaN or infinite.
        """
        for edit, index, embedded in self._space.embeddings(coefficients, batches):
            if not vector_norm(embedded, dim=-1).isfinite().all():
                raise UserError("embeddings are NaN or infinite; choose smaller coefficients")
            yield edit, index, embedded
