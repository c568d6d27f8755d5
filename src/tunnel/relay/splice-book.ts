import { randomBytes } from 'node:crypto'
import type { SpliceResult, TcpSocket } from '../../net/index.ts'
import { ByteCaps, type CountedStream } from './byte-caps.ts'
import { tokenBytes } from './splice-messages.ts'

/** How much one node may ask of a relay. */
export interface SpliceLimits {
  /** Joined connections of one node. */
  readonly perNode: number
  /** Joined connections in total. */
  readonly total: number
  /** How long a token holds. */
  readonly tokenLifetimeMs: number
  /** Bytes of one node, through joined connections of all kinds; 0: any number. */
  readonly bytesPerNodeAndDay: number
}

/** More than the links that two nodes make need; a server of a few hundred nodes stays within its file descriptors. */
export const spliceLimits: SpliceLimits = {
  perNode: 256,
  total: 8192,
  tokenLifetimeMs: 10_000,
  bytesPerNodeAndDay: 0,
}

/** What was relayed between two nodes. */
export interface SplicedPair {
  readonly peers: readonly [string, string]
  readonly open: number
  readonly bytes: number
}

/** The two tokens of one splice. */
export interface SpliceTokens {
  readonly asker: string
  readonly peer: string
}

interface Waiting {
  readonly pair: readonly [string, string]
  readonly tokens: SpliceTokens
  readonly timer: NodeJS.Timeout
  first: { readonly token: string; readonly socket: TcpSocket } | undefined
}

/** One end of a joined connection. */
export interface JoinedStream extends CountedStream {
  destroy(): unknown
}

interface Account {
  open: number
  bytes: number
  readonly streams: Set<JoinedStream>
}

const shutOutReason = 'this relay has revoked it'

/** Pairs whose traffic is told apart; what the least recent ones had is kept in the total alone. */
const maxPairs = 4096

/** Which splices are agreed, under way, or were: tokens, quotas and what each pair of nodes has used. */
export class SpliceBook {
  #limits: SpliceLimits
  readonly #caps: ByteCaps
  readonly #waiting = new Map<string, Waiting>()
  readonly #byNode = new Map<string, number>()
  readonly #accounts = new Map<string, Account>()
  #shutOut: ReadonlySet<string> = new Set()
  #total = 0
  #bytes = 0

  constructor(limits: SpliceLimits = spliceLimits) {
    this.#limits = limits
    this.#caps = new ByteCaps(limits)
  }

  /** Splices that are open or agreed. */
  get count(): number {
    return this.#total
  }

