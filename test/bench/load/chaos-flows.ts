/** What both ends of the chaos run's flows agree on. */
import process from 'node:process'
import { testByteSource } from '../../lab/servers/bytes.ts'

/** Ports of the Services and of their pods. */
export const chaosPorts = { flows: 9100, http: 9180, udp: 9153 } as const

/**
 * - `stream`: both ends send some kilobytes ten times a second.
 * - `lines`: a line now and then, which comes back.
 * - `download`: the client has nothing more to say after the head; the server sends as in `stream`.
 * - `gulps`: the server sends as fast as the client reads, which is seldom.
 * - `fetch`, `upload`: `bytes` in one direction, to the end.
 */
export type FlowKind = 'stream' | 'lines' | 'download' | 'gulps' | 'fetch' | 'upload'

/** The first line of each flow. The client's bytes are those of the seed, the server's those of the next one. */
export interface FlowHead {
  readonly id: string
  readonly kind: FlowKind
  readonly seed: number
  readonly bytes: number
}

export const paceMs = 100

/** How many bytes are sent at a time; now and then very many. */
export function stepOf(kind: FlowKind): number {
  if (kind === 'stream' && Math.random() < 0.005) return 400_000
  return Math.round(Math.random() * (kind === 'stream' ? 8_000 : 1_000))
}

/** Takes what arrives; calls `fail` once, with where it differs from the bytes of the seed. */
export function checkBytes(seed: number, fail: (problem: string) => void): (chunk: Buffer) => void {
  const next = testByteSource(seed)
  let position = 0
  let hasFailed = false
  return (chunk) => {
    if (hasFailed) return
    const expected = next(chunk.length)
    if (!expected.equals(chunk)) {
      hasFailed = true
      const at = expected.findIndex((byte, index) => byte !== chunk[index])
      fail(`byte ${position + at} is not the one that was sent`)
    }
    position += chunk.length
  }
}

/** One line of JSON with the time. */
export function say(line: Readonly<Record<string, unknown>>): void {
  process.stdout.write(`${JSON.stringify({ t: Date.now(), ...line })}\n`)
}
