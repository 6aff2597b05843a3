"""Blocks of a body are taken together, in their order, once they are enough."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from adapters.doors.blocks import SMALL_BYTES, Blocks

ENOUGH, LONGEST = 3 * SMALL_BYTES, SMALL_BYTES + 40
SIZES = st.integers(0, 60) | st.integers(SMALL_BYTES - 1, LONGEST)


@given(sizes=st.lists(SIZES, max_size=40))
def test_what_is_taken_is_what_came_and_never_much_more_than_enough(sizes: list[int]) -> None:
    given = [bytes([number % 256]) * size for number, size in enumerate(sizes)]
    blocks, taken = Blocks(ENOUGH), []
    for block in given:
        blocks.add(block)
        assert blocks.size < ENOUGH + LONGEST
        if blocks.enough:
            taken.append(blocks.take())
    assert all(len(each) >= ENOUGH for each in taken)
    rest = blocks.take()
    assert len(rest) < ENOUGH
    assert b"".join([*taken, rest]) == b"".join(given)
    assert (blocks.size, blocks.enough, blocks.take()) == (0, False, b"")


def test_a_single_block_is_handed_on_as_it_is() -> None:
    blocks, block = Blocks(8), bytes(SMALL_BYTES + 1)
    blocks.add(block)
    assert blocks.take() is block


def test_a_sender_that_pays_out_two_bytes_at_a_time_costs_no_more_than_they_are() -> None:
    pieces = [number.to_bytes(2) for number in range(1 << 16)]
    blocks = Blocks(1 << 18)
    tracemalloc.start()
    try:
        for piece in pieces:
            blocks.add(piece)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2 * blocks.size
    assert blocks.take() == b"".join(pieces)
