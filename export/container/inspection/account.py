"""Where every byte of a container went, as text."""

from .info import ContainerInfo, TensorInfo
from .text_table import aligned

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

    `coded` includes `map`; a table that several use counts for the first; `H0` is the zero-order
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
        aligned([HEADER, *rows], 4 * "<" + (len(HEADER) - 4) * ">"),
        aligned([("spans", "count", "of output", "in container"), *spans], "<>>>"),
        aligned([("section", "bytes"), *sections], "<>"),
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
