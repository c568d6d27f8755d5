/** A request's target as rules see it. */
export interface RequestPath {
  /** Without dot segments; percent-encoded as it came. */
  readonly path: string
  /** With its question mark; empty when there is none. */
  readonly query: string
}

const suspicious = /\/\.|%2e|\\/i

/**
 * Splits and normalises the path of a request: `.` and `..` segments, also written as `%2e`, are resolved and
 * backslashes become slashes, so that no rule can be got round by writing its path in another way. Undefined for a path
 * that leaves the root.
 */
export function parseRequestPath(target: string): RequestPath | undefined {
  const mark = target.indexOf('?')
  const path = mark === -1 ? target : target.slice(0, mark)
  const query = mark === -1 ? '' : target.slice(mark)
  if (!suspicious.test(path)) return { path, query }
  const resolved = removeDotSegments(path.replaceAll('\\', '/').replace(/%2e/gi, '.'))
  return resolved === undefined ? undefined : { path: resolved, query }
}

function removeDotSegments(path: string): string | undefined {
  const kept: string[] = []
  const segments = path.split('/').slice(1)
  for (const segment of segments) {
    if (segment !== '.' && segment !== '..') kept.push(segment)
    if (segment === '..' && kept.pop() === undefined) return undefined
  }
  const last = segments.at(-1)
  // What a dot segment at the end leaves is a folder.
  if (last === '.' || last === '..') kept.push('')
  return `/${kept.join('/')}`
}

/** The first value of each parameter, decoded. */
export function parseQuery(query: string): ReadonlyMap<string, string> {
  const values = new Map<string, string>()
  for (const [name, value] of new URLSearchParams(query)) {
    if (!values.has(name)) values.set(name, value)
  }
  return values
}
