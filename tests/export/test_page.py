"""An exported model in a browser: the page that pack.py makes, opened from a folder, offline."""

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from threading import Thread

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps
from playwright.sync_api import Browser, Page

from models.cards import Card
from models.registry import find_model, load_model
from tests.browsing import problems_of
from tests.conftest import REPOSITORY
from worker.export.formats import FORMATS
from worker.export.run import ExportRequest, export
from worker.imaging.prepare import model_input
from worker.inference.decide import decide
from worker.records import Prediction, Tags
from worker.report.overlay import legend
from worker.report.wording import INT8_HEAT_MAP, REASONS

BROWSER = REPOSITORY / "deploy" / "browser"
FILMS = sorted((REPOSITORY / "tests" / "films").rglob("*.jpeg"))
SIGHTED = "#result:visible, #status:text-matches('No answer|One film')"


pytestmark = pytest.mark.slow  # a model is exported, and Chromium started


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default model as ONNX, its card beside it."""
    request = ExportRequest(FORMATS["onnx"], tmp_path_factory.mktemp("exported"))
    return export(load_model(find_model("default")), request).files[0]


@pytest.fixture(scope="module")
def runtime() -> None:
    """onnxruntime-web, which npm installs."""
    if not (BROWSER / "node_modules" / "onnxruntime-web").is_dir():
        pytest.skip("onnxruntime-web is not there: install npm, then 'make test' brings it")


def pack(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, BROWSER / "pack.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def packed(exported: Path, runtime: None) -> Path:
    """The page, alone in its folder."""
    page = exported.parent / "page" / "model.html"
    page.parent.mkdir()
    done = pack(exported, page)
    assert done.returncode == 0, done.stderr
    return page


@pytest.fixture(scope="module")
def card(exported: Path) -> Card:
    """The export's own."""
    text = exported.with_name(f"{exported.name}.card.json").read_text(encoding="utf-8")
    return Card.model_validate_json(text)


@pytest.fixture(scope="module")
def opened(browser: Browser, packed: Path) -> Iterator[tuple[Page, list[str]]]:
    """The page, its model open, and what went wrong in it since."""
    page = browser.new_page(viewport={"width": 1400, "height": 800})
    problems = problems_of(page)
    page.goto(packed.as_uri())
    page.locator("#file:enabled").wait_for()
    yield page, problems
    page.close()


@pytest.fixture
def page(opened: tuple[Page, list[str]]) -> Iterator[Page]:
    """The open page, which does nothing in any test that it should not."""
    yield opened[0]
    assert opened[1] == []


def with_card(packed: Path, card: str, other: Path) -> Path:
    """Another page, the same but for its card."""
    text = packed.read_text(encoding="utf-8")
    at = text.index('id="card" href="data:')
    start, end = text.index(",", at) + 1, text.index('">', at)
    content = base64.b64encode(card.encode()).decode()
    other.write_text(text[:start] + content + text[end:], encoding="utf-8")
    return other


def given(page: Page, film: Path) -> dict[str, str]:
    """What the page shows for a film, by the ids of its elements."""
    page.set_input_files("#file", film)
    page.locator(SIGHTED).first.wait_for()
    return {
        name: page.locator(f"#{name}").text_content() or ""
        for name in ("decision", "score", "why", "name", "status")
    }


def heat_of(page: Page) -> int:
    """The strongest opacity in the heat map's layer, of 255."""
    return page.evaluate(
        """() => {
            const layer = document.getElementById("evidence");
            const copy = new OffscreenCanvas(layer.width, layer.height);
            const context = copy.getContext("2d", { willReadFrequently: true });
            context.drawImage(layer, 0, 0);
            const { data } = context.getImageData(0, 0, copy.width, copy.height);
            return Math.max(...data.filter((_, index) => index % 4 === 3));
        }"""
    )


