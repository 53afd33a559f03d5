"""Pages in a real browser, without a network."""

import numpy as np
import pytest


class Page:
    """A page of the viewer, and what a person does with it."""

    def __init__(self, page):
        self.page = page
        self.requests, self.messages = [], []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.messages.append(message.text))
        page.on("pageerror", lambda error: self.messages.append(str(error)))

    def open(self, path):
        self.page.goto(path.as_uri())
        self.page.wait_for_selector(".c3d-bar .c3d-ticks span")
        self.settle()
        return self

    def text(self, selector):
        return self.page.inner_text(f".c3d-viewer {selector}")

    def texts(self, selector):
        return self.page.locator(f".c3d-viewer {selector}").all_inner_texts()

    def pixels(self, number):
        """RGB of a canvas: of an image the original and the overlay, of a scan plane by plane."""
        script = """(canvas) => [canvas.height, canvas.width, Array.from(
            canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data)]"""
        canvas = self.page.locator(".c3d-stage > canvas").nth(number)
        height, width, data = canvas.evaluate(script)
        return np.array(data, np.uint8).reshape(height, width, 4)[..., :3]

    def slide(self, name, value):
        """Move the slider with this label."""
        slider = self.page.get_by_label(name, exact=False).and_(self.page.locator("[type=range]"))
        slider.first.fill(str(value))
        self.settle()

    def choose(self, label, number):
        self.page.get_by_role("combobox", name=label).select_option(str(number))
        self.settle()

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)
            self.settle()

    def point(self, number, y, x, click=False):
        """Move the pointer to fractions of the height and width of a canvas."""
        box = self.page.locator(".c3d-stage").nth(number).bounding_box()
        position = box["x"] + x * box["width"], box["y"] + y * box["height"]
        (self.page.mouse.click if click else self.page.mouse.move)(*position)
        self.settle()

    def settle(self):
        """Until all that was requested is drawn: decoding takes a task or two."""
        self.page.evaluate(
            "new Promise((done) => setTimeout(() => requestAnimationFrame(() => done()), 60))"
        )


@pytest.fixture
def show(browser, tmp_path):
    """Open a page from a file. At the end, nothing was fetched and no script has complained."""
    shown = []

    def open_page(html, width=1280, height=900, **options):
        path = tmp_path / f"{len(shown)}.html"
        path.write_text(html, encoding="utf-8")
        context = browser.new_context(
            viewport={"width": width, "height": height}, offline=True, **options
        )
        shown.append(Page(context.new_page()))
        return shown[-1].open(path)

    yield open_page
    for page in shown:
        page.page.context.close()
        assert page.messages == []
        fetched = [url for url in page.requests if not url.startswith(("data:", "about:"))]
        assert len(fetched) == 1, fetched
        assert fetched[0].startswith("file:")
