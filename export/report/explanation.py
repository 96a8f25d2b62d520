"""Why a container is not smaller, said in words from its numbers."""

from math import log2

from .summary import Row, Summary

_SMALLEST_FRACTION = 0.02  # of the container; what is smaller is not worth a line
_MOST_KERNELS = 4  # named one by one; a reader looks at the largest
_PARTS = {
    "biases": "int32, one for each output channel, whose values have no pattern in common",
    "scales and zero points": "one for each output channel; a layer with per_channel=False needs "
    "only one",
    "graph and small tensors": "operators, names, shapes, and arrays too small for a stream of "
    "their own",
    "header and index": "checksums, and one entry for each coded tensor",
}


def explanation(summary: Summary) -> list[tuple[str, str]]:
    """Returns what the container's bytes are for, the largest item first.

    Each item is a pair of a subject and sentences.

    Args:
        summary: of a quantized model; for another there is nothing to explain.
    """
    whole = summary.container_bytes
    if not whole:
        return []
    kernels = sorted(
        (r for r in summary.rows if r.coded_bytes), key=lambda r: r.coded_bytes or 0, reverse=True
    )
    items = [
        (row.coded_bytes or 0, row.name, _kernel(row, whole)) for row in kernels[:_MOST_KERNELS]
    ]
    rest = kernels[_MOST_KERNELS:]
    if rest:
        size = sum(row.coded_bytes or 0 for row in rest)
        items.append((size, f"{len(rest)} smaller kernels", f"{_fraction_of(size, whole)}."))
    items += [
        (
            summary.parts[part],
            part.capitalize(),
            f"{_fraction_of(summary.parts[part], whole)}: {words}.",
        )
        for part, words in _PARTS.items()
    ]
    largest_first = sorted(items, key=lambda item: item[0], reverse=True)
    named = [
        (subject, text)
        for size, subject, text in largest_first
        if size >= _SMALLEST_FRACTION * whole
    ]
    return named + _bottom(kernels)


def _kernel(row: Row, whole: int) -> str:
    coded, entropy = row.coded_bytes or 0, row.entropy_bytes or 0.0
    text = f"{_fraction_of(coded, whole)}. {row.weights:,} weights of {row.bits} bits"
    if row.sparsity:
        places = row.weights * _binary_entropy(row.sparsity) / 8
        others = row.weights - round(row.weights * row.sparsity)
        text += (
            f", {row.sparsity:.2%} of them zero: to say which takes {places:,.0f} bytes, the "
            f"values of the {others:,} others {entropy - places:,.0f}. Together they are "
            "the entropy,"
        )
    else:
        text += ", none of them zero; their entropy is"
    per_weight = f"{8 * entropy / row.weights:.3f} bits per weight"
    return f"{text} {entropy:,.0f} bytes or {per_weight}; {_coder(coded, entropy)}."


def _coder(coded: int, entropy: float) -> str:
    gap = coded - entropy
    if gap < 0:
        return f"the coder is {-gap / entropy:.1%} below it, since neighbouring weights are alike"
    return (
        f"the coder is {gap:,.0f} bytes ({gap / max(entropy, 1):.1%}) above it, its table included"
    )


def _bottom(kernels: list[Row]) -> list[tuple[str, str]]:
    coded = sum(row.coded_bytes or 0 for row in kernels)
    gap = coded - sum(row.entropy_bytes or 0 for row in kernels)
    if not kernels or gap < 0:
        return []
    text = (
        f"A perfect coder of single weights would save {gap:,.0f} bytes more. Beyond that, only "
        "training helps: more zeros, fewer levels, fewer weights."
    )
    return [("What is left", text)]


def _fraction_of(size: int, whole: int) -> str:
    return f"{size:,} bytes, {size / whole:.1%} of the container"


def _binary_entropy(fraction: float) -> float:
    return -sum(p * log2(p) for p in (fraction, 1.0 - fraction) if p > 0)
