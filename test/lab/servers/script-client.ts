/** Opens connections to script servers, follows their scripts and prints what each has seen, as one line of JSON. */
import { connect, type Socket } from 'node:net'
import process from 'node:process'
import type { ScriptedConnection } from './index.ts'
import { type EndReport, runScript } from './script.ts'

const connections: readonly ScriptedConnection[] = JSON.parse(process.argv[2] ?? '')
const limitMs = Number(process.argv[3])

let missing = connections.length
const { promise: allHere, resolve: goOn } = Promise.withResolvers<void>()

/** A connection that breaks before it comes here shall not keep the others waiting for ever: the time limit ends that. */
function meet(): Promise<void> {
  missing -= 1
  if (missing === 0) goOn()
  return allHere
}

async function open(connection: ScriptedConnection): Promise<EndReport> {
  const { id, address, port, seed, client, server } = connection
  const socket: Socket = connect({ host: address, port, allowHalfOpen: true, noDelay: true })
  setTimeout(() => socket.destroy(new Error(`not closed after ${limitMs} ms`)), limitMs).unref()
  if (server !== undefined) socket.write(`${JSON.stringify({ id, seed: seed + 1, steps: server })}\n`)
  return await runScript(socket, { id, seed, steps: client }, { say: (text) => console.log(text), meet })
}

console.log(JSON.stringify(await Promise.all(connections.map(open))))
