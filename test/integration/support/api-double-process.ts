/**
 * An API double as a process: `api-double-process.ts SETTINGS`, as JSON. On the next port it listens on 127.0.0.1
 * for changes: `POST /put`, `/remove` and `/serve`, each with JSON.
 */
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import process from 'node:process'
import { text } from 'node:stream/consumers'
import { ApiDouble, type ApiObject, type DoubleHabits } from './api-double.ts'

/** What the process is told. */
export interface DoubleSettings {
  readonly port: number
  readonly served: readonly string[]
  readonly habits?: DoubleHabits
  /** Default: 127.0.0.1. */
  readonly host?: string
  /** Files of the certificate of a double that speaks https. */
  readonly tls?: { readonly cert: string; readonly key: string }
  /** Held before it listens. */
  readonly objects?: readonly Required<Pick<DoubleChange, 'path' | 'object'>>[]
}

/** A change of what the double holds. */
export interface DoubleChange {
  readonly path: string
  readonly object?: ApiObject
  readonly name?: string
  readonly namespace?: string
}

const { port, served, habits = {}, host, tls, objects = [] }: DoubleSettings = JSON.parse(process.argv[2] ?? '')
const double = new ApiDouble({
  served,
  habits,
  port,
  ...(host !== undefined && { host }),
  ...(tls !== undefined && { tls: { cert: readFileSync(tls.cert, 'utf8'), key: readFileSync(tls.key, 'utf8') } }),
})
for (const { path, object } of objects) double.put(path, object)
await double.start()

const control = createServer((request, response) => {
  text(request)
    .then((body) => change(request.url ?? '', JSON.parse(body)))
    .then(() => response.end('done\n'))
    .catch((error: unknown) => response.writeHead(400).end(`${error}\n`))
})

function change(kind: string, { path, object, name = '', namespace = '' }: DoubleChange): void {
  if (kind === '/put' && object !== undefined) double.put(path, object)
  else if (kind === '/remove') double.remove(path, name, namespace)
  else if (kind === '/serve') double.serve(path)
  else throw new Error(`unknown change ${kind}`)
}

control.listen(port + 1, '127.0.0.1', () => console.log('listening'))
