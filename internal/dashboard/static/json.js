// JSON whose numbers keep their text: those that a double cannot hold are of the class Exact.

export class Exact {
  constructor(source) { this.source = source; }
}

/** Reads JSON. Browsers that do not tell the text of a number round it. */
export function parse(text) {
  return JSON.parse(text, (_key, value, context) => {
    const source = context?.source;
    return typeof value === 'number' && source !== undefined && String(value) !== source ? new Exact(source) : value;
  });
}

/** Returns the text of a value, on one line. */
export function show(value) {
  if (value instanceof Exact) return value.source;
  if (Array.isArray(value)) return `[${value.map(show).join(', ')}]`;
  if (isObject(value)) return `{${Object.entries(value).map(([k, v]) => `${JSON.stringify(k)}: ${show(v)}`).join(', ')}}`;
  return JSON.stringify(value);
}

export function isObject(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Exact);
}

/** Returns the JSON that somebody means who types a text: the text itself when it is JSON, else a string, as in `umbra set`. */
export function typed(text) {
  try {
    JSON.parse(text);
    return text;
  } catch {
    return JSON.stringify(text);
  }
}
