// What the report and the viewer have in common.

/** An element with attributes, of which those that are null are left out; text is set as text, whatever it holds. */
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export function percent(share) {
  if (share > 0 && share < 0.001) return "< 0.1 %";
  return `${(100 * share).toFixed(share >= 0.0995 || !share ? 0 : 1)} %`;
}

/** The place of the last of ascending times that isn't behind a moment; 0 where all are. */
export function lastUntil(times, moment) {
  let low = 0, high = times.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (times[middle] <= moment) low = middle; else high = middle - 1;
  }
  return low;
}
