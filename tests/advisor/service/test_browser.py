"""The pages in a browser: with a script and without, by keyboard, on a phone, while the server dies and comes back."""

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from advisor.service.demo import write_records
from tests.advisor.service.served_browser import BROWSER, PATIENCE, Server, visit
from tests.advisor.service.served_models.conftest import trained  # noqa: F401 a fixture of the model's

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
_RECORDS = 160
_PHONE = {"width": 360, "height": 740}
_SOME_RUNS = re.compile(r"runs ([2-9]|[1-9]\d+) of")  # one number alone may be gone before it is looked for
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, trained: Path) -> Iterator[Server]:  # noqa: F811
    folder = tmp_path_factory.mktemp("serving")
    (folder / "models").mkdir()
    (folder / "models" / "ward.onnx").write_bytes((trained / "model.onnx").read_bytes())
    made = Server(folder, f"--models={folder / 'models'}")
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic records, as a hospital would pack them."""
    folder = tmp_path_factory.mktemp("records")
    write_records(folder, _RECORDS)
    file = BytesIO()
    with ZipFile(file, "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"ward/{path.name}")
    packed = folder.with_suffix(".zip")
    packed.write_bytes(file.getvalue())
    return packed


def test_the_answer_changes_with_the_question_and_the_page_stays(browser: Browser, server: Server):
    with visit(browser, server.address) as page:
        page.goto("/")
        page.evaluate("window.mark = 'here'")
        page.get_by_label("Labelled records", exact=True).fill("300")
        expect(page.locator("#answer-title")).to_contain_text("300 labelled ECG records")
        verdict = page.locator("#answer .verdict .words").first.inner_text()
        assert verdict
        expect(page.get_by_role("status")).to_have_text(f"300 records: {verdict.lower()}")
        assert page.url.endswith("/?n_records=300&arch=cnn")
        page.get_by_text("Target and prices").click()
        page.get_by_label("Price of a labelled record", exact=True).fill("2")
        expect(page.locator("#cost")).to_contain_text("labels")
        assert page.evaluate("window.mark") == "here", "the page was not loaded anew"
        page.reload()
        expect(page.get_by_label("Price of a labelled record", exact=True)).to_have_value("2")


def test_what_is_wrong_is_said_next_to_the_field_and_goes_when_it_is_right(browser: Browser, server: Server):
    with visit(browser, server.address) as page:
        page.goto("/")
        field = page.get_by_label("Labelled records", exact=True)
        field.fill("0")
        expect(page.locator("#ask-error")).to_contain_text("give a positive number of labelled records")
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_be_focused()
        field.fill("250")
        expect(page.locator("#answer-title")).to_contain_text("250 labelled")
        expect(page.locator("#ask-error")).not_to_contain_text("give")
        assert field.get_attribute("aria-invalid") is None


def test_the_chart_reads_out_after_each_answer(browser: Browser, server: Server):
    with visit(browser, server.address) as page:
        page.goto("/?n_records=1000&arch=cnn")
        for n in ("1,000", "400"):
            if n == "400":
                page.get_by_label("Labelled records", exact=True).fill(n)
                expect(page.locator("#answer-title")).to_contain_text("400 labelled")
            slider = page.get_by_role("slider")
            expect(slider).to_be_visible()
            expect(page.locator("#readout strong")).to_have_text(n)
            slider.press("Home")
            expect(page.locator("#readout strong")).not_to_have_text(n)


def test_without_a_script_a_question_is_asked_and_answered(browser: Browser, server: Server):
    with visit(browser, server.address, java_script_enabled=False) as page:
        page.goto("/")
        page.get_by_label("Labelled records", exact=True).fill("300")
        page.get_by_label("Network", exact=True).select_option("rnn")
        page.get_by_role("button", name="Answer").click()
        assert "300 labelled ECG records" in page.locator("#answer-title").inner_text()
        assert "gru-w32" in page.locator("#answer").inner_text()
        page.get_by_label("Labelled records", exact=True).fill("0")
        page.get_by_role("button", name="Answer").click()
        assert "give a positive number" in page.locator("#ask-error").inner_text()
        assert page.get_by_label("Network", exact=True).input_value() == "rnn"


@pytest.mark.parametrize(("bypass_csp", "seen"), [(True, "asked of others"), (False, "Content Security Policy")])
def test_what_a_page_asks_of_others_is_seen(browser: Browser, server: Server, bypass_csp: bool, seen: str):
    """Else the other tests could not fail."""
    with pytest.raises(AssertionError, match=seen), visit(browser, server.address, bypass_csp=bypass_csp) as page:
        page.goto("/login")
        page.evaluate("new Image().src = 'http://elsewhere.invalid/x.png'")
        page.wait_for_timeout(300)


def test_what_axe_finds_is_seen(browser: Browser, server: Server):
    with visit(browser, server.address) as page:
        page.goto("/login")
        page.evaluate("document.querySelector('main').append(new Image(9, 9))")
        with pytest.raises(AssertionError, match="image-alt"):
            _check(page, "/login")


def _focused(page: Page) -> dict[str, object]:
    """Return what has the focus: its name, and whether it can be seen that it has."""
    return page.evaluate(
        "() => { const e = document.activeElement, s = getComputedStyle(e), b = e.getBoundingClientRect();"
        " return {tag: e.tagName, id: e.id, text: (e.textContent || '').trim().slice(0, 40),"
        " ringed: s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2,"
        " shown: b.right > 0 && b.bottom > 0 && b.left < innerWidth && b.top < innerHeight && b.width > 0}; }"
    )


def test_the_keyboard_alone_asks_and_sees_where_it_is(browser: Browser, server: Server):
    with visit(browser, server.address) as page:
        page.goto("/")
        page.keyboard.press("Tab")
        assert _focused(page)["text"] == "Skip to the content"
        assert _focused(page)["shown"], "the link is seen once it has the focus"
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert _focused(page)["id"] == "ask-n_records"
        page.keyboard.press("ControlOrMeta+a")
        page.keyboard.type("800")
        expect(page.locator("#answer-title")).to_contain_text("800 labelled")
        passed = []
        for _ in range(40):
            here = _focused(page)
            passed.append(here["id"] or here["text"])
            assert here["ringed"] and here["shown"], f"it is seen that {here} has the focus"
            if here["text"] == "Target and prices":
                page.keyboard.press("Enter")
            page.keyboard.press("Tab")
            if _focused(page)["tag"] == "BODY":
                break
        wanted = ["ask-arch", "ask-upstream", "ask-margin", "Target and prices", "ask-target", "ask-label_cost",
                  "Answer", "The whole report", "Save the report", "records"]  # fmt: skip
        assert [one for one in passed if one in wanted] == wanted


def test_a_pilot_is_watched_to_its_end_though_the_server_is_killed_meanwhile(
    browser: Browser, server: Server, records: Path
):
    with visit(browser, server.address) as page:
        page.goto("/datasets")
        page.locator("#dataset-name").fill("ward <3>")
        page.get_by_label("Archive", exact=True).set_input_files(records)
        page.get_by_role("button", name="Add and check").first.click()
        expect(page.locator("#dataset .state")).to_have_text("ready")  # without loading the page
        expect(page.locator("#dataset")).to_contain_text(f"{_RECORDS}, 0 of them unusable")
        page.get_by_label("Minutes it may take", exact=True).fill("1.5")
        page.locator("#pilot-arch").select_option("cnn")
        page.get_by_role("button", name="Start the pilot").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Pilot on ward <3>")
        page.evaluate("window.mark = 'here'")
        expect(page.locator("#job")).to_contain_text(_SOME_RUNS)
        server.kill()
        expect(page.locator("#lost")).to_have_text("The service does not answer just now: trying again.")
        server.start()
        expect(page.locator("#lost")).to_be_empty()
        expect(page.locator("#job .state")).to_have_text("done")
        expect(page.locator("#said")).to_contain_text("Pilot: done")
        assert page.evaluate("window.mark") == "here", "the same page has seen it all"
        assert page.locator("#job .verdict .words").inner_text()
        with page.expect_download() as download:
            page.get_by_role("link", name="Save the report").click()
        assert "What the pilot changed" in download.value.path().read_text(encoding="utf-8")
        page.get_by_role("link", name="The answer for these records, with its curves").click()
        expect(page.locator("#pilot-title")).to_contain_text("pilot")


def _addresses(page: Page) -> list[str]:
    """Return the address of every kind of page, of the dataset and the job above too."""
    found = []
    for path in ("/datasets", "/jobs"):
        page.goto(path)
        found += [link.get_attribute("href") or "" for link in page.locator("main tbody a").all()]
    deletions = [f"{path}/delete" for path in found if path.startswith("/datasets/")]
    assert deletions and any(path.startswith("/jobs/") for path in found)
    return ["/", "/?n_records=0&label_cost=2&labels=AF:0.1", "/?n_records=500&upstream=ECG-FM", "/datasets", "/jobs",
            "/models", "/models/ward", "/docs", "/login", "/nothing", *found, *deletions]  # fmt: skip


def _check(page: Page, where: str) -> None:
    found = Axe().run(page)
    assert found.violations_count == 0, f"{where}: {found.generate_report()}"


def test_every_page_fits_a_phone_and_axe_finds_nothing(browser: Browser, server: Server):
    """Comes after the pilot's test, whose dataset and job it looks at."""
    with visit(browser, server.address) as page:
        for address in _addresses(page):
            page.goto(address)
            page.set_viewport_size(_PHONE)
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                _check(page, f"{address}, {scheme}")
            assert page.evaluate("document.scrollingElement.scrollWidth") <= _PHONE["width"], address
            page.set_viewport_size({"width": 640, "height": 450})  # 1,280 pixels at 200 %
            assert page.evaluate("document.scrollingElement.scrollWidth") <= 640, address


def test_a_model_predicts_for_records_from_a_form(browser: Browser, server: Server, records: Path):
    with visit(browser, server.address) as page:
        page.goto("/models/ward")
        page.get_by_label("Records", exact=True).set_input_files(records)
        page.get_by_role("button", name="Predict").click()
        expect(page.locator("#predicted tbody tr")).to_have_count(_RECORDS)
        expect(page.locator("main")).to_contain_text(f"{_RECORDS} records on 1 day")
        page.set_viewport_size(_PHONE)
        assert page.evaluate("document.scrollingElement.scrollWidth") <= _PHONE["width"]
        _check(page, "predictions")
