"""How colours are seen: the contrast of WCAG 2.2, and differences as eyes of each kind see them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.colors import to_rgb

__all__ = ["CONTRAST", "VISION", "contrast", "difference"]

# The same in a page's script, for whatever a browser calls a colour.
CONTRAST = """
    const pixel = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const luminance = (colour) => {
        pixel.fillStyle = colour;
        pixel.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...pixel.getImageData(0, 0, 1, 1).data].map((c) =>
            c <= 10 ? c / 3294.6 : ((c / 255 + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const contrast = (one, other) => {
        const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
        return (light + 0.05) / (dark + 0.05);
    };
"""


def luminance(rgb: np.ndarray) -> float:
    """Relative luminance, by the definition of WCAG 2.2."""
    return float(linear(rgb) @ [0.2126, 0.7152, 0.0722])


def linear(rgb: np.ndarray) -> np.ndarray:
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def contrast(
    one: str, other: str, seen: Callable[[np.ndarray], np.ndarray] = lambda rgb: rgb
) -> float:
    """The contrast ratio of WCAG 2.2, from 1 to 21."""
    dark, light = sorted(luminance(seen(np.array(to_rgb(colour)))) for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear sRGB, white point D65."""
    to_xyz = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    t = to_xyz @ rgb.clip(0, 1) / to_xyz.sum(1)
    x, y, z = np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


# Machado, Oliveira & Fernandes (2009), severity 1, for linear sRGB.
VISION = {
    "trichromat": np.eye(3),
    "protanope": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranope": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanope": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}


def difference(one: str, other: str, eye: str) -> float:
    """ΔE*ab of two colours; 2.3 is just noticed (Mahy et al. 1994)."""
    a, b = (lab(VISION[eye] @ linear(np.array(to_rgb(colour)))) for colour in (one, other))
    return float(np.linalg.norm(a - b))
