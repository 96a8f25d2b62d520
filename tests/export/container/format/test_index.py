"""How a tensor is cut into chunks."""

from tfqreg.export.container.format.index import chunk_counts


def test_chunks_are_whole_rows_where_possible() -> None:
    assert chunk_counts((500, 800), 16) == [64800] * 6 + [11200]
    assert chunk_counts((2, 70000), 16) == [65536, 65536, 8928]
    assert chunk_counts((7,), 16) == [7]
