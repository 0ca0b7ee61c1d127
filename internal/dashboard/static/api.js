// The HTTP API, as whoever has logged in.

import { parse } from './json.js';

const KEY = 'umbra-authorization'; // of the tab, until it is closed or somebody logs out
const PATIENCE = 20000; // ms for an answer
const SILENCE = 40000; // ms; a stream has signs of life every 15 s

/** Returns the header Authorization of a user. */
export function basic(user, password) {
  return `Basic ${btoa(Array.from(new TextEncoder().encode(`${user}:${password}`), (b) => String.fromCharCode(b)).join(''))}`;
}

export function logIn(authorization) { sessionStorage.setItem(KEY, authorization); }
export function logOut() { sessionStorage.removeItem(KEY); }
export function hasLogin() { return sessionStorage.getItem(KEY) !== null; }

/** What the server answers when it does not do what it is asked for. status is 0 when it does not answer. */
export class Refused extends Error {
  constructor(status, message, traceId) {
    super(message);
    this.status = status;
    this.traceId = traceId;
  }
}

/** Reports whether something fails for now: nothing or nonsense came back, or the server is busy. */
export const passing = ({ status }) => !(status >= 400 && status < 500 && status !== 429);

/** Says what is to be said while the page cannot follow the server. */
export const stale = (why) => `What is shown may be old: ${why}`;

/** Returns the error of a request that has none of the server. */
const unanswered = (err) => (err.name === 'AbortError' ? err : new Refused(0, `The server does not answer: ${err.message}`));

async function send(method, path, { body, headers = {}, signal } = {}) {
  // With X-Requested-With the server does not ask the browser to ask for a password: this page does.
  const all = { 'X-Requested-With': 'umbra-dashboard', ...headers };
  if (hasLogin()) all.Authorization = sessionStorage.getItem(KEY);
  let response;
  try {
    response = await fetch(path, { method, body, headers: all, signal, cache: 'no-store' });
  } catch (err) {
    throw unanswered(err);
  }
  if (response.ok) return response;
  const text = await response.text();
  let problem = {};
  try {
    problem = JSON.parse(text);
  } catch { /* it is from a proxy, perhaps */ }
  if (response.status === 401 && (all.Authorization ?? null) === sessionStorage.getItem(KEY)) dispatchEvent(new Event('umbra-unauthorized'));
  throw new Refused(response.status, problem.detail ?? problem.message ?? `${response.status} ${response.statusText}`, problem.traceId);
}

/** Makes a request and returns the JSON of its answer, null when it has none. */
export async function call(method, path, { signal, ...options } = {}) {
  const end = AbortSignal.any([AbortSignal.timeout(PATIENCE), ...(signal ? [signal] : [])]);
  const response = await send(method, path, { ...options, signal: end });
  const text = await response.text().catch((err) => { throw unanswered(err); });
  return text === '' ? null : parse(text);
}

export const get = (path, options) => call('GET', path, options);

/** Returns a path with names as its segments, and a query. */
export function url(segments, query = {}) {
  const path = segments.map((s) => `/${encodeURIComponent(s)}`).join('');
  const params = new URLSearchParams(Object.entries(query).filter(([, v]) => v !== '' && v !== undefined && v !== null));
  return params.size > 0 ? `${path}?${params}` : path;
}

/** Does something now and then every so many ms until signal is aborted, but not while nobody looks. */
export async function repeat(ms, signal, what) {
  while (!signal.aborted) {
    await what();
    await pause(ms, signal);
    await visible(signal);
  }
}

/** Waits, but not longer than until signal is aborted. */
export function pause(ms, signal) {
  return new Promise((resume) => {
    const done = () => { clearTimeout(timer); signal.removeEventListener('abort', done); resume(); };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done);
  });
}

/** Waits until somebody looks at the page, or signal is aborted. */
function visible(signal) {
  if (!document.hidden || signal.aborted) return null;
  return new Promise((resume) => {
    document.addEventListener('visibilitychange', resume, { once: true, signal });
    signal.addEventListener('abort', resume, { once: true });
  });
}

/**
 * Follows an event stream until signal is aborted, coming back where it was cut or fell silent. event gets each event; state
 * whether the stream is there. from is the last event that is known, nothing for what comes now. While nobody looks there is no stream:
 * a browser has six connections to a server for all tabs.
 */
export async function follow(path, { signal, from, event, state }) {
  let last = from;
  let wait = 1000;
  for (;;) {
    await visible(signal);
    if (signal.aborted) return;
    const end = new AbortController();
    document.addEventListener('visibilitychange', () => { if (document.hidden) end.abort(); }, { signal: end.signal });
    let timer;
    const alive = () => { clearTimeout(timer); timer = setTimeout(() => end.abort(), SILENCE); };
    let why = 'The server does not answer';
    try {
      alive();
      const response = await send('GET', path, { signal: AbortSignal.any([signal, end.signal]), headers: last === undefined ? {} : { 'Last-Event-ID': last } });
      state(true);
      wait = 1000;
      for await (const e of events(response.body)) {
        alive();
        last = e.id ?? last;
        if (e.data !== undefined) event(e);
      }
    } catch (err) {
      if (signal.aborted || document.hidden) continue;
      if (!passing(err)) {
        state(false, err.message);
        return;
      }
      if (err.status) why = err.message;
    } finally {
      clearTimeout(timer);
      end.abort();
    }
    state(false, stale(why));
    await pause(wait, signal);
    wait = Math.min(wait * 2, 15000);
  }
}

/** Reads server-sent events, as the WHATWG HTML standard has them. Those without data are signs of life. */
async function* events(body) {
  let rest = '';
  const decoder = new TextDecoder();
  for await (const chunk of chunks(body)) {
    rest += decoder.decode(chunk, { stream: true });
    const blocks = rest.split('\n\n');
    rest = blocks.pop();
    for (const block of blocks) yield readEvent(block);
  }
}

// Not all browsers iterate over streams.
async function* chunks(body) {
  const reader = body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

function readEvent(block) {
  const e = {};
  for (const line of block.split('\n')) {
    const [, field, value] = /^([a-z]+): ?(.*)$/.exec(line) ?? [];
    if (field === 'id' || field === 'event') e[field] = value;
    if (field === 'data') e.data = parse(value);
  }
  return e;
}
