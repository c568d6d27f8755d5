import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { encodeBatch, readAnswers } from './netfilter-batch.ts'
import { decodeAttributes, encodeAttribute } from './netlink.ts'
import type { ElementChange, TableElement } from './ruleset-applier.ts'

const containers = new Map([
  ['service', { shape: ['type inet_proto . ipv4_addr . inet_service : verdict'] }],
  ['slot-0', { shape: ['type inet_proto . inet_service : ipv4_addr . inet_service'] }],
  ['hairpin', { shape: ['type ipv4_addr . ipv4_addr'] }],
  ['ranges', { shape: ['type inet_service . ipv4_addr', 'flags interval'] }],
])
const names = { 16: 'begin', 17: 'end', 2568: 'flush chain', 2572: 'add', 2574: 'delete' } as Record<number, string>

interface Message {
  readonly verb: string
  readonly flags: number
  readonly name: string
  readonly bytes: number
  readonly elements: readonly Buffer[]
}

/** Reads a batch as the kernel would. */
function messagesIn(batch: Buffer): Message[] {
  const messages: Message[] = []
  for (let at = 0; at < batch.length; ) {
    const length = batch.readUInt32LE(at)
    assert.equal(length % 4, 0)
    assert.equal(batch.readUInt32LE(at + 8), messages.length, 'messages are numbered')
    const attributes = decodeAttributes(batch.subarray(at + 20, at + length))
    messages.push({
      verb: names[batch.readUInt16LE(at + 4)] ?? 'unknown',
      flags: batch.readUInt16LE(at + 6),
      name: textOf(attributes.get(2)),
      bytes: length,
      elements: listIn(attributes.get(3)),
    })
    if (messages.length === 1 || at + length === batch.length) assert.equal(batch.readUInt16BE(at + 18), 10)
    else assert.equal(textOf(attributes.get(1)), 'edgemesh')
    at += length
  }
  return messages
}

const textOf = (value: Buffer | undefined): string => value?.toString().replace('\0', '') ?? ''

function listIn(list: Buffer = Buffer.alloc(0)): Buffer[] {
  const elements: Buffer[] = []
  for (let at = 0; at < list.length; at += list.readUInt16LE(at)) {
    elements.push(list.subarray(at + 4, at + list.readUInt16LE(at)))
  }
  return elements
}

const hexIn = (value: Buffer | undefined, ...path: readonly number[]): string | undefined =>
  path.reduce<Buffer | undefined>((at, type) => at && decodeAttributes(at).get(type), value)?.toString('hex')

const batchOf = (change: Omit<ElementChange, 'containers'>): Buffer =>
  encodeBatch('edgemesh', { containers, ...change })

suite('a batch', () => {
  const change = {
    emptiedChains: ['slots-5'],
    emptied: ['hairpin'],
    removed: [{ container: 'service', key: 'tcp . 10.96.0.1 . 80' }],
    added: [
      { container: 'service', key: 'tcp . 10.96.0.2 . 80', value: 'jump slots-3' },
      { container: 'slot-0', key: 'tcp . 30080', value: '10.244.1.2 . 8080' },
      { container: 'service', key: 'udp . 10.96.0.3 . 53', value: 'drop' },
      { container: 'ranges', key: '80 . 10.0.0.0/8' },
    ],
  }
  const messages = messagesIn(batchOf(change))

  test('empties, then deletes, then adds, between a begin and an end', () => {
    assert.deepEqual(
      messages.map(({ verb, name, elements }) => `${verb} ${name} ${elements.length}`),
      [
        'begin  0',
        'flush chain slots-5 0',
        'delete hairpin 0',
        'delete service 1',
        'add service 2',
        'add slot-0 1',
        'add ranges 1',
        'end  0',
      ],
    )
  })

  test('asks to be told of its last change, and of errors anyway', () => {
    const acknowledge = 4
    assert.deepEqual(
      messages.flatMap(({ flags }, at) => ((flags & acknowledge) === 0 ? [] : [at])),
      [messages.length - 2],
    )
  })

  test('names what is deleted by its key alone', () => {
    const [element] = messages[3]?.elements ?? []
    assert.equal(hexIn(element, 1, 1), '060000000a60000100500000')
    assert.equal(hexIn(element, 2), undefined)
  })

  test('leads to chains, to a verdict, or to a value', () => {
    const [jump, drop] = messages[4]?.elements ?? []
    assert.equal(hexIn(jump, 2, 2, 1), 'fffffffd')
    assert.equal(Buffer.from(hexIn(jump, 2, 2, 2) ?? '', 'hex').toString(), 'slots-3\0')
    assert.equal(hexIn(drop, 2, 2, 1), '00000000')
    assert.equal(hexIn(drop, 2, 2, 2), undefined)
    assert.equal(hexIn(messages[5]?.elements[0], 2, 1), '0af401021f900000')
  })

  test('gives ranges two ends', () => {
    const [range] = messages[6]?.elements ?? []
    assert.equal(hexIn(range, 1, 1), '005000000a000000')
    assert.equal(hexIn(range, 10, 1), '005000000affffff')
  })

  test('begins a new message before the list of one is too long for its length', () => {
    const added: TableElement[] = Array.from({ length: 20_000 }, (_, at) => {
      return { container: 'hairpin', key: `10.1.${at >> 8}.${at & 255} . 10.1.${at >> 8}.${at & 255}` }
    })
    const adds = messagesIn(batchOf({ added })).filter(({ verb }) => verb === 'add')
    assert.ok(adds.length > 5)
    assert.ok(adds.every(({ bytes }) => bytes < 65_536))
    const keys = adds.flatMap(({ elements }) => elements.map((element) => hexIn(element, 1, 1)))
    assert.equal(keys.length, added.length)
    assert.equal(new Set(keys).size, added.length)
    assert.equal(keys[257], '0a0101010a010101')
  })

  test('of what nobody declared, or what does not fit, is not made', () => {
    assert.throws(() => batchOf({ added: [{ container: 'other', key: '1' }] }), /elements of other: its shape/)
    assert.throws(() => batchOf({ removed: [{ container: 'hairpin', key: '10.0.0.1' }] }), /"10\.0\.0\.1"/)
    const wrong = { container: 'service', key: 'tcp . 10.96.0.2 . 80', value: 'queue' }
    assert.throws(() => batchOf({ added: [wrong] }), /verdict "queue"/)
  })
})

