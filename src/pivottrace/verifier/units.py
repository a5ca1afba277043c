"""Units, currencies and words behind a number: marks of its value, factors, or remarks.

A mark distinguishes values: 5 km is not 5 m. A factor changes the value: 5 million. Any other word
is a remark that says what was counted: 12 apples is 12.
"""

import re

from pivottrace.verifier.splitting import words

# Mark → spellings, in lower case. "pounds" are money or weight, which no question mixes.
_SPELLINGS = {
    "mm": "mm millimeter millimeters millimetre millimetres",
    "cm": "cm cms centimeter centimeters centimetre centimetres",
    "dm": "dm decimeter decimeters decimetre decimetres",
    "m": "m meter meters metre metres",
    "km": "km kms kilometer kilometers kilometre kilometres",
    "in": "in inch inches",
    "ft": "ft foot feet",
    "yd": "yd yds yard yards",
    "mi": "mi mile miles",
    "mg": "mg milligram milligrams",
    "g": "g gram grams gm",
    "kg": "kg kgs kilogram kilograms kilo kilos",
    "pound": "lb lbs pound pounds £ gbp",
    "oz": "oz ounce ounces",
    "ton": "ton tons tonne tonnes",
    "ms": "ms millisecond milliseconds",
    "s": "s sec secs second seconds",
    "min": "min mins minute minutes",
    "h": "h hr hrs hour hours",
    "day": "day days",
    "week": "week weeks",
    "month": "month months",
    "year": "year years yr yrs",
    "mL": "ml milliliter milliliters millilitre millilitres",
    "L": "l liter liters litre litres",
    "gal": "gal gallon gallons",
    "quart": "quart quarts",
    "pint": "pint pints",
    "cup": "cup cups",
    "$": "$ dollar dollars usd buck bucks",
    "cent": "cent cents ¢",
    "€": "€ euro euros eur",
    "¥": "¥ yen yuan rmb",
    "₹": "₹ rupee rupees",
    "CHF": "chf sfr franken",
    **{"RUB": "₽", "KRW": "₩", "TRY": "₺", "ILS": "₪", "VND": "₫", "UAH": "₴", "NGN": "₦"},
    **{"THB": "฿", "PHP": "₱", "PLN": "zł"},
    "%": "% percent pct",
    "deg": "deg degree degrees",
    "rad": "rad radian radians",
    "Hz": "hz hertz",
    "kHz": "khz",
    "MHz": "mhz",
    "GHz": "ghz",
    "nm": "nm",
    "ppm": "ppm",
    "ppb": "ppb",
    "KB": "kb",
    "MB": "mb",
    "GB": "gb",
    "TB": "tb",
    "N": "newton newtons",
    "J": "joule joules",
    "kJ": "kj",
    "cal": "calorie calories",
    "W": "watt watts",
    "kW": "kw kilowatt kilowatts",
    "V": "volt volts",
    "A": "amp amps ampere amperes",
    "Pa": "pa pascal pascals",
    "K": "kelvin kelvins",
    "eV": "ev",
    "mol": "mol mole moles",
    "mph": "mph",
    "km/h": "kmh kph kmph",
}
_MARK_OF = {word: mark for mark, spellings in _SPELLINGS.items() for word in spellings.split()}
# These single letters are units only where a text command shows it: "5 \\text{ N}".
_CAPITALS = {letter: letter for letter in "NJWVAKCFMT"}
# ISO 4217 without ALL, CUP and TOP, which are English words too. They count in capitals only.
_CODES = (
    *words("AED AFN AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP"),
    *words("BYN BZD CAD CDF CHF CLP CNY COP CRC CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP"),
    *words("GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY"),
    *words("KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT"),
    *words("MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN"),
    *words("PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SYP SZL THB"),
    *words("TJS TMT TND TRY TTD TWD TZS UAH UGX USD UYU UZS VES VND VUV WST XAF XCD XOF XPF YER"),
    *words("ZAR ZMW"),
)
_OWN_SIGN = {"USD": "$", "EUR": "€", "GBP": "pound", "JPY": "¥", "CNY": "¥", "INR": "₹"}
CURRENCY_CODES = {code: _OWN_SIGN.get(code, code) for code in _CODES}
_SIGNS_OF_CODES = {
    **{"₽": "RUB", "₩": "KRW", "₺": "TRY", "₪": "ILS", "₫": "VND", "₴": "UAH", "₦": "NGN"},
    **{"฿": "THB", "₱": "PHP", "zł": "PLN", "Fr.": "CHF", "SFr.": "CHF"},
}
MONEY = frozenset({"cent", *CURRENCY_CODES.values()})
CURRENCY_SIGNS = {
    **{"$": "$", r"\$": "$", "£": "pound", "€": "€", "¥": "¥", "₹": "₹"},
    **_SIGNS_OF_CODES,
    **CURRENCY_CODES,
}
SIGNS = "$€£¥₹₽₩₺₪₫₴₦฿₱"
"""Currency signs of one character, for a class of a regular expression."""
MONEY_BEFORE = rf"(?:\\\$|[{SIGNS}]|zł|S?Fr\.|(?:{'|'.join(CURRENCY_CODES)})(?![A-Za-z]))"
"""A currency before a number, for a regular expression."""

FACTORS = {
    "dozen": 12,
    "hundred": 100,
    "thousand": 1_000,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "k": 1_000,
}
_SHORT_FACTORS = {"m": 10**6, "mn": 10**6, "mm": 10**6, "b": 10**9, "bn": 10**9, "t": 10**12}
"""After a currency only: "$5M" are five million, and "5 m" are metres."""


