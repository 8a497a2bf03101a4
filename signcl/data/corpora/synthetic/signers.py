"""The signers: their looks, backgrounds and signing styles."""

from __future__ import annotations

from dataclasses import dataclass

from signcl.data.corpora.synthetic.settings import Dice, SyntheticSettings

__all__ = ["Signer", "build_signers"]

Colour = tuple[int, int, int]

SKINS: list[Colour] = [(241, 204, 177), (224, 172, 138), (198, 140, 100), (160, 106, 72), (122, 80, 56), (98, 66, 50)]
HAIRS: list[Colour] = [(40, 30, 26), (92, 60, 36), (172, 126, 70), (150, 70, 40), (150, 148, 146), (66, 44, 32)]
# Plain colours that contrast with the skin, like the clothes of interpreters.
CLOTHES: list[Colour] = [(38, 54, 92), (36, 84, 74), (52, 50, 58), (104, 36, 58), (44, 92, 122), (88, 62, 118)]
LIGHT_CLOTHES: list[Colour] = [(178, 196, 214), (206, 208, 202), (164, 200, 184), (214, 186, 110)]
WALLS: list[Colour] = [
    (150, 166, 178),
    (196, 192, 180),
    (112, 138, 128),
    (176, 156, 168),
    (90, 108, 138),
    (214, 218, 222),
]
HAIRCUTS = ("short", "long", "bun", "curls", "bald", "bob")
BACKDROPS = ("plain", "panel", "window", "shelf")
PACES = (88, 96, 104, 112)  # percent; used in turn, so that the mean sign length hardly depends on the seed


@dataclass(frozen=True)
class Signer:
    """One signer. Lengths are fractions of the picture height, without zoom."""

    name: str
    left_handed: bool
    speed: int
    """In percent of the usual speed."""
    skin: Colour
    hair: Colour
    cloth: Colour
    wall: Colour
    haircut: str
    backdrop: str
    long_sleeves: bool
    glasses: bool
    beard: bool
    size: float
    """Scale of the whole body."""
    shoulder: float
    """Half the width of the shoulders."""
    head: tuple[float, float]
    """Half width and half height."""
    hand: float
    """Length of the palm; larger than life, so that fingers are visible in small pictures."""
    place: tuple[float, float]
    """Shift in the picture, right and up."""
    reach: float
    """Size of the movements; 1 is usual."""
    height: float
    """How much higher than usual this signer signs."""
    face: float
    """Strength of mouth and brow movements; 1 is usual."""
    lax: float
    """How far handshapes stay short of their full form, 0..0.2."""


def build_signers(settings: SyntheticSettings) -> list[Signer]:
    """Makes the signers of a corpus, the unseen ones last.

    Skins, clothes and walls are shuffled and used in turn, not drawn independently, so that even a few signers differ
    clearly. Every fourth signer is left-handed.
    """
    dice = Dice(settings.seed, "signers")
    count = settings.signers + settings.unseen_signers
    skins, hairs, walls = dice.shuffled(SKINS), dice.shuffled(HAIRS), dice.shuffled(WALLS)
    clothes, light_clothes = dice.shuffled(CLOTHES), dice.shuffled(LIGHT_CLOTHES)
    haircuts, backdrops, paces = dice.shuffled(HAIRCUTS), dice.shuffled(BACKDROPS), dice.shuffled(PACES)
    left = dice.below(min(4, settings.signers))
    signers = []
    for number in range(count):
        skin = skins[number % len(skins)]
        dark = sum(skin) < 320
        wardrobe = light_clothes if dark else clothes
        haircut = haircuts[number % len(haircuts)]
        signers.append(
            Signer(
                name=f"S{number + 1:02d}",
                left_handed=number % 4 == left,
                speed=paces[number % len(paces)] + dice.below(7) - 3,
                skin=skin,
                hair=HAIRS[0] if dark else hairs[number % len(hairs)],
                cloth=_near(wardrobe[number % len(wardrobe)], dice, 10),
                wall=_near(walls[number % len(walls)], dice, 10),
                haircut=haircut,
                backdrop=backdrops[number % len(backdrops)],
                long_sleeves=dice.chance(0.6),
                glasses=dice.chance(0.25),
                beard=haircut in ("short", "bald") and dice.chance(0.4),
                size=dice.uniform(1.03, 1.13),
                shoulder=dice.uniform(0.155, 0.185),
                head=(dice.uniform(0.090, 0.104), dice.uniform(0.122, 0.134)),
                hand=dice.uniform(0.090, 0.098),
                place=(dice.uniform(-0.02, 0.02), dice.uniform(-0.015, 0.01)),
                reach=dice.uniform(0.85, 1.15),
                height=dice.uniform(-0.015, 0.02),
                face=dice.uniform(0.8, 1.15),
                lax=dice.uniform(0.0, 0.16),
            )
        )
    return signers


def _near(colour: Colour, dice: Dice, spread: int) -> Colour:
    red, green, blue = (min(255, max(0, value + dice.below(2 * spread + 1) - spread)) for value in colour)
    return red, green, blue
