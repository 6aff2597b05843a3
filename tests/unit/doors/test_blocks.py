"""Blocks of a body are taken together, in their order, once they are enough."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from adapters.doors.blocks import Blocks


@given(given=st.lists(st.binary(max_size=40), max_size=60))
def test_what_is_taken_is_what_came_and_never_much_more_than_enough(given: list[bytes]) -> None:
    blocks, taken = Blocks(64), []
    for block in given:
        blocks.add(block)
        assert blocks.size < 64 + 40
        if blocks.enough:
            taken.append(blocks.take())
    assert all(len(each) >= 64 for each in taken)
    rest = blocks.take()
    assert len(rest) < 64
    assert b"".join([*taken, rest]) == b"".join(given)
    assert (blocks.size, blocks.enough, blocks.take()) == (0, False, b"")


def test_a_single_block_is_handed_on_as_it_is() -> None:
    blocks, block = Blocks(8), b"enough by itself"
    blocks.add(block)
    assert blocks.take() is block
