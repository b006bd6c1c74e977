"""Guess the language of a text, by its script and its commonest words.

Made for a hint: when in doubt it returns None. Names, loan words and titles in English texts (Big
Sur, con artist, Vincent van Gogh) are no evidence. The word lists are needed: the script alone
recognises none of the languages in Latin letters, `scripts/language_hint.py` measures both.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from typing import NamedTuple

# First word of a letter's Unicode name -> the language written in it.
_SCRIPTS = {
    "CYRILLIC": "Russian or another language in Cyrillic letters",
    "GREEK": "Greek",
    "ARABIC": "Arabic, Persian or another language in Arabic letters",
    "HEBREW": "Hebrew",
    "CJK": "Chinese or Japanese",
    "HIRAGANA": "Japanese",
    "KATAKANA": "Japanese",
    "HANGUL": "Korean",
    "THAI": "Thai",
    "DEVANAGARI": "Hindi or another language in Devanagari letters",
    "BENGALI": "Bengali",
    "TAMIL": "Tamil",
    "TELUGU": "Telugu",
    "GEORGIAN": "Georgian",
    "ARMENIAN": "Armenian",
    "ETHIOPIC": "Amharic",
    "KHMER": "Khmer",
    "MYANMAR": "Burmese",
}
_WORD_SCRIPTS = frozenset({"CJK", "HIRAGANA", "KATAKANA", "HANGUL"})
"""Of these one letter may be a word; it counts as three letters of an alphabet."""
_LEAST_LETTERS = 3  # fewer are symbols: β, π, Я
_LEAST_SHARE = 0.25  # of all letters; below, English speaks of something foreign


class _Language(NamedTuple):
    """Words of a language: `sure` are no English and in no famous name, `likely` may be."""

    name: str
    sure: frozenset[str]
    likely: frozenset[str]


def _word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _language(name: str, sure: str, likely: str) -> _Language:
    return _Language(name, _word_set(sure), _word_set(likely))


# The commonest function words, then some of the commonest things in images.
_LANGUAGES = (
    _language(
        "German",
        "und ein eine einen einem einer ist sind nicht auf für vor neben hinter zwischen wird "
        "sich beim vom zum zur zwei drei ohne hund katze pferd frau junge mädchen blume "
        "blumen schnee wald himmel",
        "der die das den dem des im am an in mit von zu aus unter über nach bei mann kind "
        "haus strand baum",
    ),
    _language(
        "French",
        "une dans avec entre devant derrière qui sont deux trois être très chien chiens "
        "cheval plage arbre voiture oiseau montagne neige garçon fille",
        "le la les un des du de et en au sur pour sans par il elle chat femme homme enfant "
        "maison rouge bleu noir blanc mer est sous aux",
    ),
    _language(
        "Spanish",
        "una unos unas está están junto sobre muy perro perros gato gatos caballo mujer árbol "
        "coche pájaro montaña nieve niña",
        "el la los las un de del y en con por para al que es su se niño hombre casa mar rojo "
        "azul blanco negro dos tres playa",
    ),
    _language(
        "Italian",
        "una gli della dello delle degli nella nello sulla sullo sono gatto cavallo spiaggia "
        "albero uomo ragazzo ragazza bambina uccello",
        "il lo la le un di del dei e è in su sul nel al per che con due tre da cane donna "
        "casa mare rosso blu uno tra neve",
    ),
    _language(
        "Portuguese",
        "umas uns está estão não dois duas três pela pelo cachorro cão gato cavalo praia "
        "mulher homem menino menina árvore pássaro",
        "o a os as um de do da dos das e em no na nos nas com por para ao que casa mar azul "
        "uma num numa neve",
    ),
    _language(
        "Dutch",
        "een het zijn naast achter tussen onder twee drie niet voor bij wordt aan naar hond "
        "paard vrouw fiets jongen meisje sneeuw bloem",
        "de en op met van in te ter zee rode kat kind boom man huis",
    ),
    _language(
        "Polish",
        "się jest są nad przed obok przy dwa dwie trzy oraz który która między "
        "kot koń kobieta mężczyzna dziecko drzewo plaża plaży samochód śnieg śniegu morze",
        "i w z na do pod za po pies dom las",
    ),
    _language(
        "Turkish",
        "bir ve için üzerinde altında yanında içinde olan iki üç köpek kedi kadın çocuk ağaç "
        "ağacı araba kuş sahilde plajda",
        "bu da de en çok adam at ev ile deniz",
    ),
    _language(
        "Swedish",
        "och på ett är vid två bredvid mellan katt häst flicka pojke kvinna hus snö stranden",
        "en den det i av med tre under som hund man",
    ),
    _language(
        "Danish or Norwegian",
        "og på ved ikke mellem mellom bak "
        "hund katt hest pige jente dreng gutt kvinde kvinne sne snø stranden",
        "en et den det i to tre af av med er kat mand mann",
    ),
)
_ENGLISH = _word_set(
    "the of and with are from his her their this that which who while there two three four next "
    "top left right behind between under near wearing standing sitting holding looking photo "
    "picture image drawing painting dog cat horse boy girl man woman people"
)
_SURE, _LIKELY = 2, 1
_LEAST_EVIDENCE = 2  # one word that is sure, in a text so short that it weighs
_LEAST_WEIGHT = 0.3  # evidence per different word


def language_of(text: str) -> str | None:
    """Guess the language of a text.

    Parameters
    ----------
    text
        A query, label or caption.

    Returns
    -------
    The language in words; None for English, and where it cannot be told.

    Examples
    --------
    >>> language_of("ein Hund am Strand"), language_of("die hard"), language_of("собака на пляже")
    ('German', None, 'Russian or another language in Cyrillic letters')
    """
    return language_by_script(text) or _by_words(text)


def language_by_script(text: str) -> str | None:
    """Return the language that the letters of a text say, or None if they are Latin."""
    if text.isascii():
        return None
    scripts = Counter(unicodedata.name(c, "").partition(" ")[0] for c in text if c.isalpha())
    weights = {s: n * (3 if s in _WORD_SCRIPTS else 1) for s, n in scripts.items()}
    foreign = {s: n for s, n in weights.items() if s in _SCRIPTS}
    total = sum(foreign.values())
    if total < _LEAST_LETTERS or total < _LEAST_SHARE * sum(weights.values()):
        return None
    # Japanese is mostly Chinese letters, but Chinese has none of the Japanese ones.
    if foreign.keys() & {"HIRAGANA", "KATAKANA"}:
        return _SCRIPTS["HIRAGANA"]
    return _SCRIPTS[max(foreign, key=lambda script: foreign[script])]


def _by_words(text: str) -> str | None:
    words = set(re.findall(r"[^\W\d_]+", text.lower()))
    evidence = {
        language.name: _SURE * len(words & language.sure) + _LIKELY * len(words & language.likely)
        for language in _LANGUAGES
        if words & language.sure
    }
    best = max(evidence.values(), default=0)
    against = _SURE * len(words & _ENGLISH)
    if best < _LEAST_EVIDENCE or best <= against or best < _LEAST_WEIGHT * len(words):
        return None
    return " or ".join(name for name, weight in evidence.items() if weight == best)
