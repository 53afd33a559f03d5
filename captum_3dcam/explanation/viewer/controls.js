// Elements, and the controls that all kinds of originals share.

/** An element with properties and children. Texts are texts: nothing is read as HTML. */
export function h(tag, properties = {}, children = []) {
  const element = document.createElement(tag);
  assign(element, properties);
  element.append(...children);
  return element;
}

/** The same for SVG, whose properties are attributes. */
export function svg(tag, attributes = {}, children = []) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function assign(element, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (name === "aria" || name === "data") {
      for (const [key, text] of Object.entries(value)) element.setAttribute(`${name}-${key}`, text);
    } else if (name === "style") {
      for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    } else {
      element[name] = value;
    }
  }
}

function labelled(text, control, output = []) {
  return h("label", { className: "c3d-field" }, [h("span", { textContent: text }), control, ...output]);
}

/** A list to choose from: [text, group] each, under the names of their groups if there are any. */
export function choice(text, items, onChange) {
  const select = h("select", {
    aria: { label: text },
    onchange: () => onChange(Number(select.value)),
  });
  let parent = select;
  items.forEach(([label, group], value) => {
    if (group && parent.label !== group) {
      parent = h("optgroup", { label: group });
      select.append(parent);
    }
    parent.append(h("option", { value, textContent: label }));
  });
  return { element: labelled(text, select), set: (index) => (select.value = index) };
}

/** A slider from 0 to 1. */
export function slider(text, describe, onChange) {
  const input = h("input", { type: "range", min: 0, max: 1, step: 0.01 });
  const output = h("output");
  input.oninput = () => onChange(Number(input.value));
  const set = (value) => {
    input.value = value;
    output.textContent = describe(value);
    input.setAttribute("aria-valuetext", output.textContent);
  };
  return { element: labelled(text, input, [output]), set };
}

/** A checkbox, which a reason switches off. */
export function toggle(text, onChange) {
  const input = h("input", { type: "checkbox", onchange: () => onChange(input.checked) });
  const label = h("span", { textContent: text });
  const element = h("label", { className: "c3d-toggle" }, [input, label]);
  const disable = (reason) => {
    input.disabled = Boolean(reason);
    label.textContent = reason ? `${text} (${reason})` : text;
  };
  return { element, set: (value) => (input.checked = value), disable };
}

/** The line that lists the keys: [keys, what they do] each. */
export function helpLine(keys) {
  const parts = keys.map(([names, text]) =>
    h("span", {}, [...names.map((name) => h("kbd", { textContent: name })), ` ${text}`]),
  );
  return h("p", { className: "c3d-help", aria: { label: "keyboard" } }, parts);
}

/** Whether a control that has the focus uses this key itself. */
export function isUsed(event) {
  const control = event.target.closest?.("select, input, button, summary, textarea, a");
  if (!control || event.target.closest(".c3d-stage")) return false;
  if (control.matches("select, textarea")) return true;
  if (control.matches("input[type=range]")) return event.key !== " " && event.key.length > 1;
  return event.key === " " || event.key === "Enter";
}
