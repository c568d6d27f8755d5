import { bytesOf, type ElementTypes, parseElementTypes, readParts, writeParts } from './element-codec.ts'
import type { ElementChange, TableElement } from './ruleset-applier.ts'

/*
 * One transaction of nftables, see the kernel's include/uapi/linux/netfilter/nf_tables.h:
 *
 *   BEGIN | flush chain ... | flush set ... | delete elements ... | add elements ... | END
 *
 *   message:   length u32, type u16, flags u16, sequence u32, port u32, family u8, version u8, resource u16, attributes
 *   attribute: length u16, type u16, value, padding to 4 bytes
 *   elements:  TABLE, SET, ELEMENTS [ ELEMENT [ KEY [ VALUE ], KEY_END [ VALUE ], DATA [ VALUE | VERDICT [ ... ] ] ] ... ]
 */
const headBytes = 20
const familyIpv4 = 2
const subsystem = 10
const types = { begin: 16, end: 17, deleteRule: (subsystem << 8) | 8 }
const elementTypes = { add: (subsystem << 8) | 12, delete: (subsystem << 8) | 14 }
const flags = { request: 1, acknowledge: 4, create: 0x400 }
const nested = 0x8000
/** In messages about rules as well as about elements. */
const names = { table: 1, chainOrSet: 2 }
const listAttributes = { elements: 3 }
const elementAttribute = 1
const elementAttributes = { key: 1, data: 2, keyEnd: 10 }
const dataAttributes = { value: 1, verdict: 2 }
const verdictAttributes = { code: 1, chain: 2 }
const verdictCodes: Readonly<Record<string, number>> = { drop: 0, accept: 1, jump: -3, goto: -4 }
/** The length of an attribute has 16 bits; an element is far smaller than what is left. */
const fullListBytes = 60_000
/** An element without the name of its chain. */
const elementBytes = 128

/** Encodes a transaction on our table in family ip; throws at elements that do not fit their containers. */
export function encodeBatch(table: string, change: ElementChange): Buffer {
  const emptied: Buffer[] = []
  for (const chain of change.emptiedChains ?? []) emptied.push(messageAbout(types.deleteRule, table, chain))
  for (const name of change.emptied ?? []) emptied.push(messageAbout(elementTypes.delete, table, name))
  const changes = [
    ...encodeElements(table, change, 'delete', change.removed ?? []),
    ...encodeElements(table, change, 'add', change.added ?? []),
  ]
  const batch = Buffer.concat([boundary(types.begin), ...emptied, ...changes, boundary(types.end)])
  number(batch)
  return batch
}

/** Messages are known by their place in the batch; the last but one, which every batch needs, is acknowledged. */
function number(batch: Buffer): void {
  const starts = [...messagesIn(batch)]
  for (const [sequence, start] of starts.entries()) batch.writeUInt32LE(sequence, start + 8)
  const last = starts.at(-2)
  if (last !== undefined) batch.writeUInt16LE(batch.readUInt16LE(last + 6) | flags.acknowledge, last + 6)
}

function* messagesIn(batch: Buffer): Generator<number> {
  for (let start = 0; start < batch.length; start += batch.readUInt32LE(start)) yield start
}

function encodeElements(
  table: string,
  { containers }: ElementChange,
  verb: 'add' | 'delete',
  elements: Iterable<TableElement>,
): Buffer[] {
  const writers = new Map<string, ElementWriter>()
  for (const element of elements) {
    let writer = writers.get(element.container)
    if (writer === undefined) {
      const shape = containers.get(element.container)?.shape
      if (shape === undefined) throw new Error(`Cannot encode elements of ${element.container}: its shape is not known`)
      writer = new ElementWriter(table, element.container, verb, parseElementTypes(shape))
      writers.set(element.container, writer)
    }
    writer.write(element)
  }
  return [...writers.values()].map((writer) => writer.finished())
}

