"""What LiteRT computes on arm64 in another way than on x86-64, against exact arithmetic by hand.

`tests/export/verification/test_arm.py` holds the same against its kernels.
"""

from fractions import Fraction

import numpy as np

from benchmarks.helpers.operator_cases import CASES
from tests.export import graphs
from tfqreg.export.ir import Graph
from tfqreg.export.kernels.arithmetic import fused_multiply_add
from tfqreg.export.simulator import simulate


def parting(graph: Graph, inputs: dict[str, np.ndarray]) -> dict[str, int]:
    """The largest step between the two processors, by tensor, where they part."""
    first, second = (simulate(graph, inputs, mode) for mode in ("f32", "arm64"))
    steps = {name: np.abs(first[name].astype(float) - second[name]) for name in first}
    return {name: int(step.max()) for name, step in steps.items() if step.any()}


def test_a_fused_product_and_sum_is_rounded_once():
    random = np.random.default_rng(0)
    x = random.normal(0, 100, 20_000).astype(np.float32)
    # Products near the negative of what is added to them: what is left shows every lost bit.
    for factor, addend in ((0.1, -7.7), (1 / 3, 128), (2.0**-20, 1), (1 + 2.0**-23, -1)):
        factor, addend = np.float32(factor), np.float32(addend)
        found = fused_multiply_add(x, factor, addend)
        exact = [Fraction(float(v)) * Fraction(float(factor)) + Fraction(float(addend)) for v in x]
        for value, expected in zip(found, exact, strict=True):
            ulp = Fraction(float(np.spacing(np.abs(value))))
            assert abs(Fraction(float(value)) - expected) <= ulp / 2


def test_what_looks_like_a_tie_in_float64_is_none():
    # 1 + 2^-23 + 2^-24 - 2^-70 is below the middle between two float32 numbers; float64 loses the
    # last part, and rounding half to even would go up.
    x, factor = np.float32([2.0**-24 * (1 + 2.0**-23)]), np.float32(1 - 2.0**-23)
    assert fused_multiply_add(x, factor, np.float32(1 + 2.0**-23)).tolist() == [1 + 2.0**-23]


def test_a_product_rounds_ties_up():
    b = graphs.Builder(0)
    x, y = b.input((3,), 0.5, 0), b.input((3,), 0.5, 10)
    b.op("MUL", [x, y], b.activation("out", (3,), 1.0, -3), activation="NONE")
    graph = b.finish()
    codes = {x: np.int8([[3, 5, -7]]), y: np.int8([[12, 12, 12]])}
    # Products 6, 10 and -14 at scale 1/4: 1.5, 2.5, -3.5.
    assert simulate(graph, codes, "arm64")[graph.outputs[0]].tolist() == [[-1, 0, -6]]


def test_hard_swish_of_the_last_few_elements():
    graph, inputs = CASES["HARD_SWISH"](60, 0)
    assert parting(graph, inputs)
    # 251 codes: the last three are computed by portable code, on whatever grid.
    first, second = (simulate(graph, inputs, mode) for mode in ("f32", "arm64"))
    uneven = [name for name in first if first[name].shape == (1, 251)]
    assert len(uneven) == 20
    assert all((first[name][:, 248:] == second[name][:, 248:]).all() for name in uneven)


def test_the_processors_part_by_one_step_at_most():
    for kind in ("MUL", "MEAN", "SOFTMAX", "HARD_SWISH"):
        assert set(parting(*CASES[kind](24, 0)).values()) == {1}, kind
    for kind in set(CASES) - {"MUL", "MEAN", "SOFTMAX", "HARD_SWISH"}:
        assert parting(*CASES[kind](3, 0)) == {}, kind