suite('the answers of the kernel', () => {
  const change: ElementChange = {
    containers,
    removed: [{ container: 'hairpin', key: '10.0.0.1 . 10.0.0.1' }],
    added: [
      { container: 'service', key: 'tcp . 10.96.0.2 . 80', value: 'jump slots-3' },
      { container: 'service', key: 'udp . 10.96.0.3 . 53', value: 'drop' },
    ],
  }
  const batch = encodeBatch('edgemesh', change)
  const read = (...answers: readonly Buffer[]) => readAnswers(Buffer.concat(answers), batch, change)

  test('say that it is done when the last change is acknowledged and nothing is refused', () => {
    assert.deepEqual(read(answer(2, 0)), { isDone: true })
    assert.deepEqual(read(), { isDone: false })
    assert.deepEqual(read(answer(1, 0)), { isDone: false })
  })

  test('name the element that is refused where the kernel tells its place', () => {
    const second = batch.indexOf(Buffer.from('110000000a600003', 'hex')) - 12
    const start = batch.indexOf(Buffer.from('service\0')) - 40
    assert.deepEqual(read(answer(1, 0), answer(2, 17, second - start), answer(2, 0)), {
      isDone: false,
      refusal: { errno: 17, name: 'service', key: 'udp . 10.96.0.3 . 53' },
    })
  })

  test('name the container where it does not, and nothing where the whole is refused', () => {
    assert.deepEqual(read(answer(1, 2)).refusal, { errno: 2, name: 'hairpin' })
    assert.deepEqual(read(answer(1, 2, 60_000)).refusal, { errno: 2, name: 'hairpin' })
    assert.deepEqual(read(answer(0, 1)).refusal, { errno: 1 })
    assert.deepEqual(read(answer(99, 1)).refusal, { errno: 1 })
  })

  test('that are cut off or something else are none', () => {
    const other = answer(2, 0)
    other.writeUInt16LE(3, 4)
    assert.deepEqual(read(other), { isDone: false })
    assert.deepEqual(read(answer(2, 0).subarray(0, 30)), { isDone: false })
    const endless = answer(1, 0)
    endless.writeUInt32LE(0, 0)
    assert.deepEqual(read(endless), { isDone: false })
  })
})

/** NLMSG_ERROR as the kernel sends it: the error, the head of the message it is about, and details. */
function answer(sequence: number, errno: number, offset?: number): Buffer {
  const details = offset === undefined ? [] : [encodeAttribute(2, Buffer.from(new Uint32Array([offset]).buffer))]
  const bytes = Buffer.concat([Buffer.alloc(36), ...details])
  bytes.writeUInt32LE(bytes.length, 0)
  bytes.writeUInt16LE(2, 4)
  bytes.writeUInt16LE(0x100 | (offset === undefined ? 0 : 0x200), 6)
  bytes.writeUInt32LE(sequence, 8)
  bytes.writeInt32LE(-errno, 16)
  return bytes
}
