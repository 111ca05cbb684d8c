"""Edit spaces whose embeddings are checked: an edit that overflows is an error, not a low accuracy."""

from collections.abc import Iterator, Sequence

from jaxtyping import Float
from torch import Tensor

from pipeline.editing.spaces import Coefficients, EditSpace
from pipeline.errors import UserError
from pipeline.evaluation.prediction import have_direction


class FiniteSpace:
    """An edit space that raises where an embedding has no direction."""

    def __init__(self, space: EditSpace) -> None:
        self.size, self.device, self.batch_size = space.size, space.device, space.batch_size
        self._space = space

    def embeddings(
        self, coefficients: Coefficients, batches: Sequence[Tensor]
    ) -> Iterator[tuple[int, int, Float[Tensor, "n features"]]]:
        """See :class:`pipeline.editing.spaces.EditSpace`.

        Raises:
            UserError: the length of an embedding is NaN or infinite.
        """
        for edit, index, embedded in self._space.embeddings(coefficients, batches):
            if not have_direction(embedded).all():
                raise UserError("embeddings are NaN or infinite; choose smaller coefficients")
            yield edit, index, embedded
