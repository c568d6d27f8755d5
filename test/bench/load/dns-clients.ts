/**
 * DNS queries over UDP: `dns-clients.ts {server, questions: [{name, type, rcode, data?}], count, concurrency}`. The
 * questions are asked in turn; an answer with another response code or first record is a failure.
 */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import process from 'node:process'
import { decode, encode, type RecordType } from 'dns-packet'
import { runLoad } from './report.ts'

interface Question {
  readonly name: string
  readonly type: RecordType
  readonly rcode: string
  readonly data?: string
}

interface Settings {
  readonly server: string
  readonly questions: readonly Question[]
  readonly count: number
  readonly concurrency: number
}

const settings: Settings = JSON.parse(process.argv[2] ?? '')
const patienceMs = 10_000

const socket = createSocket('udp4')
socket.bind()
await once(socket, 'listening')
const waiting = new Map<number, (response: Buffer) => void>()
socket.on('message', (response) => waiting.get(response.readUInt16BE())?.(response))

await runLoad(settings, async (index) => {
  const question = settings.questions[index % settings.questions.length]
  if (question === undefined) throw new Error('no questions')
  const response = decode(await ask(index % 65_536, question, index)) as { rcode?: string; answers?: unknown[] }
  const [first] = response.answers as { data?: unknown }[]
  if (response.rcode !== question.rcode) throw new Error(`${question.name}: ${response.rcode}`)
  if (question.data !== undefined && first?.data !== question.data) throw new Error(`${question.name}: ${first?.data}`)
})
socket.close()

/** `*` in a name becomes the number of the query, so that no cache knows it. */
async function ask(id: number, { name, type }: Question, index: number): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
  const timer = setTimeout(() => reject(new Error(`${name}: no answer`)), patienceMs)
  waiting.set(id, resolve)
  try {
    const questions = [{ type, name: name.replace('*', String(index)) }]
    socket.send(encode({ type: 'query', id, flags: 256, questions }), 53, settings.server)
    return await promise
  } finally {
    clearTimeout(timer)
    waiting.delete(id)
  }
}
