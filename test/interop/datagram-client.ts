/**
 * Asks a `datagram-echo`: `datagram-client.ts ADDRESS PORT`. Datagrams of several sizes one after the other, another one
 * after a pause, then many at once. Prints as JSON what came back.
 */
import { createSocket } from 'node:dgram'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'

/** What came back. */
export interface DatagramReport {
  /** Who answers; absent when nobody does. */
  readonly name?: string
  /** Sizes that came back as they were. */
  readonly whole: readonly number[]
  /** One more came back after a pause in which far ends may close what is idle. */
  readonly afterPause: boolean
  /** Of 30 at once. */
  readonly ofMany: number
  /** Came back and were none of those that were sent. */
  readonly strange: number
}

const sizes = [1, 512, 1400, 4000]
const pauseMs = 1500
const many = 30

const [address = '', port] = process.argv.slice(2)
const expected = new Map<string, () => void>()
let strange = 0
let name: string | undefined
const socket = createSocket('udp4', (message) => {
  const text = message.toString('latin1')
  const answered = expected.get(text)
  if (answered !== undefined) answered()
  else if (name === undefined && message.length < 64) name = text
  else if (text !== name) strange += 1
})
socket.connect(Number(port), address, async () => {
  for (let attempt = 0; attempt < 5 && name === undefined; attempt++) {
    socket.send('name?')
    await delay(1000)
  }
  const whole: number[] = []
  for (const size of name === undefined ? [] : sizes) if (await isEchoed(size)) whole.push(size)
  await delay(name === undefined ? 0 : pauseMs)
  const afterPause = name !== undefined && (await isEchoed(100))
  const burst = Array.from({ length: name === undefined ? 0 : many }, () => echo(300, 1))
  const ofMany = (await Promise.all(burst)).filter(Boolean).length
  const report: DatagramReport = { ...(name !== undefined && { name }), whole, afterPause, ofMany, strange }
  console.log(JSON.stringify(report))
  socket.close()
})

async function isEchoed(size: number): Promise<boolean> {
  return await echo(size, 3)
}

/** Datagrams may be lost, so each is sent up to this often. */
async function echo(size: number, attempts: number): Promise<boolean> {
  const text = Array.from({ length: size }, () => String.fromCharCode(97 + Math.random() * 26)).join('')
  const { promise, resolve } = Promise.withResolvers<boolean>()
  expected.set(text, () => resolve(true))
  for (let attempt = 0; attempt < attempts; attempt++) {
    socket.send(text)
    const isDone = await Promise.race([promise, delay(1000, false)])
    if (isDone) return true
  }
  return false
}
