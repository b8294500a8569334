"""Training data from still pictures: layers that move smoothly under the camera, seen by its sensor.

The light at any instant is known exactly, and so is the truth. Everything runs on the device that trains.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from spikerecon.errors import UsageError
from spikerecon.pictures import PICTURE_SUFFIXES, eight_bit, load_picture, pictures_in

TILE = 320  # pixels a side of a texture: holds a patch of 96 and the longest path under it
PLANES = 60
MIDDLE = PLANES // 2  # the truth is the light at the start of this plane
MAX_SPEED = 1.5  # pixels a plane
MAX_SPIN = 0.06  # radians a plane: 11,000 turns a minute at 20,000 planes/s, as propellers have
HELD_OUT = 16  # one photograph and one shape of as many are kept to measure with
SHARPENING = 2.5  # times the difference of a pixel and the mean around it, at most


def find_pictures(folders: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Picture files below the folders, sorted. Raises UsageError where a folder is missing or holds none."""
    found: list[Path] = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise UsageError(f"no such folder of pictures: {folder}")
        inside = pictures_in(folder, "**/*")
        if not inside:
            raise UsageError(f"no pictures in {folder}: looked for {', '.join(PICTURE_SUFFIXES)}")
        found += inside
    return found


@dataclass
class Textures:
    """What layers are made of, as uint8 tensors on the training device.

    pictures: (N, TILE, TILE). photographs: (N,), which one each of them is cut from, counted from 1; 0 for drawn ones.
    shapes: (M, 2, TILE, TILE), an own texture and an opacity, centred. own: (M,), whether the shape comes with its
    texture (a cutout) or takes a picture's.
    """

    pictures: Tensor
    photographs: Tensor
    shapes: Tensor
    own: Tensor

    @classmethod
    def load(cls, paths: Iterable[Path], *, seed: int = 0, drawn: int = 300) -> Textures:
        """Cut pictures into tiles; files with transparency become foreground shapes.

        They are joined by as many `drawn` shapes, and half as many drawn pictures of text and repeated patterns.
        Raises RecordingError for a file that is no sound picture, UsageError where all are cutouts.
        """
        rng = np.random.default_rng(seed)
        pictures, photographs, shapes, own = [], [], [], []
        photograph = 0
        for path in paths:
            image = load_picture(path)
            cutout = image.convert("RGBA").convert("LA") if image.has_transparency_data else None
            if cutout and cutout.getextrema()[1] != (255, 255):  # many files have an opacity that is full everywhere
                shapes.append(_cutout_tile(cutout, rng))
                own.append(True)
                continue
            grey = eight_bit(image, "L")
            photograph += 1
            for _ in range(1 + (min(grey.size) >= 640) * 2):
                pictures.append(_picture_tile(grey, rng))
                photographs.append(photograph)
        if not pictures:
            raise UsageError("no opaque pictures to train on: all given ones are cutouts")
        pictures += [_draw_pattern(i, rng) for i in range(drawn // 2)]
        photographs += [0] * (drawn // 2)
        for i in range(drawn):
            shape = _draw_shape(i, rng)
            shapes.append(np.stack([np.zeros_like(shape), shape]))
            own.append(False)
        return cls(
            torch.from_numpy(np.stack(pictures)),
            torch.tensor(photographs),
            torch.from_numpy(np.stack(shapes)),
            torch.tensor(own),
        )

    def to(self, device: torch.device) -> Textures:
        """The same on another device."""
        return Textures(*(part.to(device) for part in vars(self).values()))

    def split(self) -> tuple[Textures, Textures]:
        """Those to learn from, and others to measure with: every 16th photograph and shape.

        Where there are fewer, nothing is held out, and both are all there is.
        """
        pictures = (self.photographs > 0) & (self.photographs % HELD_OUT == 0)
        shapes = torch.arange(1, len(self.shapes) + 1) % HELD_OUT == 0
        if not (pictures.any() and shapes.any()):
            return self, self
        return self._only(~pictures, ~shapes), self._only(pictures, shapes)

    def _only(self, pictures: Tensor, shapes: Tensor) -> Textures:
        return Textures(self.pictures[pictures], self.photographs[pictures], self.shapes[shapes], self.own[shapes])


def _picture_tile(grey: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """A TILE x TILE cut of a picture at a random scale of its own (never enlarged beyond the tile's need)."""
    smallest = TILE / min(grey.size)
    scale = max(smallest, min(1.0, rng.uniform(0.45, 1.2)))
    size = (max(TILE, round(grey.width * scale)), max(TILE, round(grey.height * scale)))
    resized = np.asarray(grey.resize(size, Image.Resampling.LANCZOS))
    y = rng.integers(0, resized.shape[0] - TILE + 1)
    x = rng.integers(0, resized.shape[1] - TILE + 1)
    return resized[y : y + TILE, x : x + TILE]


def _cutout_tile(cutout: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """A cutout of 60 to 260 pixels in the middle of a transparent tile: (2, TILE, TILE)."""
    scale = rng.uniform(60, 260) / max(cutout.size)
    size = (max(1, round(cutout.width * scale)), max(1, round(cutout.height * scale)))
    tile = Image.new("LA", (TILE, TILE))
    tile.paste(cutout.resize(size, Image.Resampling.LANCZOS), ((TILE - size[0]) // 2, (TILE - size[1]) // 2))
    return np.moveaxis(np.asarray(tile), -1, 0).copy()


def _draw_pattern(kind: int, rng: np.random.Generator) -> np.ndarray:
    """A tile of text, stripes, checks or dots in two greys: sharp edges, and what repeats itself."""
    dark, light = sorted(rng.integers(0, 256, 2).tolist())
    if kind % 2 == 0:
        tile = Image.new("L", (TILE, TILE), light)
        draw, size = ImageDraw.Draw(tile), int(rng.integers(12, 60))
        font = ImageFont.load_default(size)
        for top in range(0, TILE, int(1.3 * size)):
            letters = "".join(chr(code) for code in rng.integers(33, 127, 60))
            draw.text((-int(rng.integers(0, size)), top), letters, fill=dark, font=font)
        return np.asarray(tile)
    y, x = np.mgrid[:TILE, :TILE].astype(np.float32)
    period, turn = rng.uniform(5, 50), rng.uniform(0, np.pi)
    u = np.sin((x * np.cos(turn) + y * np.sin(turn)) * 2 * np.pi / period)
    v = np.sin((y * np.cos(turn) - x * np.sin(turn)) * 2 * np.pi / (period * rng.uniform(0.5, 2)))
    wave = (u, u * v, np.minimum(u, v))[kind // 2 % 3]
    edge = np.clip(wave * period / 4 + 0.5, 0, 1)  # about a pixel wide
    return (dark + (light - dark) * edge).astype(np.uint8)


def _draw_shape(kind: int, rng: np.random.Generator) -> np.ndarray:
    """Opacity of a blob, fan blades or thin bars around the tile's middle, edges one or two pixels soft."""
    y, x = np.mgrid[:TILE, :TILE].astype(np.float32) - TILE / 2 + 0.5
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    if kind % 3 == 0:
        waves = 1 + sum(rng.normal(0, 0.35 / k) * np.cos(k * angle + rng.uniform(0, 6.28)) for k in range(2, 8))
        distance = rng.uniform(15, 90) * waves - radius
    elif kind % 3 == 1:
        count, twist = rng.integers(2, 8), rng.uniform(-0.02, 0.02)
        share = rng.uniform(-0.6, 0.6)
        wave = np.cos(count * (angle + twist * radius)) - share
        distance = np.minimum(wave * radius / count, rng.uniform(60, 155) - radius)
    else:
        period, width = rng.uniform(10, 60), rng.uniform(1.0, 8.0)
        distance = width / 2 - np.abs((x + period / 2) % period - period / 2)
        distance = np.minimum(distance, rng.uniform(30, 150) - np.abs(y))
        distance = np.minimum(distance, rng.uniform(10, 150) - np.abs(x))
    soft = rng.uniform(0.7, 1.5)
    return (np.clip(distance / soft + 0.5, 0, 1) * 255).astype(np.uint8)


class SceneMaker:
    """Renders batches of small moving scenes.

    size: pixels a side of a patch. generator: all randomness comes from it, on `device`.
    """

    def __init__(self, textures: Textures, size: int, device: torch.device, seed: int) -> None:
        self.textures = textures
        self.size = size
        self.device = device
        self.generator = torch.Generator(device).manual_seed(seed)
        axis = torch.arange(size, device=device) - (size - 1) / 2
        x, y = torch.meshgrid(axis, axis, indexing="xy")
        self.pixels = torch.stack([x, y, torch.ones_like(x)])  # (3, S, S)
        self.times = torch.cat([torch.arange(PLANES, device=device) + 0.5 - MIDDLE, torch.zeros(1, device=device)])

    def render(self, batch: int) -> Tensor:
        """Light (batch, 61, S, S) in [0, 1]: that of 60 planes and, last, the truth at the window's middle."""
        pictures, shapes = self.textures.pictures, self.textures.shapes
        background = self._toned(pictures[self._index(batch, len(pictures))][:, None].float() / 255)
        light = self._film(background, self._path(batch, foreground=False))[:, 0]
        alike = self._uniform(batch) < 0.3  # everything moves alike, as in most patches of a picture
        for _ in range(2 if self._uniform(1).item() < 0.3 else 1):
            chosen = self._index(batch, len(shapes))
            shape = shapes[chosen].float() / 255
            texture = pictures[self._index(batch, len(pictures))].float() / 255
            texture = torch.where(self.textures.own[chosen][:, None, None], shape[:, 0], texture)
            there = (~alike & (self._uniform(batch) < 0.8)).float()[:, None, None]
            layer = torch.stack([self._toned(texture[:, None])[:, 0], shape[:, 1] * there], 1)
            sampled = self._film(layer, self._path(batch, foreground=True), padding="zeros")
            light = torch.lerp(light, sampled[:, 0] / sampled[:, 1].clamp(min=1e-3), sampled[:, 1])
        return light.clamp_(0, 1)

    def _film(self, texture: Tensor, path: Tensor, padding: str = "reflection") -> Tensor:
        """Textures (B, C, TILE, TILE) seen along their paths: (B, C, 61, S, S)."""
        batch, size = len(texture), self.size
        if texture.shape[1] == 2:  # colour weighted by opacity, so that soft edges mix right
            texture = torch.stack([texture[:, 0] * texture[:, 1], texture[:, 1]], 1)
        places = path @ self.pixels.flatten(1)  # (B, 61, 3, S * S)
        grid = (places[:, :, :2] / places[:, :, 2:] / (TILE / 2)).movedim(2, -1)
        seen = F.grid_sample(texture, grid.reshape(batch, -1, size, 2), "bilinear", padding, align_corners=False)
        return seen.view(batch, -1, PLANES + 1, size, size)

    def _uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.device) * (high - low) + low

    def _index(self, batch: int, count: int) -> Tensor:
        return torch.randint(count, (batch,), generator=self.generator, device=self.device)

    def _toned(self, texture: Tensor) -> Tensor:
        """Textures (B, 1, TILE, TILE) of random sharpness, contrast and brightness; some negatives."""
        batch = len(texture)
        # Sampling between pixels softens; and large pixels see sharper than photographs at their full size are.
        detail = texture - F.avg_pool2d(texture, 3, 1, 1, count_include_pad=False)
        texture = (texture + SHARPENING * self._uniform(batch, 1, 1, 1) * detail).clamp(0, 1)
        low = 0.3 * self._uniform(batch, 1, 1, 1) ** 3
        high = 1 - 0.4 * self._uniform(batch, 1, 1, 1) ** 2
        negative = self._uniform(batch, 1, 1, 1) < 0.1
        return low + (high - low) * torch.where(negative, 1 - texture, texture)

    def _path(self, batch: int, *, foreground: bool) -> Tensor:
        """Homographies (B, 61, 3, 3) from a patch's pixels (x, y, 1) to its texture's at every instant, both counted
        from the middle: shift, turn, zoom and tilt, smooth in time."""
        half = self.size / 2
        spread = half if foreground else half / 2
        start = self._uniform(batch, 2, low=-spread, high=spread)
        speed = MAX_SPEED * self._uniform(batch) ** 2
        heading = self._uniform(batch, high=2 * math.pi)
        turning = self._uniform(batch) < 0.35  # turning objects get their share: motion is mostly rotation
        speed = torch.where(turning, speed * 0.1, speed)
        velocity = torch.stack([heading.cos(), heading.sin()], 1) * speed[:, None]
        acceleration = self._uniform(batch, 2, low=-1, high=1) * speed[:, None] / 100
        spin = self._uniform(batch, low=-1, high=1)
        spin = spin.sign() * torch.where(turning, MAX_SPIN * spin.abs() ** 2.5, 0.003 * spin.abs() ** 2)
        zoom = 0.004 * self._uniform(batch, low=-1, high=1) ** 3
        # More than one texture pixel under each patch pixel keeps the finest detail sharp.
        scale = torch.exp(self._uniform(batch, low=-0.1, high=0.8))
        tilt = 0.4 * self._uniform(batch, 2, low=-1, high=1) ** 3 / self.size
        tilting = 0.003 * self._uniform(batch, 2, low=-1, high=1) ** 3 / self.size
        angle = self._uniform(batch, high=2 * math.pi)
        origin = torch.zeros(batch, 2, device=self.device) if foreground else self._uniform(batch, 2, low=-60, high=60)

        t = self.times[:, None]
        moved = start[:, None] + velocity[:, None] * t + 0.5 * acceleration[:, None] * t**2
        slope = tilt[:, None] + tilting[:, None] * t
        angles = angle[:, None] + spin[:, None] * self.times
        scales = scale[:, None] * torch.exp(zoom[:, None] * self.times)
        unit = torch.eye(3, device=self.device).expand(*angles.shape, 3, 3)
        seen, turned, shifted = unit.clone(), unit.clone(), unit.clone()
        seen[..., :2, 2], seen[..., 2, :2] = -moved, slope
        turned[..., 0, 0] = turned[..., 1, 1] = scales * angles.cos()
        turned[..., 1, 0] = scales * angles.sin()
        turned[..., 0, 1] = -turned[..., 1, 0]
        shifted[..., :2, 2] = origin[:, None]
        return shifted @ turned @ seen


class SpikeBatches:
    """Batches of spike windows and truths, from a pool of rendered scenes that is renewed as training goes.

    A scene is used several times, each time flipped, turned, reversed in time and exposed anew, with other noise.
    pool: scenes held. Every batch handed out renews a quarter as many as it has.
    """

    def __init__(self, maker: SceneMaker, *, batch: int, pool: int) -> None:
        self.maker = maker
        self.batch = batch
        self.renew = max(1, batch // 4)
        self.pool = torch.empty(pool, PLANES + 1, maker.size, maker.size, dtype=torch.uint8, device=maker.device)
        self.filled = 0
        self.oldest = 0

    def _render(self) -> None:
        light = self.maker.render(self.renew)
        places = (torch.arange(self.renew, device=self.maker.device) + self.oldest) % len(self.pool)
        self.pool[places] = (light * 255).round().to(torch.uint8)
        self.oldest = (self.oldest + self.renew) % len(self.pool)
        self.filled = min(self.filled + self.renew, len(self.pool))

    def next(self) -> tuple[Tensor, Tensor, Tensor]:
        """spikes (B, 60, S, S) of 0.0 and 1.0, truth (B, 1, S, S) in spikes per plane, full-scale rates (B,)."""
        while self.filled < min(4 * self.batch, len(self.pool)):
            self._render()
        self._render()
        maker = self.maker
        light = self.pool[maker._index(self.batch, self.filled)]
        flips = maker._uniform(3).tolist()
        if flips[0] < 0.5:
            light = light.flip(-1)
        if flips[1] < 0.5:
            light = light.transpose(-1, -2)
        if flips[2] < 0.5:
            light = torch.cat([light[:, :PLANES].flip(1), light[:, PLANES:]], 1)
        full = torch.exp(maker._uniform(self.batch, low=math.log(0.03), high=math.log(0.9)))
        rates = light.float() * (full / 255)[:, None, None, None]
        return self._expose(rates[:, :PLANES]), rates[:, PLANES:], full

    def _expose(self, rates: Tensor) -> Tensor:
        """Integrate and fire with a random phase; half of the patches with noise, half with dead and stuck pixels.

        The halves are drawn apart: by such pixels nobody may tell that there is noise, as a recording's are mended.
        """
        maker = self.maker
        batch, _, height, width = rates.shape
        uneven = (maker._uniform(batch, 1, 1, 1) < 0.5).float()
        noisy = uneven.flatten().bool()

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=maker.generator, device=maker.device)

        # Pixels of a real capture differ in the dark (at 0.02 spikes per plane by a seventh, some by all of it), and
        # little in anything else: intervals of one pixel vary by no more than what planes round off.
        spread = maker._uniform(batch, 1, 1, 1, high=0.06)
        gain = 1 + uneven * (spread * normal(batch, 1, height, width) + 0.01 * normal(batch, 1, height, 1))
        dark = maker._uniform(batch, 1, 1, 1, low=math.log(0.0005), high=math.log(0.008))
        light = rates * gain + uneven * torch.exp(dark + 0.9 * normal(batch, 1, height, width))
        # Photons that make a spike add up to a Gaussian walk, which is drawn in a tenth of the time of Poisson's
        # numbers, and a pixel fires when its charge is the highest yet. How far below that it begins keeps the rate
        # from the first plane on (at 0.005 within 3 %).
        photons = torch.exp(maker._uniform(batch, 1, 1, 1, low=math.log(10), high=math.log(10000)))
        seen = light[noisy]
        light[noisy] = torch.addcmul(seen, (seen / photons[noisy]).sqrt_(), normal(*seen.shape))
        light.clamp_(max=1)
        highest = maker._uniform(batch, height, width)
        below = torch.empty_like(highest).exponential_(generator=maker.generator)
        charge = highest - below * (0.3 * uneven / photons)[:, 0]
        for plane in light.unbind(1):  # on a CPU a tenth of the time of `cumsum` and `cummax`
            charge += plane
            plane.copy_(torch.maximum(highest, charge, out=highest))
        whole = light.floor_()
        spikes = whole.diff(dim=1, prepend=torch.zeros_like(whole[:, :1])).clamp_(0, 1)
        broken = maker._uniform(batch, 1, height, width)
        share = 0.0015 * (maker._uniform(batch, 1, 1, 1) < 0.5)
        spikes = torch.where(broken < share, torch.zeros_like(spikes), spikes)
        return torch.where(broken > 1 - share / 2, torch.ones_like(spikes), spikes)
