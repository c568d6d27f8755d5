/**
 * All traffic of one pod in the chaos run: `chaos-clients.ts {name, seed, targets}`. To each target it keeps a flow of each kind,
 * asks for pages over new connections, sends datagrams, and moves 20 MB now and then. Says as lines of JSON what fails, what ends,
 * what stands still and what is wrong; SIGUSR2 ends all, with totals.
 */
import { createSocket, type Socket as DatagramSocket } from 'node:dgram'
import { get } from 'node:http'
import { connect, type Socket } from 'node:net'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { testByteSource } from '../../lab/servers/bytes.ts'
import { chaosPorts, checkBytes, type FlowHead, type FlowKind, paceMs, say, stepOf } from './chaos-flows.ts'

interface Target {
  readonly node: string
  readonly address: string
}

interface Settings {
  readonly name: string
  readonly seed: number
  readonly targets: readonly Target[]
  /** A Service with endpoints at several nodes, of which one may be asked for a page at any time. */
  readonly spread: string
}

const settings: Settings = JSON.parse(process.argv[2] ?? '')
const kept = ['stream', 'lines', 'download', 'gulps'] as const
const requestEachMs = 250
const requestPatienceMs = 10_000
const questionEachMs = 1_000
const bulkBytes = 20_000_000
/** A flow that gets nothing of what it waits for is reported each time that so much has passed, and left at last. */
const stillMs = 8_000
const stuckEachMs = 20_000
const abandonMs = 150_000

const totals = { requests: 0, failed: 0, flows: 0, ended: 0, bulk: 0, questions: 0, answers: 0, bytes: 0 }
const ended = new AbortController()
const { signal } = ended
let seed = settings.seed * 1_000_000

/** Of bytes that differ from all others; the one after it is that of the other direction. */
function nextSeed(): number {
  seed += 2
  return seed
}

/** Follows what a flow waits for. */
class Patience {
  readonly #say: (what: 'gap' | 'stuck', from: number) => void
  #since: number | undefined
  #told = 0

  constructor(tell: (what: 'gap' | 'stuck', from: number) => void) {
    this.#say = tell
  }

  wait(): void {
    this.#since ??= Date.now()
  }

