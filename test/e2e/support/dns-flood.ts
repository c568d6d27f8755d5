/**
 * Many DNS questions at the same moment, as many clients ask them: `dns-flood.ts SETTINGS`, as JSON. A question without
 * an answer is asked again after a second, as resolvers do, since datagrams may be lost. Prints a report as JSON.
 */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import process from 'node:process'
import { decode, encode, type RecordType } from 'dns-packet'

/** What is asked, and how the answers shall be. */
export interface FloodSettings {
  readonly server: string
  /** Asked in turn; `*` becomes the number of the question. */
  readonly questions: readonly {
    readonly name: string
    readonly type: string
    readonly rcode: string
    readonly data?: string
  }[]
  readonly count: number
  readonly sockets: number
}

/** How it went. */
export interface FloodReport {
  readonly answered: number
  readonly resent: number
  /** Answers that were not as they should be. */
  readonly wrong: readonly string[]
}

const settings: FloodSettings = JSON.parse(process.argv[2] ?? '')
const attempts = 8
let answered = 0
let resent = 0
const wrong: string[] = []
const pending = new Map<number, (response: Buffer) => void>()

const sockets = await Promise.all(
  Array.from({ length: settings.sockets }, async () => {
    const socket = createSocket('udp4').bind()
    socket.on('message', (response) => pending.get(response.readUInt16BE())?.(response))
    await once(socket, 'listening')
    return socket
  }),
)

async function ask(id: number): Promise<void> {
  const question = settings.questions[id % settings.questions.length]
  const socket = sockets[id % sockets.length]
  if (question === undefined || socket === undefined) throw new Error('nothing to ask')
  const name = question.name.replace('*', String(id))
  const message = encode({ type: 'query', id, flags: 256, questions: [{ type: question.type as RecordType, name }] })
  const { promise, resolve } = Promise.withResolvers<Buffer | undefined>()
  pending.set(id, resolve)
  let sent = 0
  const send = () => {
    if (sent > 0) resent++
    if (sent++ === attempts) resolve(undefined)
    else socket.send(message, 53, settings.server)
  }
  send()
  const timer = setInterval(send, 1000)
  const response = await promise
  clearInterval(timer)
  if (response === undefined) return
  answered++
  const answer = decode(response) as {
    readonly rcode?: string
    readonly answers?: readonly { readonly data?: unknown }[]
  }
  const isRight =
    answer.rcode === question.rcode && (question.data === undefined || answer.answers?.[0]?.data === question.data)
  if (!isRight) wrong.push(`${name}: ${answer.rcode} ${String(answer.answers?.[0]?.data)}`)
}

await Promise.all(Array.from({ length: settings.count }, (_, id) => ask(id)))
for (const socket of sockets) socket.close()
const report: FloodReport = { answered, resent, wrong }
process.stdout.write(JSON.stringify(report))