/** Writes elements of one container, and begins a new message where one is full. */
class ElementWriter {
  readonly #head: Buffer
  readonly #verb: 'add' | 'delete'
  readonly #types: ElementTypes
  #bytes = Buffer.alloc(1024)
  #length = 0
  /** Where the message begins that is being written, and its list; -1 before the first. */
  #message = -1
  #list = 0

  constructor(table: string, container: string, verb: 'add' | 'delete', elementTypesOf: ElementTypes) {
    this.#head = messageAbout(elementTypes[verb], table, container)
    this.#verb = verb
    this.#types = elementTypesOf
  }

  write({ key, value = '' }: TableElement): void {
    this.#reserve(this.#head.length + 4 + elementBytes + value.length)
    if (this.#message < 0 || this.#length - this.#list > fullListBytes) this.#begin()
    const { key: parts, isInterval } = this.#types
    const element = this.#open(elementAttribute)
    this.#writeValue(elementAttributes.key, key, { types: parts, side: isInterval ? 'first' : 'only' })
    if (isInterval) this.#writeValue(elementAttributes.keyEnd, key, { types: parts, side: 'last' })
    // What is deleted is named by its key alone.
    if (this.#verb === 'add') this.#writeData(value)
    this.#close(element)
  }

  #writeData(value: string): void {
    const { value: data } = this.#types
    if (data === undefined) return
    if (data === 'verdict') this.#writeVerdict(value)
    else this.#writeValue(elementAttributes.data, value, { types: data, side: 'only' })
  }

  finished(): Buffer {
    this.#end()
    return this.#bytes.subarray(0, this.#length)
  }

  #begin(): void {
    this.#end()
    this.#message = this.#length
    this.#head.copy(this.#bytes, this.#length)
    this.#length += this.#head.length
    this.#list = this.#open(listAttributes.elements)
  }

  #end(): void {
    if (this.#message < 0) return
    this.#close(this.#list)
    this.#bytes.writeUInt32LE(this.#length - this.#message, this.#message)
  }

  #writeValue(attribute: number, text: string, parts: Parameters<typeof writeParts>[3]): void {
    const outer = this.#open(attribute)
    const size = bytesOf(parts.types)
    const start = this.#attribute(dataAttributes.value, size)
    writeParts(this.#bytes, start, text, parts)
    this.#close(outer)
  }

