"""STIR: spatio-temporal interactive learning for spike cameras (NeurIPS 2024), the whole network top to bottom.

A window of planes is cut into three blocks 20 planes apart. Every block is embedded and encoded by itself
(`STIR.encode`), so that windows which share a block can share its features; `STIR.decode` turns the features of three
blocks into one picture. Channels are counted with the paper's sizes: C = (16, 24, 32, 64, 96), G = 3 motion groups.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikerecon.follow import FOLLOWED_CHANNELS, FOLLOWED_RATES, Followed, follow
from spikerecon.prelu import PReLU
from spikerecon.warp import warp

BLOCK_STRIDE = 20  # planes between the starts of neighbouring blocks
BLOCKS = 3
BASE_CHANNELS = (16, 24, 32, 64, 96)  # levels 1 (full size) to 5
EXPLICIT_TRIMS = (0, 2, 4, 6, 8)  # planes cut from each end of a block, one firing-rate channel each
HIDDEN_CHANNELS = 8  # of the hidden state handed to the next finer level
HEADS = 4
REACH = 5  # pixels to each side that the convolutions of level 1's picture see
FILTERS = 16  # of followed rates, mixed anew at every pixel

Features = list[Tensor]  # of one block: level 1 (full size) to the coarsest; then its planes where motion is followed


@dataclass(frozen=True)
class StirConfig:
    """The sizes of a network and what its numbers mean: stored with its weights and enough to rebuild it.

    block_planes: planes in one of the three blocks: 20 (60-plane windows) or 21 (61, published checkpoints).
    levels: pyramid levels, 3 to 5. width: multiplier on the channels, 0.5 to 2. groups: motion groups at level 1.
    embedding: "hybrid", "explicit" (firing rates alone) or "implicit" (residual block alone).
    attention, warping: False leaves that part out (paper, tables 3b and 3c).
    rate_scale: firing rate, in spikes per plane, that a picture value of 1.0 stands for.
    follow: whether the decoder, at every level but the coarsest, is given the motion that is seen in the spikes (see
    `follow`): what it predicts then comes on top, rates followed along it come in, and linear filters of them, in
    shares that it predicts, are added to the picture. The paper's network goes without.
    """

    block_planes: int = 20
    levels: int = 5
    width: float = 1.0
    groups: int = 3
    embedding: str = "hybrid"
    attention: bool = True
    warping: bool = True
    rate_scale: float = 1.0
    follow: bool = False

    def __post_init__(self) -> None:
        checks = {
            "block_planes": self.block_planes in (20, 21),
            "levels": self.levels in (3, 4, 5),
            "width": 0.5 <= self.width <= 2 and all((c * self.width) % HEADS == 0 for c in BASE_CHANNELS),
            "groups": self.groups in (1, 2, 3, 4),
            "embedding": self.embedding in ("hybrid", "explicit", "implicit"),
            "attention": isinstance(self.attention, bool),
            "warping": isinstance(self.warping, bool),
            "rate_scale": 0 < self.rate_scale < math.inf and not isinstance(self.rate_scale, bool),
            "follow": isinstance(self.follow, bool) and (not self.follow or self.block_planes == BLOCK_STRIDE),
        }
        counts = ("block_planes", "levels", "groups")
        for name, ok in checks.items():
            if not ok or (name in counts and not isinstance(getattr(self, name), int)):
                raise ValueError(f"{name}={getattr(self, name)!r} is no size that STIR has")

    @property
    def window_planes(self) -> int:
        """Planes in a window: 60, or 61 where neighbouring blocks share a plane."""
        return (BLOCKS - 1) * BLOCK_STRIDE + self.block_planes

    @property
    def planes_before(self) -> int:
        """Planes of a window that lie before its centre: centre c uses planes from c - 30 on."""
        return BLOCKS * BLOCK_STRIDE // 2

    @property
    def multiple(self) -> int:
        """Height and width inside the network must be multiples of this: 16 for five levels."""
        return max(2 ** (self.levels - 1), 8 if self.follow else 1)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of levels 1 to `levels`."""
        return tuple(round(c * self.width) for c in BASE_CHANNELS[: self.levels])

    @property
    def embedding_channels(self) -> int:
        """Channels of the level-1 features: only the firing rates where the embedding is explicit."""
        return len(EXPLICIT_TRIMS) if self.embedding == "explicit" else self.channels[0]

    @property
    def followed_channels(self) -> int:
        """Channels of followed rates at a level of the decoder."""
        return FOLLOWED_CHANNELS if self.follow else 0

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for a weights file's metadata."""
        return asdict(self)


