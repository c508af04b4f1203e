"""Two layers of a language model that writes one token with a cache of keys and values, in plain torch.

The sizes are those of SmolLM2-135M (https://huggingface.co/HuggingFaceTB/SmolLM2-135M, config.json), of which these
are two of thirty equal layers. It is among the smallest models of the Llama architecture that people run on devices,
and has what today's decoders have: RMS normalization, rotary positions, three queries to a key, gated layers. The
embedding and the projection onto the vocabulary are not in it. Cosines and sines of the token's position are inputs,
as the host computes them once for all layers.
"""

from torch import Tensor, cat, nn, ones

WIDTH, HIDDEN = 576, 1536
KEYS, QUERIES, HEAD = 3, 3, 64  # heads of keys and values, queries to each of them, elements in a head
EPSILON = 1e-5
LAYERS = 2


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair of elements (i, i + HEAD / 2) by the angle of the token's position."""
    half = HEAD // 2
    return x * cos + cat([-x[..., half:], x[..., :half]], dim=-1) * sin


class RMSNorm(nn.Module):
    """Divides by the root of the mean square, then scales each element."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize `x`."""
        return self.weight * (x * (x.pow(2).mean(-1, keepdim=True) + EPSILON).rsqrt())


class Attention(nn.Module):
    """Attention of one token to those before it and itself.

    The token sees everything, so there is no mask; the queries that share a key are rows of one matrix, so neither
    keys nor values are repeated.
    """

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(WIDTH, KEYS * QUERIES * HEAD, bias=False)
        self.k = nn.Linear(WIDTH, KEYS * HEAD, bias=False)
        self.v = nn.Linear(WIDTH, KEYS * HEAD, bias=False)
        self.o = nn.Linear(KEYS * QUERIES * HEAD, WIDTH, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The result, and the cache with the token's own key and value at its end."""
        query = rotate(self.q(x).view(1, KEYS, QUERIES, HEAD), cos, sin)
        key = cat([key, rotate(self.k(x).view(1, KEYS, 1, HEAD), cos, sin)], dim=2)
        value = cat([value, self.v(x).view(1, KEYS, 1, HEAD)], dim=2)
        scores = (query @ key.transpose(2, 3) * HEAD**-0.5).softmax(-1)
        return self.o((scores @ value).view(1, 1, -1)), key, value


class GatedLayers(nn.Module):
    """Two linear layers, the first of them times another that decides what passes."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.up = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.down = nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Widen, gate, narrow."""
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))


class Layer(nn.Module):
    """Attention and gated layers, each normalized before and added to what it read."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.attention = RMSNorm(), Attention()
        self.norm2, self.gated = RMSNorm(), GatedLayers()

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The result and the longer cache."""
        seen, key, value = self.attention(self.norm1(x), cos, sin, key, value)
        x = x + seen
        return x + self.gated(self.norm2(x)), key, value


class Decoder(nn.Module):
    """The layers, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        """The result, then the keys and the values of each layer; `past` has them without the token."""
        present: list[Tensor] = []
        for layer, key, value in zip(self.layers, past[::2], past[1::2], strict=True):
            x, *grown = layer(x, cos, sin, key, value)
            present += grown
        return x, *present
