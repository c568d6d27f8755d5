/** What one part of a key or value is; nftables knows more, our table uses these. */
type PartType = 'inet_proto' | 'ipv4_addr' | 'inet_service'

/** What the elements of a container are made of. */
export interface ElementTypes {
  readonly key: readonly PartType[]
  /** Absent in a set. */
  readonly value?: readonly PartType[] | 'verdict'
  /** Keys are ranges: each part of an address may be a network. */
  readonly isInterval: boolean
}

const partBytes: Readonly<Record<string, number>> = { inet_proto: 1, ipv4_addr: 4, inet_service: 2 }
const protocolNumbers: Readonly<Record<string, number>> = { tcp: 6, udp: 17, sctp: 132 }
const separator = ' . '

/** Reads the lines between a container's braces; throws at types that this codec does not know. */
export function parseElementTypes(shape: readonly string[]): ElementTypes {
  const line = shape.find((statement) => statement.startsWith('type '))
  const [key = '', value] = (line ?? '').slice('type '.length).split(' : ')
  const isInterval = shape.some((statement) => /^flags .*\binterval\b/.test(statement))
  if (value === undefined) return { key: parsePartTypes(key), isInterval }
  return { key: parsePartTypes(key), value: value === 'verdict' ? value : parsePartTypes(value), isInterval }
}

function parsePartTypes(text: string): PartType[] {
  return text.split(separator).map((name) => {
    if (!isPartType(name))
      throw new Error(`Cannot encode elements of type "${text}": ${name || 'nothing'} is not known`)
    return name
  })
}

const isPartType = (name: string): name is PartType => name in partBytes

/** How many bytes a key or value takes: parts that are joined are padded to 4 each, a single one is not. */
export function bytesOf(types: readonly PartType[]): number {
  const [only = ''] = types
  return types.length === 1 ? (partBytes[only] ?? 0) : 4 * types.length
}

/**
 * Writes a key or value such as `tcp . 10.96.0.1 . 80`, whose bytes must be zero before; of a network its first address,
 * or its last. Throws where the text does not fit the types.
 */
export function writeParts(
  bytes: Buffer,
  at: number,
  text: string,
  { types, side }: { readonly types: readonly PartType[]; readonly side: 'first' | 'last' | 'only' },
): void {
  const reader = new PartReader(text)
  for (const [index, type] of types.entries()) {
    if (index > 0) reader.skip(separator)
    const start = at + 4 * index
    if (type === 'inet_proto') bytes[start] = reader.protocol()
    else if (type === 'inet_service') bytes.writeUInt16BE(reader.number(65_535), start)
    else bytes.writeUInt32BE(reader.address(side), start)
  }
  reader.end()
}

/** The text of a key, as nft would write it. */
export function readParts(bytes: Buffer, types: readonly PartType[]): string {
  const texts = types.map((type, index) => {
    const start = 4 * index
    if (type === 'inet_service') return bytes.readUInt16BE(start)
    if (type === 'ipv4_addr') return bytes.subarray(start, start + 4).join('.')
    const number = bytes[start]
    return Object.keys(protocolNumbers).find((name) => protocolNumbers[name] === number) ?? number
  })
  return texts.join(separator)
}

/** Reads part after part without cutting the text into pieces: there are hundreds of thousands of them. */
class PartReader {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  skip(expected: string): void {
    if (!this.#text.startsWith(expected, this.#at)) this.#fail()
    this.#at += expected.length
  }

  protocol(): number {
    const end = this.#text.indexOf(' ', this.#at)
    const name = this.#text.slice(this.#at, end < 0 ? undefined : end)
    this.#at += name.length
    return protocolNumbers[name] ?? this.#fail()
  }

  number(most: number): number {
    const start = this.#at
    let value = 0
    for (;;) {
      const digit = this.#text.charCodeAt(this.#at) - 48
      // Also true at the end, where there is no character.
      if (!(digit >= 0 && digit <= 9)) break
      value = value * 10 + digit
      this.#at += 1
    }
    return this.#at === start || value > most ? this.#fail() : value
  }

  address(side: 'first' | 'last' | 'only'): number {
    let address = this.number(255)
    for (let octet = 1; octet < 4; octet++) {
      this.skip('.')
      address = address * 256 + this.number(255)
    }
    if (this.#text[this.#at] !== '/') return address
    if (side === 'only') this.#fail()
    this.#at += 1
    const size = 2 ** (32 - this.number(32))
    const first = address - (address % size)
    return side === 'first' ? first : first + size - 1
  }

  end(): void {
    if (this.#at !== this.#text.length) this.#fail()
  }

  #fail(): never {
    throw new Error(`Cannot encode the element "${this.#text}": it does not fit its container at character ${this.#at}`)
  }
}