class STIR(nn.Module):
    """The network of the paper's section 4; `config` gives its sizes.

    Planes enter as 0.0 or 1.0, upright, with height and width multiples of `config.multiple`.
    """

    def __init__(self, config: StirConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or StirConfig()
        channels = config.channels
        self.embedding = SpikeEmbedding(config)
        self.encoder = Encoder(config.embedding_channels, channels)
        self.attention = SymmetricAttention(channels[-1]) if config.attention else None
        self.top = TopDecoder(channels[-1])
        self.middle = nn.ModuleList(
            MiddleDecoder(channels[level], channels[level + 1], config) for level in range(config.levels - 2, 0, -1)
        )
        self.bottom = BottomDecoder(channels[0], channels[1], config)

    def encode(self, block: Tensor) -> Features:
        """Features of blocks, each by itself.

        block: (B, block_planes, H, W). Returns one tensor a level, (B, C_l, H / 2**(l-1), W / 2**(l-1)), and, where
        motion is followed, the planes as uint8.
        """
        embedded = self.embedding(block)
        planes = [block.to(torch.uint8, memory_format=torch.contiguous_format)] if self.config.follow else []
        return [embedded, *self.encoder(embedded), *planes]

    def decode(self, before: Features, middle: Features, after: Features, rows: int | None = None) -> list[Tensor]:
        """Pictures of all levels, level 1 (B, 1, H, W) first, unclamped, from the features of three blocks.

        rows: level 1, which needs by far the most memory, is drawn in strips of so many rows; None: all at once.
        """
        top = self.config.levels - 1
        followed: list[Followed | None] = [None] * top  # of every level but the coarsest
        if self.config.follow:
            followed = list(follow(torch.cat([before[-1], middle[-1], after[-1]], 1), top, BLOCK_STRIDE))
        coarsest = before[top], middle[top], after[top]
        tops = self.attention(*coarsest) if self.attention is not None else torch.cat(coarsest, 1)
        state = self.top(tops)
        images = [state.image]
        for level, decoder in zip(range(top - 1, 0, -1), self.middle, strict=True):
            state = decoder(before[level], middle[level], after[level], state, followed[level])
            images.append(state.image)
        images.append(self.bottom(before[0], middle[0], after[0], state, followed[0], rows))
        return images[::-1]

    def forward(self, window: Tensor) -> list[Tensor]:
        """Pictures of all levels for windows (B, window_planes, H, W); level 1 first, unclamped (for training)."""
        size = self.config.block_planes
        starts = range(0, BLOCKS * BLOCK_STRIDE, BLOCK_STRIDE)
        blocks = torch.cat([window[:, start : start + size] for start in starts])
        features = self.encode(blocks)
        before, middle, after = map(list, zip(*(level.chunk(BLOCKS) for level in features), strict=True))
        return self.decode(before, middle, after)

    def reconstruct(self, window: Tensor) -> Tensor:
        """Firing rates (B, H, W), in spikes per plane, for windows (B, window_planes, H, W)."""
        return self.to_rate(self.forward(window)[0])

    def to_rate(self, image: Tensor) -> Tensor:
        """A level-1 picture (B, 1, H, W), clamped to [0, 1] and in spikes per plane: (B, H, W)."""
        return image[:, 0].float().clamp(0, 1) * self.config.rate_scale


class ResidualBlock(nn.Module):
    """x + conv3x3(relu(conv3x3(x)))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))


def conv_prelu(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, slopes: int = 1) -> nn.Sequential:
    """A convolution that keeps the size (but for its stride) and a PReLU of `slopes` parameters."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2), PReLU(slopes))


class SpikeEmbedding(nn.Module):
    """Hybrid spike embedding (section 4.2): firing rates over nested windows beside learned features."""

    def __init__(self, config: StirConfig) -> None:
        super().__init__()
        planes, channels = config.block_planes, config.channels[0]
        self.explicit = config.embedding != "implicit"
        self.implicit = config.embedding != "explicit"
        if self.implicit:
            learned = channels - len(EXPLICIT_TRIMS) if self.explicit else channels
            self.conv1 = nn.Conv2d(planes, learned, 3, padding=1)
            self.bn1 = nn.BatchNorm2d(learned)
            self.conv2 = nn.Conv2d(learned, learned, 3, padding=1)
            self.bn2 = nn.BatchNorm2d(learned)
            self.shortcut = nn.Conv2d(planes, learned, 1)

    def forward(self, block: Tensor) -> Tensor:
        planes = block.shape[1]
        parts = []
        if self.explicit:
            parts += [block[:, trim : planes - trim].mean(1, keepdim=True) for trim in EXPLICIT_TRIMS]
        if self.implicit:
            inner = F.relu(self.bn1(self.conv1(block)))
            parts.append(F.relu(self.bn2(self.conv2(inner)) + self.shortcut(block)))
        return joined(*parts, dtype=parts[-1].dtype)


class Encoder(nn.Module):
    """Feature pyramid (section 4.3), shared by the blocks; returns levels 2 and coarser."""

    def __init__(self, embedded: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = conv_prelu(embedded, channels[0], kernel=7)
        self.down = nn.ModuleList(
            nn.Sequential(conv_prelu(fine, coarse, stride=2), ResidualBlock(coarse))
            for fine, coarse in itertools.pairwise(channels)
        )

    def forward(self, embedded: Tensor) -> Features:
        features = [self.stem(embedded)]
        for down in self.down:
            features.append(down(features[-1]))
        return features[1:]


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of every pixel (biased variance)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class SymmetricAttention(nn.Module):
    """Symmetric interactive attention (section 4.4): the middle block asks both sides, over channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        both = 2 * channels
        self.norm_query = ChannelNorm(channels)
        self.norm_sides = nn.ModuleList(ChannelNorm(channels) for _ in range(2))
        self.temperatures = nn.ParameterList(nn.Parameter(torch.ones(HEADS, 1, 1)) for _ in range(2))
        self.query = nn.Sequential(
            nn.Conv2d(channels, both, 1, bias=False),
            nn.Conv2d(both, both, 3, padding=1, groups=channels, bias=False),
        )
        self.sides = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, both, 1, bias=False),
                nn.Conv2d(both, both, 3, padding=1, groups=both, bias=False),
            )
            for _ in range(2)
        )
        self.norm_out = ChannelNorm(channels)
        self.feed_forward = GatedFeedForward(channels)

    def forward(self, before: Tensor, middle: Tensor, after: Tensor) -> Tensor:
        """(B, C, h, w) three times in, (B, 3C, h, w) out: attended side, middle as it is, attended side."""
        queries = self.query(self.norm_query(middle)).chunk(2, 1)
        attended = []
        for i, side in enumerate((before, after)):
            key, value = self.sides[i](self.norm_sides[i](side)).chunk(2, 1)
            mixed = self._attend(queries[i], key, value, self.temperatures[i])
            attended.append(self.feed_forward(self.norm_out(mixed)))
        return torch.cat([attended[0], middle.to(attended[0].dtype), attended[1]], 1)

    @staticmethod
    def _attend(query: Tensor, key: Tensor, value: Tensor, temperature: Tensor) -> Tensor:
        shape = query.shape
        query, key, value = (x.reshape(shape[0], HEADS, shape[1] // HEADS, -1) for x in (query, key, value))
        scores = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-2, -1)
        return ((scores * temperature).softmax(-1).to(value.dtype) @ value).reshape(shape)


class GatedFeedForward(nn.Module):
    """1x1 to two halves, depthwise 3x3, gelu of the first times the second, 1x1 back; no residual, no biases."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = int(channels * 2.66)
        self.widen = nn.Conv2d(channels, 2 * inner, 1, bias=False)
        self.mix = nn.Conv2d(2 * inner, 2 * inner, 3, padding=1, groups=2 * inner, bias=False)
        self.narrow = nn.Conv2d(inner, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.mix(self.widen(x)).chunk(2, 1)
        return self.narrow(F.gelu(gate) * value)


@dataclass
class DecoderState:
    """What a level hands to the next finer one."""

    image: Tensor  # (B, 1, h, w)
    hidden: Tensor  # (B, 3 C_l, h, w)
    motion: Tensor  # (B, 4, h, w), pixels: x, y to the earlier block, x, y to the later one
    coarse_motion: Tensor | None = None  # the same before this level's correction


class Refine(nn.Module):
    """The decoder's unit: N to N to 3C channels with a PReLU slope a channel, then a residual block.

    followed: channels of followed rates that come in behind the N.
    """

    def __init__(self, inputs: int, outputs: int, followed: int) -> None:
        super().__init__()
        self.conv1 = conv_prelu(inputs + followed, inputs, slopes=inputs)
        self.conv2 = conv_prelu(inputs, outputs, slopes=outputs)
        self.residual = ResidualBlock(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(self.conv2(self.conv1(x)))


class TopDecoder(nn.Module):
    """The coarsest level: motions and picture from the attention's output."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv_prelu(3 * channels, 3 * channels, slopes=3 * channels)
        self.residual = ResidualBlock(3 * channels)
        self.predict = nn.Conv2d(3 * channels, 5, 3, padding=1)

    def forward(self, x: Tensor) -> DecoderState:
        hidden = self.residual(self.conv(x))
        predicted = self.predict(hidden)
        return DecoderState(predicted[:, 4:], hidden, predicted[:, :4].float())


class MiddleDecoder(nn.Module):
    """Levels between (section 4.5): corrects the coarser level's motions and draws a finer picture."""

    def __init__(self, channels: int, coarser: int, config: StirConfig) -> None:
        super().__init__()
        self.warping = config.warping
        self.up_motion = upsampling(4, 4)
        self.up_hidden = upsampling(3 * coarser, HIDDEN_CHANNELS)
        self.refine = Refine(1 + 3 * channels + HIDDEN_CHANNELS + 4, 3 * channels, config.followed_channels)
        self.predict = nn.Conv2d(3 * channels, 5, 3, padding=1)

    def forward(
        self, before: Tensor, middle: Tensor, after: Tensor, coarse: DecoderState, followed: Followed | None
    ) -> DecoderState:
        motion = upsample_motion(self.up_motion, coarse.motion)
        seen = motion + followed.motion if followed else motion
        hidden = self.refine(
            joined(
                upsample_image(coarse.image),
                middle,
                *align(before, after, [seen], self.warping),
                self.up_hidden(coarse.hidden),
                motion,
                *([followed.rates] if followed else []),
                dtype=middle.dtype,
            )
        )
        predicted = self.predict(hidden)
        return DecoderState(predicted[:, 4:], hidden, motion + predicted[:, :4].float(), motion)


class BottomDecoder(nn.Module):
    """Level 1 (section 4.5, multi-motion field estimation): G groups of motions, the picture at full size."""

    def __init__(self, channels: int, coarser: int, config: StirConfig) -> None:
        super().__init__()
        self.warping = config.warping
        self.groups = groups = config.groups
        embedded = config.embedding_channels
        extra = 4 * (groups - 1)
        self.up_motion = upsampling(4, 4)
        self.up_hidden = upsampling(3 * coarser, HIDDEN_CHANNELS)
        if extra:
            self.predict_groups = nn.Conv2d(3 * coarser, extra, 3, padding=1)
            self.up_groups = upsampling(extra, extra)
        inputs = 1 + embedded + 2 * groups * embedded + HIDDEN_CHANNELS + 4 * groups
        self.refine = Refine(inputs, 3 * channels, config.followed_channels)
        self.predict = nn.Conv2d(3 * channels, 1, 3, padding=1)
        if config.follow:
            self.filters = nn.Conv2d(FOLLOWED_RATES, FILTERS, 5, padding=2, bias=False)
            self.shares = nn.Conv2d(3 * channels, FILTERS, 1)

    def forward(
        self,
        before: Tensor,
        middle: Tensor,
        after: Tensor,
        coarse: DecoderState,
        followed: Followed | None,
        rows: int | None = None,
    ) -> Tensor:
        motions = [upsample_motion(self.up_motion, coarse.motion)]
        if self.groups > 1:
            assert coarse.coarse_motion is not None  # only the coarsest of three or more levels has none
            base = coarse.coarse_motion.repeat(1, self.groups - 1, 1, 1)
            groups = base + self.predict_groups(coarse.hidden).float()
            motions += upsample_motion(self.up_groups, groups).split(4, 1)
        seen = motions
        if followed:
            # The last of several groups starts from no motion, for where the one that is seen is wrong.
            moving = max(self.groups - 1, 1)
            seen = [motion + followed.motion for motion in motions[:moving]] + motions[moving:]
        image, hidden = upsample_image(coarse.image), self.up_hidden(coarse.hidden)
        height = middle.shape[2]
        strips = []
        for top in range(0, height, rows or height):
            end = min(top + (rows or height), height)
            first, last = max(top - REACH, 0), min(end + REACH, height)
            part = slice(first, last)
            drawn = self.refine(
                joined(
                    image[:, :, part],
                    middle[:, :, part],
                    *align(before, after, [motion[:, :, part] for motion in seen], self.warping, first),
                    hidden[:, :, part],
                    *(motion[:, :, part] for motion in motions),
                    *([followed.rates[:, :, part]] if followed else []),
                    dtype=middle.dtype,
                )
            )
            with torch.autocast(drawn.device.type, enabled=False):  # bfloat16 has 128 levels from half of white on
                drawn = drawn.float()
                picture = self.predict(drawn)
                if followed:
                    filtered = self.filters(followed.rates[:, :FOLLOWED_RATES, part])
                    picture = picture + (self.shares(drawn) * filtered).sum(1, keepdim=True)
            strips.append(picture[:, :, top - first : end - first])
        return torch.cat(strips, 2)


def joined(*parts: Tensor, dtype: torch.dtype) -> Tensor:
    """Concatenated over channels in the features' type (rates and motions come in float32), channels-last."""
    return torch.cat([part.to(dtype, memory_format=torch.channels_last) for part in parts], 1)


def upsampling(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    """A transposed convolution that doubles the size."""
    return nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)


def upsample_image(image: Tensor) -> Tensor:
    """Twice the size, bilinear with half-pixel centres."""
    return F.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False)


def upsample_motion(layer: nn.ConvTranspose2d, motion: Tensor) -> Tensor:
    """Motions at twice the size, in float32 always: bfloat16 would round 20 pixels to eighths of a pixel."""
    with torch.autocast(motion.device.type, enabled=False):
        bias = layer.bias.float() if layer.bias is not None else None
        return F.conv_transpose2d(motion, layer.weight.float(), bias, stride=2, padding=1)


def align(before: Tensor, after: Tensor, motions: list[Tensor], warping: bool, first: int = 0) -> list[Tensor]:
    """The side blocks' features warped to the middle one's instant (equation 4), or as they are: both by the first of
    some motions, then both by the next.

    motions may hold just some rows, from row `first` on: as many come back.
    """
    if not warping:
        rows = slice(first, first + motions[0].shape[2])
        return [before[:, :, rows], after[:, :, rows]] * len(motions)
    earlier = warp(before, [motion[:, :2] for motion in motions], first)
    later = warp(after, [motion[:, 2:] for motion in motions], first)
    return [side for both in zip(earlier, later, strict=True) for side in both]
