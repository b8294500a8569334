"""Scenes to film: a video, a picture that slides by, and a fan, of any size.

A scene gives the light at any instant, so the truth behind a simulated recording is exact. Time is counted in
planes: plane k lasts from instant k to k + 1, and "centre c" is the instant c, the start of plane c.
"""

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spikerecon.errors import UsageError

MOST_PLANES_PER_FRAME = 1_000_000

Array = NDArray[Any]


class Scene(Protocol):
    """Something to film: its size in pixels, and its light at any instant."""

    width: int
    height: int

    def light(self, t: float) -> NDArray[np.float32]:
        """Intensity in [0, 1] at the instant `t`, in planes: float32 (height, width), in colour (height, width, 3)."""
        ...


def truth(scene: Scene, t: float) -> NDArray[np.float32]:
    """The picture at the instant `t`, in planes: float32 of the shape of the scene's light, never outside [0, 1]."""
    return np.clip(scene.light(t), 0, 1)


class VideoScene:
    """A video as a scene: one frame every `planes_per_frame` planes, blended linearly in between.

    `open_frames` starts reading at the first frame: an iterable of uint8 (height, width), or (height, width, 3) in
    colour. Only two frames are kept, and going back in time opens the video again. Levels are taken as intensity as
    they are. Raises UsageError if there are fewer than two frames, if their sizes differ, and for instants before the
    first frame or after the last.
    """

    def __init__(self, open_frames: Callable[[], Iterable[NDArray[np.uint8]]], planes_per_frame: float):
        if not 0 < planes_per_frame <= MOST_PLANES_PER_FRAME:
            raise UsageError(
                f"{planes_per_frame} planes per frame: there must be more than 0, and {MOST_PLANES_PER_FRAME:,} at most"
            )
        self.planes_per_frame = planes_per_frame
        self._open_frames = open_frames
        self._rewind()
        self.height, self.width = self._after.shape[:2]

    @cached_property
    def planes(self) -> int:
        """Whole planes from the first frame to the last. Reads the video once."""
        return int((sum(1 for _ in self._open_frames()) - 1) * self.planes_per_frame)

    def light(self, t: float) -> NDArray[np.float32]:
        position = t / self.planes_per_frame
        if position < 0:
            raise UsageError(f"instant {t:g} is before the first frame of the video")
        if position < self._index:
            self._rewind()
        while position > self._index + 1:
            self._advance()
        share = np.float32(position - self._index)
        return self._before + share * (self._after - self._before)

    def _rewind(self) -> None:
        self._frames = iter(self._open_frames())
        self._index = -1
        self._after = self._read()
        self._advance()

    def _advance(self) -> None:
        after = self._read()
        if after.shape != self._after.shape:
            sizes = " and ".join("x".join(map(str, shape[1::-1])) for shape in (self._after.shape, after.shape))
            raise UsageError(f"frames to film must be of one size: number {self._index + 3} is not ({sizes})")
        self._before, self._after = self._after, after
        self._index += 1

    def _read(self) -> NDArray[np.float32]:
        frame = next(self._frames, None)
        if frame is None:
            raise UsageError("the video is too short: it needs two frames, and frames up to the last plane")
        return np.asarray(frame, np.float32) / np.float32(255)


class Pan:
    """A picture of scattered discs and bars that slides by at 0.6 pixels a plane, a little faster and slower.

    The picture is periodic, so it goes on for ever, and kept at twice the resolution, so that motion by
    fractions of a pixel leaves it sharp. With `colour` the same shapes have colours.
    """

    velocity = (0.57, 0.19)  # pixels per plane, to the right and down
    swing, swing_period = 24.0, 1000.0  # planes that the motion runs ahead and behind, and how often

    def __init__(self, width: int = 400, height: int = 250, seed: int = 0, colour: bool = False):
        self.width, self.height = width, height
        tints = [np.random.default_rng((seed, i)) for i in range(3)] if colour else [None]
        channels = [_scattered_shapes(2 * width, 2 * height, np.random.default_rng(seed), tint) for tint in tints]
        self._picture = np.stack(channels, axis=-1) if colour else channels[0]

    def light(self, t: float) -> NDArray[np.float32]:
        path = t + self.swing * np.sin(2 * np.pi * t / self.swing_period)
        (column, across), (row, down) = (divmod(-2 * speed * path, 1) for speed in self.velocity)
        columns = (int(column) + np.arange(2 * self.width + 1)) % (2 * self.width)
        rows = (int(row) + np.arange(2 * self.height + 1)) % (2 * self.height)
        # A pixel's light is that of its area: bilinear, then the mean of 2x2, one axis at a time.
        view = self._picture[rows]
        view = view[1:-1:2] + np.float32(1 - down) * view[:-1:2] + np.float32(down) * view[2::2]
        view = view[:, columns]
        view = view[:, 1:-1:2] + np.float32(1 - across) * view[:, :-1:2] + np.float32(across) * view[:, 2::2]
        return view / 4


