"""Which language a text is written in, by script and by its commonest words. Deterministic, no model, no dependency.

Enough to tell whether a response keeps to the asked-for language; it is not a classifier of short or mixed texts. It says
nothing (None) rather than guess.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from factory.contracts import Sample, Status, Verdict
from factory.errors import ConfigError, near_miss
from factory.rewards.reader import AnswerReader, one_of, unparsable

_SCRIPTS: Mapping[str, str] = {
    "HIRAGANA": "ja", "KATAKANA": "ja", "HANGUL": "ko", "CJK": "zh", "CYRILLIC": "cyrillic", "ARABIC": "arabic",
    "DEVANAGARI": "devanagari", "HEBREW": "he", "GREEK": "el", "THAI": "th", "BENGALI": "bn", "TAMIL": "ta", "TELUGU": "te",
    "GUJARATI": "gu", "KANNADA": "kn", "MALAYALAM": "ml", "GURMUKHI": "pa", "ARMENIAN": "hy", "GEORGIAN": "ka", "LATIN": "latin",
}  # fmt: skip
"""First word of a character's Unicode name -> language, or a group told apart by words and letters."""

_WORDS: Mapping[str, Mapping[str, str]] = {
    "latin": {
        "en": "the of and to is in that it for are this with be as was on not by you have from at we can which so answer if",
        "de": "der die das und ist nicht ein eine zu mit den von auf für sich im dem es wir ich auch wird sind bei oder wenn",
        "fr": "le la les et est des un une que pour dans en du pas qui sur au nous il avec ce sont par plus donc ou cette",
        "es": "el la los las de y que es en un una por con para no del se como más su al lo hay son entonces esta",
        "it": "il lo la gli di e che è un una per non con in del della sono si come anche nel più questo quindi ma alla",
        "pt": "o a os as de e que é um uma para não com em do da no na por se mais como são ou então isso pelo",
        "nl": "de het een en van is niet dat in te met voor op zijn aan er ook wij als maar dus bij deze wordt",
        "sv": "och att det är en ett som på för inte med av vi den till har om men kan så eller från därför",
        "da": "og at det er en et som på for ikke med af vi den til har om men kan så eller fra derfor hvad",
        "pl": "i w na z nie jest to się że do co jak ale więc dla od po tak lub oraz przez tego są możemy",
        "cs": "a je v na se že to s z do jako pro ale tak by nebo jsou které podle tedy není má být když",
        "tr": "ve bir bu için ile da de ne olarak daha gibi çok ama olan değil her en ya şu kadar sonra ise",
        "vi": "là của và có không được một các cho trong với này để người những đã khi từ thì ta chúng số vậy",
        "id": "yang dan di ini itu dengan untuk tidak dari dalam adalah ke pada akan juga kita oleh atau jika karena",
        "fi": "ja on ei se että oli hän mutta niin kun myös tai ovat joka mitä tämä siis voi kuin sen",
        "ro": "și de la în este un o nu cu pentru pe că din sunt mai care ce sau fi dar acest deci",
        "sw": "na ya wa kwa ni katika za la hii kama hivyo au lakini kuwa cha hiyo sisi kila yake",
        "hu": "a az és hogy nem is egy van ez de meg volt mint csak vagy ha már el akkor lesz",
    },
    "cyrillic": {
        "ru": "и в не на что с по это как но мы из для от так же если или то является быть все они чтобы",
        "uk": "і в не на що з по це як але ми із для від так ж якщо або то є бути всі вони щоб та й",
        "bg": "и в не на че с по това как но ние от за така ако или е се да са беше които като ще",
    },
    "arabic": {
        "ar": "في من على إلى أن هذا التي هو لا ما مع كان هذه عن و أو إذا ثم الذي هي",
        "fa": "و در به از که این را با است برای آن یک می تا بر هم شود اگر یا ما",
        "ur": "کے میں کی ہے کا اور سے کو یہ ہیں نے پر بھی کہ تو اس ایک ہم نہیں",
    },
    "devanagari": {
        "hi": "है के में की और का को से यह हैं पर कि नहीं एक तो भी हम इस लिए या",
        "mr": "आहे आणि या मध्ये हे ते आहेत नाही एक तर पण की आपण हा ही साठी",
        "ne": "छ र को मा हो यो छन् हुन्छ पनि लागि एक गर्न भने हामी त्यो गरेको",
    },
}  # fmt: skip
_LETTERS: Mapping[str, str] = {"uk": "іїєґ", "ru": "ыэё", "fa": "پچژگ", "ur": "ٹڈڑےں", "ne": "", "mr": "ळ"}
"""Letters that only this language of its group uses."""
_KNOWN = {word: frozenset(text.split()) for group in _WORDS.values() for word, text in group.items()}
LANGUAGES = frozenset(_KNOWN) | {code for code in _SCRIPTS.values() if len(code) == 2}
"""ISO 639-1 codes that can be told."""
_FORMULA = re.compile(r"\$[^$]{0,2000}\$|\\[A-Za-z]+|https?://\S+|<[^<>]{1,40}>|`[^`]{0,2000}`")
_SAMPLE = 20_000
"""Characters that are looked at."""


