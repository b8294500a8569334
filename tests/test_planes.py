"""Planes unpacked and padded."""

import torch

from spikerecon.planes import crop, pad, unpack_bits


def test_bits_are_unpacked_lowest_first():
    rows = torch.tensor([[0b00000001, 0b10000000], [0b00000110, 0b00000000]], dtype=torch.uint8)
    planes = unpack_bits(rows[None, None], 15)
    assert planes.shape == (1, 1, 2, 15)
    assert planes[0, 0].nonzero().tolist() == [[0, 0], [1, 1], [1, 2]]
    assert unpack_bits(rows, 16)[0].nonzero().flatten().tolist() == [0, 15]


def test_padding_repeats_the_border_and_is_undone():
    planes = torch.rand(1, 3, 250, 400)
    padded = pad(planes, 16)
    assert padded.shape == (1, 3, 256, 400)
    assert torch.equal(padded[:, :, 0], planes[:, :, 0])
    assert torch.equal(padded[:, :, -1], planes[:, :, -1])
    assert torch.equal(crop(padded[:, 0], 250, 400), planes[:, 0])
    assert pad(planes, 1) is planes
