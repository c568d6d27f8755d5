/** Header fields as Node gives them: names and values in turn, as they came. */
export type FlatHeaders = readonly string[]

const hopByHop: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'transfer-encoding',
  'upgrade',
])

/** The fields that go on to the next hop, in their order and spelling (RFC 9110, section 7.6.1). */
export function endToEndHeaders(headers: FlatHeaders): string[] {
  const named = connectionOptions(headers)
  const kept: string[] = []
  for (const [name, value] of fieldsOf(headers)) {
    const lower = name.toLowerCase()
    // A field that frames the message is never dropped at the sender's wish: the next hop would read it differently.
    if (hopByHop.has(lower) || (named.has(lower) && lower !== 'content-length' && lower !== 'host')) continue
    kept.push(name, value)
  }
  return kept
}

/** Names and values, pair by pair. */
export function* fieldsOf(headers: FlatHeaders): IterableIterator<readonly [string, string]> {
  for (let at = 0; at + 1 < headers.length; at += 2) yield [headers[at] ?? '', headers[at + 1] ?? '']
}

/** True when there is such a field; `name` in lower case. */
export function hasHeader(headers: FlatHeaders, name: string): boolean {
  for (const [field] of fieldsOf(headers)) if (field.toLowerCase() === name) return true
  return false
}

function connectionOptions(headers: FlatHeaders): ReadonlySet<string> {
  const options = new Set<string>()
  for (const [name, value] of fieldsOf(headers)) {
    if (name.toLowerCase() !== 'connection') continue
    for (const option of value.split(',')) options.add(option.trim().toLowerCase())
  }
  return options
}
