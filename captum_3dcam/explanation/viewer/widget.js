// The viewer as an anywidget.

import { mount } from "./viewer.js";

export default {
  async render({ model, el }) {
    const root = document.createElement("div");
    root.tabIndex = 0; // for its keys
    el.append(root);
    await mount(root, JSON.parse(model.get("payload")));
  },
};
