// Numbers as text.

/** Three significant digits, without zeros at the end. */
export function format(number) {
  return Number.isFinite(number) ? String(Number(number.toPrecision(3))) : "unknown";
}

/** A probability: its digits below a thousandth say nothing. */
export function formatProbability(number) {
  if (!Number.isFinite(number)) return "unknown";
  return number > 0 && number < 0.001 ? "< 0.001" : number.toFixed(3);
}

export function percent(share) {
  return Number.isFinite(share) ? `${Math.round(100 * share)} %` : "unknown";
}

// Right-to-left letters, and signs that change the direction of what follows.
const DIRECTED = /[\u0590-\u08ff\u200e\u200f\u202a-\u202e\u2066-\u2069]/;

/** A name that cannot turn the text after it. */
export function isolate(name) {
  return DIRECTED.test(name) ? `\u2068${name}\u202c\u2069` : name;
}
