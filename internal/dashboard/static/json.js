// JSON whose numbers keep their text: those that a double cannot hold are of the class Exact.

const TURNS = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g; // characters that have others shown in another order

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

/** Returns the text of a string, in which nothing is shown in another place than it has. */
const quote = (s) => JSON.stringify(s).replace(TURNS, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);

/** Returns the text of a value, which is JSON, on one line. */
export function show(value) {
  if (value instanceof Exact) return value.source;
  if (Array.isArray(value)) return `[${value.map(show).join(', ')}]`;
  if (isObject(value)) return `{${Object.entries(value).map(([k, v]) => `${quote(k)}: ${show(v)}`).join(', ')}}`;
  return typeof value === 'string' ? quote(value) : JSON.stringify(value);
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