# The same answers as the worker's


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures that need care or are none to answer for, made of real films."""
    folder = tmp_path_factory.mktemp("odd")
    normal, ill = (Image.open(film).convert("L") for film in (FILMS[0], FILMS[-1]))
    turned = Image.Exif()
    turned[0x0112] = 6  # Orientation
    clear = normal.convert("RGBA").resize((500, 400))
    clear.paste((255, 255, 255, 0), (100, 100, 200, 200))
    ill.rotate(90, expand=True).save(folder / "turned.jpg", quality=95)
    normal.rotate(90, expand=True).save(folder / "exif.jpg", quality=95, exif=turned)
    ImageOps.invert(ill).save(folder / "negative.png")
    ImageOps.invert(ImageOps.flip(ill)).save(folder / "negative-upside-down.png")
    normal.resize((4101, 3273)).save(folder / "large.jpg", quality=95)
    ill.resize((130, 90)).save(folder / "small.png")
    Image.new("L", (300, 300), 90).save(folder / "blank.png")
    Image.merge("RGB", (ill, ill.point(lambda level: level // 2), ill)).save(folder / "pink.png")
    clear.save(folder / "clear.png")
    return sorted(folder.iterdir())


def test_the_page_answers_as_the_worker_does(page, screen, odd, tmp_path):
    """Decision and reason alike, probability within 0.01 (measured: within 0.0005)."""
    done = screen("classify", *FILMS, *odd, "--json", cwd=tmp_path)
    records = {Path(r["file"]): r for r in map(json.loads, done.stdout.splitlines())}
    decisions = set()
    for film, record in records.items():
        shown = given(page, film)
        assert shown["decision"] == record["decision"], film
        decisions.add(shown["decision"])
        if record["decision"] == "REFUSED":
            assert REASONS[record["reason"]] in shown["why"]
        else:
            assert float(shown["score"].strip("<>")) == pytest.approx(
                record["probability"], abs=0.01
            ), film
    assert decisions == {"NORMAL", "PNEUMONIA", "INDETERMINATE", "REFUSED"}


@pytest.mark.parametrize("shape", [(101, 333), (224, 224), (897, 1001), (1793, 1795), (2001, 903)])
def test_a_film_is_prepared_as_the_worker_prepares_it(page, card, shape):
    levels = np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)
    prepared = page.evaluate(
        """async ([levels, rows, columns, input]) => {
            const { modelInput } = await import("screen/prepare.js");
            const bytes = Uint8Array.from(atob(levels), (letter) => letter.charCodeAt(0));
            return Array.from(modelInput({ levels: bytes, rows, columns }, input));
        }""",
        [base64.b64encode(levels.tobytes()).decode(), *shape, card.input.model_dump()],
    )
    constants = card.input
    ours = model_input(
        levels, constants.size_px, constants.low_percentile, constants.high_percentile
    )
    assert np.abs(np.reshape(prepared, ours.shape) - ours).max() < 1e-5


def test_the_page_decides_as_the_worker_does(page, card):
    edges = {card.decision.threshold, *card.decision.indeterminate, card.guard.threshold}
    values = sorted({0.0, 1.0, *edges, *(edge + d for edge in edges for d in (-1e-6, 1e-6))})
    scores = list(product(values, repeat=3))
    answers = page.evaluate(
        """async ([scores, card]) => {
            const { decide } = await import("screen/decide.js");
            const heatMap = { levels: [1], rows: 1, columns: 1 };
            return scores.map(([probability, guardScore, notChestScore]) =>
                decide({ probability, heatMap, guardScore, notChestScore }, card));
        }""",
        [scores, json.loads(card.model_dump_json())],
    )
    for (probability, guard, not_chest), answer in zip(scores, answers, strict=True):
        prediction = Prediction(probability, np.ones((1, 1), np.float32), guard, not_chest)
        ours = decide(prediction, card, None, Tags(), "refuse")
        assert (answer["decision"], answer.get("reason")) == (ours.decision, ours.reason)
        assert ("probability" in answer) == ("heatMap" in answer) == (ours.reason is None)


@pytest.mark.parametrize("broken", ["probability", "guardScore", "notChestScore", "heatMap"])
def test_an_output_that_is_no_number_is_an_error(page, card, broken):
    said = page.evaluate(
        """async ([broken, card]) => {
            const { decide } = await import("screen/decide.js");
            const levels = [broken === "heatMap" ? NaN : 0];
            const outputs = { probability: 0, guardScore: 0, notChestScore: 0, [broken]: NaN };
            outputs.heatMap = { levels, rows: 1, columns: 1 };
            try { return decide(outputs, card).decision; } catch (error) { return error.message; }
        }""",
        [broken, json.loads(card.model_dump_json())],
    )
    assert "not a finite number" in said


# What is shown


def test_a_film_stands_beside_itself_with_its_heat_map(page):
    shown = given(page, FILMS[-1])
    assert shown["name"] == FILMS[-1].name
    assert heat_of(page) > 0
    film = page.locator("#heat .film").bounding_box()
    assert film is not None
    assert page.locator("#evidence").bounding_box() == pytest.approx(film, abs=0.5)
    rows, columns = cv2.imread(str(FILMS[-1]), cv2.IMREAD_GRAYSCALE).shape
    assert film["width"] / film["height"] == pytest.approx(columns / rows, abs=0.01)


def test_a_refused_film_shows_neither_probability_nor_heat_map(page, odd):
    assert given(page, FILMS[-1])["score"]
    shown = given(page, next(film for film in odd if film.name == "turned.jpg"))
    assert shown["decision"] == "REFUSED"
    assert shown["score"] == ""
    assert not any(letter.isdigit() for letter in shown["why"])
    assert heat_of(page) == 0
    assert not page.locator("#heat, #legend, #number").locator("visible=true").count()


def test_a_heat_map_of_an_int8_file_says_so(browser, packed, card, page, tmp_path):
    given(page, FILMS[-1])
    assert not page.locator("#heat-caveat").is_visible()
    small = card.model_dump(mode="json")
    small["export"]["precision"] = "int8"
    other = browser.new_page()
    other.goto(with_card(packed, json.dumps(small), tmp_path / "int8.html").as_uri())
    other.locator("#file:enabled").wait_for()
    given(other, FILMS[-1])
    assert other.locator("#heat-caveat").is_visible()
    assert INT8_HEAT_MAP in other.locator("#legend").inner_text()
    other.close()


def test_every_answer_says_what_it_is_and_for_whom(page, card):
    given(page, FILMS[0])
    said = page.locator("body").inner_text()
    assert "Decision support for a radiologist, not a diagnosis" in said
    assert card.population.description in said
    assert card.weights.sha256 in said


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("cut.jpeg", FILMS[0].read_bytes()[:100_000], "ends before its picture does"),
        ("film.dcm", bytes(128) + b"DICM" + bytes(500), "neither JPEG nor PNG"),
        ("junk.jpeg", b"\xff\xd8\xff\xe0" + bytes(500) + b"\xff\xd9", "cannot be decoded"),
        ("empty.png", b"", "neither JPEG nor PNG"),
    ],
)
def test_what_is_no_whole_film_gets_no_answer(page, tmp_path, name, content, said):
    given(page, FILMS[0])
    (tmp_path / name).write_bytes(content)
    assert said in given(page, tmp_path / name)["status"]
    assert not page.locator("#result").is_visible()


def test_a_png_of_16_bits_gets_no_answer(page, tmp_path):
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((300, 300), 4000, np.uint16))
    assert "16 bits" in given(page, tmp_path / "deep.png")["status"]


def drop(page: Page, *films: Path) -> None:
    """Drop films anywhere on the page."""
    contents = [[film.name, base64.b64encode(film.read_bytes()).decode()] for film in films]
    page.evaluate(
        """(films) => {
            const dataTransfer = new DataTransfer();
            for (const [name, content] of films) {
                const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
                dataTransfer.items.add(new File([bytes], name));
            }
            const options = { dataTransfer, bubbles: true, cancelable: true };
            document.querySelector("footer").dispatchEvent(new DragEvent("drop", options));
        }""",
        contents,
    )


def test_a_film_may_be_dropped_anywhere(page):
    drop(page, FILMS[-1])
    page.locator(SIGHTED).first.wait_for()
    assert page.locator("#name").text_content() == FILMS[-1].name
    assert page.locator("#decision").text_content() == "PNEUMONIA"


def test_two_films_at_once_get_no_answer(page):
    drop(page, *FILMS[:2])
    assert "One film at a time" in (page.locator("#status").text_content() or "")
    assert not page.locator("#result").is_visible()


def test_an_answer_that_comes_late_is_not_shown_for_the_next_film(page):
    given(page, FILMS[0])
    page.set_input_files("#file", FILMS[-1])
    assert not page.locator("#result").is_visible()  # the last film's answer is gone at once
    shown = given(page, FILMS[1])
    assert shown["name"] == FILMS[1].name
    assert shown["decision"] == "NORMAL"


def test_the_page_says_reasons_and_shows_evidence_as_reports_do():
    script = (BROWSER / "page.js").read_text(encoding="utf-8")
    for reason in ("not-a-chest-radiograph", "outside-validated-population", "too-small"):
        assert f'"{reason}": "{REASONS[reason]}"' in script
    for reason in ("blank-picture", "polarity-unsure"):
        assert f'"{reason}": "{REASONS[reason]}"' in script
    stops = [
        [*(int(stop.colour[at : at + 2], 16) for at in (1, 3, 5)), stop.alpha] for stop in legend()
    ]
    ramp = script.split("const RAMP = ")[1].split(";")[0]
    assert json.loads(ramp.replace(",\n]", "\n]")) == stops


# In a site of one's own


@pytest.fixture
def served(exported: Path, runtime: None, tmp_path: Path) -> Iterator[str]:
    """The scripts, the runtime, the model and the documents' snippet, served from one folder."""
    dist = BROWSER / "node_modules" / "onnxruntime-web" / "dist"
    for file in [*BROWSER.glob("*.js"), *dist.glob("ort.wasm.bundle.min.mjs"), exported]:
        shutil.copy(file, tmp_path)
    shutil.copy(dist / "ort-wasm-simd-threaded.wasm", tmp_path)
    shutil.copy(exported.with_name(f"{exported.name}.card.json"), tmp_path)
    document = (REPOSITORY / "docs" / "EXPORT.md").read_text(encoding="utf-8")
    snippet = document.split("<!-- runs in tests -->\n```js\n")[1].split("```")[0]
    (tmp_path / "snippet.js").write_text(snippet, encoding="utf-8")
    imports = {"imports": {"onnxruntime-web/wasm": "./ort.wasm.bundle.min.mjs"}}
    (tmp_path / "index.html").write_text(
        f'<!doctype html><link rel="icon" href="data:,"><script type="importmap">'
        f"{json.dumps(imports)}</script>"
    )
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_the_snippet_of_the_documents_screens_a_film(browser, served, odd):
    turned = next(film for film in odd if film.name == "turned.jpg")
    page = browser.new_page()
    problems = problems_of(page, own=(served, "data:"))
    page.goto(served)
    answers = page.evaluate(
        """async (films) => {
            const { screen } = await import("/snippet.js");
            const answers = [];
            for (const film of films) answers.push(await screen(await (await fetch(film)).blob()));
            return answers;
        }""",
        [f"data:;base64,{base64.b64encode(f.read_bytes()).decode()}" for f in (FILMS[-1], turned)],
    )
    assert answers == ["PNEUMONIA 0.977", "not-a-chest-radiograph"]
    assert problems == []
    page.close()


