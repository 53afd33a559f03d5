"""The gallery in a real browser."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captum_3dcam.explanation.many._journal import Outcome
from captum_3dcam.explanation.many._summary import write_summary

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
OUTCOMES = [
    Outcome("b/#1 100%.png", "done", "left", "image", "b/#1 100%.png", 0, "golf", 2.0, 0.9, 1),
    Outcome("a.png", "done", "right", "image", "a.png", 1, HOSTILE, 1.0, 0.4),
    Outcome(HOSTILE, "failed", "left", error=f"no image: {HOSTILE}"),
    Outcome("c.png", "done", "", "image", "c.png", 0, "golf", 3.0, None),
]


@pytest.fixture
def page(browser, folder):
    for outcome in OUTCOMES:
        if outcome.folder:
            Path(outcome.folder).mkdir(parents=True)
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(
                f"{outcome.folder}/overlay_small.jpg"
            )
            Path(outcome.folder, "report.html").write_text(f"report of {outcome.name}")
    write_summary(Path(), OUTCOMES)
    page = browser.new_page(viewport={"width": 390, "height": 700})
    page.problems = []
    page.on("console", lambda message: page.problems.append(message.text))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("dialog", lambda dialog: (page.problems.append("a dialog"), dialog.dismiss()))
    page.goto(Path("index.html").absolute().as_uri())
    yield page
    page.close()


def names(page):
    return [text.split("\n")[0] for text in page.locator("li").all_inner_texts()]


def test_each_input_has_a_card_and_text_stays_text(page):
    assert names(page) == ["b/#1 100%.png", "a.png", HOSTILE, "c.png"]
    assert "golf 90.0 %" in page.locator("li").first.inner_text()
    assert "1 warning(s)" in page.locator("li").first.inner_text()
    assert f"failed: no image: {HOSTILE}" in page.locator("li.failed").inner_text()
    assert page.problems == []
    images = page.locator("li img")
    assert images.count() == 3
    assert all(images.nth(n).evaluate("image => image.decode().then(() => true)") for n in range(3))
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_form_chooses_and_orders(page):
    def choose(**values):
        for name, value in values.items():
            page.locator(f"[name={name}]").select_option(value)

    page.locator("[name=name]").fill("PNG")
    assert len(names(page)) == 3
    assert page.locator("[role=status]").inner_text() == "3 of 4"
    choose(**{"class": "golf"})
    assert names(page) == ["b/#1 100%.png", "c.png"]
    choose(group="left")
    assert names(page) == ["b/#1 100%.png"]
    page.locator("[name=name]").fill("")
    choose(group="", status="failed", **{"class": ""})
    assert names(page) == [HOSTILE]
    choose(status="", order="highest probability")
    assert names(page)[:2] == ["b/#1 100%.png", "a.png"]
    choose(order="lowest probability")
    assert names(page)[0] == "a.png"
    choose(order="name")
    assert names(page)[1:] == ["a.png", "b/#1 100%.png", "c.png"]
    assert page.problems == []


def test_a_card_opens_its_report(page):
    page.locator("li a").first.click()
    page.wait_for_load_state()
    assert page.inner_text("body") == "report of b/#1 100%.png"


def test_many_cards_are_shown_in_parts(browser, folder):
    write_summary(Path(), [Outcome(f"{n}.png", "failed", error="no") for n in range(450)])
    page = browser.new_page()
    page.goto(Path("index.html").absolute().as_uri())
    for count in (200, 400, 450):
        assert page.locator("li").count() == count
        if count < 450:
            page.get_by_role("button", name="more").click()
    assert page.get_by_role("button", name="more").is_hidden()
    page.close()


def test_no_string_ends_the_script(folder):
    write_summary(Path(), OUTCOMES)
    text = Path("index.html").read_text()
    assert len(re.findall("</script>", text)) == 2
    data = re.search(r'id="outcomes">(.*?)</script>', text)[1]
    assert [each["name"] for each in json.loads(data)] == [each.name for each in OUTCOMES]