class Fan:
    """A desk fan with printed blades before a brick wall; the tips of the blades move at 1 pixel a plane.

    The rotor is drawn once, over radius and angle, and looked up along the angle at each instant. What stands
    still (the room, the guard, the light that falls on the rotor) is drawn over pixels. `period` is one full
    turn, in planes.
    """

    tip_speed = 1.0  # pixels per plane

    def __init__(self, width: int = 400, height: int = 250, seed: int = 0):
        self.width, self.height = width, height
        rng = np.random.default_rng(seed)
        radius = 0.43 * min(width, height)  # of the guard
        y, x = np.mgrid[:height, :width].astype(np.float32)
        x, y = x - (width - 1) / 2, y - 0.475 * (height - 1)
        r, angle = np.hypot(x, y), np.arctan2(y, x) % (2 * np.pi)

        room = _room(x, y, radius, rng)
        wire, wire_cover = _guard(r, angle, radius)
        lamp = np.minimum(1.16 - 0.24 * np.hypot(x / radius + 0.7, y / radius + 0.8), 1)
        self._still = np.clip(room + wire_cover * (wire - room), 0, 1).astype(np.float32)

        # The rotor in steps of half a pixel; two turns and a bit, so that looking up never wraps.
        steps = int(np.ceil(4 * np.pi * radius))
        radii = np.arange(2 * _TIP * radius, dtype=np.float32)[:, None] / 2
        angles = np.arange(steps, dtype=np.float32) * np.float32(2 * np.pi / steps)
        paint, cover = _rotor(radii, angles, radius, rng)
        turns = np.arange(2 * steps + 2) % steps
        self._paint = (paint * cover)[:, turns].astype(np.float32).ravel()
        self._cover = cover[:, turns].astype(np.float32).ravel()
        self._steps = steps
        self.period = 2 * np.pi * _TIP * radius / self.tip_speed

        # The pixels that the rotor can cover, in the order of the tables, which is kind to the cache.
        row = np.rint(2 * r).astype(np.intp).ravel()
        disc = np.flatnonzero(row < len(radii))
        disc = disc[np.lexsort((angle.ravel()[disc], row[disc]))]
        self._disc = disc
        self._row = row[disc] * len(turns)
        self._angle = angle.ravel()[disc] * np.float32(steps / (2 * np.pi))
        self._lamp = (lamp * (1 - wire_cover)).astype(np.float32).ravel()[disc]
        self._behind = (room * (1 - wire_cover)).astype(np.float32).ravel()[disc]

    def light(self, t: float) -> NDArray[np.float32]:
        angle = self._angle + np.float32(-t / self.period % 1 * self._steps)
        whole = np.floor(angle)
        share = angle - whole
        step = self._row + whole.astype(np.intp)
        paint, cover = (table[step] * (1 - share) + table[step + 1] * share for table in (self._paint, self._cover))
        picture = self._still.copy()
        picture.ravel()[self._disc] += paint * self._lamp - cover * self._behind
        return picture


def check_seed(seed: int) -> None:
    """Raises UsageError for a seed below 0."""
    if seed < 0:
        raise UsageError(f"seed {seed} is negative: use 0 or a positive whole number")


SCENES: dict[str, Callable[[int, int, int], Scene]] = {"fan": Fan, "pan": Pan}


def make_scene(name: str, width: int = 400, height: int = 250, seed: int = 0, colour: bool = False) -> Scene:
    """A built-in scene by name, of any size; only `pan` there is in colour.

    UsageError for an unknown name, a side below 16 pixels, a negative seed, or a scene that has no colours.
    """
    check_seed(seed)
    if name not in SCENES:
        raise UsageError(f"no scene is called {name!r}: there are {', '.join(SCENES)}")
    if min(width, height) < 16:
        raise UsageError(f"a scene of {width}x{height} pixels is too small: use 16x16 or more")
    if not colour:
        return SCENES[name](width, height, seed)
    if name != "pan":
        raise UsageError(f"the built-in {name} is grey: in colour there is pan, a video, or a folder of pictures")
    return Pan(width, height, seed, colour=True)


# --- How the scenes are drawn; lengths are in pixels, and edges one pixel wide ------------------------------

