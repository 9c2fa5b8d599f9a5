"""A model with labels of its own, through the real program: its words everywhere, no others."""

import json
import re
import shutil
import subprocess
import sys

import pytest

TB = {"NORMAL": "CLEAR", "PNEUMONIA": "TUBERCULOSIS"}
USUAL = re.compile("(?i:pneumonia)|NORMAL")


def relabelled(tiny_model, folder, labels):
    """The tiny model with another name and other labels in its card."""
    shutil.copytree(tiny_model, folder)
    card = json.loads((folder / "card.json").read_text())
    card |= {"name": folder.name, "labels": labels}
    (folder / "card.json").write_text(json.dumps(card))
    return folder


def configure(folder, model):
    (folder / "config.toml").write_text(
        "[watch]\nsettle_s = 0.2\n[decode]\nprocesses = 2\n"
        f"[model]\nname = '{model}'\nprecision = 'float32'\n"
    )


@pytest.fixture(scope="module")
def tb_model(tmp_path_factory, tiny_model):
    return relabelled(tiny_model, tmp_path_factory.mktemp("own") / "tb", list(TB.values()))


@pytest.fixture(scope="module")
def films(tmp_path_factory, sample_films):
    """Six films in class folders, under names that say nothing, and one that cannot be read."""
    folder = tmp_path_factory.mktemp("tb-films")
    for usual, ours in TB.items():
        (folder / ours).mkdir()
        for number, film in enumerate(sorted((sample_films / usual).iterdir())[:3]):
            shutil.copy(film, folder / ours / f"{number}.jpeg")
    (folder / "CLEAR" / "cut.jpeg").write_bytes((folder / "CLEAR" / "0.jpeg").read_bytes()[:-500])
    return folder


@pytest.fixture(scope="module")
def desk(tmp_path_factory, tb_model):
    folder = tmp_path_factory.mktemp("desk")
    configure(folder, tb_model)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory, screen, tiny_model, tb_model, films):
    """A site after a backfill with the model of TUBERCULOSIS: its folder, what was printed."""
    folder = tmp_path_factory.mktemp("research") / "site"
    screen("init", folder, cwd=folder.parent)
    configure(folder, tb_model)
    return folder, screen("backfill", films, cwd=folder)


def records(ended):
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_classify_answers_as_the_same_weights_in_other_words(desk, screen, films, tiny_model):
    ours = screen("classify", films, "--json", cwd=desk)
    usual = screen("classify", films, "--json", "--model", tiny_model, cwd=desk)
    said = [record["decision"] for record in records(ours)]
    assert said == [TB.get(r["decision"], r["decision"]) for r in records(usual)]
    assert set(said) & set(TB.values())
    assert not USUAL.search(ours.stdout)


def test_evaluate_measures_in_the_words_of_the_card(desk, screen, films, tmp_path):
    out = {f"--{kind}": tmp_path / f"r.{kind}" for kind in ("json", "predictions", "html")}
    options = [word for pair in out.items() for word in pair]
    ended = screen("evaluate", films, *options, cwd=desk)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(out["--json"].read_text())
    assert found["n"] == 6
    assert list(found["f1"]) == ["CLEAR", "TUBERCULOSIS", "macro", "weighted"]
    for text in (ended.stdout, *(path.read_text() for path in out.values())):
        assert "TUBERCULOSIS" in text
        assert not USUAL.search(text)


def test_evaluate_takes_a_table_with_the_labels_of_the_card(desk, screen, films, tmp_path):
    table, out = tmp_path / "truth.csv", tmp_path / "r.json"
    table.write_text("file,label\nCLEAR/0.jpeg,CLEAR\nTUBERCULOSIS/1.jpeg,TUBERCULOSIS\n")
    ended = screen("evaluate", films, "--labels", table, "--json", out, cwd=desk)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(out.read_text())["n"] == 2


def test_class_folders_of_another_model_are_a_usage_error_that_names_both(
    desk, screen, sample_films
):
    ended = screen("evaluate", sample_films, cwd=desk)
    assert ended.returncode == 2
    assert "class folders are CLEAR, TUBERCULOSIS" in ended.stderr
    assert "found NORMAL, PNEUMONIA" in ended.stderr


