"""Where every byte of a container went, as text."""

from collections.abc import Sequence

from .info import ContainerInfo, TensorInfo

# Columns of the table of tensors.
HEADER = (
    "tensor",
    "shape",
    "codec",
    "classes",
    "bits",
    "weights",
    "zeros",
    "raw",
    "H0",
    "Huffman",
    "coded",
    "map",
    "table",
    "index",
)
# Keeps rows short. A longer name loses its beginning, which says less than its end.
LONGEST_NAME = 40


def format_account(info: ContainerInfo) -> str:
    """Returns what `info` holds as three aligned tables: tensors, spans, sections; sizes in bytes.

    `coded` includes `map`; a shared table counts where it is used first; `H0` is the zero-order
    entropy of the codes, below which only classes get; `Huffman` is a static code of them, without
    its table.

    Example:
        >>> from tfqreg.export.container import inspect
        >>> print(format_account(inspect(container)))
        tensor                ...
        ...
        container    ...
    """
    rows = [_cells(tensor) for tensor in info.tensors]
    spans = [
        [kind.lower(), f"{span.count:,}", f"{span.output_bytes:,}", f"{span.coded_bytes:,}"]
        for kind, span in info.spans.items()
        if span.count
    ]
    names = ("header", "base", "pool", "index", "skeleton", "chunk", "container")
    sections = [[name, f"{getattr(info, f'{name}_bytes'):,}"] for name in names]
    parts = [
        _aligned([HEADER, *rows], left=4),
        _aligned([("spans", "count", "of output", "in container"), *spans], left=1),
        _aligned([("section", "bytes"), *sections], left=1),
    ]
    return "\n\n".join(parts)


def _cells(tensor: TensorInfo) -> list[str]:
    name = (
        tensor.name if len(tensor.name) <= LONGEST_NAME else f"...{tensor.name[3 - LONGEST_NAME :]}"
    )
    shape = " x ".join(map(str, tensor.shape))
    zeros = f"{100 * (1 - tensor.nonzeros / tensor.weights):.1f}%"
    sizes = (
        tensor.raw_bytes,
        round(tensor.entropy_bytes),
        round(tensor.huffman_bytes),
        tensor.coded_bytes,
    )
    rest = (tensor.map_bytes, tensor.table_bytes, tensor.index_bytes)
    numbers = [f"{size:,}" for size in (*sizes, *rest)]
    return [
        name,
        shape,
        tensor.codec,
        tensor.classes or "-",
        str(tensor.bits),
        f"{tensor.weights:,}",
        zeros,
        *numbers,
    ]


def _aligned(lines: Sequence[Sequence[str]], left: int) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
