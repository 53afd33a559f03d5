// A page of its own: the payload is in the page, and all keys are the viewer's.

import { mount } from "./viewer.js";

const payload = JSON.parse(document.getElementById("c3d-payload").textContent);
mount(document.getElementById("c3d-viewer"), payload, document);
