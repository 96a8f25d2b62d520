"""The Huffman code that containers are compared with: invariant 11 of focused quantization."""

import numpy as np
import pytest

from tfqreg.export.container.inspection.huffman import huffman_bytes, huffman_lengths

RNG = np.random.default_rng(0)
SYMBOLS = {
    "sparse": RNG.choice(19, 5000, p=[0.8, *[0.2 / 18] * 18]),
    "even": RNG.integers(0, 16, 3000),
    "steep": np.repeat(np.arange(12), 2 ** np.arange(12)),
    "two": RNG.integers(0, 2, 100),
}


def canonical(lengths: list[int]) -> list[str]:
    """The words of a canonical prefix code."""
    words, code, last = [""] * len(lengths), 0, 0
    for symbol in sorted(range(len(lengths)), key=lambda s: (lengths[s], s)):
        code <<= lengths[symbol] - last
        words[symbol], last = f"{code:0{lengths[symbol]}b}", lengths[symbol]
        code += 1
    return words


@pytest.mark.parametrize("symbols", SYMBOLS.values(), ids=SYMBOLS)
def test_invariant_11_huffman_decodes_and_is_within_a_bit_of_the_entropy(symbols):
    values, places, counts = np.unique(symbols, return_inverse=True, return_counts=True)
    lengths = huffman_lengths(counts.tolist())
    words = canonical(lengths)
    stream = "".join(words[place] for place in places)
    assert len(stream) == 8 * huffman_bytes(symbols)
    decoded, word, by_word = (
        [],
        "",
        {word: value for word, value in zip(words, values, strict=True)},
    )
    for bit in stream:
        word += bit
        if word in by_word:
            decoded.append(by_word[word])
            word = ""
    assert word == ""
    np.testing.assert_array_equal(decoded, symbols)
    entropy = -(counts / symbols.size * np.log2(counts / symbols.size)).sum()
    assert entropy <= len(stream) / symbols.size < entropy + 1


def test_one_symbol_takes_a_bit():
    assert huffman_bytes(np.zeros(80, np.int8)) == 10.0
