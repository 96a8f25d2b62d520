"""Photographs without labels, from packages, split by photograph, and crops of them.

Licences vary from file to file: they are read where they are installed, and never copied into the
project.
"""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

APT = (
    "apt-get install --no-install-recommends mate-backgrounds lomiri-wallpapers-16.04 "
    "lomiri-wallpapers-20.04 plasma-workspace-wallpapers"
)
FOOLBOX = "pip install --no-deps foolbox==3.3.4"

# What of those packages is a photograph, and no abstract art: chosen by eye.
FOLDERS = {
    "/usr/share/backgrounds/{}.jpg": (
        "Bridge_by_Sander_Klootwijk",
        "Dragonfly_by_Bolly",
        "Kleiber_by_Lukas_Baubkus",
        "Picture_0B_by_freespace",
        "Picture_1A_by_freespace",
        "Wine_by_Jakkub_Mede",
        "aitzgorri_by_Aitzol_Berasategi",
        "free_by_Peter_Nerlich",
        "friends_by_Aitzol_Berasategi",
        "greentock_by_Peter_Nerlich",
        "life_by_Aitzol_Berasategi",
        "picosdeeuropa_by_Aitzol_Berasategi",
        "seeding_by_Clements_Engelhardt",
        "sunset_by_Aitzol_Berasategi",
    ),
    "/usr/share/backgrounds/mate/nature/{}.jpg": (
        "Aqua",
        "Blinds",
        "Dune",
        "FreshFlower",
        "Garden",
        "GreenMeadow",
        "LadyBird",
        "RainDrops",
        "Storm",
        "TwoWings",
        "Wood",
        "YellowFlower",
    ),
    "/usr/share/wallpapers/{}/contents/images/2560x1600.jpg": (
        "BytheWater",
        "ColdRipple",
        "ColorfulCups",
        "DarkestHour",
        "EveningGlow",
        "FallenLeaf",
        "Grey",
        "Kite",
        "OneStandsOut",
        "Path",
        "summer_1am",
    ),
}


@dataclass(frozen=True)
class Split:
    """Photographs for three ends; none is in two of them."""

    train: list[Path]
    validation: list[Path]
    test: list[Path]


def wallpapers() -> list[Path]:
    """Returns the 37 photographs among the desktop backgrounds.

    Raises:
        FileNotFoundError: when a package with them is not installed.
    """
    paths = [Path(folder.format(name)) for folder, names in FOLDERS.items() for name in names]
    if absent := [path for path in paths if not path.is_file()]:
        raise FileNotFoundError(f"Photographs: {APT}. Missing: {', '.join(map(str, absent))}")
    return paths


def imagenet_samples() -> list[Path]:
    """Returns 20 images of ImageNet; a file's name ends in its label.

    Raises:
        FileNotFoundError: when foolbox, which carries them, is not installed.
    """
    package = importlib.util.find_spec("foolbox")
    if package is None or not package.submodule_search_locations:
        raise FileNotFoundError(f"ImageNet's sample images: {FOOLBOX}")
    return sorted((Path(package.submodule_search_locations[0]) / "data").glob("imagenet_*.jpg"))


def label_of(path: Path) -> int:
    """Returns the ImageNet class in the name of one of `imagenet_samples()`."""
    return int(path.stem.rsplit("_", 1)[1])


def split() -> Split:
    """Returns all photographs: of six, three to train on, one for validation, two for the test."""
    groups = (
        [*(wallpapers()[i::6] for i in range(6))],
        [*(imagenet_samples()[i::6] for i in range(6))],
    )
    sixths = [first + second for first, second in zip(*groups, strict=True)]
    return Split(sixths[0] + sixths[2] + sixths[4], sixths[5], sixths[1] + sixths[3])


def load(path: Path, short_side: int = 640) -> Image.Image:
    """Returns a photograph in RGB, its shorter side scaled down to `short_side` pixels at most."""
    image = Image.open(path)
    image.draft("RGB", (short_side, short_side))  # a JPEG decodes faster at a fraction of its size
    image = image.convert("RGB")
    factor = min(1.0, short_side / min(image.size))
    return image.resize(
        (round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC
    )


def centre_crop(path: Path, size: int = 224) -> np.ndarray:
    """Returns the middle square, 7/8 of the shorter side as usual, as uint8 (size, size, 3)."""
    image = Image.open(path).convert("RGB")
    side = round(min(image.size) * 0.875)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(
        image.resize((size, size), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    )


def crops(paths: list[Path], count: int, size: int = 224, seed: int = 0) -> np.ndarray:
    """Returns `count` random crops of each photograph, uint8 (photographs * count, size, size, 3).

    Crops of one photograph follow each other.
    """
    random = np.random.default_rng(seed)
    return np.stack(
        [random_crop(image, size, random) for image in map(load, paths) for _ in range(count)]
    )


def endless_crops(
    paths: list[Path], batch: int, size: int = 224, seed: int = 0
) -> Iterator[np.ndarray]:
    """Yields random crops of random photographs, half mirrored, uint8 (batch, size, size, 3)."""
    random, images = np.random.default_rng(seed), [load(path) for path in paths]
    while True:
        found = [
            random_crop(images[i], size, random) for i in random.integers(len(images), size=batch)
        ]
        yield np.stack([crop[:, ::-1] if random.random() < 0.5 else crop for crop in found])


def random_crop(image: Image.Image, size: int, random: np.random.Generator) -> np.ndarray:
    """Returns a random square of a photograph, as uint8 (size, size, 3).

    Its side is 0.35 to 1 times the shorter side, evenly in the logarithm.
    """
    side = min(image.size) * 0.35 ** random.random()
    left, top = random.random() * (image.width - side), random.random() * (image.height - side)
    return np.asarray(
        image.resize((size, size), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    )
