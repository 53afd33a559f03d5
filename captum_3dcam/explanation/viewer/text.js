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