  /** All bytes relayed so far. */
  get bytes(): number {
    let open = 0
    for (const { streams } of this.#accounts.values()) for (const stream of streams) open += stream.bytesRead
    return this.#bytes + open
  }

  /** What each pair has used, busiest first. */
  get pairs(): SplicedPair[] {
    return [...this.#accounts]
      .map(([key, { open, bytes, streams }]) => {
        const [left = '', right = ''] = key.split(' ')
        const live = [...streams].reduce((sum, stream) => sum + stream.bytesRead, 0)
        return { peers: [left, right] as const, open, bytes: bytes + live }
      })
      .sort((left, right) => right.bytes - left.bytes)
  }

  /** Two tokens for the pair, or why there are none. */
  issue(asker: string, peer: string): SpliceTokens | string {
    const { perNode, total, tokenLifetimeMs } = this.#limits
    if (this.#total >= total) return 'the relay joins as many connections as it may'
    for (const node of [asker, peer]) {
      const refusal = this.refusalOf(node)
      if (refusal !== undefined) return `${node}: ${refusal}`
      if ((this.#byNode.get(node) ?? 0) >= perNode)
        return `${node} has ${perNode} connections through the relay already`
    }
    const tokens = { asker: newToken(), peer: newToken() }
    const timer = setTimeout(() => this.withdraw(tokens), tokenLifetimeMs)
    const waiting: Waiting = { pair: [asker, peer], tokens, timer, first: undefined }
    this.#waiting.set(tokens.asker, waiting)
    this.#waiting.set(tokens.peer, waiting)
    this.#count(waiting.pair, 1)
    return tokens
  }

  /**
   * Takes the socket of one end. Gives both sockets, asker's first, once the second one is there; undefined while it
   * waits, or when the token is not good, in which case the socket is closed.
   */
  redeem(
    token: string,
    socket: TcpSocket,
  ): { readonly sockets: [TcpSocket, TcpSocket]; readonly pair: readonly [string, string] } | undefined {
    const waiting = this.#waiting.get(token)
    // Each token is good once.
    this.#waiting.delete(token)
    if (waiting === undefined) {
      socket.destroy()
      return undefined
    }
    const { first, tokens, pair } = waiting
    if (first === undefined) {
      waiting.first = { token, socket }
      return undefined
    }
    clearTimeout(waiting.timer)
    this.#account(pair).streams.add(socket).add(first.socket)
    return { pair, sockets: token === tokens.asker ? [socket, first.socket] : [first.socket, socket] }
  }

  /** Makes the tokens worth nothing, unless both are redeemed: their time is up, or the two are not joined after all. */
  withdraw(tokens: SpliceTokens): void {
    const waiting = this.#waiting.get(tokens.asker) ?? this.#waiting.get(tokens.peer)
    this.#waiting.delete(tokens.asker)
    this.#waiting.delete(tokens.peer)
    if (waiting === undefined) return
    clearTimeout(waiting.timer)
    waiting.first?.socket.destroy()
    this.#count(waiting.pair, -1)
  }

  /** Notes a connection that was joined without tokens. */
  open(pair: readonly [string, string], streams: readonly JoinedStream[]): void {
    this.#count(pair, 1)
    for (const stream of streams) this.#account(pair).streams.add(stream)
  }

  /** Takes other limits from now on; what is joined already stays unless its nodes have used too much. */
  setLimits(limits: Partial<SpliceLimits>): void {
    this.#limits = { ...this.#limits, ...limits }
    this.#caps.set(this.#limits)
  }

  /** Closes all connections of these nodes, and carries nothing for them from now on; others that were shut out may come again. */
  shutOut(nodes: ReadonlySet<string>): void {
    this.#shutOut = new Set(nodes)
    for (const node of nodes) this.cut(node)
  }

  /** Why nothing more is carried for the node; undefined when it is. */
  refusalOf(node: string): string | undefined {
    return this.#shutOut.has(node) ? shutOutReason : this.#caps.refusalOf(node)
  }

  /** Counts what was carried, closes what nodes have that used all they may; tells for whom nothing is carried, and why. */
  enforceCaps(): ReadonlyMap<string, string> {
    for (const [key, { streams }] of this.#accounts) {
      const [left = '', right = ''] = key.split(' ')
      for (const stream of streams) this.#caps.count([left, right], stream)
    }
    const { spent } = this.#caps
    for (const node of spent.keys()) this.cut(node)
    return new Map([...spent, ...[...this.#shutOut].map((node) => [node, shutOutReason] as const)])
  }

  /** Notes that a splice has ended. */
  close(
    pair: readonly [string, string],
    streams: readonly JoinedStream[],
    { bytesToUpstream, bytesToDownstream }: SpliceResult,
  ): void {
    const account = this.#account(pair)
    for (const stream of streams) {
      this.#caps.count(pair, stream)
      account.streams.delete(stream)
    }
    account.bytes += bytesToUpstream + bytesToDownstream
    this.#bytes += bytesToUpstream + bytesToDownstream
    this.#count(pair, -1)
  }

  /** Closes the ends that wait for their other end: nobody joins them any more. */
  abandon(): void {
    for (const { tokens } of [...this.#waiting.values()]) this.withdraw(tokens)
  }

  /** Closes all connections of the node. */
  cut(node: string): void {
    for (const { pair, tokens } of [...this.#waiting.values()]) if (pair.includes(node)) this.withdraw(tokens)
    for (const [key, { streams }] of this.#accounts) {
      if (!key.split(' ').includes(node)) continue
      for (const stream of streams) stream.destroy()
    }
  }

  #count(pair: readonly [string, string], change: 1 | -1): void {
    this.#total += change
    this.#account(pair).open += change
    for (const node of pair) {
      const count = (this.#byNode.get(node) ?? 0) + change
      if (count > 0) this.#byNode.set(node, count)
      else this.#byNode.delete(node)
    }
  }

  #account(pair: readonly [string, string]): Account {
    const key = [...pair].sort().join(' ')
    const account = this.#accounts.get(key) ?? { open: 0, bytes: 0, streams: new Set() }
    // The least recent one is the first.
    this.#accounts.delete(key)
    this.#accounts.set(key, account)
    if (this.#accounts.size > maxPairs) this.#dropIdle(account)
    return account
  }

  #dropIdle(kept: Account): void {
    for (const [key, account] of this.#accounts) {
      if (account.open > 0 || account === kept) continue
      this.#accounts.delete(key)
      return
    }
  }
}

function newToken(): string {
  return randomBytes(tokenBytes).toString('base64url')
}
