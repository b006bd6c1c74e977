"""Texts in other languages are noticed; English ones with foreign names and loan words are not."""

from __future__ import annotations

import pytest

from clipsearch.text.language import language_of

FOREIGN = {
    "German": (
        "ein Hund am Strand",
        "der Hund am Strand",
        "eine Katze",
        "ein Mann mit Hut auf einem Pferd",
        "Frau und Kind im Wald",
        "Ein alter Baum steht am Rand des Waldes, und ein Mann sitzt in seinem Schatten.",
    ),
    "French": (
        "un chien sur la plage",
        "une femme avec un chapeau rouge",
        "deux enfants dans la neige",
    ),
    "Spanish": (
        "un perro en la playa",
        "el gato negro sobre la mesa",
        "un hombre con sombrero junto a un caballo",
    ),
    "Italian": ("un cane sulla spiaggia", "una ragazza con il gatto", "due gatti nella neve"),
    "Portuguese": ("um cachorro na praia", "uma mulher com um chapéu"),
    "Dutch": ("een hond op het strand", "een jongen met een fiets"),
    "Polish": ("pies na plaży", "kobieta z dzieckiem na śniegu", "kot i pies"),
    "Turkish": ("sahilde bir köpek", "ağacın altında oturan bir kadın ve çocuk"),
    "Swedish": ("två katter och en hund",),
    "Danish or Norwegian": ("en hund på stranden",),
    "Russian or another language in Cyrillic letters": (
        "собака на пляже",
        "кот",
        "a photo of a собака",
    ),
    "Japanese": ("海辺の犬", "イヌ"),
    "Chinese or Japanese": ("海滩上的狗", "犬", "a photo of a 犬."),
    "Korean": ("해변의 개",),
    "Arabic, Persian or another language in Arabic letters": ("كلب على الشاطئ",),
    "Hebrew": ("כלב על החוף",),
    "Greek": ("σκύλος στην παραλία",),
    "Thai": ("สุนัขบนชายหาด",),
    "Hindi or another language in Devanagari letters": ("समुद्र तट पर कुत्ता",),
}
ENGLISH = """
an orange boy riding a blue horse | cat | hot dog | a photo of a Hund. | red car, blue sky
die hard | con artist | et al | war and peace | to be or not to be | a kind boy with a cane
no man's land | so far so good | me and my dog | pies on a table | boy on a bed | hat on a mat
a mare and her foal | house under a tree | two to three people | dos and don'ts | to do list
an old man in a sauna | hay bales on a field | sous vide steak | aux cable | EST time zone
DOS prompt | num lock key | uno card game | tra la la | UN peacekeepers | MIT students in a lab
Big Sur coast | Los Angeles at night | Rio de Janeiro carnival | El Capitan in Yosemite
Playa del Carmen beach | San Juan de la Cruz | Casa Blanca | Ile de France | Costa del Sol hotel
Unter den Linden in Berlin | Tre Cime di Lavaredo | a dog in Kraków | Notre Dame de Paris
Vincent van Gogh self portrait | Vincent van der Berg | Leonardo da Vinci | Maria de la Cruz
Uma Thurman | L. Frank Baum | Neve Campbell | bust of Sulla | Louis de Funès | Beyoncé
Das Boot | Der Spiegel cover | La La Land poster | Les Misérables on stage | Moulin Rouge
Cirque du Soleil acrobats | Tour de France cyclists | Día de los Muertos altar | Die Antwoord
pain au chocolat | crème brûlée | a café in Paris | piñata | jalapeño poppers on a plate
über cool sunglasses | déjà vu | fleur de lis pattern | tres leches cake | smörgåsbord | zeitgeist
β-carotene molecule | π day pie | Toys Я us | a man holding a sign that says 'Привет' | 🐎 🐶
President of the Moon giving a speech | Seahorses don't like broccoli | 12:30 | |
"""
TEXTS = [text.strip() for text in ENGLISH.replace("\n", "|").split("|")]


@pytest.mark.parametrize(
    ("text", "language"), [(text, name) for name, texts in FOREIGN.items() for text in texts]
)
def test_other_languages_are_noticed(text: str, language: str) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize("text", TEXTS)
def test_english_with_foreign_words_raises_no_alarm(text: str) -> None:
    assert language_of(text) is None


def test_the_lists_are_long_enough_to_mean_something() -> None:
    assert sum(map(len, FOREIGN.values())) >= 40
    assert len(set(TEXTS)) >= 80


def test_of_two_languages_with_the_same_evidence_both_are_named() -> None:
    assert language_of("una casa roja") == "Spanish or Italian"


def test_long_english_stays_english() -> None:
    text = "An old man and his dog sit in the sun by the sea, and two cats look on. " * 20
    assert language_of(text) is None
    assert language_of(text + "Das Boot. Der Spiegel.") is None
