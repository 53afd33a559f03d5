// The gallery: a card for each input, chosen and ordered by the form above them.
const PAGE = 200; // cards that are added at once
const all = JSON.parse(document.getElementById("outcomes").textContent);
const main = document.querySelector("main");
const ORDERS = {
  "as given": () => 0,
  "highest probability": (a, b) => (b.probability ?? -1) - (a.probability ?? -1),
  "lowest probability": (a, b) => (a.probability ?? 2) - (b.probability ?? 2),
  name: (a, b) => a.name.localeCompare(b.name),
};
let shown = PAGE;

// Text is only ever set as text, never as HTML.
function make(tag, text = "", attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function select(name, values) {
  const label = make("label", `${name} `);
  const menu = make("select", "", { name });
  for (const [text, value] of values) menu.append(make("option", text, { value }));
  label.append(menu);
  return label;
}

// "all" is the empty value, for a class may be called "all".
function valuesOf(field) {
  const values = [...new Set(all.map((each) => each[field]))].filter(Boolean).sort();
  return [["all", ""], ...values.map((value) => [value, value])];
}

function card(each) {
  const item = make("li", "", { class: each.status });
  const body = make("div");
  if (each.status === "done") {
    if (each.image) {
      const link = make("a", "", { href: each.href });
      const image = { src: each.image, alt: `map of ${each.name}`, loading: "lazy" };
      link.append(make("img", "", image));
      item.append(link);
    }
    body.append(each.href ? make("a", each.name, { href: each.href }) : make("strong", each.name));
    const percent = each.probability === null ? "" : ` ${(100 * each.probability).toFixed(1)} %`;
    body.append(make("p", `${each.class_name}${percent}`));
    if (each.warnings) body.append(make("p", `${each.warnings} warning(s)`, { class: "faint" }));
  } else {
    body.append(make("strong", each.name), make("p", `failed: ${each.error}`));
  }
  if (each.group) body.append(make("p", each.group, { class: "faint" }));
  item.append(body);
  return item;
}

const form = make("form");
const search = make("label", "name ");
search.append(make("input", "", { name: "name", type: "search" }));
form.append(search, select("class", valuesOf("class_name")));
if (valuesOf("group").length > 1) form.append(select("group", valuesOf("group")));
const orders = Object.keys(ORDERS).map((name) => [name, name]);
form.append(select("status", valuesOf("status")), select("order", orders));
const count = make("p", "", { class: "faint", role: "status" });
const list = make("ul");
const more = make("button", "more", { type: "button" });
main.append(make("h1", document.title), form, count, list, more);

function chosen() {
  const values = Object.fromEntries(new FormData(form));
  const text = values.name.toLowerCase();
  const fits = (each, field, value) => !value || each[field] === value;
  return all
    .filter((each) => each.name.toLowerCase().includes(text))
    .filter((each) => fits(each, "class_name", values.class))
    .filter((each) => fits(each, "group", values.group))
    .filter((each) => fits(each, "status", values.status))
    .sort(ORDERS[values.order]);
}

function show() {
  const found = chosen();
  count.textContent = `${found.length} of ${all.length}`;
  list.replaceChildren(...found.slice(0, shown).map(card));
  more.hidden = found.length <= shown;
}

form.addEventListener("input", () => {
  shown = PAGE;
  show();
});
form.addEventListener("submit", (event) => event.preventDefault());
more.addEventListener("click", () => {
  shown += PAGE;
  show();
});
show();
