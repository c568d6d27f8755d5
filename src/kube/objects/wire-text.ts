import type { Field } from './field.ts'

/**
 * The value of a header in the bytes it has on the wire, one character each: what is not ASCII goes as UTF-8. Throws
 * for control characters, which could end the header and begin another.
 */
export function headerValue(field: Field): string {
  const text = field.text()
  if (/[^\t\x20-\x7e\x80-\uffff]/.test(text)) throw field.error('must not hold line ends or other control characters')
  return Buffer.from(text, 'utf8').toString('latin1')
}

/** A part of a URL as it is written into a message; empty when absent. Throws for what must be percent-encoded there. */
export function urlText(field: Field): string {
  const text = field.text()
  if (!/^[\x21-\x7e]*$/.test(text)) throw field.error('must be percent-encoded where it is not printable ASCII')
  return text
}

/** A name such as that of a cookie; empty when absent. */
export function tokenText(field: Field): string {
  const text = field.text()
  if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]*$/.test(text)) throw field.error('must be letters, digits and -')
  return text
}
