"""Say what is in a scene: colours, names, relations, counts, places and plain descriptions."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from sprites import Thing

COLOURS = {
    "red": (214, 40, 40), "orange": (245, 140, 30), "yellow": (245, 212, 50), "green": (60, 165, 70),
    "blue": (45, 100, 220), "purple": (135, 65, 185), "pink": (245, 130, 180), "brown": (130, 85, 50),
    "black": (30, 30, 34), "white": (245, 245, 245), "gray": (135, 135, 135),
}  # fmt: skip
COLOUR_WORDS = {
    "gray": ("gray", "grey"),
    "purple": ("purple", "purple", "violet"),
    "orange": ("orange",),
}

# relation -> (how it is said, how it is said from the other end)
RELATIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "riding": (("riding", "riding", "riding on", "sitting on", "on the back of"), ("ridden by", "carrying")),
    "on": (("on", "on top of", "standing on"), ("under", "below", "underneath")),
    "above": (("above", "over", "floating above"), ("below", "under", "beneath")),
    "left": (("to the left of", "left of", "on the left of"), ("to the right of", "right of", "on the right of")),
    "beside": (("next to", "beside", "and", "with", "by"), ("next to", "beside", "and", "with", "by")),
}  # fmt: skip
SYMMETRIC = {"beside"}

PLACES = {
    "sky": ("in the sky", "in the air"), "night": ("at night", "in the dark"), "grass": ("on the grass", "in a meadow"),
    "beach": ("on the beach", "on the sand"), "sea": ("in the sea", "in the water"), "snow": ("in the snow",),
    "desert": ("in the desert",), "room": ("in a room", "indoors"), "forest": ("in the forest", "in the woods"),
    "sunset": ("at sunset",),
}  # fmt: skip

NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five"}

TEMPLATES = (
    "{}", "{}", "{}", "a picture of {}", "a cartoon of {}", "a drawing of {}", "an emoji of {}", "a photo of {}",
    "an icon of {}", "an illustration of {}", "a sketch of {}", "clip art of {}", "a cartoon drawing of {}",
    "an image of {}", "artwork of {}", "a simple drawing of {}", "a sticker of {}", "a painting of {}",
    "a rendering of {}", "this is {}", "there is {}", "a picture showing {}", "a cute picture of {}",
    "a photo of the {bare}", "a cartoon {bare}", "the {bare}", "{bare}", "{bare}", "{bare} emoji", "{bare} icon",
    "a cropped photo of {}", "a bad photo of {}", "a black and white photo of {}", "art of {}", "a doodle of {}",
    "a close-up of {}", "a plain picture of {}", "{} in cartoon style", "the emoji {bare}", "{bare}, cartoon",
)  # fmt: skip

SUBGROUP_WORDS = {
    34: ("mammal", "animal"), 35: ("bird", "animal"), 36: ("amphibian", "animal"), 37: ("reptile", "animal"),
    38: ("sea animal", "sea creature"), 39: ("insect", "bug"), 40: ("flower", "plant"), 41: ("plant",),
    42: ("fruit", "food"), 43: ("vegetable", "food"), 44: ("food", "meal"), 45: ("food", "dish"),
    46: ("dessert", "sweet"), 47: ("drink",), 54: ("vehicle",), 55: ("boat", "ship"), 56: ("aircraft",),
    62: ("sport",), 65: ("piece of clothing",), 68: ("musical instrument",), 78: ("tool",), 51: ("building",),
}  # fmt: skip

DESCRIPTIONS = {
    "elephant": ("a big gray animal with a trunk", "a huge animal with a long nose and big ears"),
    "giraffe": ("a tall animal with a very long neck", "a spotted animal with a long neck"),
    "zebra": ("a striped horse", "an animal with black and white stripes"),
    "snake": ("an animal without legs", "a long animal without legs", "a long thin reptile"),
    "spider": ("a bug with eight legs", "an eight-legged animal that makes webs"),
    "octopus": ("a sea animal with eight arms", "a soft animal with tentacles"),
    "shark": ("a big fish with sharp teeth", "a dangerous fish with a fin"),
    "whale": ("a huge sea animal", "the biggest animal of the sea"),
    "spouting whale": ("a whale that sprays water", "a huge sea animal spouting water"),
    "dolphin": ("a friendly jumping sea animal", "a smart gray sea animal"),
    "penguin": ("a black and white bird that cannot fly", "a bird of the ice"),
    "owl": ("a bird of the night with big eyes", "a bird with big round eyes"),
    "flamingo": ("a pink bird with long legs", "a bird that stands on one leg"),
    "peacock": ("a bird with a colourful fan of feathers", "a bird with a big colourful tail"),
    "parrot": ("a colourful bird that can talk", "a tropical bird"),
    "eagle": ("a big bird of prey", "a bird with a hooked beak"),
    "swan": ("a white bird with a long curved neck",), "duck": ("a water bird with a flat bill",),
    "rooster": ("a male chicken with a red comb",), "chicken": ("a farm bird that lays eggs",),
    "turkey": ("a bird eaten at Thanksgiving",), "baby chick": ("a small yellow bird", "a newborn chicken"),
    "hatching chick": ("a small bird coming out of an egg", "a chick in an eggshell"),
    "bat": ("a flying mammal", "an animal with leather wings"), "turtle": ("an animal with a shell on its back",),
    "snail": ("a slow animal with a spiral shell", "a slimy animal that carries its house"),
    "crab": ("a sea animal with claws", "a red animal with two pincers"),
    "lobster": ("a long red sea animal with two big claws",), "shrimp": ("a small curled sea animal",),
    "squid": ("a sea animal with a pointed head and arms",), "jellyfish": ("a transparent sea animal with tentacles",),
    "butterfly": ("an insect with big colourful wings",), "honeybee": ("a striped insect that makes honey",),
    "lady beetle": ("a red bug with black dots", "a ladybug", "a ladybird"), "ant": ("a tiny insect that works hard",),
    "mosquito": ("an insect that drinks blood",), "worm": ("a long soft animal that lives in the ground",),
    "scorpion": ("an animal with claws and a stinging tail",), "cricket": ("a green jumping insect", "a grasshopper"),
    "frog": ("a green jumping animal that lives in ponds",), "crocodile": ("a green reptile with big jaws",),
    "lizard": ("a small reptile with four legs and a tail",), "dragon": ("a legendary reptile that breathes fire",),
    "sauropod": ("a dinosaur with a long neck",), "T-Rex": ("a dinosaur with big teeth and tiny arms",),
    "unicorn": ("a horse with a horn",), "rhinoceros": ("a big gray animal with a horn on its nose",),
    "hippopotamus": ("a big round animal that lives in rivers",), "camel": ("a desert animal with a hump",),
    "two-hump camel": ("a desert animal with two humps",), "llama": ("a woolly animal with a long neck",),
    "kangaroo": ("a jumping animal with a pouch",), "koala": ("a gray animal that lives in eucalyptus trees",),
    "panda": ("a black and white bear", "a bear that eats bamboo"), "polar bear": ("a white bear", "a bear of the ice"),
    "bear": ("a big brown animal",), "lion": ("a big cat with a mane", "the king of animals"),
    "tiger": ("a big cat with stripes",), "leopard": ("a big cat with spots",), "fox": ("an orange wild dog",),
    "wolf": ("a gray wild dog",), "raccoon": ("an animal with a black mask",), "skunk": ("a black and white animal that stinks",),
    "hedgehog": ("a small animal with spines",), "porcupine": ("an animal with long spines",),
    "rabbit": ("an animal with long ears",), "mouse": ("a small gray animal with a thin tail",),
    "chipmunk": ("a small striped animal that eats nuts",), "squirrel": ("a small animal with a bushy tail",),
    "beaver": ("an animal with a flat tail that builds dams",), "sloth": ("a slow animal that hangs in trees",),
    "otter": ("a furry animal that swims",), "cow": ("a farm animal that gives milk",), "pig": ("a pink farm animal",),
    "ewe": ("a woolly farm animal", "a sheep"), "ram": ("a sheep with curled horns",), "goat": ("a farm animal with a beard",),
    "horse": ("an animal that people ride",), "deer": ("an animal with antlers",), "moose": ("a big animal with wide antlers",),
    "bison": ("a big hairy animal with horns",), "mammoth": ("a hairy elephant with long tusks",),
    "gorilla": ("a big black ape",), "monkey": ("a brown animal that climbs and has a long tail",),
    "orangutan": ("an orange ape",), "poodle": ("a dog with curly hair",), "alien": ("a being from space with big black eyes",),
    "alien monster": ("a pixel monster from space", "an alien animal like a box on legs", "a boxy creature with legs"),
    "robot": ("a machine with a face", "a metal head with round eyes"), "ghost": ("a white spirit",),
    "snowman": ("a man made of snow",), "jack-o-lantern": ("a pumpkin with a face",), "seal": ("a sea animal with flippers",),
    "blowfish": ("a round fish with spines",), "tropical fish": ("a colourful striped fish",), "coral": ("a sea plant like a tree",),
    "dodo": ("an extinct bird",), "phoenix": ("a bird of fire",), "goose": ("a big white water bird",),
    "automobile": ("a car",), "locomotive": ("a steam train",), "bicycle": ("a vehicle with two wheels and pedals",),
    "rocket": ("a vehicle that flies to space",), "helicopter": ("an aircraft with a rotor",),
    "banana": ("a long yellow fruit",), "strawberry": ("a red fruit with seeds on it",), "pineapple": ("a fruit with spiky leaves",),
    "cactus": ("a green plant with spines",), "palm tree": ("a tree of the beach",), "sunflower": ("a big yellow flower",),
}  # fmt: skip


class Names:
    """The nouns that a thing goes by."""

    def __init__(self, things: Sequence[Thing]) -> None:
        used = Counter(tag for thing in things for tag in set(thing.tags))
        labels = {thing.label.lower() for thing in things}
        self._synonyms = {
            thing.hexcode: [
                tag for tag in thing.tags
                if used[tag] <= 3 and len(tag) > 2 and tag.isascii() and tag not in labels and tag.lower() != thing.label.lower()
            ]
            for thing in things
        }  # fmt: skip

    def label(self, thing: Thing) -> str:
        """Return the plain name."""
        return clean(thing.label)

    def pick(self, thing: Thing, rng: random.Random) -> str:
        """Return a name: mostly the plain one, sometimes a synonym or a kind."""
        name = self.label(thing)
        roll = rng.random()
        if roll < 0.07 and self._synonyms[thing.hexcode]:
            return rng.choice(self._synonyms[thing.hexcode])
        if roll < 0.10 and thing.subgroup in SUBGROUP_WORDS:
            return rng.choice(SUBGROUP_WORDS[thing.subgroup])
        if roll < 0.30 and name.endswith(" face") and thing.group == 3:
            return name.removesuffix(" face")
        if roll < 0.20 and thing.group == 3 and thing.subgroup < 40 and not name.endswith("face"):
            return f"{name} animal" if rng.random() < 0.3 else name
        return name


def clean(label: str) -> str:
    """Lower-case a label and drop what nobody types."""
    return label.lower().replace("“", "").replace("”", "").replace(":", "").replace("’", "'")


def article(phrase: str) -> str:
    """Put `a` or `an` before a phrase."""
    return (
        "an "
        if phrase[:1] in "aeiou" and not phrase.startswith(("unicorn", "one", "uk", "ewe"))
        else "a "
    ) + phrase


def plural(noun: str) -> str:
    """Form an English plural, well enough."""
    irregular = {
        "mouse": "mice", "ox": "oxen", "goose": "geese", "fish": "fish", "sheep": "sheep", "deer": "deer",
        "man": "men", "woman": "women", "child": "children", "wolf": "wolves", "person": "people", "leaf": "leaves",
        "moose": "moose", "bison": "bison", "shrimp": "shrimp", "squid": "squid", "tooth": "teeth", "foot": "feet",
    }  # fmt: skip
    head, _, last = noun.rpartition(" ")
    if last in irregular:
        last = irregular[last]
    elif last.endswith(("eyes", "pants", "ss", "people")):
        last += "" if not last.endswith("ss") else "es"
    elif last.endswith(("s", "x", "ch", "sh", "z")):
        last += "es"
    elif last.endswith("y") and last[-2:-1] not in "aeiou":
        last = last[:-1] + "ies"
    else:
        last += "s"
    return f"{head} {last}".strip()
