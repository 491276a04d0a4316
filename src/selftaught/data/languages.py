"""A light guess at the language of a text, by script and by the commonest words of some twenty languages: enough to see a mixture, no more."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import cache

_WORDS = {
    "English": "the of and to in is that it was for on are with as his they at be this have from or had by not but what were we when your can said there which she her",
    "German": "der die das und ist nicht ein eine zu den mit sich des auf für dem auch es an als aus er hat dass sie nach wird bei noch wie einen einer über war ich wir",
    "French": "le la les de des et est un une du que qui dans pour pas sur au avec il elle ce sont plus par mais ou nous vous cette aux ses leur était fait je",
    "Spanish": "el la los las de y en que un una es por con para del se no lo su al como más pero sus le ya este entre cuando muy sin sobre también era yo",
    "Italian": "il la di che e un una è per in non con del della sono si da al le i lo come più anche ma gli nel alla dei questo ha era io ci",
    "Portuguese": "o a os as de e do da em que um uma para com não por mais dos das no na se é ao foi ele ela seu sua como mas tem à pelo muito também eu você",
    "Dutch": "de het een en van is dat op te in niet zijn voor met die er aan ook als maar om bij hij naar dan nog wel werd wordt door uit ze ik je",
    "Swedish": "och att det som en är på för av inte med den till har de ett om var men jag han hon från så kan vi när eller sig sin hade också",
    "Danish or Norwegian": "og at det som en er på for af av ikke med den til har de et om var men jeg han hun fra så kan vi når eller sig sin havde hadde også",
    "Polish": "i w na z do się nie że to jest o jak za od po ale przez dla jego był co tak już tylko był być są czy oraz jej przy ich",
    "Czech": "a se v na je že s z do o ve k pro za jako byl jsou jeho nebo jsem ale by když také které který po od tak už byla",
    "Turkish": "ve bir bu da de için ile çok ne ama olarak daha gibi olan kadar var en o sonra ben mi değil her ya ki şey",
    "Finnish": "ja on ei se että oli hän mutta kun tai ovat joka myös kuin niin ole sen mitä jos tämä siitä nyt vain hänen minä",
    "Indonesian or Malay": "yang dan di itu dengan untuk tidak ini dari dalam akan pada juga ke karena saya ada oleh mereka bisa atau adalah sebagai",
    "Russian": "и в не на я что он с как это по но из у за то все так его о же от для был она бы мы они ты только",
    "Ukrainian": "і в не на що з як це до та у за але його від про для був він є вона ми ви або також які який так вже",
    "Bulgarian": "и на да в за се не от с е по са ще като това но от си до при той или беше които който има ги го",
}  # fmt: skip
"""{language: its commonest words}."""
_SCRIPTS = {
    "GREEK": "Greek", "ARABIC": "Arabic script", "HEBREW": "Hebrew", "DEVANAGARI": "Hindi or another in Devanagari", "BENGALI": "Bengali", "TAMIL": "Tamil", "TELUGU": "Telugu",
    "THAI": "Thai", "HANGUL": "Korean", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "GEORGIAN": "Georgian", "ARMENIAN": "Armenian",
}  # fmt: skip
_LEAST, _SHARE = 5, 0.08
"""Words that a text must have, and the share of them that must be a language's commonest, to be called it."""
HEAD = 2000
"""Characters of a text that are looked at."""
UNKNOWN = "not told"


@cache
def _languages_of() -> dict[str, list[str]]:
    """{word: the languages that it is common in}."""
    held: dict[str, list[str]] = {}
    for language, words in _WORDS.items():
        for word in set(words.split()):
            held.setdefault(word, []).append(language)
    return held


@cache
def _script(character: str) -> str:
    return unicodedata.name(character, "?").partition(" ")[0]


def language_of(text: str) -> str:
    """The language that most of the text's beginning seems to be in; UNKNOWN for a few words, for names, for languages that are not known here."""
    letters = [c for c in text[:HEAD] if c.isalpha()]
    if not letters:
        return UNKNOWN
    scripts = Counter(map(_script, letters))
    if scripts["HIRAGANA"] + scripts["KATAKANA"] > 0.1 * len(letters):
        return "Japanese"
    script = scripts.most_common(1)[0][0]
    if script == "CJK":
        return "Chinese"
    if script in _SCRIPTS:
        return _SCRIPTS[script]
    words = re.findall(r"[^\W\d_]+", text[:HEAD].lower())
    known, hits = _languages_of(), Counter[str]()
    for word in words:
        hits.update(known.get(word, ()))
    if len(words) < _LEAST or not hits:
        return UNKNOWN
    (best, count), *rest = hits.most_common(2)
    sure = count >= _SHARE * len(words) and (not rest or count > rest[0][1])
    return best if sure else UNKNOWN