# Packing


def test_a_model_that_its_card_does_not_speak_of_is_not_packed(exported, tmp_path):
    for file in exported.parent.glob("*.onnx*"):
        shutil.copy(file, tmp_path)
    changed = tmp_path / exported.name
    changed.write_bytes(changed.read_bytes() + b"\0")
    done = pack(changed, tmp_path / "page.html")
    assert done.returncode == 1
    assert "not the file that its card speaks of" in done.stderr
    assert not (tmp_path / "page.html").exists()


def test_a_page_is_never_written_over_another_file(exported, packed):
    before = packed.read_bytes()
    done = pack(exported, packed)
    assert done.returncode == 1
    assert "exists" in done.stderr
    assert packed.read_bytes() == before


def test_a_page_whose_model_was_changed_answers_nothing(browser, packed, card, tmp_path):
    wrong = card.model_copy(
        update={"weights": card.weights.model_copy(update={"sha256": "0" * 64})}
    )
    changed = with_card(packed, wrong.model_dump_json(), tmp_path / "changed.html")
    page = browser.new_page()
    page.goto(changed.as_uri())
    page.locator("#status:text-matches('cannot be used')").wait_for()
    assert page.locator("#file").is_disabled()
    drop(page, FILMS[0])
    assert "cannot be used" in (page.locator("#status").text_content() or "")
    page.close()
