// What a shadow says, one row for each path. Pure.

import { isObject, Exact } from './json.js';

/**
 * Returns the rows of a document in the order of their paths. A row has its path as a list of keys; desired and reported,
 * undefined when there is none; pending when the device has still to do what is desired; and the times of both in ms.
 */
export function rows(document) {
  const { state = {}, metadata = {} } = document;
  const byPath = new Map();
  for (const section of ['desired', 'reported']) {
    for (const [path, value] of leaves(state[section] ?? {}, [])) {
      const key = JSON.stringify(path);
      if (!byPath.has(key)) byPath.set(key, { path, pending: isWithin(state.delta, path) });
      const row = byPath.get(key);
      row[section] = value;
      row[`${section}At`] = newest(at(metadata[section], path));
    }
  }
  return [...byPath.values()].sort((a, b) => compare(a.path, b.path));
}

/** Returns the values that are no objects, and empty objects, each with its path. */
function leaves(value, path) {
  if (!isObject(value) || (path.length > 0 && Object.keys(value).length === 0)) return [[path, value]];
  return Object.entries(value).flatMap(([key, v]) => leaves(v, [...path, key]));
}

const at = (tree, path) => path.reduce((t, key) => (isObject(t) && Object.hasOwn(t, key) ? t[key] : undefined), tree);

/** Reports whether a path, or what it is a part of, is in the delta. */
function isWithin(delta, path) {
  let tree = delta;
  for (const key of path) {
    if (!isObject(tree)) return tree !== undefined;
    if (!Object.hasOwn(tree, key)) return false;
    tree = tree[key];
  }
  return tree !== undefined;
}

/** Returns the latest timestamp of metadata, in ms; 0 for none. */
function newest(metadata) {
  if (typeof metadata !== 'object' || metadata === null || metadata instanceof Exact) return 0;
  if (typeof metadata.timestamp === 'number') return metadata.timestamp * 1000;
  return Object.values(metadata).reduce((latest, m) => Math.max(latest, newest(m)), 0);
}

function compare(a, b) {
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    if (a[i] !== b[i]) return a[i] < b[i] ? -1 : 1;
  }
  return a.length - b.length;
}

/** Returns a path as `umbra` writes it: a dot within a key is \. and a backslash \\. */
export function pathText(path) {
  return path.map((key) => key.replace(/[\\.]/g, '\\$&')).join('.');
}

/** Reads what pathText writes. */
export function readPath(text) {
  const keys = [''];
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '\\' && i + 1 < text.length) keys[keys.length - 1] += text[++i];
    else if (text[i] === '.') keys.push('');
    else keys[keys.length - 1] += text[i];
  }
  if (keys.includes('')) throw new Error('A path is keys with dots between them, such as color.r');
  return keys;
}

/** Returns the body of an update that sets one path of desired to a value, which is JSON. */
export function change(path, json) {
  return `{"state":{"desired":${path.reduceRight((inner, key) => `{${JSON.stringify(key)}:${inner}}`, json)}}}`;
}
