"""The vision tower: images to tokens, and the intermediate layer that the EMA target encoder reads."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ptrlib.config import NetworkConfig
from ptrlib.policy.precision import computing
from ptrlib.policy.transformer import fourier_features, quiet

MERGES = 4  # the stem's patches are merged 4 x 4 into one token
TARGET_GRID = 2  # the intermediate map is averaged over 2 x 2 quarters of the image
CACHED = 2 << 20  # bytes of a map that a processor keeps at hand


class VisionTower(nn.Module):
    """A convolutional tower shared by all cameras; each camera has its own embedding in the stem and in
    the tokens' positions, so a wrist camera can be read differently from a fixed one.

    Resolutions are 1/4, 1/8 and 1/16 of the image, or twice as fine with tokens of 8 pixels. Every merge is
    a convolution with a learned weight per offset, so a token keeps where inside its patch something lies.
    """

    def __init__(self, network: NetworkConfig, cameras: int) -> None:
        super().__init__()
        if network.token_size not in (8, 16):
            raise ValueError(f"network.token_size must be 8 or 16, got {network.token_size}")
        if network.image_size % network.token_size:
            raise ValueError(f"network.image_size must be a multiple of {network.token_size}, "
                             f"got {network.image_size}")
        if network.target_pixels < network.token_size or network.image_size % network.target_pixels:
            raise ValueError(f"network.target_size must divide network.image_size ({network.image_size}) and be at "
                             f"least network.token_size ({network.token_size}), got {network.target_size}")
        early, middle, late = network.vision_channels
        side, stride = network.image_size // network.token_size, network.token_size // MERGES
        self.precision = network.precision
        self.image_size = network.image_size
        self.target_shrink = network.image_size // network.target_pixels  # pixels of a side that become one
        self.cameras = cameras
        self.target_channels = middle
        self.stem = nn.Conv2d(3, early, 2 * stride, stride=stride, padding=stride // 2)
        self.camera_embedding = nn.Parameter(torch.randn(cameras, early, 1, 1) * 0.1)
        self.early = ResidualBlock(early)
        self.early_merge = nn.Conv2d(early, middle, 3, stride=2, padding=1)
        self.middle = ResidualBlock(middle)
        self.middle_merge = nn.Conv2d(middle, late, 2, stride=2)
        self.late = ResidualBlock(late)
        self.projection = nn.Linear(late, network.width)
        self.norm = nn.LayerNorm(network.width)
        self.position = nn.Parameter(_grid_positions(side, network.width).repeat(cameras, 1, 1))

    @property
    def tokens(self) -> int:
        """Vision tokens of one observation, N, over all cameras."""
        return self.position.shape[0] * self.position.shape[1]

    def forward(self, images: Tensor) -> Tensor:
        """Tokens (B, N, d) of images (B, C, H, W, 3), uint8 or float in [0, 255]."""
        with computing(self.precision, images.device):
            maps = self.late(self.middle_merge(self._intermediate(self._pixels(images))))
            tokens = self.norm(self.projection(maps.flatten(2).transpose(1, 2)).float())
            return tokens.unflatten(0, (-1, self.cameras)).add(self.position).flatten(1, 2)

    def target_dim(self, cameras: int) -> int:
        """Size D of :meth:`target_features` for a number of cameras."""
        return cameras * self.target_channels * TARGET_GRID**2

    def target_features(self, images: Tensor) -> Tensor:
        """Features (B, D) of images (B, C, H, W, 3) from the middle of the tower (Section 4.2).

        The map is averaged over a 2 x 2 grid and the cameras are concatenated. The paper reads layer 12
        of a 24-layer tower; later layers of ours take no part, so no gradient reaches them from here.
        Not normalised: the target encoder does that. Images of more than ``network.target_pixels`` are averaged over
        areas first: the tower's cost falls with the square of the shrinking, the features stay as many.
        """
        return torch.cat([self._target_features(part) for part in images.split(self._at_once(images))])

    def _target_features(self, images: Tensor) -> Tensor:
        with computing(self.precision, images.device):
            maps = self._intermediate(self._pixels(images, self.target_shrink))
        pooled = functional.adaptive_avg_pool2d(maps.float(), TARGET_GRID)
        return pooled.flatten(1).unflatten(0, (-1, self.cameras)).flatten(1)

    def _at_once(self, images: Tensor) -> int:
        """Of how many observations the largest map stays in a processor's cache: passing images part
        by part without gradients then takes less time and gives the same features."""
        if images.device.type != "cpu":
            return max(1, len(images))
        side = self.image_size // self.target_shrink // self.stem.stride[0]
        return max(1, CACHED // (4 * self.cameras * self.stem.out_channels * side**2))

    def _pixels(self, images: Tensor, shrink: int = 1) -> Tensor:
        """(B * C, 3, H / shrink, W / shrink) in [-1, 1] of images (B, C, H, W, 3), means of shrink x shrink pixels."""
        expected = (self.cameras, self.image_size, self.image_size, 3)
        if images.shape[1:] != expected:
            raise ValueError(f"images must have shape (batch, {', '.join(map(str, expected))}), "
                             f"got {tuple(images.shape)}")
        pixels = images.flatten(0, 1)
        pixels = _area_sums(pixels, shrink) if shrink > 1 else pixels.to(torch.float32, copy=True)
        return pixels.permute(0, 3, 1, 2).div_(127.5 * shrink**2).sub_(1)

    def _intermediate(self, pixels: Tensor) -> Tensor:
        """(B * C, middle channels, H / 8, W / 8), or twice as fine."""
        maps = self.stem(pixels).unflatten(0, (-1, self.cameras)) + self.camera_embedding
        return self.middle(self.early_merge(self.early(maps.flatten(0, 1))))


class ResidualBlock(nn.Module):
    """x + conv(gelu(conv(gelu(norm(x))))), the second convolution starting small."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        quiet(self.second, 0.5)

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.first(functional.gelu(self.norm(maps)))
        return maps + self.second(functional.gelu(inner))


def _area_sums(images: Tensor, side: int) -> Tensor:
    """(n, H / side, W / side, 3) float32: sums over side x side pixels (side > 1) of images (n, H, W, 3), rows
    before columns, which is faster than a pooling layer where channels come last."""
    short = images.dtype == torch.uint8 and 255 * side**2 <= torch.iinfo(torch.int16).max
    sums = images.to(torch.int16 if short else torch.float32)
    for axis in (1, 2):
        first, second, *others = sums.unflatten(axis, (-1, side)).unbind(axis + 1)
        sums = first + second
        for other in others:
            sums += other
    return sums.to(torch.float32)


def _grid_positions(side: int, width: int) -> Tensor:
    """(side * side, width): rows in one half of the channels, columns in the other."""
    places = fourier_features(torch.arange(side) / side, width // 2, 0.25, 4.0)
    rows = places[:, None].expand(side, side, -1)
    columns = places[None].expand(side, side, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1).clone()