  /** Something came, or nothing is waited for any more. */
  end(): void {
    if (this.#since !== undefined && Date.now() - this.#since > stillMs) this.#say('gap', this.#since)
    this.#since = undefined
    this.#told = 0
  }

  /** True once it has lasted too long. */
  look(): boolean {
    if (this.#since === undefined) return false
    const waited = Date.now() - this.#since
    if (waited > (this.#told + 1) * stuckEachMs) {
      this.#told += 1
      this.#say('stuck', this.#since)
    }
    return waited > abandonMs
  }
}

/** Keeps one flow after the other. */
async function keep(target: Target, kind: (typeof kept)[number]): Promise<void> {
  for (let index = 0; !signal.aborted; index++) {
    await carry(target, kind, index)
    await pause(500)
  }
}

async function carry(target: Target, kind: FlowKind, index: number): Promise<void> {
  const head: FlowHead = {
    id: `${settings.name}>${target.node} ${kind} ${index}`,
    kind,
    seed: nextSeed(),
    bytes: kind === 'fetch' || kind === 'upload' ? bulkBytes : 0,
  }
  const facts = { flow: head.id, kind, to: target.node }
  const openedMs = Date.now()
  let received = 0
  let failure: string | undefined
  const { promise: closed, resolve } = Promise.withResolvers<void>()
  const socket = connect({ host: target.address, port: chaosPorts.flows, allowHalfOpen: true })
  const patience = new Patience((what, from) => say({ what, ...facts, from, port: socket.localPort }))
  const fail = (reason: string) => {
    failure ??= reason
    socket.resetAndDestroy()
  }
  const check = checkBytes(head.seed + 1, (problem) => {
    say({ what: 'corrupt', ...facts, side: 'client', problem })
    fail('corrupt')
  })
  socket.on('data', (chunk: Buffer) => {
    received += chunk.length
    totals.bytes += chunk.length
    if (kind !== 'lines' && kind !== 'upload') {
      patience.end()
      check(chunk)
    }
  })
  let isDone = false
  socket.on('end', () => {
    if (kind === 'fetch' && received !== head.bytes) {
      say({
        what: 'truncated',
        ...facts,
        side: 'client',
        problem: `${received} of ${head.bytes} bytes`,
        from: openedMs,
      })
    }
    isDone = kind === 'fetch' ? received === head.bytes : kind === 'upload'
    if (!isDone && !signal.aborted) failure ??= 'ended in order'
    socket.end()
  })
  socket.on('error', ({ message }) => {
    failure ??= message
  })
  socket.on('close', () => resolve())
  const timers = [
    setInterval(() => {
      if (patience.look()) fail('abandoned')
    }, 1_000),
  ]
  socket.write(`${JSON.stringify(head)}\n`)
  socket.once('connect', () => say({ what: 'opened', ...facts, port: socket.localPort }))
  totals.flows += 1
  timers.push(...drive(socket, head, patience, fail))
  const onAbort = () => {
    if (kind === 'gulps' || kind === 'download') socket.destroy()
    else socket.end()
    setTimeout(() => socket.destroy(), 3_000)
  }
  if (!isBulk(kind)) signal.addEventListener('abort', onAbort)
  await closed
  signal.removeEventListener('abort', onAbort)
  for (const timer of timers) clearInterval(timer)
  patience.end()
  if (signal.aborted && !isBulk(kind)) return
  totals.ended += 1
  if (isDone) totals.bulk += 1
  else say({ what: 'ended', ...facts, openedMs, reason: failure ?? 'closed', received, port: socket.localPort })
}

const isBulk = (kind: FlowKind) => kind === 'fetch' || kind === 'upload'

function drive(socket: Socket, head: FlowHead, patience: Patience, fail: (reason: string) => void): NodeJS.Timeout[] {
  switch (head.kind) {
    case 'stream': {
      const next = testByteSource(head.seed)
      patience.wait()
      socket.on('data', () => patience.wait())
      return [
        setInterval(() => {
          if (socket.writable && !socket.writableNeedDrain) socket.write(next(stepOf('stream')))
        }, paceMs),
      ]
    }
    case 'lines':
      return [driveLines(socket, patience, fail)]
    case 'download':
      patience.wait()
      socket.on('data', () => patience.wait())
      socket.end()
      return []
    case 'gulps':
      patience.wait()
      socket.on('data', () => {
        socket.pause()
        setTimeout(
          () => {
            patience.wait()
            socket.resume()
          },
          50 + Math.random() * (Math.random() < 0.05 ? 3_000 : 200),
        )
      })
      return []
    case 'fetch':
      patience.wait()
      socket.on('data', () => patience.wait())
      socket.end()
      return []
    case 'upload':
      return driveUpload(socket, head, patience)
    default:
      return head.kind satisfies never
  }
}

/** One line at a time, with pauses of all lengths. */
function driveLines(socket: Socket, patience: Patience, fail: (reason: string) => void): NodeJS.Timeout {
  let number = 0
  let answers = ''
  let dueMs = Date.now()
  let isWaiting = false
  socket.on('data', (chunk: Buffer) => {
    answers += chunk.toString()
    if (!answers.endsWith('\n')) return
    if (answers !== `line ${number}\n`) {
      const problem = `${JSON.stringify(answers.slice(0, 40))} instead of line ${number}`
      say({ what: 'corrupt', flow: 'lines', side: 'client', problem })
      fail('corrupt')
    }
    patience.end()
    isWaiting = false
    answers = ''
    dueMs = Date.now() + (Math.random() < 0.1 ? 30_000 : 1_000) * Math.random()
  })
  return setInterval(() => {
    if (isWaiting || Date.now() < dueMs || socket.destroyed || !socket.writable) return
    isWaiting = true
    patience.wait()
    socket.write(`line ${++number}\n`)
  }, paceMs)
}

function driveUpload(socket: Socket, head: FlowHead, patience: Patience): NodeJS.Timeout[] {
  const next = testByteSource(head.seed)
  let left = head.bytes
  let answer = ''
  const fill = () => {
    patience.end()
    patience.wait()
    while (left > 0 && socket.writable) {
      const count = Math.min(left, 32_768)
      left -= count
      if (!socket.write(next(count))) return
    }
    if (left === 0) socket.end()
  }
  socket.on('drain', fill)
  socket.on('data', (chunk: Buffer) => {
    patience.end()
    answer += chunk.toString()
    if (answer !== `${head.bytes}\n`.slice(0, answer.length)) {
      say({ what: 'truncated', flow: head.id, kind: 'upload', side: 'client', problem: `the server has got ${answer}` })
    }
  })
  fill()
  return []
}

async function askForPages(): Promise<void> {
  for (let turn = 0; !signal.aborted; turn++) {
    const target = settings.targets[turn % settings.targets.length]
    if (turn % 9 === 8) void askForPage({ node: 'spread', address: settings.spread })
    else if (target !== undefined) void askForPage(target)
    await pause(requestEachMs)
  }
}

async function askForPage(target: Target): Promise<void> {
  const startedMs = Date.now()
  const bytes = Math.floor(Math.random() * (Math.random() < 0.1 ? 200_000 : 2_000))
  const own = nextSeed()
  totals.requests += 1
  const { promise, resolve } = Promise.withResolvers<string | undefined>()
  const url = `http://${target.address}:${chaosPorts.http}/bytes/${bytes}/${own}`
  let port: number | undefined
  const request = get(url, { agent: false, timeout: requestPatienceMs }, (response) => {
    const chunks: Buffer[] = []
    response.on('data', (chunk: Buffer) => chunks.push(chunk))
    response.on('error', ({ message }) => resolve(message))
    response.on('end', () => {
      const body = Buffer.concat(chunks)
      totals.bytes += body.length
      if (!response.complete) return resolve('aborted')
      if (!body.equals(testByteSource(own)(bytes))) {
        say({ what: 'corrupt', kind: 'http', to: target.node, side: 'client', problem: `${body.length} of ${bytes}` })
      }
      const name = response.headers['x-name']
      if (target.node !== 'spread' && name !== `web-${target.node}`) {
        say({ what: 'corrupt', kind: 'http', to: target.node, side: 'client', problem: `answered by ${name}` })
      }
      resolve(undefined)
    })
  })
  request.on('socket', (socket) => socket.on('connect', () => (port = socket.localPort)))
  request.on('error', ({ message }) => resolve(message))
  const late = setTimeout(() => request.destroy(new Error('no answer in time')), requestPatienceMs)
  const failure = await promise
  clearTimeout(late)
  const ms = Date.now() - startedMs
  if (failure !== undefined) {
    totals.failed += 1
    say({ what: 'failed', kind: 'http', to: target.node, from: startedMs, reason: failure, port })
  } else if (ms > 2_500) say({ what: 'slow', kind: 'http', to: target.node, from: startedMs, port })
}

/** Datagrams of one socket, or each of a new one. */
async function ask(target: Target, isKept: boolean): Promise<void> {
  let socket: DatagramSocket | undefined
  let silentSince: number | undefined
  let number = 0
  const open = () => {
    const opened = createSocket('udp4')
    opened.on('error', () => {}) // A refusal is a lost datagram like others.
    opened.on('message', (message) => {
      const text = message.toString()
      const match = /^web-(\S+) (\S+) (\d+) (\d+) (\.*)$/.exec(text)
      const isRight =
        match?.[1] === target.node && match[2] === settings.name && match[5]?.length === lengthOf(Number(match[3]))
      if (!isRight) say({ what: 'corrupt', kind: 'udp', to: target.node, side: 'client', problem: text.slice(0, 60) })
      totals.answers += 1
      if (silentSince !== undefined && Date.now() - silentSince > 3_000) {
        say({ what: 'udp-gap', to: target.node, isKept, from: silentSince })
      }
      silentSince = undefined
    })
    return opened
  }
  while (!signal.aborted) {
    if (!isKept) socket?.close()
    if (!isKept || socket === undefined) socket = open()
    number += 1
    const question = `${settings.name} ${number} ${Date.now()} ${'.'.repeat(lengthOf(number))}`
    silentSince ??= Date.now()
    totals.questions += 1
    socket.send(question, chaosPorts.udp, target.address, () => {})
    await pause(questionEachMs * (isKept ? 1 : 2))
    if (silentSince !== undefined && Date.now() - silentSince > 20_000) {
      say({ what: 'udp-gap', to: target.node, isKept, from: silentSince })
      silentSince = Date.now()
    }
  }
  socket?.close()
}

const lengthOf = (number: number) => (number % 7 === 0 ? 4_000 : 10 + (number % 50))

async function moveBulk(): Promise<void> {
  for (let index = 0; !signal.aborted; index++) {
    await pause(5_000 + Math.random() * 20_000)
    const target = settings.targets[Math.floor(Math.random() * settings.targets.length)]
    if (target !== undefined && !signal.aborted) await carry(target, index % 2 === 0 ? 'fetch' : 'upload', index)
  }
}

async function pause(ms: number): Promise<void> {
  await delay(ms, undefined, { signal }).catch(() => {})
}

process.on('SIGUSR2', () => ended.abort())
await Promise.all([
  ...settings.targets.flatMap((target) => [
    ...kept.map((kind) => keep(target, kind)),
    ask(target, true),
    ask(target, false),
  ]),
  askForPages(),
  moveBulk(),
])
say({ what: 'totals', ...totals })
process.exit()
