// Numbers as text.

/** Three significant digits, without zeros at the end. */
export function format(number) {
  return Number.isFinite(number) ? String(Number(number.toPrecision(3))) : "unknown";
}

export function percent(share) {
  return Number.isFinite(share) ? `${Math.round(100 * share)} %` : "unknown";
}
