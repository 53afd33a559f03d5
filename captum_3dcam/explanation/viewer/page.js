// A page of its own: the payload is in the page, and all keys are the viewer's.

import { mount } from "./viewer.js";

const payload = JSON.parse(document.getElementById("c3d-payload").textContent);
const root = document.getElementById("c3d-viewer");
if (window.parent !== window) {
  // In a frame that is as high as the page, nothing may be a share of its height.
  root.classList.add("c3d-framed");
  const tell = () => window.parent.postMessage({ c3dHeight: document.body.offsetHeight }, "*");
  new ResizeObserver(tell).observe(document.body);
}
mount(root, payload, document);
