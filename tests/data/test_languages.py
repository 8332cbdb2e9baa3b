"""Languages: article 1 of the Universal Declaration of Human Rights; short English"""

import json
import os
from pathlib import Path

import pytest

from fine_tune_llm.data.languages import find_language

ARTICLE_1 = {
    "en": "All human beings are born free and equal in dignity and rights. They are "
    "endowed with reason and conscience and should act towards one another in a spirit "
    "of brotherhood.",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind "
    "mit Vernunft und Gewissen begabt und sollen einander im Geist der Brüderlichkeit "
    "begegnen.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. "
    "Ils sont doués de raison et de conscience et doivent agir les uns envers les "
    "autres dans un esprit de fraternité.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, "
    "dotados como están de razón y conciencia, deben comportarse fraternalmente los "
    "unos con los otros.",
    "it": "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Essi "
    "sono dotati di ragione e di coscienza e devono agire gli uni verso gli altri in "
    "spirito di fratellanza.",
    "pt": "Todos os seres humanos nascem livres e iguais em dignidade e em direitos. "
    "Dotados de razão e de consciência, devem agir uns para com os outros em espírito "
    "de fraternidade.",
    "nl": "Alle mensen worden vrij en gelijk in waardigheid en rechten geboren. Zij "
    "zijn begiftigd met verstand en geweten, en behoren zich jegens elkander in een "
    "geest van broederschap te gedragen.",
    "sv": "Alla människor är födda fria och lika i värde och rättigheter. De är "
    "utrustade med förnuft och samvete och bör handla gentemot varandra i en anda av "
    "broderskap.",
    "da": "Alle mennesker er født frie og lige i værdighed og rettigheder. De er "
    "udstyret med fornuft og samvittighed, og de bør handle mod hverandre i en "
    "broderskabets ånd.",
    "no": "Alle mennesker er født frie og med samme menneskeverd og "
    "menneskerettigheter. De er utstyrt med fornuft og samvittighet og bør handle mot "
    "hverandre i brorskapets ånd.",
    "fi": "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja "
    "oikeuksiltaan. Heille on annettu järki ja omatunto, ja heidän on toimittava "
    "toisiaan kohtaan veljeyden hengessä.",
    "pl": "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych "
    "praw. Są oni obdarzeni rozumem i sumieniem i powinni postępować wobec innych w "
    "duchu braterstwa.",
    "cs": "Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv. Jsou "
    "nadáni rozumem a svědomím a mají spolu jednat v duchu bratrství.",
    "hu": "Minden emberi lény szabadon születik és egyenlő méltósága és joga van. Az "
    "emberek, ésszel és lelkiismerettel bírván, egymással szemben testvéri szellemben "
    "kell hogy viseltessenek.",
    "ro": "Toate ființele umane se nasc libere și egale în demnitate și în drepturi. "
    "Ele sunt înzestrate cu rațiune și conștiință și trebuie să se comporte unele față "
    "de altele în spiritul fraternității.",
    "tr": "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve "
    "vicdana sahiptirler ve birbirlerine karşı kardeşlik zihniyeti ile hareket "
    "etmelidirler.",
    "id": "Semua orang dilahirkan merdeka dan mempunyai martabat dan hak-hak yang "
    "sama. Mereka dikaruniai akal dan hati nurani dan hendaknya bergaul satu sama lain "
    "dalam semangat persaudaraan.",
    "vi": "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền. "
    "Mọi con người đều được tạo hoá ban cho lý trí và lương tâm và cần phải đối xử với "
    "nhau trong tình anh em.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они "
    "наделены разумом и совестью и должны поступать в отношении друг друга в духе "
    "братства.",
    "uk": "Всі люди народжуються вільними і рівними у своїй гідності та правах. Вони "
    "наділені розумом і совістю і повинні діяти у відношенні один до одного в дусі "
    "братерства.",
    "bg": "Всички хора се раждат свободни и равни по достойнство и права. Те са "
    "надарени с разум и съвест и следва да се отнасят помежду си в дух на братство.",
    "el": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα "
    "δικαιώματα.",
    "ar": "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق. وقد وهبوا عقلا وضميرا "
    "وعليهم أن يعامل بعضهم بعضا بروح الإخاء.",
    "he": "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.",
    "zh": "人人生而自由,在尊严和权利上一律平等。",
    "ja": "すべての人間は、生まれながらにして自由であり、平等である。",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
}


@pytest.mark.parametrize("language", ARTICLE_1)
def test_no_article_is_taken_for_another_language(language):
    assert find_language(ARTICLE_1[language]) in (language, "und")


def test_most_articles_are_recognised():
    found = [find_language(text) == language for language, text in ARTICLE_1.items()]
    assert sum(found) >= 25, found


def test_of_two_halves_the_larger_wins_or_nobody():
    german, english = ARTICLE_1["de"], ARTICLE_1["en"]
    assert find_language(german * 3 + english) == "de"
    assert find_language(german + english) in ("de", "en", "und")


def test_words_without_a_language_say_nothing():
    unknown = ["", "  ", "12 345,67", "lorem ipsum dolor", "Zürich HB", "👍👍👍", "π r"]
    assert {find_language(text) for text in unknown} == {"und"}


def test_a_language_that_is_not_listed_is_not_guessed_from_one_word():
    swahili = "Watu wote wamezaliwa huru, hadhi na haki zao ni sawa."
    basque = "Gizon-emakume guztiak aske jaiotzen dira, duintasun eta eskubide berak."
    assert {find_language(text) for text in (swahili, basque)} == {"und"}


def test_short_english_is_english_or_not_told():
    file = Path(os.environ.get("FTLLM_DATA", ""), "banking77", "test.jsonl")
    if not file.is_file():
        pytest.skip("FTLLM_DATA has no banking77/test.jsonl")
    lines = file.read_text(encoding="utf-8").splitlines()
    found = [find_language(json.loads(line)["text"]) for line in lines]
    n = {name: found.count(name) for name in set(found)}
    assert n["en"] > 0.9 * len(found), n
    assert n["en"] + n["und"] > 0.998 * len(found), n