def detect(text: str) -> str | None:
    """ISO 639-1 code of the text's main language; None when there is too little of any, or two are as likely."""
    text = _FORMULA.sub(" ", unicodedata.normalize("NFKC", text[:_SAMPLE]))
    counts: dict[str, int] = {}
    for char in text:
        if char.isalpha():
            group = _SCRIPTS.get(unicodedata.name(char, "?").partition(" ")[0], "")
            counts[group] = counts.get(group, 0) + 1
    total = sum(counts.values())
    if not total:
        return None
    # Japanese mixes kana with Chinese characters; some kana decide.
    if counts.get("ja", 0) >= 0.1 * (counts.get("ja", 0) + counts.get("zh", 0)) > 0:
        counts["ja"] = counts.get("ja", 0) + counts.pop("zh", 0)
    group = max(counts, key=lambda key: (counts[key], key))
    if counts[group] < 0.5 * total or not group:
        return None
    return group if group not in _WORDS else _by_words(text.casefold(), group)


def _by_words(text: str, group: str) -> str | None:
    found = re.findall(r"[^\W\d_]+(?:[\u0900-\u0dff]+[^\W\d_]*)*", text)
    if group == "devanagari":
        found = re.findall(r"[\u0900-\u097f]+", text)
    scores = {code: float(sum(word in _KNOWN[code] for word in found)) for code in _WORDS[group]}
    for code in scores:
        scores[code] += sum(text.count(letter) for letter in _LETTERS.get(code, ""))
    ranked = sorted(scores, key=lambda code: (-scores[code], code))
    best, second = ranked[0], ranked[1]
    if scores[best] < 2 or scores[best] < 0.04 * len(found) or scores[best] == scores[second]:
        return None
    return best


@dataclass(frozen=True)
class InLanguage(AnswerReader):
    """1 when the text is in the wanted language: `sample.meta[key]`, else `language`, else that of the prompt's last turn.

    `part`: `whole`, `answer`, `thinking`, or `all` (whole, thinking and answer agree: SafeWork's language consistency).
    A text whose language cannot be told is unparsable, never right.
    """

    name: str = "language"
    language: str = ""
    key: str = "language"
    part: str = "whole"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.name, "part", self.part, ("whole", "answer", "thinking", "all"))
        if self.language and self.language not in LANGUAGES:
            raise ConfigError(
                f"verifier '{self.name}': language is {self.language!r}.{near_miss(self.language, LANGUAGES)} "
                f"Want an ISO 639-1 code of {', '.join(sorted(LANGUAGES))}."
            )

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when no wanted language can be found for the sample."""
        want = sample.meta.get(self.key) or self.language or (detect(sample.messages[-1].content) if sample.messages else None)
        if want not in LANGUAGES:
            raise ValueError(f"sample {sample.id}: the wanted language is {want!r}; want one of {', '.join(sorted(LANGUAGES))}")
        parsed = self.read(completion)
        texts = {"whole": completion, "answer": parsed.answer, "thinking": parsed.thinking}
        named = ("whole", "thinking") if self.part == "all" else (self.part,)
        for part in named:
            got = detect(texts[part] or "")
            if got is None:
                return unparsable(f"the language of the {part} cannot be told", str(want))
            if got != want:
                return Verdict(0.0, Status.wrong, f"got {got!r} in the {part}, want {want!r}")
        return Verdict(1.0, Status.ok, f"got {want!r}, want {want!r}")
