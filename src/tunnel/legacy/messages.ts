/*
 * The messages of the Go system's protocols: proto2, each after its length as an unsigned varint.
 *
 *     Discovery  1 type   2 protocol ("MDNS", "DHT")   3 node name
 *     Proxy      1 type   2 protocol ("tcp", "udp")    3 node name   4 ip   5 port
 *     type       0 CONNECT   1 SUCCESS   2 FAILED
 */
import type { ByteStream } from '../../net/index.ts'
import { bytesField, delimited, fieldsOf, numberField, readDelimited, writeDelimited } from './protobuf.ts'

/** What a message says; the Go system's numbers. */
export const messageTypes = { connect: 0, success: 1, failed: 2 } as const

/** A Discovery or Proxy message; fields that a message lacks are absent. */
export interface LegacyMessage {
  readonly type: number
  readonly protocol?: string
  readonly nodeName?: string
  readonly ip?: string
  readonly port?: number
}

/** The Go system reads no longer messages, and neither do we. */
const limitBytes = 4096

const textFields = { 2: 'protocol', 3: 'nodeName', 4: 'ip' } as const

/** The message with its length before it; the type is written also when it is zero, as the Go system does. */
export function encodeMessage(message: LegacyMessage): Buffer {
  const fields = [numberField(1, message.type)]
  for (const [number, name] of Object.entries(textFields)) {
    const text = message[name]
    if (text !== undefined) fields.push(bytesField(Number(number), text))
  }
  if (message.port !== undefined) fields.push(numberField(5, message.port))
  return delimited(fields)
}

/** Reads the body of a message; unknown fields are skipped. Throws a `FrameError` when it is none. */
export function decodeMessage(bytes: Uint8Array): LegacyMessage {
  const message: { -readonly [K in keyof LegacyMessage]: LegacyMessage[K] } = { type: messageTypes.connect }
  for (const [field, value] of fieldsOf(bytes)) {
    const name = textFields[field as keyof typeof textFields]
    if (typeof value === 'number') {
      if (field === 1) message.type = value
      if (field === 5) message.port = value
    } else if (name !== undefined) message[name] = value.toString('utf8')
  }
  return message
}

/** Writes a message; whoever waits for room waits for the stream's `drain` alone. */
export function writeMessage(stream: ByteStream, message: LegacyMessage): void {
  writeDelimited(stream, encodeMessage(message))
}

/** Reads one message and leaves the bytes after it in the stream; undefined when the far end ended before it. */
export async function readMessage(stream: ByteStream, signal: AbortSignal): Promise<LegacyMessage | undefined> {
  const body = await readDelimited(stream, limitBytes, signal)
  return body && decodeMessage(body)
}
