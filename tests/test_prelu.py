import pytest
import torch
from torch import nn

from spikerecon.prelu import PReLU


@pytest.mark.parametrize("slopes", [1, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_prelu_and_its_gradients_are_those_of_torch(slopes, dtype, memory_format):
    generator = torch.Generator().manual_seed(0)
    given, grad = (torch.randn(2, 5, 7, 6, generator=generator).to(dtype) for _ in range(2))
    given[0, :, 0] = 0
    found = []
    for layer in (PReLU(slopes), nn.PReLU(slopes)):
        with torch.no_grad():
            layer.weight.copy_(torch.linspace(-0.2, 0.7, slopes))
        layer.to(dtype)
        x = given.contiguous(memory_format=memory_format).requires_grad_()
        y = layer(x)
        y.backward(grad)
        found.append((y, x.grad, layer.weight.grad))
    for quick, plain in zip(*found, strict=True):
        assert quick.dtype == plain.dtype == dtype
        assert torch.allclose(quick.float(), plain.float(), rtol=1e-2 if dtype == torch.bfloat16 else 1e-5)
