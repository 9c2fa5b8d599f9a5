"""The worklist: what needs eyes first stands first, and nothing drops out of sight."""

import re
from dataclasses import replace
from datetime import timedelta

from worker.records import Decision
from worker.report.pages import worklist_pages
from worker.report.wording import groups, sorting
from worker.report.worklist import by_suspicion, pages, tiles

D = Decision


def files(rows):
    return [row.record.file for row in rows]


def test_rows_are_sorted_by_suspicion(row, failure):
    rows = [
        row("n-low", D.NORMAL, 0.1),
        failure("unreadable"),
        row("refused", D.REFUSED, 0.99),
        row("p-low", D.PNEUMONIA, 0.8),
        row("n-high", D.NORMAL, 0.4),
        row("unsure", D.INDETERMINATE, 0.6),
        row("p-high", D.PNEUMONIA, 0.9),
    ]
    wanted = ["p-high", "p-low", "unsure", "refused", "unreadable", "n-high", "n-low"]
    assert files(by_suspicion(rows)) == wanted


TB = {"labels": ("CLEAR", "TUBERCULOSIS")}


def test_what_a_model_looks_for_stands_first_whatever_its_name(row):
    turned = {"labels": ("PNEUMONIA", "NORMAL")}
    rows = [
        row("clear", "CLEAR", 0.05, **TB),
        row("n", D.NORMAL, 0.1),
        row("unsure", D.INDETERMINATE, 0.6, **TB),
        row("not normal", "PNEUMONIA", 0.2, **turned),
        row("p", D.PNEUMONIA, 0.8),
        row("normal", "NORMAL", 0.85, **turned),
        row("tb", "TUBERCULOSIS", 0.9, **TB),
    ]
    wanted = ["tb", "normal", "p", "unsure", "not normal", "n", "clear"]
    assert files(by_suspicion(rows)) == wanted


def test_a_worklist_of_several_models_says_the_words_of_each(row, noon):
    rows = [row("p", D.PNEUMONIA, 0.8), row("c", "CLEAR", 0.05, **TB), row("n", D.NORMAL, 0.1)]
    [html] = worklist_pages(rows, [], None, noon).values()
    assert "PNEUMONIA or TUBERCULOSIS" in html
    assert "NORMAL or CLEAR" in html
    decisions = re.findall(r'<td class="what">.*?<span>(\w+)</span>', html, re.DOTALL)
    assert decisions == ["PNEUMONIA", "NORMAL", "CLEAR"]


def test_a_worklist_of_another_finding_does_not_speak_of_pneumonia(row, failure, noon):
    rows = [row("t", "TUBERCULOSIS", 0.8, **TB), row("c", "CLEAR", 0.05, **TB)]
    rows.append(replace(failure("x"), **TB))
    [html] = worklist_pages(rows, [], None, noon).values()
    assert "Score on the TUBERCULOSIS side of the threshold" in html
    assert "Only TUBERCULOSIS was looked for" in html
    assert not re.search("(?i:pneumonia)|NORMAL", html)


def test_without_an_answer_the_newest_stands_first(row, noon):
    old = row("old", D.REFUSED, 0.9, at=noon - timedelta(days=1))
    assert files(by_suspicion([old, row("new", D.REFUSED, 0.1)])) == ["new", "old"]


def test_a_duplicate_follows_its_film_and_is_not_counted(row):
    first = row("first", D.PNEUMONIA, 0.9)
    copy = row("copy", D.PNEUMONIA, 0.9, status="duplicate", page=first.page)
    [page] = pages([copy, row("other", D.PNEUMONIA, 0.95), first])
    [section] = page.sections
    assert files(entry.row for entry in section.entries) == ["other", "first", "copy"]
    assert [entry.first_file for entry in section.entries] == [None, None, "first"]
    assert tiles([page])[0].count == 2


def test_a_duplicate_whose_film_is_not_listed_stays(row, noon):
    orphan = row("copy", D.PNEUMONIA, 0.9, status="duplicate", page="films/gone.html")
    [html] = worklist_pages([orphan], [], None, noon).values()
    assert 'href="films/gone.html"' in html


def test_long_worklists_are_cut_into_pages_and_every_row_stands_on_one(row, noon, model):
    rows = [row(f"film-{number:04}.png", D.NORMAL, 0.1) for number in range(1200)]
    made = worklist_pages(rows, [], model, noon)
    assert list(made) == ["index.html", "worklist-2.html", "worklist-3.html"]
    shown = [re.findall(r"<bdi>(film-\d+\.png)</bdi></a>", html) for html in made.values()]
    assert [len(names) for names in shown] == [500, 500, 200]
    assert len({name for names in shown for name in names}) == 1200
    assert 'href="worklist-3.html"' in made["index.html"]


def test_exactly_one_page_of_rows_makes_one_page(row, noon):
    rows = [row(f"{number}", D.NORMAL, 0.1) for number in range(500)]
    assert list(worklist_pages(rows, [], None, noon)) == ["index.html"]


def test_failures_are_announced_on_every_page_and_lead_to_their_list(row, failure, noon):
    rows = [row(f"{number}", D.PNEUMONIA, 0.9) for number in range(600)]
    made = worklist_pages([*rows, failure("lost.dcm")], [], None, noon)
    for html in made.values():
        assert "1 file could not be read" in html
        assert 'href="worklist-2.html#failed"' in html
    assert '<tbody id="failed"' in made["worklist-2.html"]
    assert "lost.dcm" in made["worklist-2.html"]


def test_failures_have_no_filter_button(row, failure, noon):
    [html] = worklist_pages([row("a", D.NORMAL, 0.1), failure("b")], [], None, noon).values()
    assert re.findall(r'class="chip"[^>]*data-group="(\w+)"', html) == ["negative"]


def test_the_page_states_its_order(row, noon):
    [html] = worklist_pages([row("a", D.NORMAL, 0.1)], [], None, noon).values()
    assert sorting(groups([("NORMAL", "PNEUMONIA")])) in html


def test_a_refused_films_score_is_not_in_the_list(row, noon):
    [html] = worklist_pages([row("a", D.REFUSED, 0.987)], [], None, noon).values()
    assert "0.987" not in html
    assert "no answer" in html


def test_rows_of_other_weights_say_so(row, record, noon, model):
    other = row("a", D.NORMAL, 0.1, record=record(weights_sha256="cd" * 32))
    [html] = worklist_pages([other, row("b", D.NORMAL, 0.1)], [], model, noon).values()
    assert html.count("Answered by other weights") == 1


def test_an_empty_site_is_greeted(noon):
    made = worklist_pages([], [], None, noon)
    assert list(made) == ["index.html"]
    assert "No films yet" in made["index.html"]


def test_runs_are_listed_newest_first(row, run, noon):
    rows = [row("a", D.NORMAL, 0.1)]
    [html] = worklist_pages(rows, [run], None, noon).values()
    assert "still running" in html
