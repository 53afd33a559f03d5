"""The viewer as an HTML page, in a report, and as the output of a notebook's cell."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any

from captum_3dcam.explanation.viewer._assets import bundle, read_asset
from captum_3dcam.explanation.viewer._payload import to_payload
from captum_3dcam.explanation.viewer._report import report_sections
from captum_3dcam.explanation.viewer.content import ViewerContent

# Nothing may be fetched, so that a page is complete, and tells no one that it was opened.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src {images}; base-uri 'none'; form-action 'none'"
)
# Pixels of a notebook's output, until the page in it says how high it is: scripts may be off.
_HEIGHTS = {"image": 880, "video": 860, "volume": 850}
_FIT = """<script>addEventListener("message", ({ data, source }) => {
  if (!Number.isFinite(data?.c3dHeight)) return;
  for (const frame of document.querySelectorAll("iframe.c3d-frame")) {
    if (frame.contentWindow === source) frame.style.height = `${Math.ceil(data.c3dHeight)}px`;
  }
});</script>"""
_NO_SCRIPT = "<noscript>The viewer needs JavaScript, which is switched off here.</noscript>"


def viewer_page(content: ViewerContent) -> str:
    """An HTML document that shows the content; it needs no network and no other file.

    >>> import numpy as np
    >>> from captum_3dcam.explanation.viewer import ImageContent, ViewerClass, ViewerMap
    >>> content = ViewerContent(
    ...     "<cat>.png",
    ...     ImageContent(np.zeros((64, 64, 3), np.uint8)),
    ...     [ViewerClass("tabby", 9.1, 0.62)],
    ...     [ViewerMap("Grad-CAM", "method", np.ones((1, 7, 7)))],
    ... )
    >>> page = viewer_page(content)
    >>> "<title>&lt;cat&gt;.png</title>" in page, "<cat>" in page
    (True, False)
    """
    return html_document(content.title, _viewer(content))


def report_page(
    content: ViewerContent,
    report: Mapping[str, Any],
    images: Sequence[tuple[str, bytes]] = (),
) -> str:
    """The report of an explanation as an HTML document, with the viewer in it.

    Args:
        report: the contents of ``report.json``; of "warnings", "results", "command", "input",
            "model", "settings", "versions" and "files" it shows those that there are.
        images: titles and PNG files, shown one below the other.
    """
    above, below = report_sections(content, report, images)
    viewer = _viewer(replace(content, title="Viewer", warnings=()))
    body = f'<div class="c3d-report">{above}</div>{viewer}<div class="c3d-report">{below}</div>'
    return html_document(content.title, body)


def notebook_html(content: ViewerContent) -> str:
    """The page in a frame of its own, for ``_repr_html_``: apart from the notebook's styles.

    The page tells its height; a script of the notebook's gives it to the frame, where scripts run.
    """
    document = viewer_page(content)
    height = _HEIGHTS[content.original.kind]
    return (
        f'{_FIT}<iframe class="c3d-frame" srcdoc="{escape(document)}" sandbox="allow-scripts" '
        f'title="viewer" style="width: 100%; height: {height}px; border: 0"></iframe>'
    )


def _viewer(content: ViewerContent) -> str:
    return (
        f'<main id="c3d-viewer">{_NO_SCRIPT}</main>'
        f"{data_script('c3d-payload', to_payload(content))}"
        f'<script type="module">{bundle("page")}</script>'
    )


def data_script(name: str, data: Any) -> str:
    """A script element with JSON, which no text in it can end."""
    # Nor may a text begin a comment in it.
    text = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>'


def html_document(title: str, body: str, style: str = "", images: str = "data:") -> str:
    """An HTML document in the viewer's style and another one, with images from these sources."""
    style = read_asset("viewer.css") + read_asset("page.css") + style
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY.format(images=images)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n"
        f"</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
