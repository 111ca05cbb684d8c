"""Every merging method once more, by its definition, on whole vectors in float64 with SVDs; slow and short."""

import hashlib
import re
from collections.abc import Callable

import numpy as np
import torch

Array = np.ndarray
Vectors = list[dict[str, Array]]
MergedByName = dict[str, Array]


def svd(matrix: Array, rank: int | None = None) -> tuple[Array, Array, Array]:
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    return u[:, :rank], s[:rank], vt[:rank]


def polar(matrix: Array) -> Array:
    u, _, vt = svd(matrix)
    return u @ vt


def on_matrices(
    method: Callable[[Array], Array], blocks: bool = False, others: str = "average"
) -> Callable[..., MergedByName]:
    def merge(vectors: Vectors) -> MergedByName:
        merged = {}
        for name in vectors[0]:
            stack = np.stack([vector[name] for vector in vectors])
            if stack.ndim == 3 and (not blocks or re.search(r"resblocks.*(in_proj_weight|(out|c)_\w+\.weight)", name)):
                merged[name] = method(stack)
            else:
                merged[name] = {"average": stack.mean(0), "zero": 0 * stack[0]}[others]
        return merged

    return merge


def entrywise(method: Callable[[Array, str], Array]) -> Callable[..., MergedByName]:
    return lambda vectors: {name: method(np.stack([v[name] for v in vectors]), name) for name in vectors[0]}


def flat(method: Callable[[Array], Array]) -> Callable[..., MergedByName]:
    """A method of whole vectors, [tasks, entries]."""

    def merge(vectors: Vectors) -> MergedByName:
        whole = np.stack([np.concatenate([vector[name].ravel() for name in vector]) for vector in vectors])
        merged, start = {}, 0
        vector = method(whole)
        for name, tensor in vectors[0].items():
            merged[name] = vector[start : start + tensor.size].reshape(tensor.shape)
            start += tensor.size
        return merged

    return merge


def ties(x: Array, keep: float = 0.2) -> Array:
    size = x.shape[1]
    edge = np.sort(np.abs(x), 1)[:, [size - int(keep * size) - 1]]
    x = np.where(np.abs(x) >= edge, x, 0)
    chosen = np.sign(x) == np.sign(x.sum(0))
    return (x * chosen).sum(0) / np.maximum((chosen & (x != 0)).sum(0), 1)


def drop(x: Array, name: str, p: float = 0.9) -> Array:
    for t, task in enumerate("abcdefgh"[: len(x)]):
        digest = hashlib.sha256(f"0\n{task}\n{name}".encode()).digest()
        random = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        kept = torch.rand(x[t].shape, generator=random).numpy() >= p
        x[t] = x[t] * kept / (1 - p)
    return x


def dare_ties(vectors: Vectors) -> MergedByName:
    dropped = {name: drop(np.stack([v[name] for v in vectors]), name) for name in vectors[0]}
    return flat(ties)([{name: array[t] for name, array in dropped.items()} for t in range(len(vectors))])


def breadcrumbs(x: Array, _: str) -> Array:
    out = np.zeros_like(x)
    width = x.shape[-1]
    for source, target in zip(x.reshape(-1, width), out.reshape(-1, width), strict=True):
        order = np.argsort(-np.abs(source), kind="stable")[int(0.006 * width) :][: int(0.15 * width)]
        target[order] = source[order]
    return out.sum(0)


def consensus(x: Array, _: str) -> Array:
    masks = np.abs(x) > 0.4 * np.abs(x.sum(0) - x)
    return x.sum(0) * (masks.sum(0) >= 2)


def pcb(x: Array) -> Array:
    def minmax(a: Array) -> Array:
        low, high = a.min(1, keepdims=True), a.max(1, keepdims=True)
        return (a - low) / (high - low)

    size = x.shape[1]
    ranked = np.sort(np.abs(x), 1)
    clamped = np.clip(np.abs(x), ranked[:, [int(0.01 * size)]], ranked[:, [int(0.99 * size - 1)]])
    signed = np.sign(x) * minmax(clamped)
    score = np.exp(len(x) * minmax(clamped) ** 2) * np.stack([np.tanh(s * signed).sum(0) for s in signed])
    scale = minmax(np.maximum(score, np.sort(score, 1)[:, [int(0.95 * size)]]))
    return (np.sign(x) * clamped * scale).sum(0) / np.maximum(scale.sum(0), 1e-12)


def tsv_m(x: Array) -> Array:
    parts = [svd(d, min(d.shape) // len(x)) for d in x]
    u, s, v = np.hstack([p[0] for p in parts]), np.hstack([p[1] for p in parts]), np.vstack([p[2] for p in parts])
    return polar(u) * s @ polar(v)


def iso_c(x: Array) -> Array:
    u, s, vt = svd(x.sum(0))
    return s.mean() * u @ vt


def iso_cts(x: Array) -> Array:
    rank = min(x[0].shape)
    own = round((rank - int(0.8 * rank)) / len(x))
    uc, sc, vc = svd(x.sum(0), rank - own * len(x))
    parts = [svd(d - uc @ uc.T @ d, own) for d in x]
    u = np.hstack([*(p[0] for p in parts), uc])
    s = np.hstack([*(p[1] for p in parts), sc])
    v = np.vstack([*(p[2] for p in parts), vc])
    return s.mean() * polar(u) @ polar(v)


def cart(x: Array) -> Array:
    parts = [svd(d - x.mean(0), int(0.5 * min(d.shape))) for d in x]
    return x.mean(0) + 0.5 * sum(u * s @ vt for u, s, vt in parts)


def wudi(x: Array) -> Array:
    weights = [1 / (d**2).sum() for d in x]
    gram = sum(c * d.T @ d for c, d in zip(weights, x, strict=True)) + 1e-8 * np.eye(x.shape[2])
    return sum(c * d @ d.T @ d for c, d in zip(weights, x, strict=True)) @ np.linalg.inv(gram)


def wudi_steps(x: Array) -> Array:
    deltas = torch.from_numpy(x)
    merged = deltas.sum(0).requires_grad_()
    optimiser = torch.optim.Adam([merged], lr=1e-5)
    for _ in range(300):
        loss = torch.stack([((merged - d) @ d.T).square().sum() / d.square().sum() for d in deltas]).sum()
        (merged.grad,) = torch.autograd.grad(loss, merged)
        optimiser.step()
    return merged.detach().numpy()


def svc(x: Array, merged: Array, floor: float = 0.1) -> Array:
    u, s, vt = svd(merged)
    for r in range(len(s)):
        response = [u[:, r] @ d for d in x]
        s[r] *= len(x) / sum(max(floor, s[r] * vt[r] @ a / (a @ a)) for a in response)
    return u * s @ vt


BRUTE_FORCE: dict[str, Callable[[Vectors], MergedByName]] = {
    "sum": entrywise(lambda x, _: x.sum(0)),
    "average": entrywise(lambda x, _: x.mean(0)),
    "ties": flat(ties),
    "dare": entrywise(lambda x, name: drop(x, name).sum(0)),
    "dare_ties": dare_ties,
    "breadcrumbs": entrywise(breadcrumbs),
    "consensus": entrywise(consensus),
    "pcb": flat(pcb),
    "tsv_m": on_matrices(tsv_m),
    "iso_c": on_matrices(iso_c),
    "iso_cts": on_matrices(iso_cts),
    "cart": on_matrices(cart),
    "wudi": on_matrices(wudi, blocks=True),
    "wudi_steps": on_matrices(wudi_steps, blocks=True, others="zero"),
}
