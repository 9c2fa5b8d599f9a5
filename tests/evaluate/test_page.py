"""The page: one file that loads nothing, says what it is, and survives hostile names."""

import re
from html import unescape
from html.parser import HTMLParser

import pytest

from worker.evaluate.metrics import evaluate
from worker.evaluate.page import WrongFilm, evaluation_page, headlines, most_wrong, percent
from worker.report.wording import CAVEAT

HOSTILE = "<script>alert(1)</script>\u202e\udcff\n&\"'.jpeg"


def page(films, wrong=(), **options):
    result = evaluate(films, resamples=20)
    return evaluation_page(
        result,
        films,
        wrong,
        **({"source": "test set", "band": (0.35, 0.65), "chosen_on": "-"} | options),
    )


class Links(HTMLParser):
    """Every address that a page names."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        names = ("src", "href", "srcset", "action", "data", "poster", "xlink:href")
        self.found += [value for name, value in attrs if name in names]


def test_the_page_loads_nothing_from_anywhere(many):
    film = most_wrong(many, 1)[0]
    html = page(many, [WrongFilm(film.record, film.label, b"jpeg", b"jpeg")])
    links = Links()
    links.feed(html)
    assert all(link.startswith(("data:", "#")) for link in links.found), links.found
    assert not re.search(r"https?://|@import|url\((?!#)", html)
    assert "default-src 'none'" in unescape(html)


def test_no_inline_style_that_the_policy_would_drop(many):
    assert not re.search(r"<[^>]+\sstyle=", page(many))


def test_it_says_what_it_is_and_which_model_it_measured(many):
    html = page(many)
    assert CAVEAT in html
    assert "mobilenetv2" in html
    assert "cd" * 32 in html
    assert "Forced choice" in html
    assert "Answered" in html
    assert "test set" in html


def test_every_figure_stands_on_the_page(many):
    assert page(many).count('role="img"') == 6


def test_hostile_file_names_are_shown_not_obeyed(many, scored):
    film = scored("NORMAL", 0.99, file=HOSTILE)
    html = page([*many, film], [WrongFilm(film.record, film.label, None, None)], source=HOSTILE)
    assert "<script>alert" not in html
    assert "\u202e" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    html.encode("utf-8")


def test_pictures_stand_inside_the_page(many):
    film = most_wrong(many, 1)[0]
    html = page(many, [WrongFilm(film.record, film.label, b"film", b"heat")])
    assert html.count("data:image/jpeg;base64,") == 2
    assert 'alt="heat map"' in html


def test_no_undefined_value_reaches_the_reader_as_none_or_nan(scored):
    html = page([scored("NORMAL", 0.5), scored("NORMAL", None)], band=None)
    text = re.sub(r"<(script|style)>.*?</\1>|<[^>]+>", " ", html, flags=re.DOTALL)
    assert "not defined" in text
    assert not re.search(r"\b(None|nan)\b", text)


def test_the_most_wrong_films_come_farthest_first(scored):
    films = [
        scored("NORMAL", 0.6, file="near"),
        scored("PNEUMONIA", 0.01, file="far"),
        scored("NORMAL", 0.2, file="right"),
        scored("NORMAL", 0.9, file="b"),
        scored("NORMAL", 0.9, file="a"),
        scored("NORMAL", None, file="unreadable"),
    ]
    assert [film.record.file for film in most_wrong(films, 9)] == ["far", "a", "b", "near"]
    assert len(most_wrong(films, 2)) == 2


@pytest.mark.parametrize(
    ("share", "words"),
    [(0, "0.0%"), (1, "100.0%"), (0.9997, ">99.9%"), (0.0001, "<0.1%"), (None, "not defined")],
)
def test_percent_never_rounds_to_a_false_certainty(share, words):
    assert percent(share) == words


def test_a_perfect_result_warns_that_its_interval_is_too_certain(scored):
    films = [scored("NORMAL", 0.1, f"n{i}") for i in range(9)]
    films += [scored("PNEUMONIA", 0.9, f"p{i}") for i in range(9)]
    assert "3/n" in page(films)


def test_headlines_count_films_in_words(many):
    cells = evaluate(many, resamples=20).forced.confusion
    words = {headline.name: headline.meaning for headline in headlines(evaluate(many).forced)}
    assert words["Sensitivity"].startswith(f"{cells.tp} of {cells.fn + cells.tp} films")


def test_the_words_fit_the_number_of_films_that_are_wrong(scored):
    """It once said: 1 of the 1 films."""
    films = [scored("NORMAL", 0.9, file="a"), scored("NORMAL", 0.8, file="b")]
    shown = [WrongFilm(film.record, film.label, None, None) for film in films]
    right = scored("PNEUMONIA", 0.9, file="c")
    assert "One film lies on the wrong side" in page([films[0], right], shown[:1])
    assert "These 2 films lie on the wrong side" in page([*films, right], shown)
    assert "The pictures show 1 of the 2 films" in page([*films, right], shown[:1])


def test_the_abstention_band_reads_the_same_wherever_it_stands(many):
    """0.705 once stood as 0.70 above and as 0.705 below."""
    assert page(many, band=(0.133, 0.705)).count("0.133 to 0.705") == 2


def test_it_says_where_the_threshold_comes_from(many):
    assert "chosen on films of this site" in page(many, chosen_on="films of this site")