_TIP = 0.92  # radius of the blades' tips, of the guard's
_LETTERS = """
.####.####..###.#...#.#####
#.....#...#..#..#..#..#....
#.....#...#..#..#.#...#....
.###..####...#..##....####.
....#.#......#..#.#...#....
....#.#......#..#..#..#....
####..#.....###.#...#.#####
"""


def _inside(distance: Array) -> Array:
    """Cover from the distance to an edge, positive inside."""
    return np.clip(distance + 0.5, 0, 1)


def _line(distance: Array, width: Array | float) -> Array:
    return _inside(width / 2 - np.abs(distance))


def _noise(height: int, width: int, rng: np.random.Generator, exponent: float = 1.0) -> Array:
    """Periodic noise, mean 0, standard deviation 1, with amplitudes that fall as 1 / frequency**exponent."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((height, width))) / frequency**exponent, (height, width))
    return noise / noise.std()


def _scattered_shapes(
    width: int, height: int, rng: np.random.Generator, tints: np.random.Generator | None = None
) -> NDArray[np.float32]:
    """Discs and bars of all sizes and greys on top of each other, with grain; periodic. `tints` shift the greys."""
    picture = 0.5 + 0.12 * _noise(height, width, rng, 1.3)
    unit = min(width, height)
    for size in np.geomspace(0.22, 0.012, 420) * unit:
        reach = int(size) + 2
        y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        turn, grey, slant = rng.uniform(0, np.pi), rng.uniform(0.06, 0.94), rng.uniform(-0.12, 0.12)
        if tints is not None:
            grey = np.clip(grey + tints.uniform(-0.2, 0.2), 0.06, 0.94)
        along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        if rng.random() < 0.5:
            cover = _inside(size - np.hypot(x, y))
            if rng.random() < 0.4:  # a ring
                cover *= 1 - _inside(0.6 * size - np.hypot(x, y))
        else:
            cover = _inside(0.95 * size - np.abs(along)) * _inside(0.28 * size - np.abs(across))
        if rng.random() < 0.35:  # printed stripes
            grey = grey + 0.3 * (0.5 - grey) * np.sign(np.sin(across * (2 * np.pi / max(6, size / 4))))
        rows, columns = (rng.integers(height) + y) % height, (rng.integers(width) + x) % width
        below = picture[rows, columns]
        picture[rows, columns] = below + cover * (grey + slant * along / size - below)
    return np.clip(picture + 0.02 * _noise(height, width, rng, 0.5), 0, 1).astype(np.float32)


def _room(x: Array, y: Array, radius: float, rng: np.random.Generator) -> Array:
    """A brick wall under a lamp from the upper left, a table, and the stand of the fan."""
    grain, stain = _noise(len(x), x.shape[1], rng, 0.9), _noise(len(x), x.shape[1], rng, 1.5)
    height, width = 0.19 * radius, 0.47 * radius
    row = np.floor(y / height).astype(int)
    column, in_brick = np.divmod(x / width + 0.5 * (row % 2), 1)
    edge = np.minimum((0.5 - np.abs(in_brick - 0.5)) * width, (0.5 - np.abs(y / height % 1 - 0.5)) * height)
    tone = rng.uniform(0.22, 0.6, (97, 89))[row % 97, column.astype(int) % 89]
    brick = _inside(edge - 0.014 * radius)
    wall = brick * (tone + 0.045 * grain - 0.08 * _inside(0.035 * radius - edge)) + (1 - brick) * 0.68 + 0.03 * stain
    shadow = np.hypot(x - 0.1 * radius, y - 0.12 * radius) - 0.975 * radius
    wall *= 1 - 0.4 * np.exp(-((shadow / (0.045 * radius)) ** 2)) - 0.15 * (shadow < 0)
    wall *= np.clip(1.25 - 0.26 * np.hypot(x / radius + 1.1, y / radius + 0.9), 0.3, 1.15)

    streaks = np.cumsum(rng.standard_normal((len(x), 1)), axis=0)
    wood = 0.5 + 0.04 * np.sin(2 * streaks + 0.6 * stain) + 0.02 * grain - 0.07 * x / radius
    edge = y - 1.04 * radius
    room = wall + _inside(edge) * (wood + 0.2 * _line(edge, 0.03 * radius) - wall)
    base = _inside((1 - np.hypot(x / (0.5 * radius), (y - 1.13 * radius) / (0.06 * radius))) * 0.06 * radius)
    neck = _inside(0.07 * radius - np.abs(x)) * (y > 0) * (y < 1.13 * radius)
    metal = 0.24 - 0.1 * np.tanh(4 * x / radius) + 0.45 * neck * np.exp(-(((x / radius + 0.03) / 0.025) ** 2))
    return np.clip(room + np.maximum(base, neck) * (metal - room), 0.02, 1)


def _guard(r: Array, angle: Array, radius: float) -> tuple[Array, Array]:
    """Grey and cover of the guard: a rim, three thin rings and curved spokes, lit from the upper left."""
    thin = max(0.8, 0.009 * radius)
    spokes, twist = 20, 0.5 * r / radius
    apart = (((angle - twist) * spokes / (2 * np.pi)) % 1 - 0.5) * (2 * np.pi / spokes) * r
    cover = _line(apart, thin) * _inside(r - 0.2 * radius) * _inside(radius - r) * 0.8
    for ring in (0.42, 0.72):
        cover = np.maximum(cover, _line(r - ring * radius, thin))
    rim = r - 0.975 * radius
    cover = np.maximum(cover, _line(rim, 0.06 * radius))
    shine = 0.5 - 0.5 * np.cos(angle - np.pi / 4)
    grey = 0.22 + 0.6 * shine * np.exp(-((rim / (0.02 * radius)) ** 2)) + 0.25 * shine
    return grey, cover


def _rotor(r: Array, angle: Array, radius: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Grey and cover of hub and blades over radius (n, 1) and angle (m,)."""
    greys = (0.95, 0.62, 0.84, 0.56, 0.74)
    pitch = 2 * np.pi / len(greys)
    u = r / radius
    blade, turn = np.divmod(angle - 0.5 * u**1.5, pitch)  # the blades are swept back
    across = (turn - pitch / 2) * r  # from a blade's middle line
    v = np.clip((u - 0.15) / (_TIP - 0.15), 0, 1)
    # Blades widen outwards and end round.
    half = radius * (0.09 + 0.27 * v**0.8) * np.sqrt(1 - np.clip((v - 0.68) / 0.32, 0, 1) ** 2.5)
    side = np.clip(across / np.maximum(half, 1), -1, 1)
    cover = _inside(half - np.abs(across))

    paint = np.array(greys)[blade.astype(int) % len(greys)] * (0.85 - 0.25 * side - 0.1 * side**2)
    paint = paint + 0.14 * np.exp(-(((side + 0.5) / 0.16) ** 2)) + 0.012 * _noise(len(r), len(angle), rng, 0.7)
    paint += 0.2 * _line(half - np.abs(across) - 0.035 * radius, 0.016 * radius)  # a trim along the edge
    # Print: the name, fine lines towards the tip, and as many dots as the number of the blade. The name
    # stands upright on its circle, so its own middle line is not swept.
    pixel = 0.016 * radius
    unswept = across + 0.5 * (u**1.5 - 0.685**1.5) * r
    ink = _lettering((0.685 * radius - r) / pixel + 3.5, unswept / pixel + 0.3, pixel)
    lines = 0.5 + 0.5 * np.cos(2 * np.pi * u / 0.036)
    ink = np.maximum(ink, lines * _line(r - 0.828 * radius, 0.108 * radius) * (np.abs(side) < 0.78))
    number = blade % len(greys) + 1
    spot = across / (0.065 * radius) + number / 2
    from_spot = np.hypot((spot % 1 - 0.5) * 0.065 * radius, r - 0.52 * radius)
    ink = np.maximum(ink, _inside(0.024 * radius - from_spot) * (spot >= 0) * (spot < number))
    paint += ink * (0.08 - paint)

    cap = 0.3 + 0.5 * _line(r - 0.165 * radius, 0.024 * radius) + 0.1 * np.cos(angle)
    quarters = 0.86 - 0.74 * (np.floor(angle / (np.pi / 2)) % 2)
    cap = cap + _inside(0.105 * radius - r) * (quarters - cap)
    hub = _inside(0.2 * radius - r)
    return np.clip(paint + hub * (cap - paint), 0, 0.95), np.maximum(cover, hub)


def _lettering(row: Array, column: Array, pixel: float) -> Array:
    """Cover of the lettering at coordinates counted in its own pixels, from the top and from the middle."""
    letters = np.pad([[float(c == "#") for c in line] for line in _LETTERS.split()], 1)
    height, width = letters.shape
    row, column = np.broadcast_arrays(row + 0.5, column + width / 2 - 0.5)
    row, column = np.clip(row, 0, height - 1.001), np.clip(column, 0, width - 1.001)
    i, j = row.astype(int), column.astype(int)
    down, right = row - i, column - j
    upper = letters[i, j] * (1 - right) + letters[i, j + 1] * right
    lower = letters[i + 1, j] * (1 - right) + letters[i + 1, j + 1] * right
    return _inside((upper * (1 - down) + lower * down - 0.4) * pixel)
