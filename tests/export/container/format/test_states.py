"""The tANS automaton of a table, by hand and over all states."""

import numpy as np

from tfqreg.export.container.format.states import automaton
from tfqreg.export.container.format.table import Table


def test_automaton_covers_every_state_of_every_symbol() -> None:
    table = Table(0, (0, 0, 0), (3, 2000, 45), 1, bits=11)
    machine = automaton(table)
    assert np.bincount(machine.symbols).tolist() == [3, 2000, 45]
    for symbol in range(3):
        mine = machine.symbols == symbol
        reached = sorted(
            int(base) + bits
            for base, length in zip(machine.bases[mine], machine.lengths[mine], strict=True)
            for bits in range(1 << length)
        )
        assert reached == list(range(2048))


def test_automaton_by_hand() -> None:
    # f = 3: x = 3, 4, 5 read 11 - 1, 11 - 2, 11 - 2 bits, and go to (x << bits) - 2048.
    machine = automaton(Table(0, (0, 0), (3, 2045), 1, bits=11))
    mine = machine.symbols == 0
    assert machine.lengths[mine].tolist() == [10, 9, 9]
    assert machine.bases[mine].tolist() == [1024, 0, 512]
    # Symbol 0 is spread first, from state 0 in steps of 1024 + 256 + 3.
    assert np.flatnonzero(mine).tolist() == sorted(k * 1283 % 2048 for k in range(3))
