import type { Secret } from '../../model/index.ts'
import { Field } from './field.ts'
import { parseIdentity } from './metadata.ts'

/** A core/v1 Secret; `stringData`, which only files have, counts like `data`. Throws `ObjectParseError`. */
export function parseSecret(value: unknown): Secret {
  const object = new Field(value)
  const written = Object.entries(object.at('stringData').textMap())
  const encoded = written.map(([key, text]) => [key, Buffer.from(text).toString('base64')])
  return { ...parseIdentity(object), data: { ...object.at('data').textMap(), ...Object.fromEntries(encoded) } }
}
