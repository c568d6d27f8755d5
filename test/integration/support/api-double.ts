/**
 * A Kubernetes API made of scripts: lists in pages and watches with bookmarks from memory, as a kube-apiserver or as
 * KubeEdge's metaServer does, and fails in each way that a test asks for.
 */
import { createServer as createHttpServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { gzipSync } from 'node:zlib'

/** An object as the API gives it. */
export interface ApiObject {
  readonly apiVersion?: string
  readonly kind?: string
  readonly metadata: {
    readonly name: string
    readonly namespace?: string
    readonly resourceVersion?: string
    readonly [key: string]: unknown
  }
  readonly [key: string]: unknown
}

/** A request that the double has received. */
export interface DoubleRequest {
  readonly method: string
  readonly path: string
  readonly query: URLSearchParams
  readonly isWatch: boolean
  readonly headers: IncomingMessage['headers']
  /** Subject of the client certificate; empty without one. */
  readonly clientName: string
}

/** What to do instead of answering properly. */
export type Fault =
  | { readonly kind: 'status'; readonly status: number; readonly headers?: Readonly<Record<string, string>> }
  | { readonly kind: 'body'; readonly text: string }
  /** Never answers. */
  | { readonly kind: 'stall' }
  /** Closes the connection without an answer. */
  | { readonly kind: 'reset' }
  /** Answers properly but closes the connection after that many bytes of the body. */
  | { readonly kind: 'cut'; readonly afterBytes: number }

/** How the double differs from a kube-apiserver. */
export interface DoubleHabits {
  /** Gives the whole list whatever the limit. */
  readonly ignoresLimit?: boolean
  /** Lists have no resource version. */
  readonly withoutResourceVersion?: boolean
  /** Lists name the storage key as their link, as metaServer does. */
  readonly oddSelfLink?: boolean
  /** A watch tells only what happens while it is open, whatever resource version it asks for. */
  readonly withoutHistory?: boolean
  /** Sends bodies in chunks of this size. */
  readonly chunkBytes?: number
  /** Compresses lists for clients that take it. */
  readonly gzip?: boolean
  /** Answers 405 to whoever wants to write. */
  readonly refusesPatches?: boolean
}

/** Certificates of a double that speaks https. */
export interface DoubleTls {
  readonly cert: string
  readonly key: string
  /** Asks for a client certificate of this authority. */
  readonly clientCa?: string
}

interface Change {
  readonly version: number
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'
  readonly object: ApiObject
}

interface Collection {
  readonly objects: Map<string, ApiObject>
  readonly changes: Change[]
}

interface Watcher {
  readonly path: string
  readonly isWanted: (object: ApiObject) => boolean
  readonly bookmarks: boolean
  readonly response: ServerResponse
}

export class ApiDouble implements AsyncDisposable {
  readonly requests: DoubleRequest[] = []
  /** Asked for each request; nothing means a proper answer. */
  fault: (request: DoubleRequest) => Fault | undefined = () => undefined
  habits: DoubleHabits
  readonly #tls: DoubleTls | undefined
  readonly #host: string
  readonly #collections = new Map<string, Collection>()
  readonly #watchers = new Set<Watcher>()
  readonly #sockets = new Set<Socket>()
  #server: Server | undefined
  #port = 0
  #version = 1000
  #compactedTo = 0

  constructor(options: {
    readonly served: readonly string[]
    readonly habits?: DoubleHabits
    readonly tls?: DoubleTls
    /** Default: any free one. */
    readonly port?: number
    /** Where it listens; default: loopback. */
    readonly host?: string
  }) {
    for (const path of options.served) this.serve(path)
    this.habits = options.habits ?? {}
    this.#tls = options.tls
    this.#host = options.host ?? '127.0.0.1'
    this.#port = options.port ?? 0
  }

  get url(): string {
    return `${this.#tls === undefined ? 'http' : 'https'}://127.0.0.1:${this.#port}`
  }

  /** How many watches of that path are open. */
  watches(path: string): number {
    return [...this.#watchers].filter((watcher) => watcher.path === path).length
  }

  /** Requests so far for that path that were not watches. */
  lists(path: string): number {
    return this.requests.filter((request) => request.path === path && !request.isWatch).length
  }

  /** Listens, on the same port as before when it was stopped. */
  async start(): Promise<this> {
    const tls = this.#tls
    const answer = (request: IncomingMessage, response: ServerResponse) => this.#answer(request, response)
    const server =
      tls === undefined
        ? createHttpServer(answer)
        : createHttpsServer({ ...tls, ca: tls.clientCa, requestCert: true, rejectUnauthorized: false }, answer)
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket)).on('error', () => {})
    })
    this.#server = server
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject).listen(this.#port, this.#host, resolve)
    })
    this.#port = (server.address() as AddressInfo).port
    return this
  }

  /** Closes everything at once, as a killed process does; what it holds is there again after `start`. */
  async stop(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    this.#watchers.clear()
    for (const socket of this.#sockets) socket.resetAndDestroy()
    if (server !== undefined) await new Promise<void>((resolve) => server.close(() => resolve()))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  /** Offers a path, with nothing in it. */
  serve(path: string): void {
    if (!this.#collections.has(path)) this.#collections.set(path, { objects: new Map(), changes: [] })
  }

  /** No longer knows a path. */
  unserve(path: string): void {
    this.#collections.delete(path)
  }

  /** Adds or replaces an object, and tells the watches. */
  put(path: string, object: ApiObject): void {
    const collection = this.#collection(path)
    const key = keyOf(object)
    const type = collection.objects.has(key) ? 'MODIFIED' : 'ADDED'
    this.#version += 1
    const stored = { ...object, metadata: { ...object.metadata, resourceVersion: String(this.#version) } }
    collection.objects.set(key, stored)
    this.#record(path, { version: this.#version, type, object: stored })
  }

  /** Deletes an object, and tells the watches. */
  remove(path: string, name: string, namespace = ''): void {
    const collection = this.#collection(path)
    const object = collection.objects.get(`${namespace}/${name}`)
    if (object === undefined) throw new Error(`${path} has no ${namespace}/${name}`)
    this.#version += 1
    collection.objects.delete(keyOf(object))
    const last = { ...object, metadata: { ...object.metadata, resourceVersion: String(this.#version) } }
    this.#record(path, { version: this.#version, type: 'DELETED', object: last })
  }

  /** Changes objects without a word to the watches and without a trace in the history. */
  changeSilently(path: string, change: (objects: Map<string, ApiObject>) => void): void {
    change(this.#collection(path).objects)
  }

  /** Goes back to an earlier version, as a cluster does that is restored from a backup. */
  rewind(version: number): void {
    this.#version = version
    for (const { changes } of this.#collections.values()) changes.length = 0
  }

  /** Forgets the history so far, as etcd does: watches from before it, and pages begun before it, answer 410. */
  compact(): void {
    this.#version += 1
    this.#compactedTo = this.#version
  }

  /** Sends a line to all watches of a path. */
  tell(path: string, line: unknown): void {
    const text = typeof line === 'string' ? line : `${JSON.stringify(line)}\n`
    for (const watcher of this.#watchers) if (watcher.path === path) this.#write(watcher.response, text)
  }

  /** Tells the present position to all watches of a path that asked for it. */
  bookmark(path: string): void {
    this.#version += 1
    const object = { metadata: { resourceVersion: String(this.#version) } }
    for (const watcher of this.#watchers) {
      if (watcher.path !== path || !watcher.bookmarks) continue
      this.#write(watcher.response, `${JSON.stringify({ type: 'BOOKMARK', object })}\n`)
    }
  }

  /** Ends the watches of a path: in order, or by closing their connections. */
  endWatches(path: string, how: 'in order' | 'by reset' = 'in order'): void {
    for (const watcher of [...this.#watchers].filter((candidate) => candidate.path === path)) {
      this.#watchers.delete(watcher)
      if (how === 'in order') watcher.response.end()
      else this.#reset(watcher.response)
    }
  }

  #collection(path: string): Collection {
    const collection = this.#collections.get(path)
    if (collection === undefined) throw new Error(`the double does not serve ${path}`)
    return collection
  }

  #record(path: string, change: Change): void {
    this.#collection(path).changes.push(change)
    for (const watcher of this.#watchers) {
      const event = watcher.path === path ? eventFor(watcher.isWanted, change) : undefined
      if (event !== undefined) this.#write(watcher.response, `${JSON.stringify(event)}\n`)
    }
  }

  #answer(message: IncomingMessage, response: ServerResponse): void {
    response.on('error', () => {})
    const url = new URL(message.url ?? '/', 'http://double')
    const peer: unknown = Reflect.get(message.socket, 'getPeerCertificate')
    const certificate = typeof peer === 'function' ? peer.call(message.socket) : {}
    const request: DoubleRequest = {
      method: message.method ?? '',
      path: url.pathname,
      query: url.searchParams,
      isWatch: url.searchParams.get('watch') === 'true',
      headers: message.headers,
      clientName: String(certificate?.subject?.CN ?? ''),
    }
    this.requests.push(request)
    const fault = this.fault(request)
    if (fault !== undefined && fault.kind !== 'cut') this.#fail(fault, response)
    else if (request.path.endsWith('/status')) void this.#answerStatus(message, request, response)
    else if (request.method === 'POST' || request.method === 'DELETE') void this.#change(message, request, response)
    else this.#answerProperly(request, response, fault?.afterBytes ?? Number.POSITIVE_INFINITY)
  }

  #fail(fault: Exclude<Fault, { kind: 'cut' }>, response: ServerResponse): void {
    if (fault.kind === 'status') sendStatus(response, fault.status, fault.headers)
    if (fault.kind === 'body') response.writeHead(200, { 'content-type': 'application/json' }).end(fault.text)
    if (fault.kind === 'reset') this.#reset(response)
  }

  #answerProperly(request: DoubleRequest, response: ServerResponse, cutAfter: number): void {
    const { path, isWanted } = partOf(request)
    const collection = this.#collections.get(path)
    const since = Number(request.query.get('continue')?.split(':')[0] ?? Number.POSITIVE_INFINITY)
    const kinds = [...this.#collections.keys()].filter((served) => served.startsWith(`${path}/`))
    if (collection === undefined && kinds.length > 0) sendKinds(response, path, kinds)
    else if (collection === undefined) sendStatus(response, 404)
    else if (request.isWatch) this.#watch({ path, isWanted, query: request.query }, collection, response)
    else if (since < this.#compactedTo) sendStatus(response, 410)
    else this.#sendList(request, collection, response, cutAfter)
  }

  /** Makes an object in its collection, or takes one away. */
  async #change(message: IncomingMessage, { path, method }: DoubleRequest, response: ServerResponse): Promise<void> {
    const [, group, namespace, plural, name] = /^(.*)\/namespaces\/([^/]+)\/([^/]+)(?:\/([^/]+))?$/.exec(path) ?? []
    const collection = `${group}/${plural}`
    const objects = this.#collections.get(collection)?.objects
    const body = await text(message)
    const object: ApiObject | undefined =
      method === 'POST' ? JSON.parse(body) : objects?.get(`${namespace}/${name ?? ''}`)
    if (objects === undefined || object === undefined) {
      sendStatus(response, 404)
      return
    }
    if (method === 'POST') this.put(collection, object)
    else this.remove(collection, object.metadata.name, namespace)
    const status = method === 'POST' ? 201 : 200
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(object))
  }

  /** The status of one object: given, or patched unless the object has another version than the patch names. */
  async #answerStatus(
    message: IncomingMessage,
    { path, method }: DoubleRequest,
    response: ServerResponse,
  ): Promise<void> {
    const [, group, namespace, plural, name] = /^(.*)\/namespaces\/([^/]+)\/([^/]+)\/([^/]+)\/status$/.exec(path) ?? []
    const collection = `${group}/${plural}`
    const object = this.#collections.get(collection)?.objects.get(`${namespace}/${name}`)
    const isRefused = method === 'PATCH' && this.habits.refusesPatches === true
    if (object === undefined || isRefused) {
      sendStatus(response, isRefused ? 405 : 404)
      return
    }
    const isMerge = message.headers['content-type'] === 'application/merge-patch+json'
    const patch = method === 'PATCH' && isMerge ? JSON.parse(await text(message)) : undefined
    const wanted: unknown = patch?.metadata?.resourceVersion
    if (wanted !== undefined && wanted !== object.metadata.resourceVersion) sendStatus(response, 409)
    else {
      if (patch !== undefined) {
        const status = { ...Object(object['status']), ...patch.status }
        this.put(collection, { ...object, status })
      }
      const now = this.#collections.get(collection)?.objects.get(`${namespace}/${name}`)
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(now))
    }
  }

  #sendList(request: DoubleRequest, collection: Collection, response: ServerResponse, cutAfter: number): void {
    const body = Buffer.from(JSON.stringify(this.#list(request, collection)))
    const isZipped = this.habits.gzip === true && request.headers['accept-encoding'] === 'gzip'
    const sent = isZipped ? gzipSync(body) : body
    response.writeHead(200, {
      'content-type': 'application/json',
      'content-length': sent.length,
      ...(isZipped && { 'content-encoding': 'gzip' }),
    })
    if (cutAfter >= sent.length) this.#end(response, sent)
    else response.write(sent.subarray(0, cutAfter), () => this.#reset(response))
  }

  #list(request: DoubleRequest, { objects }: Collection): unknown {
    const { query } = request
    const { ignoresLimit, oddSelfLink, withoutResourceVersion } = this.habits
    const [version = String(this.#version), from = '0'] = query.get('continue')?.split(':') ?? []
    const wanted = [...objects.values()].filter(partOf(request).isWanted)
    const all = wanted.map(({ apiVersion: _apiVersion, kind: _kind, ...item }) => item)
    const limit = ignoresLimit === true ? all.length : Number(query.get('limit') ?? all.length)
    const end = Number(from) + limit
    return {
      kind: 'List',
      apiVersion: 'v1',
      metadata: {
        ...(withoutResourceVersion !== true && { resourceVersion: version }),
        ...(oddSelfLink === true && { selfLink: '/core/v1/services/null/null' }),
        ...(end < all.length && { continue: `${version}:${end}`, remainingItemCount: all.length - end }),
      },
      items: all.slice(Number(from), end),
    }
  }

  #watch(
    { path, isWanted, query }: Part & Pick<DoubleRequest, 'query'>,
    { objects, changes }: Collection,
    response: ServerResponse,
  ): void {
    const version = query.get('resourceVersion') ?? ''
    response.writeHead(200, { 'content-type': 'application/json' }).flushHeaders()
    if (version !== '' && Number(version) < this.#compactedTo) {
      const status = { kind: 'Status', code: 410, reason: 'Expired', message: `too old resource version: ${version}` }
      response.end(`${JSON.stringify({ type: 'ERROR', object: status })}\n`)
      return
    }
    const watcher = { path, isWanted, response, bookmarks: query.get('allowWatchBookmarks') === 'true' }
    this.#watchers.add(watcher)
    response.on('close', () => this.#watchers.delete(watcher))
    for (const change of this.#missed(version, objects, changes)) {
      const event = eventFor(isWanted, change)
      if (event !== undefined) this.#write(response, `${JSON.stringify(event)}\n`)
    }
  }

  #missed(version: string, objects: Collection['objects'], changes: readonly Change[]): readonly Change[] {
    if (this.habits.withoutHistory === true) return []
    if (version === '') return [...objects.values()].map((object) => ({ version: 0, type: 'ADDED', object }))
    return changes.filter((change) => change.version > Number(version))
  }

  #reset({ socket }: ServerResponse): void {
    if (this.#tls === undefined) socket?.resetAndDestroy()
    else socket?.destroy()
  }

  #write(response: ServerResponse, text: string): void {
    for (const chunk of this.#chunksOf(Buffer.from(text))) response.write(chunk)
  }

  #end(response: ServerResponse, body: Buffer): void {
    for (const chunk of this.#chunksOf(body)) response.write(chunk)
    response.end()
  }

  #chunksOf(bytes: Buffer): Buffer[] {
    const { chunkBytes } = this.habits
    if (chunkBytes === undefined) return [bytes]
    const count = Math.ceil(bytes.length / chunkBytes)
    return Array.from({ length: count }, (_, at) => bytes.subarray(at * chunkBytes, (at + 1) * chunkBytes))
  }
}

function keyOf({ metadata }: ApiObject): string {
  return `${metadata.namespace ?? ''}/${metadata.name}`
}

/** The part of a collection that a request is about. */
interface Part {
  /** Of the collection, without the namespace. */
  readonly path: string
  readonly isWanted: (object: ApiObject) => boolean
}

/** A namespace in the path and the field selectors that a kube-apiserver knows for Pods and Secrets. */
function partOf({ path, query }: Pick<DoubleRequest, 'path' | 'query'>): Part {
  const [, group = '', namespace, plural = ''] = /^(.*)\/namespaces\/([^/]+)\/([^/]+)$/.exec(path) ?? []
  const selectors = (query.get('fieldSelector') ?? '').split(',').filter((selector) => selector !== '')
  const isWanted = (object: ApiObject) =>
    (namespace === undefined || object.metadata.namespace === namespace) &&
    selectors.every((selector) => hasField(object, selector))
  return { path: namespace === undefined ? path : `${group}/${plural}`, isWanted }
}

function hasField(object: ApiObject, selector: string): boolean {
  const [field = '', value] = selector.split('=')
  if (!['metadata.name', 'metadata.namespace', 'spec.nodeName'].includes(field)) throw new Error(`no field ${field}`)
  let found: unknown = object
  for (const key of field.split('.')) found = Reflect.get(Object(found), key)
  return found === value
}

/** What a watch hears of a change: an object that is no longer wanted is gone. */
function eventFor(isWanted: Part['isWanted'], { type, object }: Change): object | undefined {
  if (isWanted(object)) return { type, object }
  return type === 'ADDED' ? undefined : { type: 'DELETED', object }
}

/** What a client asks for that does not know yet which kinds there are. */
function sendKinds(response: ServerResponse, path: string, kinds: readonly string[]): void {
  const verbs = ['get', 'list', 'watch', 'create', 'delete']
  const resources = kinds.map((kind) => ({ name: kind.slice(path.length + 1), namespaced: true, kind: 'Made', verbs }))
  const groupVersion = path.replace('/apis/', '')
  const list = { kind: 'APIResourceList', apiVersion: 'v1', groupVersion, resources }
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(list))
}

function sendStatus(response: ServerResponse, status: number, headers: Readonly<Record<string, string>> = {}): void {
  const reason = status === 410 ? 'Expired' : status === 404 ? 'NotFound' : 'Failure'
  response.writeHead(status, { 'content-type': 'application/json', ...headers })
  response.end(JSON.stringify({ kind: 'Status', apiVersion: 'v1', code: status, reason, message: `made up ${status}` }))
}
