"""The viewer as a widget of Jupyter."""

import json
from typing import Any

from captum_3dcam._files import import_extra
from captum_3dcam.explanation.viewer._assets import bundle, read_asset
from captum_3dcam.explanation.viewer._payload import to_payload
from captum_3dcam.explanation.viewer.content import ViewerContent


def make_widget(content: ViewerContent) -> Any:
    """An ``anywidget.AnyWidget`` that shows the content with the scripts of the page.

    Raises ImportError that names the extra ``notebook`` if anywidget is missing.
    """
    anywidget = import_extra("anywidget", "A widget needs anywidget", "notebook")
    traitlets = import_extra("traitlets", "A widget needs traitlets", "notebook")
    members = {
        "_esm": bundle("widget"),
        "_css": read_asset("viewer.css"),
        "payload": traitlets.Unicode().tag(sync=True),
    }
    # Made here, because its base class is that of an optional package.
    kind = type("ViewerWidget", (anywidget.AnyWidget,), members)
    return kind(payload=json.dumps(to_payload(content), allow_nan=False))