  #writeVerdict(text: string): void {
    const [word = '', chain] = text.split(' ')
    const code = verdictCodes[word]
    if (code === undefined) throw new Error(`Cannot encode the verdict "${text}"`)
    const outer = this.#open(elementAttributes.data)
    const verdict = this.#open(dataAttributes.verdict)
    this.#bytes.writeInt32BE(code, this.#attribute(verdictAttributes.code, 4))
    if (chain !== undefined) {
      const start = this.#attribute(verdictAttributes.chain, chain.length + 1)
      this.#bytes.write(chain, start, 'latin1')
    }
    this.#close(verdict)
    this.#close(outer)
  }

  /** Begins an attribute that holds others. */
  #open(type: number): number {
    const start = this.#length
    this.#bytes.writeUInt16LE(type | nested, start + 2)
    this.#length += 4
    return start
  }

  #close(start: number): void {
    this.#bytes.writeUInt16LE(this.#length - start, start)
  }

  /** Makes room for a value of zeros, and tells where. */
  #attribute(type: number, size: number): number {
    const start = this.#length
    this.#bytes.writeUInt16LE(4 + size, start)
    this.#bytes.writeUInt16LE(type, start + 2)
    this.#length += 4 + padded(size)
    return start + 4
  }

  #reserve(more: number): void {
    if (this.#length + more <= this.#bytes.length) return
    const larger = Buffer.alloc(2 * (this.#length + more))
    this.#bytes.copy(larger, 0, 0, this.#length)
    this.#bytes = larger
  }
}

/** A message about a chain or set of our table: alone it empties it. */
function messageAbout(type: number, table: string, name: string): Buffer {
  const attributes = [stringAttribute(names.table, table), stringAttribute(names.chainOrSet, name)]
  const message = Buffer.concat([Buffer.alloc(headBytes), ...attributes])
  message.writeUInt32LE(message.length, 0)
  message.writeUInt16LE(type, 4)
  message.writeUInt16LE(flags.request | (type === elementTypes.add ? flags.create : 0), 6)
  message[16] = familyIpv4
  return message
}

function boundary(type: number): Buffer {
  const message = Buffer.alloc(headBytes)
  message.writeUInt32LE(message.length, 0)
  message.writeUInt16LE(type, 4)
  message.writeUInt16LE(flags.request, 6)
  message.writeUInt16BE(subsystem, 18)
  return message
}

function stringAttribute(type: number, text: string): Buffer {
  const attribute = Buffer.alloc(padded(4 + text.length + 1))
  attribute.writeUInt16LE(4 + text.length + 1, 0)
  attribute.writeUInt16LE(type, 2)
  attribute.write(text, 4, 'latin1')
  return attribute
}

const padded = (length: number): number => (length + 3) & ~3

/** What the kernel says to a batch. */
export interface BatchAnswer {
  /** Whether it was done; else there is a refusal, unless answers got lost. */
  readonly isDone: boolean
  readonly refusal?: {
    readonly errno: number
    /** The container or chain, and the element of it, as far as the kernel tells. */
    readonly name?: string | undefined
    readonly key?: string | undefined
  }
}

const errorType = 2
const answerFlags = { details: 0x200 }
const detailAttributes = { offset: 2 }

/** Reads the kernel's answers to a batch that was encoded from the change. */
export function readAnswers(answers: Buffer, batch: Buffer, { containers }: ElementChange): BatchAnswer {
  const starts = [...messagesIn(batch)]
  let isDone = false
  for (let at = 0; at + 36 <= answers.length; at += padded(Math.max(16, answers.readUInt32LE(at)))) {
    if (answers.readUInt16LE(at + 4) !== errorType) continue
    const errno = -answers.readInt32LE(at + 16)
    const sequence = answers.readUInt32LE(at + 8)
    if (errno === 0) {
      isDone ||= sequence === starts.length - 2
      continue
    }
    const start = starts[sequence]
    const message = start === undefined ? undefined : batch.subarray(start, start + batch.readUInt32LE(start))
    return { isDone: false, refusal: { errno, ...describe(message, offsetIn(answers, at), containers) } }
  }
  return { isDone }
}

/** Which byte of the message the kernel complains about. */
function offsetIn(answers: Buffer, at: number): number | undefined {
  if ((answers.readUInt16LE(at + 6) & answerFlags.details) === 0) return undefined
  // After the error come the head of the message in question, and then details.
  const end = Math.min(answers.length, at + answers.readUInt32LE(at))
  for (let detail = at + 36; detail + 8 <= end; detail += padded(Math.max(4, answers.readUInt16LE(detail)))) {
    if (answers.readUInt16LE(detail + 2) === detailAttributes.offset) return answers.readUInt32LE(detail + 4)
  }
  return undefined
}

function describe(
  message: Buffer | undefined,
  offset: number | undefined,
  containers: ElementChange['containers'],
): { readonly name?: string; readonly key?: string } {
  if (message === undefined || message.length <= headBytes) return {}
  const nameStart = headBytes + padded(message.readUInt16LE(headBytes))
  const name = message.toString('latin1', nameStart + 4, nameStart + message.readUInt16LE(nameStart) - 1)
  const shape = containers.get(name)?.shape
  // An element, its key, and the bytes of that stand one in the other.
  if (shape === undefined || offset === undefined || offset + 12 > message.length) return { name }
  const { key: parts } = parseElementTypes(shape)
  const key = message.subarray(offset + 12)
  return key.length < bytesOf(parts) ? { name } : { name, key: readParts(key, parts) }
}