def test_a_backfill_and_what_is_asked_after_it_say_the_words_of_the_card(site, screen):
    folder, ended = site
    assert ended.returncode == 3, ended.stderr  # one file cannot be read
    asked = [screen(*words, cwd=folder) for words in (("query", "--json"), ("query",), ("status",))]
    found = json.loads(asked[0].stdout)
    assert len(found) == 7
    assert {r["decision"] for r in found} <= {*TB.values(), "INDETERMINATE", "REFUSED"}
    for said in (ended, *asked):
        assert "TUBERCULOSIS" in said.stdout
        assert not USUAL.search(said.stdout)


def test_no_page_claims_what_the_model_does_not_look_for(site):
    folder, _ = site
    pages = [*folder.glob("reports/films/*.html"), folder / "reports" / "index.html"]
    assert len(pages) == 7
    for page in pages:
        text = page.read_text()
        assert "TUBERCULOSIS" in text
        assert not USUAL.search(text)


def test_query_finds_the_words_of_the_card_in_either_case_and_knows_no_others(site, screen):
    folder, _ = site
    every = json.loads(screen("query", "--json", cwd=folder).stdout)
    for word in TB.values():
        ended = screen("query", "--json", "--decision", word.lower(), cwd=folder)
        assert json.loads(ended.stdout) == [r for r in every if r["decision"] == word]
    ended = screen("query", "--decision", "PNEUMONIA", cwd=folder)
    assert ended.returncode == 2
    assert "only TUBERCULOSIS, CLEAR, INDETERMINATE, REFUSED" in ended.stderr


def test_one_site_holds_results_of_several_models(site, screen, tiny_model, films, tmp_path):
    folder = shutil.copytree(site[0], tmp_path / "site")
    (folder / "config.toml").write_text(
        (folder / "config.toml").read_text().replace("name = ", f"name = '{tiny_model}' # ")
    )
    shutil.copy(films / "CLEAR" / "0.jpeg", folder / "inbox" / "again.jpeg")
    ended = screen("watch", "--once", cwd=folder)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(screen("query", "--json", cwd=folder).stdout)
    assert len(found) == 8
    of_file = {record["file"]: record["decision"] for record in found}
    first = of_file[str(films / "CLEAR" / "0.jpeg")]
    assert of_file["again.jpeg"] == {ours: usual for usual, ours in TB.items()}.get(first, first)
    index = (folder / "reports" / "index.html").read_text()
    assert "PNEUMONIA or TUBERCULOSIS" in index
    assert "Answered by other weights" not in index  # they are the same, in other words
    assert screen("report", cwd=folder).stdout.startswith("rendered 7 pages")


def test_other_labels_on_the_same_weights_are_another_model(
    site, screen, tiny_model, films, tmp_path
):
    folder = shutil.copytree(site[0], tmp_path / "site")
    configure(folder, relabelled(tiny_model, tmp_path / "other", ["WITHOUT", "CAVITY"]))
    ended = screen("backfill", films / "TUBERCULOSIS", cwd=folder)
    assert ended.returncode == 0, ended.stderr
    newest = json.loads(screen("query", "--json", "--limit", 3, cwd=folder).stdout)
    assert {r["decision"] for r in newest} <= {"CAVITY", "WITHOUT", "INDETERMINATE", "REFUSED"}


def test_bad_labels_are_refused_naming_the_key(desk, screen, films, tiny_model, tmp_path):
    bad = relabelled(tiny_model, tmp_path / "bad", ["CLEAR", "../TB"])
    ended = screen("classify", films / "CLEAR" / "0.jpeg", "--model", bad, cwd=desk)
    assert ended.returncode == 1
    assert "labels.1" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_example_of_the_documents_makes_a_model(repository, screen, films, tmp_path):
    text = (repository / "docs" / "MODELS.md").read_text(encoding="utf-8")
    example = re.search(r"<!-- runs in tests -->\s*```python\n(.*?)```", text, re.DOTALL)[1]
    (tmp_path / "write_model.py").write_text(example)
    subprocess.run(
        [sys.executable, "write_model.py"],
        cwd=tmp_path,
        check=True,
        env={"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "2"},
        timeout=120,
    )
    assert screen("models", "verify", "tb-model", cwd=tmp_path).returncode == 0
    film = films / "TUBERCULOSIS" / "0.jpeg"
    ended = screen("classify", "--model", "tb-model", film, "--json", cwd=tmp_path)
    [record] = records(ended)
    assert record["model"] == "tb-model"
    assert record["decision"] in {*TB.values(), "INDETERMINATE"}
    assert record["guard_score"] < 1e-6  # an open guard
