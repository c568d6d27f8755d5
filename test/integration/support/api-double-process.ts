/**
 * An API double as a process: `api-double-process.ts SETTINGS`, as JSON. It listens on 127.0.0.1, and on the next port
 * for changes: `POST /put`, `/remove` and `/serve`, each with JSON.
 */
import { createServer } from 'node:http'
import process from 'node:process'
import { text } from 'node:stream/consumers'
import { ApiDouble, type ApiObject, type DoubleHabits } from './api-double.ts'

/** What the process is told. */
export interface DoubleSettings {
  readonly port: number
  readonly served: readonly string[]
  readonly habits?: DoubleHabits
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

const { port, served, habits = {}, objects = [] }: DoubleSettings = JSON.parse(process.argv[2] ?? '')
const double = new ApiDouble({ served, habits, port })
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
