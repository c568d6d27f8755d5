/** Sends, shuts down its sending side, receives to the end, and prints what it saw as JSON. */
import { createHash } from 'node:crypto'
import { connect } from 'node:net'
import process from 'node:process'
import { Readable } from 'node:stream'
import { testBytes } from './bytes.ts'

interface Target {
  readonly address: string
  readonly port: number
  readonly sendBytes: number
}

const target: Target = JSON.parse(process.argv[2] ?? '')
const socket = connect({ host: target.address, port: target.port, allowHalfOpen: true })
let error: string | undefined
socket.on('error', (reason: NodeJS.ErrnoException) => {
  error = reason.code ?? reason.message
})
Readable.from(testBytes(target.sendBytes)).pipe(socket)

const newline = 0x0a
const hash = createHash('sha256')
let head: Buffer | undefined = Buffer.alloc(0)
let server: unknown
let bytes = 0
socket.on('data', (data) => {
  let rest: Buffer = data
  if (head !== undefined) {
    const seen: Buffer = Buffer.concat([head, data])
    const end = seen.indexOf(newline)
    head = end < 0 ? seen : undefined
    if (end < 0) return
    server = JSON.parse(seen.toString('utf8', 0, end))
    rest = seen.subarray(end + 1)
  }
  hash.update(rest)
  bytes += rest.length
})
socket.on('close', () => {
  console.log(JSON.stringify({ server, answer: { bytes, sha256: hash.digest('hex') }, error }))
})
