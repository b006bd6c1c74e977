"""Measure the language hint: how many captions of ten languages it recognises, and false alarms.

    python scripts/language_hint.py [--lines FILE]

Each line of FILE (or of stdin with -) is a text of one language, a caption or a query: the share
that is recognised is printed, and what the others are. Without it the captions below are read:
short ones as users type them, and sentences, none of which the word lists were made from.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from clipsearch.text.language import language_by_script, language_of

CAPTIONS = {
    "German": "ein rotes Auto in der Stadt|zwei Kinder spielen im Garten|eine alte Brücke über den "
    "Fluss|der Bus hält vor der Schule|Frau mit Regenschirm|ein Boot auf dem See|schlafende Katze auf "
    "dem Sofa|Kuchen mit Kerzen|ein Mann liest eine Zeitung|Schafe auf einer Wiese|blaues Fahrrad|"
    "Sonnenuntergang am Meer",
    "French": "une voiture rouge dans la ville|deux enfants jouent dans le jardin|un vieux pont sur "
    "la rivière|le bus s'arrête devant l'école|femme avec un parapluie|un bateau sur le lac|un chat "
    "qui dort sur le canapé|gâteau avec des bougies|un homme lit un journal|des moutons dans un pré|"
    "vélo bleu|coucher de soleil sur la mer",
    "Spanish": "un coche rojo en la ciudad|dos niños juegan en el jardín|un puente viejo sobre el río|"
    "el autobús para delante de la escuela|mujer con paraguas|un barco en el lago|un gato durmiendo en "
    "el sofá|pastel con velas|un hombre lee un periódico|ovejas en un prado|bicicleta azul|puesta de "
    "sol en el mar",
    "Italian": "una macchina rossa in città|due bambini giocano nel giardino|un vecchio ponte sul "
    "fiume|l'autobus si ferma davanti alla scuola|donna con ombrello|una barca sul lago|un gatto che "
    "dorme sul divano|torta con le candele|un uomo legge il giornale|pecore in un prato|bicicletta blu|"
    "tramonto sul mare",
    "Portuguese": "um carro vermelho na cidade|duas crianças brincam no jardim|uma ponte velha sobre o "
    "rio|o ônibus para em frente à escola|mulher com guarda-chuva|um barco no lago|um gato dormindo no "
    "sofá|bolo com velas|um homem lê um jornal|ovelhas em um prado|bicicleta azul|pôr do sol no mar",
    "Dutch": "een rode auto in de stad|twee kinderen spelen in de tuin|een oude brug over de rivier|de "
    "bus stopt voor de school|vrouw met een paraplu|een boot op het meer|slapende kat op de bank|taart "
    "met kaarsen|een man leest een krant|schapen in een weide|blauwe fiets|zonsondergang aan zee",
    "Polish": "czerwony samochód w mieście|dwoje dzieci bawi się w ogrodzie|stary most nad rzeką|"
    "autobus zatrzymuje się przed szkołą|kobieta z parasolem|łódka na jeziorze|kot śpi na kanapie|tort "
    "ze świeczkami|mężczyzna czyta gazetę|owce na łące|niebieski rower|zachód słońca nad morzem",
    "Turkish": "şehirde kırmızı bir araba|bahçede oynayan iki çocuk|nehrin üzerinde eski bir köprü|"
    "otobüs okulun önünde duruyor|şemsiyeli kadın|gölde bir tekne|kanepede uyuyan kedi|mumlu pasta|bir "
    "adam gazete okuyor|çayırda koyunlar|mavi bisiklet|denizde gün batımı",
    "Swedish": "en röd bil i staden|två barn leker i trädgården|en gammal bro över floden|bussen stannar "
    "framför skolan|kvinna med paraply|en båt på sjön|katt som sover i soffan|tårta med ljus|en man "
    "läser en tidning|får på en äng|blå cykel|solnedgång över havet",
    "Danish": "en rød bil i byen|to børn leger i haven|en gammel bro over floden|bussen holder foran "
    "skolen|kvinde med paraply|en båd på søen|kat der sover i sofaen|kage med lys|en mand læser en avis|"
    "får på en eng|blå cykel|solnedgang over havet",
}
ENGLISH = (
    "a red car in the city|two children playing in the garden|café in Paris|Vincent van Gogh painting|"
    "crème brûlée|die hard poster|piñata party|Big Sur at sunset|El Niño storm|São Paulo skyline|Gouda "
    "cheese on a board|Mercedes-Benz S-Klasse|Las Vegas at night|La La Land|a man in a beret|le mans race "
    "car|con artist|Notre Dame de Paris|jalapeño peppers|Rio de Janeiro|smörgåsbord|Ikea Billy shelf|a "
    "Škoda on the road|Königssee|naïve art|Beyoncé on stage|doppelgänger|Der Spiegel cover|Museo del "
    "Prado|Santa Claus|pho and bánh mì|Zürich Hauptbahnhof|a glass of rosé|tapas in Madrid"
)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", metavar="FILE")
    given = parser.parse_args(argv).lines
    if given:
        text = sys.stdin.read() if given == "-" else Path(given).read_text("utf-8")
        lines = [line for line in text.splitlines() if line.strip()]
        counts = Counter(language_of(line) or "nothing" for line in lines)
        for name, count in counts.most_common():
            print(f"{count / len(lines):6.1%}  {name}")
        return 0
    print(
        "| captions | recognised | as another language | by script only |\n| --- | ---: | ---: | ---: |"
    )
    total = Counter[str]()
    for name, joined in CAPTIONS.items():
        texts = joined.split("|")
        said = [language_of(text) or "" for text in texts]
        right = sum(name in answer for answer in said)
        wrong = sum(bool(answer) for answer in said) - right
        script = sum(language_by_script(text) is not None for text in texts)
        total += Counter(right=right, wrong=wrong, script=script, of=len(texts))
        print(f"| {name} | {right} of {len(texts)} | {wrong} | {script} |")
    right, wrong, script, count = (total[key] for key in ("right", "wrong", "script", "of"))
    print(f"| all | {right} of {count} | {wrong} | {script} |")
    alarms = [text for text in ENGLISH.split("|") if language_of(text)]
    print(
        f"\nEnglish with foreign names and words: {len(alarms)} of {len(ENGLISH.split('|'))} {alarms}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
