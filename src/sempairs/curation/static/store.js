// What this browser remembers. Works, for the life of the page, where storage is forbidden or full.

const memory = new Map();

export function load(key, otherwise = null) {
  try {
    const text = localStorage.getItem(key);
    return text === null ? (memory.get(key) ?? otherwise) : JSON.parse(text);
  } catch {
    return memory.get(key) ?? otherwise;
  }
}

/** Whether the value will survive the page. */
export function save(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
    memory.delete(key);
    return true;
  } catch {
    memory.set(key, value);
    return false;
  }
}

export function remove(key) {
  memory.delete(key);
  try {
    localStorage.removeItem(key);
  } catch {
    // nothing was stored there
  }
}

/** All keys with a prefix, sorted. */
export function keys(prefix) {
  const found = new Set([...memory.keys()].filter((key) => key.startsWith(prefix)));
  try {
    for (let i = 0; i < localStorage.length; i += 1) {
      const key = localStorage.key(i);
      if (key.startsWith(prefix)) found.add(key);
    }
  } catch {
    // storage is forbidden: the memory is all there is
  }
  return [...found].sort();
}
