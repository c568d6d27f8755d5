import { ipv4ToNumber } from '../../model/index.ts'

/** Where a value sits in an object: keys and list positions from the root. */
export type FieldPath = readonly (string | number)[]

/** An object that is not what its kind promises; names the field and the value found there. */
export class ObjectParseError extends Error {
  override readonly name = 'ObjectParseError'
  readonly code = 'EDGEMESH_OBJECT_INVALID'
  readonly path: FieldPath
  readonly value: unknown

  constructor(path: FieldPath, value: unknown, problem: string) {
    super(`${renderPath(path)}: ${problem}, found ${renderValue(value)}`)
    this.path = path
    this.value = value
  }
}

/**
 * A value from outside and where it sits. Reads are as tolerant as an API client must be: null and absent are the
 * same, unknown fields are never looked at; a value of the wrong type throws an `ObjectParseError`.
 */
export class Field {
  readonly value: unknown
  /** The field that this one is in, or the path of a first one. */
  readonly #above: Field | FieldPath
  readonly #key: string | number

  constructor(value: unknown, above: Field | FieldPath = [], key: string | number = '') {
    this.value = value
    this.#above = above
    this.#key = key
  }

  /** Made only when it is asked for, which is mostly never: a list has some hundred thousand fields. */
  get path(): FieldPath {
    return this.#above instanceof Field ? [...this.#above.path, this.#key] : this.#above
  }

  /** The path as text, for people: `spec.ports[0].port`. */
  get where(): string {
    return renderPath(this.path)
  }

  get isAbsent(): boolean {
    return this.value === undefined || this.value === null
  }

  /** The field below this one; absent when this one is. */
  at(...keys: readonly string[]): Field {
    let field: Field = this
    for (const key of keys) field = new Field(field.#record()?.[key], field, key)
    return field
  }

  /** The items of a list; none when it is absent. */
  items(): readonly Field[] {
    if (this.isAbsent) return []
    if (!Array.isArray(this.value)) throw this.error('must be a list')
    return this.value.map((item, index) => new Field(item, this, index))
  }

  /** Text; empty when absent. */
  text(): string {
    if (this.isAbsent) return ''
    if (typeof this.value !== 'string') throw this.error('must be text')
    return this.value
  }

  /** True or false; `whenAbsent` when there is nothing. */
  flag(whenAbsent: boolean): boolean {
    if (this.isAbsent) return whenAbsent
    if (typeof this.value !== 'boolean') throw this.error('must be true or false')
    return this.value
  }

  /** A whole number of that range; undefined when absent. */
  integer(least: number, most: number): number | undefined {
    if (this.isAbsent) return undefined
    const { value } = this
    if (typeof value !== 'number' || !Number.isInteger(value) || value < least || value > most) {
      throw this.error(`must be a whole number from ${least} to ${most}`)
    }
    return value
  }

  /** A number of that range; undefined when absent. */
  number(least: number, most: number): number | undefined {
    if (this.isAbsent) return undefined
    const { value } = this
    if (typeof value !== 'number' || !(value >= least && value <= most)) {
      throw this.error(`must be a number from ${least} to ${most}`)
    }
    return value
  }

  /** The keys of a map; none when it is absent. */
  keys(): readonly string[] {
    return Object.keys(this.#record() ?? {})
  }

  /** A map of text to text; empty when absent. */
  textMap(): Readonly<Record<string, string>> {
    const entries = this.keys().map((key) => [key, this.at(key).text()] as const)
    return Object.fromEntries(entries)
  }

  /** Canonical text of an IP address. */
  ip(): string {
    const address = canonicalIpOf(this.text())
    if (address === undefined) throw this.error('must be an IP address')
    return address
  }

  /** A lower-case DNS name, as names of objects, host names and external names are. */
  dnsName(): string {
    const name = this.text()
    if (name === '') throw this.error('is missing')
    if (name.length > 253 || !name.split('.').every((label) => dnsLabel.test(label))) {
      throw this.error('must be a DNS name of lower-case letters, digits, "-" and "."')
    }
    return name
  }

  /** An error about this field. */
  error(problem: string): ObjectParseError {
    return new ObjectParseError(this.path, this.value, problem)
  }

  #record(): Readonly<Record<string, unknown>> | undefined {
    if (this.isAbsent) return undefined
    if (typeof this.value !== 'object' || Array.isArray(this.value)) throw this.error('must be a map')
    return this.value as Record<string, unknown>
  }
}

const dnsLabel = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/

/** Canonical text of an IPv4 or IPv6 address, so that equal addresses are equal text; undefined for other text. */
export function canonicalIpOf(text: string): string | undefined {
  if (ipv4ToNumber(text) !== undefined) return text
  if (!/^[0-9a-fA-F:.]*:[0-9a-fA-F:.]*$/.test(text)) return undefined
  const url = URL.parse(`http://[${text}]/`)
  return url === null ? undefined : url.hostname.slice(1, -1)
}

function renderPath(path: FieldPath): string {
  if (path.length === 0) return 'object'
  return path
    .map((key) => (typeof key === 'number' ? `[${key}]` : `.${key}`))
    .join('')
    .replace(/^\./, '')
}

function renderValue(value: unknown): string {
  if (value === undefined || value === null) return 'nothing'
  const text = JSON.stringify(value)
  return text.length > 60 ? `${text.slice(0, 57)}...` : text
}
