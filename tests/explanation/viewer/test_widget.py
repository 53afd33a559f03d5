"""The widget of notebooks: the scripts of the page, drawn by an anywidget."""

import sys

import numpy as np
import pytest
from viewer_contents import GREY, blend, image_content, payload_of, unpack

from captum_3dcam.explanation.viewer import make_widget, viewer_page


@pytest.fixture
def widget():
    pytest.importorskip("anywidget")
    return make_widget(image_content())


def test_a_widget_has_the_payload_of_the_page(widget):
    page = viewer_page(image_content())
    assert widget.payload.replace("<", "\\u003c") in page
    assert isinstance(widget, pytest.importorskip("anywidget").AnyWidget)


def test_a_widget_draws_what_the_page_draws(widget, browser):
    page = browser.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_content("<main></main>")
    page.add_style_tag(content=str(widget._css))
    page.evaluate(
        """async ([script, payload]) => {
            const file = new Blob([script], { type: "text/javascript" });
            const { default: widget } = await import(URL.createObjectURL(file));
            const model = { get: () => payload };
            await widget.render({ model, el: document.querySelector("main") });
        }""",
        [str(widget._esm), widget.payload],
    )
    read = """(canvas) => Array.from(canvas.getContext("2d").getImageData(0, 0, 60, 40).data)"""
    canvases = page.locator("canvas >> visible=true")
    base, drawn = (
        np.array(canvases.nth(i).evaluate(read), np.uint8).reshape(40, 60, 4)[..., :3]
        for i in range(2)
    )
    levels = unpack(payload_of(viewer_page(image_content()))["maps"][0]["classes"][0])[0]
    assert np.abs(drawn.astype(int) - blend(base, levels, **GREY)).max() <= 1
    page.locator("main > div").focus()
    page.keyboard.press("g")
    page.wait_for_timeout(100)
    assert not page.get_by_label("grey").is_checked()
    page.close()
    assert errors == []


def test_without_anywidget_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(ImportError, match=r"pip install 'captum_3dcam\[notebook\]'"):
        make_widget(image_content())