# With such a word behind it, a number has another value.

_VALUE_WORDS = frozenset(
    words("sin cos tan cot csc arcsin arccos arctan sinh cosh tanh log ln exp sqrt mod factorial")
    + words("half halves quarter am pm pi or to and over plus minus below squared cubed root")
    + words(
        "not no more less fewer than remainder negative minus off out divided multiplied choose"
    )
    + words("january february march april may june july august september october november december")
    + words("is are was if when where unless except")
)
# "10 sec" and "5 times" are 10 and 5, but "2 sec x" and "5 times x" are not.
_VARIABLES = frozenset(words("x y z n theta alpha beta phi"))
# These are a value right behind the number, but not before a noun: "4 third graders" are 4.
_ORDINALS = frozenset(
    words(
        "third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth fifteenth sixteenth "
        "twentieth hundredth thousandth"
    )
)
_POWER_WORDS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_POWERS_BEHIND = {"squared": 2, "cubed": 3}
_PER_CENT = re.compile(r"\bper\s+cent\b", re.IGNORECASE)
_POWER = re.compile(r"\^\s*\{?\s*-?\d+\s*\}?")
_SPELT_POWER = re.compile(r"(?<=[A-Za-z])([23])(?![\d.])")  # cm2
_TOKENS = re.compile(rf"\^\s*\{{?\s*(-?\d)\s*\}}?|([A-Za-zł{SIGNS}¢%]+)|(/)|(\S)")


Words = tuple[int, str]
"""(factor of the value, mark or "")."""


def read_words(text: str, *, after_money: bool = False, as_text: bool = False) -> Words | None:
    r"""Read what stands behind a number.

    Args:
        text: Such as "million dollars", "square feet", "km/h", "cm^{2}", "apples left".
        after_money: A currency sign stands before the number.
        as_text: The words stood in `\text{}` or brackets, so that "x" is no variable.

    Returns:
        The words' factor and mark; None if they change the value in a way that we do not read.
    """
    text = _SPELT_POWER.sub(r"^\1", text)
    if re.search(r"\d", _POWER.sub("", text)):
        return None  # 5 apples, 6 pears
    factor = 1
    behind: list[re.Match[str]] = []
    tokens = list(_TOKENS.finditer(_PER_CENT.sub("percent", text)))
    for index, token in enumerate(tokens):
        word = (token.group(2) or "").lower()
        times = FACTORS.get(word) or FACTORS.get(word.removesuffix("s") if word != "ks" else "")
        times = times or (_SHORT_FACTORS.get(word) if after_money else None)
        if times is None:
            behind = tokens[index:]
            break
        factor *= times
    mark = _mark_of(behind, as_text)
    if mark is None:
        if _changes_value(re.findall(r"[a-z]+", text.lower()) if behind else [], as_text):
            return None
        # In "5 km away" the unit counts; "in" begins a phrase.
        starts = () if behind[0].group(2) == "in" else range(min(len(behind) - 1, 3), 0, -1)
        mark = next((found for end in starts if (found := _mark_of(behind[:end], as_text))), "")
    return factor, mark


def _mark_of(tokens: list[re.Match[str]], as_text: bool) -> str | None:
    """The mark that the tokens spell; None if a word in them is no unit."""
    if not tokens:
        return ""
    parts: list[str] = []
    power, divided = 0, False
    for token in tokens:
        raised, spelled, slash, other = token.groups()
        if raised and parts:
            parts[-1] += raised
            continue
        if slash or (spelled and spelled.lower() in ("per", "an", "a") and parts):
            divided = True
            parts.append("/")
            continue
        if other in (".", "-", "{", "}", "(", ")"):
            continue
        if other or raised or spelled is None:
            return None
        word = spelled.lower()
        if word in _POWER_WORDS:
            power = _POWER_WORDS[word]
            continue
        if word in _POWERS_BEHIND and parts:
            parts[-1] += str(_POWERS_BEHIND[word])
            continue
        is_capital = len(spelled) == 1 and spelled.isupper() and word != "l"  # 5M: no metres
        unit = (
            (_CAPITALS.get(spelled) if as_text else None)
            or CURRENCY_CODES.get(spelled)
            or (None if is_capital else _MARK_OF.get(word))
        )
        if (
            unit is None
            and parts[-1:] == ["deg"]
            and spelled in ("F", "C", "Fahrenheit", "Celsius", "S", "E")
        ):
            parts[-1] = f"deg{spelled[0].upper()}"
            continue
        if unit is None:
            return None
        parts.append(unit + (str(power) if power else ""))
        power = 0
    mark = "".join(parts)
    if divided and parts[0] in MONEY:
        return parts[0]  # dollars, dollars an hour and dollars each are one mark
    return {"mi/h": "mph"}.get(mark, mark).strip("/") or None


def _changes_value(behind: list[str], as_text: bool) -> bool:
    """Whether words behind a number change it ("5 squared", "2 sec x", "3 sixteenths")."""
    if not behind:
        return False
    first, *rest = behind
    if first.removesuffix("s") in _ORDINALS and rest[:1] in ([], ["of"]):
        return True
    if len(max(behind, key=len)) < (2 if as_text else 3):
        return True  # "5 x" is a product
    valued = {word.removesuffix("s") for word in behind} | set(behind)
    return bool(valued & _VALUE_WORDS) or not (as_text or _VARIABLES.isdisjoint(rest))
